"""A connection for any loop that can watch a descriptor and run a timer.

Nothing blocks but name resolution, and a SOCKS proxy.
"""

from __future__ import annotations

import os
import selectors
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Final, TypeAlias

from ..auth import Secret, check_sendable
from ..events import Cause, Disconnected, Event
from ..exceptions import (
    CoinAPIError,
    ConfigurationError,
    ConnectError,
    ConnectionClosed,
    RateLimited,
    UsageError,
)
from ..options import Options
from ..protocol.frames import Frame, Frames, FrameType, Item
from ..protocol.pacing import UPGRADE, Pacer, can_wait
from ..protocol.session import Session, SessionStats
from ..protocol.states import SessionState
from ..protocol.websocket import ABNORMAL_CLOSURE, NORMAL_CLOSURE
from ..scope import Scope
from .failures import ConnectFailed
from .opening import Dial, Opening, Resolve
from .pacing import PROCESS_PACER
from .transport import Transport
from .waiting import LONGEST_WAIT_SECONDS, NO_INTEREST, Interest, Waiting

#: While more than this waits to be sent, nothing is read, so that a peer that never reads cannot fill memory.
HIGH_WATER_BYTES: Final = 64 * 1024
#: After the Close frames the server ends TCP (RFC 6455, 7.1.1); it is given this long, so that ours is not lost.
LINGER_SECONDS: Final = 1.0
#: What waits in the socket may be what a timer is missing (F7); a bound, since a flood never ends (F3).
_READS_BEFORE_TIMEOUT: Final = 16
#: Beside the events of ``selectors``: a timeout is due.
_DUE: Final = 1 << 16

