"""The books of a recorded exchange feed, against a file that was computed independently."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from coinapi_ws import Book, Level, Trade
from coinapi_ws.books import BookState, L2Book, Side, Trades
from coinapi_ws.decoding import Decoder
from coinapi_ws.recording import read_recording


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "recordings" / "coinbase_2021-04-17.golden.json").read_text())["symbols"]  # type: ignore[no-any-return]


@lru_cache
def books_of(shared: Path, numbers: str) -> dict[str, L2Book]:
    decoder, books = Decoder(numbers), dict[str, L2Book]()
    for frame in read_recording(shared / "recordings" / "coinbase_2021-04-17.jsonl.gz"):
        message = decoder.decode(frame.frame, frame.received_ns)
        if isinstance(message, Book):
            assert message.symbol_id is not None
            book = books.setdefault(message.symbol_id, L2Book(message.symbol_id))
            assert book.apply(message)
            assert book.state is BookState.LIVE
    return books


def summary(book: L2Book, number: Callable[[Any], Any]) -> dict[str, Any]:
    def total(side: Side) -> Any:
        return number(sum(level.size for level in side))  # type: ignore[misc]

    def top(side: Side) -> list[list[Any]]:
        return [[number(price), number(size)] for price, size in side.depth(10)]

    return {
        "ask_levels": len(book.asks),
        "bid_levels": len(book.bids),
        "best_asks": top(book.asks),
        "best_bids": top(book.bids),
        "ask_size": total(book.asks),
        "bid_size": total(book.bids),
        "book_sequence": book.sequence,
    }


def test_the_final_books_equal_the_golden_file_digit_for_digit(shared: Path, golden: dict[str, Any]) -> None:
    books = books_of(shared, "decimal")
    assert len(books) == 10
    assert books.keys() == golden.keys()
    for symbol_id, book in books.items():
        expected = {name: value for name, value in golden[symbol_id].items() if not name.startswith("trade")}
        assert summary(book, str) == expected


def test_with_floats_they_are_equal_up_to_float(shared: Path, golden: dict[str, Any]) -> None:
    for symbol_id, book in books_of(shared, "float").items():
        found, expected = summary(book, float), golden[symbol_id]
        for side in ("best_asks", "best_bids"):
            assert found[side] == [[float(price), float(size)] for price, size in expected[side]]
        for name in ("ask_levels", "bid_levels", "book_sequence"):
            assert found[name] == expected[name]
        for name in ("ask_size", "bid_size"):
            assert found[name] == pytest.approx(float(expected[name]), rel=1e-12)


def test_both_kinds_of_numbers_give_the_same_books(shared: Path) -> None:
    exact, fast = books_of(shared, "decimal"), books_of(shared, "float")
    for symbol_id, book in exact.items():
        for side, other in ((book.asks, fast[symbol_id].asks), (book.bids, fast[symbol_id].bids)):
            assert [Level(float(price), float(size)) for price, size in side] == list(other)  # type: ignore[arg-type]


def test_a_delta_that_is_missing_is_noticed(shared: Path) -> None:
    """So that the LIVE above means something."""
    decoder, state = Decoder(), set()
    book = L2Book("COINBASE_SPOT_BAND_GBP")
    for frame in read_recording(shared / "recordings" / "coinbase_2021-04-17.jsonl.gz"):
        message = decoder.decode(frame.frame)
        if isinstance(message, Book) and message.symbol_id == book.symbol_id and message.sequence != 50:
            book.apply(message)
            state.add((book.state, book.sequence))
    assert (BookState.STALE, 49) in state
    assert book.state is BookState.STALE
    assert book.held_back > 0


def test_its_trades_are_there_once_and_add_up(shared: Path, golden: dict[str, Any]) -> None:
    decoder, trades, traded = Decoder("decimal"), Trades(), dict[str, Decimal]()
    for frame in read_recording(shared / "recordings" / "coinbase_2021-04-17.jsonl.gz"):
        message = decoder.decode(frame.frame)
        if isinstance(message, Trade) and (checked := trades.feed(message)) is not None:
            assert not checked.is_marker
            symbol_id, size = message.symbol_id, message.size
            traded[symbol_id] = traded.get(symbol_id, Decimal(0)) + size  # type: ignore[index, arg-type, operator]
    assert {s: str(size) for s, size in traded.items()} == {s: g["traded"] for s, g in golden.items() if g["trades"]}
