"""The two threads of a client: one owns the sockets, TLS, sessions and timers, the other runs the callbacks."""

from __future__ import annotations

import atexit
import os
import selectors
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain
from random import random
from types import TracebackType
from typing import Final

from ..drivers.selector import SelectorConnection
from ..drivers.waiting import LONGEST_WAIT_SECONDS, Interest, Selector
from ..events import Disconnected
from ..exceptions import SlowConsumerError, UsageError
from ..protocol.frames import Item
from ..protocol.reconnect import Backoff
from ..scope import Scope
from .dispatch import LOGGER, Dispatcher, name_of
from .monitor import Monitor
from .queueing import PAUSE, DeliveryQueue
from .registry import Registry
from .settings import INLINE, ClientSettings
from .states import ClientState
from .statistics import Statistics
from .supervisor import Supervisor
from .threads import InterruptibleThread
from .undecoded import Undecoded
from .wakeup import Wakeup

#: At the interpreter's end all clients together have this long to close, and the first part of it to deliver.
EXIT_SECONDS: Final = 2.0
_DELIVERING_AT_EXIT_SECONDS: Final = 1.5
_LONGEST_SELECT_SECONDS: Final = 3600.0
#: So long at a time reading rests where callbacks are far behind. A server's Ping can wait that long.
_REST_SECONDS: Final = 0.02
_FORKED: Final = "the process was forked, and the client stays with the parent; make a new one here"


