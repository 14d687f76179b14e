"""What the servers of these tests have in common: the client's request says what its server is to do.

A path ends with a number and a plan: steps, each a name and its arguments, as JSON in URL-safe base64. What the server
has heard by the end of the plan is a JSON line on stdout, with that number. The first line is the port. A server ends
when its stdin does, so it never outlives the tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from abc import ABC, abstractmethod
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

TRADE = '{"sequence":%d,"symbol_id":"COINBASE_SPOT_BTC_USD","price":1.5,"pad":"%s","type":"trade"}'


class Peer(ABC):
    """One connection, by the means of one library."""

    def __init__(self, path: str, headers: Mapping[str, str], address: tuple[Any, ...]) -> None:
        self.path = path
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.address = tuple(address[:2])
        #: Code and reason of the client's Close, once it came.
        self.heard: tuple[int | None, str | None] | None = None

    @abstractmethod
    async def receive(self) -> str:
        """Wait for a text."""

    @abstractmethod
    async def send(self, message: str | bytes) -> None: ...

    @abstractmethod
    async def close(self, code: int | None, reason: str) -> None:
        """Close, and wait for the client's answer."""

    @abstractmethod
    async def closed(self) -> None:
        """Wait until the client has closed."""

    async def flood(self, count: int) -> None:
        """Send so many Pings, and wait for the Pong to the last one."""
        raise NotImplementedError

    async def send_fragments(self, parts: list[str]) -> None:
        """Send a text in parts, with a Ping after the first, whose Pong is awaited."""
        raise NotImplementedError


class Plan:
    """The steps that a client asked for, on its connection."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        *_, number, encoded = peer.path.split("/")
        self.steps = json.loads(urlsafe_b64decode(encoded))
        self.texts: list[str] = []
        self.done: list[str] = []
        self.number = int(number)

    async def follow(self) -> None:
        """Take the steps; where the client has gone before the last, the outcome says how far it came."""
        try:
            for name, *arguments in self.steps:
                await getattr(self, name)(*arguments)
                self.done.append(name)
        except ConnectionError:
            pass
        finally:
            outcome = {"number": self.number, "path": self.peer.path, "headers": self.peer.headers}
            say({**outcome, "texts": self.texts, "heard": self.peer.heard, "done": self.done})

    async def receive(self) -> None:
        self.texts.append(await self.peer.receive())

    async def trade(self, sequence: int, size: int = 0, pad: str = "x") -> None:
        await self.peer.send(TRADE % (sequence, pad * size))

    async def binary(self, payload: str) -> None:
        await self.peer.send(bytes.fromhex(payload))

    async def fragments(self, sequence: int, size: int, parts: int) -> None:
        text = TRADE % (sequence, "z" * size)
        step = len(text) // parts + 1
        await self.peer.send_fragments([text[begin : begin + step] for begin in range(0, len(text), step)])

    async def flood(self, count: int) -> None:
        await self.peer.flood(count)

    async def close(self, code: int | None, reason: str = "") -> None:
        await self.peer.close(code, reason)

    async def closed(self) -> None:
        await self.peer.closed()

    async def raw(self, sent: str) -> None:
        with socket.socket(fileno=os.dup(descriptor_to(self.peer.address))) as duplicate:
            duplicate.setblocking(True)
            duplicate.sendall(bytes.fromhex(sent))
            duplicate.setblocking(False)

    async def fin(self) -> None:
        with socket.socket(fileno=os.dup(descriptor_to(self.peer.address))) as duplicate:
            duplicate.shutdown(socket.SHUT_WR)

    async def rst(self) -> None:
        """Put a dead socket in the place of the connection's, whatever the library holds on to."""
        descriptor = descriptor_to(self.peer.address)
        with socket.socket(fileno=os.dup(descriptor)) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        dead, other = socket.socketpair()
        other.close()
        with dead:
            os.dup2(dead.fileno(), descriptor)


def say(thing: object) -> None:
    """Write a line for the tests."""
    sys.stdout.write(json.dumps(thing) + "\n")
    sys.stdout.flush()


def descriptor_to(address: tuple[Any, ...]) -> int:
    """This process's descriptor of the connection from that address."""
    for name in os.listdir("/dev/fd"):
        try:
            found = socket.socket(fileno=int(name))
        except OSError:
            continue  # no socket, or the listing's own
        try:
            if found.getpeername()[:2] == address:
                return int(name)
        except (OSError, TypeError):
            pass  # listens, or is no TCP
        finally:
            found.detach()
    raise ConnectionError(f"no connection from {address} any more")


def run(serve: Callable[[socket.socket], Awaitable[object]]) -> None:
    """Serve on a free port until stdin ends."""

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        server = asyncio.ensure_future(serve(listener))
        say(listener.getsockname()[1])
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
        await asyncio.wait([server, ended], return_when=asyncio.FIRST_COMPLETED)
        if server.done():
            server.result()

    asyncio.run(main())
