"""Market data through a session: frames, decoding, sequences, snapshots, surplus, changes of scope."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conversation import ADA, BOOKS, BTC, HEARTBEAT, QUOTES, RECEIVED_NS, TRADES, Conversation, trade
from websocket_peer import BINARY, PING, accept, frame, text

from coinapi_ws import Frame, Frames
from coinapi_ws.decoding import Decoder
from coinapi_ws.events import SequenceGap, Undecodable
from coinapi_ws.exceptions import ConfigurationError, UsageError
from coinapi_ws.messages import (
    Book,
    BookL3,
    ErrorMessage,
    ExchangeRate,
    Heartbeat,
    Message,
    Quote,
    ReconnectNotice,
    Trade,
)
from coinapi_ws.protocol.pacing import MARGIN_SECONDS
from coinapi_ws.scope import Scope
from coinapi_ws.subscription import Subscription

Converse = Callable[..., Conversation]

EVERYTHING = Scope(Subscription(["trade"], everything=True))


def book(sequence: int, *, type: str = "book", symbol_id: str = BTC, **fields: object) -> str:
    return json.dumps({"symbol_id": symbol_id, "sequence": sequence, **fields, "type": type}, separators=(",", ":"))


def quote(symbol_id: str = ADA, **fields: object) -> str:
    return json.dumps({"type": "quote", "symbol_id": symbol_id, **fields})


@pytest.mark.parametrize("place", ["first", "last"])
def test_every_sample_frame_comes_out_as_its_decoder_says(converse: Converse, shared: Path, place: str) -> None:
    lines = (shared / "recordings" / "sample_frames.jsonl").read_text().splitlines()
    samples = [json.loads(line)["frame"] for line in lines]
    assert len(samples) >= 20
    for sample in samples:
        fields = json.loads(sample, parse_float=str)
        start, end = sample.index('"type"'), sample.index('"type"') + len(f'"type":"{fields["type"]}"')
        rest = "".join(
            (sample[1:start].rstrip(","), sample[end:-1].removeprefix(",") if start == 1 else sample[end:-1])
        )
        member = sample[start:end]
        parts = [member, rest] if place == "first" else [rest, member]
        moved = "{" + ",".join(part for part in parts if part) + "}"
        assert json.loads(moved, parse_float=str) == fields
        talk = converse(scope=EVERYTHING, keep_raw=True).live()
        [message] = talk.say(moved)
        assert message == Decoder().decode(moved)
        assert isinstance(message, Message)
        assert message.type == {"hearbeat": "heartbeat"}.get(fields["type"], fields["type"])
        assert (message.raw, message.received_ns) == (moved, RECEIVED_NS)


def test_market_data_are_left_for_whoever_decodes(converse: Converse) -> None:
    talk = converse().live()
    trades = [trade(sequence=1), trade(sequence=2)]
    others = [HEARTBEAT, '{"type":"error","message":"x"}', '{"type":"reconnect"}', quote(), "no JSON"]
    wire = [*trades, *others]
    talk.session.receive_data(b"".join(map(text, wire)), talk.now, RECEIVED_NS)
    frames = talk.session.frames()
    run, *rest = frames
    assert isinstance(run, Frames)
    assert run.received_ns == RECEIVED_NS
    assert [frame_type.name for frame_type in run.types] == ["trade", "trade"]
    assert run.payloads == trades
    # What concerns the session, or does not show its type, it had to read.
    read = [frame for frame in rest if isinstance(frame, Frame)]
    assert [type(frame.decoded) for frame in read] == [Heartbeat, ErrorMessage, ReconnectNotice, Quote, Undecodable]
    assert [frame.type for frame in read] == ["heartbeat", "error", "reconnect", "quote", ""]
    assert [frame.payload for frame in read] == others
    assert talk.session.frames() == []
    assert [type(item) for item in talk.session.decode(frames)][:3] == [Trade, Trade, Heartbeat]


@pytest.mark.parametrize(
    "payload",
    [
        '{"type":"trade","message":"\\"type\\":\\"error\\""}',
        '{"message":"a,\\"type\\":\\"error","type":"trade"}',
        '{"inner":{"type":"error"},"type":"trade"}',
        '{"type":"error","type":"trade"}',
        '{"type":"trade","inner":{"x":1,"type":"error"}}',
        '{"type":"trade","inner":[{"type":"error"}]}',
        ' {"x":1,"type":"trade"}\n',
        '{"x":1, "type":"trade"}',
        '{"x":1,"type": "trade"}',
        '{"type":"trade"}',
        '{"x":1,"type":"tr\\u0061de"}',
    ],
)
def test_the_type_is_the_one_that_a_parser_finds(converse: Converse, payload: str) -> None:
    talk = converse().live()
    [message] = talk.say(payload)
    assert isinstance(message, Trade)


@pytest.mark.parametrize("payload", ['{"x":1,"type":"err\\u006fr"}', '{"type":"trade","type":"error"}'])
def test_an_error_is_found_however_it_is_written(converse: Converse, payload: str) -> None:
    talk = converse().live()
    assert isinstance(talk.say(payload)[0], ErrorMessage)
    assert talk.server_closes().error_type is not None


@pytest.mark.parametrize("name", ["book", "book5", "exrate", "book_l3", "symbol"])
def test_an_error_is_found_where_its_end_looks_like_that_of_what_came_before(converse: Converse, name: str) -> None:
    talk = converse().live()
    talk.say(f'{{"x":1,"type":"{name}"}}', f'{{"x":[],"type":"{name}"}}')
    assert isinstance(talk.say(f'{{"type":"error","a\\"type":"{name}"}}')[0], ErrorMessage)
    assert talk.server_closes().error_type is not None


def test_a_server_that_invents_types_does_not_keep_the_scope_from_known_ones(converse: Converse) -> None:
    talk = converse(scope=Scope(TRADES, QUOTES)).live()
    talk.say(*(f'{{"x":1,"type":"invented{number}"}}' for number in range(1100)))
    assert len(talk.say(*(trade(sequence=number, size=0.25) for number in (1, 2)))) == 2
    talk.session.set_scope(Scope(QUOTES), talk.now)
    assert talk.say(trade(sequence=3, size=0.25)) == []
    assert talk.session.stats().surplus == 1


def test_what_is_no_message_is_told_and_not_fatal(converse: Converse) -> None:
    talk = converse().live()
    talk.receive(text("no JSON") + frame(BINARY, b"\x00") + text('{"x":NaN,"type":"trade"}') + text("[1]"))
    undecodable = [item for item in talk.items if isinstance(item, Undecodable)]
    assert [item.payload for item in undecodable] == ["no JSON", b"\x00", '{"x":NaN,"type":"trade"}', "[1]"]
    assert {item.received_ns for item in undecodable} == {RECEIVED_NS}
    assert talk.session.stats().messages == 5


def test_decimal_numbers(converse: Converse) -> None:
    talk = converse(numbers="decimal").live()
    [message] = talk.say('{"price":770.000000000,"type":"trade"}')
    assert str(message.price) == "770.000000000"  # type: ignore[union-attr]


# Sequences


def test_a_gap_stands_before_the_message_that_shows_it(converse: Converse) -> None:
    talk = converse(scope=Scope(BOOKS)).live()
    items = talk.say(book(7), book(8), book(11), book(12))
    assert [item.type for item in items] == ["book", "book", "book", "book", "book"]  # type: ignore[union-attr]
    assert items[2] == SequenceGap(type="book", symbol_id=BTC, expected=9, received=11)
    assert talk.session.stats().jumps == {("book", BTC): 1}


def test_all_jumps_are_told_where_that_is_asked_for(converse: Converse) -> None:
    talk = converse(all_sequence_gaps=True).live()
    assert [type(item) for item in talk.say(trade(sequence=1), trade(sequence=4))] == [Trade, SequenceGap, Trade]


@pytest.mark.parametrize(("type_name", "told"), [("book", True), ("book_l3", True), ("book20", False)])
def test_jumps_of_others_are_counted_and_not_told(converse: Converse, type_name: str, told: bool) -> None:
    talk = converse(scope=Scope(Subscription([type_name], symbol_ids=[f"{BTC}$"]))).live()
    talk.say(book(7, type=type_name), book(9, type=type_name))
    assert ("SequenceGap" in talk.kinds) is told
    assert talk.session.stats().jumps == {(type_name, BTC): 1}


def test_a_book_without_word_on_it_is_no_snapshot_once_there_was_one(converse: Converse) -> None:
    talk = converse(scope=Scope(BOOKS)).live()
    talk.say(book(1), book(2, is_snapshot=True), book(3), book(4, is_snapshot=False), book(5))
    books = [item for item in talk.items if isinstance(item, Book)]
    assert [item.is_snapshot for item in books] == [None, True, False, False, False]


def test_a_pair_begins_again_after_it_left_the_scope(converse: Converse) -> None:
    talk = converse(scope=Scope(BOOKS)).live()
    talk.say(book(7, is_snapshot=True))
    talk.set_scope(TRADES)
    talk.set_scope(BOOKS)
    talk.say(book(8))  # still of the old scope
    talk.say(book(1), book(2, is_snapshot=True), book(3))
    assert "SequenceGap" not in talk.kinds
    books = [item for item in talk.items if isinstance(item, Book)]
    assert [item.is_snapshot for item in books] == [True, None, None, True, False]
    talk.say(book(1))
    assert talk.kinds[-2:] == ["SequenceGap", "book"]


def test_a_pair_that_is_subscribed_again_begins_again(converse: Converse) -> None:
    other = "COINBASE_SPOT_ETH_USD"
    kept, again, gone = (Subscription(["book"], symbol_ids=[f"{symbol}$"]) for symbol in (ADA, BTC, other))
    talk = converse(scope=Scope(kept, again, gone), wire="incremental").live()
    talk.say(book(7, is_snapshot=True), book(7, symbol_id=ADA))
    talk.set_scope(kept, again)
    assert [hello["type"] for hello in talk.hellos()[-2:]] == ["hello", "subscribe"]
    talk.say(book(1, is_snapshot=True))
    assert "SequenceGap" not in talk.kinds
    talk.say(book(1, symbol_id=ADA))
    assert talk.kinds[-2:] == ["SequenceGap", "book"], "what was never taken out does not begin again"


# Surplus


def test_the_surplus_of_a_merged_hello_is_dropped_and_counted(converse: Converse) -> None:
    talk = converse(scope=Scope(TRADES, QUOTES)).live()
    talk.say(trade(BTC), trade(ADA), quote(ADA), quote(BTC), HEARTBEAT)
    assert talk.kinds[-3:] == ["trade", "quote", "heartbeat"]
    assert talk.session.stats().surplus == 2


def test_the_surplus_may_be_delivered(converse: Converse) -> None:
    talk = converse(scope=Scope(TRADES, QUOTES), deliver_surplus=True).live()
    talk.say(trade(BTC), trade(ADA), quote(ADA), quote(BTC))
    assert [message.type for message in talk.messages[1:]] == ["trade", "trade", "quote", "quote"]
    assert talk.session.stats().surplus == 0
    talk.set_scope(TRADES)
    talk.say(quote(ADA))
    assert talk.kinds[-1] == "quote"


def test_the_sequences_of_the_surplus_are_watched_before_it_is_dropped(converse: Converse) -> None:
    talk = converse(scope=Scope(BOOKS, QUOTES)).live()
    talk.say(book(1, symbol_id=ADA), book(5, symbol_id=ADA))
    assert talk.kinds[2:] == ["heartbeat"]
    assert talk.session.stats().jumps == {("book", ADA): 1}
    assert talk.session.stats().surplus == 2


# Changes of scope


def test_a_new_scope_is_one_hello(converse: Converse) -> None:
    talk = converse().live()
    talk.set_scope(TRADES, Subscription(["trade"], symbol_ids=[f"{ADA}$"]))
    assert [hello["subscribe_filter_symbol_id"] for hello in talk.hellos()] == [[f"{BTC}$"], [f"{ADA}$", f"{BTC}$"]]
    assert len(talk.session.scope) == 2


def test_an_equal_scope_sends_nothing(converse: Converse) -> None:
    talk = converse(scope=Scope(TRADES, QUOTES)).live()
    talk.set_scope(QUOTES, TRADES)
    assert len(talk.hellos()) == 1


def test_incremental_changes(converse: Converse) -> None:
    talk = converse(wire="incremental").live()
    talk.set_scope(TRADES, QUOTES)
    talk.set_scope(QUOTES)
    assert [hello["type"] for hello in talk.hellos()] == ["hello", "subscribe", "unsubscribe"]


def test_frames_of_the_old_scope_are_surplus(converse: Converse) -> None:
    talk = converse().live()
    talk.set_scope(QUOTES)
    talk.say(trade(), quote(), HEARTBEAT, '{"type":"news"}')
    assert talk.kinds[-3:] == ["quote", "heartbeat", "news"]
    assert talk.session.stats().surplus == 1


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("wire", ["hello", "incremental"])
def test_a_scope_set_before_the_upgrade_is_the_only_one_sent(converse: Converse, started: bool, wire: str) -> None:
    talk = converse(wire=wire)
    if started:
        talk.start()
    talk.set_scope(QUOTES, BOOKS)
    talk.set_scope(QUOTES)
    assert talk.hellos() == []
    if not started:
        talk.start()
    talk.receive(accept(talk.request))
    assert [(hello["type"], hello["subscribe_data_type"]) for hello in talk.hellos()] == [("hello", ["quote"])]


PACED = ("X-WsHelloPerIpLimit-Limit: 1", "X-WsHelloPerIpLimit-WindowSizeMs: 5000")


def test_while_a_hello_waits_for_the_budget_only_the_last_scope_is_kept(converse: Converse) -> None:
    talk = converse(request_heartbeats=False).upgrade(*PACED)
    talk.set_scope(QUOTES)
    talk.set_scope(BOOKS)
    assert len(talk.hellos()) == 1
    talk.advance(6)
    talk.advance(50)
    assert [hello["subscribe_data_type"] for hello in talk.hellos()] == [["trade"], ["book"]]


def test_a_scope_set_when_the_budget_allows_it_again_leaves_nothing_due(converse: Converse) -> None:
    talk = converse(request_heartbeats=False).upgrade(*PACED)
    talk.set_scope(QUOTES)
    assert talk.session.next_timeout() == talk.now + 5 + MARGIN_SECONDS
    talk.now += 6
    talk.set_scope(BOOKS)
    assert [hello["subscribe_data_type"] for hello in talk.hellos()] == [["trade"], ["book"]]
    assert talk.session.next_timeout() is None


def test_while_the_first_hello_waits_the_scope_may_change(converse: Converse) -> None:
    talk = converse(request_heartbeats=False).upgrade("X-WsHelloPerIpLimit-RetryAfterMs: 3000")
    talk.set_scope(QUOTES)
    talk.set_scope(QUOTES)
    talk.advance(3)
    assert [hello["subscribe_data_type"] for hello in talk.hellos()] == [["quote"]]


def test_while_incremental_frames_wait_further_ones_queue_behind(converse: Converse) -> None:
    talk = converse(request_heartbeats=False, wire="incremental").upgrade(*PACED)
    talk.set_scope(TRADES, QUOTES)
    talk.set_scope(TRADES, QUOTES, BOOKS)
    talk.advance(20)
    assert [hello["type"] for hello in talk.hellos()] == ["hello", "subscribe", "subscribe"]


def test_no_more_frames_wait_than_a_new_beginning_takes(converse: Converse) -> None:
    talk = converse(request_heartbeats=False, wire="incremental").upgrade(*PACED)
    for _ in range(100):
        talk.set_scope(TRADES, QUOTES)
        talk.set_scope(TRADES)
    talk.set_scope(TRADES, BOOKS)
    talk.advance(60)
    hellos = [(hello["type"], hello["subscribe_data_type"]) for hello in talk.hellos()]
    assert len(hellos) <= 3
    assert hellos[0] == ("hello", ["trade"])
    asked: set[str] = set()
    for kind, types in hellos:
        asked = {"hello": set(types), "subscribe": asked | set(types), "unsubscribe": asked - set(types)}[kind]
    assert asked == {"trade", "book"}


def test_a_hello_that_begins_anew_replaces_incremental_frames_that_wait(converse: Converse) -> None:
    talk = converse(request_heartbeats=False, wire="incremental").upgrade(*PACED)
    talk.set_scope(TRADES, QUOTES)
    talk.set_scope(BOOKS)
    talk.advance(20)
    assert [hello["subscribe_data_type"] for hello in talk.hellos()] == [["trade"], ["book"]]


def test_before_the_first_hello_a_scope_that_was_replaced_is_never_asked_for(converse: Converse) -> None:
    talk = converse(request_heartbeats=False, wire="incremental").upgrade("X-WsHelloPerIpLimit-RetryAfterMs: 3000")
    talk.set_scope(TRADES, QUOTES)
    talk.set_scope(QUOTES)
    talk.advance(20)
    assert [(hello["type"], hello["subscribe_data_type"]) for hello in talk.hellos()] == [("hello", ["quote"])]


def test_a_scope_that_cannot_be_asked_for_changes_nothing(converse: Converse) -> None:
    talk = converse().live()
    with pytest.raises(UsageError, match="empty"):
        talk.set_scope()
    with pytest.raises(ConfigurationError):
        talk.set_scope(TRADES, Subscription(["trade"], exchange_ids=["COINBASE"]))
    ds = converse(url="ds:coinbase")
    with pytest.raises(ConfigurationError):
        ds.set_scope(Subscription(["trade"], exchange_ids=["COINBASE"]))
    for session in (talk.session, ds.session):
        assert session.scope == Scope(TRADES)
    assert len(talk.hellos()) == 1


def test_control_frames_are_no_messages(converse: Converse) -> None:
    talk = converse().live()
    before = talk.session.stats().messages
    talk.receive(frame(PING, b"x"))
    assert talk.session.stats().messages == before
    assert isinstance(talk.say(book(1, type="book_l3", asks=[{"id": "a", "price": 1, "size": 2}]))[0], BookL3)


def test_rates_have_neither_symbol_nor_sequence(converse: Converse) -> None:
    talk = converse(scope=EVERYTHING).live()
    rate = '{"time":"2026-11-24T00:00:00Z","asset_id_base":"BTC","asset_id_quote":"USD","rate":1.5,"type":"exrate"}'
    assert [type(item) for item in talk.say(rate, rate)] == [ExchangeRate, ExchangeRate]
    assert talk.session.stats().jumps == {}
