"""Where a client's frames come from: the market, live, or a recording (`replay`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .encoding import seal
from .market import Market, Publication
from .scope import Scope
from .statistics import Statistics
from .streams import SEQUENCED_TYPES, Stream
from .wire import text_frame


class Feed(Protocol):
    """The source of one client's frames. Times are nanoseconds on the simulator's monotonic clock."""

    @property
    def next_due_ns(self) -> int | None:
        """When `take` has something, None while that is unknown or never."""
        ...

    @property
    def is_finished(self) -> bool:
        """True when nothing will come any more, and the connection is to be closed."""
        ...

    def change_scope(self, scope: Scope, now_ns: int) -> list[bytes]:
        """Use another scope; return the frames that the client gets at once."""
        ...

    def take(self, now_ns: int, limit_bytes: int, /) -> bytes:
        """Return the whole frames that are due, about as many as the limit allows."""
        ...

    def deliver(self, publications: Iterable[Publication], now_ns: int, /) -> list[bytes]:
        """Return the frames of those publications that are in scope."""
        ...


class MarketFeed:
    """One client's view of the market: its streams, and its own sequence numbers.

    ``wall_offset_ns`` is the wall clock less the monotonic one.
    """

    next_due_ns: int | None = None
    is_finished = False

    def __init__(self, market: Market, statistics: Statistics, *, wall_offset_ns: int) -> None:
        self.streams: frozenset[Stream] = frozenset()
        self._market = market
        self._statistics = statistics
        self._wall_offset_ns = wall_offset_ns
        self._sequences: dict[tuple[str, str | None], int] = {}
        self._limits_ns: dict[Stream, int] = {}
        self._sent_ns: dict[Stream, int] = {}

    def change_scope(self, scope: Scope, now_ns: int) -> list[bytes]:
        """Use another scope; return the snapshots of what entered it. The first scope opens the market."""
        wall_ns = now_ns + self._wall_offset_ns
        if not self._market.is_open:
            self._market.open(wall_ns)
        before = self.streams
        self.streams = frozenset(filter(scope.contains, self._market.streams))
        limits = {stream: scope.update_limit_ms(stream) * 1_000_000 for stream in self.streams}
        self._limits_ns = {stream: limit for stream, limit in limits.items() if limit}
        pairs = {(stream.type, stream.symbol_id) for stream in self.streams}
        self._sequences = {pair: last for pair, last in self._sequences.items() if pair in pairs}
        entered = [stream for stream in self._market.streams if stream in self.streams - before]
        return [self._frame(publication) for publication in self._market.snapshots(entered, wall_ns)]

    def deliver(self, publications: Iterable[Publication], now_ns: int) -> list[bytes]:
        """Return the frames of those publications that are in scope and not within an update limit."""
        streams, limits = self.streams, self._limits_ns
        frames = []
        for publication in publications:
            stream = publication.stream
            if stream not in streams:
                continue
            if stream in limits:
                if now_ns < self._sent_ns.get(stream, now_ns - limits[stream]) + limits[stream]:
                    continue
                self._sent_ns[stream] = now_ns
            frames.append(self._frame(publication))
        return frames

    def take(self, _now_ns: int, _limit_bytes: int, /) -> bytes:
        """Return nothing: the market is not kept back for anybody."""
        return b""

    def _frame(self, publication: Publication) -> bytes:
        stream = publication.stream
        self._statistics.frames_sent[stream.type] += 1
        sequence = None
        if stream.type in SEQUENCED_TYPES:
            pair = (stream.type, stream.symbol_id)
            sequence = self._sequences[pair] = self._sequences.get(pair, 0) + 1
        return text_frame(seal(publication.body, stream, sequence).encode("ascii"))
