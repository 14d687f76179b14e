"""What was seen, counted; printed when a command ends."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import Final

from ..events import Gap, Undecodable
from ..messages import Message

#: The server confirms no scope and refuses no filter that matches nothing: this is all that is seen of a typing error.
_NOTHING_CAME: Final = (
    "nothing came: a quiet market, or filters that match nothing (ids are in capitals, such as COINBASE_SPOT_BTC_USD)"
)

#: Beyond an hour it is no latency but a replay, or a clock that is wrong.
_LONGEST_LATENCY_NS: Final = 3600 * 10**9


def latency_ns(item: object) -> int | None:
    """Return the arrival minus time_coinapi, None where one of them is unknown or they belong to different days."""
    published: int | None = getattr(item, "time_coinapi_ns", None)
    received: int | None = getattr(item, "received_ns", None)
    if not published or not received:
        return None
    latency = received - published
    return latency if abs(latency) < _LONGEST_LATENCY_NS else None


def duration_text(ns: float) -> str:
    """Return a duration with three digits and its unit, in at most 7 characters up to an hour."""
    for unit, size in (("µs", 10**3), ("ms", 10**6)):
        if abs(ns) < 999.5 * size:
            return f"{ns / size:.3g}{unit}"
    return f"{ns / 10**9:.0f}s" if abs(ns) >= 999.5 * 10**9 else f"{ns / 10**9:.3g}s"


class Durations:
    """Many durations; memory is bounded, since they are kept with three digits."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, ns: int) -> None:
        """Take note of one, in nanoseconds."""
        self._counts[float(f"{ns:.2e}")] += 1

    def percentile(self, share: float) -> float:
        """Return the least one, in nanoseconds, that so large a share of all did not exceed."""
        ascending = sorted(self._counts)
        seen = list(accumulate(self._counts[ns] for ns in ascending))
        return ascending[bisect_left(seen, share * seen[-1])]


class Tally:
    """Counts of one run; memory is bounded.

    ``messages`` are those that --count counts: all but heartbeats.
    """

    def __init__(self, *, with_latency: bool = True) -> None:
        self.messages = 0
        self.surplus = 0
        self.elapsed_seconds = 0.0
        self._with_latency = with_latency
        self._types: Counter[str] = Counter()
        self._gaps: Counter[str] = Counter()
        self._undecodable = 0
        self._latencies = Durations()

    def add(self, item: Message | Gap | Undecodable) -> None:
        """Count one item that is no heartbeat."""
        if isinstance(item, Message):
            self.messages += 1
            self._types[item.type] += 1
            if self._with_latency and (latency := latency_ns(item)) is not None:
                self._latencies.add(latency)
        elif isinstance(item, Undecodable):
            self._undecodable += 1
        else:
            self._gaps[getattr(item, "type", "connection")] += 1

    def lines(self) -> list[str]:
        """Return the summary; nothing where nothing was begun."""
        if not self.elapsed_seconds:
            return []
        plural = "" if self.messages == 1 else "s"
        rate = self.messages / self.elapsed_seconds
        lines = [f"{self.messages:,} message{plural} in {self.elapsed_seconds:.2f} s ({rate:,.0f} a second)"]
        if self._latencies:
            p50, p99 = (duration_text(self._latencies.percentile(share)) for share in (0.50, 0.99))
            lines[0] += f", latency p50 {p50}, p99 {p99}"
        lines.append(counts_text(self._types) if self._types else _NOTHING_CAME)
        missed = f"{self._gaps.total()} gaps, {self._undecodable} undecodable, {self.surplus} surplus"
        lines.append(f"{missed} ({counts_text(self._gaps)})" if self._gaps else missed)
        return lines


def counts_text(counter: Counter[str]) -> str:
    """Return names and counts, the largest first."""
    return ", ".join(f"{name} {count:,}" for name, count in counter.most_common())
