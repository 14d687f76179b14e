"""Peers at the other end of a real connection, and a loop of one's own around a SelectorConnection."""

from __future__ import annotations

import errno
import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Message, Request

from coinapi_ws import Connected, Disconnected, SelectorConnection, Subscription
from coinapi_ws.drivers.transport import Address

#: Nothing on loopback takes that long, on a busy machine either; a test that waits for more has failed.
PATIENCE_SECONDS: Final = 30.0

TRADES: Final = Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
QUOTES: Final = Subscription(["quote"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])


class FakeClock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Listener(socket.socket):
    """A socket that listens on a free port; closing it closes all that it accepted."""

    def __init__(self, host: str = "127.0.0.1", backlog: int = 16) -> None:
        super().__init__(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self.accepted: list[socket.socket] = []
        try:
            self.bind((host, 0))
            self.listen(backlog)
        except OSError:
            self.close()
            raise
        self.settimeout(PATIENCE_SECONDS)

    def close(self) -> None:
        for accepted in self.accepted:
            accepted.close()
        super().close()


def listening(backlog: int = 16, host: str = "127.0.0.1") -> Listener:
    """A socket that listens on a free port; connecting to it succeeds before anyone accepts."""
    return Listener(host, backlog)


@contextmanager
def silent_address() -> Iterator[Address]:
    """An address that never answers: its queue of connections is full, so the kernel drops what knocks."""
    with listening(backlog=0) as full:
        callers = []
        try:
            while True:
                caller = socket.socket()
                callers.append(caller)
                caller.setblocking(False)
                assert caller.connect_ex(full.getsockname()) in (0, errno.EINPROGRESS)
                try:
                    caller.getpeername()
                except OSError:
                    break
                assert len(callers) < 10, "the queue is never full"
            yield address_of(full)
        finally:
            for caller in callers:
                caller.close()


def accept(listener: Listener) -> socket.socket:
    accepted, _ = listener.accept()
    accepted.settimeout(PATIENCE_SECONDS)
    listener.accepted.append(accepted)
    return accepted


def address_of(listener: socket.socket) -> Address:
    return Address(listener.family, listener.getsockname())


def reset(accepted: socket.socket) -> None:
    """End TCP as a crashed host does."""
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()


def url_of(listener: socket.socket, scheme: str = "ws") -> str:
    host = "localhost" if scheme == "wss" else "127.0.0.1"
    return f"{scheme}://{host}:{listener.getsockname()[1]}/"


class ServerSide:
    """The server's end of one WebSocket on a blocking socket, frame by frame as a test wants it."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.websocket = WSConnection(ConnectionType.SERVER)
        self._events: list[Event] = []

    def event(self) -> Event:
        """Wait for the next event; a CloseConnection stands for the end of TCP too."""
        while not self._events:
            received = self.socket.recv(65536)
            self.websocket.receive_data(received or None)
            self._events += list(self.websocket.events())
        return self._events.pop(0)

    def upgrade(self, headers: list[tuple[bytes, bytes]] | None = None) -> Request:
        request = self.event()
        assert isinstance(request, Request)
        self.send(AcceptConnection(extra_headers=headers or []))
        return request

    def send(self, event: Event) -> None:
        self.socket.sendall(self.websocket.send(event))

    def text(self, text: str) -> None:
        self.send(Message(data=text))

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.send(CloseConnection(code=code, reason=reason))

    def until_closed(self) -> CloseConnection:
        while not isinstance(event := self.event(), CloseConnection):
            pass
        return event


@contextmanager
def serving(handle: Callable[[ServerSide], object], ssl_context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server on a thread that handles each connection in turn; yields its URL, raises what the handler raised."""
    listener = listening()
    failures: list[BaseException] = []

    def run() -> None:
        while True:
            accepted, _ = listener.accept()
            accepted.settimeout(PATIENCE_SECONDS)
            with accepted:
                if accepted.recv(1, socket.MSG_PEEK) == b"":
                    return
                try:
                    if ssl_context is None:
                        handle(ServerSide(accepted))
                    else:
                        with ssl_context.wrap_socket(accepted, server_side=True) as wrapped:
                            handle(ServerSide(wrapped))
                except BaseException as error:  # noqa: BLE001 - raised below
                    failures.append(error)

    thread = threading.Thread(target=run, name="server of a test")
    thread.start()
    try:
        yield url_of(listener, "ws" if ssl_context is None else "wss")
    finally:
        socket.create_connection(listener.getsockname()).close()
        thread.join()
        listener.close()
    if failures:
        raise failures[0]


def turn(connection: SelectorConnection, wait: float = PATIENCE_SECONDS) -> list[Any]:
    """Wait until the descriptor is ready, as a foreign loop does, and handle it."""
    wants = selectors.EVENT_READ * connection.want_read() | selectors.EVENT_WRITE * connection.want_write()
    assert wants, "nothing to wait for"
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), wants)
        ready = sum(events for _, events in selector.select(wait))
    items: list[Any] = []
    if ready & selectors.EVENT_READ:
        items += connection.handle_read()
    if ready & selectors.EVENT_WRITE:
        items += connection.handle_write()
    return items


def drive(connection: SelectorConnection, until: type | Callable[[list[Any]], bool], items: list[Any]) -> list[Any]:
    """Turn until an item of that type is among `items`, or the function of them is true; return all."""
    while not (any(isinstance(item, until) for item in items) if isinstance(until, type) else until(items)):
        assert connection.fileno() != -1, f"it ended with {items}"
        items += turn(connection)
    return items


def up(connection: SelectorConnection, listener: Listener) -> tuple[ServerSide, list[Any]]:
    """Both ends of a connection after the upgrade and the hello, and the items so far."""
    items = connection.start()
    server = asking(connection, listener, items)
    server.upgrade()
    return server, drive(connection, Connected, items)


def asking(connection: SelectorConnection, listener: Listener, items: list[Any]) -> ServerSide:
    """The server's end of a started connection whose upgrade request is on its way."""
    while not connection.want_read():
        items += turn(connection)
    return ServerSide(accept(listener))


def ending(items: list[Any]) -> Disconnected:
    """The Disconnected among the items: exactly one, and the last."""
    assert [isinstance(item, Disconnected) for item in items].count(True) == 1
    assert isinstance(items[-1], Disconnected)
    return items[-1]