#: Is called with a connection and what one read of it brought, before that is decoded.
Tap: TypeAlias = "Callable[[SelectorConnection, Sequence[Event | Frame | Frames]], object]"


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

    Without a loop, call :meth:`start`, and :meth:`step` until :attr:`disconnected` is not None.

    ``Disconnected`` is the last item, exactly once; then the object is dead and its descriptor closed. Everything
    belongs to the thread that made it: calls from another raise ``UsageError``. In the child of a fork, what
    was started is dead too, with nothing sent.

    Nothing blocks, except in :meth:`start`, or once the server's limits allow to connect, name resolution (of the
    proxy's name, where there is one), which ``resolve`` can do elsewhere, and a SOCKS proxy. ``dial`` takes the place
    of all that: host, port and seconds in, a connected socket out. ``ssl_context`` is for ``wss`` endpoints; the
    default verifies with certifi's roots and needs TLS 1.2 at least. The context brings a client's certificate.
    With ``decode=False`` text frames come as :class:`Frame` and :class:`Frames`; give all items to :meth:`decode`, in
    order. ``tap`` is called with this connection and these items whenever some came, such as
    :meth:`Recorder.take <coinapi_ws.recording.Recorder.take>`; what it raises ends the connection as
    :meth:`abandon` does, and the caller of the handler sees it.

    Raises ``ConfigurationError`` for a wrong context or ``tap``, and for a proxy of the environment that is none, or
    one of SOCKS without the extra ``coinapi-ws[socks]``.
    """

    def __init__(
        self,
        options: Options,
        scope: Scope,
        *,
        ssl_context: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
        dial: Dial | None = None,
        pacer: Pacer = PROCESS_PACER,
        decode: bool = True,
        tap: Tap | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if tap is not None and not callable(tap):
            raise ConfigurationError("tap is a callable, such as Recorder(path).take")
        self._options = options
        self._opening = Opening(options, ssl_context=ssl_context, resolve=resolve, dial=dial)
        self._pacer = pacer
        self._clock = clock
        self._wall_clock_ns = wall_clock_ns
        self._thread = threading.get_ident()
        self._phase = _Phase.IDLE
        self._session = Session(options, scope, pacer=pacer)
        self._decodes = decode
        self._tap = tap
        self._is_paused = False
        self._was_closed = False
        self._transport: Transport | None = None
        self._jwt: Secret | None = None
        self._deadline: float | None = None  # of opening, then of lingering
        self._paced_until: float | None = None
        self._ending: Disconnected | None = None
        self._waiting = Waiting()
        _CONNECTIONS.add(self)

    @property
    def state(self) -> SessionState:
        """Where the session stands; may be read from any thread."""
        return SessionState.CLOSED if self._phase is _Phase.DONE else self._session.state

    @property
    def disconnected(self) -> Disconnected | None:
        """How it ended; None until then."""
        return self._ending if self._phase is _Phase.DONE else None

    @property
    def was_closed(self) -> bool:
        """Whether :meth:`close` was called while it was up, or on its way."""
        return self._was_closed

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

    def redact(self, text: str) -> str:
        """Return a text of the server without the API key, which it may quote. Any thread may call it."""
        return self._session.redact(text)

    def fileno(self) -> int:
        """Return the descriptor to watch, or -1."""
        return -1 if self._transport is None else self._transport.fileno()

    def want_read(self) -> bool:
        """Return whether to call :meth:`handle_read` when the descriptor is readable."""
        return bool(self.interest().events & selectors.EVENT_READ)

    def want_write(self) -> bool:
        """Return whether to call :meth:`handle_write` when the descriptor is writable."""
        return bool(self.interest().events & selectors.EVENT_WRITE)

    def interest(self) -> Interest:
        """Return descriptor, generation and wants at once."""
        transport = self._transport
        if transport is None:
            return NO_INTEREST
        reads = transport.want_read
        if reads and self._phase is _Phase.UP:
            reads = not self._is_paused and transport.unsent_bytes < HIGH_WATER_BYTES
        events = selectors.EVENT_READ * reads | selectors.EVENT_WRITE * transport.want_write
        return Interest(transport.fileno(), transport.generation, events)

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
            due = self._session.next_timeout()
            if due is None or due > now:
                return []
            if self.want_read() and not self._was_closed:  # whose end comes in time whatever comes (F3)
                self._read(now, _READS_BEFORE_TIMEOUT)
            self._session.handle_timeout(now)
            return self._turn(now)
        if self._phase is _Phase.LINGERING and self._deadline is not None and now >= self._deadline:
            return self._finish()
        return []

    def step(self, timeout: float | None = None) -> list[Item]:
        """Wait until something is ready or due, at most ``timeout`` seconds, handle it, and return what came of it.

        The simplest embedding: no descriptor to watch, no timer to run. It may return nothing before the time has
        passed; after the end it returns nothing at once. Any exception from within the handling, such as a
        ``KeyboardInterrupt``, ends the connection as :meth:`abandon` does; one while waiting leaves it intact.
        """
        return self._handle(self._wait(timeout))

    def _wait(self, timeout: float | None) -> int:
        """Wait as :meth:`step` does; return for what it is time: events of ``selectors``, and ``_DUE``."""
        self._check_thread()
        if self._phase is _Phase.IDLE:
            raise UsageError("step() comes after start()")
        if self._phase is _Phase.DONE:
            return 0
        due = self.next_timeout()
        waits = [LONGEST_WAIT_SECONDS] if timeout is None else [LONGEST_WAIT_SECONDS, timeout]
        if due is not None:
            waits.append(due - self._clock())
        ready = self._waiting.wait(self.interest(), max(0.0, min(waits)))
        return ready if due is None or self._clock() < due else ready | _DUE

    def _handle(self, ready: int) -> list[Item]:
        """Handle what :meth:`_wait` returned."""
        items: list[Item] = []
        try:
            if ready & selectors.EVENT_READ:
                items += self.handle_read()
            if ready & selectors.EVENT_WRITE:
                items += self.handle_write()
            if ready & _DUE:
                items += self.handle_timeout()
        except BaseException:
            self.abandon()  # its work may be half done (F18)
            raise
        return items

    def set_scope(self, scope: Scope) -> list[Item]:
        """Ask for another scope. Raises ``UsageError`` or ``ConfigurationError`` where that cannot be."""
        self._check_thread()
        now = self._clock()
        self._session.set_scope(scope, now)
        return self._turn(now) if self._phase is _Phase.UP else []

    def resubscribe(self, symbol_ids: Iterable[str]) -> list[Item]:
        """Have the server begin anew with these symbols; see :meth:`Session.resubscribe`."""
        self._check_thread()
        now = self._clock()
        self._session.resubscribe(symbol_ids, now)
        return self._turn(now) if self._phase is _Phase.UP else []

    def decode(self, items: Iterable[Item | Frame | Frames]) -> Iterator[Item]:
        """Decode what came of a connection with ``decode=False``: messages, and gaps before those that show them.

        It is done while they are iterated.
        """
        return self._session.decode(items)  # type: ignore[arg-type]

    def decode_frames(self, frames: Iterable[tuple[FrameType, str]], received_ns: int) -> Iterator[Item]:
        """Do the same with the frames of one :class:`Frames`, each whenever it is asked for."""
        return self._session.decode_frames(frames, received_ns)

    def pause_reading(self) -> None:
        """Read nothing more until :meth:`resume_reading` or :meth:`close`; what comes waits at the server. Idempotent.

        The timeouts that count what the server does stand still. Its Pings go unanswered, so it gives up after a while.
        """
        self._check_thread()
        self._is_paused = True
        self._session.pause(self._clock())

    def resume_reading(self) -> None:
        """Go on reading. Idempotent."""
        self._check_thread()
        self._is_paused = False
        self._session.resume(self._clock())

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> list[Item]:
        """Begin to close; goes on by the handlers until ``Disconnected``. Idempotent."""
        self._check_thread()
        if self._phase in (_Phase.LINGERING, _Phase.DONE):
            return []
        self._was_closed = True
        self._is_paused = False  # the answer is still to be read
        now = self._clock()
        self._session.close(now, code, reason)
        return self._turn(now)

    def abandon(self) -> None:
        """Close the descriptor now, without a word to the server and without an item; see :attr:`disconnected`.

        Idempotent. It is for emergencies, such as a ``KeyboardInterrupt`` in the middle of another call, and so
        asks nothing of the session but its counts.
        """
        self._check_thread()
        self._drop("given up by us without a Close frame")

    def _drop(self, detail: str, error_type: type[CoinAPIError] | None = None) -> None:
        if self._ending is None:
            state, stats = self._session.state, self._session.stats()
            self._ending = Disconnected(
                cause=Cause.LOCAL,
                initiator="client",
                stage={SessionState.CONNECTING: "connect", SessionState.OPEN: "hello"}.get(state, "live"),
                detail=detail,
                bytes_received=stats.bytes,
                messages_received=stats.messages,
                host=self._options.endpoint.authority,
                error_type=error_type,
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
        self._phase = _Phase.CONNECTING
        if self._options.open_timeout is not None:
            self._deadline = now + self._options.open_timeout
        try:
            if self._options.jwt is not None:
                self._jwt = _asked_jwt(self._options.jwt)
            self._transport = self._opening.begin(self._deadline)
        except ConnectFailed as failure:
            return self._fail(now, failure.error_type, failure.detail)
        except BaseException:
            self.abandon()  # the error is the caller's to see
            raise
        return self._connect(self._clock())

    def _wait_for_budget(self, now: float, allowed: float) -> list[Item]:
        """Wait until the server's limits allow a connect, but no longer than the opening may take."""
        wait = allowed - now
        if can_wait(wait, self._options.open_timeout):
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
        frames = self._session.frames()
        if self._tap is not None and frames:
            try:
                self._tap(self, tuple(frames))
            except BaseException:
                self.abandon()  # what came is lost, and would be missing without a word
                raise
        # Frames are in no public signature: whoever asks for them knows.
        items: list[Item] = list(self._session.decode(frames)) if self._decodes else frames  # type: ignore[assignment]
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
        if transport.unsent_bytes < HIGH_WATER_BYTES and (payload := self._session.data_to_send()):
            transport.send(payload)
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


def _asked_jwt(ask: Callable[[], str]) -> Secret:
    """Return a fresh token. Where it cannot be had over the network, no connection can."""
    try:
        token = Secret(ask())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConnectFailed(ConnectError, f"the jwt callable failed: {reason}") from None
    check_sendable(token, "the JWT that the jwt callable returned")
    return token


#: All that a forked child has to leave alone.
_CONNECTIONS: Final[weakref.WeakSet[SelectorConnection]] = weakref.WeakSet()


def _drop_all_after_fork() -> None:
    """Close the child's descriptors alone: a shutdown, or a byte, would break the parent's connection (T7)."""
    PROCESS_PACER.renew_lock()
    for connection in list(_CONNECTIONS):
        if connection._phase is _Phase.IDLE:
            continue  # has nothing yet, and may be started by either
        connection._drop("the process was forked, and the connection stays with the parent", ConnectionClosed)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_drop_all_after_fork)
