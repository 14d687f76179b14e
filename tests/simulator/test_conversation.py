"""Hello, scope, sequences, heartbeats and errors, over real sockets in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import websocket
from websockets.exceptions import ConnectionClosed

from coinapi_ws.simulator import Simulator, VirtualClock

BTC = "COINBASE_SPOT_BTC_USD"
ADA = "COINBASE_SPOT_ADA_USD"

Dial = Callable[..., Any]


def symbols(messages: list[dict[str, Any]]) -> set[str]:
    return {m["symbol_id"] for m in messages}


def test_a_hello_brings_the_named_types_of_the_named_symbols(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("trade", "quote", symbol_id=[BTC + "$", ADA + "$"])
    clock.advance(10)
    messages = peer.drain(simulator)
    assert {(m["type"], m["symbol_id"]) for m in messages} == {
        (kind, symbol) for kind in ("trade", "quote") for symbol in (BTC, ADA)
    }
    assert simulator.frames_sent == {kind: sum(m["type"] == kind for m in messages) for kind in ("trade", "quote")}


def test_the_same_seed_gives_two_simulators_the_same_frames(dial: Dial) -> None:
    seen = []
    for seed in (4, 4, 5):
        clock = VirtualClock()
        with Simulator(seed=seed, clock=clock) as simulator:
            # The market waits for its first scope.
            clock.advance(3)
            peer = dial(simulator.url)
            peer.hello("trade", "book", symbol_id=["COINBASE_"])
            clock.advance(5)
            seen.append(peer.drain(simulator))
    assert seen[0] == seen[1] != seen[2]
    assert len(seen[0]) > 50


def test_sequences_count_from_one_and_restart_when_a_pair_comes_back(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("trade", "book", symbol_id=[BTC + "$", ADA + "$"])
    clock.advance(5)
    peer.hello("trade", "book", symbol_id=[ADA + "$"])
    clock.advance(1)
    peer.hello("trade", "book", symbol_id=[BTC + "$", ADA + "$"])
    clock.advance(5)
    messages = peer.drain(simulator)

    def sequences(kind: str, symbol: str) -> list[int]:
        return [m["sequence"] for m in messages if (m["type"], m["symbol_id"]) == (kind, symbol)]

    for kind in ("trade", "book"):
        stayed, left = sequences(kind, ADA), sequences(kind, BTC)
        assert stayed == list(range(1, len(stayed) + 1))
        restart = left.index(1, 1)
        assert left == [*range(1, restart + 1), *range(1, len(left) - restart + 1)]
    snapshots = [m for m in messages if m["type"] == "book" and m["is_snapshot"]]
    assert [m["symbol_id"] for m in snapshots].count(BTC) == 2
    assert [m["symbol_id"] for m in snapshots].count(ADA) == 1
    assert {m["sequence"] for m in snapshots} == {1}


def test_ohlcv_of_all_periods_share_one_sequence(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello("ohlcv", symbol_id=[BTC + "$"])
    clock.advance(10)
    messages = peer.drain(simulator)
    assert len({m["period_id"] for m in messages}) == 7
    assert [m["sequence"] for m in messages] == list(range(1, len(messages) + 1))


def test_the_same_scope_again_replays_nothing(simulator: Simulator, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello("book", "symbol", symbol_id=[BTC + "$"])
    assert [m["type"] for m in peer.drain(simulator)] == ["symbol", "book"]
    peer.hello("book", "symbol", symbol_id=[BTC + "$"])
    assert peer.drain(simulator) == []


def test_subscribe_adds_and_unsubscribe_removes(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.subscribe("quote", symbol_id=[BTC + "$"])
    clock.advance(5)
    assert symbols(peer.drain(simulator)) == {BTC}
    peer.subscribe("quote", symbol_id=[ADA + "$"])
    clock.advance(5)
    assert symbols(peer.drain(simulator)) == {BTC, ADA}
    peer.unsubscribe("quote", symbol_id=[BTC + "$"])
    clock.advance(5)
    assert symbols(peer.drain(simulator)) == {ADA}
    peer.unsubscribe("quote")
    clock.advance(5)
    assert peer.drain(simulator) == []
    assert simulator.connections == 1


def test_metadata_comes_on_subscribing_and_from_time_to_time(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("asset", "exchange", "symbol", exchange_id=["KRAKEN"], asset_id=["ADA"])
    first = peer.drain(simulator)
    assert [(m["type"], m.get("symbol_id") or m.get("exchange_id") or m.get("asset_id")) for m in first] == [
        ("asset", "ADA"),
        ("exchange", "KRAKEN"),
        ("symbol", "KRAKEN_SPOT_ADA_USD"),
    ]
    clock.advance(299)
    assert peer.drain(simulator) == []
    clock.advance(2)
    assert len(peer.drain(simulator)) == 3


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"symbol_id": ["KRAKEN_"]}, {"KRAKEN_SPOT_BTC_USD", "KRAKEN_SPOT_ETH_USD", "KRAKEN_SPOT_ADA_USD"}),
        ({"symbol_id": ["KRAKEN_SPOT_BTC_US"]}, {"KRAKEN_SPOT_BTC_USD"}),
        ({"symbol_id": ["KRAKEN_SPOT_BTC_US$"]}, set()),
        ({"symbol_id": ["KRAKEN_SPOT_BTC_USD$"]}, {"KRAKEN_SPOT_BTC_USD"}),
        ({"asset_id": ["ADA"]}, {"COINBASE_SPOT_ADA_USD", "KRAKEN_SPOT_ADA_USD"}),
        ({"asset_id": ["USDT"]}, {"BINANCEFTS_PERP_BTC_USDT", "BINANCEFTS_PERP_ETH_USDT"}),
        ({"asset_id": ["BTC/USDT", "USD/BTC"]}, {"BINANCEFTS_PERP_BTC_USDT"}),
        ({"exchange_id": ["BITSTAMP"]}, {"BITSTAMP_SPOT_BTC_USD", "BITSTAMP_SPOT_ETH_USD"}),
        ({"exchange_id": ["COINBASE"], "asset_id": ["ETH"]}, {"COINBASE_SPOT_ETH_USD"}),
        ({"exchange_id": ["COINBASE"], "symbol_id": ["KRAKEN_"]}, set()),
    ],
)
def test_filters(simulator: Simulator, dial: Dial, filters: dict[str, list[str]], expected: set[str]) -> None:
    peer = dial(simulator.url)
    # Metadata comes at once and shows what is in scope.
    peer.hello("symbol", **filters)
    assert symbols(peer.drain(simulator)) == expected


def test_no_filter_is_everything_and_periods_filter_ohlcv_alone(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("trade", "ohlcv", period_id=["1MIN", "5SEC"])
    clock.advance(15)
    messages = peer.drain(simulator)
    assert len(symbols([m for m in messages if m["type"] == "trade"])) == 10
    assert {m["period_id"] for m in messages if m["type"] == "ohlcv"} == {"1MIN", "5SEC"}


def test_rates_are_filtered_by_asset_alone(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello("exrate", asset_id=["BTC/USD"], symbol_id=["NOTHING_"])
    clock.advance(1)
    messages = peer.drain(simulator)
    assert len(messages) == 10
    assert {(m["asset_id_base"], m["asset_id_quote"]) for m in messages} == {("BTC", "USD")}
    assert all("sequence" not in m and "symbol_id" not in m for m in messages)


def test_an_update_limit_spaces_frames(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello(
        "exrate", "book20", asset_id=["BTC/USDT"], subscribe_update_limit_ms_exrate=450,
        subscribe_update_limit_ms_book_snapshot=3000,
    )  # fmt: skip
    clock.advance(10)
    messages = peer.drain(simulator)
    assert len([m for m in messages if m["type"] == "exrate"]) == 20
    books = [m for m in messages if m["type"] == "book20"]
    assert [m["sequence"] for m in books] == [1, 2, 3]


def test_a_heartbeat_comes_after_each_second_of_silence(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello("connectivity_status", heartbeat=True)
    clock.advance(0.999)
    assert peer.drain(simulator) == []
    clock.advance(0.001)
    assert peer.text() == '{"type":"hearbeat"}'
    clock.advance(3.5)
    assert len(peer.drain(simulator)) == 3
    # Frames that come more often than once a second leave no room for any.
    peer.subscribe("exrate", asset_id=["BTC/USD"])
    clock.advance(10)
    assert {m["type"] for m in peer.drain(simulator)} == {"exrate"}
    peer.hello("connectivity_status")
    clock.advance(10)
    assert peer.drain(simulator) == []


NONSENSE = (
    '{"type":"error","message":"Subscribed data type \\u0027nonsense\\u0027 is invalid. Allowed values: '
    "book5, book20, book50, book, book_l3, quote, trade, ohlcv, exrate, asset, exchange, symbol, "
    'connectivity_status"}'
)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"type":"hello","subscribe_data_type":["trade","nonsense"]}', NONSENSE),
        ('{"type":"hello","subscribe_data_type":["book"]}', "Data type 'book' requires at least one filter"),
        (
            '{"type":"hello","subscribe_data_type":["book_l3"],"subscribe_filter_period_id":["1SEC"]}',
            "Data type 'book_l3' requires at least one filter",
        ),
        (
            '{"type":"hello","subscribe_data_type":["exrate"],"subscribe_filter_symbol_id":["A"]}',
            "Data type 'exrate' requires the filter 'subscribe_filter_asset_id'",
        ),
        ('{"type":"hello"}', "Missing required field 'subscribe_data_type'"),
        ('{"type":"hello","subscribe_data_type":[]}', "Missing required field 'subscribe_data_type'"),
        (
            '{"type":"hello","subscribe_data_type":"trade"}',
            "Field 'subscribe_data_type' must be an array of strings",
        ),
        (
            '{"type":"hello","subscribe_data_type":["trade"],"subscribe_update_limit_ms_quote":-1}',
            "Field 'subscribe_update_limit_ms_quote' must be a number of milliseconds",
        ),
        (
            '{"type":"hello","subscribe_data_type":["trade"],"heartbeat":1}',
            "Field 'heartbeat' must be true or false",
        ),
        ('{"type":"hello"', "Malformed JSON"),
        ("[" * 100_000, "Malformed JSON"),
        ("[]", "Malformed JSON: an object was expected"),
        (
            '{"type":"unsubscribe","subscribe_data_type":["trade"]}',
            "The first message must be 'hello' or 'subscribe'",
        ),
        (
            '{"type":"good\\"bye"}',
            "Message type 'good\"bye' is invalid. Allowed values: hello, subscribe, unsubscribe",
        ),
    ],
)
def test_what_is_wrong_ends_with_an_error_and_a_close(simulator: Simulator, dial: Dial, text: str, error: str) -> None:
    peer = dial(simulator.url)
    peer.websocket.send(text)
    received = peer.text()
    if error is NONSENSE:
        assert received == NONSENSE
    assert "'" not in received
    assert json.loads(received) == {
        "type": "error",
        "message": json.loads(NONSENSE)["message"] if error is NONSENSE else error,
    }
    with pytest.raises(ConnectionClosed) as closed:
        peer.text()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_an_error_ends_a_stream_that_was_running(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello("exrate", asset_id=["BTC"], heartbeat=True)
    clock.advance(1)
    peer.subscribe("volume")
    simulator.settle()
    clock.advance(5)
    texts = peer.rest_until_closed()
    assert [json.loads(text)["type"] for text in texts] == ["exrate"] * 20 + ["error"]


def test_a_binary_message_is_refused(simulator: Simulator, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.websocket.send(b"{}")
    with pytest.raises(ConnectionClosed) as closed:
        peer.text()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


def test_a_message_without_end_is_refused(simulator: Simulator, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.websocket.send(["x" * 600_000, "x" * 600_000])
    with pytest.raises(ConnectionClosed) as closed:
        peer.text()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_fragments_and_pings_between_them_make_one_message(simulator: Simulator) -> None:
    client = websocket.create_connection(simulator.url)
    try:
        hello = json.dumps({"type": "hello", "subscribe_data_type": ["symbol"], "note": "ä"}, ensure_ascii=False)
        first, rest = hello.encode()[:-3], hello.encode()[-3:]  # cut within the ä
        create = websocket.ABNF.create_frame
        client.send_frame(create(first, websocket.ABNF.OPCODE_TEXT, 0))
        client.ping("between")
        client.send_frame(create(rest, websocket.ABNF.OPCODE_CONT, 1))
        opcode, payload = client.recv_data(control_frame=True)
        assert (opcode, payload) == (websocket.ABNF.OPCODE_PONG, b"between")
        assert json.loads(client.recv())["type"] == "symbol"
        assert simulator.received == [hello]
    finally:
        client.close()


def test_a_broken_frame_is_answered_with_1002(simulator: Simulator) -> None:
    client = websocket.create_connection(simulator.url)
    try:
        client.sock.sendall(b"\x83\x80\x00\x00\x00\x00")  # opcode 3 is reserved
        frame = client.recv_frame()
        assert (frame.opcode, frame.data[:2]) == (websocket.ABNF.OPCODE_CLOSE, (1002).to_bytes(2, "big"))
    finally:
        client.shutdown()


def test_many_clients_get_their_own_scopes_and_sequences(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    chosen = [BTC, ADA, "KRAKEN_SPOT_BTC_USD", "BITSTAMP_SPOT_ETH_USD"] * 13
    peers = [dial(simulator.url) for _ in chosen]
    for peer, symbol in zip(peers, chosen, strict=True):
        peer.hello("book", symbol_id=[symbol + "$"])
    clock.advance(3)
    assert simulator.connections == len(peers) == 52
    seen: dict[str, list[Any]] = {}
    for peer, symbol in zip(peers, chosen, strict=True):
        messages = peer.drain(simulator)
        assert symbols(messages) == {symbol}
        assert [m["sequence"] for m in messages] == list(range(1, len(messages) + 1))
        assert seen.setdefault(symbol, messages) == messages
