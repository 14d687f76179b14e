"""Proxies for tests: real sockets, a thread for each connection, and routes in place of a name service."""

from __future__ import annotations

import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from peers import PATIENCE_SECONDS

from coinapi_ws import Stream
from coinapi_ws.simulator import Simulator

Route = tuple[str, int]

_SOCKS_GRANTED: Final = 0
_SOCKS_HOST_UNREACHABLE: Final = 4


class ProxyServer(ABC):
    """A proxy on a free port of this machine. Subclasses talk; what they grant, this one carries both ways.

    ``routes`` say where a host and port are; others are not reached. ``asked`` has all that was asked for.
    """

    def __init__(self, routes: Mapping[Route, Route] | None = None) -> None:
        self.routes = dict(routes or {})
        self.asked: list[Route] = []
        #: What was carried from the client to the server, through all tunnels.
        self.carried = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> ProxyServer:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        for each in (self._listener, *self._sockets):
            each.close()

    @abstractmethod
    def talk(self, client: socket.socket) -> socket.socket | None:
        """Take the client's request; return the socket to its target, or None."""

    def reach(self, target: Route) -> socket.socket | None:
        self.asked.append(target)
        if target not in self.routes:
            return None
        upstream = socket.create_connection(self.routes[target])
        self._sockets.append(upstream)
        return upstream

    def _start(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, name="proxy of a test")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            upstream = self.talk(client)
            if upstream is None:
                client.shutdown(socket.SHUT_RDWR)
                return
            self._start(self._carry, upstream, client, None)
            self._carry(client, upstream, self.carried)

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket, copy: bytearray | None) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                if copy is not None:
                    copy += part
                target.sendall(part)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


class ConnectProxy(ProxyServer):
    """HTTP CONNECT. ``login`` is the value of Proxy-Authorization that it wants; ``answer`` what it says instead."""

    def __init__(
        self, routes: Mapping[Route, Route] | None = None, *, login: str | None = None, answer: bytes | None = None
    ) -> None:
        self.login = login
        self.answer = answer
        self.heads: list[str] = []
        super().__init__(routes)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def talk(self, client: socket.socket) -> socket.socket | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = client.recv(1)
            if not part:
                return None
            head += part
        self.heads.append(head.decode())
        if self.answer is not None:
            client.sendall(self.answer)
            return None
        lines = head.decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        if self.login is not None and f"Proxy-Authorization: {self.login}" not in lines:
            client.sendall(b"HTTP/1.1 407 Who are you?\r\nProxy-Authenticate: Basic realm=x\r\n\r\n" + head)
            return None
        host, _, port = target.rpartition(":")
        upstream = self.reach((host.strip("[]"), int(port))) if method == "CONNECT" else None
        if upstream is None:
            client.sendall(b"HTTP/1.1 502 Not there\r\nContent-Length: 0\r\n\r\n")
            return None
        client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 a.test\r\n\r\n")
        return upstream


class SocksProxy(ProxyServer):
    """SOCKS 5 (RFC 1928), with the user name and password of ``login`` (RFC 1929), or without."""

    def __init__(
        self,
        routes: Mapping[Route, Route] | None = None,
        *,
        login: tuple[str, str] | None = None,
        reply: int | bytes | None = None,
        answer: bytes | None = None,
    ) -> None:
        self.login = login
        self.reply = reply
        self.answer = answer
        self.by_name: list[bool] = []
        super().__init__(routes)

    def url(self, scheme: str = "socks5h", login: str = "") -> str:
        return f"{scheme}://{login}127.0.0.1:{self.port}"

    def talk(self, client: socket.socket) -> socket.socket | None:
        exactly = client.makefile("rb").read
        _, count = exactly(2)
        methods = exactly(count)
        if self.answer is not None:
            client.sendall(self.answer)
            return None
        method = 0 if self.login is None else 2
        if method not in methods:
            client.sendall(b"\x05\xff")
            return None
        client.sendall(bytes([5, method]))
        if self.login is not None:
            exactly(1)
            given = tuple(exactly(exactly(1)[0]).decode() for _ in range(2))
            client.sendall(bytes([1, given != self.login]))
            if given != self.login:
                return None
        _, _, _, kind = exactly(4)
        self.by_name.append(kind == 3)
        host = exactly(exactly(1)[0]).decode() if kind == 3 else socket.inet_ntop(socket.AF_INET, exactly(4))
        (port,) = struct.unpack("!H", exactly(2))
        upstream = None if self.reply else self.reach((host, port))
        if isinstance(self.reply, bytes):
            client.sendall(self.reply)
            return None
        reply = self.reply or (_SOCKS_HOST_UNREACHABLE if upstream is None else _SOCKS_GRANTED)
        client.sendall(bytes([5, reply, 0, 1]) + bytes(6))
        return upstream


def until_asked(simulator: Simulator, stream: Stream) -> None:
    """Wait until the hello is through the proxy: what is inside of it, the simulator cannot settle."""
    while not simulator.received:
        with suppress(TimeoutError):
            stream.recv(timeout=0.01)
