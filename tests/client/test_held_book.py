"""A snapshot and the changes after it, against a book that is kept in the plainest way."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from builders import at, book, book_l3
from hypothesis import given
from hypothesis import strategies as st
from naive_books import apply_l2, apply_l3, shown

from coinapi_ws import Book, Level, LevelL3
from coinapi_ws.client.held_book import HeldBook

PRICES = st.sampled_from([1.0, 1.5, 2.0, 100.25])
SIZES = st.sampled_from([0.0, 0.5, 1.0, 3.0])
KINDS = st.sampled_from([float, lambda number: Decimal(str(number))])
UPDATES = st.sampled_from(["ADD", "UPDATE", "SET", "SUBTRACT", "SUB", "MATCH", "DELETE", None])
IDS = st.sampled_from([None, "a", "b", "c"])

SIDES = st.lists(st.tuples(PRICES, SIZES), max_size=6)
SIDES_L3 = st.lists(st.tuples(PRICES, SIZES, IDS, UPDATES), max_size=6)


def snapshot_sides(side: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """A side as a snapshot has it: no sizes of 0, no updates, each level and order once."""
    unique = {(row[2] if len(row) > 2 else None) or row[0]: row for row in side if row[1]}
    return [row if len(row) == 2 else (*row[:3], None) for row in unique.values()]


@given(kind=KINDS, asks=SIDES, bids=SIDES, changes=st.lists(st.tuples(SIDES, SIDES), max_size=8))
def test_an_l2_book_is_what_its_changes_make_of_it(kind: Any, asks: Any, bids: Any, changes: list[Any]) -> None:
    def of_kind(side: Any) -> Any:
        return [(kind(price), kind(size)) for price, size in side]

    asks, bids = of_kind(snapshot_sides(asks)), of_kind(snapshot_sides(bids))
    held = HeldBook(book(0, *asks, bids=bids, is_snapshot=True))
    expected: dict[str, dict[Any, Any]] = {"asks": dict(asks), "bids": dict(bids)}
    for moment, (ask_changes, bid_changes) in enumerate(changes, 1):
        ask_changes, bid_changes = of_kind(ask_changes), of_kind(bid_changes)
        held.change(book(moment, *ask_changes, bids=bid_changes, sequence=moment, is_snapshot=False))
        apply_l2(expected["asks"], ask_changes)
        apply_l2(expected["bids"], bid_changes)
        assert held.latest.sequence == moment
    assert shown(held.as_snapshot()) == expected


@given(kind=KINDS, asks=SIDES_L3, changes=st.lists(SIDES_L3, max_size=8))
def test_an_l3_book_is_what_its_changes_make_of_it(kind: Any, asks: Any, changes: list[Any]) -> None:
    def of_kind(side: Any) -> Any:
        # What ADD does to a level without an id is in tests/books/test_l3.py; its DELETE is not for us to read.
        rows = [row for row in side if row[2:] not in ((None, "ADD"), (None, "DELETE"))]
        return [(kind(price), kind(size), *others) for price, size, *others in rows]

    asks = of_kind(snapshot_sides(asks))
    held = HeldBook(book_l3(0, *asks, is_snapshot=True))
    expected: dict[Any, Any] = {order_id or price: (price, size) for price, size, order_id, _ in asks}
    for moment, side in enumerate(map(of_kind, changes), 1):
        held.change(book_l3(moment, *side))
        apply_l3(expected, side)
    snapshot = held.as_snapshot()
    assert shown(snapshot) == {"asks": expected, "bids": {}}
    assert {level.update_type for level in snapshot.asks} <= {None}  # type: ignore[union-attr]


def test_a_snapshot_alone_is_given_as_it_came() -> None:
    snapshot = book(1, (2.0, 1.0), is_snapshot=True, sequence=5)
    held = HeldBook(snapshot)
    assert held.latest is snapshot
    assert held.as_snapshot() is snapshot


def test_what_comes_of_changes_has_the_times_and_the_sequence_of_the_latest() -> None:
    held = HeldBook(book(1, (2.0, 1.0), bids=((1.0, 4.0),), is_snapshot=True, sequence=5))
    latest = Book(
        symbol_id="X", time_exchange=at(8), time_coinapi=at(9), sequence=6, received_ns=7, asks=[Level(3.0, 1.0)]
    )
    held.change(latest)
    made = held.as_snapshot()
    assert made == Book(
        symbol_id="X",
        time_exchange=at(8),
        time_coinapi=at(9),
        sequence=6,
        is_snapshot=True,
        asks=[Level(2.0, 1.0), Level(3.0, 1.0)],
        bids=[Level(1.0, 4.0)],
    )
    assert made.received_ns == 7
    assert held.latest is latest


def test_another_snapshot_begins_anew() -> None:
    held = HeldBook(book(1, (2.0, 1.0), bids=((1.0, 1.0),), is_snapshot=True))
    held.change(book(2, (3.0, 1.0)))
    again = book(3, (5.0, 1.0), is_snapshot=True)
    held.change(again)
    assert held.as_snapshot() is again
    held.change(book(4, bids=((4.0, 2.0),)))
    assert shown(held.as_snapshot()) == {"asks": {5.0: 1.0}, "bids": {4.0: 2.0}}


def test_giving_the_snapshot_does_not_end_it() -> None:
    held = HeldBook(book(1, (2.0, 1.0), is_snapshot=True))
    held.change(book(2, (3.0, 1.0)))
    first = held.as_snapshot()
    held.change(book(3, (2.0, 0.0)))
    assert shown(first)["asks"] == {2.0: 1.0, 3.0: 1.0}
    assert shown(held.as_snapshot())["asks"] == {3.0: 1.0}


def test_an_order_and_a_level_may_have_the_same_price() -> None:
    held = HeldBook(book_l3(1, (2.0, 1.0, "2.0", None), (2.0, 5.0, None, None), is_snapshot=True))
    held.change(book_l3(2, (2.0, 3.0, None, "SUBTRACT")))
    assert held.as_snapshot().asks == (LevelL3(2.0, 1.0, "2.0", None), LevelL3(2.0, 2.0, None, None))
    held.change(book_l3(3, (2.0, None, "2.0", "DELETE")))
    assert held.as_snapshot().asks == (LevelL3(2.0, 2.0, None, None),)


@pytest.mark.parametrize("size", [None, 1.0, 5.0])
def test_a_level_that_is_deleted_may_be_gone_or_smaller(size: float | None) -> None:
    held = HeldBook(book_l3(1, (2.0, 5.0, None, None), is_snapshot=True))
    held.change(book_l3(2, (2.0, size, None, "DELETE")))
    assert not held.is_whole


def test_an_order_that_moves_has_one_place() -> None:
    held = HeldBook(book_l3(1, (2.0, 1.0, "a", None), is_snapshot=True))
    held.change(book_l3(2, (3.0, 1.0, "a", "UPDATE")))
    assert held.as_snapshot().asks == (LevelL3(3.0, 1.0, "a", None),)


@pytest.mark.parametrize("update", ["SUBTRACT", "SUB", "MATCH"])
@pytest.mark.parametrize(("size", "left"), [(0.5, 0.5), (1.0, None), (2.0, None)])
def test_what_is_subtracted_leaves_the_rest_or_nothing(update: str, size: float, left: float | None) -> None:
    held = HeldBook(book_l3(1, (2.0, 1.0, "a", None), is_snapshot=True))
    held.change(book_l3(2, (9.0, size, "a", update), (2.0, 1.0, "unknown", update)))
    assert held.as_snapshot().asks == (() if left is None else (LevelL3(2.0, left, "a", None),))


@pytest.mark.parametrize("change", [(2.0, 7.0, "a", "REPRICE"), (2.0, None, "a", "MATCH"), (None, 1.0, "b", "ADD")])
def test_what_cannot_be_understood_is_said(change: tuple[Any, Any, Any, Any]) -> None:
    held = HeldBook(book_l3(1, (2.0, 1.0, "a", None), is_snapshot=True))
    assert held.is_whole
    held.change(book_l3(2, (2.0, 7.0, "b", "ADD"), change))
    assert not held.is_whole
    held.change(book_l3(3, (2.0, 1.0, "a", None), is_snapshot=True))
    assert held.is_whole
    assert not HeldBook(book(1, (None, 1.0), is_snapshot=True)).is_whole
