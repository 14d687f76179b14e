"""When a book is to be trusted, and what it shows meanwhile; the same rules for L2 and L3."""

from __future__ import annotations

from typing import Any

import pytest
from book_messages import SYMBOL, l2, l3

from coinapi_ws import Book, Level, SequenceGap
from coinapi_ws.books import BookState, L2Book, L3Book
from coinapi_ws.exceptions import ConfigurationError, UsageError

EMPTY, LIVE, STALE = BookState.EMPTY, BookState.LIVE, BookState.STALE


def live_book() -> L2Book:
    book = L2Book(SYMBOL)
    assert book.apply(l2([(11.0, 1.0), (12.0, 2.0)], [(10.0, 3.0)], sequence=7, is_snapshot=True))
    return book


def test_a_new_book_is_empty() -> None:
    book = L2Book(SYMBOL)
    assert (book.state, book.sequence, book.updated_ns, book.held_back) == (EMPTY, None, None, 0)
    assert (list(book.asks), book.best_ask, book.best_bid) == ([], None, None)


@pytest.mark.parametrize("is_snapshot", [False, None])
def test_changes_before_the_snapshot_are_held_back_and_counted(is_snapshot: bool | None) -> None:
    book = L2Book(SYMBOL)
    for sequence in (1, 2):
        assert not book.apply(l2([(11.0, 1.0)], sequence=sequence, is_snapshot=is_snapshot))
    assert (book.state, len(book.asks), book.sequence, book.held_back) == (EMPTY, 0, None, 2)
    assert book.apply(l2([(12.0, 1.0)], sequence=3, is_snapshot=True))
    assert (book.state, book.best_ask, book.held_back) == (LIVE, Level(12.0, 1.0), 2)


def test_a_change_that_follows_is_applied() -> None:
    book = live_book()
    assert book.apply(l2([(11.0, 0.0)], [(10.5, 1.0)], sequence=8))
    assert (book.best_ask, book.best_bid) == (Level(12.0, 2.0), Level(10.5, 1.0))
    assert (book.state, book.sequence, book.stale_reason) == (LIVE, 8, None)


@pytest.mark.parametrize("sequence", [6, 7, 9])
def test_a_sequence_that_does_not_follow_makes_it_stale_and_leaves_it_as_it_was(sequence: int) -> None:
    book = live_book()
    before = book.snapshot()
    assert not book.apply(l2([(11.0, 0.0)], sequence=sequence))
    assert (book.state, book.held_back) == (STALE, 1)
    assert book.stale_reason == f"sequence {sequence} came where 8 was expected"
    after = book.snapshot()
    assert (after.asks, after.bids, after.sequence) == (before.asks, before.bids, 7)


def test_a_stale_book_takes_no_change_even_where_the_sequence_fits() -> None:
    book = live_book()
    book.make_stale("so")
    assert not book.apply(l2([(11.0, 0.0)], sequence=8))
    assert (book.state, book.stale_reason, book.held_back, len(book.asks)) == (STALE, "so", 1, 2)


@pytest.mark.parametrize("sequence", [1, 7, 8, 100, None])
def test_a_snapshot_replaces_everything_and_makes_it_live(sequence: int | None) -> None:
    for book in (live_book(), stale := live_book()):
        stale.make_stale("so")
        assert book.apply(l2([(20.0, 1.0)], [(19.0, 0.0)], sequence=sequence, is_snapshot=True))
        assert (book.state, book.stale_reason, book.sequence) == (LIVE, None, sequence)
        assert (list(book.asks), list(book.bids)) == ([Level(20.0, 1.0)], [])


def test_without_sequences_every_change_is_taken() -> None:
    book = live_book()
    assert book.apply(l2([(13.0, 1.0)], sequence=None))
    assert book.apply(l2([(14.0, 1.0)], sequence=30))
    assert (book.state, book.sequence, len(book.asks)) == (LIVE, 30, 4)


def test_a_gap_makes_it_stale() -> None:
    book = live_book()
    assert not book.apply(SequenceGap(type="book", symbol_id=SYMBOL, expected=8, received=12))
    assert (book.state, book.stale_reason) == (STALE, "sequence 12 came where 8 was expected")


def test_an_empty_book_does_not_become_stale() -> None:
    book = L2Book(SYMBOL)
    book.make_stale("so")
    book.apply(SequenceGap(type="book", symbol_id=SYMBOL, expected=8, received=12))
    assert (book.state, book.stale_reason) == (EMPTY, None)


def test_the_first_reason_stays() -> None:
    book = live_book()
    book.make_stale("first")
    book.make_stale("second")
    assert book.stale_reason == "first"


@pytest.mark.parametrize("level", [(None, 1.0), (11.0, None)])
def test_what_cannot_be_understood_is_applied_not_even_in_part(level: tuple[Any, Any]) -> None:
    book = live_book()
    assert not book.apply(l2([(11.0, 0.0)], [(9.0, 1.0), level], sequence=8))
    assert (book.state, book.stale_reason) == (STALE, "a level without price or size")
    assert (len(book.asks), len(book.bids), book.sequence) == (2, 1, 7)


def test_a_snapshot_that_cannot_be_understood_is_none() -> None:
    broken = l2([(11.0, 1.0), (None, 1.0)], sequence=9, is_snapshot=True)
    book = live_book()
    assert not book.apply(broken)
    assert (book.state, len(book.asks)) == (STALE, 2)
    book = L2Book(SYMBOL)
    assert not book.apply(broken)
    assert (book.state, book.held_back) == (EMPTY, 1)


