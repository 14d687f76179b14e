"""The server of `aiohttp`."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import WSMessage, WSMsgType, web
from following import Peer, Plan, run


class AiohttpPeer(Peer):
    def __init__(self, request: web.Request, websocket: web.WebSocketResponse) -> None:
        assert request.transport is not None
        super().__init__(request.path, request.headers, request.transport.get_extra_info("peername"))
        self._websocket = websocket

    async def receive(self) -> str:
        return str((await self._receive(WSMsgType.TEXT)).data)

    async def send(self, message: str | bytes) -> None:
        await (self._websocket.send_str(message) if isinstance(message, str) else self._websocket.send_bytes(message))

    async def close(self, code: int | None, reason: str) -> None:
        await self._websocket.close(code=1000 if code is None else code, message=reason.encode())
        # It keeps the code of the answer, not its reason.
        self.heard = (self._websocket.close_code, None)

    async def closed(self) -> None:
        message = await self._websocket.receive()
        if message.type is WSMsgType.CLOSE:
            self.heard = (message.data, message.extra)

    async def flood(self, count: int) -> None:
        for number in range(count):
            await self._websocket.ping(str(number).encode())
        while (await self._receive(WSMsgType.PONG)).data != str(count - 1).encode():
            pass

    async def _receive(self, expected: WSMsgType) -> WSMessage:
        message = await self._websocket.receive()
        if message.type is not expected:
            raise ConnectionError(f"{message.type.name} instead of {expected.name}")
        return message


async def handle(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(autoping=False, compress=True, max_msg_size=0)
    await websocket.prepare(request)
    await Plan(AiohttpPeer(request, websocket)).follow()
    return websocket


async def main(listener: socket.socket) -> None:
    application = web.Application()
    application.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    await asyncio.get_running_loop().create_future()


run(main)
