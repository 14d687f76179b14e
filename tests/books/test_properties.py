"""Any sequence of snapshots, changes and gaps gives the book that dictionaries and lists would give."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from book_messages import l2, l3
from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws import Book, BookL3, Level, LevelL3
from coinapi_ws.books import BookState, L2Book, L3Book, QueuePosition

# Few of them, so that they meet; as Decimals equal ones with different digits. Sums are exact in both.
PRICES: Final = st.integers(-1, 8)
SIZES: Final = st.sampled_from([0, 0, 1, 2, 3, 7, -1])
NUMBERS: Final[list[Callable[[int], Any]]] = [float, Decimal, lambda number: Decimal(f"{number}.00")]
UPDATE_TYPES: Final = ["ADD", "UPDATE", "SET", "SUBTRACT", "SUB", "MATCH", "DELETE", None]
DEPTHS: Final = (None, 0, 1, 3, 100)


class Trust:
    """Whether a model may change: the rules of states, without a book."""

    def __init__(self) -> None:
        self.state, self.held_back = BookState.EMPTY, 0
        self.sequence: int | None = None

    def lets_through(self, message: Book | BookL3) -> bool:
        follows = None in (self.sequence, message.sequence) or message.sequence == self.sequence + 1  # type: ignore[operator]
        if message.is_snapshot:
            self.state = BookState.LIVE
        elif self.state is BookState.LIVE and not follows:
            self.state = BookState.STALE
        if self.state is not BookState.LIVE:
            self.held_back += 1
            return False
        self.sequence = message.sequence
        return True


@st.composite
def feeds(draw: st.DrawFn, entries: st.SearchStrategy[Any], message: Callable[..., Any]) -> list[Any]:
    """Messages whose sequences follow, mostly."""
    sequence, feed = draw(st.integers(1, 9)), []
    for _ in range(draw(st.integers(1, 12))):
        is_snapshot = draw(st.sampled_from([True, False, False, False, None]))
        said = draw(st.sampled_from([sequence] * 12 + [None]))
        sides = draw(st.lists(entries, max_size=6)), draw(st.lists(entries, max_size=6))
        feed.append((message, is_snapshot, said, *sides))
        sequence += draw(st.sampled_from([1] * 12 + [0, 2]))
    return feed


def built(entry: tuple[Any, ...], number: Callable[[int], Any], is_snapshot: bool | None) -> tuple[Any, ...]:
    price, size, *rest = entry
    # Snapshots have no update types.
    return (number(price), number(size), *(rest[:1] if is_snapshot else rest))


def messages(feed: list[Any], number: Callable[[int], Any]) -> list[Any]:
    return [
        message(
            *[[built(entry, number, is_snapshot) for entry in side] for side in sides],
            sequence=sequence,
            is_snapshot=is_snapshot,
        )
        for message, is_snapshot, sequence, *sides in feed
    ]


@given(feeds(st.tuples(PRICES, SIZES), l2), st.sampled_from(NUMBERS))
def test_an_l2_book_is_a_pair_of_dictionaries(feed: list[Any], number: Callable[[int], Any]) -> None:
    book, trust = L2Book("X_SPOT_A_B"), Trust()
    asks: dict[Any, Level] = {}
    bids: dict[Any, Level] = {}
    for message in messages(feed, number):
        applied = trust.lets_through(message)
        for model, levels in ((asks, message.asks), (bids, message.bids)) if applied else ():
            if message.is_snapshot:
                model.clear()
            for level in levels:
                model.pop(level.price, None)
                if level.size:
                    model[level.price] = level
        assert book.apply(message) is applied
        assert (book.state, book.sequence, book.held_back) == (trust.state, trust.sequence, trust.held_back)
        for side, model, is_reversed in ((book.asks, asks, False), (book.bids, bids, True)):
            expected = [model[price] for price in sorted(model, reverse=is_reversed)]
            # As text, since the digits count.
            assert str(list(side)) == str(expected)
            assert side.best == (expected[0] if expected else None)
            assert [side.depth(count) for count in DEPTHS] == [tuple(expected[:count]) for count in DEPTHS]
            assert len(side) == len(expected)
            for price in range(-1, 9):
                assert side.size_at(number(price)) == (model[price].size if price in model else None)


class NaiveOrders:
    """One side as a list of orders in the order of their arrival, searched from its beginning each time."""

    def __init__(self, *, deletes_levels: bool) -> None:
        self.deletes_levels = deletes_levels
        self.orders: list[LevelL3] = []

    def change(self, change: LevelL3) -> None:
        price, size, order_id, kind = change
        assert price is not None
        assert size is not None
        same = [o for o in self.orders if o.id == order_id and (order_id is not None or o.price == price)]
        known = same[0] if same else None
        if kind in ("ADD", "UPDATE", "SET", None):
            if kind == "ADD" and order_id is None and known is not None:
                size += known.size  # type: ignore[operator]
            self.put(known, LevelL3(price, size, order_id, None))
        elif known is not None:
            is_removed = kind == "DELETE" and (order_id is not None or self.deletes_levels)
            self.put(known, known._replace(size=0 if is_removed else known.size - size))  # type: ignore[operator]

    def put(self, known: LevelL3 | None, order: LevelL3) -> None:
        place = len(self.orders) if known is None else self.orders.index(known)
        if known is not None:
            del self.orders[place]
            if known.price != order.price:
                place = len(self.orders)
        if order.size > 0:  # type: ignore[operator]
            self.orders.insert(place, order)

    def queues(self, *, is_asks: bool) -> list[list[LevelL3]]:
        prices = sorted({order.price for order in self.orders}, reverse=not is_asks)  # type: ignore[type-var]
        return [[order for order in self.orders if order.price == price] for price in prices]


orders: Final = st.tuples(PRICES, SIZES, st.sampled_from(["a", "b", "c", "d", None]), st.sampled_from(UPDATE_TYPES))


@given(feeds(orders, l3), st.sampled_from(NUMBERS), st.booleans())
def test_an_l3_book_is_a_pair_of_lists(feed: list[Any], number: Callable[[int], Any], deletes_levels: bool) -> None:
    book = L3Book("X_SPOT_A_B", level_delete="remove" if deletes_levels else "subtract")
    trust, models = Trust(), [NaiveOrders(deletes_levels=deletes_levels) for _ in range(2)]
    for message in messages(feed, number):
        applied = trust.lets_through(message)
        for model, changes in zip(models, (message.asks, message.bids), strict=True) if applied else ():
            if message.is_snapshot:
                model.orders.clear()
            for change in changes:
                model.change(change)
        assert book.apply(message) is applied
        assert (book.state, book.sequence, book.held_back) == (trust.state, trust.sequence, trust.held_back)
        for side, model, is_asks in ((book.asks, models[0], True), (book.bids, models[1], False)):
            queues = model.queues(is_asks=is_asks)
            assert list(side.orders()) == [order for queue in queues for order in queue]
            assert list(side) == [(queue[0].price, sum(o.size for o in queue)) for queue in queues]  # type: ignore[misc]
            assert side.best == next(iter(side), None)
            assert [side.depth(count) for count in DEPTHS] == [tuple(side)[:count] for count in DEPTHS]
            assert side.order_count == sum(order.id is not None for order in model.orders)
            for queue in queues:
                assert side.orders_at(queue[0].price) == tuple(queue)  # type: ignore[arg-type]
                named = [order for order in queue if order.id is not None]
                for place, order in enumerate(named):
                    ahead = sum(o.size for o in named[:place])  # type: ignore[misc]
                    assert side.order(str(order.id)) == order
                    assert side.queue_position(str(order.id)) == QueuePosition(place, ahead)
