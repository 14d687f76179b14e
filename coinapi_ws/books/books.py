"""Order books out of snapshots and changes, which know whether they are true. Pure (vendor_notes.md, "Books")."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar

from ..client.keys import time_ns_of
from ..events import SequenceGap
from ..exceptions import ConfigurationError, UsageError
from ..messages import Book, BookL3, Level, LevelL3
from ..sides import L2Side, L3Side, QueuePosition, Side

L2_TYPES: Final = ("book", "book5", "book20", "book50")
LEVEL_DELETES: Final = ("remove", "subtract")

S = TypeVar("S", bound=Side)
M = TypeVar("M", bound="Book | BookL3")


class BookState(Enum):
    """How far a book can be trusted."""

    #: It has had no snapshot, so it shows nothing.
    EMPTY = "empty"
    #: A snapshot and every change after it: the server's own book, as far as the server tells.
    LIVE = "live"
    #: Something is missing. It stays as it was when it last was true, until the next snapshot.
    STALE = "stale"


class _Tops(ABC):
    """What follows from the best levels of both sides."""

    __slots__ = ()

    @property
    @abstractmethod
    def best_ask(self) -> Level | None:
        """The lowest ask, None where there is none."""

    @property
    @abstractmethod
    def best_bid(self) -> Level | None:
        """The highest bid, None where there is none."""

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is above the best ask. Raw data may be: it is told, and never repaired."""
        ask, bid = self.best_ask, self.best_bid
        return ask is not None and bid is not None and bid.price > ask.price  # type: ignore[operator]

    @property
    def is_locked(self) -> bool:
        """Whether the best bid and the best ask have the same price, which raw data may have as well."""
        ask, bid = self.best_ask, self.best_bid
        return ask is not None and bid is not None and bid.price == ask.price


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSnapshot(_Tops):
    """A book at one moment; for any thread. ``asks`` and ``bids`` are levels, best first; the rest as in a book."""

    type: str
    symbol_id: str
    state: BookState
    sequence: int | None
    updated_ns: int | None
    asks: tuple[Level, ...]
    bids: tuple[Level, ...]

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask, None where there is none."""
        return self.asks[0] if self.asks else None

    @property
    def best_bid(self) -> Level | None:
        """The highest bid, None where there is none."""
        return self.bids[0] if self.bids else None


@dataclass(frozen=True, slots=True, kw_only=True)
class L3Snapshot(BookSnapshot):
    """A :class:`BookSnapshot` of an :class:`L3Book`, with the orders of its levels, each level's in their queue."""

    ask_orders: tuple[LevelL3, ...]
    bid_orders: tuple[LevelL3, ...]


