"""What the client counts, cheap enough to be always on.

What comes is counted by the I/O thread, what is delivered by whoever decodes it; any may read, and sees each number
whole. What only grows never looks smaller than before, also while a connection ends.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ..events import Disconnected, Event, Gap, Undecodable
from ..newest import Newest
from ..protocol.frames import Frame, Frames, Item
from ..protocol.session import SessionStats
from ..subscription import KNOWN_DATA_TYPES
from ..timestamps import NANOSECONDS_PER_SECOND
from .keys import is_market_data, time_ns_of, time_text_of

#: Of what is decoded together, a read from the socket or a piece of one, the oldest message is looked at, and so many
#: of them are kept.
_LATENCIES: Final = 4096
#: A server may invent any number of types.
_MAX_TYPES: Final = 100
LATENCY_WINDOW_SECONDS: Final = 60.0
RATE_WINDOW_SECONDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds from ``time_coinapi`` to the arrival here, by this machine's clock, over the last minute.

    Of each read from the socket its first message counts, which is its oldest, and of a large one also the first of
    each piece that is decoded together: ``count`` are these.
    """

    p50: float
    p99: float
    max: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """Counts of one client since it was made.

    - ``messages`` and ``bytes`` by type, as received (of their text; any character counts as one byte); ``rate`` in
      messages a second over the last 10 s; ``surplus`` and ``jumps`` as in :class:`SessionStats`. A frame that is no
      message is counted there, as "undecodable"; it is delivered as an event, so not counted as ``delivered``.
    - ``queued``, ``queued_bytes``: what waits for callbacks; ``queued_most``: the most that ever did. Up to 256 that
      the dispatcher has taken, and the rest of one read, count as neither queued nor delivered until each is.
    - ``delivered``: messages that were given to a callback or an iteration; ``unhandled``: no callback listens to them;
      ``dropped``, ``conflated``: left out by a queue policy, or by closing with a full queue, and told by ``Dropped``;
      ``duplicates``: left out by a handover; ``undelivered``: came or waited when no callback might
      start any more.
    - ``reconnects``: connections that went live after the first one, second ones of handovers included;
      ``disconnects``: connections that ended, and attempts that failed, by the value of their ``Cause``.
    - ``gaps``: ``SequenceGap`` and ``ConnectionGap`` events, by class name.
    - ``callback_failures``: how often a callback raised.
    - ``last_message_ns``: when the last message came, nanoseconds since the epoch by this machine's clock, and
      ``last_message_age``, seconds since then; ``latency``, None where nothing came lately; ``disconnected``: how the
      last connection ended.
    """

    messages: Mapping[str, int]
    bytes: Mapping[str, int]
    rate: float
    queued: int
    queued_bytes: int
    queued_most: int
    delivered: int
    unhandled: int
    dropped: int
    conflated: int
    duplicates: int
    undelivered: int
    surplus: int
    jumps: Mapping[tuple[str, str], int]
    reconnects: int
    disconnects: Mapping[str, int]
    gaps: Mapping[str, int]
    callback_failures: int
    last_message_ns: int | None
    last_message_age: float | None
    latency: Latency | None
    disconnected: Disconnected | None


class Counted(Protocol):
    """A connection, as far as it counts."""

    def stats(self) -> SessionStats:
        """Return the counts so far."""


