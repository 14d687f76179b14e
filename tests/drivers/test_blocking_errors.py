"""What connect() and the stream raise, and that none of it tells the key."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from peers import TRADES, Listener, ServerSide, serving
from wsproto.events import CloseConnection

from coinapi_ws import (
    AuthenticationError,
    Cause,
    CertificateError,
    CoinAPIError,
    ConfigurationError,
    ConnectError,
    ConnectionClosed,
    ConnectTimeout,
    ErrorMessage,
    HandshakeRejected,
    PermissionDenied,
    RateLimited,
    Secret,
    ServerRejected,
    Subscription,
    SubscriptionWarning,
    connect,
)
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.drivers.transport import Address
from coinapi_ws.simulator import Simulator, VirtualClock

Leaks = Callable[[BaseException], bool]


def refused(listener: Listener) -> str:
    """A URL where nobody listens any more."""
    port = listener.getsockname()[1]
    listener.close()
    return f"ws://127.0.0.1:{port}/"


# The server refuses


def test_a_key_that_is_not_accepted_is_raised_by_the_iteration(canary_key: str, leaks: Leaks) -> None:
    with (
        Simulator(clock=VirtualClock(), api_keys=["another key"]) as simulator,
        connect(canary_key, TRADES, endpoint=simulator.url) as stream,
    ):
        message = next(stream)
        assert isinstance(message, ErrorMessage)
        with pytest.raises(AuthenticationError, match="Invalid API key") as caught:
            next(stream)
        assert (caught.value.stage, caught.value.status) == ("hello", None)
        assert caught.value.server_text == "Invalid API key"
        assert stream.disconnected is caught.value.disconnected
        assert not leaks(caught.value)


def test_a_type_that_the_server_does_not_know(canary_key: str) -> None:
    with pytest.warns(SubscriptionWarning, match="unknown data type 'trades'"):
        wrong = Subscription(["trades"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
    with (
        Simulator(clock=VirtualClock()) as simulator,
        connect(canary_key, wrong, endpoint=simulator.url) as stream,
        pytest.raises(ServerRejected) as caught,
    ):
        list(stream)
    assert caught.value.disconnected is not None
    assert caught.value.disconnected.cause is Cause.SCOPE


@pytest.mark.parametrize(
    ("status", "error_type", "cause"),
    [
        (401, AuthenticationError, Cause.CREDENTIALS),
        (403, PermissionDenied, Cause.CREDENTIALS),
        (429, RateLimited, Cause.RATE_LIMIT),
        (302, HandshakeRejected, Cause.UNKNOWN),
        (503, HandshakeRejected, Cause.NETWORK),
    ],
)
def test_an_upgrade_that_is_refused_is_raised_by_connect(
    canary_key: str, leaks: Leaks, status: int, error_type: type[CoinAPIError], cause: Cause
) -> None:
    body = f"no entry for {canary_key}".encode()

    def refuse(server: ServerSide) -> None:
        server.event()
        head = f"HTTP/1.1 {status} No\r\nRetry-After: 3\r\nLocation: http://elsewhere.example/\r\n"
        server.socket.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    with serving(refuse) as url, pytest.raises(error_type) as caught:
        connect(canary_key, TRADES, endpoint=url, pacer=SharedPacer())
    error = caught.value
    assert isinstance(error, (AuthenticationError, PermissionDenied, RateLimited, HandshakeRejected))
    assert (error.stage, error.status, error.retry_after) == ("upgrade", status, 3.0)
    assert error.server_text == "no entry for ***"
    assert error.disconnected is not None
    assert error.disconnected.cause is cause
    assert not leaks(error)


# No connection


def test_nobody_listens(canary_key: str, listener: Listener, leaks: Leaks) -> None:
    with pytest.raises(ConnectError, match="Connection refused") as caught:
        connect(canary_key, TRADES, endpoint=refused(listener))
    assert isinstance(caught.value, OSError)
    assert not leaks(caught.value)


def test_nobody_answers(canary_key: str, listener: Listener, leaks: Leaks) -> None:
    url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    with pytest.raises(ConnectTimeout, match="did not answer the upgrade in time") as caught:
        connect(canary_key, TRADES, endpoint=url, open_timeout=0.5)
    assert isinstance(caught.value, TimeoutError)
    assert not leaks(caught.value)


def test_an_answer_that_is_no_http(canary_key: str) -> None:
    with serving(lambda server: server.socket.sendall(b"220 mail.example ESMTP\r\n\r\n")) as url:
        with pytest.raises(CoinAPIError) as caught:
            connect(canary_key, TRADES, endpoint=url)
        assert "upgrade" in str(caught.value)


def test_an_end_before_the_answer(canary_key: str) -> None:
    with serving(lambda server: server.event()) as url, pytest.raises(ConnectError, match="without a Close frame"):
        connect(canary_key, TRADES, endpoint=url)


def test_a_close_before_the_hello_may_leave_is_the_end_of_the_stream(canary_key: str) -> None:
    """A server that limits hellos to none for now, and closes in order, has refused nothing."""

    def close(server: ServerSide) -> None:
        server.upgrade([(b"X-WsHelloPerIpLimit-RetryAfterMs", b"9000")])
        server.close()
        assert isinstance(server.event(), CloseConnection)

    with serving(close) as url, connect(canary_key, TRADES, endpoint=url, pacer=SharedPacer()) as stream:
        assert list(stream) == []


@pytest.mark.parametrize("auth", ["header", "query", "path", "hello"])
def test_a_wrong_certificate_ends_it_before_the_key_is_sent(
    canary_key: str, server_context: ssl.SSLContext, leaks: Leaks, auth: str
) -> None:
    with Simulator(clock=VirtualClock(), ssl_context=server_context) as simulator:
        with pytest.raises(CertificateError, match="the certificate of localhost is not valid") as caught:
            connect(canary_key, TRADES, endpoint=simulator.url, auth=auth)
        simulator.settle()
        assert simulator.requests == []
    assert not leaks(caught.value)


# Nothing is tried at all


@pytest.fixture
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket, or a name's address, was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("endpoint", ["geo", "ncsa", "emea", "apac", "wss://ws.coinapi.io/v1/"])
def test_the_vendor_is_not_asked_without_a_key(no_socket: None, endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="needs an API key; pass api_key or set COINAPI_API_KEY"):
        connect(None, TRADES, endpoint=endpoint)


def test_no_key_crosses_the_network_in_the_clear(no_socket: None, canary_key: str, leaks: Leaks) -> None:
    with pytest.raises(ConfigurationError, match="unencrypted") as caught:
        connect(canary_key, TRADES, endpoint="ws://market.example/")
    assert not leaks(caught.value)


def test_a_key_may_cross_the_network_in_the_clear_if_asked(canary_key: str, listener: Listener) -> None:
    def resolve(host: str, port: int) -> list[Address]:
        raise OSError("so far and no further")

    with pytest.raises(ConnectError, match=r"the name market\.example was not resolved"):
        connect(canary_key, TRADES, endpoint="ws://market.example/", allow_plaintext=True, resolve=resolve)


@pytest.mark.parametrize("resolve", [socket.getaddrinfo, lambda host, port: None])
def test_a_resolve_that_returns_something_else(listener: Listener, canary_key: str, resolve: Any, leaks: Leaks) -> None:
    url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    with pytest.raises(ConfigurationError, match="as resolve returns them, are pairs of family and sockaddr") as caught:
        connect(canary_key, TRADES, endpoint=url, resolve=resolve)
    assert not leaks(caught.value)


@pytest.mark.parametrize("more", [{"numbers": "int"}, {"wire": "morse"}, {"auth": "telepathy"}, {"open_timeout": 0}])
def test_wrong_options(no_socket: None, canary_key: str, leaks: Leaks, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(canary_key, TRADES, endpoint="geo", **more)
    assert not leaks(caught.value)


def test_an_empty_scope(no_socket: None, canary_key: str, leaks: Leaks) -> None:
    with pytest.raises(CoinAPIError, match="everything") as caught:
        connect(canary_key, endpoint="geo")
    assert not leaks(caught.value)


# F24: what a traceback with captured locals would show


@pytest.mark.parametrize("broken", ["{}\n", '"{}"x y', " {}", "{}\x7f", "{}é"])
@pytest.mark.parametrize("where", ["argument", "environment"])
def test_a_malformed_key_is_not_told_f24(
    no_socket: None, canary_key: str, leaks: Leaks, monkeypatch: pytest.MonkeyPatch, where: str, broken: str
) -> None:
    key = broken.format(canary_key)
    if where == "environment":
        monkeypatch.setenv("COINAPI_API_KEY", key)
    with pytest.raises(ConfigurationError, match="printable ASCII") as caught:
        connect(key if where == "argument" else None, TRADES)
    assert not leaks(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "wss://ws.coinapi.io/v1/?apikey={}",
        "wss://ws.coinapi.io/v1/APIKEY-{}",
        "wss://coinapi:{}@ws.coinapi.io/v1/",
        "https://ws.coinapi.io/{}",
        "wss://ws.coinapi.io/{} /",
        "wss://ws.coinapi.io:port/{}",
        "{}",
    ],
)
def test_a_key_in_the_url_is_not_told_f24(no_socket: None, canary_key: str, leaks: Leaks, url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(None, TRADES, endpoint=url.format(canary_key))
    assert not leaks(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        connect(canary_key, TRADES, endpoint=url.format(canary_key))
    assert not leaks(caught.value)


@pytest.mark.parametrize("auth", ["header", "query", "path", "authorization", "basic", "hello"])
def test_no_way_of_sending_the_key_tells_it_where_the_connection_fails_f24(
    canary_key: str, listener: Listener, leaks: Leaks, monkeypatch: pytest.MonkeyPatch, auth: str
) -> None:
    url = refused(listener)
    monkeypatch.setenv("COINAPI_API_KEY", canary_key)
    for key in (canary_key, Secret(canary_key), None):
        with pytest.raises(ConnectError) as caught:
            connect(key, TRADES, endpoint=url, auth=auth)
        assert not leaks(caught.value)


@pytest.mark.parametrize("auth", ["header", "query", "path", "authorization", "basic", "hello"])
def test_the_key_arrives_each_way_and_the_stream_s_errors_do_not_tell_it_f24(
    canary_key: str, leaks: Leaks, auth: str
) -> None:
    with Simulator(clock=VirtualClock(), api_keys=[canary_key]) as simulator:
        with connect(canary_key, TRADES, endpoint=simulator.url, auth=auth) as stream:
            simulator.settle()
            assert simulator.connections == 1
            assert json.loads(simulator.received[0])["type"] == "hello"
            simulator.close()
            list(stream)
            with pytest.raises(ConnectionClosed, match="the simulator was closed") as caught:
                stream.recv()
        assert not leaks(caught.value)


def test_what_the_jwt_callable_raises_passes_through_f24(canary_key: str, listener: Listener, leaks: Leaks) -> None:
    class TokenServerDown(Exception):
        pass

    def no_token() -> str:
        raise TokenServerDown

    url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    with pytest.raises(TokenServerDown) as caught:
        connect(canary_key, TRADES, endpoint=url, jwt=no_token)
    assert not leaks(caught.value)