class _OrderBook(_Tops, Generic[S, M]):
    """What L2 and L3 have in common: when to change, and when not to trust."""

    def __init__(self, type_name: str, symbol_id: str, asks: S, bids: S) -> None:
        self.type = type_name
        self.symbol_id = symbol_id
        self.asks = asks
        self.bids = bids
        self.state = BookState.EMPTY
        self.stale_reason: str | None = None
        self.sequence: int | None = None
        self.held_back = 0
        self._latest: M | None = None

    def __repr__(self) -> str:
        sides = f"{len(self.asks)} asks, {len(self.bids)} bids"
        return f"<{self.type} {self.symbol_id} {self.state.name}: {sides}, sequence {self.sequence}>"

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask, None where there is none."""
        return self.asks.best

    @property
    def best_bid(self) -> Level | None:
        """The highest bid, None where there is none."""
        return self.bids.best

    @property
    def updated_ns(self) -> int | None:
        """When the book became what it is: ``time_coinapi`` of the last message it took, or when that was received.

        In nanoseconds since the epoch; None while the book is EMPTY.
        """
        return None if self._latest is None else time_ns_of(self._latest)

    def apply(self, item: M | SequenceGap) -> bool:
        """Take the next message of this book, or the gap before it; return whether the levels are those of the message.

        A snapshot replaces all levels, and the book is LIVE. A change whose sequence does not follow, one that cannot
        be understood (a price that is null, say), and a gap make a LIVE book STALE. Changes that come while it is not
        LIVE are held back, and counted in ``held_back``. A message is applied whole or not at all; where that is broken
        off, by Ctrl-C say, the book is EMPTY.

        Raises ``UsageError`` for what belongs to another book. For the thread that owns the book; does not block.
        """
        if item.symbol_id != self.symbol_id or item.type != self.type:
            raise UsageError(f"a {item.type} of {item.symbol_id} does not belong into the {self.type} {self.symbol_id}")
        if isinstance(item, SequenceGap):
            self.make_stale(_gap(item.expected, item.received))
            return False
        asks, bids, is_snapshot = item.asks, item.bids, item.is_snapshot
        flaw = self.asks._flaw(asks) or self.bids._flaw(bids)
        if not is_snapshot and self.sequence is not None and item.sequence is not None:
            expected = self.sequence + 1
            if item.sequence != expected:
                flaw = _gap(expected, item.sequence)
        if flaw is not None:
            self.make_stale(flaw)
        is_taken = flaw is None if is_snapshot else self.state is BookState.LIVE
        if not is_taken:
            self.held_back += 1
            return False
        try:
            for side, entries in ((self.asks, asks), (self.bids, bids)):
                (side._replace if is_snapshot else side._change)(entries)
        except BaseException:
            self.clear()
            raise
        self.state, self.stale_reason, self.sequence, self._latest = BookState.LIVE, None, item.sequence, item
        return True

    def make_stale(self, reason: str) -> None:
        """Trust the book no more, until the next snapshot; ``stale_reason`` says why. Nothing while it is EMPTY.

        For the thread that owns the book.
        """
        if self.state is BookState.LIVE:
            self.state, self.stale_reason = BookState.STALE, reason

    def clear(self) -> None:
        """Begin anew, EMPTY, as for a new connection; ``held_back`` goes on. For the thread that owns the book."""
        self.asks._replace(())
        self.bids._replace(())
        self.state, self.stale_reason = BookState.EMPTY, None
        self.sequence, self._latest = None, None


class L2Book(_OrderBook[L2Side, Book]):
    """The book of one symbol by price levels: size 0 removes a level, and any other is its new size.

    Takes the symbol and the data type of the messages it is to be given: ``book``, or one of ``book5``, ``book20`` and
    ``book50``, each message of which is a whole book.

    ``asks`` and ``bids`` are each a :class:`Side`; ``state`` says whether it is true, ``stale_reason`` why it is not;
    ``sequence`` is that of the last message it took, ``held_back`` counts those that it could not take. They are to be
    read only. Prices and sizes are as they came, float or Decimal, never both in one book.

    Who owns the book decides on the thread; another one is given a :meth:`snapshot`.
    """

    def __init__(self, symbol_id: str, type: str = "book") -> None:
        if type not in L2_TYPES:
            raise ConfigurationError(f"type={type!r} is not possible; write one of {', '.join(L2_TYPES)}")
        super().__init__(type, symbol_id, L2Side(is_asks=True), L2Side(is_asks=False))

    def snapshot(self, depth: int | None = None) -> BookSnapshot:
        """Return the book as it is now, for any thread; with ``depth`` the best so many levels of each side."""
        return BookSnapshot(
            type=self.type,
            symbol_id=self.symbol_id,
            state=self.state,
            sequence=self.sequence,
            updated_ns=self.updated_ns,
            asks=self.asks.depth(depth),
            bids=self.bids.depth(depth),
        )


class L3Book(_OrderBook[L3Side, BookL3]):
    """The book of one symbol by orders (``book_l3``), with their levels.

    ADD, UPDATE and SET give an order its size, and its price: one whose price changed has moved. SUBTRACT, SUB and
    MATCH take off; at 0 or below the order is gone, as it is with DELETE. An entry without an id is a level of its own
    beside the orders of its price, and ADD adds to it; its DELETE removes it, or takes its size off with
    ``level_delete="subtract"``, since the vendor says both (vendor_notes.md, "Books"). To remove what is not there is
    no fault.

    Everything else is as in an :class:`L2Book`.
    """

    def __init__(self, symbol_id: str, *, level_delete: str = "remove") -> None:
        if level_delete not in LEVEL_DELETES:
            raise ConfigurationError(f'level_delete={level_delete!r} is not possible; write "remove" or "subtract"')
        asks, bids = (L3Side(is_asks=is_asks, deletes_levels=level_delete == "remove") for is_asks in (True, False))
        super().__init__("book_l3", symbol_id, asks, bids)

    def order(self, order_id: str) -> LevelL3 | None:
        """Return an order, None where there is none of that id. For the thread that owns the book."""
        return self.asks.order(order_id) or self.bids.order(order_id)

    def queue_position(self, order_id: str) -> QueuePosition | None:
        """Return where an order stands among those of its price; see :meth:`L3Side.queue_position`."""
        return self.asks.queue_position(order_id) or self.bids.queue_position(order_id)

    def snapshot(self, depth: int | None = None) -> L3Snapshot:
        """Return the book as it is now, for any thread; with ``depth`` the best so many levels of each side."""
        return L3Snapshot(
            type=self.type,
            symbol_id=self.symbol_id,
            state=self.state,
            sequence=self.sequence,
            updated_ns=self.updated_ns,
            asks=self.asks.depth(depth),
            bids=self.bids.depth(depth),
            ask_orders=tuple(self.asks.orders(depth)),
            bid_orders=tuple(self.bids.orders(depth)),
        )


def _gap(expected: int, received: int) -> str:
    return f"sequence {received} came where {expected} was expected"
