"""A connection as resumable, non-blocking steps: each address in turn, TCP, then a proxy's tunnel and TLS where asked.

Not thread-safe; never blocks. ``now`` is in seconds on the caller's monotonic clock.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from ..auth import HiddenBuffer
from ..endpoints import host_and_port
from ..exceptions import CertificateError, ConfigurationError, ConnectError, ConnectTimeout, ProxyError
from .failures import ConnectFailed
from .socket_options import SocketOptions
from .tls import Tls, reason_of
from .tunnel import Tunnel

READ_BYTES: Final = 64 * 1024
#: After a read that was full the next one is larger, by so much: where much waits, fewer reads are cheaper, and where
#: little does, so large a buffer costs more than the read.
_MORE: Final = 4
_IN_PROGRESS: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, errno.EINTR})


class Address(NamedTuple):
    """Where to connect, as ``socket.getaddrinfo`` says it."""

    family: int
    sockaddr: tuple[Any, ...]

    def __str__(self) -> str:
        host, port = self.sockaddr[:2]
        return host_and_port(host, port)


class Transport:
    """Bytes to and from one host, over the first address that accepts.

    ``deadline`` bounds connecting, the proxy's answer and the TLS handshake over all addresses together; each address
    gets an even share of what is left to accept (F19). With ``tunnel`` the addresses are the proxy's; ``connected`` is
    a socket that needs none. The certificate is checked against ``server_hostname``, or else the host.
    Call :meth:`step` when the descriptor is ready or ``next_timeout`` has passed, until it returns True; then
    :meth:`receive`, :meth:`send` and :meth:`flush`.
    """

    def __init__(
        self,
        host: str,
        addresses: Sequence[Address],
        *,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        deadline: float | None = None,
        tunnel: Tunnel | None = None,
        connected: socket.socket | None = None,
        socket_options: SocketOptions = SocketOptions(),  # noqa: B008 - a value
    ) -> None:
        self._host = host
        self._peer = host if tunnel is None else f"the proxy {tunnel.proxy}"
        try:
            self._addresses = [Address(*address) for address in addresses]
        except TypeError:
            raise ConfigurationError("addresses, as resolve returns them, are pairs of family and sockaddr") from None
        self._ssl_context = ssl_context
        self._server_hostname = server_hostname or host
        self._deadline = deadline
        self._tunnel = tunnel
        self._socket_options = socket_options
        self._share_ends: float | None = None
        self._address: Address | None = None
        self._socket = connected
        self._tcp_is_up = connected is not None
        self._tls: Tls | None = None
        self._failures: list[str] = []
        self._output = HiddenBuffer()  # the upgrade request has the key in it
        self._read_bytes = READ_BYTES
        self._shutdown_is_due = False
        self.established = False
        #: True once nothing more will be received; ``broken`` says why, where it was no orderly end.
        self.eof = False
        self.broken: str | None = None
        #: Counts sockets: a caller that watches the descriptor registers anew when it changes.
        self.generation = 0 if connected is None else 1
        if connected is not None:
            connected.setblocking(False)
            with suppress(OSError):
                socket_options.apply(connected)  # as far as it is TCP

    def fileno(self) -> int:
        """Return the descriptor to watch, or -1."""
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def want_read(self) -> bool:
        """True while a readable descriptor means work."""
        return self._tcp_is_up and not self.eof

    @property
    def want_write(self) -> bool:
        """True while a writable descriptor means work."""
        return self._socket is not None and (not self._tcp_is_up or bool(self._output))

    @property
    def unsent_bytes(self) -> int:
        """How much waits to be sent."""
        return len(self._output)

    @property
    def next_timeout(self) -> float | None:
        """When to call :meth:`step` though nothing is ready; None once established."""
        if self.established:
            return None
        ends = [end for end in (self._share_ends, self._deadline) if end is not None]
        return min(ends, default=None)

    def step(self, now: float) -> bool:
        """Go on connecting; return whether the connection is up. Raises ``ConnectFailed`` where none comes about."""
        if self._deadline is not None and now >= self._deadline:
            raise ConnectFailed(ConnectTimeout, self._lateness())
        if not self._tcp_is_up:
            if self._socket is not None and self._share_ends is not None and now >= self._share_ends:
                self._give_up("no answer in time")
            if not self._reach(now):
                return False
        if self._tunnel is not None and not self._tunnel.established and not self._dig(self._tunnel):
            return False
        if self._ssl_context is not None:
            if self._tls is None:
                self._tls = Tls(self._ssl_context, self._server_hostname)
            return self._shake_hands(self._tls)
        self.established = True
        return True

    def receive(self) -> bytes:
        """Return what has come, perhaps nothing; sets ``eof`` at the end.

        One read of the socket, so a caller with many connections is fair to all of them.
        """
        ciphertext = self._read_socket()
        if self._tls is None:
            return ciphertext
        if self.eof:
            self._tls.receive_eof()
        else:
            self._tls.receive_data(ciphertext)
        plaintext = self._tls.read()
        self._output += self._tls.data_to_send()  # reading may make bytes to send (T11)
        if self._tls.broken is not None:
            self._break(f"TLS: {self._tls.broken}")
        self.eof = self.eof or self._tls.eof
        return plaintext

    def send(self, payload: bytes) -> None:
        """Queue bytes; :meth:`flush` sends them."""
        if self._tls is None or not payload:
            self._output += payload
            return
        try:
            self._tls.write(payload)
        except ssl.SSLError as error:
            self._break(f"TLS: {reason_of(error)}")
        self._output += self._tls.data_to_send()

    def flush(self) -> None:
        """Send what the socket takes now."""
        if self._socket is None or not (self._output or self._shutdown_is_due):
            return
        try:
            while self._output:
                with memoryview(self._output) as view:
                    sent = self._socket.send(view)
                del self._output[:sent]
            if self._shutdown_is_due:
                self._shutdown_is_due = False
                self._socket.shutdown(socket.SHUT_WR)
        except (BlockingIOError, InterruptedError):
            pass  # the socket is full; want_write says that there is more
        except OSError as error:
            # What the peer sent before is still to be read, so only the sending side ends here.
            self._output.clear()
            if not self.eof:
                self.broken = self.broken or _os_reason(error)

    def shut_down_writing(self) -> None:
        """Say, after what waits, that nothing more is sent; what the peer still sends can be received."""
        if self._tls is not None:
            self._tls.close()
            self._output += self._tls.data_to_send()
        self._shutdown_is_due = True
        self.flush()

    def close(self) -> None:
        """Close the descriptor. Idempotent. Unregister it from selectors before."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._tcp_is_up = False
        self._output = HiddenBuffer()  # the old one cannot be emptied where a fork came in the middle of a flush
        self.eof = True

    def _reach(self, now: float) -> bool:
        """Go through the addresses until one is up (True) or on its way (False)."""
        while True:
            if self._socket is None:
                self._begin(now)
            elif not self._is_refused(self._socket):
                if self._tcp_is_up and self._tunnel is not None:
                    self._output += self._tunnel.request()
                return self._tcp_is_up

    def _begin(self, now: float) -> None:
        if not self._addresses:
            tried = "; ".join(self._failures) or "the name has no address"
            error_type = ConnectError if self._tunnel is None else ProxyError
            raise ConnectFailed(error_type, f"no connection to {self._peer}: {tried}")
        if self._deadline is not None:
            self._share_ends = now + (self._deadline - now) / len(self._addresses)
        self._address = self._addresses.pop(0)
        self.generation += 1
        try:
            self._socket = socket.socket(self._address.family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            self._socket_options.apply(self._socket)
            code = self._socket.connect_ex(self._address.sockaddr)
        except OSError as error:
            self._give_up(_os_reason(error))
            return
        if code not in _IN_PROGRESS and code != 0:
            self._give_up(os.strerror(code))

    def _is_refused(self, connecting: socket.socket) -> bool:
        """Give up where the host refused; otherwise note whether TCP is up already."""
        code = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code != 0:
            self._give_up(os.strerror(code))
            return True
        try:
            connecting.getpeername()
        except OSError:
            return False  # still on its way
        self._tcp_is_up = True
        self._share_ends = None
        return False

    def _give_up(self, reason: str) -> None:
        self._failures.append(f"{self._address}: {reason}")
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _lateness(self) -> str:
        if self._tcp_is_up and self._tunnel is not None and not self._tunnel.established:
            return f"{self._peer} did not answer in time"
        peer = self._host if self._tcp_is_up else self._peer
        tried = f" ({'; '.join(self._failures)})" if self._failures else ""
        return f"no connection to {peer} in time{tried}"

    def _dig(self, tunnel: Tunnel) -> bool:
        self.flush()
        tunnel.receive_data(self._read_socket())
        if self.eof:
            tunnel.receive_eof(self.broken)
        return tunnel.established

    def _shake_hands(self, tls: Tls) -> bool:
        try:
            tls.receive_data(self._read_socket())
            if self.eof:
                reason = self.broken or "the server closed the connection"
                raise ConnectFailed(ConnectError, f"the TLS handshake with {self._host} failed: {reason}")
            self.established = tls.handshake()
        except ssl.SSLCertVerificationError as error:
            raise ConnectFailed(
                CertificateError, f"the certificate of {self._host} is not valid: {error.verify_message}"
            ) from None
        except ssl.SSLError as error:
            raise ConnectFailed(
                ConnectError, f"the TLS handshake with {self._host} failed: {reason_of(error)}"
            ) from None
        finally:
            self._output += tls.data_to_send()  # an alert, where it failed
            self.flush()
        return self.established

    def _read_socket(self) -> bytes:
        if self._socket is None or self.eof:
            return b""
        try:
            received = self._socket.recv(self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return b""  # readable does not mean that there is something for us (T2)
        except OSError as error:
            self._break(_os_reason(error))
            return b""
        if not received:
            self.eof = True
        self._read_bytes = READ_BYTES * _MORE if len(received) >= READ_BYTES else READ_BYTES
        return received

    def _break(self, reason: str) -> None:
        self.eof = True
        self.broken = self.broken or reason


def _os_reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
