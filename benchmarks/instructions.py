"""How many machine instructions the parts of a message's way take: the same on each run, however noisy the machine.

    python -m benchmarks.instructions

Needs valgrind. Each part runs in a process of its own under cachegrind, over the same frames of the mix, a few times
and a few times more; the difference counts. Instructions are not time, but what saves a tenth of them saves time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from coinapi_ws import Options, Scope, endpoint_from
from coinapi_ws.protocol.fastlane import FrameInput
from coinapi_ws.protocol.reading import Reader
from coinapi_ws.quick import quick_reader

from . import machine, mix
from .blaster import TEXT, header
from .clients.ours import READ_BYTES, WANTED

MESSAGES: Final = 400
FEW: Final = 2
MANY: Final = 12
_COUNT: Final = re.compile(r"I\s+refs:\s+([\d,]+)")


def parts() -> dict[str, Callable[[], object]]:
    """Return what to count, by what it is; each goes over all messages once."""
    payloads = mix.mixed(mix.rounded(MESSAGES))
    texts = [payload.decode() for payload in payloads]
    received = b"".join(header(TEXT, len(payload)) + payload for payload in payloads)
    reads = [received[start : start + READ_BYTES] for start in range(0, len(received), READ_BYTES)]
    reader = Reader(Options(endpoint=endpoint_from("ws://127.0.0.1/")), Scope(WANTED))
    types = reader.types_of(texts)
    quick = [quick_reader(json.loads(text)["type"], decimal=False) for text in texts]
    scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]

    def cut() -> None:
        frames = FrameInput(2**20, None, fast_lane=True)
        for data in reads:
            frames.feed(data)
            frames.cut()

    def decode() -> None:
        for _ in reader.decode_frames(zip(types, texts, strict=True), 1):  # type: ignore[arg-type]
            pass

    return {
        "json.loads": lambda: [json.loads(text) for text in texts],
        "the scanner alone": lambda: [scan(text, 0) for text in texts],
        "cut frames": cut,
        "tell types": lambda: reader.types_of(texts),
        "make messages": lambda: [read(text, 1) for read, text in zip(quick, texts, strict=True)],
        "make messages, sequences watched": decode,
    }


def repeat(part: str, times: int) -> None:
    """Do a part so many times."""
    work = parts()[part]
    for _ in range(times):
        work()


def counted(part: str, times: int, *, hides: str) -> int:
    """Return the instructions of a process that does the part so many times, without a module that it may have."""
    program = f"import sys; sys.modules[{hides!r}] = None; from {__spec__.name} import repeat; "
    program += f"repeat({part!r}, {times})"
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--log-file={log}"]
        command += [f"--cachegrind-out-file={os.devnull}", sys.executable, "-c", program]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "0"})
        found = _COUNT.search(log.read_text("utf-8"))
    assert found is not None
    return int(found[1].replace(",", ""))


def main() -> int:
    if shutil.which("valgrind") is None:
        print("valgrind is not installed", file=sys.stderr)
        return 1
    print(f"Instructions a message of the mix; {machine.today()}, {machine.processor()}, {machine.python()}.\n")
    print("| part | base | with msgspec |\n|---|---:|---:|")
    for part in parts():
        each = []
        for hides in ("msgspec", "nothing"):
            few, many = (counted(part, times, hides=hides) for times in (FEW, MANY))
            each.append((many - few) // (MANY - FEW) // mix.rounded(MESSAGES))
        print(f"| {part} | {each[0]:,} | {each[1]:,} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
