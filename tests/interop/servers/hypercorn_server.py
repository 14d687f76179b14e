"""`wsproto` behind `hypercorn`, as an ASGI application; it does not learn the code of a client's Close."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from following import Peer, Plan, run
from hypercorn.asyncio import serve
from hypercorn.config import Config


class HypercornPeer(Peer):
    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        super().__init__(scope["path"], headers, scope["client"])
        self._receive = receive
        self._send = send

    async def receive(self) -> str:
        event = await self._receive()
        if event["type"] != "websocket.receive":
            raise ConnectionError("the client is gone")
        return str(event["text"])

    async def send(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        await self._send({"type": "websocket.send", kind: message})

    async def close(self, code: int | None, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": 1000 if code is None else code, "reason": reason})

    async def closed(self) -> None:
        while (await self._receive())["type"] != "websocket.disconnect":
            pass


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        return  # the application's own life
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await Plan(HypercornPeer(scope, receive, send)).follow()


async def main(listener: socket.socket) -> None:
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = None
    config.websocket_max_message_size = 2**30
    await serve(application, config, shutdown_trigger=asyncio.get_running_loop().create_future)  # type: ignore[arg-type]


run(main)
