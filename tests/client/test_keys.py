"""What makes two messages updates of the same thing, and when they happened."""

from __future__ import annotations

from typing import Any

import pytest
from builders import ADA, BTC, asset, at, book, book5, book_l3, candle, heartbeat, ns, quote, rate, trade, undecodable

from coinapi_ws import ErrorMessage, Live, Message, Quote, ReconnectNotice, Trade, UnknownMessage
from coinapi_ws.client.keys import is_market_data, key_of, time_ns_of, time_text_of


@pytest.mark.parametrize("item", [trade(), book(1), rate(1), asset(), UnknownMessage(type="new")])
def test_what_the_scope_asked_for_is_market_data(item: Message) -> None:
    assert is_market_data(item)


@pytest.mark.parametrize(
    "item", [heartbeat(), ErrorMessage(message="x"), ReconnectNotice(), undecodable(), Live(received_ns=0), None]
)
def test_the_conversations_own_is_not(item: object) -> None:
    assert not is_market_data(item)


def test_things_have_keys_of_their_own() -> None:
    different = [
        trade(1),
        trade(1, ADA),
        quote(1),
        book(1),
        book5(1),
        book_l3(1),
        candle(1, start=0),
        candle(1, start=0, period_id="1HRS"),
        candle(1, start=0, symbol_id=ADA),
        rate(1),
        rate(1, "ADA"),
        rate(1, rate_type="SPOT"),
        asset(),
    ]
    assert len({key_of(message) for message in different}) == len(different)


@pytest.mark.parametrize(
    "make", [trade, quote, book, book5, book_l3, rate, lambda moment: candle(moment, start=moment)]
)
def test_updates_of_a_thing_have_the_same_key(make: Any) -> None:
    assert key_of(make(1)) == key_of(make(2))


def test_a_books_key_is_the_pair_that_events_name() -> None:
    assert key_of(book(1)) == ("book", BTC)
    assert key_of(book_l3(1)) == ("book_l3", BTC)


def test_the_time_is_time_coinapi_or_that_of_a_rate() -> None:
    assert time_text_of(trade(5)) == time_text_of(rate(5)) == at(5)
    assert time_ns_of(trade(5)) == time_ns_of(rate(5)) == ns(5)
    assert time_text_of(Trade(time_exchange=at(5))) is None


@pytest.mark.parametrize("text", [None, "", "soon"])
def test_without_a_time_that_can_be_read_it_is_when_it_was_received(text: str | None) -> None:
    assert time_ns_of(Quote(time_coinapi=text, received_ns=7)) == 7
