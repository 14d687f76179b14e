"""The server of `tornado`."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from following import Peer, Plan, run
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler


class TornadoPeer(Peer):
    def __init__(self, handler: Handler) -> None:
        request = handler.request
        assert request.connection is not None
        address = handler.ws_connection.stream.socket.getpeername()  # type: ignore[union-attr]
        super().__init__(request.path, dict(request.headers), address)
        self._handler = handler

    async def receive(self) -> str:
        return str(await self._handler.texts.get())

    async def send(self, message: str | bytes) -> None:
        try:
            await self._handler.write_message(message, binary=isinstance(message, bytes))
        except WebSocketClosedError:
            raise ConnectionError("the client is gone") from None

    async def close(self, code: int | None, reason: str) -> None:
        self._handler.close(code, reason or None)
        await self.closed()

    async def closed(self) -> None:
        await self._handler.ended.wait()
        if self._handler.close_code is not None:
            self.heard = (self._handler.close_code, self._handler.close_reason or "")

    async def flood(self, count: int) -> None:
        for number in range(count):
            self._handler.ping(str(number))
        while await self._handler.pongs.get() != str(count - 1).encode():
            pass


class Handler(WebSocketHandler):
    def initialize(self) -> None:
        self.texts: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.pongs: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended = asyncio.Event()

    def get_compression_options(self) -> dict[str, Any]:
        return {}  # allowed

    def open(self, *args: str, **kwargs: str) -> None:
        # Nothing is read before this returns.
        self.following = asyncio.ensure_future(Plan(TornadoPeer(self)).follow())

    def on_message(self, message: str | bytes) -> None:
        self.texts.put_nowait(message)

    def on_pong(self, data: bytes) -> None:
        self.pongs.put_nowait(data)

    def on_close(self) -> None:
        self.ended.set()


async def main(listener: socket.socket) -> None:
    HTTPServer(Application([(r"/.*", Handler)])).add_sockets([listener])
    await asyncio.get_running_loop().create_future()


run(main)
