"""TLS as bytes in, bytes out: an ``ssl.SSLObject`` between two memory BIOs, with no socket inside.

So what a selector says about the socket is true, and a write that must be repeated is only bytes in a buffer. The
rows T1 to T13 are explained in the project's hazard tests. Not thread-safe; never blocks.
"""

from __future__ import annotations

import ssl
from typing import Final

from ..exceptions import ConfigurationError

_RECORD_BYTES: Final = 16 * 1024  # SSLObject.read gives one record at most (T13)


class Tls:
    """The client's end of one TLS connection.

    Raises ``ConfigurationError`` without a host name: a context that checks it would then verify nothing (T9).
    ``handshake`` and ``write`` raise ``ssl.SSLError`` where the peer or its certificate is at fault.
    """

    def __init__(self, context: ssl.SSLContext, server_hostname: str) -> None:
        if not server_hostname:
            raise ConfigurationError("TLS needs the host name that the certificate is checked against")
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        #: True once the peer has said, or its TCP end has shown, that nothing more comes.
        self.eof = False
        #: What the peer did wrong, where the end was its fault.
        self.broken: str | None = None

    def receive_data(self, ciphertext: bytes) -> None:
        """Take bytes from the socket."""
        self._incoming.write(ciphertext)

    def receive_eof(self) -> None:
        """Take note that the socket will give nothing more."""
        self._incoming.write_eof()

    def handshake(self) -> bool:
        """Go on with the handshake as far as the bytes allow; return whether it is done."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self) -> bytes:
        """Return all plaintext that the bytes so far make; sets ``eof`` at the end, clean, cut off (T10) or broken.

        Nothing whole is left inside, so no selector has to know of it (T1, T13). It may make bytes to send
        (T11). What one call returns is bounded by what was received since the last.
        """
        parts = []
        try:
            while part := self._object.read(_RECORD_BYTES):
                parts.append(part)
            self.eof = True
        except ssl.SSLWantReadError:
            pass  # all whole records are read
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.eof = True
        except ssl.SSLError as error:
            # The records before it were whole, and may say why.
            self.eof, self.broken = True, reason_of(error)
        return b"".join(parts)

    def write(self, plaintext: bytes) -> None:
        """Encrypt; the caller bounds how much it hands over, since nothing here does (T12)."""
        self._object.write(plaintext)

    def close(self) -> None:
        """Make the close_notify, which tells the peer that the end is no truncation."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            return  # wants the peer's close_notify, which is not waited for, or was never up

    def data_to_send(self) -> bytes:
        """Return the bytes for the socket since the last call."""
        return self._outgoing.read()


def reason_of(error: ssl.SSLError) -> str:
    """Return what went wrong, in lower case."""
    return str(error.reason or "failed").replace("_", " ").lower()