class Statistics:
    """The counters of what the connections bring."""

    def __init__(self) -> None:
        self.messages: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.gaps: dict[str, int] = {}
        self.jumps: dict[tuple[str, str], int] = {}
        self.surplus = 0
        self.duplicates = 0
        self.lives = 0
        self.ends: dict[str, int] = {}
        self.last_received_ns: int | None = None
        #: Two threads may add what two sessions have counted, and gaps. A signal handler may ask in the middle of that.
        self._lock = threading.RLock()
        #: Sessions that count themselves, and whether their end is half known.
        self._sessions: dict[Counted, bool] = {}
        self._latencies: Newest[tuple[int, int]] = Newest(_LATENCIES)
        #: Messages by the second in which they came.
        self._seconds: dict[int, int] = {}

    def receive(self, items: Sequence[Event | Frame | Frames], now: float) -> tuple[dict[str, int], int]:
        """Count what one read brought; return the messages by type, and their bytes."""
        counts: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for item in items:
            if isinstance(item, Frames):
                for frame_type, payload in zip(item.types, item.payloads, strict=True):
                    name = frame_type.name
                    counts[name] = counts.get(name, 0) + 1
                    sizes[name] = sizes.get(name, 0) + len(payload)
            elif isinstance(item, (Frame, Undecodable)):
                name = getattr(item, "type", "") or "undecodable"
                counts[name] = counts.get(name, 0) + 1
                sizes[name] = sizes.get(name, 0) + len(item.payload)
            else:
                continue
            self.last_received_ns = item.received_ns
        total = 0
        for name, count in counts.items():
            total += count
            known = name in self.messages or len(self.messages) < _MAX_TYPES or name in KNOWN_DATA_TYPES
            kept = name if known else "other"
            self.messages[kept] = self.messages.get(kept, 0) + count
            self.bytes[kept] = self.bytes.get(kept, 0) + sizes[name]
        if total:
            second = int(now)
            self._seconds[second] = self._seconds.get(second, 0) + total
            if len(self._seconds) > RATE_WINDOW_SECONDS + 1:
                del self._seconds[next(iter(self._seconds))]
        return counts, sum(sizes.values())

    def deliver(self, items: Sequence[Item]) -> None:
        """Look at what goes on to the callbacks: how late the first message is, and which gaps there are."""
        for item in items:
            if isinstance(item, Gap):
                name = type(item).__name__
                with self._lock:
                    self.gaps[name] = self.gaps.get(name, 0) + 1
        first = next(filter(is_market_data, items), None)
        if first is not None and time_text_of(first) is not None:
            self._latencies.append((first.received_ns, first.received_ns - time_ns_of(first)))

    def count_end(self, ending: Disconnected) -> None:
        """Count a connection that ended, or did not come about."""
        cause = ending.cause.value
        self.ends[cause] = self.ends.get(cause, 0) + 1

    def begin_session(self, session: Counted) -> None:
        """Count what a session counts, from now on."""
        with self._lock:
            self._sessions[session] = False

    def end_session(self, session: Counted) -> None:
        """Keep what a session has counted and let go of it, the second time this is called.

        That is once when the connection is gone, and once when the last of its frames is decoded, by whichever thread.
        """
        with self._lock:
            if not self._sessions[session]:
                self._sessions[session] = True
                return
            del self._sessions[session]
            self.surplus += _add_jumps(session, self.jumps)

    def of_sessions(self) -> tuple[int, dict[tuple[str, str], int]]:
        """Return surplus and jumps of all sessions that ever were."""
        with self._lock:
            surplus, jumps = self.surplus, dict(self.jumps)
            for session in self._sessions:
                surplus += _add_jumps(session, jumps)
        return surplus, jumps

    def renew_lock(self) -> None:
        """Forget, in a forked child, whoever held the lock."""
        self._lock = threading.RLock()

    def rate(self, now: float) -> float:
        """Return messages a second, over the last full seconds."""
        second = int(now)
        counted = [count for at, count in self._seconds.copy().items() if second - RATE_WINDOW_SECONDS <= at < second]
        return sum(counted) / RATE_WINDOW_SECONDS

    def latency(self, now_ns: int) -> Latency | None:
        """Return percentiles over the window, None without a message in it."""
        oldest = now_ns - int(LATENCY_WINDOW_SECONDS * NANOSECONDS_PER_SECOND)
        late = sorted(latency for at, latency in self._latencies.items() if at >= oldest)
        if not late:
            return None
        return Latency(
            p50=_percentile(late, 50), p99=_percentile(late, 99), max=late[-1] / NANOSECONDS_PER_SECOND, count=len(late)
        )


def _add_jumps(session: Counted, jumps: dict[tuple[str, str], int]) -> int:
    """Add what a session has counted of each pair, and return its surplus."""
    stats = session.stats()
    for pair, count in stats.jumps.items():
        jumps[pair] = jumps.get(pair, 0) + count
    return stats.surplus


def _percentile(ascending: list[int], percent: int) -> float:
    rank = -(-len(ascending) * percent // 100)  # the nearest one, rounded up
    return ascending[rank - 1] / NANOSECONDS_PER_SECOND
