"""Orders of an L3 book: what each update type does, how levels follow, where an order stands."""

from __future__ import annotations

import decimal
from decimal import Decimal
from typing import Any

import pytest
from book_messages import SYMBOL, l2, l3

from coinapi_ws import Level, LevelL3
from coinapi_ws.books import BookState, L2Book, L3Book, QueuePosition

SNAPSHOT = [(11.0, 1.0, "a"), (11.0, 2.0, "b"), (12.0, 4.0, "c")]


def book_after(*changes: tuple[Any, ...], orders: Any = SNAPSHOT, **options: Any) -> L3Book:
    book = L3Book(SYMBOL, **options)
    book.apply(l3(orders, sequence=1, is_snapshot=True))
    for sequence, change in enumerate(changes, 2):
        book.apply(l3([change], sequence=sequence))
    return book


def orders(book: L3Book) -> list[tuple[Any, ...]]:
    return [order[:3] for order in book.asks.orders()]


def test_levels_are_the_sums_of_their_orders() -> None:
    book = book_after()
    assert list(book.asks) == [Level(11.0, 3.0), Level(12.0, 4.0)]
    assert (book.asks.size_at(11), book.asks.size_at(10), book.asks.order_count) == (3.0, None, 3)


def test_adding_puts_an_order_last_in_its_queue() -> None:
    book = book_after((11.0, 5.0, "d", "ADD"))
    assert orders(book) == [(11.0, 1.0, "a"), (11.0, 2.0, "b"), (11.0, 5.0, "d"), (12.0, 4.0, "c")]
    assert book.asks.size_at(11.0) == 8.0


@pytest.mark.parametrize("update_type", ["UPDATE", "SET", "ADD", None])
def test_a_new_size_keeps_the_place(update_type: str | None) -> None:
    book = book_after((11.0, 9.0, "a", update_type))
    assert orders(book) == [(11.0, 9.0, "a"), (11.0, 2.0, "b"), (12.0, 4.0, "c")]
    assert book.best_ask == Level(11.0, 11.0)


def test_a_new_price_moves_the_order_to_the_end_of_another_queue() -> None:
    book = book_after((12.0, 1.0, "a", "UPDATE"))
    assert orders(book) == [(11.0, 2.0, "b"), (12.0, 4.0, "c"), (12.0, 1.0, "a")]
    assert list(book.asks) == [Level(11.0, 2.0), Level(12.0, 5.0)]
    book = book_after((10.0, 3.0, "c", "UPDATE"))
    assert list(book.asks) == [Level(10.0, 3.0), Level(11.0, 3.0)]


@pytest.mark.parametrize("update_type", ["SUBTRACT", "SUB", "MATCH"])
def test_subtracting_takes_off_and_at_zero_or_below_the_order_is_gone(update_type: str) -> None:
    assert book_after((11.0, 0.5, "b", update_type)).best_ask == Level(11.0, 2.5)
    for size in (2.0, 3.0):
        book = book_after((11.0, size, "b", update_type))
        assert orders(book) == [(11.0, 1.0, "a"), (12.0, 4.0, "c")]
        assert book.best_ask == Level(11.0, 1.0)


def test_deleting_removes_whatever_the_size_says() -> None:
    for size in (0.0, 0.5, None):
        book = book_after((11.0, size, "b", "DELETE"))
        assert orders(book) == [(11.0, 1.0, "a"), (12.0, 4.0, "c")]
    book = book_after((None, None, "a", "DELETE"), (None, 2.0, "b", "MATCH"))
    assert list(book.asks) == [Level(12.0, 4.0)]


def test_size_zero_is_no_order() -> None:
    assert orders(book_after((11.0, 0.0, "a", "UPDATE"), (11.0, 0.0, "x", "ADD"))) == [*SNAPSHOT[1:]]
    assert orders(book_after((12.0, 0.0, "a", "UPDATE"))) == [*SNAPSHOT[1:]]
    assert list(book_after(orders=[(11.0, 0.0, "a")]).asks) == []


@pytest.mark.parametrize("update_type", ["DELETE", "MATCH", "SUBTRACT"])
def test_what_is_not_there_can_be_removed(update_type: str) -> None:
    book = book_after((11.0, 1.0, "unknown", update_type), (77.0, 1.0, None, update_type))
    assert (orders(book), book.state) == (SNAPSHOT, BookState.LIVE)


