"""The face of the threaded client."""

from __future__ import annotations

import ssl as ssl_module
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeVar, cast, overload

from ..auth import Secret
from ..drivers.opening import Opening, Resolve
from ..drivers.pacing import PROCESS_PACER
from ..drivers.selector import SelectorConnection, Tap
from ..endpoints import Endpoint
from ..events import Disconnected, Event
from ..exceptions import ConfigurationError, UsageError
from ..options import ConnectionOptions, Options, read_options
from ..protocol.frames import Item
from ..protocol.pacing import Pacer
from ..protocol.reconnect import Backoff
from ..proxies import FROM_ENVIRONMENT, Proxy
from ..scope import Scope, frames_between, read_scope
from ..subscription import Subscription
from ..timestamps import NANOSECONDS_PER_SECOND
from .dispatch import LOGGER, Taker
from .queueing import PAUSE
from .registry import Kind
from .settings import (
    DEFAULT_MAX_QUEUED_BYTES,
    DEFAULT_MAX_QUEUED_MESSAGES,
    DEFAULT_QUIET_AFTER_SECONDS,
    DEFAULT_SLOW_CONSUMER_TIMEOUT_SECONDS,
    HANDOVER,
    THREAD,
    WAIT,
    ClientSettings,
)
from .states import ClientState
from .statistics import ClientStats
from .undecoded import Undecoded
from .worker import Worker

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

C = TypeVar("C", bound=Callable[..., object])

DEFAULT_CLOSE_SECONDS: Final = 10.0
_EITHER: Final = "messages go to callbacks or to an iteration, not to both; make a client for each"


