"""A connection for any loop that can watch a descriptor and run a timer. Nothing blocks but name resolution."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias

import certifi

from ..auth import Secret, check_sendable
from ..events import Cause, Disconnected
from ..exceptions import (
    CoinAPIError,
    ConfigurationError,
    ConnectError,
    ConnectionClosed,
    RateLimited,
    UsageError,
)
from ..options import Options
from ..protocol.pacing import UPGRADE, Pacer
from ..protocol.session import Item, Session, SessionStats
from ..protocol.states import SessionState
from ..protocol.websocket import ABNORMAL_CLOSURE, NORMAL_CLOSURE
from ..subscription import Scope
from .transport import Address, ConnectFailed, Transport

Resolve: TypeAlias = "Callable[[str, int], Sequence[Address]]"

#: While more than this waits to be sent, nothing is read, so that a peer that never reads cannot fill memory.
HIGH_WATER_BYTES: Final = 64 * 1024
#: After the Close frames the server ends TCP (RFC 6455, 7.1.1); it is given this long, so that ours is not lost.
LINGER_SECONDS: Final = 1.0
#: What waits in the socket may be what a timer is missing (F7); a bound, since a flood never ends (F3).
_READS_BEFORE_TIMEOUT: Final = 64


class SharedPacer(Pacer):
    """A pacer for the connections of all threads of a process."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()  # take() calls the other two

    def next_allowed(self, host: str, kind: str, now: float, *, is_vendor: bool) -> float:
        with self._lock:
            return super().next_allowed(host, kind, now, is_vendor=is_vendor)

    def record(self, host: str, kind: str, now: float, *, is_vendor: bool) -> None:
        with self._lock:
            super().record(host, kind, now, is_vendor=is_vendor)

    def take(self, host: str, kind: str, now: float, *, is_vendor: bool) -> float:
        with self._lock:
            return super().take(host, kind, now, is_vendor=is_vendor)

    def observe(self, host: str, headers: Iterable[tuple[str, str]], now: float) -> None:
        with self._lock:
            super().observe(host, headers, now)


#: The vendor counts per IP address, so one process has one budget.
PROCESS_PACER: Final = SharedPacer()


class _Phase(Enum):
    IDLE = "idle"
    PACED = "paced"  #: waits until the server's budget allows an upgrade
    CONNECTING = "connecting"  #: TCP and TLS
    UP = "up"  #: the session has the bytes
    LINGERING = "lingering"  #: the session ended; the server's end of TCP is awaited
    DONE = "done"


