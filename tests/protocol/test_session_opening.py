"""From the upgrade to the first proof of life: requests, keys, hellos, Connected and Live."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from conversation import ADA, BTC, HEARTBEAT, QUOTES, RECEIVED_NS, TRADES, Conversation, error, trade
from websocket_peer import PING, PONG, TEXT, accept, close, frame, text

from coinapi_ws import Pacer, Session, SessionState
from coinapi_ws.auth import Secret
from coinapi_ws.endpoints import endpoint_from
from coinapi_ws.events import Connected, Live
from coinapi_ws.exceptions import ConfigurationError, UsageError
from coinapi_ws.options import Options
from coinapi_ws.protocol.pacing import MARGIN_SECONDS
from coinapi_ws.scope import Scope
from coinapi_ws.subscription import Subscription

Converse = Callable[..., Conversation]


def headers_of(request: bytes) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for line in request.decode().split("\r\n")[1:-2]:
        name, value = line.split(": ", 1)
        headers.setdefault(name, []).append(value)
    return headers


def without_nonce(request: bytes) -> str:
    return re.sub(r"Sec-WebSocket-Key: \S+", "", request.decode())


def test_the_request_goes_to_the_endpoint(converse: Converse) -> None:
    talk = converse(url="wss://example.test:8443/v1/?a=b", user_agent="tests/1").start()
    assert talk.request.startswith(b"GET /v1/?a=b HTTP/1.1\r\n")
    headers = headers_of(talk.request)
    assert headers["Host"] == ["example.test:8443"]
    assert headers["User-Agent"] == ["tests/1"]
    assert talk.session.state is SessionState.CONNECTING
    assert "Sec-WebSocket-Extensions" not in headers


def test_w10_a_host_whose_port_makes_a_label_too_long_is_refused(canary_key: str) -> None:
    with pytest.raises(ConfigurationError, match="host"):
        Conversation(canary_key, url=f"wss://{'a' * 60}:8443/")


@pytest.mark.parametrize("auth", ["header", "query", "path", "authorization", "basic", "hello", "jwt"])
def test_the_key_travels_where_it_belongs_and_nowhere_else(auth: str, canary_key: str) -> None:
    jwt = Secret("header.payload.signature") if auth == "jwt" else None
    how = {"auth": "header", "jwt": lambda: "unused"} if jwt else {"auth": auth}
    talk = Conversation(canary_key, url="wss://example.test/v1/?x=1", **how)
    talk.session.start(talk.now, jwt=jwt)
    talk.request = talk.session.data_to_send()
    talk.receive(accept(talk.request))
    target = talk.request.split()[1].decode()
    headers = headers_of(talk.request)
    basic = b64encode(f"coinapi:{canary_key}".encode()).decode()
    expected_headers = {
        "header": {"X-CoinAPI-Key": [canary_key]},
        "jwt": {"X-CoinAPI-Key": [canary_key], "Authorization": ["Bearer header.payload.signature"]},
        "authorization": {"Authorization": [canary_key]},
        "basic": {"Authorization": [f"Basic {basic}"]},
    }
    expected_targets = {"query": f"/v1/?x=1&apikey={canary_key}", "path": f"/v1/APIKEY-{canary_key}?x=1"}
    found = {name: headers[name] for name in ("X-CoinAPI-Key", "Authorization") if name in headers}
    assert found == expected_headers.get(auth, {})
    assert target == expected_targets.get(auth, "/v1/?x=1")
    [hello] = talk.hellos()
    assert hello.get("apikey") == (canary_key if auth == "hello" else None)
    everything = without_nonce(talk.request) + repr(hello)
    assert everything.count(canary_key) + everything.count(basic) == 1


def test_a_key_that_a_url_cannot_hold_is_quoted() -> None:
    key = "a+b/c=d&e"
    talk = Conversation(key, auth="query").start()
    assert talk.request.split()[1].decode() == f"/v1/?apikey={quote(key, safe='')}"


def test_without_a_key_there_is_none() -> None:
    talk = Conversation(None, auth="hello").upgrade()
    assert headers_of(talk.request).keys().isdisjoint({"X-CoinAPI-Key", "Authorization"})
    assert "apikey" not in talk.hellos()[0]


def test_a_session_is_started_once(converse: Converse) -> None:
    talk = converse().start()
    with pytest.raises(UsageError, match="once"):
        talk.session.start(talk.now)
    assert talk.session.data_to_send() == b""


def test_a_session_that_ended_is_not_started(converse: Converse) -> None:
    talk = converse()
    talk.close()
    with pytest.raises(UsageError, match="once"):
        talk.session.start(talk.now)
    assert talk.disconnected.stage == "connect"


def test_the_hello_is_exact(converse: Converse) -> None:
    talk = converse().upgrade()
    expected = (
        '{"type":"hello","heartbeat":true,"subscribe_data_type":["trade"],'
        '"subscribe_filter_symbol_id":["COINBASE_SPOT_BTC_USD$"]}'
    )
    assert talk.reader.frames == [(TEXT, expected.encode())]


def test_the_hello_carries_every_field_that_is_set(converse: Converse) -> None:
    scope = Scope(
        Subscription(["ohlcv", "quote"], symbol_ids=[f"{BTC}$"], period_ids=["1MIN"], limit_ms_quote=100),
        Subscription(["book20", "trade"], symbol_ids=[f"{ADA}$"], limit_ms_book_snapshot=500),
    )
    talk = converse(scope=scope, request_heartbeats=False).upgrade()
    assert talk.hellos() == [
        {
            "type": "hello",
            "heartbeat": False,
            "subscribe_data_type": ["book20", "ohlcv", "quote", "trade"],
            "subscribe_filter_symbol_id": [f"{ADA}$", f"{BTC}$"],
            "subscribe_filter_period_id": ["1MIN"],
            "subscribe_update_limit_ms_quote": 100,
            "subscribe_update_limit_ms_book_snapshot": 500,
        }
    ]


def test_the_exchange_rates_hello_has_no_data_types(converse: Converse) -> None:
    talk = converse(url="exrates", scope=Scope(Subscription((), asset_ids=["BTC/USD"]))).upgrade()
    assert talk.hellos() == [{"type": "hello", "heartbeat": True, "subscribe_filter_asset_id": ["BTC/USD"]}]


def test_the_incremental_wire_subscribes_one_by_one(converse: Converse) -> None:
    talk = converse(scope=Scope(TRADES, QUOTES), wire="incremental", auth="hello").upgrade()
    first, second = talk.hellos()
    assert (first["type"], first["subscribe_data_type"], first["heartbeat"]) == ("hello", ["trade"], True)
    assert second == {
        "type": "subscribe",
        "subscribe_data_type": ["quote"],
        "subscribe_filter_symbol_id": [f"{ADA}$"],
    }


@pytest.mark.parametrize("url", ["ds:coinbase", "exrates"])
def test_a_scope_that_the_endpoint_cannot_serve_is_refused(url: str, canary_key: str) -> None:
    options = Options(endpoint=endpoint_from(url), api_key=Secret(canary_key))
    scope = Scope(Subscription(["trade"], exchange_ids=["COINBASE"]))
    with pytest.raises(ConfigurationError):
        Session(options, scope, pacer=Pacer())


def test_what_is_no_scope_is_refused(canary_key: str, converse: Converse) -> None:
    member: Any = Subscription(["trade"], exchange_ids=["COINBASE"])
    with pytest.raises(ConfigurationError, match=r"not Subscription; write Scope\("):
        Conversation(canary_key, scope=member)
    talk = converse()
    with pytest.raises(ConfigurationError, match=r"not Subscription; write Scope\("):
        talk.session.set_scope(member, talk.now)


def test_an_empty_scope_is_refused(canary_key: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        Conversation(canary_key, scope=Scope())


def test_connected_tells_limits_and_compression(converse: Converse) -> None:
    talk = converse().upgrade(
        "X-WsHelloPerIpLimit-Limit: 10", "X-ConcurrencyLimit-Remaining: 0", "X-Other: 1", "Retry-After: \x07"
    )
    limits = (("x-wshelloperiplimit-limit", "10"), ("x-concurrencylimit-remaining", "0"))
    assert talk.items == [Connected(limits=limits, compression=False)]
    assert talk.session.state is SessionState.OPEN
    assert talk.server_closes().limits == limits


def test_connected_tells_that_compression_was_agreed(converse: Converse) -> None:
    talk = converse(compression=True).upgrade("Sec-WebSocket-Extensions: permessage-deflate")
    assert talk.connected.compression


@pytest.mark.parametrize(
    "proof",
    [
        trade(),
        HEARTBEAT,
        '{"type":"heartbeat"}',
        '{"type":"trade","price":1}',
        '{"x":1,"type":"news"}',
        '{"type":"news","x":1}',
    ],
)
def test_data_or_a_heartbeat_is_proof_of_life(converse: Converse, proof: str) -> None:
    talk = converse().upgrade()
    live, message = talk.say(proof)
    assert live == Live(received_ns=RECEIVED_NS)
    assert message.received_ns == RECEIVED_NS  # type: ignore[union-attr]
    assert talk.session.state is SessionState.LIVE
    talk.say(proof, proof)
    assert talk.kinds.count("Live") == 1


@pytest.mark.parametrize(
    "no_proof",
    [
        error("Invalid API key"),
        '{"message":"Invalid API key","type":"error"}',
        '{"type":"reconnect","within_seconds":10}',
        '{"within_seconds":10,"type":"reconnect"}',
        "not JSON",
        "[]",
        '{"x":1,"type":"tradexx',
        '{"a\\"type":"trade"}',
    ],
)
def test_errors_notices_and_nonsense_are_no_proof_of_life(converse: Converse, no_proof: str) -> None:
    talk = converse().upgrade()
    [item] = talk.say(no_proof)
    assert not isinstance(item, Live)
    assert talk.session.state is SessionState.OPEN


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_control_frames_are_no_proof_of_life(converse: Converse, opcode: int) -> None:
    talk = converse().upgrade()
    assert talk.receive(frame(opcode, b"x")) == []
    assert talk.session.state is SessionState.OPEN


def test_a_ping_is_answered_with_the_next_bytes(converse: Converse) -> None:
    talk = converse().live()
    talk.receive(frame(PING, b"abc"))
    assert talk.sent(PONG) == [b"abc"]


def test_all_that_can_come_with_the_101_comes_in_order(converse: Converse) -> None:
    talk = converse().upgrade(then=frame(PING, b"p") + text(trade(sequence=1)) + text(HEARTBEAT))
    assert talk.kinds == ["Connected", "Live", "trade", "heartbeat"]
    assert [opcode for opcode, _ in talk.reader.frames] == [TEXT, PONG]


def test_a_close_with_the_101_comes_after_the_hello(converse: Converse) -> None:
    talk = converse().upgrade(then=text(error("Too many connections")) + close(1013))
    assert talk.kinds == ["Connected", "error", "Disconnected"]
    assert len(talk.hellos()) == 1


# Pacing of hellos


def subscriptions(count: int) -> Scope:
    return Scope(*(Subscription(["trade"], symbol_ids=[f"X_SPOT_A{number}_B$"]) for number in range(count)))


def test_the_default_budget_paces_hellos_to_the_vendor(converse: Converse) -> None:
    talk = converse(url="emea", scope=subscriptions(25), wire="incremental").upgrade()
    assert len(talk.hellos()) == 10
    talk.advance(10.4)
    assert len(talk.hellos()) == 10
    talk.advance(0.1)
    assert len(talk.hellos()) == 20
    talk.say(HEARTBEAT)
    talk.advance(10 + MARGIN_SECONDS)
    assert [hello["type"] for hello in talk.hellos()] == ["hello"] + ["subscribe"] * 24
    assert [hello["subscribe_filter_symbol_id"] for hello in talk.hellos()] == [
        [f"X_SPOT_A{number}_B$"] for number in range(25)
    ]


def test_other_hosts_are_not_paced_until_they_say_so(converse: Converse) -> None:
    assert len(converse(scope=subscriptions(25), wire="incremental").upgrade().hellos()) == 25


def test_limit_headers_pace_hellos(converse: Converse) -> None:
    talk = converse(scope=subscriptions(5), wire="incremental", request_heartbeats=False)
    talk.upgrade("X-WsHelloPerIpLimit-Limit: 2", "X-WsHelloPerIpLimit-WindowSizeMs: 3000")
    assert len(talk.hellos()) == 2
    talk.advance(3 + MARGIN_SECONDS)
    assert len(talk.hellos()) == 4
    talk.advance(3 + MARGIN_SECONDS)
    assert len(talk.hellos()) == 5


@pytest.mark.parametrize(
    "headers",
    [
        ("X-WsHelloPerIpLimit-RetryAfterMs: 4000",),
        ("X-WsHelloPerIpLimit-Limit: 9", "X-WsHelloPerIpLimit-WindowSizeMs: 4000", "X-WsHelloPerIpLimit-Remaining: 0"),
    ],
)
def test_the_first_hello_waits_too_and_connected_with_it(converse: Converse, headers: tuple[str, ...]) -> None:
    talk = converse().upgrade(*headers)
    assert talk.items == []
    talk.advance(3.9)
    assert talk.hellos() == []
    talk.advance(0.1)
    assert talk.kinds == ["Connected"]
    assert len(talk.hellos()) == 1


def test_what_comes_before_the_hello_proves_nothing(converse: Converse) -> None:
    talk = converse(live_timeout=5).upgrade("X-WsHelloPerIpLimit-RetryAfterMs: 4000")
    talk.say(HEARTBEAT)
    assert talk.kinds == ["heartbeat"]
    assert talk.session.state is SessionState.OPEN
    talk.advance(4)
    talk.say(HEARTBEAT)
    assert talk.kinds == ["heartbeat", "Connected", "Live", "heartbeat"]
    talk.advance(20)
    assert talk.session.state is SessionState.LIVE


def test_a_shared_pacer_counts_the_hellos_of_all_sessions(converse: Converse) -> None:
    pacer = Pacer()
    talks = [converse(url="emea", pacer=pacer).upgrade() for _ in range(11)]
    assert [len(talk.hellos()) for talk in talks] == [1] * 10 + [0]
    talks[-1].advance(10 + MARGIN_SECONDS)
    assert len(talks[-1].hellos()) == 1
