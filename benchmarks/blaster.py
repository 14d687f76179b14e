"""A server that sends prepared frames as fast as the socket takes them, or at a pace; a process of its own.

It serves 127.0.0.1 alone, one connection for each order: the upgrade, one text frame of the client (its hello), the
messages, a Close. All that can be made before is made before: frames, compressed frames, and, once the client has said
hello, the TLS records of the whole connection. So even small records reach the client as many as its socket holds.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import multiprocessing
import os
import re
import socket
import ssl
import struct
import time
import zlib
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import mix

PATIENCE_SECONDS: Final = 60.0  # no single step of a connection takes that long
PREPARING_SECONDS: Final = 600.0
GRACE_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.05  # after a hello, so that the client has noted what it had used until then
RECORD_BYTES: Final = 16 * 1024  # the most that a TLS record can hold
READ_BYTES: Final = 64 * 1024
PIECE_BYTES: Final = 1024 * 1024  # of large data: sendall's patience is for a whole call
CLOSE: Final = b"\x88\x02\x03\xe8"
TEXT: Final = 0x81
COMPRESSED_TEXT: Final = 0xC1
SYNC_FLUSH_TAIL: Final = b"\x00\x00\xff\xff"  # RFC 7692, 7.2.1: left out
GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
STAMP_BYTES: Final = len("2025-01-14T16:49:58.0005217Z")
_KEY: Final = re.compile(rb"^sec-websocket-key: *(\S+)", re.IGNORECASE | re.MULTILINE)
_EXTENSIONS: Final = re.compile(rb"^sec-websocket-extensions:.*permessage-deflate", re.IGNORECASE | re.MULTILINE)


class Wire(NamedTuple):
    """How frames travel."""

    title: str
    tls: bool = False
    #: TLS: each frame is a record of its own, not as many as fit.
    small_records: bool = False
    #: The answer to an offer of permessage-deflate; None: it is not taken.
    deflate: bytes | None = None


WIRES: Final = {
    "plain": Wire("without TLS"),
    "tls": Wire("TLS, large records", tls=True),
    "records": Wire("TLS, one record a message", tls=True, small_records=True),
    "deflate": Wire("permessage-deflate, context kept", deflate=b"permessage-deflate"),
    "deflate-fresh": Wire(
        "permessage-deflate, no context takeover", deflate=b"permessage-deflate; server_no_context_takeover"
    ),
}


class Pace(NamedTuple):
    """So many messages a second, some at a time."""

    rate: int
    burst: int


class Order(NamedTuple):
    """What the next connection gets."""

    wire: str
    messages: int
    pace: Pace | None = None


class Blaster:
    """The server's process, as its parent sees it; a context manager."""

    def __init__(self, core: int | None, certificates: Path | None, recording: Path | None) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = spawn.Pipe()
        arguments = (self._theirs, core, certificates, recording)
        self._child = spawn.Process(target=serve, args=arguments, daemon=True)

    def __enter__(self) -> Blaster:
        self._child.start()
        self._theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._child.join(PATIENCE_SECONDS)
        self._child.kill()
        self._pipe.close()

    def prepare(self, order: Order) -> tuple[int, mix.Expected]:
        """Have a connection served so; return the port, and what its client has to count."""
        self._pipe.send(order)
        self._port, expected = self._answer(PREPARING_SECONDS)
        return self._port, expected

    def finished(self) -> tuple[str, int]:
        """Return what went wrong, mostly nothing, once the client is gone, and when the first message left."""
        if not self._pipe.poll(GRACE_SECONDS):
            # It may never have connected.
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                pass
        problem, began_ns = self._answer(PATIENCE_SECONDS)
        return problem, began_ns

    def _answer(self, seconds: float) -> Any:
        if not self._pipe.poll(seconds):
            raise TimeoutError("the blaster's process does not answer")
        return self._pipe.recv()


