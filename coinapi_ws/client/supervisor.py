"""What becomes of the connections of a client: connected, replaced, handed over, given up. No thread of its own.

Driven by the I/O thread, as a ``SelectorConnection`` is by a loop. Each end of a connection is followed by one
decision, made at one place; the next attempt is begun by a timer and never from within the last one's end (F6).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import Final, cast

from ..drivers.selector import SelectorConnection
from ..events import Cause, Disconnected, Event, HandedOver, HandoverFailed, Live, Reconnecting
from ..exceptions import AuthenticationError, HandshakeRejected, ServerRejected, SlowConsumerError
from ..messages import ReconnectNotice
from ..protocol.reconnect import FINAL_CAUSES, Backoff
from ..protocol.session import Frame, Item
from ..protocol.states import SessionState
from ..subscription import Scope
from .gaps import ConnectionGaps
from .handover import Delivered, Handover
from .quiet import QuietWatch
from .settings import HANDOVER, NOW, ClientSettings
from .statistics import Statistics

LOGGER: Final = logging.getLogger("coinapi_ws")

#: Refusals of a kind that nobody has described are tried again so often, since each may be the last.
MAX_UNKNOWN_REFUSALS: Final = 5
#: A key that was just made is refused for some minutes; it is tried no more often than this.
FRESH_KEY_RETRY_SECONDS: Final = 10.0
#: A first connection whose announced end does not come is closed so long after it.
HANDOVER_GRACE_SECONDS: Final = 10.0
DEFAULT_NOTICE_SECONDS: Final = 60.0
#: The second server may lag behind the first: so long after the first one's end repetitions are still looked for.
AFTER_HANDOVER_SECONDS: Final = 30.0


class ClientState(Enum):
    """Where a client stands."""

    IDLE = "idle"  #: not started
    CONNECTING = "connecting"  #: no data and no heartbeat yet
    LIVE = "live"  #: data or a heartbeat came
    WAITING = "waiting"  #: for the next attempt
    PARKED = "parked"  #: nothing is subscribed to, so there is no connection
    CLOSING = "closing"
    CLOSED = "closed"


class Supervisor:
    """The connections of one client, at most two at a time.

    ``connect`` makes a connection for a scope; ``deliver`` is given items and the bytes they had; ``on_state`` each new
    state. ``chance`` returns a random number in [0, 1). All calls come from one thread.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        connect: Callable[[Scope], SelectorConnection],
        deliver: Callable[[list[Item], int], object],
        on_state: Callable[[ClientState], object],
        statistics: Statistics,
        backoff: Backoff,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._deliver = deliver
        self._on_state = on_state
        self._statistics = statistics
        self._backoff = backoff
        self._clock = clock
        self._chance = chance
        self._state = ClientState.IDLE
        self._wanted = Scope()
        self._current: SelectorConnection | None = None
        self._successor: SelectorConnection | None = None
        self._handover: Handover | None = None
        self._handover_ends: float | None = None  # the first connection's end, then that of looking for repetitions
        self._next_notice: ReconnectNotice | None = None  # that the second connection has had already
        self._delivered = Delivered() if settings.on_reconnect_notice == HANDOVER else None
        self._retry_at: float | None = None
        self._paused_since: float | None = None
        self._started_at = 0.0
        self._unknown_refusals = 0
        self._is_closing = False
        self._gaps = ConnectionGaps()
        self._quiet = QuietWatch(settings.quiet_after)
        self.disconnected: Disconnected | None = None
        #: Why it ended, where it was not asked to.
        self.failure: Disconnected | BaseException | None = None

    @property
    def state(self) -> ClientState:
        """Where the client stands."""
        return self._state

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to drive."""
        return self._state is ClientState.CLOSED

    def connections(self) -> list[SelectorConnection]:
        """Return the connections to watch."""
        return [connection for connection in (self._current, self._successor) if connection is not None]

    def start(self, scope: Scope) -> None:
        """Begin to connect, where anything is wanted."""
        self._started_at = self._retry_at = self._clock()
        self._change_scope(scope)

    def set_scope(self, scope: Scope) -> None:
        """Want another scope; an empty one parks the client."""
        if self._is_closing or scope is self._wanted:
            return
        self._change_scope(scope)
        for connection in self.connections():
            if connection.state in (SessionState.CLOSING, SessionState.CLOSED):
                continue  # the next one will be asked
            self._take(connection, connection.set_scope(scope) if scope else connection.close())

    def close(self) -> None:
        """Close what is open, and end. Idempotent."""
        if self._is_closing:
            return
        self._is_closing = True
        self._retry_at = None
        self._move(ClientState.CLOSING)
        for connection in self.connections():
            self._take(connection, connection.close())
        self._end_if_done()

    def fail(self, failure: Disconnected | BaseException) -> None:
        """End as :meth:`close` does, for a reason that is the caller's to see."""
        if self.failure is None and not self._is_closing:
            self.failure = failure
        self.close()

    def abort(self, failure: BaseException) -> None:
        """End at once: something went wrong in here (F11)."""
        self.failure = self.failure or failure
        self._is_closing = True
        for connection in self.connections():
            connection.abandon()
            self.disconnected = connection.disconnected
        endings = [ending for connection in self.connections() if (ending := connection.disconnected) is not None]
        self._current = self._successor = None
        self._move(ClientState.CLOSED)
        self._deliver([*endings, *self._gaps.end()], 0)

    def pause(self) -> None:
        """Stop reading: the queue is full. Idempotent."""
        if self._paused_since is None and not self._is_closing:
            self._paused_since = self._clock()
            self._pause_live_ones()

    def resume(self) -> None:
        """Go on reading. Idempotent."""
        if self._paused_since is None:
            return
        self._paused_since = None
        for connection in self.connections():
            connection.resume_reading()

    def handle(self, connection: SelectorConnection, *, readable: bool, writable: bool) -> None:
        """Let a connection do what its descriptor is ready for."""
        if readable:
            self._take(connection, connection.handle_read())
        if writable:
            self._take(connection, connection.handle_write())

    def next_timeout(self) -> float | None:
        """Return when to call :meth:`handle_timeout`."""
        times = [connection.next_timeout() for connection in self.connections()]
        times += [self._attempt_due(), self._pause_ends(), self._handover_ends, self._quiet.next_timeout()]
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self) -> None:
        """Do what has become due; harmless where nothing has."""
        now = self._clock()
        for connection in self.connections():
            due = connection.next_timeout()
            if due is not None and due <= now:
                self._take(connection, connection.handle_timeout())
        if (due := self._pause_ends()) is not None and due <= now:
            self.fail(
                SlowConsumerError(
                    f"the queue of {self._settings.max_queued_messages} messages was full for "
                    f"{self._settings.slow_consumer_timeout:g} s: callbacks, or an iteration, did not take them in time"
                )
            )
        if self._handover_ends is not None and self._handover_ends <= now:
            self._end_handover()
        if quiet := self._quiet.report(now):
            for event in quiet:
                LOGGER.log(logging.WARNING if event.last_ns is None else logging.INFO, "%s", event.summary())
            self._deliver(list(quiet), 0)
        if (due := self._attempt_due()) is not None and due <= now:
            self._attempt()

    # Time

    def _attempt_due(self) -> float | None:
        is_possible = self._wanted and self._current is None and self._paused_since is None
        return self._retry_at if is_possible else None

    def _pause_ends(self) -> float | None:
        patience = self._settings.slow_consumer_timeout
        if self._paused_since is None or patience is None or self._is_closing:
            return None
        return self._paused_since + patience

    # What comes of connections

    def _attempt(self) -> None:
        self._retry_at = None
        self._move(ClientState.CONNECTING)
        self._current = self._connect(self._wanted)
        self._take(self._current, self._current.start())

    def _take(self, connection: SelectorConnection, items: list[Item]) -> None:
        """Count, decode, merge and deliver what came of a connection, then do what it asks for."""
        if items:
            now = self._clock()
            frames = cast("list[Event | Frame]", items)
            counts, size = self._statistics.receive(frames, now)
            decoded = self._gaps.deliver(self._merged(connection, connection.decode(frames)))
            notices = [notice for frame in frames if (notice := self._note(connection, frame, now)) is not None]
            if counts:  # after what makes it live, from where on they are counted
                self._quiet.received(counts, now, self._statistics.last_received_ns or 0)
            self._statistics.deliver(decoded)
            self._deliver(decoded, size)
            for notice in notices:
                self._heed(connection, notice)
        if connection not in self.connections():
            return  # its end was taken note of, by a call within this one or the one before
        if connection.disconnected is not None:
            self._end_of(connection, connection.disconnected)
        elif self._paused_since is not None:
            self._pause_live_ones()

    def _merged(self, connection: SelectorConnection, items: list[Item]) -> list[Item]:
        if self._handover is not None:
            is_first = self._successor is not None and connection is self._current
            return self._handover.take_first(items) if is_first else self._handover.take_second(items)
        if self._delivered is not None:
            self._delivered.watch(items)
        return items

    def _note(self, connection: SelectorConnection, frame: Event | Frame, now: float) -> ReconnectNotice | None:
        """Take note of what concerns the connection itself; return a notice that is to be heeded."""
        if isinstance(frame, Frame):
            return frame.decoded if isinstance(frame.decoded, ReconnectNotice) else None
        if isinstance(frame, Live):
            self._statistics.lives += 1
            if connection is self._current:
                self._go_live(now)
        return None

    def _go_live(self, now: float) -> None:
        self._backoff.live(now)
        self._quiet.live(now)
        if not self._is_closing:
            self._move(ClientState.LIVE)

    def _heed(self, connection: SelectorConnection, notice: ReconnectNotice) -> None:
        LOGGER.info("the server will close the connection%s", _within(notice))
        policy = self._settings.on_reconnect_notice
        if self._is_closing:
            return
        if self._successor is not None:
            self._next_notice = notice if connection is self._successor else self._next_notice
            return
        if policy == NOW:
            self._take(connection, connection.close())
        elif policy == HANDOVER:
            self._begin_handover(notice)

    # Ends

    def _end_of(self, connection: SelectorConnection, ending: Disconnected) -> None:
        if connection not in self.connections():
            return  # its end was dealt with in the middle of something else
        LOGGER.info("disconnected: %s", ending.summary())
        self._statistics.end_session(connection.stats())
        self.disconnected = ending
        if connection is self._successor:
            self._successor = None
            self._lose_successor(ending)
        elif self._successor is not None and not self._is_closing:
            self._promote(self._successor, connection, ending)
        else:
            self._current = None
            self._quiet.down()
            self._end_handover()
            if not self._is_closing:
                self._decide(connection.scope, ending)
        if self._is_closing:
            self._end_if_done()

    def _decide(self, scope: Scope, ending: Disconnected) -> None:
        """Park, give up, or wait for the next attempt."""
        now = self._clock()
        if not self._wanted:
            self._deliver(self._gaps.end(), 0)
            self._retry_at = now
            self._move(ClientState.PARKED)
            return
        self._gaps.cut(ending, scope)
        is_fresh = self._may_be_fresh_key(ending, now)
        retry_after = max(ending.retry_after or 0.0, FRESH_KEY_RETRY_SECONDS if is_fresh else 0.0)
        delay = self._backoff.delay(now, self._chance(), retry_after=retry_after, code=ending.code)
        if self._is_final(ending, is_fresh=is_fresh):
            LOGGER.error("the client gives up: %s", ending.summary())
            self.failure = ending
            self._is_closing = True
            return
        level = logging.ERROR if ending.cause is Cause.OVERFLOW else logging.INFO
        LOGGER.log(level, "attempt %d in %.1f s, after: %s", self._backoff.attempts, delay, ending.detail)
        self._retry_at = now + delay
        self._move(ClientState.WAITING)
        self._deliver([Reconnecting(attempt=self._backoff.attempts, delay=delay, cause=ending.cause)], 0)

    def _is_final(self, ending: Disconnected, *, is_fresh: bool) -> bool:
        most = self._settings.max_attempts
        if most is not None and self._backoff.attempts > most:
            return True
        if ending.cause is Cause.UNKNOWN and ending.error_type in (ServerRejected, HandshakeRejected):
            self._unknown_refusals = 1 if self._backoff.attempts == 1 else self._unknown_refusals + 1
            return self._unknown_refusals > MAX_UNKNOWN_REFUSALS
        # LOCAL: we closed it to have another one.
        return ending.cause in FINAL_CAUSES and ending.cause is not Cause.LOCAL and not is_fresh

    def _may_be_fresh_key(self, ending: Disconnected, now: float) -> bool:
        grace = self._settings.fresh_key_grace
        is_refused = ending.cause is Cause.CREDENTIALS and ending.error_type is AuthenticationError
        return is_refused and grace is not None and not self._statistics.lives and now - self._started_at < grace

    def _end_if_done(self) -> None:
        if not self.connections():
            self._deliver(self._gaps.end(), 0)
            self._move(ClientState.CLOSED)

    # Two connections

    def _begin_handover(self, notice: ReconnectNotice) -> None:
        assert self._delivered is not None
        self._end_handover()
        self._next_notice = None
        within = DEFAULT_NOTICE_SECONDS if notice.within_seconds is None else float(notice.within_seconds)
        self._handover = Handover(self._delivered)
        self._handover_ends = self._clock() + within + HANDOVER_GRACE_SECONDS
        self._successor = self._connect(self._wanted)
        self._take(self._successor, self._successor.start())

    def _promote(self, successor: SelectorConnection, first: SelectorConnection, ending: Disconnected) -> None:
        """Let the second connection be the one, now that the first has ended."""
        self._current, self._successor = successor, None
        now = self._clock()
        if self._handover is not None and successor.state is SessionState.LIVE:
            left = self._handover.end_first()
            self._handover_ends = now + AFTER_HANDOVER_SECONDS
            self._backoff.live(now)
            self._deliver([HandedOver(duplicates=self._handover.duplicates, pairs_left=left)], 0)
            if self._next_notice is not None:
                self._begin_handover(self._next_notice)
            return
        self._handover, self._handover_ends = None, None
        if not self._wanted:
            return  # both are closed by us, to park
        self._gaps.cut(ending, first.scope)
        self._quiet.down()
        self._move(ClientState.CONNECTING)

    def _lose_successor(self, ending: Disconnected) -> None:
        handover, self._handover, self._handover_ends = self._handover, None, None
        if self._is_closing or not self._wanted or self._current is None:
            return
        LOGGER.warning("no handover, so the first connection's end is waited for: %s", ending.summary())
        self._deliver([HandoverFailed(reason=ending.summary())], 0)
        if handover is not None and handover.has_switched:
            # Some books came from the second already; only a new beginning makes them whole.
            self._take(self._current, self._current.close())

    def _end_handover(self) -> None:
        """End the first connection, or the time in which repetitions are looked for."""
        handover, self._handover_ends = self._handover, None
        if handover is None:
            return
        if self._successor is None or self._current is None:
            self._handover = None
            self._deliver(handover.finish(), 0)
        elif self._successor.state is SessionState.LIVE:
            self._take(self._current, self._current.close())
        else:
            self._handover_ends = self._clock() + HANDOVER_GRACE_SECONDS

    # Small things

    def _change_scope(self, scope: Scope) -> None:
        self._wanted = scope
        self._quiet.ask(scope, self._clock())
        if self._current is None:
            waits = self._retry_at is not None and self._retry_at > self._clock()
            self._move(ClientState.PARKED if not scope else ClientState.WAITING if waits else ClientState.CONNECTING)

    def _pause_live_ones(self) -> None:
        for connection in self.connections():
            if connection.state is SessionState.LIVE:
                connection.pause_reading()

    def _move(self, state: ClientState) -> None:
        if state is not self._state:
            self._state = state
            self._on_state(state)


def _within(notice: ReconnectNotice) -> str:
    return "" if notice.within_seconds is None else f" within {notice.within_seconds} s"
