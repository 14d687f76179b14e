"""A stream to iterate on the caller's own thread: a loop over a ``SelectorConnection``."""

from __future__ import annotations

import ssl as ssl_module
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from operator import length_hint
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..auth import Secret
from ..endpoints import Endpoint
from ..events import Connected, Disconnected, Gap, Undecodable
from ..exceptions import CoinAPIError, UsageError
from ..messages import Heartbeat, Message
from ..options import ConnectionOptions, read_options
from ..protocol.frames import Frame, Frames, Item
from ..protocol.pacing import Pacer
from ..protocol.states import SessionState
from ..proxies import FROM_ENVIRONMENT, Proxy
from ..scope import Scope, read_scope
from ..subscription import Subscription
from .opening import Resolve
from .pacing import PROCESS_PACER
from .selector import SelectorConnection, Tap

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Counts of one stream.

    ``messages`` and ``bytes`` as received; ``surplus`` dropped since a merged hello brought more than was asked for;
    ``jumps`` of sequences by (type, symbol_id); ``undelivered`` messages that were not taken before ``close``.
    """

    messages: int
    bytes: int
    surplus: int
    jumps: dict[tuple[str, str], int]
    undelivered: int


class _Run:
    """Frames of one :class:`Frames` that are decoded one by one; ``left`` are the texts of those still to come."""

    __slots__ = ("frames", "left", "received_ns")

    def __init__(self, run: Frames) -> None:
        self.left = iter(run.payloads)
        self.frames = zip(run.types, self.left, strict=True)
        self.received_ns = run.received_ns


class Stream:
    """Messages, gaps and undecodable frames of one connection, in order. Made by :func:`connect`.

    It belongs to the thread that made it; calls from another raise ``UsageError``, a running iteration once it needs
    more than was read together. It does not reconnect. Messages are decoded as they are taken: a Ctrl-C in the middle
    of that loses at most this one.
    """

    def __init__(self, connection: SelectorConnection, *, heartbeats: bool) -> None:
        self._connection = connection
        self._heartbeats = heartbeats
        self._thread = threading.get_ident()
        #: What is decoded whenever an item is asked for: ``_ready`` makes items of the first, the others wait.
        self._came: deque[Item | Frame | Frames | _Run] = deque()
        self._ready: Iterator[Item] = iter(())
        self._undelivered = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Message | Gap | Undecodable]:
        """Yield items as they come. Ends after a clean close; any other end raises its error."""
        # Who leaves the loop closes none of these iterators.
        return chain.from_iterable(self._runs())

    def __next__(self) -> Message | Gap | Undecodable:
        """Wait for the next item. Ends after a clean close; any other end raises its error."""
        item = self._next(None)
        if item is None:
            self._raise_error()
            raise StopIteration
        return item

    def recv(self, timeout: float | None = None) -> Message | Gap | Undecodable:
        """Wait for the next item, at most ``timeout`` seconds.

        Raises the built-in ``TimeoutError`` and leaves the stream intact; after a clean close
        ``ConnectionClosed``, after any other end its error.
        """
        item = self._next(None if timeout is None else time.monotonic() + timeout)
        if item is not None:
            return item
        if self.disconnected is None:
            raise TimeoutError(f"no message within {timeout:g} s")
        self._raise_error()
        raise self.disconnected.as_error()

    @property
    def scope(self) -> Scope:
        """What is wanted now."""
        return self._connection.scope

    @property
    def state(self) -> SessionState:
        """CONNECTING, OPEN, LIVE, CLOSING or CLOSED. Any thread may read it."""
        return self._connection.state

    @property
    def disconnected(self) -> Disconnected | None:
        """How the connection ended, with all that is known; None while it is up."""
        return self._connection.disconnected

    def stats(self) -> StreamStats:
        """Return the counts so far."""
        stats = self._connection.stats()
        return StreamStats(stats.messages, stats.bytes, stats.surplus, stats.jumps, self._undelivered)

    def subscribe(self, *subscriptions: Subscription) -> None:
        """Add to the scope. Does not wait: nothing is acknowledged, data or an ``error`` will tell."""
        self._set_scope(self.scope.add(*subscriptions))

    def unsubscribe(self, *subscriptions: Subscription) -> None:
        """Take equal members out of the scope. Raises ``UsageError`` where one is not in it, or none would be left."""
        self._set_scope(self.scope.remove(*subscriptions))

    def replace(self, *subscriptions: Subscription) -> None:
        """Want these alone from now on."""
        self._set_scope(self.scope.replace(*subscriptions))

    def close(self) -> None:
        """Close, and wait for the server's answer, at most ``close_timeout`` and a second. Idempotent.

        Messages not taken until then are counted as ``undelivered`` in :meth:`stats`.
        """
        self._check_thread()
        try:
            self._drop_all()
            self._came.extend(self._connection.close())
            while self.disconnected is None:
                self._turn(None)
                self._drop_all()
        except BaseException:
            self._connection.abandon()
            raise

    def _open(self) -> None:
        """Connect, until the hello is on its way. Raises what stood against it."""
        try:
            self._came.extend(self._connection.start())
            while not self._is_connected() and self.disconnected is None:
                self._turn(None)
        except BaseException:
            self._connection.abandon()
            raise
        if not self._is_connected():
            self._raise_error()

    def _is_connected(self) -> bool:
        return any(isinstance(item, Connected) for item in self._came)

    def _set_scope(self, scope: Scope) -> None:
        self._check_thread()
        if self.disconnected is not None:
            raise UsageError("the stream is closed; its scope cannot be changed")
        try:
            self._came.extend(self._connection.set_scope(scope))
        except CoinAPIError:
            raise  # nothing was done
        except BaseException:
            self._connection.abandon()
            raise

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise UsageError("a stream belongs to the thread that made it; this call came from another")

    def _raise_error(self) -> None:
        error = None if self.disconnected is None else self.disconnected.error()
        if error is not None:
            raise error

    def _next(self, deadline: float | None) -> Message | Gap | Undecodable | None:
        """Wait for the next item; None at the end, or once the deadline has passed."""
        self._check_thread()
        is_late = False
        while True:
            for item in self._ready:
                return item  # type: ignore[return-value]
            if self._make_ready():
                continue
            if self.disconnected is not None or is_late:
                return None
            # What is there already counts, also with a timeout of 0.
            is_late = deadline is not None and time.monotonic() >= deadline
            self._turn(deadline)

    def _runs(self) -> Iterator[Iterable[Any]]:
        while (item := self._next(None)) is not None:
            yield (item,)
            yield self._ready
        self._raise_error()

    def _make_ready(self) -> bool:
        """Go on with what came; return whether there was anything.

        Ctrl-C may cut this anywhere, and the decoding of a run, which leaves ``_came`` once it is used up (F18).
        """
        while self._came:
            first = self._came[0]
            if isinstance(first, Frames):
                self._came[0] = first = _Run(first)
            if isinstance(first, _Run) and length_hint(first.left):
                self._ready = self._connection.decode_frames(first.frames, first.received_ns)
                return True
            self._came.popleft()
            if isinstance(first, (Frame, Undecodable)):
                items = self._connection.decode([first])
                self._ready = iter([item for item in items if self._heartbeats or not isinstance(item, Heartbeat)])
                return True
        return False

    def _drop_all(self) -> None:
        while True:
            self._undelivered += sum(isinstance(item, Message) for item in self._ready)
            if not self._make_ready():
                return

    def _turn(self, deadline: float | None) -> None:
        """Let the connection do what is ready or due before the deadline: its ``step``, but nothing is lost between.

        Ctrl-C while it waits leaves it intact, and later ends it (F18).
        """
        ready = self._connection._wait(None if deadline is None else deadline - time.monotonic())
        try:
            self._came.extend(self._connection._handle(ready))
        except BaseException:
            self._connection.abandon()
            raise


def connect(
    api_key: str | Secret | None,
    *subscriptions: Subscription,
    endpoint: str | Endpoint = "geo",
    proxy: str | Proxy | None = FROM_ENVIRONMENT,
    heartbeats: bool = True,
    ssl: ssl_module.SSLContext | None = None,
    resolve: Resolve | None = None,
    pacer: Pacer = PROCESS_PACER,
    tap: Tap | None = None,
    **options: Unpack[ConnectionOptions],
) -> Stream:
    """Connect, send the hello, and return a :class:`Stream` to iterate; blocks until then.

    ``api_key`` None takes the key from the environment variable COINAPI_API_KEY. ``endpoint`` is "geo", "ncsa", "emea",
    "apac", "exrates", "ds:<exchange>" or a ``ws://`` or ``wss://`` URL; see :func:`endpoint_from` for URLs of the other
    products. ``heartbeats=False`` hides heartbeats from the iteration; ``request_heartbeats=False`` does not ask the
    server for any. ``ssl`` replaces the default context, which verifies with certifi's roots. ``resolve`` takes host
    and port and returns addresses. ``proxy`` is a URL ``http://[user:password@]host:port``, ``socks5h://…`` or
    ``socks5://…``, None for none, or by default what the environment says; :class:`Options` explains it, and the rest.
    ``tap`` is called with all that comes, before it is decoded, such as
    :meth:`Recorder.take <coinapi_ws.recording.Recorder.take>`.

    The server proves nothing until data comes: a refused key or scope is raised by the first iteration.
    Raises ``ConfigurationError`` before any connection; ``ConnectError`` and its kinds, ``AuthenticationError``,
    ``PermissionDenied``, ``RateLimited`` or ``HandshakeRejected`` where no connection came about.
    """
    settings, scope = read_options(api_key, endpoint, proxy, **options), read_scope(subscriptions)
    del api_key, subscriptions, endpoint, proxy, options  # no plain key is to be seen in a traceback (F24)
    if isinstance(settings, Exception):
        raise settings
    if isinstance(scope, Exception):
        raise scope
    connection = SelectorConnection(
        settings, scope, ssl_context=ssl, resolve=resolve, pacer=pacer, decode=False, tap=tap
    )
    stream = Stream(connection, heartbeats=heartbeats)
    stream._open()
    return stream