def make_certificates(directory: Path) -> bool:
    """Write server.pem, and ca.pem for the clients; False without trustme."""
    try:
        import trustme
    except ImportError:
        return False
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        str(directory / "server.pem")
    )
    return True


def serve(pipe: Connection[Any, Any], core: int | None, certificates: Path | None, recording: Path | None) -> None:
    """Serve orders until there is none; the child's main function."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    frames = Frames(recording)
    with contextlib.suppress(EOFError):  # the parent is gone
        while order := pipe.recv():
            frames.prepare(order)
            expected = frames.expected(order.messages)
            # A port of its own, so that no client of an earlier order can be taken for this one's.
            with socket.create_server(("127.0.0.1", 0)) as listener:
                pipe.send((listener.getsockname()[1], expected))
                listener.settimeout(PATIENCE_SECONDS)
                try:
                    with listener.accept()[0] as peer:
                        peer.settimeout(PATIENCE_SECONDS)
                        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        pipe.send(("", serve_one(peer, order, frames, certificates)))
                except OSError as error:  # TimeoutError and ssl.SSLError are
                    pipe.send((f"{type(error).__name__}: {error}", 0))


def serve_one(peer: socket.socket, order: Order, frames: Frames, certificates: Path | None) -> int:
    """Serve one connection; return when the first message left, on the clock that all processes share."""
    wire = WIRES[order.wire]
    line = Tls(peer, str((certificates or Path()) / "server.pem")) if wire.tls else Line(peer)
    answer = line.sealed([upgraded(line, wire.deflate)])
    # The client waits for the answer, not, once its clock runs, for what is made here.
    sealed = [] if order.pace else frames.sealed(line, order)
    line.send(answer)
    if not line.receive():  # all that a client says in one message is its hello
        raise ConnectionError("no hello")
    time.sleep(PAUSE_SECONDS)
    began_ns = time.monotonic_ns()
    for piece in sealed:
        line.send(piece)
    if order.pace is not None:
        paced(line, order.pace, frames.payloads[: order.messages])
    with contextlib.suppress(OSError):  # a client may answer by a reset: it has its messages
        peer.settimeout(GRACE_SECONDS)
        with contextlib.suppress(TimeoutError):
            peer.recv(READ_BYTES)  # its Close, or its end; then it is for the server to close (RFC 6455, 7.1.1)
        line.end()
        while peer.recv(READ_BYTES):
            pass
    return began_ns


def upgraded(line: Line, deflate: bytes | None) -> bytes:
    """Return the answer to the upgrade."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        if not (received := line.receive()):
            raise ConnectionError("no upgrade")
        request += received
    key = _KEY.search(request)
    if key is None:
        raise ConnectionError("no Sec-WebSocket-Key")
    accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
    answer = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    answer.append(b"Sec-WebSocket-Accept: " + accept)
    if deflate is not None:
        if not _EXTENSIONS.search(request):
            raise ConnectionError("the client did not offer permessage-deflate")
        answer.append(b"Sec-WebSocket-Extensions: " + deflate)
    return b"\r\n".join([*answer, b"", b""])


