"""The server of `websockets`, on asyncio."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

from following import Peer, Plan, run
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


class WebsocketsPeer(Peer):
    def __init__(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        super().__init__(request.path, dict(request.headers.raw_items()), connection.remote_address)
        self._connection = connection

    async def receive(self) -> str:
        text = await self._connection.recv()
        assert isinstance(text, str)
        return text

    async def send(self, message: str | bytes) -> None:
        await self._connection.send(message)

    async def close(self, code: int | None, reason: str) -> None:
        await self._connection.close(1000 if code is None else code, reason)
        self._hear()

    async def closed(self) -> None:
        await self._connection.wait_closed()
        self._hear()

    async def flood(self, count: int) -> None:
        waiters = [await self._connection.ping(str(number)) for number in range(count)]
        await waiters[-1]

    async def send_fragments(self, parts: list[str]) -> None:
        async def fragments() -> AsyncIterator[str]:
            yield parts[0]
            await (await self._connection.ping("between"))
            for part in parts[1:]:
                yield part

        await self._connection.send(fragments())

    def _hear(self) -> None:
        received = self._connection.protocol.close_rcvd
        self.heard = None if received is None else (received.code, received.reason)


async def handle(connection: ServerConnection) -> None:
    with suppress(ConnectionClosed):  # the outcome says how far the plan came
        await Plan(WebsocketsPeer(connection)).follow()


async def main(listener: socket.socket) -> None:
    async with serve(handle, sock=listener, ping_interval=None, max_size=None, server_header=None):
        await asyncio.get_running_loop().create_future()


run(main)
