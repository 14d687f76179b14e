"""Where a client's frames come from: the market, live, or a recording (`replay`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .behaviour import Tampering
from .encoding import seal
from .market import Market, Publication
from .scope import Product, Scope
from .streams import SEQUENCED_TYPES, Stream
from .wire import text_frame

#: Whose first frame is a snapshot, and all others deltas.
_DELTA_TYPES = frozenset({"book", "book_l3"})


class Feed(Protocol):
    """The source of one client's frames. Times are nanoseconds on the simulator's monotonic clock."""

    tampering: Tampering

    @property
    def next_due_ns(self) -> int | None:
        """When `take` has something, None while that is unknown or never."""
        ...

    @property
    def waits_for_client(self) -> bool:
        """True when there is no pace but the client's."""
        ...

    @property
    def is_finished(self) -> bool:
        """True when nothing will come any more, and the connection is to be closed."""
        ...

    @property
    def wanted(self) -> frozenset[Stream]:
        """What `deliver` is to be given."""
        ...

    def change_scope(self, scope: Scope, now_ns: int) -> list[bytes]:
        """Use another scope; return the frames that the client gets at once."""
        ...

    def take(self, now_ns: int, limit_bytes: int, /) -> tuple[bytes, int]:
        """Return the whole frames that are due, about as many as the limit allows, and their number."""
        ...

    def deliver(self, publications: Iterable[Publication], now_ns: int, /) -> list[bytes]:
        """Return the frames of those publications that are in scope."""
        ...


class MarketFeed:
    """One client's view of the market: its streams, and its own sequence numbers.

    ``wall_offset_ns`` is the wall clock less the monotonic one.
    """

    next_due_ns: int | None = None
    waits_for_client = False
    is_finished = False

    def __init__(self, market: Market, product: Product, tampering: Tampering, *, wall_offset_ns: int) -> None:
        self.tampering = tampering
        self._streams: frozenset[Stream] = frozenset()
        self._market = market
        self._offered = tuple(filter(product.has, market.streams))
        self._wall_offset_ns = wall_offset_ns
        self._sequences: dict[tuple[str, str | None], int] = {}
        self._limits_ns: dict[Stream, int] = {}
        self._sent_ns: dict[Stream, int] = {}
        #: How many deltas are still to come before a stream's snapshot.
        self._owed: dict[Stream, int] = {}
        #: What left the scope and comes all the same, and how many frames of it.
        self._stale: frozenset[Stream] = frozenset()
        self._stale_left = 0

    @property
    def wanted(self) -> frozenset[Stream]:
        """What `deliver` is to be given."""
        return self._streams | self._stale

    def change_scope(self, scope: Scope, now_ns: int) -> list[bytes]:
        """Use another scope; return the snapshots of what entered it. The first scope opens the market."""
        wall_ns = now_ns + self._wall_offset_ns
        if not self._market.is_open:
            self._market.open(wall_ns)
        before, behaviour = self._streams, self.tampering.behaviour
        self._streams = frozenset(filter(scope.contains, self._offered))
        limits = {stream: scope.update_limit_ms(stream) * 1_000_000 for stream in self._streams}
        self._limits_ns = {stream: limit for stream, limit in limits.items() if limit}
        self._stale_left = behaviour.stale_frames
        self._stale = before - self._streams if self._stale_left else frozenset()
        # A pair that comes back begins again at 1; one of which stale frames come goes on until then.
        pairs = _pairs(self._streams)
        kept = (pairs & _pairs(before)) | (_pairs(self._stale) - pairs)
        self._sequences = {pair: last for pair, last in self._sequences.items() if pair in kept}
        entered = [stream for stream in self._offered if stream in self._streams - before]
        self._owed = {stream: owed for stream, owed in self._owed.items() if stream in self._streams}
        if behaviour.deltas_first:
            self._owed.update({s: behaviour.deltas_first for s in entered if s.type in _DELTA_TYPES})
        return self._frames(self._market.snapshots([s for s in entered if s not in self._owed], wall_ns))

    def deliver(self, publications: Iterable[Publication], now_ns: int) -> list[bytes]:
        """Return the frames of those publications that are in scope and not within an update limit."""
        frames = self._frames(p for p in publications if self._is_due(p.stream, now_ns))
        if self._owed:
            is_over = not self.tampering.behaviour.deltas_first
            due = [stream for stream, owed in self._owed.items() if owed <= 0 or is_over]
            for stream in due:
                del self._owed[stream]
            frames += self._frames(self._market.snapshots(due, now_ns + self._wall_offset_ns))
        return frames

    def take(self, _now_ns: int, _limit_bytes: int, /) -> tuple[bytes, int]:
        """Return nothing: the market is not kept back for anybody."""
        return b"", 0

    def _is_due(self, stream: Stream, now_ns: int) -> bool:
        if stream not in self._streams:
            return self._is_stale(stream)
        limit_ns = self._limits_ns.get(stream)
        if limit_ns is not None:
            if now_ns < self._sent_ns.get(stream, now_ns - limit_ns) + limit_ns:
                return False
            self._sent_ns[stream] = now_ns
        if stream in self._owed:
            self._owed[stream] -= 1
        return True

    def _is_stale(self, stream: Stream) -> bool:
        if stream not in self._stale or not self.tampering.behaviour.stale_frames:
            return False
        self._stale_left -= 1
        if self._stale_left == 0:
            self._stale = frozenset()
        return True

    def _frames(self, publications: Iterable[Publication]) -> list[bytes]:
        return self.tampering.frames([(p.stream, self._frame(p)) for p in publications])

    def _frame(self, publication: Publication) -> bytes:
        stream = publication.stream
        sequence = None
        if stream.type in SEQUENCED_TYPES:
            pair = (stream.type, stream.symbol_id)
            sequence = self._sequences[pair] = self._sequences.get(pair, 0) + 1
        return text_frame(seal(publication.body, stream, sequence).encode("ascii"))


def _pairs(streams: Iterable[Stream]) -> set[tuple[str, str | None]]:
    return {(stream.type, stream.symbol_id) for stream in streams}
