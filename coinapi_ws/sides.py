"""One side of a book: its levels in order, the best in reach. Pure.

A dictionary holds the levels, a sorted list their prices with the best one last: what changes is nearly always near
the best, so little of the list moves. Asks are sorted by the negation of their price. benchmarks/BOOKS.md has the
measurements behind that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from decimal import Context, Decimal
from functools import reduce
from itertools import islice, takewhile
from math import fsum, inf
from typing import Any, Final, NamedTuple

from .kinds import Level, LevelL3, Number

#: Sizes on the wire have up to 28 decimals. A context of our own, which the program's one cannot make inexact; it traps
#: nothing, since the decoder lets finite numbers through only.
_EXACT: Final = Context(prec=100, traps=[])

_SETTING: Final = frozenset({"ADD", "UPDATE", "SET", None})
_SUBTRACTING: Final = frozenset({"SUBTRACT", "SUB", "MATCH"})
_REMOVING: Final = frozenset({"DELETE"})
_UPDATE_TYPES: Final = _SETTING | _SUBTRACTING | _REMOVING

# A price as it is sorted: float or Decimal, of asks negated.
Key = Any


class Side(ABC):
    """The asks or the bids of a book, to read: iterated, they are its levels from the best to the worst.

    A level is the very :class:`~coinapi_ws.Level` that the message had, so price and size are as they came. For the
    thread that owns the book; do not change the book while iterating.
    """

    def __init__(self, *, is_asks: bool) -> None:
        self._is_asks = is_asks
        self._keys: list[Key] = []
        self._levels: dict[Key, Level] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Level]:
        return map(self._levels.__getitem__, reversed(self._keys))

    def __repr__(self) -> str:
        return f"<{'asks' if self._is_asks else 'bids'}: {len(self)} levels, best {self.best}>"

    @property
    def best(self) -> Level | None:
        """The best level, None where there is none."""
        return self._levels[self._keys[-1]] if self._keys else None

    def depth(self, count: int | None = None) -> tuple[Level, ...]:
        """Return the best ``count`` levels, best first; all of them for None."""
        return tuple(map(self._levels.__getitem__, islice(reversed(self._keys), count)))

    def size_at(self, price: float | Decimal) -> Number:
        """Return the size of the level at a price, None where there is no level.

        The price is of the book's kind: the float 0.1 is no Decimal's equal.
        """
        level = self._levels.get(self._key(price))
        return None if level is None else level.size

    @abstractmethod
    def _flaw(self, changes: Iterable[Any]) -> str | None:
        """Say what keeps these from being applied, None where nothing does."""

    @abstractmethod
    def _replace(self, entries: Iterable[Any]) -> None:
        """Hold these and nothing else."""

    @abstractmethod
    def _change(self, changes: Iterable[Any]) -> None:
        """Apply changes, whose `_flaw` is None."""

    def _key(self, price: Any) -> Key:
        # A minus would round a Decimal to the program's context.
        return price if not self._is_asks else price.copy_negate() if price.__class__ is Decimal else -price


class L2Side(Side):
    """The asks or the bids of an :class:`L2Book`; see :class:`Side`."""

    def _flaw(self, changes: Iterable[Level]) -> str | None:
        for price, size in changes:
            if price is None or size is None:
                return "a level without price or size"
        return None

    def _replace(self, levels: Iterable[Level]) -> None:
        # Of a price that is named twice the last size counts, which may be 0.
        last = {self._key(level.price): level for level in levels}
        self._levels = {key: level for key, level in last.items() if level.size}
        self._keys = sorted(self._levels)

    def _change(self, changes: Iterable[Level]) -> None:
        keys, levels, is_asks = self._keys, self._levels, self._is_asks
        for change in changes:
            price: Any = change[0]
            # The expression of _key, without the price of a call; the hash of a Decimal is slow, so one a change.
            key = price if not is_asks else price.copy_negate() if price.__class__ is Decimal else -price
            if change[1]:
                count = len(levels)
                levels[key] = change
                if len(levels) > count:
                    insort(keys, key)
            elif levels.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]


class QueuePosition(NamedTuple):
    """Where an order stands among those of its price: how many are before it, and their size."""

    orders_ahead: int
    size_ahead: float | Decimal | int


class L3Side(Side):
    """The asks or the bids of an :class:`L3Book`: as a :class:`Side`, its levels are sums of orders.

    A sum is exact with Decimals, and rounded once with floats.
    """

    def __init__(self, *, is_asks: bool, deletes_levels: bool = True) -> None:
        super().__init__(is_asks=is_asks)
        self._deletes_levels = deletes_levels
        self._queues: dict[Key, _Queue] = {}
        #: Where the order of an id stands.
        self._places: dict[str, _Queue] = {}

    @property
    def order_count(self) -> int:
        """How many orders there are, what has no id not counted."""
        return len(self._places)

    def orders(self, depth: int | None = None) -> Iterator[LevelL3]:
        """Iterate over the orders of the best ``depth`` levels, or of all; what has no id is among them.

        The best level comes first, and each level's orders come in their queue.
        """
        for key in islice(reversed(self._keys), depth):
            yield from self._queues[key].values()

    def orders_at(self, price: float | Decimal) -> tuple[LevelL3, ...]:
        """Return the orders of the level at a price in their queue, the first to trade first."""
        queue = self._queues.get(self._key(price))
        return () if queue is None else tuple(queue.values())

    def order(self, order_id: str) -> LevelL3 | None:
        """Return an order, None where there is none of that id."""
        queue = self._places.get(order_id)
        return None if queue is None else queue[order_id]

    def queue_position(self, order_id: str) -> QueuePosition | None:
        """Return where an order stands in the queue of its price, None where there is none of that id.

        A snapshot's orders are taken to stand as they are listed, a new or moved order is the last, and one that
        changes its size keeps its place: nobody promises that (vendor_notes.md, "Books"). What has no id is left out.
        """
        queue = self._places.get(order_id)
        if queue is None:
            return None
        before = takewhile(lambda other: other != order_id, queue)
        ahead = [queue[other].size for other in before if other is not None]
        return QueuePosition(len(ahead), _total(ahead))

    def _flaw(self, changes: Iterable[LevelL3]) -> str | None:
        for price, size, order_id, update_type in changes:
            if update_type not in _UPDATE_TYPES:
                return "an update type that is not known"
            if price is None and (order_id is None or update_type in _SETTING):
                return "an order or level without a price"
            if size is None and not (update_type in _REMOVING and (order_id is not None or self._deletes_levels)):
                return "an order or level without a size"
        return None

    def _replace(self, orders: Iterable[LevelL3]) -> None:
        self._queues, self._places = {}, {}
        self._apply(orders)
        self._queues = {key: queue for key, queue in self._queues.items() if queue}
        self._levels = {key: queue.level() for key, queue in self._queues.items()}
        self._keys = sorted(self._levels)

    def _change(self, changes: Iterable[LevelL3]) -> None:
        keys, levels = self._keys, self._levels
        for queue in self._apply(changes):
            key, count = queue.key, len(levels)
            if queue:
                levels[key] = queue.level()
                if len(levels) > count:
                    insort(keys, key)
                continue
            del self._queues[key]
            if levels.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]

    def _apply(self, changes: Iterable[LevelL3]) -> Iterable[_Queue]:
        """Apply changes to the queues; return those that they touched, which may be empty now."""
        if not changes:
            return ()
        touched: dict[int, _Queue] = {}
        places = self._places
        for price, size, order_id, update_type in changes:
            known = self._queues.get(self._key(price)) if order_id is None else places.get(order_id)
            before = None if known is None else known.get(order_id)
            rest: Any = size
            if update_type in _SETTING:
                if order_id is None and before is not None and update_type == "ADD":
                    rest = _exactly(_EXACT.add, before.size, size)
            elif before is None:
                continue
            else:
                price, rest = before.price, 0
                if update_type in _SUBTRACTING or (order_id is None and not self._deletes_levels):
                    rest = _exactly(_EXACT.subtract, before.size, size)
            queue = known
            if known is not None and before is not None and (rest <= 0 or before.price != price):
                touched[id(known)] = known
                del known[order_id]
                if order_id is not None:
                    del places[order_id]
                queue = None
            if rest > 0:
                if queue is None:
                    queue = self._queue_at(price)
                    if order_id is not None:
                        places[order_id] = queue
                touched[id(queue)] = queue
                queue[order_id] = LevelL3(price, rest, order_id, None)
        return touched.values()

    def _queue_at(self, price: Any) -> _Queue:
        key = self._key(price)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue(key)
        return queue


class _Queue(dict["str | None", LevelL3]):
    """The orders of one price in the order of their arrival, by id; by None what has no id."""

    __slots__ = ("key",)

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key = key

    def level(self) -> Level:
        """Return what the orders amount to; there is one at least."""
        orders = tuple(self.values())
        first = orders[0]
        return Level(first[0], first[1] if len(orders) == 1 else _total([order[1] for order in orders]))


def _total(sizes: list[Any]) -> Any:
    if len(sizes) < 2:
        return sizes[0] if sizes else 0
    if isinstance(sizes[0], Decimal):
        return reduce(_EXACT.add, sizes)
    try:
        return fsum(sizes)
    except OverflowError:
        return inf


def _exactly(operation: Callable[[Decimal, Decimal], Decimal], size: Any, change: Any) -> Any:
    """Add or subtract as the wire's decimals: 0.8 - 0.7 - 0.1 is 0, of floats too, or orders of dust would stay."""
    if isinstance(size, Decimal):
        return operation(size, change)
    return float(operation(Decimal(repr(size)), Decimal(repr(change))))
