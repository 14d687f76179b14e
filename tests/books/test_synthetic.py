"""The simulator's own market: what its L3 says, what its L2 says, and what the market itself holds agree."""

from __future__ import annotations

from typing import Final

import pytest
from book_messages import market_messages

from coinapi_ws import Book, BookL3, Level
from coinapi_ws.books import BookState, L2Book, L3Book, Side

SECONDS: Final = 30
SYMBOL: Final = "COINBASE_SPOT_BTC_USD"


def test_the_levels_of_its_l3_are_its_l2_after_every_update() -> None:
    l2, l3, compared = L2Book(SYMBOL), L3Book(SYMBOL), 0
    for message in market_messages({"book", "book_l3"}, SECONDS):
        if getattr(message, "symbol_id", None) != SYMBOL:
            continue
        if isinstance(message, Book):
            assert l2.apply(message)
        elif isinstance(message, BookL3):
            assert l3.apply(message)
        # The market publishes the change of the L2 before that of the L3.
        if l2.sequence == l3.sequence:
            compared += 1
            assert list(l3.asks) == list(l2.asks)
            assert list(l3.bids) == list(l2.bids)
    assert compared > 200
    assert l2.state is l3.state is BookState.LIVE
    assert not l2.is_crossed


def test_with_floats_the_levels_of_its_l3_are_its_l2_up_to_float() -> None:
    l2, l3 = L2Book(SYMBOL), L3Book(SYMBOL)
    for message in market_messages({"book", "book_l3"}, SECONDS, numbers="float"):
        if getattr(message, "symbol_id", None) == SYMBOL:
            (l2 if isinstance(message, Book) else l3).apply(message)  # type: ignore[attr-defined]
    for side, other in ((l3.asks, l2.asks), (l3.bids, l2.bids)):
        assert [level.price for level in side] == [level.price for level in other]
        assert [level.size for level in side] == pytest.approx([level.size for level in other], rel=1e-12)


def test_book5_and_book20_are_the_best_of_its_book() -> None:
    books = {name: L2Book(SYMBOL, type=name) for name in ("book", "book5", "book20")}
    compared = 0

    def top(side: Side, depth: int) -> list[Level]:
        return list(side.depth(depth))

    for message in market_messages({"book", "book5", "book20"}, SECONDS):
        if not isinstance(message, Book) or message.symbol_id != SYMBOL:
            continue
        assert books[message.type].apply(message)
        if message.type in ("book5", "book20"):
            compared += 1
            depth = int(message.type.removeprefix("book"))
            assert top(books[message.type].asks, 100) == top(books["book"].asks, depth)
            assert top(books[message.type].bids, 100) == top(books["book"].bids, depth)
    assert compared > 200
