"""The simulator's thread: one selector, all clients, the market and the time line."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from .behaviour import SOUND
from .certificates import Certificates
from .client import Client
from .clock import Clock, VirtualClock
from .gate import Gate
from .intake import Intake
from .market import Market
from .replay import PreparedRecording
from .statistics import Statistics
from .streams import Stream
from .timeline import Timeline
from .wire import NEVER_NS, NS_PER_SECOND, reconnect_text

THREAD_NAME: Final = "coinapi-ws-simulator"
_BACKLOG: Final = 128
#: After so many steps what became due is sent on, and others have their turn.
_STEPS_A_TURN: Final = 64
#: A client that never stops sending must not keep `settle` for ever.
_SETTLE_TURNS: Final = 1000
_JOIN_SECONDS: Final = 10.0
#: A selector refuses to wait for some weeks.
_LONGEST_WAIT_SECONDS: Final = 3600.0
#: How long a virtual clock waits for a Pong, since real clients need real time.
_PONG_PATIENCE_SECONDS: Final = 1.0
#: How long new clients wait where no descriptor was left for them.
_ACCEPT_AGAIN_SECONDS: Final = 0.1

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What a simulator was made with. Times are nanoseconds."""

    host: str
    port: int
    seed: int
    recording: str | os.PathLike[str] | None
    speed: float | None
    loop: bool
    direct_source: str | None
    exchange_rates: bool
    market_start_ns: int | None
    #: The wall clock when the first connection comes; None leaves it as it is.
    start_time_ns: int | None
    ping_interval_ns: int
    pong_timeout_ns: int
    heartbeat_interval_ns: int
    buffer_limit: int


