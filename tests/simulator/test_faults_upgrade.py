"""Faults before there is a connection: refused upgrades, redirects, garbage, and servers that take their time."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Any

import pytest
import websocket
from peers import listening
from raw_client import RawClient
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus

from coinapi_ws import (
    AuthenticationError,
    CoinAPIError,
    ConnectError,
    ConnectTimeout,
    HandshakeRejected,
    Pacer,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    Subscription,
    connect,
)
from coinapi_ws.simulator import Simulator, VirtualClock

QUOTES = Subscription(["quote"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])

Dial = Callable[..., Any]


def refusal(simulator: Simulator, key: str, **options: Any) -> CoinAPIError:
    """What our client raises instead of connecting."""
    with pytest.raises(CoinAPIError) as refused:
        connect(key, QUOTES, endpoint=simulator.url, pacer=Pacer(), **options).close()
    return refused.value


def answers(simulator: Simulator, count: int) -> list[str]:
    """The first line of what each of so many upgrade requests is answered with."""
    lines = []
    for _ in range(count):
        with RawClient(simulator.port) as raw:
            raw.ask()
            lines.append(raw.exactly(12).decode("latin-1"))
    return lines


# Refusals.

STATUSES = [100, 102, 199, 200, 204, 226, 304, 400, 401, 403, 404, 429, 451, 500, 502, 503, 550, 599, 700, 999]


@pytest.mark.parametrize("status", STATUSES)
def test_any_status_can_be_answered(simulator: Simulator, clock: VirtualClock, status: int) -> None:
    simulator.faults.refuse_upgrades(status, body="sorry", headers={"X-Why": "because"})
    with RawClient(simulator.port) as raw:
        raw.ask()
        head, _, body = raw.rest().decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "\r\nX-Why: because\r\n" in head
    assert "\r\nContent-Length: 5\r\n" in head
    assert body == "sorry"
    assert simulator.requests == []
    assert len(simulator.requests_refused) == 1
    assert answers(simulator, 1) == ["HTTP/1.1 101"]


@pytest.mark.parametrize("status", [status for status in STATUSES if status >= 200])
def test_our_client_tells_the_status_and_the_text(simulator: Simulator, canary_key: str, status: int) -> None:
    simulator.faults.refuse_upgrades(status, body="sorry, really", headers={"Retry-After": "7"})
    error = refusal(simulator, canary_key)
    kinds = {401: AuthenticationError, 403: PermissionDenied, 429: RateLimited}
    assert type(error) is kinds.get(status, HandshakeRejected)
    assert error.disconnected is not None
    assert (error.disconnected.stage, error.disconnected.status) == ("upgrade", status)
    assert error.disconnected.retry_after == 7
    # HTTP knows no body for these two, whatever the server sends.
    assert error.disconnected.server_text == (None if status in (204, 304) else "sorry, really")


@pytest.mark.parametrize("status", [100, 102, 199])
def test_our_client_goes_on_waiting_after_an_interim_answer(simulator: Simulator, canary_key: str, status: int) -> None:
    simulator.faults.refuse_upgrades(status)
    error = refusal(simulator, canary_key)
    assert type(error) is ConnectError
    assert "the connection ended without a Close frame" in str(error)


@pytest.mark.parametrize("status", [status for status in STATUSES if status >= 200])
def test_other_clients_tell_the_status(simulator: Simulator, dial: Dial, status: int) -> None:
    simulator.faults.refuse_upgrades(status, body="sorry", count=2)
    with pytest.raises(InvalidHandshake) as refused:
        dial(simulator.url)
    if status < 600:
        assert isinstance(refused.value, InvalidStatus)
        assert refused.value.response.status_code == status
    else:
        assert isinstance(refused.value, InvalidMessage)
    with pytest.raises(websocket.WebSocketBadStatusException) as bad:
        websocket.create_connection(simulator.url, timeout=10)
    assert bad.value.status_code == status


def test_an_http_client_reads_the_refusal(simulator: Simulator) -> None:
    simulator.faults.refuse_upgrades(503, body="sorry ", body_size=10)
    client = http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=10)
    try:
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        client.request("GET", "/v1/", headers=headers)
        response = client.getresponse()
        assert (response.status, response.reason) == (503, "Service Unavailable")
        assert response.read() == b"sorry xxxx"
    finally:
        client.close()


def test_a_body_of_100_mb_takes_no_memory_of_the_server(simulator: Simulator) -> None:
    size = 100 * 1024 * 1024
    buffer = bytearray(1024 * 1024)
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    tracemalloc.start()
    try:
        simulator.faults.refuse_upgrades(502, body="at first", body_size=size)
        with RawClient(simulator.port) as raw:
            raw.ask()
            assert f"\r\nContent-Length: {size}\r\n" in raw.head()
            assert raw.exactly(10) == b"at firstxx"
            received = 10
            while count := raw.socket.recv_into(buffer):
                received += count
            assert received == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


def test_our_client_does_not_read_a_huge_body(simulator: Simulator, canary_key: str) -> None:
    simulator.faults.refuse_upgrades(502, body="at first ", body_size=100 * 1024 * 1024)
    error = refusal(simulator, canary_key)
    assert type(error) is HandshakeRejected
    assert error.disconnected is not None
    assert error.disconnected.bytes_received < 1024 * 1024
    assert (error.server_text or "").startswith("at first xxx")
    simulator.settle()
    assert simulator.connections == 0
    assert answers(simulator, 1) == ["HTTP/1.1 101"]


def test_what_a_refusal_says_of_limits_reaches_the_program(simulator: Simulator, canary_key: str) -> None:
    headers = {"X-WsRequestsPerIpLimit-RetryAfterMs": "1500", "Retry-After": "2"}
    simulator.faults.refuse_upgrades(429, headers=headers)
    error = refusal(simulator, canary_key)
    assert isinstance(error, RateLimited)
    assert error.disconnected is not None
    assert dict(error.disconnected.limits)["x-wsrequestsperiplimit-retryafterms"] == "1500"


# How many, and in which order.


def test_answers_are_given_one_after_another_in_the_order_of_the_calls(simulator: Simulator) -> None:
    simulator.faults.refuse_upgrades(503, count=2)
    simulator.faults.garbage_upgrades()
    simulator.faults.redirect_upgrades("wss://elsewhere.example/", status=307)
    simulator.faults.continue_upgrades()
    simulator.faults.refuse_upgrades(404)
    assert answers(simulator, 7) == [
        "HTTP/1.1 503",
        "HTTP/1.1 503",
        "\x00\xff SSH-2.0-m",
        "HTTP/1.1 307",
        "HTTP/1.1 100",
        "HTTP/1.1 404",
        "HTTP/1.1 101",
    ]


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda faults: faults.refuse_upgrades(550, count=None), "HTTP/1.1 550"),
        (lambda faults: faults.redirect_upgrades("/", count=None), "HTTP/1.1 302"),
        (lambda faults: faults.continue_upgrades(count=None), "HTTP/1.1 100"),
        (lambda faults: faults.garbage_upgrades(count=None), "\x00\xff SSH-2.0-m"),
    ],
)
def test_without_a_count_all_get_the_answer_until_it_is_cleared(
    simulator: Simulator, call: Callable[[Any], None], answer: str
) -> None:
    call(simulator.faults)
    simulator.faults.refuse_upgrades(404)  # its turn never comes
    assert answers(simulator, 5) == [answer] * 5
    simulator.faults.clear()
    assert answers(simulator, 2) == ["HTTP/1.1 101"] * 2


def test_connections_that_are_there_are_not_touched(simulator: Simulator, clock: VirtualClock) -> None:
    with RawClient(simulator.port) as raw:
        raw.upgrade().hello("quote")
        simulator.faults.refuse_upgrades(count=None)
        assert answers(simulator, 1) == ["HTTP/1.1 503"]
        clock.advance(5)
        assert raw.frame().payload.endswith(b'"type":"quote"}')


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_our_client_follows_no_redirect_and_shows_its_key_to_nobody(
    simulator: Simulator, canary_key: str, assert_no_canary: Callable[[object], None], status: int
) -> None:
    with listening() as elsewhere:
        location = f"ws://127.0.0.1:{elsewhere.getsockname()[1]}/v1/"
        simulator.faults.redirect_upgrades(location, status=status)
        error = refusal(simulator, canary_key)
        assert type(error) is HandshakeRejected
        assert error.status == status
        assert_no_canary(error)
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert len(simulator.requests_refused) == 1


def test_a_redirect_names_the_place(simulator: Simulator) -> None:
    simulator.faults.redirect_upgrades("wss://elsewhere.example/v1/?a=b")
    with RawClient(simulator.port) as raw:
        raw.ask()
        head = raw.rest().decode()
    assert head.startswith("HTTP/1.1 302 Found\r\n")
    assert "\r\nLocation: wss://elsewhere.example/v1/?a=b\r\n" in head


def test_a_client_that_follows_redirects_comes_to_the_other_place(dial: Dial, clock: VirtualClock) -> None:
    with Simulator(clock=clock) as first, Simulator(clock=clock) as second:
        first.faults.redirect_upgrades(second.url)
        client = websocket.create_connection(first.url, timeout=10)
        client.shutdown()
        assert (len(first.requests_refused), len(second.requests)) == (1, 1)


# 100 Continue, and what is no HTTP.


def test_our_client_goes_on_after_100_continue(simulator: Simulator, clock: VirtualClock, canary_key: str) -> None:
    simulator.faults.continue_upgrades()
    with connect(canary_key, QUOTES, endpoint=simulator.url) as stream:
        clock.advance(5)
        assert stream.recv(timeout=10) is not None
    assert len(simulator.requests) == 1


def test_100_continue_is_a_head_of_its_own_before_the_101(simulator: Simulator) -> None:
    simulator.faults.continue_upgrades()
    with RawClient(simulator.port) as raw:
        raw.ask()
        assert raw.head() == "HTTP/1.1 100 Continue\r\n\r\n"
        assert raw.head().startswith("HTTP/1.1 101 ")
        assert raw.ping() == []


def test_clients_report_garbage(simulator: Simulator, dial: Dial, canary_key: str) -> None:
    simulator.faults.garbage_upgrades(count=3)
    error = refusal(simulator, canary_key)
    assert type(error) is ProtocolError
    assert "not a valid answer to the upgrade" in str(error)
    with pytest.raises(InvalidMessage):
        dial(simulator.url)
    with pytest.raises(websocket.WebSocketException):
        websocket.create_connection(simulator.url, timeout=10)
    assert len(simulator.requests_refused) == 3


def test_garbage_is_followed_by_the_end(simulator: Simulator) -> None:
    simulator.faults.garbage_upgrades()
    with RawClient(simulator.port) as raw:
        raw.ask()
        assert raw.rest() == b"\x00\xff SSH-2.0-mistaken\r\n\r\n" * 8


# Slow handshakes.


def test_a_new_connection_is_left_alone_for_exactly_so_long(simulator: Simulator, clock: VirtualClock) -> None:
    simulator.faults.slow_handshakes(30)
    with RawClient(simulator.port) as raw:
        raw.ask()
        clock.advance(29.999)
        assert raw.at_hand() == b""
        assert simulator.requests == []
        clock.advance(0.001)
        assert raw.head().startswith("HTTP/1.1 101 ")
        # Its patience with the client begins then; the first Ping is due a minute later.
        clock.advance(59.999)
        assert raw.at_hand() == b""
        clock.advance(0.001)
        assert raw.frame().payload == (1).to_bytes(4, "big")


def test_each_connection_waits_from_its_own_beginning(simulator: Simulator, clock: VirtualClock) -> None:
    simulator.faults.slow_handshakes(5)
    with RawClient(simulator.port) as first, RawClient(simulator.port) as second:
        first.ask()
        clock.advance(3)
        with RawClient(simulator.port) as third:
            third.ask()
            second.ask()
            clock.advance(2)
            assert first.head() == second.head()
            assert third.at_hand() == b""
            simulator.faults.slow_handshakes(0)
            assert answers(simulator, 1) == ["HTTP/1.1 101"]
            clock.advance(3)
            assert third.head().startswith("HTTP/1.1 101 ")


def test_who_says_nothing_after_a_slow_handshake_has_its_whole_time(simulator: Simulator, clock: VirtualClock) -> None:
    simulator.faults.slow_handshakes(30)
    with RawClient(simulator.port) as raw:
        clock.advance(39.999)
        assert raw.at_hand() == b""
        raw.ask()
        clock.advance(0)
        assert raw.head().startswith("HTTP/1.1 101 ")


def test_our_client_waits_no_longer_than_its_open_timeout(simulator: Simulator, canary_key: str) -> None:
    simulator.faults.slow_handshakes(30)
    # In less a busy machine may not even have connected.
    error = refusal(simulator, canary_key, open_timeout=1)
    assert type(error) is ConnectTimeout
    assert error.disconnected is not None
    assert error.disconnected.stage == "upgrade"
    assert error.disconnected.detail == "the server did not answer the upgrade in time"


def test_a_client_that_gave_up_before_it_was_served_is_forgotten(simulator: Simulator, clock: VirtualClock) -> None:
    simulator.faults.slow_handshakes(30)
    with RawClient(simulator.port) as raw:
        raw.ask()
    clock.advance(30)
    simulator.settle()
    assert simulator.faults.drop() == 0
    assert simulator.connections == 0


def test_slow_handshakes_in_real_time(dial: Dial) -> None:
    with Simulator() as simulator:
        simulator.faults.slow_handshakes(0.05)
        peer = dial(simulator.url)
        peer.hello("symbol")
        assert peer.message()["type"] == "symbol"
