"""The borders of frames in what was received, and a fast lane for the frames that market data is made of, pure.

Nearly all frames are final, unmasked texts at a message's border. Of those :meth:`FrameInput.cut` takes whole runs,
straight from the bytes; all others, and whatever is wrong with one, go to wsproto frame by frame, which alone decides
what is legal. So both lanes say the same, and the fast one is all that a frame costs.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Final

from .deflate import BoundedDeflate

_HEAD: Final = struct.Struct(">HH").unpack_from
_HEAD_BYTES: Final = 4
_FINAL: Final = 0x80
_TEXT: Final = 0x81  # final, and the opcode of a text (RFC 6455, section 5.2)
_COMPRESSED_TEXT: Final = 0xC1  # the same with RSV1 (RFC 7692, section 6)
_BINARY: Final = 0x2
_IN_TWO_BYTES: Final = 126  # a length that does not fit into the first two bytes
_IN_EIGHT_BYTES: Final = 127
_INVALID_DATA: Final = 1007  # a close code (RFC 6455, section 7.4.1)
_WIDE_TEXT: Final = _TEXT << 8 | _IN_TWO_BYTES


class FrameInput:
    """Bytes that were received after the upgrade and are in no message yet.

    ``refusal`` is the close code of what :meth:`cut` met and wsproto cannot be asked about: a compressed message that
    does not inflate, or not within the limit, or to no UTF-8.
    """

    def __init__(self, max_message_bytes: int, deflate: BoundedDeflate | None, *, fast_lane: bool) -> None:
        self.refusal: int | None = None
        self._max_message_bytes = max_message_bytes
        self._deflate = deflate
        self._fast_lane = fast_lane
        self._data = b""
        self._position = 0
        self._unread = 0  # of the frame that wsproto has the beginning of
        self._is_control = False  # that frame
        self._in_message = False  # between the frames of one

    def feed(self, data: bytes) -> None:
        """Take bytes, cut in any way."""
        self._data = self._data[self._position :] + data
        self._position = 0

    @property
    def has_more(self) -> bool:
        """Whether any of the bytes are left."""
        return self._position < len(self._data)

    def cut(self) -> list[str]:
        """Return the texts that come next, up to the first frame that is none or not whole."""
        payloads: list[str] = []
        if not self._fast_lane or self._unread or self._in_message or self.refusal is not None:
            return payloads
        data, position = self._data, self._position
        size, most = len(data), self._max_message_bytes
        last_head = size - _HEAD_BYTES
        while position <= last_head:
            head, length = _HEAD(data, position)
            if head == _WIDE_TEXT and length >= _IN_TWO_BYTES:
                begin = position + _HEAD_BYTES
                end = begin + length
                if end > size or length > most:
                    break
                try:
                    payloads.append(data[begin:end].decode())
                except UnicodeDecodeError:
                    break
                position = end
            else:
                text, position = self._cut_rarer(head, length, position)
                if text is None:
                    break
                payloads.append(text)
        self._move_to(position)
        return payloads

    def next_frame(self, most: int) -> bytes:
        """Return the next frame for wsproto, or what there is of it; nothing where more is waited for.

        Of a message no more than so many bytes at once.
        """
        data, position = self._data, self._position
        if not self._fast_lane:
            return self.rest(most)
        if not self._unread:
            size = self._size_at(position)
            if size is None:
                return self.rest(most) if self._is_no_frame(position) else b""
            if position + size > len(data) and self._is_worth_waiting(position, size):
                return b""
            self._is_control = data[position] & 0x0F > _BINARY
            if not self._is_control:  # control frames may stand between the parts of a message
                self._in_message = not data[position] & _FINAL
            self._unread = size
        frame = data[position : position + (self._unread if self._is_control else min(self._unread, most))]
        self._unread -= len(frame)
        self._move_to(position + len(frame))
        return frame

    def rest(self, most: int) -> bytes:
        """Return what is left, no more than so many bytes at once."""
        rest = self._data[self._position : self._position + most]
        self._position += len(rest)
        return rest

    def _move_to(self, position: int) -> None:
        """Go on there; of what is read to its end nothing is kept, neither memory nor a key that the server quoted."""
        is_end = position == len(self._data)
        self._data, self._position = (b"", 0) if is_end else (self._data, position)

    def _size_at(self, position: int) -> int | None:
        """Return the length of the frame that begins here, with its head; None where that is not known yet."""
        data = self._data
        if position + 2 > len(data):
            return None
        short = data[position + 1] & 0x7F
        length_bytes = {_IN_TWO_BYTES: 2, _IN_EIGHT_BYTES: 8}.get(short, 0)
        begin = position + 2 + length_bytes
        if begin > len(data):
            return None
        length = int.from_bytes(data[position + 2 : begin], "big") if length_bytes else short
        mask = 4 if data[position + 1] & 0x80 else 0  # which a server must not use
        return 2 + length_bytes + mask + length

    def _is_no_frame(self, position: int) -> bool:
        """Whether this beginning of a head is illegal already: only texts, binaries and their parts are that long."""
        return len(self._data) >= position + 2 and self._data[position] & 0x0F > _BINARY

    def _is_worth_waiting(self, position: int, size: int) -> bool:
        """Whether the frame may be one to cut once it is whole. What is no ASCII may be wrong already: wsproto sees."""
        short = self._data[position + 1]
        head_bytes = 2 if short < _IN_TWO_BYTES else _HEAD_BYTES
        return (
            self._data[position] == _TEXT
            and (short < _IN_TWO_BYTES or (short == _IN_TWO_BYTES and size >= _HEAD_BYTES + _IN_TWO_BYTES))
            and not self._in_message
            and size <= self._max_message_bytes
            and self._data[position + head_bytes :].isascii()
        )

    def _cut_rarer(self, head: int, length: int, position: int) -> tuple[str | None, int]:
        """Cut a short text, or a compressed one, that begins here; return it and where it ends."""
        first, short = head >> 8, head & 0xFF
        begin = position + (2 if short < _IN_TWO_BYTES else 4)
        length = length if short == _IN_TWO_BYTES else short
        end = begin + length
        is_shortest = short < _IN_TWO_BYTES or (short == _IN_TWO_BYTES and length >= _IN_TWO_BYTES)
        text = None
        if is_shortest and end <= len(self._data):
            if first == _COMPRESSED_TEXT and self._inflates():
                text = self._inflate(self._data[begin:end])
            elif first == _TEXT and length <= self._max_message_bytes:
                with suppress(UnicodeDecodeError):  # wsproto will say so
                    text = self._data[begin:end].decode()
        return text, position if text is None else end

    def _inflates(self) -> bool:
        return self._deflate is not None and self._deflate.enabled()

    def _inflate(self, compressed: bytes) -> str | None:
        assert self._deflate is not None
        inflated = self._deflate.inflate_message(compressed)
        if isinstance(inflated, bytes):
            try:
                return inflated.decode()
            except UnicodeDecodeError:
                self.refusal = _INVALID_DATA
        else:
            self.refusal = int(inflated)
        return None