class Worker:
    """Everything of a client but its face, so that the threads do not keep the face alive (F15).

    Any thread may call the public methods, which never block unless they say so.
    """

    def __init__(
        self,
        settings: ClientSettings,
        scope: Scope,
        *,
        connect: Callable[[Scope], SelectorConnection],
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self.scope = scope
        self.registry = Registry()
        self.statistics = Statistics()
        self.queue = DeliveryQueue(
            settings.when_full, settings.max_queued_messages, settings.max_queued_bytes, self._poke
        )
        self.dispatcher = Dispatcher(self.queue, self.registry, self._take_callback_failure)
        self.supervisor = Supervisor(
            settings,
            connect=connect,
            deliver=self._deliver,
            on_state=self._announce,
            statistics=self.statistics,
            backoff=backoff,
            clock=time.monotonic,
            chance=random,
        )
        self._monitor = Monitor()
        self._state = ClientState.IDLE
        self._wakeup: Wakeup | None = None
        self._io_thread: InterruptibleThread | None = None
        self._dispatch_thread: InterruptibleThread | None = None
        self._renewals: deque[frozenset[str] | None] = deque()
        self._is_asked_to_close = False
        self._is_forked = False
        self._failure: BaseException | None = None
        self._traceback: TracebackType | None = None
        _WORKERS[id(self)] = self

    @property
    def state(self) -> ClientState:
        """Where the client stands."""
        return self._state

    @property
    def is_own_thread(self) -> bool:
        """Whether this is one of the client's threads."""
        return threading.current_thread() in (self._io_thread, self._dispatch_thread)

    @property
    def is_io_thread(self) -> bool:
        """Whether this is the thread of the connections."""
        return threading.current_thread() is self._io_thread

    @property
    def is_left_open(self) -> bool:
        """Whether it was started, and neither closed nor ended."""
        return self._state is not ClientState.IDLE and not self._is_closing

    @property
    def is_interrupted(self) -> bool:
        """Whether this thread is in the middle of a call that the client's threads wait for: so in a signal handler."""
        wakeup = self._wakeup
        return self._monitor.is_held_here() or self.queue.is_held_here or (wakeup is not None and wakeup.is_held_here)

    def start(self) -> None:
        """Start the threads. Raises ``UsageError`` the second time."""
        with self._monitor.lock:
            if self._state is not ClientState.IDLE:
                raise UsageError(f"the client is {self._state.value}; a client is started once, make a new one")
            wakeup, thread = Wakeup(), InterruptibleThread(self._run, "coinapi-ws-io")
            try:
                self._wakeup, self._io_thread = wakeup, thread
                self._state = ClientState.CONNECTING
                thread.start()
                if len(self.registry) or self.dispatcher.taker is not None:
                    self.start_dispatching()
            except BaseException:  # such as a Ctrl-C (F18), or that there are no more threads
                if thread.cancel():
                    self._io_thread = None
                    wakeup.close()
                    self.queue.end()
                    self._announce(ClientState.CLOSED)
                self.ask_to_close()
                raise

    def start_dispatching(self) -> None:
        """Start the thread of the callbacks, once the client is started and where it has one."""
        with self._monitor.lock:
            if self._io_thread is None or self._is_closing or self.has_dispatcher:
                return
            thread = InterruptibleThread(self._dispatch, "coinapi-ws-dispatch")
            try:
                self._dispatch_thread = thread
                thread.start()
            except BaseException:
                if thread.cancel():
                    self._dispatch_thread = None
                raise

    @property
    def has_dispatcher(self) -> bool:
        """Whether what comes goes to callbacks for good."""
        return self._dispatch_thread is not None or self._settings.dispatch == INLINE

    @property
    def _is_closing(self) -> bool:
        return self._is_asked_to_close or self._state in (ClientState.CLOSING, ClientState.CLOSED)

    def _check_open(self) -> None:
        if self._is_closing:
            raise UsageError(_FORKED if self._is_forked else "the client is closed; make a new one")

    def want(self, change: Callable[[Scope], Scope]) -> None:
        """Change the scope by a function of the one that is wanted now, which may raise."""
        with self._monitor.lock:
            self._check_open()
            self.scope = change(self.scope)
        self._poke()

    def renew(self, symbol_ids: Iterable[str] | None) -> None:
        """Have the server begin anew with these symbols, or with all of it by another connection."""
        with self._monitor.lock:
            self._check_open()
            self._renewals.append(None if symbol_ids is None else frozenset(symbol_ids))
        self._poke()

    def ask_to_close(self) -> None:
        """Begin to close; goes on by itself."""
        with self._monitor.lock:
            self._is_asked_to_close = True
            if self._state is ClientState.IDLE:
                self._state = ClientState.CLOSED
                self.queue.end()
                self._monitor.notify_all()
        self._poke()

    def wait_for_state(self, wanted: Callable[[ClientState], bool], timeout: float | None) -> bool:
        """Wait for a state, at most ``timeout`` seconds; return whether it came."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._monitor.lock:
            while not wanted(self._state):
                left = LONGEST_WAIT_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return False
                self._monitor.wait(min(left, LONGEST_WAIT_SECONDS))
        return True

    def wait_for_threads(self, timeout: float | None, *, slow_callback_too: bool = True) -> bool:
        """Wait until no thread is left, at most ``timeout`` seconds; return whether that is so.

        Without ``slow_callback_too`` it does not wait for a callback that was so slow that the client ended.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for name in ("_io_thread", "_dispatch_thread"):  # asked late: a callback may be registered meanwhile
            thread: InterruptibleThread | None = getattr(self, name)
            while thread is not None and not thread.has_ended:
                if not slow_callback_too and isinstance(self.supervisor.failure, SlowConsumerError):
                    return True
                left = LONGEST_WAIT_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return False
                thread.wait(min(left, LONGEST_WAIT_SECONDS))
            if thread is not None:
                thread.join(LONGEST_WAIT_SECONDS)  # for its last lines
        return True

    def failure(self) -> BaseException | None:
        """Return why the client ended, where it was not asked to: a new exception for an end of a connection (F26).

        One that others raised has the traceback that it came with, and not those of all who were told of it.
        """
        failure = self._failure or self.supervisor.failure
        if isinstance(failure, Disconnected):
            return failure.error() or failure.as_error()
        if isinstance(failure, (SlowConsumerError, UsageError)):
            return type(failure)(*failure.args)
        return None if failure is None else failure.with_traceback(self._traceback)

    def end_after_fork(self) -> None:
        """Be closed in the child; nothing is sent, and what the parent has goes on (F16). Not started, be as before."""
        self._monitor = Monitor()  # whoever held it is not here
        self.registry.renew_lock()
        self.queue.renew_lock()
        self.statistics.renew_lock()
        if self._state is ClientState.IDLE:
            return
        if self._state is not ClientState.CLOSED:
            self._is_forked = True
            self._failure = UsageError(_FORKED)
            self._state = ClientState.CLOSED
        self.queue.end_after_fork()
        self._io_thread = self._dispatch_thread = None
        if self._wakeup is not None:
            self._wakeup.close_after_fork()

    # On the I/O thread

    def _run(self) -> None:
        wakeup = self._wakeup
        assert wakeup is not None
        try:
            self.supervisor.start(self.scope)
            self._loop(wakeup)
        except BaseException as error:  # noqa: BLE001 - the thread must not end unseen (F11)
            self._traceback = error.__traceback__
            self.supervisor.abort(error)
            LOGGER.error("the client ended by an error on its own thread", exc_info=error)
        finally:
            wakeup.close()
            self.queue.end()

    def _loop(self, wakeup: Wakeup) -> None:
        supervisor, watch = self.supervisor, _Watch(wakeup)
        while True:
            self._take_requests()
            if supervisor.has_ended:
                return
            self.queue.wait_for_takers(_REST_SECONDS)
            due = supervisor.next_timeout()
            connections = supervisor.connections()
            ready_ones = watch.wait(connections, None if due is None else due - time.monotonic())
            woken_at = time.monotonic()
            for connection, ready in ready_ones:
                supervisor.handle(connection, ready)
            if due is not None and due <= woken_at and not supervisor.has_ended:
                supervisor.handle_timeout(woken_at)

    def _take_requests(self) -> None:
        supervisor = self.supervisor
        if self._failure is not None:
            supervisor.fail(self._failure)
        if self._is_asked_to_close:
            supervisor.close()
        if self.scope is not supervisor.scope:
            supervisor.set_scope(self.scope)
        while self._renewals:
            symbol_ids = self._renewals.popleft()
            if symbol_ids is None:
                supervisor.reconnect()
            else:
                supervisor.resubscribe(symbol_ids)
        if supervisor.paused_since is not None and not self.queue.is_full:
            supervisor.resume()

    def _deliver(self, items: list[Item] | Undecoded, size: int, *, may_drop: bool) -> None:
        queue, settings = self.queue, self._settings
        if settings.dispatch == INLINE:
            self.dispatcher.deliver([items] if isinstance(items, Undecoded) else items)
            return
        if not isinstance(items, Undecoded):
            queue.put(items, size, may_drop=may_drop)
        elif items.count and may_drop and queue.is_full and queue.put_left_out(items.without_order(), size):
            pass  # none of it is delivered but events
        elif settings.when_full == PAUSE and self._dispatch_thread is not None:
            queue.put_undecoded(items, size)
        else:
            # The other policies look at the messages, and an iteration may be interrupted while it takes one (F18).
            queue.put(list(chain(*items)), size)
        if queue.is_full:
            self.supervisor.pause()

    def _announce(self, state: ClientState) -> None:
        with self._monitor.lock:
            self._state = state
            self._monitor.notify_all()

    # On whichever thread

    def _dispatch(self) -> None:
        try:
            self.dispatcher.run()
        except BaseException as error:  # noqa: BLE001 - such as a log handler's: it must not end unseen (F11)
            self._fail(error)

    def _take_callback_failure(self, error: BaseException) -> None:
        if self._settings.stop_on_callback_error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._traceback, self._failure = error.__traceback__, error  # in this order, as others look
        self.queue.discard()

    def _poke(self) -> None:
        if self._wakeup is not None:
            self._wakeup.poke()

    def describe_running(self) -> str:
        """Say which callback is running now, for those who wait for it."""
        running = self.dispatcher.running
        if running is None:
            return "no callback is running, but the thread of the connections has not ended"
        return f"the callback {name_of(running)} is running"


class _Watch:
    """What the I/O thread waits for: the wakeup, and the connections as they want to be watched now."""

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._watched: list[tuple[SelectorConnection, Interest]] = []
        self._selector = self._made()

    def wait(
        self, connections: list[SelectorConnection], seconds: float | None
    ) -> list[tuple[SelectorConnection, int]]:
        """Wait until one is ready, somebody pokes, or the time has passed; return the ready ones."""
        watched = [(connection, connection.interest()) for connection in connections]
        if watched != self._watched:
            # A new one is cheap for so few, and asks nothing of descriptors that were closed since (F21).
            self._watched, self._selector = watched, self._made()
            for connection, interest in watched:
                if interest.events:
                    self._selector.register(interest.descriptor, interest.events, connection)
        # Poll refuses to wait longer than some weeks.
        ready_ones = []
        for key, events in self._selector.select(_LONGEST_SELECT_SECONDS if seconds is None else _within(seconds)):
            if key.data is None:
                self._wakeup.drain()
            else:
                ready_ones.append((key.data, events))
        return ready_ones

    def _made(self) -> selectors.BaseSelector:
        selector = Selector()
        selector.register(self._wakeup.fileno(), selectors.EVENT_READ)
        return selector


#: All that the interpreter's end, and a forked child, have to think of, by their ids.
_WORKERS: Final[weakref.WeakValueDictionary[int, Worker]] = weakref.WeakValueDictionary()


def _all_workers() -> list[Worker]:
    # In one go: another thread may make one meanwhile, and an iteration would fail by that.
    return [worker for reference in _WORKERS.valuerefs() if (worker := reference()) is not None]


def _close_all_at_exit() -> None:
    """Give open connections a Close frame, for a moment; daemon threads end with the interpreter anyhow (F13, F14)."""
    workers = _all_workers()
    for worker in workers:
        worker.ask_to_close()
    begun = time.monotonic()
    late = [worker for worker in workers if not worker.wait_for_threads(_until(begun + _DELIVERING_AT_EXIT_SECONDS))]
    for worker in late:
        worker.queue.discard()
    for worker in late:
        # A callback that is cut off while it prints may leave a stream locked, for which the interpreter waits.
        worker.wait_for_threads(_until(begun + EXIT_SECONDS))


def _within(seconds: float) -> float:
    return min(max(0.0, seconds), _LONGEST_SELECT_SECONDS)


def _until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _end_all_after_fork() -> None:
    for worker in _all_workers():
        worker.end_after_fork()


atexit.register(_close_all_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_end_all_after_fork)
