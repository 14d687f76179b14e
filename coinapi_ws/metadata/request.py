"""One GET on a connection of its own: the transport of the drivers below, ``http.client`` for the answer's form.

Blocks. What goes wrong is a ``ConnectFailed`` with the error type to raise; no text of it has anything in it that the
server sent.
"""

from __future__ import annotations

import codecs
import io
import selectors
import time
import zlib
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Any, Final

from ..drivers.failures import ConnectFailed
from ..drivers.transport import READ_BYTES, Transport
from ..drivers.waiting import LONGEST_WAIT_SECONDS, Interest, Waiting
from ..exceptions import ConnectionClosed, ConnectTimeout, ProtocolError

_GZIP: Final = 16 + zlib.MAX_WBITS
#: Of an answer that is an error, so much is read.
_MAX_ERROR_BYTES: Final = 4096


class Wire(io.RawIOBase):
    """The bytes of one connection, as ``http.client`` wants to read them.

    No read goes on after ``deadline``, on the monotonic clock, and after ``max_bytes``. :meth:`close` closes the
    connection.
    """

    def __init__(self, transport: Transport, *, deadline: float, max_bytes: int) -> None:
        self.deadline = deadline
        self._transport = transport
        self._left = max_bytes
        self._waiting = Waiting()
        self._unread = memoryview(b"")

    def send(self, request: bytes) -> None:
        """Connect, and send this."""
        while not self._transport.step(time.monotonic()):
            self._wait(self._transport.next_timeout)
        self._transport.send(request)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._unread and not self._transport.eof:
            self._check()
            self._transport.flush()
            self._unread = memoryview(self._transport.receive())
            if not self._unread and not self._transport.eof:
                self._wait(self.deadline)
        count = min(len(buffer), len(self._unread))
        buffer[:count] = self._unread[:count]
        self._unread = self._unread[count:]
        self._left -= count
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What ``http.client`` asks a socket for."""
        return io.BufferedReader(self, READ_BYTES)

    @property
    def broken(self) -> str | None:
        """Why nothing more comes, where it was no orderly end."""
        return self._transport.broken

    def close(self) -> None:
        # Not as a file: who flushes and closes what is read through, such as http.client, may do so later.
        self._transport.close()

    def _check(self) -> None:
        if time.monotonic() >= self.deadline:
            raise ConnectFailed(ConnectTimeout, "the server's answer was not complete in time")
        if self._left <= 0:
            raise too_large()

    def _wait(self, until: float | None) -> None:
        transport = self._transport
        events = selectors.EVENT_READ * transport.want_read | selectors.EVENT_WRITE * transport.want_write
        seconds = LONGEST_WAIT_SECONDS if until is None else until - time.monotonic()
        interest = Interest(transport.fileno(), transport.generation, events)
        self._waiting.wait(interest, max(0.0, min(LONGEST_WAIT_SECONDS, seconds)))


class Answer:
    """What came back: ``status``, ``headers`` with their names in lower case, and the body in pieces.

    Where ``has_end`` is False the end of the body is told by that of the connection alone.
    """

    def __init__(self, wire: Wire, *, max_bytes: int) -> None:
        self._wire = wire
        self._max_bytes = max_bytes
        self._response = HTTPResponse(wire, method="GET")  # type: ignore[arg-type]  # it asks for no more of a socket
        try:
            self._response.begin()
            # 1xx comes before the answer, which http.client knows of 100 alone. Nobody asked for 101.
            while 101 < self._response.status < 200:
                self._response.headers = None  # type: ignore[assignment]  # or it has begun already
                self._response.begin()
        except RemoteDisconnected:
            raise self.cut("the server closed the connection without an answer") from None
        except HTTPException:
            raise ConnectFailed(ProtocolError, "what answers there does not speak HTTP/1.1") from None
        self.status = self._response.status
        self.has_end = self._response.length is not None or bool(self._response.chunked)
        self.headers = tuple((name.lower(), value) for name, value in self._response.getheaders())

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes, inflated; raise where it is cut off, larger than ``max_bytes``, or no gzip."""
        encoding = dict(self.headers).get("content-encoding", "identity").strip().lower()
        if encoding not in ("gzip", "x-gzip", "identity"):
            raise ConnectFailed(ProtocolError, "the answer is encoded in a way that was not asked for")
        left = self._max_bytes
        for piece in self._encoded() if encoding == "identity" else self._inflated():
            left -= len(piece)
            if left < 0:
                raise too_large()
            yield piece

    def texts(self) -> Iterator[str]:
        """Yield the body as text."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for piece in self.pieces():
                yield decoder.decode(piece)
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise ConnectFailed(ProtocolError, "the answer is not valid UTF-8") from None

    def error_text(self) -> str:
        """Return the beginning of the body, as far as it can be had."""
        text = bytearray()
        try:
            for piece in self.pieces():
                text += piece
                if len(text) >= _MAX_ERROR_BYTES:
                    break
        except ConnectFailed:
            pass  # the status says more than what is wrong with its explanation
        return text[:_MAX_ERROR_BYTES].decode("utf-8", "replace")

    def cut(self, what: str) -> ConnectFailed:
        """Return the error of an answer that ended too early."""
        reason = "" if self._wire.broken is None else f" ({self._wire.broken})"
        return ConnectFailed(ConnectionClosed, f"{what}{reason}; ask again")

    def _encoded(self) -> Iterator[bytes]:
        left = self._response.length  # None where the end is told in another way
        while left != 0:
            try:
                piece = self._response.read1(READ_BYTES if left is None else min(left, READ_BYTES))
            except IncompleteRead:
                raise self.cut("the answer was cut off") from None
            except HTTPException:
                raise ConnectFailed(ProtocolError, "the answer is not valid HTTP/1.1") from None
            if not piece:
                if left is not None or (self._wire.broken is not None and not self.has_end):
                    raise self.cut("the answer was cut off")
                return
            left = None if left is None else left - len(piece)
            yield piece

    def _inflated(self) -> Iterator[bytes]:
        inflater = zlib.decompressobj(_GZIP)
        for piece in self._encoded():
            plain = b""
            while piece or plain:  # what is left inside of it comes without any input
                if piece and inflater.eof:
                    inflater = zlib.decompressobj(_GZIP)  # for the next member (RFC 1952, 2.2)
                try:
                    plain = inflater.decompress(piece, READ_BYTES)
                except zlib.error:
                    raise ConnectFailed(ProtocolError, "the answer is not valid gzip") from None
                if plain:
                    yield plain
                piece = inflater.unconsumed_tail or (piece and inflater.unused_data)
        if not inflater.eof:
            raise self.cut("the answer was cut off within its gzip stream")


def too_large() -> ConnectFailed:
    """The server sends without an end."""
    return ConnectFailed(ProtocolError, "the answer is larger than max_bytes allows; raise it, or use a filter")
