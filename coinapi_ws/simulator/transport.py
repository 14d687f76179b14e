"""A non-blocking socket, plain or TLS, as the server's loop wants it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import Final

READ_BYTES: Final = 64 * 1024
#: How many reads one client gets before the others have their turn.
_READS_A_TURN: Final = 4
#: One TLS record: a refused write must be repeated with the same bytes, so that it is kept short (hazards T3,
#: T4).
_TLS_WRITE_BYTES: Final = 16 * 1024


class Transport:
    """One accepted socket, owned by one thread. Every method may raise OSError, which ends the connection."""

    def __init__(self, accepted: socket.socket, ssl_context: ssl.SSLContext | None) -> None:
        accepted.setblocking(False)
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._is_tls = ssl_context is not None
        self._handshake_is_due = self._is_tls
        self._tls_wants_write = False
        self._unsent = memoryview(b"")
        #: How many bytes the socket has taken.
        self.sent_bytes = 0
        self._socket = accepted
        if ssl_context is not None:
            self._socket = ssl_context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    @property
    def has_unsent(self) -> bool:
        """True while a part of what was given to `write` waits."""
        return bool(self._unsent)

    @property
    def wants_write(self) -> bool:
        """True when the owner should call again as soon as the socket takes more."""
        return self._tls_wants_write or (bool(self._unsent) and not self._handshake_is_due)

    @property
    def has_buffered_input(self) -> bool:
        """True when decrypted bytes wait that no selector shows (hazard T1)."""
        return isinstance(self._socket, ssl.SSLSocket) and not self._handshake_is_due and self._socket.pending() > 0

    def read(self) -> tuple[bytes, bool]:
        """Return what arrived, and whether the client closed its side."""
        if not self._handshake():
            return b"", False
        chunks: list[bytes] = []
        try:
            for _ in range(_READS_A_TURN):
                chunk = self._socket.recv(READ_BYTES)
                if not chunk:
                    return b"".join(chunks), True
                chunks.append(chunk)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass  # all that there was
        return b"".join(chunks), False

    def write(self, chunk: bytes = b"") -> None:
        """Send the chunk as far as the socket takes it; only to be given one when nothing is unsent."""
        if chunk:
            self._unsent = memoryview(chunk)
        if not self._handshake():
            return
        self._tls_wants_write = False
        try:
            while self._unsent:
                piece = self._unsent[:_TLS_WRITE_BYTES] if self._is_tls else self._unsent
                taken = self._socket.send(piece)
                self.sent_bytes += taken
                self._unsent = self._unsent[taken:]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass  # wants_write says so

    def end_writing(self) -> None:
        """Tell the client that nothing more comes."""
        if isinstance(self._socket, ssl.SSLSocket):
            # Sends close_notify at once; that its answer is not here yet is no fault.
            with contextlib.suppress(ssl.SSLError, ValueError):
                self._socket.unwrap()
        self._socket.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End our side of TCP at once: no close_notify, and what was not sent yet is lost."""
        self._unsent = memoryview(b"")
        self._handshake_is_due = False
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Let `close` tell the client that the connection was reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _handshake(self) -> bool:
        """Go on with a TLS handshake; return whether application bytes may flow."""
        if not self._handshake_is_due:
            return True
        assert isinstance(self._socket, ssl.SSLSocket)
        self._tls_wants_write = False
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._tls_wants_write = True
            return False
        self._handshake_is_due = False
        return True
