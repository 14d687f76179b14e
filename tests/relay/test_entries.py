"""Entries of streams: what a reader makes of them is what the client would have made of the frames."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_entries import BTC, book, trade

from coinapi_ws import (
    Book,
    ConnectionGap,
    Dropped,
    Ohlcv,
    Scope,
    SequenceGap,
    Subscription,
    Trade,
    Undecodable,
    UnknownMessage,
)
from coinapi_ws.decoding import Decoder
from coinapi_ws.relay import Entry, EntryDecoder
from coinapi_ws.relay.entries import gap_of, gap_text
from coinapi_ws.relay.relay import symbol_of

TEXTS = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["symbol_id", "type", "x"]), inner),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from(["symbol_id", "sequence", "type", "x", "y"]), VALUES)


def test_messages_are_those_of_the_client() -> None:
    decoder = EntryDecoder("decimal")
    for text in (trade(7), '{"type":"new","x":1}', '{"type":"ohlcv","symbol_id":"X","price_open":1.50}', "no JSON"):
        assert decoder.decode("c", Entry(5, text)) == [Decoder("decimal").decode(text, 5)]


@pytest.mark.parametrize(("text", "kind"), [(trade(7), Trade), ("[", Undecodable), ('{"type":"new"}', UnknownMessage)])
def test_each_entry_gives_its_kind(text: str, kind: type) -> None:
    (item,) = EntryDecoder().decode("c", Entry(5, text))
    assert isinstance(item, kind)


def test_a_jump_within_a_connection_is_a_gap_and_between_two_it_is_none() -> None:
    decoder = EntryDecoder()
    items = [item for number in (1, 2, 4) for item in decoder.decode("one", Entry(5, book(number)))]
    assert [item for item in items if isinstance(item, SequenceGap)] == [
        SequenceGap(type="book", symbol_id=BTC, expected=3, received=4)
    ]
    assert len(decoder.decode("two", Entry(5, book(1, is_snapshot=True)))) == 1
    assert len(decoder.decode("one", Entry(5, book(5)))) == 1
    assert len(decoder.decode("two", Entry(5, book(3)))) == 2


def test_a_sequence_that_is_at_1_again_is_a_change_of_the_scope_and_no_gap() -> None:
    decoder = EntryDecoder(all_sequence_gaps=True)
    texts = [book(7, is_snapshot=True), trade(5), book(1, is_snapshot=True), trade(1), book(2), trade(2)]
    assert [type(item) for text in texts for item in decoder.decode("c", Entry(5, text))] == [Book, Trade] * 3
    (gap, _) = decoder.decode("c", Entry(5, book(4)))
    assert gap == SequenceGap(type="book", symbol_id=BTC, expected=3, received=4)


def test_jumps_of_other_types_are_gaps_on_demand() -> None:
    for wanted in (False, True):
        decoder = EntryDecoder(all_sequence_gaps=wanted)
        decoder.decode("c", Entry(5, trade(1)))
        assert len(decoder.decode("c", Entry(5, trade(3)))) == 1 + wanted


def test_of_connections_that_ended_long_ago_nothing_is_kept() -> None:
    decoder = EntryDecoder()
    for number in range(1100):
        decoder.decode(f"c{number}", Entry(5, trade(1)))
    assert len(decoder._readers) == 1000


def test_raw_texts_are_kept_on_demand() -> None:
    (message,) = EntryDecoder(keep_raw=True).decode("c", Entry(5, trade(1)))
    assert isinstance(message, Trade)
    assert message.raw == trade(1)


def test_gaps_come_through_unchanged() -> None:
    scope = Scope(
        Subscription(["trade", "ohlcv"], symbol_ids=["X$"], period_ids=["1MIN"]),
        Subscription(["quote"], symbol_ids=["Y_"], limit_ms_quote=5),
    )
    for gap in (
        ConnectionGap(from_ns=1, to_ns=2, reason="it broke: ü", scope=scope),
        ConnectionGap(from_ns=None, to_ns=None, reason="", scope=Scope(Subscription(["trade"], everything=True))),
        Dropped(type="trade", symbol_id=None, count=3, first_ns=1, last_ns=2),
    ):
        assert gap_of(gap_text(gap)) == gap
        assert EntryDecoder().decode("c", Entry(None, gap_text(gap))) == [gap]


def test_a_gap_of_a_newer_version_is_no_silence() -> None:
    for text in ('{"gap":"Hole"}', "[]", "{}", '{"gap":"Dropped","width":5}', "no JSON"):
        (item,) = EntryDecoder().decode("c", Entry(None, text))
        assert item == Undecodable(reason="a gap of a kind that is unknown here", received_ns=0, payload=text)


def test_a_prefix_that_gives_a_warning_gives_it_to_who_wrote_it_alone() -> None:
    with pytest.warns(UserWarning, match="matches by prefix"):
        scope = Scope(Subscription(["trade"], symbol_ids=["COINBASE"]))
    gap_of(gap_text(ConnectionGap(from_ns=None, to_ns=None, reason="", scope=scope)))


@given(OBJECTS, st.sampled_from([(",", ":"), (", ", ": ")]))
def test_the_symbol_is_that_of_the_message(fields: dict[str, object], separators: tuple[str, str]) -> None:
    text = json.dumps(fields, separators=separators)
    assert symbol_of(text) == getattr(Decoder().decode(text), "symbol_id", None)


def test_the_symbol_of_usual_frames_is_found_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "decode", None)
    assert symbol_of(trade(5)) == BTC
    assert symbol_of(book(5)) == BTC
    assert symbol_of('{"type":"exrate","rate":1.5}') is None


def test_a_symbol_in_an_odd_place_is_found_by_decoding() -> None:
    assert symbol_of('{"x":{"symbol_id":"A","sequence":1,"type":"y"},"symbol_id":"B","type":"trade"}') == "B"
    assert symbol_of('{"symbol_id":"B","type":"ohlcv","x":{"symbol_id":"A","sequence":1,"type":"y"}}') == "B"
    assert symbol_of('{"symbol_id":"\\u0041","sequence":1,"type":"trade"}') == "A"
    assert Ohlcv().symbol_id is None
