"""A WebSocket server's side, made and read by hand: a peer that can break every rule."""

from __future__ import annotations

import re
from base64 import b64encode
from contextvars import ContextVar
from hashlib import sha1
from itertools import cycle
from typing import Any, Final

from coinapi_ws.protocol.websocket import TextReceived, Upgraded, WebSocket, WebSocketEvent

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

#: Which lane `open_websocket` takes, where it is not told.
FAST_LANE: Final = ContextVar("FAST_LANE", default=True)

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = b"", length_bytes: int = 0
) -> bytes:
    """A frame, legal or not; `length_bytes` forces a longer form of the length (2 or 8)."""
    size = len(payload)
    length_bytes = length_bytes or (0 if size <= 125 else 2 if size < 2**16 else 8)
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes([fin << 7 | rsv << 4 | opcode, bool(mask) << 7 | short])
    body = bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False)) if mask else payload
    return head + (size.to_bytes(length_bytes, "big") if length_bytes else b"") + mask + body


def text(payload: str | bytes, **how: Any) -> bytes:
    return frame(TEXT, payload.encode() if isinstance(payload, str) else payload, **how)


def close(code: int | None = 1000, reason: str = "") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())


def accept_key(request: bytes) -> bytes:
    """The value of Sec-WebSocket-Accept that answers a request."""
    key = re.search(rb"(?im)^sec-websocket-key: (\S+)", request)
    assert key is not None
    return b64encode(sha1(key[1] + _GUID).digest())


def accept(request: bytes, *headers: str, status: str = "101 Switching Protocols", without: str = "") -> bytes:
    """The answer that upgrades; `headers` are further lines, `without` names a line to leave out."""
    lines = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(request).decode()}",
    ]
    kept = [line for line in lines if not without or not line.startswith(f"{without}:")]
    return "\r\n".join([f"HTTP/1.1 {status}", *kept, *headers, "", ""]).encode("latin-1")


def refuse(status: str, *headers: str, body: bytes = b"") -> bytes:
    """A whole answer that refuses the upgrade."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


class ClientReader:
    """Reads what a client sends after its request: `frames` as (opcode, payload), each whole and masked."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self._unread = b""

    def feed(self, received: bytes) -> list[tuple[int, bytes]]:
        """Take bytes and return the frames that they complete."""
        self._unread += received
        before = len(self.frames)
        while len(self._unread) >= 2:
            first, short = self._unread[0], self._unread[1]
            assert first & 0xF0 == 0x80, "a client of this package sends whole frames without reserved bits"
            assert short & 0x80, "a client masks (RFC 6455, section 5.1)"
            length_bytes = {126: 2, 127: 8}.get(short & 0x7F, 0)
            start = 2 + length_bytes + 4
            size = int.from_bytes(self._unread[2 : 2 + length_bytes], "big") if length_bytes else short & 0x7F
            if len(self._unread) < start + size:
                break
            mask, payload = self._unread[start - 4 : start], self._unread[start : start + size]
            self._unread = self._unread[start + size :]
            self.frames.append((first & 0xF, bytes(byte ^ key for byte, key in zip(payload, cycle(mask)))))
        return self.frames[before:]


def open_websocket(
    *headers: str, max_message_bytes: int = 1_000_000, compression: bool = False, fast_lane: bool | None = None
) -> WebSocket:
    """A WebSocket that was upgraded, its `Upgraded` taken."""
    fast_lane = FAST_LANE.get() if fast_lane is None else fast_lane
    websocket = WebSocket(
        "example.test", "/", max_message_bytes=max_message_bytes, compression=compression, fast_lane=fast_lane
    )
    websocket.start()
    websocket.receive_data(accept(websocket.data_to_send(), *headers))
    [upgraded] = websocket.events()
    assert isinstance(upgraded, Upgraded)
    return websocket


def heard(websocket: WebSocket) -> list[WebSocketEvent]:
    """The events that wait, with each text by itself."""
    events: list[WebSocketEvent] = []
    for event in websocket.events():
        events += (
            [TextReceived([payload]) for payload in event.payloads] if isinstance(event, TextReceived) else [event]
        )
    return events


def frames_of(websocket: WebSocket) -> list[tuple[int, bytes]]:
    """The frames that wait to be sent."""
    return ClientReader().feed(websocket.data_to_send())