class SelectorConnection:
    """One connection, driven by whoever has a loop.

    Call :meth:`start`; then watch :meth:`fileno` for what :meth:`want_read` and :meth:`want_write` say, and call
    :meth:`handle_read`, :meth:`handle_write`, and :meth:`handle_timeout` once the time of :meth:`next_timeout` (on
    ``clock``) has passed. Each of these returns the messages and events that came of it, and asks to look at the
    descriptor, the two wants and the timeout anew. The descriptor is -1 before :meth:`start` and after the end; it
    may change while connecting, which :attr:`fd_generation` tells; it is stable within a call. All decrypted bytes are
    handled in the call that read them, so none wait where no selector sees them.

    ``Disconnected`` is the last item, exactly once; then the object is dead and its descriptor closed. Everything
    belongs to the thread that made it: calls from another raise ``UsageError``. Nothing blocks, except name
    resolution in :meth:`start`; pass ``resolve`` to do that elsewhere. ``ssl_context`` is for ``wss`` endpoints; the
    default verifies with certifi's roots and needs TLS 1.2 at least.
    """

    def __init__(
        self,
        options: Options,
        scope: Scope,
        *,
        ssl_context: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
        pacer: Pacer = PROCESS_PACER,
        clock: Callable[[], float] = time.monotonic,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if ssl_context is not None:
            _check_context(ssl_context)
        self._options = options
        self._ssl_context = ssl_context
        self._resolve = resolve or resolve_host
        self._pacer = pacer
        self._clock = clock
        self._wall_clock_ns = wall_clock_ns
        self._thread = threading.get_ident()
        self._phase = _Phase.IDLE
        self._session = Session(options, scope, pacer=pacer)
        self._transport: Transport | None = None
        self._jwt: Secret | None = None
        self._deadline: float | None = None  # of opening, then of lingering
        self._paced_until: float | None = None
        self._ending: Disconnected | None = None

    @property
    def state(self) -> SessionState:
        """Where the session stands; may be read from any thread."""
        return SessionState.CLOSED if self._phase is _Phase.DONE else self._session.state

    @property
    def disconnected(self) -> Disconnected | None:
        """How it ended; None until then."""
        return self._ending if self._phase is _Phase.DONE else None

    @property
    def scope(self) -> Scope:
        """What is wanted now."""
        return self._session.scope

    @property
    def fd_generation(self) -> int:
        """Changes whenever :meth:`fileno` stands for another socket."""
        return 0 if self._transport is None else self._transport.generation

    def stats(self) -> SessionStats:
        """Return the counts so far."""
        return self._session.stats()

    def fileno(self) -> int:
        """Return the descriptor to watch, or -1."""
        return -1 if self._transport is None else self._transport.fileno()

    def want_read(self) -> bool:
        """Return whether to call :meth:`handle_read` when the descriptor is readable."""
        if self._transport is None or not self._transport.want_read:
            return False
        return self._phase is not _Phase.UP or self._transport.unsent_bytes < HIGH_WATER_BYTES

    def want_write(self) -> bool:
        """Return whether to call :meth:`handle_write` when the descriptor is writable."""
        return self._transport is not None and self._transport.want_write

    def start(self) -> list[Item]:
        """Resolve the name, which may block, and begin to connect. Raises ``UsageError`` the second time."""
        self._check_thread()
        if self._phase is not _Phase.IDLE:
            raise UsageError("start() was called before; a connection is used once, make a new one")
        return self._begin(self._clock())

    def handle_read(self) -> list[Item]:
        """Take what the descriptor has."""
        self._check_thread()
        now = self._clock()
        if self._phase is _Phase.CONNECTING:
            return self._connect(now)
        if self._phase is _Phase.UP:
            self._read(now, 1)
            return self._turn(now)
        if self._phase is _Phase.LINGERING and self._transport is not None:
            self._transport.receive()
            return self._linger(self._transport)
        return []

    def handle_write(self) -> list[Item]:
        """Send what waits, or go on connecting."""
        self._check_thread()
        now = self._clock()
        if self._phase is _Phase.CONNECTING:
            return self._connect(now)
        if self._phase is _Phase.LINGERING and self._transport is not None:
            return self._linger(self._transport)
        return self._turn(now) if self._phase is _Phase.UP else []

    def next_timeout(self) -> float | None:
        """Return when to call :meth:`handle_timeout`, on ``clock``; None where nothing is due."""
        if self._phase is _Phase.PACED:
            return self._paced_until
        if self._phase is _Phase.CONNECTING and self._transport is not None:
            return self._transport.next_timeout
        if self._phase is _Phase.UP:
            return self._session.next_timeout()
        return self._deadline if self._phase is _Phase.LINGERING else None

    def handle_timeout(self) -> list[Item]:
        """Do what has become due; harmless where nothing has."""
        self._check_thread()
        now = self._clock()
        if self._phase is _Phase.PACED:
            return self._begin(now)
        if self._phase is _Phase.CONNECTING:
            return self._connect(now)
        if self._phase is _Phase.UP:
            if self.want_read():
                self._read(now, _READS_BEFORE_TIMEOUT)
            self._session.handle_timeout(now)
            return self._turn(now)
        if self._phase is _Phase.LINGERING and self._deadline is not None and now >= self._deadline:
            return self._finish()
        return []

    def set_scope(self, scope: Scope) -> list[Item]:
        """Ask for another scope. Raises ``UsageError`` or ``ConfigurationError`` where that cannot be."""
        self._check_thread()
        now = self._clock()
        self._session.set_scope(scope, now)
        return self._turn(now) if self._phase is _Phase.UP else []

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> list[Item]:
        """Begin to close; goes on by the handlers until ``Disconnected``. Idempotent."""
        self._check_thread()
        if self._phase in (_Phase.LINGERING, _Phase.DONE):
            return []
        now = self._clock()
        self._session.close(now, code, reason)
        return self._turn(now)

    def abandon(self) -> None:
        """Close the descriptor now, without a word to the server and without an item; see :attr:`disconnected`.

        Idempotent. It is for emergencies, such as a ``KeyboardInterrupt`` in the middle of another call, and so
        asks nothing of the session but its counts.
        """
        self._check_thread()
        if self._ending is None:
            state, stats = self._session.state, self._session.stats()
            self._ending = Disconnected(
                cause=Cause.LOCAL,
                initiator="client",
                stage={SessionState.CONNECTING: "connect", SessionState.OPEN: "hello"}.get(state, "live"),
                detail="given up by us without a Close frame",
                bytes_received=stats.bytes,
                messages_received=stats.messages,
            )
        self._finish()

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise UsageError("a connection belongs to the thread that made it; this call came from another")

    def _begin(self, now: float) -> list[Item]:
        endpoint = self._options.endpoint
        is_vendor = endpoint.is_vendor
        allowed = self._pacer.take(endpoint.authority, UPGRADE, now, is_vendor=is_vendor)
        if allowed > now:
            return self._wait_for_budget(now, allowed)
        if self._options.jwt is not None:
            self._jwt = self._ask_jwt(self._options.jwt)
        self._phase = _Phase.CONNECTING
        if self._options.open_timeout is not None:
            self._deadline = now + self._options.open_timeout
        try:
            addresses = self._resolve(endpoint.host, endpoint.port)
            context = (self._ssl_context or default_ssl_context()) if endpoint.tls else None
            self._transport = Transport(endpoint.host, addresses, ssl_context=context, deadline=self._deadline)
        except OSError as error:
            detail = f"the name {endpoint.host} was not resolved: {error.strerror or type(error).__name__}"
            return self._fail(now, ConnectError, detail)
        except BaseException:
            self.abandon()  # the error is the caller's to see
            raise
        return self._connect(self._clock())

    def _wait_for_budget(self, now: float, allowed: float) -> list[Item]:
        """Wait until the server's limits allow a connect, but no longer than the opening may take."""
        wait, patience = allowed - now, self._options.open_timeout
        if patience is None or wait <= patience:
            self._phase, self._paced_until = _Phase.PACED, allowed
            return []
        detail = f"the server's limits allow the next connect in {wait:.0f} s"
        self._session.lose(now, detail, error_type=RateLimited, retry_after=wait)
        return self._turn(now)

    def _connect(self, now: float) -> list[Item]:
        assert self._transport is not None
        try:
            if not self._transport.step(now):
                return []
        except ConnectFailed as failure:
            return self._fail(now, failure.error_type, failure.detail)
        self._phase = _Phase.UP
        self._session.start(now, deadline=self._deadline, jwt=self._jwt)
        return self._turn(now)

    def _ask_jwt(self, ask: Callable[[], str]) -> Secret:
        try:
            token = Secret(ask())
            check_sendable(token, "the JWT that the jwt callable returned")
        except BaseException:
            self.abandon()  # the error is the caller's to see
            raise
        return token

    def _fail(self, now: float, error_type: type[CoinAPIError], detail: str) -> list[Item]:
        self._session.lose(now, detail, error_type=error_type)
        return self._turn(now)

    def _turn(self, now: float) -> list[Item]:
        """Send what the session has to say and return what it has heard."""
        transport = self._transport
        if transport is not None and transport.established:
            self._send(transport)
            if transport.eof:
                self._take_eof(transport, now)
        items = self._session.events()
        if self._session.state is not SessionState.CLOSED:
            return items
        ending = items.pop()
        assert isinstance(ending, Disconnected)
        self._ending = ending
        if transport is None or ending.code == ABNORMAL_CLOSURE:
            return items + self._finish()
        # A Close frame was sent: dropping TCP with unread bytes would reset it and lose the frame.
        self._phase, self._deadline = _Phase.LINGERING, now + LINGER_SECONDS
        transport.send(self._session.data_to_send())
        transport.shut_down_writing()
        return items + self._linger(transport)

    def _read(self, now: float, most: int) -> None:
        """Give the session what the socket has, by at most so many reads."""
        assert self._transport is not None
        for _ in range(most):
            received = self._transport.receive()
            if not received:
                return
            self._session.receive_data(received, now, self._wall_clock_ns())

    def _send(self, transport: Transport) -> None:
        transport.flush()
        if transport.unsent_bytes < HIGH_WATER_BYTES:
            transport.send(self._session.data_to_send())
            transport.flush()

    def _take_eof(self, transport: Transport, now: float) -> None:
        if transport.broken is None:
            self._session.receive_eof(now)
            return
        is_up = self._session.state is not SessionState.CONNECTING
        self._session.lose(
            now,
            f"the connection broke: {transport.broken}",
            error_type=ConnectionClosed if is_up else ConnectError,
        )

    def _linger(self, transport: Transport) -> list[Item]:
        transport.flush()
        return self._finish() if transport.eof and not transport.want_write else []

    def _finish(self) -> list[Item]:
        assert self._ending is not None
        self._phase = _Phase.DONE
        if self._transport is not None:
            self._transport.close()
        return [self._ending]


def _check_context(context: object) -> None:
    if not isinstance(context, ssl.SSLContext):
        raise ConfigurationError(f"ssl is an ssl.SSLContext, not {type(context).__name__}")
    if context.protocol is ssl.PROTOCOL_TLS_SERVER:
        raise ConfigurationError("ssl is a context for servers; write ssl.create_default_context()")


def resolve_host(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, asked anew on each connect since GeoDNS may answer another server. Blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [Address(int(family), sockaddr) for family, _, _, _, sockaddr in found]


@lru_cache(maxsize=1)
def default_ssl_context() -> ssl.SSLContext:
    """Return a context that verifies with certifi's roots; TLS 1.2 at least."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