def test_clearing_begins_anew() -> None:
    book = live_book()
    book.apply(l2([(11.0, 0.0)], sequence=9))
    book.clear()
    assert (book.state, book.sequence, book.updated_ns, book.stale_reason) == (EMPTY, None, None, None)
    assert (len(book.asks), len(book.bids), book.held_back) == (0, 0, 1)
    assert not book.apply(l2([(11.0, 1.0)], sequence=1))
    assert book.apply(l2([(11.0, 1.0)], sequence=2, is_snapshot=True))


@pytest.mark.parametrize("fields", [{"symbol_id": "ANOTHER"}, {"type": "book20"}, {"symbol_id": None}])
def test_what_belongs_to_another_book_is_refused(fields: dict[str, Any]) -> None:
    book = live_book()
    with pytest.raises(UsageError, match="does not belong into the book X_SPOT_A_B"):
        book.apply(Book(**{"symbol_id": SYMBOL, "type": "book", "sequence": 8, **fields}))
    assert book.state is LIVE


def test_of_a_type_of_whole_books_each_message_is_the_book() -> None:
    book = L2Book(SYMBOL, type="book5")
    for sequence, price in ((1, 11.0), (2, 12.0), (5, 13.0)):
        assert book.apply(l2([(price, 1.0)], sequence=sequence, is_snapshot=None, type="book5"))
        assert (book.state, list(book.asks)) == (LIVE, [Level(price, 1.0)])


def test_the_time_is_that_of_the_last_message_it_took() -> None:
    book = L2Book(SYMBOL)
    book.apply(l2(is_snapshot=True, sequence=1, time_coinapi="1970-01-01T00:00:01.0000001Z", received_ns=5))
    assert book.updated_ns == 1_000_000_100
    book.apply(l2(sequence=3, time_coinapi="1970-01-01T00:00:02Z"))
    assert book.updated_ns == 1_000_000_100
    book.apply(l2(is_snapshot=True, sequence=4, received_ns=5))
    assert book.updated_ns == 5


def test_a_crossed_book_is_told_and_not_repaired() -> None:
    book = live_book()
    assert (book.is_crossed, book.is_locked) == (False, False)
    book.apply(l2(bids=[(11.0, 1.0)], sequence=8))
    assert (book.is_crossed, book.is_locked) == (False, True)
    book.apply(l2(bids=[(11.5, 1.0)], sequence=9))
    assert (book.is_crossed, book.is_locked) == (True, False)
    assert (len(book.asks), len(book.bids), book.state) == (2, 3, LIVE)
    snapshot = book.snapshot()
    assert (snapshot.is_crossed, snapshot.is_locked) == (True, False)


def test_a_book_with_one_side_is_neither_crossed_nor_locked() -> None:
    book = live_book()
    book.apply(l2(bids=[(10.0, 0.0)], sequence=8))
    assert (book.best_bid, book.is_crossed, book.is_locked) == (None, False, False)


def test_a_snapshot_stays_when_the_book_goes_on() -> None:
    book = live_book()
    snapshot, top = book.snapshot(), book.snapshot(depth=1)
    book.apply(l2([(11.0, 0.0)], [(10.0, 0.0)], sequence=8))
    book.make_stale("so")
    assert (snapshot.state, snapshot.sequence, snapshot.type, snapshot.symbol_id) == (LIVE, 7, "book", SYMBOL)
    assert (snapshot.asks, snapshot.bids) == ((Level(11.0, 1.0), Level(12.0, 2.0)), (Level(10.0, 3.0),))
    assert (snapshot.best_ask, snapshot.best_bid) == (Level(11.0, 1.0), Level(10.0, 3.0))
    assert top.asks == (Level(11.0, 1.0),)
    assert book.snapshot().best_bid is None
    with pytest.raises(AttributeError):
        snapshot.sequence = 8  # type: ignore[misc]


def test_a_book_tells_what_it_is() -> None:
    assert repr(live_book()) == "<book X_SPOT_A_B LIVE: 2 asks, 1 bids, sequence 7>"
    assert repr(live_book().asks) == "<asks: 2 levels, best Level(price=11.0, size=1.0)>"


def test_an_l3_book_follows_the_same_rules() -> None:
    book = L3Book(SYMBOL)
    assert not book.apply(l3([(11.0, 1.0, "a", "ADD")], sequence=1))
    assert book.apply(l3([(11.0, 1.0, "a")], [(10.0, 1.0, "b")], sequence=2, is_snapshot=True))
    assert book.apply(l3([(11.0, 1.0, "c", "ADD")], sequence=3))
    assert not book.apply(l3([(11.0, 1.0, "d", "ADD")], sequence=5))
    assert (book.state, book.sequence, book.held_back) == (STALE, 3, 2)
    assert [order.id for order in book.asks.orders()] == ["a", "c"]
    book.clear()
    assert (book.state, len(book.asks), book.order("a"), book.asks.order_count) == (EMPTY, 0, None, 0)
    with pytest.raises(UsageError):
        book.apply(SequenceGap(type="book", symbol_id=SYMBOL, expected=1, received=2))


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="book5"):
        L2Book(SYMBOL, type="book_l3")
    with pytest.raises(ConfigurationError, match="subtract"):
        L3Book(SYMBOL, level_delete="ask")