def test_an_update_of_what_is_not_there_adds_it() -> None:
    assert orders(book_after((10.5, 1.0, "z", "UPDATE")))[0] == (10.5, 1.0, "z")


def test_an_id_may_come_again_after_it_was_gone() -> None:
    book = book_after((11.0, 1.0, "a", "DELETE"), (13.0, 2.0, "a", "ADD"))
    assert book.order("a") == LevelL3(13.0, 2.0, "a", None)


def test_the_same_id_may_be_on_both_sides() -> None:
    book = book_after()
    book.apply(l3(bids=[(10.0, 7.0, "a", "ADD"), (9.0, 1.0, "z", "ADD")], sequence=2))
    book.apply(l3([(11.0, 1.0, "a", "DELETE")], sequence=3))
    assert book.order("a") == LevelL3(10.0, 7.0, "a", None)
    assert book.queue_position("z") == QueuePosition(0, 0)


def test_orders_are_found_by_id_and_by_price() -> None:
    book = book_after((11.0, 0.5, "a", "MATCH"))
    assert book.order("a") == LevelL3(11.0, 0.5, "a", None)
    assert book.order("unknown") is None
    assert [order.id for order in book.asks.orders_at(11.0)] == ["a", "b"]
    assert book.asks.orders_at(10.0) == ()
    assert [order.id for order in book.asks.orders(depth=1)] == ["a", "b"]


def test_the_queue_position_counts_what_stands_before() -> None:
    book = book_after((11.0, 4.0, "d", "ADD"), (11.0, 9.0, None, "ADD"), (11.0, 1.0, "e", "ADD"))
    assert book.queue_position("a") == QueuePosition(0, 0)
    assert book.queue_position("d") == QueuePosition(2, 3.0)
    assert book.queue_position("e") == QueuePosition(3, 7.0)
    assert book.queue_position("unknown") is None
    book.apply(l3([(11.0, 1.0, "a", "MATCH")], sequence=5))
    assert book.queue_position("d") == QueuePosition(1, 2.0)


def test_entries_without_an_id_are_levels_beside_the_orders() -> None:
    book = book_after(orders=[*SNAPSHOT, (11.0, 10.0, None), (13.0, 1.0, None)])
    assert list(book.asks) == [Level(11.0, 13.0), Level(12.0, 4.0), Level(13.0, 1.0)]
    assert book.asks.order_count == 3
    assert [order.id for order in book.asks.orders_at(11.0)] == ["a", "b", None]
    for change in [(11.0, 6.0, None, "UPDATE"), (11.0, 4.0, None, "SUBTRACT")]:
        book.apply(l3([change]))
    assert book.asks.size_at(11.0) == 5.0
    book.apply(l3([(11.0, 1.0, None, "ADD"), (13.0, 1.0, None, "MATCH"), (14.0, 1.0, None, "ADD")]))
    assert list(book.asks) == [Level(11.0, 6.0), Level(12.0, 4.0), Level(14.0, 1.0)]
    book.apply(l3([(11.0, 0.0, None, "UPDATE")]))
    assert book.asks.size_at(11.0) == 3.0


def test_a_level_without_id_is_removed_or_lessened_by_its_delete() -> None:
    levels = [(11.0, 10.0, None), (11.0, 1.0, "a")]
    assert book_after((11.0, 4.0, None, "DELETE"), orders=levels).best_ask == Level(11.0, 1.0)
    assert book_after((11.0, None, None, "DELETE"), orders=levels).best_ask == Level(11.0, 1.0)
    subtracted = book_after((11.0, 4.0, None, "DELETE"), orders=levels, level_delete="subtract")
    assert subtracted.best_ask == Level(11.0, 7.0)
    subtracted.apply(l3([(11.0, 6.0, None, "DELETE")], sequence=3))
    assert subtracted.best_ask == Level(11.0, 1.0)
    subtracted.apply(l3([(11.0, 0.0, "a", "DELETE")], sequence=4))
    assert subtracted.best_ask is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((11.0, 1.0, "a", "FROZEN"), "an update type that is not known"),
        ((None, 1.0, "a", "UPDATE"), "an order or level without a price"),
        ((None, 1.0, None, "DELETE"), "an order or level without a price"),
        ((11.0, None, "a", "ADD"), "an order or level without a size"),
        ((11.0, None, "a", "MATCH"), "an order or level without a size"),
    ],
)
def test_what_cannot_be_understood_makes_the_book_stale(change: tuple[Any, ...], reason: str) -> None:
    book = book_after()
    assert not book.apply(l3([(12.0, 1.0, "c", "DELETE"), change], sequence=2))
    assert (book.state, book.stale_reason, orders(book)) == (BookState.STALE, reason, SNAPSHOT)


