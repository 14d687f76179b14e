"""What a client's callbacks count, and what the process has used between its hello and its last message."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from .mix import SAMPLED_EACH

_MASK: Final = SAMPLED_EACH - 1
_MINUTE_NS: Final = 60 * 10**9


class Meter:
    """One client's run of so many messages, of which the last is a sampled one.

    Call :meth:`begin` once the hello is on its way, and give one of the callbacks to the client: they do the same work,
    each for its kind of message. ``done`` is set with the last one.
    """

    def __init__(self, total: int, *, is_timed: bool) -> None:
        self.done = threading.Event()
        self.by_type: dict[str, int] = defaultdict(int)
        self.checksum = 0
        self.arrived_ns: list[int] = []
        self.stamps: list[str] = []
        self._total = total
        self._samples = 0
        self._is_timed = is_timed
        self._pauses = Pauses()
        self._cpu = 0.0
        self._ended_ns = 0

    def begin(self) -> None:
        """Count CPU time from here on. What a client does before it gives its first message belongs to it."""
        self._pauses.watch()
        self._cpu = -time.process_time()

    def for_dicts(self) -> Callable[[dict[str, Any]], None]:
        """Return the callback for messages as dictionaries."""
        by_type, sample, count = self.by_type, self._sample, 0

        def on_message(message: dict[str, Any]) -> None:
            nonlocal count
            by_type[message["type"]] += 1
            if not count & _MASK:
                sample(message["sequence"])
            count += 1

        def on_timed(message: dict[str, Any]) -> None:
            self.arrived_ns.append(time.time_ns())
            self.stamps.append(message["time_coinapi"])
            on_message(message)

        return on_timed if self._is_timed else on_message

    def for_objects(self) -> Callable[[Any], None]:
        """Return the callback for messages with attributes."""
        by_type, sample, count = self.by_type, self._sample, 0

        def on_message(message: Any) -> None:
            nonlocal count
            by_type[message.type] += 1
            if not count & _MASK:
                sample(message.sequence)
            count += 1

        def on_timed(message: Any) -> None:
            self.arrived_ns.append(time.time_ns())
            self.stamps.append(message.time_coinapi)
            on_message(message)

        return on_timed if self._is_timed else on_message

    def for_frames(self) -> Callable[[int], None]:
        """Return the callback that takes a payload's length."""
        sample, count, by_type = self._sample, 0, self.by_type

        def on_frame(size: int) -> None:
            nonlocal count
            if not count & _MASK:
                sample(size)
                by_type["frame"] = count + 1
            count += 1

        return on_frame

    def results(self) -> dict[str, Any]:
        """Return what was measured, once all is over."""
        results = {"by_type": self.by_type, "checksum": self.checksum, "peak_rss_bytes": peak_rss_bytes()}
        if not self.done.is_set():
            return results
        results |= {
            "cpu_us": self._cpu * 1e6 / self._total,
            "ended_ns": self._ended_ns,
            "gc_longest_ms": self._pauses.longest * 1e3,
            "gc_total_ms": self._pauses.total * 1e3,
            "gc_count": self._pauses.count,
        }
        if self._is_timed:
            results["latency_us"] = percentiles(self._latencies())
        return results

    def _sample(self, number: int) -> None:
        self.checksum += number
        self._samples += 1
        if (self._samples - 1) * SAMPLED_EACH == self._total - 1:
            self._ended_ns, self._cpu = time.monotonic_ns(), self._cpu + time.process_time()
            self._pauses.stop()
            self.done.set()

    def _latencies(self) -> list[float]:
        # The minute and all above it are the same, or one more.
        sent = [int(stamp[17:19] + stamp[20:27]) * 100 for stamp in self.stamps]
        return [(at - then) % _MINUTE_NS / 1e3 for at, then in zip(self.arrived_ns, sent, strict=True)]


class Pauses:
    """How long the garbage collector took."""

    def __init__(self) -> None:
        self.total = self.longest = 0.0
        self.count = 0
        self._begin = 0.0

    def watch(self) -> None:
        gc.callbacks.append(self._note)

    def stop(self) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._begin = time.perf_counter()
        elif self._begin:
            pause = time.perf_counter() - self._begin
            self.total, self.longest, self.count = self.total + pause, max(self.longest, pause), self.count + 1


def percentiles(values: list[float]) -> dict[str, float]:
    """Return p50, p99, p99.9 and the most."""
    ascending = sorted(values)
    ranks = {name: -(-len(ascending) * part // 1000) - 1 for name, part in (("p50", 500), ("p99", 990), ("p99.9", 999))}
    return {name: ascending[rank] for name, rank in ranks.items()} | {"max": ascending[-1]}


def peak_rss_bytes() -> int:
    """Return the most memory that the process ever had resident."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage counts also what the parent had when it made this process.
        line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