def paced(line: Line, pace: Pace, payloads: list[bytes]) -> None:
    """Send bursts at a pace, each message with the time of its sending as time_coinapi."""
    parts = []
    for payload in payloads:
        at = mix.stamp_at(payload)
        parts.append((header(TEXT, len(payload)) + payload[:at], payload[at + STAMP_BYTES :]))
    begin = time.monotonic()
    for start in range(0, len(parts), pace.burst):
        due = begin + start / pace.rate
        while (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        now = stamp(time.time_ns())
        line.send(line.sealed([b"".join([head + now + tail for head, tail in parts[start : start + pace.burst]])]))
    line.send(line.sealed([CLOSE]))


def stamp(time_ns: int) -> bytes:
    """Return the API's text of a time, to 100 ns."""
    seconds, fraction = divmod(time_ns, 10**9)
    return _second(seconds) + b".%07dZ" % (fraction // 100)


@lru_cache(maxsize=4)
def _second(seconds: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()


def header(first: int, size: int) -> bytes:
    """Return a frame's header (RFC 6455, 5.2)."""
    if size < 126:
        return struct.pack(">BB", first, size)
    if size < 65536:
        return struct.pack(">BBH", first, 126, size)
    return struct.pack(">BBQ", first, 127, size)


class Line:
    """A connection without TLS."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer

    def receive(self) -> bytes:
        return self.peer.recv(READ_BYTES)

    def send(self, sealed: bytes) -> None:
        view = memoryview(sealed)
        for start in range(0, len(view), PIECE_BYTES):
            self.peer.sendall(view[start : start + PIECE_BYTES])

    def sealed(self, records: list[Any]) -> bytes:
        """Return the bytes to send; with TLS each item becomes a record."""
        return b"".join(records)

    def end(self) -> None:
        self.peer.shutdown(socket.SHUT_WR)


class Tls(Line):
    """A connection with TLS, whose records can be made long before they are sent."""

    def __init__(self, peer: socket.socket, certificate: str) -> None:
        super().__init__(peer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.fill()
        self.send(self.outgoing.read())

    def fill(self) -> None:
        self.send(self.outgoing.read())
        if not (received := self.peer.recv(READ_BYTES)):
            raise ConnectionError("the client has closed during TLS")
        self.incoming.write(received)

    def receive(self) -> bytes:
        while True:
            try:
                return self.tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                self.fill()

    def sealed(self, records: list[Any]) -> bytes:
        write = self.tls.write
        for record in records:
            write(record)
        return self.outgoing.read()

    def end(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):  # the other's close_notify is not waited for
            self.tls.unwrap()
        self.send(self.outgoing.read())
        super().end()


class Frames:
    """Payloads and the frames made of them, kept for the next connection that wants the same."""

    def __init__(self, recording: Path | None) -> None:
        self.recording = recording
        self.payloads: list[bytes] = []
        self.wire = lru_cache(maxsize=4)(self.make_wire)
        self.expected = lru_cache(maxsize=16)(lambda count: mix.expected(self.payloads[:count]))

    def prepare(self, order: Order) -> None:
        """Have ready what can be made before the client connects."""
        if len(self.payloads) < order.messages:
            self.payloads = (
                mix.mixed(order.messages) if self.recording is None else mix.recorded(self.recording, order.messages)
            )
        if order.pace is None:
            self.wire(order.messages, WIRES[order.wire].deflate)

    def each_frame(self, count: int) -> list[bytes]:
        """Return the frames one by one."""
        return [header(TEXT, len(payload)) + payload for payload in self.payloads[:count]]

    def sealed(self, line: Line, order: Order) -> list[bytes]:
        """Return all that is to be sent, the Close included, in few large pieces."""
        wire = WIRES[order.wire]
        everything = self.wire(order.messages, wire.deflate)
        if not wire.tls:
            return [everything, CLOSE]
        if wire.small_records:
            return [line.sealed([*self.each_frame(order.messages), CLOSE])]
        view = memoryview(everything)
        records = [view[start : start + RECORD_BYTES] for start in range(0, len(view), RECORD_BYTES)]
        return [line.sealed([*records, CLOSE])]

    def make_wire(self, count: int, deflate: bytes | None) -> bytes:
        """Return all frames together."""
        if deflate is None:
            return b"".join(self.each_frame(count))
        fresh = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        compressor, frames = fresh.copy(), []
        for payload in self.payloads[:count]:
            if b"no_context_takeover" in deflate:
                compressor = fresh.copy()
            small = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
            small = small.removesuffix(SYNC_FLUSH_TAIL)
            frames += [header(COMPRESSED_TEXT, len(small)), small]
        return b"".join(frames)
