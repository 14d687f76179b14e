"""What a message costs: this package beside other WebSocket clients, all of them fed by the same server.

A process of its own sends prepared frames on 127.0.0.1: 45 % quotes, 25 % trades, 20 % deltas of books and 10 % book20,
or a --recording. Each client is a process, too, and gives each message, its JSON decoded, to one callback, which counts
it; what it counted has to be what was sent. The clients take turns, --rounds times; tables have medians. CPU time is
that of all threads, from the hello to the last message. Server and clients are pinned to a core each.

What to measure, by default all of it: plain, tls (large records), records (one TLS record a message), deflate
(permessage-deflate), deflate-fresh (without context takeover), latency, memory, imports.

Clients are named by the way to use a package, and options: "stream" is ours with nothing but its requirements,
"stream+speed" with the extra of that name. Peers that are not installed are left out:
pip install -r benchmarks/requirements.txt
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, Final

from coinapi_ws._version import __version__

from . import clients, machine, mix, report
from .blaster import WIRES, Blaster, Order, Pace, make_certificates
from .imports import IMPORTS, import_ms

PACES: Final = {"latency-1000": Pace(1_000, 1), "latency-20000": Pace(20_000, 20)}
SECTIONS: Final = (*WIRES, "latency", "memory", "imports")
CLIENT_SECONDS: Final = 300.0  # no client takes that long
FEW_MESSAGES: Final = 10_000
METRICS: Final = frozenset({"cpu_us", "rate", "peak_rss_bytes", "gc_longest_ms", "gc_total_ms", *report.LATENCIES})


class Failed(Exception):
    """A client did not count what was sent."""


class Bench:
    """One run of the program: what to measure it with, and what was measured."""

    def __init__(self, options: argparse.Namespace, blaster: Blaster, certificates: Path | None) -> None:
        self.options = options
        self.blaster = blaster
        self.certificates = certificates
        self.core = machine.cores()[-1] if machine.cores() else None
        self.results: report.Results = defaultdict(list)
        self.failures: list[str] = []

    def measure(self, section: str) -> Iterator[str]:
        """Measure a section, and yield its tables."""
        if section == "imports":
            self.take_turns(section, IMPORTS, lambda what: {"import_ms": import_ms(what)})
        elif section == "memory":
            self.take_turns(section, self.chosen(clients.MEMORY), self.memory)
        elif section == "latency":
            for name, pace in PACES.items():
                count = mix.rounded(int(pace.rate * self.options.seconds))
                order = Order("plain", count, pace)
                self.take_turns(name, self.chosen(clients.LATENCY), partial(self.run, order=order))
                yield report.section_table(self.results, name)
            return
        else:
            self.take_turns(
                section, self.chosen(self.clients_of(section)), lambda client: self.on_wire(client, section)
            )
        yield report.section_table(self.results, section)

    def take_turns(self, section: str, names: tuple[str, ...], measure: Callable[[str], dict[str, float]]) -> None:
        """Measure each client, then each again: a machine that is slow for a while is slow for all of them."""
        for number in range(1, self.options.rounds + 1):
            for name in names:
                if not self.options.quiet:
                    print(f"{section}, round {number}: {name}", file=sys.stderr, flush=True)
                try:
                    self.results[section, name].append(measure(name))
                except Failed as failure:
                    self.failures.append(f"{section}, round {number}: {name}: {failure}")

    def chosen(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those that are asked for and can be run."""
        asked = [name for name in names if any(fnmatch(name, pattern) for pattern in self.options.only)]
        return tuple(name for name in asked if not clients.missing(name))

    def clients_of(self, section: str) -> tuple[str, ...]:
        if section == "plain":
            return (*clients.CLIENTS, *clients.FRAMING)
        return clients.CLIENTS if WIRES[section].deflate is None else clients.DEFLATING

    def on_wire(self, name: str, section: str) -> dict[str, float]:
        count = self.options.messages // (10 if name in clients.SLOW else 1)
        return self.run(name, Order(section, mix.rounded(count)))

    def memory(self, name: str) -> dict[str, float]:
        few, many = (
            self.run(name, Order("plain", mix.rounded(count)))["peak_rss_bytes"] / report.MIB
            for count in (FEW_MESSAGES, self.options.memory_messages)
        )
        return {"few_mib": few, "many_mib": many, "growth_mib": many - few}

    def run(self, name: str, order: Order) -> dict[str, float]:
        """Run a client once, and return what it measured. Raises ``Failed``."""
        wire = WIRES[order.wire]
        port, expected = self.blaster.prepare(order)
        command = [sys.executable, "-m", "benchmarks.client", name, f"ws{'s' * wire.tls}://127.0.0.1:{port}/"]
        command += ["--messages", str(order.messages), "--without", ",".join(clients.hidden(name))]
        command += ["--core", str(self.core)] if self.core is not None else []
        command += ["--ca", str(self.certificates / "ca.pem")] if wire.tls and self.certificates else []
        command += ["--deflate"] * (wire.deflate is not None) + ["--timed"] * (order.pace is not None)
        try:
            finished = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"not done after {CLIENT_SECONDS:g} s; {self.blaster.finished()[0]}") from None
        problem, began_ns = self.blaster.finished()
        if finished.returncode or problem:
            last = (finished.stderr.strip().splitlines() or [""])[-1]
            raise Failed(f"exit code {finished.returncode}, {last!r}; blaster: {problem or 'no problem'}")
        counted = json.loads(finished.stdout)
        compare(counted, expected, clients.gives(name))
        counted["rate"] = order.messages / (counted["ended_ns"] - began_ns) * 1e9
        return {key: value for key, value in (counted | counted.get("latency_us", {})).items() if key in METRICS}


