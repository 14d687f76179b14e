"""Text of the wire: WebSocket frame headers, times, decimal numbers, identifiers. Pure functions."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

NS_PER_SECOND: Final = 1_000_000_000
#: A time that never comes.
NEVER_NS: Final = 1 << 100

_FIN: Final = 0x80
_TEXT: Final = 0x01
_CONTINUATION: Final = 0x00
_MASKED: Final = 0x80
_UUID_BITS: Final = 122
# Odd, so that multiplying by it modulo a power of two never maps two counters to one identifier.
_UUID_STRIDE: Final = 0x2545F4914F6CDD1D9E3779B97F4A7C15

HEARTBEAT: Final = '{"type":"hearbeat"}'  # the vendor's spelling on the wire


def text_frame(payload: bytes) -> bytes:
    """Return a whole unmasked text frame, as a server sends it (RFC 6455, 5.2)."""
    return frame_header(len(payload)) + payload


def frame_header(size: int, *, is_first: bool = True, is_last: bool = True) -> bytes:
    """Return the header of a text frame, or of a part of a text message, with so many bytes of payload."""
    first = (_FIN if is_last else 0) | (_TEXT if is_first else _CONTINUATION)
    if size < 126:
        return struct.pack(">BB", first, size)
    if size < 65536:
        return struct.pack(">BBH", first, 126, size)
    return struct.pack(">BBQ", first, 127, size)


def masked_frame(payload: bytes, mask: bytes) -> bytes:
    """Return a text frame of less than 126 bytes that is masked, which only clients may (RFC 6455, 5.1)."""
    hidden = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
    return struct.pack(">BB", _FIN | _TEXT, _MASKED | len(payload)) + mask + hidden


def fragments(frames: bytes, most: int) -> bytes:
    """Return whole text frames as messages in fragments with at most so many bytes of payload each."""
    pieces = []
    for payload in _payloads(frames):
        starts = range(0, max(1, len(payload)), most)
        for start in starts:
            part = payload[start : start + most]
            pieces.append(frame_header(len(part), is_first=start == 0, is_last=start == starts[-1]))
            pieces.append(part)
    return b"".join(pieces)


def _payloads(frames: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(frames):
        size, position = frames[position + 1], position + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, position = int.from_bytes(frames[position : position + width], "big"), position + width
        yield frames[position : position + size]
        position += size


def time_text(time_ns: int) -> str:
    """Return nanoseconds since the epoch as ISO 8601 with seven digits, cut to 100 ns as the vendor's are."""
    second, fraction = divmod(time_ns, NS_PER_SECOND)
    return f"{_second_text(second)}.{fraction // 100:07d}Z"


@lru_cache(maxsize=64)
def _second_text(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def decimal_text(units: int, decimals: int) -> str:
    """Return a whole number of units of 10**-decimals as a JSON number, padded to that many digits."""
    if decimals == 0:
        return str(units)
    whole, fraction = divmod(units, 10**decimals)
    return f"{whole}.{fraction:0{decimals}d}"


def uuid_text(base: int, counter: int) -> str:
    """Return a version 4 UUID that no other counter gives with the same base."""
    bits = (base + counter * _UUID_STRIDE) % (1 << _UUID_BITS)
    high, middle, low = bits >> 74, (bits >> 62) & 0xFFF, bits & ((1 << 62) - 1)
    variant = (0b10 << 62) | low
    node = variant & ((1 << 48) - 1)
    return f"{high >> 16:08x}-{high & 0xFFFF:04x}-4{middle:03x}-{variant >> 48:04x}-{node:012x}"


def error_text(message: str) -> str:
    """Return the JSON of an error message; quotes come as ``\\u0027``, as the vendor escapes them."""
    text = json.dumps(message).replace("'", "\\u0027")
    return f'{{"type":"error","message":{text}}}'


def reconnect_text(within_seconds: int, before_ns: int) -> str:
    """Return the JSON of a notice that the server will close."""
    return f'{{"type":"reconnect","within_seconds":{within_seconds},"before_time":"{time_text(before_ns)}"}}'
