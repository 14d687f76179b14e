"""Fuzz one target, guided by coverage: inputs are made from those in tests/fuzz/corpus, and kept where they reach more.

What was kept is in .fuzz/TARGET, where the next run goes on. An input that shows something wrong is written to
.fuzz/TARGET-crash-…, and a traceback says what; to see it again: python -m fuzz TARGET -- FILE. After "--" come files
and options of libFuzzer's (https://llvm.org/docs/LibFuzzer.html#options).
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Final

import atheris

HERE: Final = Path(__file__).resolve().parent
KEPT: Final = Path(".fuzz")
#: From each target to how long its inputs become; those of a session are read byte by byte as well.
TARGETS: Final = {"session": 512, "decoder": 2048, "recording": 2048}
#: What is to be reached: our code, and most of what decides for us what is legal.
INSTRUMENTED: Final = ["coinapi_ws", "wsproto", "gzip"]


def parsed() -> tuple[argparse.Namespace, list[str]]:
    """Return what is asked for, and what is for libFuzzer."""
    own = list(itertools.takewhile("--".__ne__, sys.argv[1:]))
    parser = argparse.ArgumentParser("python -m fuzz", "%(prog)s [options] target [seconds] [-- ...]", __doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"], help="all: one after the other")
    parser.add_argument("seconds", type=int, nargs="?", default=60, help="how long, each (60)")
    parser.add_argument("--without-speed", action="store_true", help="as if msgspec were not installed")
    return parser.parse_intermixed_args(own), sys.argv[2 + len(own) :]


def fuzz(name: str, seconds: int, options: list[str], *, is_installed: bool) -> None:
    """Fuzz a target; does not return, since libFuzzer ends the process."""
    if not is_installed:
        sys.modules["msgspec"] = None  # type: ignore[assignment]
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"fuzz.{name}")
    for function in getattr(target, "GENERATED", ()):  # which were not imported
        atheris.instrument_func(function)
    corpus = KEPT / (name if is_installed else f"{name}-without-speed")
    corpus.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"-max_total_time={seconds}",
        f"-max_len={TARGETS[name]}",
        f"-dict={HERE / name}.dict",
        f"-artifact_prefix={corpus}-",
        "-print_final_stats=1",
        *options,
    ]
    if all(option.startswith("-") for option in options):
        arguments += [str(corpus), str(HERE / "corpus" / name)]
    atheris.Setup([sys.argv[0], *arguments], target.check)
    atheris.Fuzz()


def main() -> None:
    chosen, options = parsed()
    if chosen.target != "all":
        fuzz(chosen.target, chosen.seconds, options, is_installed=not chosen.without_speed)
    runs = [[name, *how] for name in TARGETS for how in ([], ["--without-speed"]) if name == "decoder" or not how]
    rest = [str(chosen.seconds), "--", *options]
    failed = [
        run for run in runs if subprocess.run([sys.executable, "-m", "fuzz", *run, *rest], check=False).returncode
    ]
    sys.exit("".join(f"{' '.join(run)}: something is wrong\n" for run in failed) or 0)


if __name__ == "__main__":
    main()