def test_a_delete_that_subtracts_needs_a_size() -> None:
    book = book_after((11.0, None, None, "DELETE"), level_delete="subtract")
    assert (book.state, book.stale_reason) == (BookState.STALE, "an order or level without a size")


def test_floats_are_subtracted_as_the_decimals_they_were() -> None:
    """0.8 - 0.7 - 0.1 leaves 8e-17 in binary: an order of dust at a price where nothing is."""
    book = book_after((11.0, 0.7, "a", "MATCH"), (11.0, 0.1, "a", "MATCH"), orders=[(11.0, 0.8, "a")])
    assert (book.order("a"), book.best_ask) == (None, None)
    changes = [(11.0, size, None, kind) for size, kind in [(0.1, "ADD"), (0.2, "ADD"), (0.3, "SUBTRACT")]]
    assert list(book_after(*changes, orders=()).asks) == []


def test_decimals_stay_exact_whatever_the_context_of_the_program() -> None:
    price, size = Decimal("0.1234567890123456789012345678901"), Decimal("1000000000000.0000000000000000000000000001")
    with decimal.localcontext() as context:
        context.prec = 3
        book = book_after((price, Decimal("1e-28"), "a", "MATCH"), orders=[(price, size, "a"), (price, size, "b")])
    assert book.best_ask == (price, Decimal("2000000000000.0000000000000000000000000001"))
    assert str(book.order("a").size) == "1000000000000.0000000000000000000000000000"  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [L2Book, L3Book])
def test_prices_stay_apart_whatever_the_context_of_the_program(kind: type[L2Book | L3Book]) -> None:
    prices = [Decimal("1.0000000000000000000000000000001"), Decimal("1.0000000000000000000000000000002")]
    book, message = kind(SYMBOL), l2 if kind is L2Book else l3
    with decimal.localcontext() as context:
        context.prec = 3
        for sequence, price in enumerate(prices, 1):
            levels = [(price, Decimal(1), *([f"order {sequence}"] if kind is L3Book else []))]
            book.apply(message(levels, levels, sequence=sequence, is_snapshot=sequence == 1))
    assert [price for price, _ in book.asks] == prices
    assert [price for price, _ in book.bids] == prices[::-1]


def test_what_is_gone_leaves_nothing_behind() -> None:
    book = book_after(orders=())
    for sequence in range(2, 200):
        book.apply(l3([(float(sequence), 1.0, str(sequence), "ADD")], sequence=2 * sequence - 2))
        book.apply(l3([(float(sequence), 1.0, str(sequence), "DELETE")], sequence=2 * sequence - 1))
    side = book.asks
    assert (book.state, len(side._keys), len(side._levels), len(side._queues), len(side._places)) == (
        BookState.LIVE,
        *[0] * 4,
    )


def test_sizes_beyond_every_float_are_no_exception() -> None:
    book = book_after((11.0, 1.7e308, "b", "UPDATE"), orders=[(11.0, 1.7e308, "a")])
    assert (book.best_ask, book.state) == (Level(11.0, float("inf")), BookState.LIVE)


def test_a_snapshot_has_levels_and_orders() -> None:
    book = book_after()
    book.apply(l3(bids=[(10.0, 1.0, "x", "ADD")], sequence=2))
    snapshot, top = book.snapshot(), book.snapshot(depth=1)
    book.apply(l3([(11.0, 1.0, "a", "DELETE")], sequence=3))
    assert snapshot.asks == (Level(11.0, 3.0), Level(12.0, 4.0))
    assert [order[:3] for order in snapshot.ask_orders] == SNAPSHOT
    assert (snapshot.bid_orders, snapshot.sequence) == ((LevelL3(10.0, 1.0, "x", None),), 2)
    assert ([order.id for order in top.ask_orders], len(top.asks)) == (["a", "b"], 1)


def test_a_change_that_is_broken_off_leaves_nothing_that_could_be_trusted() -> None:
    book = book_after()
    with pytest.raises(TypeError):
        book.apply(l3([(12.0, 1.0, "c", "DELETE"), (11.0, "no number", "a", "ADD")], sequence=2))
    assert (book.state, list(book.asks), book.order("a")) == (BookState.EMPTY, [], None)
