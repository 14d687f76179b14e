"""What test_servers.py has no step for, against the server of `websockets`, which we did not write."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from peers import QUOTES, TRADES
from websockets.exceptions import ConnectionClosed as PeerClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from coinapi_ws import (
    AuthenticationError,
    ErrorMessage,
    PermissionDenied,
    Subscription,
    Trade,
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


def test_a_refused_upgrade(canary_key: str) -> None:
    def refuse(websocket: ServerConnection, request: Request) -> Response:
        return websocket.respond(403, "not with this key\n")

    with (
        serving(lambda websocket: None, process_request=refuse) as url,
        pytest.raises(PermissionDenied, match="HTTP status 403") as caught,
    ):
        connect(canary_key, Subscription(["trade"], everything=True), endpoint=url)
    assert caught.value.server_text == "not with this key"
