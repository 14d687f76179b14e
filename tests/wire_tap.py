"""What simulators wrote to their clients, message by message, for sums that must be exact.

The tap is at the last place before the kernel: what ``send`` took was written, and nothing else. A proxy in between
would have buffers of its own, and would have to forge resets. It notes under a lock, which whoever receives can take
too, so that nothing is received before it is noted. It cuts frames by itself, and so shares no bug with either end.
"""

from __future__ import annotations

import functools
import re
import socket
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pytest

from coinapi_ws.simulator.behaviour import Tampering
from coinapi_ws.simulator.client import Client
from coinapi_ws.simulator.intake import Intake
from coinapi_ws.simulator.streams import Stream
from coinapi_ws.simulator.transport import Transport

#: Small, so that a client that does not read is soon felt.
_SEND_BUFFER_BYTES: Final = 32 * 1024
_TOKEN: Final = re.compile(rb"Bearer attempt-(\d+)\r\n")
_SEQUENCE: Final = re.compile(rb'"sequence":(\d+),"type"')
_CONTINUE, _SWITCHING = b"100", b"101"


class Frames:
    """The server's bytes, from the answer to the upgrade on, cut into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_upgraded = False
        self._is_refused = False
        self._parts: list[bytes] = []

    def feed(self, written: bytes) -> Iterator[str]:
        """Take bytes and yield the messages that were ended by them. The rest waits; at the end it is no message."""
        self._buffer += written
        while not self._is_upgraded:
            head, end, _ = self._buffer.partition(b"\r\n\r\n")
            if not end or self._is_refused:
                return
            status = head[9:12]
            self._is_upgraded = status == _SWITCHING
            self._is_refused = status not in (_CONTINUE, _SWITCHING)
            del self._buffer[: len(head) + len(end)]
        buffer, position = self._buffer, 0
        while (borders := _borders(buffer, position)) is not None:
            first, start, position = buffer[position], *borders
            if first & 0x0F > 2:
                continue  # a control frame
            self._parts.append(bytes(buffer[start:position]))
            if first & 0x80:
                yield b"".join(self._parts).decode("utf-8", "surrogateescape")
                self._parts = []
        del buffer[:position]


def _borders(buffer: bytearray, position: int) -> tuple[int, int] | None:
    """Return where the payload of the frame at the position begins and ends; None where that is not there yet."""
    start = position + 2
    if len(buffer) < start:
        return None
    size = buffer[position + 1] & 0x7F
    width = {126: 2, 127: 8}.get(size, 0)
    if width:
        size = int.from_bytes(buffer[start : start + width], "big")
    start += width + (4 if buffer[position + 1] & 0x80 else 0)
    return None if len(buffer) < start + size else (start, start + size)


class Wire:
    """One connection as its server sees it: ``number`` counts those of one simulator from 1.

    ``attempt`` is that of the client, told apart by the token that each of them brings as its JWT.
    """

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.number = 0
        self.attempt: int | None = None
        self.is_open = True
        self.frames = Frames()
        self._head = b""

    def receive(self, received: bytes) -> None:
        """Look for the token in what the client sent first."""
        if self.attempt is None:
            self._head += received
            if (found := _TOKEN.search(self._head)) is not None:
                self.attempt, self._head = int(found[1]), b""
                self.tap.opened(self)


class Tap(ABC):
    """Notes what is written by all simulators that start after `install`. Subclasses say what becomes of it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it between the simulators to come and their sockets."""
        monkeypatch.setattr("coinapi_ws.simulator.intake.Transport", _TappedTransport)
        monkeypatch.setattr("coinapi_ws.simulator.intake.Tampering", _TappedTampering)
        monkeypatch.setattr("coinapi_ws.simulator.engine.Intake", functools.partial(_TappedIntake, self))

    @abstractmethod
    def opened(self, wire: Wire) -> None:
        """The client's token has come."""

    @abstractmethod
    def wrote(self, wire: Wire, text: str) -> None:
        """A whole message is in the socket's buffer."""

    @abstractmethod
    def skipped(self, wire: Wire, stream: Stream, sequence: int) -> None:
        """A message was lost on purpose, with its sequence number."""

    @abstractmethod
    def closed(self, wire: Wire) -> None:
        """The server's socket is closed; called once."""


class _TappedIntake(Intake):
    def __init__(self, tap: Tap, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tap = tap

    def take_in(self, *arguments: Any, **more: Any) -> Client | None:
        client = super().take_in(*arguments, **more)
        if client is not None:
            transport, tampering = client._transport, client.conversation.feed.tampering
            assert isinstance(transport, _TappedTransport)
            assert isinstance(tampering, _TappedTampering)
            transport.wire = tampering.wire = wire = Wire(self._tap)
            wire.number = client.number
        return client


class _TappedTransport(Transport):
    wire: Wire

    def __init__(self, accepted: socket.socket, ssl_context: ssl.SSLContext | None) -> None:
        super().__init__(accepted, ssl_context)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def read(self) -> tuple[bytes, bool]:
        received, is_eof = super().read()
        with self.wire.tap.lock:
            self.wire.receive(received)
        return received, is_eof

    def write(self, chunk: bytes = b"") -> None:
        wire = self.wire
        with wire.tap.lock:
            before, waiting = self.sent_bytes, self._unsent or memoryview(chunk)
            try:
                super().write(chunk)
            finally:
                for text in wire.frames.feed(bytes(waiting[: self.sent_bytes - before])):
                    wire.tap.wrote(wire, text)

    def close(self) -> None:
        super().close()
        with self.wire.tap.lock:
            if self.wire.is_open:
                self.wire.is_open = False
                self.wire.tap.closed(self.wire)


class _TappedTampering(Tampering):
    wire: Wire

    def frames(self, messages: Iterable[tuple[Stream, bytes]]) -> list[bytes]:
        if not self.is_active:
            return super().frames(messages)
        with self.wire.tap.lock:
            offered = list(messages)
            kept = super().frames(offered)
            passed = set(map(id, kept))
            for stream, frame in offered:
                if id(frame) not in passed:
                    found = _SEQUENCE.search(frame)
                    assert found is not None, "what has no sequence can be lost without a trace"
                    self.wire.tap.skipped(self.wire, stream, int(found[1]))
            return kept
