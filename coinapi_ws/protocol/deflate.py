"""permessage-deflate (RFC 7692) for the receiving side, bounded while it inflates.

wsproto's own extension inflates without a limit (hazard W9), loses its state when a control frame stands between
the fragments of a message (W14) and takes parameters that it should refuse (W2). We never compress: what a
client of this API sends is a few short frames.
"""

from __future__ import annotations

import re
import zlib
from codecs import IncrementalDecoder, getincrementaldecoder
from typing import Final

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

_MESSAGE_END: Final = b"\x00\x00\xff\xff"  # RFC 7692, section 7.2.2
_FINAL_BLOCK_END: Final = b"\x00" + _MESSAGE_END  # section 7.2.3.4
_WINDOW_BITS: Final = re.compile(r"[89]|1[0-5]")
_PARAMETERS: Final = {
    "server_no_context_takeover": re.compile(r""),
    "client_no_context_takeover": re.compile(r""),
    "server_max_window_bits": _WINDOW_BITS,
    "client_max_window_bits": _WINDOW_BITS,
}


class BoundedDeflate(Extension):
    """Inflate messages of at most ``max_message_bytes``; a larger one fails the connection with code 1009."""

    name = "permessage-deflate"

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._enabled = False
        self._keep_context = True
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._is_control = False
        self._in_message = False
        self._compressed = False
        self._inflated_bytes = 0
        self._is_text = False
        self._utf8: IncrementalDecoder | None = None  # what of a character came last

    def enabled(self) -> bool:
        return self._enabled

    def offer(self) -> str:
        """Return our parameters: the server may bound our window, since we compress nothing (section 7.1.2.2).

        Some servers agree on no compression where they may not.
        """
        return "client_max_window_bits"

    def finalize(self, offer: str) -> None:
        """Take the server's parameters. Raises ``ValueError`` for any that RFC 7692 forbids here."""
        if self._enabled:
            raise ValueError("permessage-deflate accepted twice")
        seen = set()
        for parameter in offer.split(";")[1:]:
            name, _, value = (part.strip() for part in parameter.partition("="))
            form = _PARAMETERS.get(name)
            if form is None or name in seen or not form.fullmatch(value.strip('"')):
                raise ValueError("a permessage-deflate parameter that RFC 7692 does not allow")
            seen.add(name)
        # A window of any size up to ours inflates with ours.
        self._keep_context = "server_no_context_takeover" not in seen
        self._enabled = True

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._is_control = opcode.iscontrol()
        if rsv.rsv1 and (self._is_control or opcode is Opcode.CONTINUATION):
            return CloseReason.PROTOCOL_ERROR
        if self._in_message and not self._is_control and opcode is not Opcode.CONTINUATION:
            return CloseReason.PROTOCOL_ERROR  # wsproto would say so too, but look into it first
        if not self._is_control and not self._in_message:
            self._in_message = True
            self._compressed = rsv.rsv1
            self._begin_message(is_text=opcode is Opcode.TEXT)
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        if self._is_control or not self._compressed:
            return data
        return self._inflate(data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        if self._is_control or not fin:
            return None
        self._in_message = False
        if not self._compressed:
            return None
        rest = self._inflate(_MESSAGE_END)
        self._begin_anew_if_due()
        return rest

    def inflate_message(self, payload: bytes) -> bytes | CloseReason:
        """Inflate a text of one frame, past wsproto; or return the close code that refuses it."""
        self._begin_message(is_text=True)
        inflated = self._inflate(payload + _MESSAGE_END, is_whole=True)
        self._begin_anew_if_due()
        return inflated

    def _begin_message(self, *, is_text: bool) -> None:
        self._inflated_bytes = 0
        self._is_text = is_text
        self._utf8 = None

    def _begin_anew_if_due(self) -> None:
        if self._inflater.eof or not self._keep_context:
            # A final block ends the stream, and the next message begins a new one.
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)

    def _inflate(self, data: bytes, *, is_whole: bool = False) -> bytes | CloseReason:
        room = self._max_message_bytes - self._inflated_bytes
        try:
            inflated = self._inflater.decompress(data, room + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._inflated_bytes += len(inflated)
        is_too_big = len(inflated) > room
        if self._is_text and (is_too_big or not is_whole):
            # Of what is no UTF-8 and then too big the first is told, however it was cut.
            self._utf8 = self._utf8 or getincrementaldecoder("utf-8")()
            try:
                self._utf8.decode(inflated)
            except UnicodeDecodeError:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        if is_too_big:
            return CloseReason.MESSAGE_TOO_BIG
        if len(self._inflater.unused_data) > len(_FINAL_BLOCK_END):
            # zlib would gather what follows a final block for ever, and the message would lack it.
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return inflated