class Engine:
    """Everything that runs on the simulator's thread. Others use `start`, `stop`, `call` and `adopt` alone."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        gate: Gate,
        statistics: Statistics,
        *,
        certificates: Certificates | None,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.gate = gate
        self.certificates = certificates
        self.ssl_context = ssl_context if certificates is None else certificates.server_context("valid")
        self.market = Market(settings.seed)
        self.clients: list[Client] = []
        #: How connections to come behave.
        self.behaviour = SOUND
        #: Takes the connections to come, where this server is being replaced.
        self._successor: Engine | None = None
        self.port: int | None = None
        self.thread: threading.Thread | None = None
        self.has_ended = False
        #: What happens by itself; to be set before `start`.
        self.timeline = Timeline()
        self._is_rehearsing = False
        self._statistics = statistics
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._tasks: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._adopted: deque[tuple[socket.socket, str, ssl.SSLContext | None]] = deque()
        self._is_stopping = False
        #: When new clients are looked for again, in seconds that are real.
        self._accept_again: float | None = None
        #: The time of the entry of the time line that is being done.
        self._acting_ns: int | None = None
        #: Up to when the timers have run.
        self._reached_ns = 0
        self._wanted: frozenset[Stream] | None = None

    def start(self) -> None:
        """Listen, and start the thread."""
        # Nothing is left open where one of these fails, or is interrupted.
        with contextlib.ExitStack() as stack:
            self._prepare(stack)
            # Before the thread, which closes what it finds when it ends.
            self.port = self._listener.getsockname()[1]
            self.thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
            try:
                self.thread.start()
            except BaseException:
                self.port = self.thread = None
                raise
            stack.pop_all()
        if isinstance(self.clock, VirtualClock):
            self.clock.follow(self.settle)

    def _prepare(self, stack: contextlib.ExitStack) -> None:
        settings = self.settings
        recording = None if settings.recording is None else PreparedRecording(settings.recording)
        self._intake = Intake(settings, self.gate, self.market, recording, self._statistics)
        if settings.market_start_ns is not None:
            self._walk_market(settings.market_start_ns)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._listener = stack.enter_context(
            socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
        )
        self._listener.setblocking(False)
        self._wakeup, self._wakeup_writer = map(stack.enter_context, socket.socketpair())
        self._wakeup.setblocking(False)
        self._wakeup_writer.setblocking(False)
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._wall_offset_ns = self.clock.time_ns() - self.now_ns()

    def _walk_market(self, start_ns: int) -> None:
        now_ns = self.clock.time_ns()
        if not self.market.is_open:  # an interrupted walk may go on
            self.market.open(start_ns)
        while self.market.next_ns <= now_ns:
            self.market.step(())

    def stop(self) -> None:
        """End the thread and wait for it."""
        assert self.thread is not None
        self._is_stopping = True
        self._wake()
        self.thread.join(_JOIN_SECONDS)
        if self.thread.is_alive():
            raise RuntimeError("the simulator's thread did not end")
        self._wakeup_writer.close()
        self.raise_failure()

    def rehearse(self, act: Callable[[], object]) -> None:
        """Let something that ends in `call` run up to there, for the checks that it makes; before `start`."""
        self._is_rehearsing = True
        try:
            with contextlib.suppress(_Rehearsed):
                act()
        finally:
            self._is_rehearsing = False

    def call(self, action: Callable[[], T]) -> T:
        """Run this on the thread, and return or raise what it does. Before the thread's start it runs here."""
        if self._is_rehearsing:
            raise _Rehearsed
        if self.thread in (None, threading.current_thread()):
            return action()
        future: Future[T] = Future()
        with self._lock:
            if self.has_ended:
                self.raise_failure()
                raise _Ended
            self._tasks.append((action, future))
        self._wake()
        try:
            return future.result()
        finally:
            self.raise_failure()

    def settle(self, ahead_ns: int = 0) -> None:
        """Wait until what clients had sent is processed, what is due has run, and sockets are full or done.

        A client that so much later would be closed, since it still owes a Pong, gets a moment to send it.
        """
        if self.thread is None or self.has_ended:
            self.raise_failure()
            return
        with contextlib.suppress(_Ended):
            self.call(lambda: self._settle(ahead_ns))

    def adopt(self, accepted: socket.socket, address: str, ssl_context: ssl.SSLContext | None) -> None:
        """Take over a connection that another simulator accepted, with its certificate; for its thread."""
        with self._lock:
            if self.has_ended or self.thread is None:
                accepted.close()
                return
            self._adopted.append((accepted, address, ssl_context))
        self._wake()

    def raise_failure(self) -> None:
        """Raise what the thread died of."""
        if self._failure is not None:
            raise RuntimeError("the simulator's thread died of an exception") from self._failure

    def present_certificate(self, kind: str) -> None:
        """Use another certificate for connections to come; for the thread."""
        if self.certificates is not None:
            self.ssl_context = self.certificates.server_context(kind)

    def announce_reconnect(self, within_seconds: int, successor: Engine | None) -> None:
        """Tell every client that it will be closed, and close it then; for the thread."""
        self._successor = successor
        now_ns = self.now_ns()
        due_ns = now_ns + within_seconds * NS_PER_SECOND
        for client in self.clients:
            # Who is still at the upgrade cannot hear it, and stays like all who come later.
            if client.conversation.connection.is_open:
                notice = reconnect_text(within_seconds, due_ns + self._wall_offset_ns)
                client.conversation.say(notice, "reconnect", now_ns)
                client.conversation.leave_at(due_ns)

    def now_ns(self) -> int:
        """Return the monotonic clock; while the time line acts, its time."""
        if self._acting_ns is not None:
            return self._acting_ns
        return round(self.clock.now() * NS_PER_SECOND)

    # Everything below runs on the simulator's thread, but for _wake.

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._turn(self._wait_seconds())
                while self._tasks and not self._is_stopping:
                    self._do(*self._tasks.popleft())
            self._say_goodbye()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits or closes
            self._failure = error
        finally:
            for client in self.clients:
                client.close()
            self.clients.clear()
            self._selector.close()
            self._listener.close()
            self._wakeup.close()
            with self._lock:
                self.has_ended = True
            for _, future in self._tasks:
                future.set_exception(_Ended())
            for accepted, *_ in self._adopted:
                accepted.close()

    def _do(self, action: Callable[[], Any], future: Future[Any]) -> None:
        try:
            try:
                result = action()
            except ValueError as error:
                future.set_exception(error)
                return
            self._flush(self.now_ns())
        except BaseException:
            self._tasks.appendleft((action, future))  # whoever waits is told of the end
            raise
        future.set_result(result)

    def _turn(self, timeout: float | None) -> bool:
        """Wait, read, run what is due, write. Return whether anything was there to be read."""
        ready = self._selector.select(timeout)
        now_ns = self.now_ns()
        if self._accept_again is not None and time.monotonic() >= self._accept_again:
            self._accept_again = None
            self._selector.register(self._listener, selectors.EVENT_READ)
        # Timers first: what arrived did so after they became due.
        if not self._run_timers(now_ns) and isinstance(self.clock, VirtualClock):
            return True
        has_read = False
        for key, events in ready:
            if not events & selectors.EVENT_READ:
                continue
            if key.fileobj is self._wakeup:
                with contextlib.suppress(BlockingIOError):
                    self._wakeup.recv(4096)
                continue
            has_read = True
            if key.fileobj is self._listener:
                self._accept(now_ns)
            elif isinstance(key.data, Client):
                self._read(key.data, now_ns)
        while self._adopted:
            has_read = True
            self._greet(*self._adopted.popleft(), now_ns)
        for client in tuple(self.clients):
            if client.has_buffered_input:
                has_read = True
                self._read(client, now_ns)
        for client in self.clients:
            client.conversation.connection.caught_up(now_ns)
        self._flush(now_ns)
        return has_read

    def _settle(self, ahead_ns: int) -> None:
        # Those whose time has come in a jump of the clock are watched from here on.
        self._flush(self.now_ns())
        turns = 0
        while not self._is_stopping and turns < _SETTLE_TURNS:
            has_read = self._turn(0)
            # What has no pace is due for as long as the client reads.
            has_pace = not any(client.conversation.feed.waits_for_client for client in self.clients)
            is_behind = has_pace and self._next_due_ns() <= self.now_ns()
            if not has_read and not is_behind:
                break
            turns += not is_behind
        by_ns, patience = self.now_ns() + ahead_ns, time.monotonic() + _PONG_PATIENCE_SECONDS
        while any(client.owes_pong(by_ns) for client in self.clients) and time.monotonic() < patience:
            self._turn(patience - time.monotonic())

    def _wait_seconds(self) -> float | None:
        if self._tasks or self._adopted or any(client.has_buffered_input for client in self.clients):
            return 0
        now_ns, due_ns = self.now_ns(), self._next_due_ns()
        if due_ns <= now_ns:
            return 0
        waits = [_LONGEST_WAIT_SECONDS]
        if self._accept_again is not None:
            waits.append(max(0.0, self._accept_again - time.monotonic()))
        # A virtual clock wakes us when it moves.
        if due_ns != NEVER_NS and not isinstance(self.clock, VirtualClock):
            waits.append((due_ns - now_ns) / NS_PER_SECOND)
        return min(waits)

    def _next_due_ns(self) -> int:
        now_ns = self.now_ns()
        turns = (client.next_turn(now_ns) for client in self.clients)
        return min([self._market_due_ns(), self.timeline.due_ns, *turns])

    def _market_due_ns(self) -> int:
        return self.market.next_ns - self._wall_offset_ns if self.market.is_open else NEVER_NS

    def _run_timers(self, until_ns: int) -> bool:
        """Run the timers up to this time, one by one in their order, each at its own time; say whether all are done.

        What is due without an end must not keep the thread from all else.
        """
        for _ in range(_STEPS_A_TURN):
            timeline_ns, market_ns = self.timeline.due_ns, self._market_due_ns()
            client = min(self.clients, key=Client.next_timeout, default=None)
            client_ns = NEVER_NS if client is None else client.next_timeout()
            due_ns = min(timeline_ns, market_ns, client_ns)
            if due_ns > until_ns:
                self._reached_ns = until_ns
                return True
            # What was kept back is overdue, and happens now.
            self._reached_ns = max(self._reached_ns, due_ns)
            if timeline_ns == due_ns:
                self._acting_ns = self._reached_ns
                self.timeline.run()
                self._acting_ns = None
            elif market_ns == due_ns:
                self._run_market(market_ns)
            elif client is not None:
                client.handle_timeout(self._reached_ns)
                self._forget_if_gone(client)
        self._flush(until_ns)
        return False

    def _run_market(self, now_ns: int) -> None:
        if self._wanted is None:
            open_clients = [c for c in self.clients if c.conversation.connection.is_open]
            self._wanted = frozenset().union(*(client.conversation.feed.wanted for client in open_clients))
        publications = self.market.step(self._wanted)
        if publications:
            for client in self.clients:
                client.conversation.publish(publications, now_ns)

    def _accept(self, now_ns: int) -> None:
        while True:
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:
                # No descriptor is left: the client waits in the backlog, and those who are here are served on.
                self._selector.unregister(self._listener)
                self._accept_again = time.monotonic() + _ACCEPT_AGAIN_SECONDS
                return
            if self._successor is not None:
                # The address is ours, and so what clients are shown there.
                self._successor.adopt(accepted, address[0], self.ssl_context)
            else:
                self._begin_timeline(now_ns)
                self._greet(accepted, address[0], self.ssl_context, now_ns)

    def _greet(self, accepted: socket.socket, address: str, ssl_context: ssl.SSLContext | None, now_ns: int) -> None:
        self._begin_timeline(now_ns)
        client = self._intake.take_in(
            accepted, address, ssl_context, self.behaviour, now_ns=now_ns, wall_offset_ns=self._wall_offset_ns
        )
        if client is None:
            return
        self.clients.append(client)
        self._watch(client, now_ns)
        # What the time line has for its very beginning comes before the first byte is read.
        self._run_timers(now_ns)

    def _begin_timeline(self, now_ns: int) -> None:
        """Begin with the first connection, before it is taken in."""
        if self.timeline.has_begun:
            return
        self.timeline.begin(now_ns)
        start_time_ns = self.settings.start_time_ns
        if start_time_ns is not None:
            self._wall_offset_ns = start_time_ns - now_ns
        if (self.timeline or start_time_ns is not None) and not self.market.is_open:
            self.market.open(now_ns + self._wall_offset_ns)

    def _read(self, client: Client, now_ns: int) -> None:
        if not client.is_gone:
            self._wanted = None
            client.read(now_ns)
            self._forget_if_gone(client)

    def _flush(self, now_ns: int) -> None:
        for client in tuple(self.clients):
            client.flush(now_ns)
            self._watch(client, now_ns)
            self._forget_if_gone(client)

    def _watch(self, client: Client, now_ns: int) -> None:
        interest = 0 if client.is_gone else client.interest(now_ns)
        if interest == client.watched:
            return
        if not client.watched:
            self._selector.register(client, interest, client)
        elif not interest:
            self._selector.unregister(client)
        else:
            self._selector.modify(client, interest, client)
        client.watched = interest

    def _forget_if_gone(self, client: Client) -> None:
        if client.is_gone and client in self.clients:
            self.clients.remove(client)
            if client.watched:
                self._selector.unregister(client)
            client.close()
            self._wanted = None

    def _say_goodbye(self) -> None:
        now_ns = self.now_ns()
        for client in self.clients:
            client.conversation.connection.close(now_ns, 1001, "the simulator was closed")
        self._flush(now_ns)

    def _wake(self) -> None:
        # A full pipe wakes as well (hazard F25); one that is closed has nobody left to wake.
        with contextlib.suppress(OSError):
            self._wakeup_writer.send(b"\0")


class _Rehearsed(Exception):
    """All checks were passed."""


class _Ended(RuntimeError):
    """The thread ended before it came to a task."""

    def __init__(self) -> None:
        super().__init__("the simulator is closed")
