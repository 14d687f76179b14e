"""A WebSocket client by hand: it answers nothing by itself and shows every byte that a server sends."""

from __future__ import annotations

import json
import socket
import ssl
from types import TracebackType
from typing import Any, Final, NamedTuple

from websocket_peer import CLOSE, CONTINUATION, PING, PONG, TEXT, frame

#: Nothing on loopback takes that long; a test that waits for more has failed.
PATIENCE_SECONDS: Final = 10.0
REQUEST: Final = (
    b"GET /v1/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Frame(NamedTuple):
    """A frame as a server sent it."""

    fin: bool
    opcode: int
    payload: bytes


class RawClient:
    """A TCP or TLS connection to 127.0.0.1, closed at the end of its ``with``."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        # Else what is sent in two parts may arrive long after the test has gone on.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            try:
                self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            except BaseException:
                self.socket.close()
                raise

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def ask(self) -> None:
        """Send the upgrade request."""
        self.socket.sendall(REQUEST)

    def head(self) -> str:
        """The head of one HTTP answer, byte by byte, so that what follows is left."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.exactly(1)
        return head.decode("latin-1")

    def upgrade(self) -> RawClient:
        self.ask()
        assert self.head().startswith("HTTP/1.1 101 ")
        return self

    def send(self, opcode: int, payload: bytes = b"") -> None:
        self.socket.sendall(frame(opcode, payload, mask=b"\x01\x02\x03\x04"))

    def hello(self, *data_types: str, **fields: Any) -> None:
        self.send(TEXT, json.dumps({"type": "hello", "subscribe_data_type": data_types, **fields}).encode())

    def close_frame(self, code: int = 1000) -> None:
        self.send(CLOSE, code.to_bytes(2, "big"))

    def exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            chunk = self.socket.recv(min(size - len(received), 1024 * 1024))
            if not chunk:
                raise EOFError(f"{size} bytes expected, {len(received)} came")
            received += chunk
        return bytes(received)

    def at_hand(self) -> bytes:
        """All that has arrived, without waiting."""
        received = b""
        self.socket.setblocking(False)
        try:
            while chunk := self.socket.recv(65536):
                received += chunk
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        finally:
            self.socket.settimeout(PATIENCE_SECONDS)
        return received

    def rest(self) -> bytes:
        """All up to the end of the connection."""
        return b"".join(iter(lambda: self.socket.recv(65536), b""))

    def frame(self) -> Frame:
        first, size = self.exactly(2)
        assert size < 0x80, "a server masks nothing"
        if size >= 126:
            size = int.from_bytes(self.exactly(2 if size == 126 else 8), "big")
        return Frame(bool(first & 0x80), first & 0x0F, self.exactly(size))

    def text(self) -> str:
        """The next message, which must be a text in one frame."""
        frame = self.frame()
        assert (frame.fin, frame.opcode) == (True, TEXT)
        return frame.payload.decode()

    def ping(self, payload: bytes = b"a ping") -> list[Frame]:
        """Send a Ping, and return all frames before its Pong: what the server had to say until then."""
        self.send(PING, payload)
        frames = []
        while (frame := self.frame()) != (True, PONG, payload):
            frames.append(frame)
        return frames


def messages(frames: list[Frame]) -> list[str]:
    """The texts that these frames make together; control frames may be between them."""
    texts, parts = [], b""
    for part in frames:
        if part.opcode in (TEXT, CONTINUATION):
            assert (part.opcode == TEXT) == (parts == b"")
            parts += part.payload
            if part.fin:
                texts.append(parts.decode())
                parts = b""
    assert parts == b""
    return texts
