"""What recording costs: a client without a recorder, and with one that writes plain text, gzip or zstd.

The server is that of the other benchmarks. CPU time is that of all threads of the client's process, from the hello till
the recording is closed; of it, the I/O thread's from the hello to the end of the connection. The ways take turns. Each
recording is read again, and has to have as many messages as were sent.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any, Final

from coinapi_ws import Client, Connected, Disconnected, Message
from coinapi_ws.recording import Recorder, read_recording

from . import machine, mix
from .blaster import Blaster, Order, Pace
from .clients.ours import WANTED
from .report import MIB, number, table

#: From a way to the end of its recording's name, None without one.
WAYS: Final = {"no recording": None, "plain": "", "gzip": ".gz", "zstd": ".zst"}


class Watch:
    """A tap that notes CPU times, and passes what comes on."""

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder
        self._has_ended = False
        self.io_seconds = self.process_seconds = 0.0

    def take(self, connection: Any, items: Any) -> None:
        if any(isinstance(item, Connected) for item in items):
            self.io_seconds -= time.thread_time()
            self.process_seconds -= time.process_time()
        if self._recorder is not None:
            self._recorder.take(connection, items)
        if not self._has_ended and any(isinstance(item, Disconnected) for item in items):
            self._has_ended = True  # it may try again before it is closed
            self.io_seconds += time.thread_time()


def measure(blaster: Blaster, order: Order, path: Path | None) -> dict[str, float]:
    """Run a client, and return what it and its recorder needed, in microseconds a message."""
    port, _ = blaster.prepare(order)
    recorder = None if path is None else Recorder(path)
    watch, done, counted = Watch(recorder), threading.Event(), 0

    def count(_: Message) -> None:
        nonlocal counted
        counted += 1

    client = Client(None, WANTED, endpoint=f"ws://127.0.0.1:{port}/", tap=watch.take)
    client.on(Message, count)
    client.on(Disconnected, lambda _: done.set())
    with client:
        done.wait()
    if recorder is not None:
        recorder.close()
    watch.process_seconds += time.process_time()
    problem, _ = blaster.finished()
    if problem or counted != order.messages:
        raise RuntimeError(f"{counted} messages came, {order.messages} were sent; {problem}")
    if path is None:
        return {"cpu": watch.process_seconds, "io": watch.io_seconds, "size": 0.0}
    size = path.stat().st_size
    if sum(1 for _ in read_recording(path)) != order.messages:
        raise RuntimeError(f"{path.name} has other messages than were sent")
    return {"cpu": watch.process_seconds, "io": watch.io_seconds, "size": size}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.recording", None, __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--messages", type=int, default=200_000, help="that the client gets (200,000)")
    parser.add_argument("--rate", type=int, help="messages a second (as fast as the client takes them)")
    parser.add_argument("--rounds", type=int, default=5, help="how often to measure each way (5)")
    options = parser.parse_args()
    if min(options.messages, options.rounds, options.rate or 1) < 1:
        parser.error("messages, rate and rounds are above 0")
    cores = machine.cores()
    if cores:
        os.sched_setaffinity(0, {cores[-1]})
    order = Order("plain", mix.rounded(options.messages), None if options.rate is None else Pace(options.rate, 1))
    results: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as directory, Blaster(cores[0] if cores else None, None, None) as blaster:
        for turn in range(options.rounds):
            for way, end in WAYS.items():
                path = None if end is None else Path(directory, f"{turn}.jsonl{end}")
                results[way].append(measure(blaster, order, path))
    print(f"{machine.processor()}, {machine.python()}; {order.messages:,} messages, {options.rounds} rounds\n")
    rows = []
    for way, rounds in results.items():
        cpu, io = (median(sample[what] for sample in rounds) * 1e6 / order.messages for what in ("cpu", "io"))
        rows.append([way, number(cpu, 2), number(io, 2), number(rounds[0]["size"] / MIB, 1)])
    print(table(["recording", "CPU µs/message", "of it I/O thread", "MiB on the disk"], rows, texts=1))


if __name__ == "__main__":
    main()
