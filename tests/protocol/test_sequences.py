"""Gaps per (type, symbol_id), and which books have had a snapshot."""

from __future__ import annotations

import pytest

from coinapi_ws.events import SequenceGap
from coinapi_ws.messages import Book, BookL3, ExchangeRate, Heartbeat, Message, Ohlcv, Quote, Trade
from coinapi_ws.protocol.sequences import Sequences
from coinapi_ws.scope import Scope
from coinapi_ws.subscription import Subscription

A, B = "X_SPOT_A_USD", "X_SPOT_B_USD"


def book(
    sequence: int | None, symbol_id: str = A, *, type_name: str = "book", is_snapshot: bool | None = None
) -> Message:
    kind = BookL3 if type_name == "book_l3" else Book
    return kind(type=type_name, symbol_id=symbol_id, sequence=sequence, is_snapshot=is_snapshot)


def scope(*symbol_ids: str, types: tuple[str, ...] = ("book",)) -> Scope:
    return Scope(Subscription(types, symbol_ids=[f"{symbol_id}$" for symbol_id in symbol_ids]))


def gaps(*messages: Message) -> list[tuple[int, int]]:
    sequences = Sequences()
    found = [sequences.observe(message) for message in messages]
    return [(gap.expected, gap.received) for gap in found if gap is not None]


def test_the_first_sequence_is_the_base() -> None:
    assert gaps(book(2323346), book(2323347), book(2323348)) == []


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        ([1, 3], [(2, 3)]),
        ([5, 5], [(6, 5)]),
        ([5, 3, 4], [(6, 3)]),
        ([5, 1, 2], [(6, 1)]),
        ([1, 3, 5, 6], [(2, 3), (4, 5)]),
        ([0, 1], []),
    ],
)
@pytest.mark.parametrize("type_name", ["book", "book_l3"])
def test_jumps_in_books_are_gaps(received: list[int], expected: list[tuple[int, int]], type_name: str) -> None:
    assert gaps(*(book(sequence, type_name=type_name) for sequence in received)) == expected


def test_a_gap_says_where() -> None:
    sequences = Sequences()
    sequences.observe(book(1))
    assert sequences.observe(book(4)) == SequenceGap(type="book", symbol_id=A, expected=2, received=4)


def test_pairs_are_apart() -> None:
    messages = [book(1), book(7, B), book(3, type_name="book_l3"), book(2), book(8, B), book(4, type_name="book_l3")]
    assert gaps(*messages) == []


@pytest.mark.parametrize("kind", [Trade, Quote, Ohlcv])
def test_jumps_of_others_are_counted(kind: type[Message]) -> None:
    sequences = Sequences()
    for sequence in (1, 3, 9, 10):
        assert sequences.observe(kind(symbol_id=A, sequence=sequence)) is None
    assert sequences.jumps == {(kind.wire_names[0], A): 2}


@pytest.mark.parametrize("type_name", ["book5", "book20", "book50"])
def test_jumps_of_whole_books_are_counted(type_name: str) -> None:
    sequences = Sequences()
    assert [sequences.observe(book(sequence, type_name=type_name)) for sequence in (1, 5)] == [None, None]
    assert sequences.jumps == {(type_name, A): 1}


@pytest.mark.parametrize("kind", [Trade, Quote, Ohlcv, Book])
def test_jumps_of_all_are_gaps_where_that_is_asked_for(kind: type[Message]) -> None:
    sequences = Sequences(reports_all=True)
    assert sequences.observe(kind(symbol_id=A, sequence=1)) is None
    told = sequences.observe(kind(symbol_id=A, sequence=3))
    assert told == SequenceGap(type=kind.wire_names[0], symbol_id=A, expected=2, received=3)
    assert sequences.observe(kind(symbol_id=A, sequence=4)) is None
    assert sequences.jumps == {(kind.wire_names[0], A): 1}


@pytest.mark.parametrize("message", [Heartbeat(), ExchangeRate(rate=1.0), Trade(sequence=3), Trade(symbol_id=A)])
def test_messages_without_a_pair_or_a_sequence(message: Message) -> None:
    sequences = Sequences()
    assert [sequences.observe(message) for _ in range(2)] == [None, None]
    assert sequences.jumps == {}


def test_a_pair_that_left_the_scope_may_begin_again_at_1_once() -> None:
    sequences = Sequences()
    sequences.observe(book(7))
    sequences.scope_changed(scope(B))
    sequences.scope_changed(scope(A))
    assert sequences.observe(book(8)) is None, "of the old scope, still on its way"
    assert sequences.observe(book(1)) is None
    assert sequences.observe(book(2)) is None
    assert sequences.observe(book(1)) is not None


def test_a_pair_may_have_left_and_come_back_before_its_first_message_was_read() -> None:
    sequences = Sequences()
    sequences.scope_changed(scope(B))
    sequences.scope_changed(scope(A))
    assert sequences.observe(book(1)) is None
    assert sequences.observe(book(2)) is None
    assert sequences.observe(book(1)) is None, "the second time in scope"
    assert sequences.observe(book(3)) is not None
    assert sequences.observe(book(1)) is not None


def test_a_pair_that_no_change_concerned_may_not_begin_again() -> None:
    sequences = Sequences()
    sequences.scope_changed(scope(A, B))
    assert sequences.observe(book(1)) is None
    assert sequences.observe(book(2)) is None
    assert sequences.observe(book(1)) is not None


def test_a_pair_that_left_may_not_begin_elsewhere() -> None:
    sequences = Sequences()
    sequences.observe(book(7))
    sequences.scope_changed(scope(B))
    assert sequences.observe(book(5)) is not None


def test_a_pair_that_stayed_may_not_begin_again() -> None:
    sequences = Sequences()
    sequences.observe(book(7))
    sequences.scope_changed(scope(A, B))
    assert sequences.observe(book(1)) is not None


@pytest.mark.parametrize("type_name", ["book", "book_l3"])
def test_a_book_is_no_snapshot_once_its_symbol_had_one(type_name: str) -> None:
    sequences = Sequences()
    seen = []
    for message in (
        book(1, type_name=type_name),
        book(2, type_name=type_name, is_snapshot=True),
        book(3, type_name=type_name),
        book(4, B, type_name=type_name),
        book(None, type_name=type_name),
    ):
        sequences.observe(message)
        seen.append(message.is_snapshot)  # type: ignore[attr-defined]
    assert seen == [None, True, False, None, False]


def test_a_whole_book_is_always_a_snapshot() -> None:
    sequences = Sequences()
    for sequence in (1, 2):
        message = book(sequence, type_name="book20")
        sequences.observe(message)
        assert message.is_snapshot is True  # type: ignore[attr-defined]


@pytest.mark.parametrize("first", [1, None])
def test_a_book_that_left_the_scope_needs_a_new_snapshot(first: int | None) -> None:
    sequences = Sequences()
    for symbol_id in (A, B):
        sequences.observe(book(first, symbol_id, is_snapshot=True))
    sequences.scope_changed(scope(B))
    seen = [book(first and 2, A), book(first and 2, B)]
    for message in seen:
        sequences.observe(message)
    assert [message.is_snapshot for message in seen] == [None, False]  # type: ignore[attr-defined]


def test_two_renewals_before_anything_is_read_let_a_book_begin_again_twice() -> None:
    sequences = Sequences()
    assert sequences.observe(book(7)) is None
    for _ in range(2):
        sequences.scope_changed(scope(B))
    received = [8, 1, 2, 3, 1, 2]
    assert [sequences.observe(book(sequence)) for sequence in received] == [None] * 6
    assert sequences.observe(book(1)) is not None