def compare(counted: dict[str, Any], expected: mix.Expected, gives: str) -> None:
    """Raise ``Failed`` where a client counted anything else than what was sent."""
    is_frames = gives == "frames"
    by_type = {"frame": expected.messages} if is_frames else expected.by_type
    checksum = expected.length_checksum if is_frames else expected.checksum
    if (counted["by_type"], counted["checksum"]) != (by_type, checksum):
        raise Failed(f"counted {counted['by_type']}, {counted['checksum']}; sent {by_type}, {checksum}")


def heading(options: argparse.Namespace, absent: list[str]) -> str:
    """Say what was measured on what."""
    frames = f"the recording {options.recording.name}" if options.recording else "the mix"
    lines = [
        "# What a message costs, beside other WebSocket clients",
        "",
        f"`python -m benchmarks`, {machine.today()}, "
        f"{machine.processor()}, {os.cpu_count()} cores; {machine.python()}; "
        f"coinapi-ws {__version__}, {machine.versions(clients.DISTRIBUTIONS)}.",
        f"{options.messages:,} messages of {frames}, medians of {options.rounds} interleaved rounds. "
        "`python -m benchmarks --help` says how.",
        *([f"Left out, not installed: {', '.join(absent)}."] if absent else []),
        "",
    ]
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", None, __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", nargs="*", help=f"of {', '.join(SECTIONS)} (all)")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="clients with such names (all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often to measure each client (5)")
    parser.add_argument("--messages", type=int, default=200_000, help="that each client gets (200,000)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement of latency (3)")
    parser.add_argument("--memory-messages", type=int, default=1_000_000, help="that are many (1,000,000)")
    parser.add_argument("--recording", type=Path, help="send the frames of a recording, again and again")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the tables here as well")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw them, with matplotlib")
    parser.add_argument("--quiet", action="store_true", help="do not tell on stderr what is being measured")
    options = parser.parse_args()
    options.what = options.what or list(SECTIONS)
    if unknown := set(options.what) - set(SECTIONS):
        parser.error(f"no such thing to measure: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if min(options.rounds, options.messages // 100, options.seconds, options.memory_messages) <= 0:
        parser.error("rounds, seconds and memory-messages are above 0, messages at least 100")
    return options


def main() -> int:
    options, cores = parsed(), machine.cores()
    everyone = (*clients.CLIENTS, *clients.FRAMING)
    absent = [name for name in everyone if clients.missing(name)]
    parts = [heading(options, absent)]
    print(parts[0], flush=True)
    with tempfile.TemporaryDirectory() as directory:
        certificates = Path(directory) if make_certificates(Path(directory)) else None
        with Blaster(cores[0] if cores else None, certificates, options.recording) as blaster:
            bench = Bench(options, blaster, certificates)
            for section in options.what:
                if section in WIRES and WIRES[section].tls and certificates is None:
                    bench.failures.append(f"{section}: needs trustme, which is not installed")
                    continue
                for text in filter(None, bench.measure(section)):
                    parts.append(text)
                    print(text, flush=True)
    parts.append(report.target_table(bench.results))
    if bench.failures:
        parts.append("\n".join(["## Failed", "", *(f"- {failure}" for failure in bench.failures), ""]))
    print("\n".join(filter(None, parts[len(parts) - 1 - bool(bench.failures) :])))
    if options.output:
        options.output.write_text("\n".join(filter(None, parts)), "utf-8")
    if options.plot:
        from .plot import draw

        draw(bench.results, options.plot, f"{machine.processor()}, {machine.python()}, {machine.today()}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
