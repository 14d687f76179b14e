"""The stream and the WebSocket against the server of `websockets`, which we did not write."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest
import trustme
from peers import QUOTES, TRADES
from websockets.exceptions import ConnectionClosed as PeerClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from coinapi_ws import (
    AuthenticationError,
    Cause,
    ConnectionClosed,
    ErrorMessage,
    PermissionDenied,
    ProtocolError,
    Subscription,
    Trade,
    Undecodable,
    connect,
)

TRADE = '{"sequence":%d,"symbol_id":"COINBASE_SPOT_BTC_USD","price":1.5,"pad":"%s","type":"trade"}'


@contextmanager
def serving(handle: Callable[[ServerConnection], object], **options: Any) -> Iterator[str]:
    """A server whose handler runs for each connection; yields its URL, raises what a handler raised."""
    failures: list[BaseException] = []
    handlers: list[threading.Thread] = []

    def run(websocket: ServerConnection) -> None:
        handlers.append(threading.current_thread())
        try:
            handle(websocket)
        except PeerClosed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    options = {"compression": None, "ping_interval": None, **options}
    with serve(run, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        scheme, host = ("wss", "localhost") if "ssl" in options else ("ws", "127.0.0.1")
        try:
            yield f"{scheme}://{host}:{server.socket.getsockname()[1]}/v1/"
        finally:
            server.shutdown()
            thread.join()
            for handler in handlers:  # not every release of websockets waits for them
                handler.join()
    if failures:
        raise failures[0]


def test_the_handshake_says_who_we_are(canary_key: str) -> None:
    seen: dict[str, Any] = {}

    def handle(websocket: ServerConnection) -> None:
        request = websocket.request
        assert request is not None
        seen.update(path=request.path, headers=request.headers, hello=json.loads(websocket.recv(timeout=10)))

    with serving(handle) as url:
        with connect(canary_key, TRADES, endpoint=url) as stream:
            assert list(stream) == []
        assert stream.disconnected is not None
        assert stream.disconnected.code == 1000
    assert seen["path"] == "/v1/"
    assert seen["headers"]["X-CoinAPI-Key"] == canary_key
    assert seen["headers"]["User-Agent"].startswith("coinapi_ws/")
    assert seen["hello"] == {
        "type": "hello",
        "heartbeat": True,
        "subscribe_data_type": ["trade"],
        "subscribe_filter_symbol_id": ["COINBASE_SPOT_BTC_USD$"],
    }


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("tls", [False, True])
def test_large_messages(canary_key: str, compression: bool, tls: bool) -> None:
    more: dict[str, Any] = {"compression": "deflate" if compression else None}
    client = None
    if tls:
        authority = trustme.CA()
        server = more["ssl"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server)
        client = ssl.create_default_context()
        authority.configure_trust(client)
    pads = ["", "x" * 125, "ü" * 70_000, "y" * 1_000_000]

    def handle(websocket: ServerConnection) -> None:
        websocket.recv(timeout=10)
        for sequence, pad in enumerate(pads, 1):
            websocket.send(TRADE % (sequence, pad))

    with (
        serving(handle, **more) as url,
        connect(canary_key, TRADES, endpoint=url, ssl=client, compression=compression) as stream,
    ):
        trades = [item for item in stream if isinstance(item, Trade)]
    assert [trade.extra["pad"] for trade in trades] == pads
    assert stream.stats().messages == len(pads)


@pytest.mark.parametrize("compression", [False, True])
def test_fragments_with_a_ping_between_them_w14(canary_key: str, compression: bool) -> None:
    """W14: a control frame between the fragments of a compressed message is not part of it."""
    text = TRADE % (1, "z" * 5000)
    ponged = threading.Event()

    def handle(websocket: ServerConnection) -> None:
        websocket.recv(timeout=10)

        def fragments() -> Iterator[str]:
            yield text[:1000]
            yield text[1000:3000]
            assert websocket.ping("between").wait(10)
            ponged.set()
            yield text[3000:]

        websocket.send(fragments())

    with (
        serving(handle, compression="deflate" if compression else None) as url,
        connect(canary_key, TRADES, endpoint=url, compression=compression) as stream,
    ):
        (trade,) = stream
    assert isinstance(trade, Trade)
    assert trade.extra["pad"] == "z" * 5000
    assert ponged.is_set()


def test_pings_both_ways(canary_key: str) -> None:
    def handle(websocket: ServerConnection) -> None:
        websocket.recv(timeout=10)
        for number in range(5):
            assert websocket.ping(f"ping {number}").wait(10)
        websocket.send(TRADE % (1, ""))
        websocket.recv(timeout=10)

    with (
        serving(handle) as url,
        connect(canary_key, TRADES, endpoint=url, ping_interval=0.01, ping_timeout=10) as stream,
    ):
        assert isinstance(stream.recv(timeout=10), Trade)
        with pytest.raises(TimeoutError):
            stream.recv(timeout=0.05)
        assert stream.disconnected is None


def test_a_changed_scope_is_another_hello(canary_key: str) -> None:
    hellos = []

    def handle(websocket: ServerConnection) -> None:
        for _ in range(2):
            hellos.append(json.loads(websocket.recv(timeout=10))["subscribe_data_type"])

    with serving(handle) as url, connect(canary_key, TRADES, endpoint=url) as stream:
        stream.subscribe(QUOTES)
        assert list(stream) == []
    assert hellos == [["trade"], ["quote", "trade"]]


@pytest.mark.parametrize(
    ("code", "reason", "cause"),
    [
        (1011, "an internal error", Cause.UNKNOWN),
        (1012, "a restart", Cause.NOTICE),
        (1008, "a policy", Cause.UNKNOWN),
        (4321, "Ω", Cause.UNKNOWN),
    ],
)
def test_close_codes(canary_key: str, code: int, reason: str, cause: Cause) -> None:
    answers = []

    def handle(websocket: ServerConnection) -> None:
        websocket.recv(timeout=10)
        websocket.close(code, reason)
        answers.append((websocket.protocol.close_rcvd, websocket.protocol.close_sent))

    with (
        serving(handle) as url,
        connect(canary_key, TRADES, endpoint=url) as stream,
        pytest.raises(ConnectionClosed) as caught,
    ):
        next(stream)
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert stream.disconnected is not None
    assert (stream.disconnected.cause, stream.disconnected.clean) == (cause, True)
    # Our answer came before the end of TCP.
    assert answers[0][0].code == answers[0][1].code == code


def test_our_close_arrives(canary_key: str) -> None:
    codes: SimpleQueue[int | None] = SimpleQueue()

    def handle(websocket: ServerConnection) -> None:
        websocket.recv(timeout=10)
        with contextlib.suppress(PeerClosed):
            websocket.recv(timeout=10)
        codes.put(websocket.close_code)

    with serving(handle) as url:
        connect(canary_key, TRADES, endpoint=url).close()
        assert codes.get(timeout=10) == 1000


def test_an_error_and_an_abrupt_end(canary_key: str) -> None:
    def handle(websocket: ServerConnection) -> None:
        websocket.recv(timeout=10)
        websocket.send('{"message":"Invalid API key","type":"error"}')
        websocket.socket.shutdown(socket.SHUT_RDWR)

    with serving(handle) as url, connect(canary_key, TRADES, endpoint=url) as stream:
        assert isinstance(next(stream), ErrorMessage)
        with pytest.raises(AuthenticationError):
            next(stream)
        assert stream.disconnected is not None
        assert stream.disconnected.code == 1006


def test_binary_frames_are_undecodable(canary_key: str) -> None:
    def handle(websocket: ServerConnection) -> None:
        websocket.recv(timeout=10)
        websocket.send(b"\x00\x01")

    with serving(handle) as url, connect(canary_key, TRADES, endpoint=url) as stream:
        (item,) = stream
    assert isinstance(item, Undecodable)
    assert item.payload == b"\x00\x01"


def test_a_message_beyond_the_limit_is_refused_with_1009_w8(canary_key: str) -> None:
    """W8: the limit is ours, and the server hears of it."""
    closes = []

    def handle(websocket: ServerConnection) -> None:
        websocket.recv(timeout=10)
        websocket.send(TRADE % (1, "x" * 100_000))
        with contextlib.suppress(PeerClosed):
            websocket.recv(timeout=10)
        closes.append(websocket.close_code)

    with (
        serving(handle) as url,
        connect(canary_key, TRADES, endpoint=url, max_message_bytes=50_000) as stream,
        pytest.raises(ProtocolError, match="more than 50000 bytes"),
    ):
        next(stream)
    assert closes == [1009]


def test_a_refused_upgrade(canary_key: str) -> None:
    def refuse(websocket: ServerConnection, request: Request) -> Response:
        return websocket.respond(403, "not with this key\n")

    with (
        serving(lambda websocket: None, process_request=refuse) as url,
        pytest.raises(PermissionDenied, match="HTTP status 403") as caught,
    ):
        connect(canary_key, Subscription(["trade"], everything=True), endpoint=url)
    assert caught.value.server_text == "not with this key"