class Client:
    """Market data on a thread of its own: reconnects, calls callbacks, and says what is missing.

    Register callbacks with :meth:`on`, say what is wanted with :meth:`subscribe`, then :meth:`start`, or use it as a
    context manager, or call :meth:`run`. Without any callback it can be iterated instead. Unless a method says
    otherwise, any thread may call it at any time, callbacks included, and it does not block.

    ``api_key``, ``endpoint``, ``proxy``, ``ssl``, ``resolve``, ``pacer``, ``tap`` and all further options are those of
    :func:`~coinapi_ws.connect` and :class:`~coinapi_ws.Options`. ``resolve``, ``jwt`` and ``tap`` are called on the
    I/O thread. An ``OSError`` of the first two is a connection that did not come about, any other exception ends the
    client.

    Delivery: ``dispatch="thread"`` calls callbacks on a thread of their own, behind a queue of at most
    ``max_queued_messages`` and ``max_queued_bytes`` (of text; one read of the socket may go beyond,
    and so may 64 where a timer was due: 4 MiB);
    ``"inline"`` calls them on the I/O thread, for the lowest latency: while one runs nothing is read and no Ping is
    answered. ``when_full`` says what happens then: ``"pause"`` stops reading until there is room;
    ``"conflate"`` keeps the newest quote, book5, book20, book50, ohlcv and exrate of each symbol, pair and period, in
    the place of the oldest one, and pauses where that is not enough; ``"drop_oldest"`` drops. What is not delivered is
    a :class:`~coinapi_ws.Dropped`. After ``slow_consumer_timeout`` seconds of a pause the client ends with
    ``SlowConsumerError``. ``stop_on_callback_error`` ends it with what a callback raised.

    Reconnecting: always, by ``backoff`` (an object of this client's own), but not where the server refused the key
    or the scope, six times in a row for a reason that is unknown, or, with ``max_attempts``, after so many reconnects
    in a row without a healthy connection. ``fresh_key_grace``: seconds since the start in which a refused key is tried
    again, for one that was just made. ``on_reconnect_notice``: ``"wait"`` for the announced close, reconnect ``"now"``,
    or ``"handover"``: a second connection takes over, without a gap; it needs a plan that allows two connections.
    ``quiet_after``: seconds without a message of a data type in scope, after which one ``Quiet`` is delivered.

    Raises ``ConfigurationError`` for wrong options.
    """

    def __init__(
        self,
        api_key: str | Secret | None = None,
        *subscriptions: Subscription,
        endpoint: str | Endpoint = "geo",
        proxy: str | Proxy | None = FROM_ENVIRONMENT,
        ssl: ssl_module.SSLContext | None = None,
        resolve: Resolve | None = None,
        pacer: Pacer = PROCESS_PACER,
        tap: Tap | None = None,
        dispatch: str = THREAD,
        when_full: str = PAUSE,
        max_queued_messages: int = DEFAULT_MAX_QUEUED_MESSAGES,
        max_queued_bytes: int = DEFAULT_MAX_QUEUED_BYTES,
        slow_consumer_timeout: float | None = DEFAULT_SLOW_CONSUMER_TIMEOUT_SECONDS,
        stop_on_callback_error: bool = False,
        backoff: Backoff | None = None,
        max_attempts: int | None = None,
        fresh_key_grace: float | None = None,
        on_reconnect_notice: str = WAIT,
        quiet_after: float | None = DEFAULT_QUIET_AFTER_SECONDS,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        read, scope = read_options(api_key, endpoint, proxy, **options), read_scope(subscriptions)
        del api_key, subscriptions, endpoint, proxy, options  # no plain key is to be seen in a traceback (F24)
        if isinstance(read, Exception):
            raise read
        if isinstance(scope, Exception):
            raise scope
        _check("resolve", resolve is None or callable(resolve), "a callable from host and port to addresses")
        _check("pacer", isinstance(pacer, Pacer), "a Pacer")
        _check("tap", tap is None or callable(tap), "a callable, such as Recorder(path).take")
        _check("backoff", backoff is None or isinstance(backoff, Backoff), "a Backoff, or None")
        self._options: Options = read
        self._settings = settings = ClientSettings(
            dispatch=dispatch,
            when_full=when_full,
            max_queued_messages=max_queued_messages,
            max_queued_bytes=max_queued_bytes,
            slow_consumer_timeout=slow_consumer_timeout,
            max_attempts=max_attempts,
            fresh_key_grace=fresh_key_grace,
            on_reconnect_notice=on_reconnect_notice,
            quiet_after=quiet_after,
            stop_on_callback_error=stop_on_callback_error,
        )
        Opening(read, ssl_context=ssl, resolve=resolve, dial=None)  # what is wrong with these is said here

        def connect(scope: Scope) -> SelectorConnection:
            return SelectorConnection(read, scope, ssl_context=ssl, resolve=resolve, pacer=pacer, decode=False, tap=tap)

        self._worker = Worker(settings, self._checked(scope), connect=connect, backoff=backoff or Backoff())

    def __repr__(self) -> str:
        if not hasattr(self, "_worker"):
            return "<Client half made>"  # where a traceback with its locals shows it
        return f"<Client {self._options.endpoint.authority} {self.state.value}>"

    # What to hear

    @overload
    def on(self, kind: Kind, *, symbol_id: str | None = None) -> Callable[[C], C]: ...

    @overload
    def on(self, kind: Kind, callback: C, *, symbol_id: str | None = None) -> C: ...

    def on(self, kind: Kind, callback: C | None = None, *, symbol_id: str | None = None) -> C | Callable[[C], C]:
        """Call a function of one argument with each item of a kind; decorator or plain call, it returns the function.

        ``kind`` is a class of messages or events, a base such as ``Message``, ``Event`` or ``Gap`` included, or a wire
        name such as "book5". ``symbol_id`` narrows it to one symbol. Callbacks are called in the order of their
        registration, one after the other, never two at once. Raises ``ConfigurationError`` for what is no kind or no
        callback, ``UsageError`` for a client that is iterated.
        """
        if callback is None:
            return cast("Callable[[C], C]", partial(self.on, kind, symbol_id=symbol_id))
        if self._worker.queue.is_iterated:
            raise UsageError(_EITHER)
        self._worker.registry.add(kind, callback, symbol_id)
        self._worker.start_dispatching()
        return callback

    def off(self, kind: Kind, callback: Callable[..., object], *, symbol_id: str | None = None) -> None:
        """Take a registration back. It may be called with what is on its way to it already.

        Raises ``UsageError`` where there is no such registration.
        """
        self._worker.registry.remove(kind, callback, symbol_id)

    @property
    def scope(self) -> Scope:
        """What is wanted now."""
        return self._worker.scope

    def subscribe(self, *subscriptions: Subscription) -> None:
        """Add to the scope. Nothing is acknowledged: data or an ``ErrorMessage`` will tell.

        Raises ``ConfigurationError`` where the endpoint cannot serve it, or one hello cannot hold it;
        ``UsageError`` once the client is closed.
        """
        self._worker.want(lambda scope: self._checked(scope.add(*subscriptions)))

    def unsubscribe(self, *subscriptions: Subscription) -> None:
        """Take equal members out of the scope. Where none is left the connection is closed until there is one again.

        Raises ``UsageError`` where one is not in it, or the client is closed.
        """
        self._worker.want(lambda scope: self._checked(scope.remove(*subscriptions)))

    def replace(self, *subscriptions: Subscription) -> None:
        """Want these alone from now on. Raises as :meth:`subscribe` does."""
        self._worker.want(lambda scope: self._checked(scope.replace(*subscriptions)))

    def resubscribe(self, symbol_ids: Iterable[str]) -> bool:
        """Have the server begin anew with these symbols, given as whole ids; return whether that can be asked for.

        They leave the scope on the wire and come back at once, by two hellos that leave together once the budget allows
        both, so books come back with snapshots, and sequences begin at 1; :attr:`scope` stays. What the server would
        have sent of them in between, trades included, it does not send. Calls that come while the budget is waited for
        go together. Nothing happens without a live connection, since the next one begins anew.

        False: the scope does not name each of them as ``ID$`` and no other way, or names nothing else; then
        :meth:`reconnect` is what is left. Raises ``UsageError`` once the client is closed.
        """
        if isinstance(symbol_ids, str):
            raise ConfigurationError(f"symbol_ids is a list; write [{symbol_ids!r}]")
        symbol_ids = frozenset(symbol_id.removesuffix("$") for symbol_id in symbol_ids)
        if self.scope.without_symbols(symbol_ids, wire=self._options.wire) is None:
            return False
        self._worker.renew(symbol_ids)
        return True

    def reconnect(self) -> None:
        """Close the live connection and make another, after the back-off and with a ``ConnectionGap`` as for any cut.

        Nothing happens without a live connection. Raises ``UsageError`` once the client is closed.
        """
        self._worker.renew(None)

    # Life

    def start(self) -> None:
        """Start the threads, which connect. Raises ``UsageError`` the second time."""
        self._worker.start()

    def wait_live(self, timeout: float | None = None) -> bool:
        """Wait until data or a heartbeat came, so that key and scope are accepted; return whether, within ``timeout``.

        Before :meth:`start` it waits for that too. Raises what ended the client, or ``UsageError`` where it was closed.
        Blocks. Raises ``UsageError`` on the I/O thread, such as in a callback of ``dispatch="inline"``, where it would
        wait for itself.
        """
        worker, lives = self._worker, self._worker.statistics.lives
        if worker.is_io_thread:
            raise UsageError("wait_live() on the I/O thread would wait for itself; call it on another thread")

        def came(state: ClientState) -> bool:
            return state in (ClientState.LIVE, ClientState.CLOSED) or worker.statistics.lives > lives

        has_come = worker.wait_for_state(came, timeout)
        if self.state is ClientState.CLOSED:
            raise worker.failure() or UsageError("the client was closed")
        return has_come

    def run(self) -> None:
        """Start, and wait for the end in the foreground; close on Ctrl-C, and raise it. Blocks.

        Raises what :meth:`join` does, and ``UsageError`` where it was started before.
        """
        self.start()
        try:
            self.join()
        finally:
            self.close()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the client has ended and its last callback returned, at most ``timeout`` seconds; return whether.

        Raises what ended it, where that was not :meth:`close`; ``SlowConsumerError`` also while the callback that is
        too slow goes on. Blocks. Raises ``UsageError`` before the start, and in a callback, where it would never end.
        """
        self._check_foreign_thread("join()")
        if self.state is ClientState.IDLE:
            raise UsageError("join() comes after start()")
        if not self._worker.wait_for_threads(timeout, slow_callback_too=False):
            return False
        self._raise_failure()
        return True

    def close(self, timeout: float = DEFAULT_CLOSE_SECONDS) -> bool:
        """Close the connection, deliver what was received, and end, within ``timeout`` seconds; idempotent.

        True: no thread is left and no callback will run. False: the time was too short, or this is a callback, or a
        signal handler that came into the middle of another call of this client; then no new callback starts, what was
        not delivered is counted as ``undelivered``, and the threads end by themselves, as soon as a callback that is
        running returns. A signal handler should rather pass a short time: what it interrupted may hold what the threads
        wait for, such as the lock of a log handler.
        """
        worker = self._worker
        worker.ask_to_close()
        if worker.is_own_thread or worker.is_interrupted:
            worker.queue.discard()
            return False
        has_ended = worker.wait_for_threads(timeout)
        if not has_ended:
            worker.queue.discard()
            LOGGER.warning("not closed within %g s: %s", timeout, worker.describe_running())
        return has_ended

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self, _is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if _is_ending():
            return  # all were closed before, and of what is used here some may be gone
        worker: Worker | None = getattr(self, "_worker", None)  # there is none where the options were wrong
        if worker is not None and worker.is_left_open:
            shown = repr(self)
            worker.ask_to_close()
            worker.queue.discard()
            # Last, since it raises where warnings are errors.
            warnings.warn(f"a client was left open: {shown}", ResourceWarning, source=self, stacklevel=2)

    # Iteration

    def __iter__(self) -> Self:
        """Iterate over all messages and events, instead of callbacks; several threads may share them out.

        Raises ``UsageError`` where there are callbacks.
        """
        if len(self._worker.registry) or self._worker.has_dispatcher:
            raise UsageError(_EITHER)
        self._worker.queue.is_iterated = True
        return self

    def __next__(self) -> Item:
        """Wait for the next item. Blocks. Ends after :meth:`close`; any other end raises its error."""
        iter(self)
        if self.state is ClientState.IDLE:
            raise UsageError("an iteration comes after start()")
        items = self._worker.queue.take(1)
        if items is None:
            self._raise_failure()
            raise StopIteration
        assert not isinstance(items[0], Undecoded)  # these are for the dispatcher
        return items[0]

    def recv(self, timeout: float | None = None) -> Item:
        """Wait for the next item of the iteration, at most ``timeout`` seconds. Blocks.

        Raises the built-in ``TimeoutError``, after which all goes on; after :meth:`close` ``UsageError``, after any
        other end its error.
        """
        iter(self)
        items = self._worker.queue.take(1, timeout)
        if items is None:
            self._raise_failure()
            raise UsageError("the client is closed, and nothing is left to take")
        if not items:
            raise TimeoutError(f"no message within {timeout:g} s")
        assert not isinstance(items[0], Undecoded)  # these are for the dispatcher
        return items[0]

    # What is known

    @property
    def state(self) -> ClientState:
        """Where the client stands."""
        return self._worker.state

    def stats(self) -> ClientStats:
        """Return the counts so far."""
        worker, now_ns = self._worker, time.time_ns()
        counted, queue, dispatcher = worker.statistics, worker.queue, worker.dispatcher
        last_ns = counted.last_received_ns
        surplus, jumps = counted.of_sessions()
        return ClientStats(
            messages=dict(counted.messages),
            bytes=dict(counted.bytes),
            rate=counted.rate(time.monotonic()),
            queued=0 if queue.is_discarding else queue.messages,
            queued_bytes=0 if queue.is_discarding else queue.bytes,
            queued_most=queue.most_messages,
            delivered=dispatcher.delivered + queue.iterated,
            unhandled=dispatcher.unhandled,
            dropped=queue.dropped,
            conflated=queue.conflated,
            duplicates=counted.duplicates,
            undelivered=queue.undelivered,
            surplus=surplus,
            jumps=jumps,
            reconnects=max(0, counted.lives - 1),
            disconnects=dict(counted.ends),
            gaps=dict(counted.gaps),
            callback_failures=dispatcher.failures,
            last_message_ns=last_ns,
            last_message_age=None if last_ns is None else (now_ns - last_ns) / NANOSECONDS_PER_SECOND,
            latency=counted.latency(now_ns),
            disconnected=self.disconnected,
        )

    @property
    def disconnected(self) -> Disconnected | None:
        """How the last connection ended; None where none has."""
        return self._worker.supervisor.disconnected

    @property
    def _is_discarding(self) -> bool:
        """Whether nothing will be delivered any more, not even that the connection ended."""
        return self._worker.queue.is_discarding

    def _call(self, callback: Callable[..., object], event: Event) -> None:
        """Call a callback of what is built on this client as one of the client's own, within another one."""
        self._worker.dispatcher.call(callback, event)

    def _give_undecoded(self, taker: Taker) -> None:
        """Give messages to what is built on this client as they came, on the dispatcher thread, and to no callback.

        Callbacks hear events, heartbeats, errors and notices as always. What the taker raises ends the client.
        """
        settings = self._settings
        if self.state is not ClientState.IDLE:
            raise UsageError("the client was started already; this comes before")
        if self._worker.dispatcher.taker is not None:
            raise UsageError("the messages of this client are taken already; make another client")
        if not self._options.keep_raw or settings.dispatch != THREAD or settings.when_full != PAUSE:
            raise ConfigurationError('write Client(…, keep_raw=True), with dispatch="thread" and when_full="pause"')
        if settings.on_reconnect_notice == HANDOVER:
            raise ConfigurationError('write on_reconnect_notice="wait" or "now": sequences go on within a connection')
        self._worker.dispatcher.taker = taker

    def _checked(self, scope: Scope) -> Scope:
        """Return the scope, once it is sure that it can be asked for."""
        scope.check_endpoint(self._options.endpoint)
        if scope:
            frames_between(Scope(), scope, wire=self._options.wire)
        return scope

    def _check_foreign_thread(self, call: str) -> None:
        if self._worker.is_own_thread:
            raise UsageError(f"{call} in a callback would wait for itself; call it on another thread")

    def _raise_failure(self) -> None:
        failure = self._worker.failure()
        if failure is not None:
            raise failure


def _check(name: str, is_right: bool, what: str) -> None:
    if not is_right:
        raise ConfigurationError(f"{name} is {what}")
