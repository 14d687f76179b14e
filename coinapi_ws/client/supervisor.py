"""What becomes of the connections of a client: connected, replaced, handed over, given up. No thread of its own.

Driven by the I/O thread, as a ``SelectorConnection`` is by a loop. Each end of a connection is followed by one
decision, made at one place; the next attempt is begun by a timer and never from within the last one's end (F6).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, Protocol, cast

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


class Deliver(Protocol):
    """Takes items, the bytes that they had, and whether those beyond the queue's bounds are to be dropped."""

    def __call__(self, items: list[Item], size: int, *, may_drop: bool) -> object: ...


class Supervisor:
    """The connections of one client, at most two at a time.

    ``connect`` makes a connection for a scope; ``deliver`` is given what comes of them, ``on_state`` each new
    state. ``chance`` returns a random number in [0, 1). All calls come from one thread.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        connect: Callable[[Scope], SelectorConnection],
        deliver: Deliver,
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
        self._successor: SelectorConnection | None = None  # beside the current one, while handing over
        self._handover: Handover | None = None  # merges the two, and looks for repetitions for a while after
        self._second: SelectorConnection | None = None  # that it takes for the second one
        self._handover_at: float | None = None
        self._first_ends_by: float | None = None
        self._merges_until: float | None = None
        self._next_notice: ReconnectNotice | None = None  # that the second connection has had already
        self._delivered = Delivered() if settings.on_reconnect_notice == HANDOVER else None
        self._retry_at: float | None = None
        self._paused_since: float | None = None
        self._started_at = 0.0
        self._failed_attempts = 0
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

    def session_counts(self) -> tuple[int, dict[str, int]]:
        """Return surplus and jumps of all sessions, those that are up included. Any thread."""
        surplus, jumps = self._statistics.surplus, dict(self._statistics.jumps)
        for connection in self.connections():
            stats = connection.stats()
            surplus += stats.surplus
            for name, count in stats.jumps.items():
                jumps[name] = jumps.get(name, 0) + count
        return surplus, jumps

    def start(self, scope: Scope) -> None:
        """Begin to connect, where anything is wanted."""
        self._started_at = self._retry_at = self._clock()
        self._wanted = scope
        self._quiet.ask(scope, self._started_at)
        self._rest()

    def set_scope(self, scope: Scope) -> None:
        """Want another scope; an empty one parks the client."""
        if self._is_closing or scope is self._wanted:
            return
        is_equal = scope == self._wanted
        self._wanted = scope
        if is_equal:
            return
        self._quiet.ask(scope, self._clock())
        for connection in self.connections():
            if connection.state in (SessionState.CLOSING, SessionState.CLOSED):
                continue  # the next one will be asked
            self._take(connection, connection.set_scope(scope) if scope else connection.close())
        if not self.connections():
            self._rest()

    def resubscribe(self, symbol_ids: Iterable[str]) -> None:
        """Have the connections that are live begin anew with these symbols."""
        for connection in self.connections():
            if connection.state is SessionState.LIVE:
                self._take(connection, connection.resubscribe(symbol_ids))

    def reconnect(self) -> None:
        """Begin anew with everything: close what is live, and connect as after any other end."""
        for connection in self.connections():
            if connection.state is SessionState.LIVE:
                self._take(connection, connection.close())

    def close(self) -> None:
        """Close what is open, and end. Idempotent."""
        if self._is_closing:
            return
        self._is_closing = True
        self._retry_at = self._handover_at = None
        if self.connections():
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
        self._give([*endings, *self._gaps.end()])

    def pause(self) -> None:
        """Stop reading: the queue is full. Idempotent."""
        if self._paused_since is None and not self._is_closing:
            self._paused_since = self._clock()
            self._pause_all()

    def resume(self) -> None:
        """Go on reading. Idempotent."""
        if self._paused_since is None:
            return
        self._quiet.stand_still(self._clock() - self._paused_since)
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
        times += [self._attempt_due(), self._pause_ends(), self._quiet_due()]
        times += [self._handover_at, self._first_ends_by, self._merges_until]
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self) -> None:
        """Do what has become due; harmless where nothing has. What waits in the sockets is to be handled before."""
        now = self._clock()
        for connection in self.connections():
            if _is_past(connection.next_timeout(), now):
                self._take(connection, connection.handle_timeout())
        if _is_past(self._pause_ends(), now):
            self.fail(
                SlowConsumerError(
                    f"the queue had no room for {self._settings.slow_consumer_timeout:g} s: "
                    "callbacks, or an iteration, did not take the messages in time"
                )
            )
        if _is_past(self._handover_at, now):
            self._begin_handover()
        if _is_past(self._first_ends_by, now):
            self._end_first(now)
        if _is_past(self._merges_until, now):
            self._end_merging()
        if _is_past(self._quiet_due(), now):
            quiet = self._quiet.report(now)
            for event in quiet:
                LOGGER.log(logging.WARNING if event.last_ns is None else logging.INFO, "%s", event.summary())
            self._give(list(quiet))
        if _is_past(self._attempt_due(), now):
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

    def _quiet_due(self) -> float | None:
        return self._quiet.next_timeout() if self._paused_since is None and not self._is_closing else None

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
            if any(isinstance(item, Live) for item in items):
                self._statistics.lives += 1
                if connection is self._current:
                    self._go_live(now)
            if counts:  # after what makes it live, from where on they are counted
                self._quiet.received(counts, now, self._statistics.last_received_ns or 0)
            self._give(decoded, size, may_drop=connection.was_closed)
            for frame in frames:
                if isinstance(frame, Frame) and isinstance(frame.decoded, ReconnectNotice):
                    self._heed(connection, frame.decoded, now)
        if connection not in self.connections():
            return  # its end was dealt with in the middle of this, or of the call before
        if connection.disconnected is not None:
            self._end_of(connection, connection.disconnected)
        elif self._paused_since is not None:
            self._pause_all()

    def _merged(self, connection: SelectorConnection, items: list[Item]) -> list[Item]:
        if self._handover is not None:
            before = self._handover.duplicates
            is_second = connection is self._second
            items = self._handover.take_second(items) if is_second else self._handover.take_first(items)
            self._statistics.duplicates += self._handover.duplicates - before
        elif self._delivered is not None:
            self._delivered.watch(items)
        return items

    def _give(self, items: list[Item], size: int = 0, *, may_drop: bool = False) -> None:
        if items:
            self._statistics.deliver(items)
            self._deliver(items, size, may_drop=may_drop)

    def _go_live(self, now: float) -> None:
        self._backoff.live(now)
        self._quiet.live(now)
        if not self._is_closing:
            self._move(ClientState.LIVE)

    def _heed(self, connection: SelectorConnection, notice: ReconnectNotice, now: float) -> None:
        within = "" if notice.within_seconds is None else f" within {notice.within_seconds:g} s"
        LOGGER.info("the server will close the connection%s", within)
        policy = self._settings.on_reconnect_notice
        if connection is self._successor:
            self._next_notice = notice
        elif connection.state is not SessionState.LIVE:
            return  # it ends already
        elif policy == NOW:
            self._take(connection, connection.close())
        elif policy == HANDOVER and self._successor is None:
            self._plan_handover(notice, now)

    # Ends

    def _end_of(self, connection: SelectorConnection, ending: Disconnected) -> None:
        LOGGER.info("disconnected: %s", ending.summary())
        self._statistics.end_session(connection.stats())
        self.disconnected = ending
        if connection is self._current:
            self._current = self._successor
        self._successor = None
        if self._current is None:
            self._quiet.down()
        if self._is_closing:
            self._end_if_done()
        elif not self._wanted:
            if self._current is None:
                self._rest()
        elif self._current is None:
            self._forget_handover()
            self._decide(connection.scope, ending)
        elif connection is self._second:
            self._lose_second(self._current, ending)
        else:
            self._hand_over(self._current, connection.scope, ending)

    def _decide(self, scope: Scope, ending: Disconnected) -> None:
        """Give up, or wait for the next attempt."""
        now = self._clock()
        self._gaps.cut(ending, scope)
        is_fresh = self._may_be_fresh_key(ending, now)
        retry_after = max(ending.retry_after or 0.0, FRESH_KEY_RETRY_SECONDS if is_fresh else 0.0)
        if self._handover_at is None:
            delay = self._backoff.delay(now, self._chance(), retry_after=retry_after, code=ending.code)
        else:
            delay, self._handover_at = max(0.0, self._handover_at - now, retry_after), None
        if self._is_final(ending, is_fresh=is_fresh):
            LOGGER.error("the client gives up: %s", ending.summary())
            self.fail(ending)
            return
        level = logging.ERROR if ending.cause is Cause.OVERFLOW else logging.INFO
        LOGGER.log(level, "attempt %d in %.1f s, after: %s", self._backoff.attempts, delay, ending.detail)
        self._retry_at = now + delay
        self._move(ClientState.WAITING)
        self._give([Reconnecting(attempt=self._backoff.attempts, delay=delay, cause=ending.cause)])

    def _is_final(self, ending: Disconnected, *, is_fresh: bool) -> bool:
        if self._backoff.attempts == 1:  # it was healthy before
            self._failed_attempts = self._unknown_refusals = 0
        if ending.cause is Cause.UNKNOWN and ending.error_type in (ServerRejected, HandshakeRejected):
            self._unknown_refusals += 1
        else:
            self._unknown_refusals = 0
        # What was live until one of both wanted to end it did not fail.
        self._failed_attempts += ending.stage != "live" or ending.cause not in (Cause.LOCAL, Cause.NOTICE)
        most = self._settings.max_attempts
        if most is not None and self._failed_attempts > most:
            return True
        is_refused = ending.cause in FINAL_CAUSES and ending.cause is not Cause.LOCAL
        return self._unknown_refusals > MAX_UNKNOWN_REFUSALS or (is_refused and not is_fresh)

    def _may_be_fresh_key(self, ending: Disconnected, now: float) -> bool:
        grace = self._settings.fresh_key_grace
        is_refused = ending.cause is Cause.CREDENTIALS and ending.error_type is AuthenticationError
        return is_refused and grace is not None and not self._statistics.lives and now - self._started_at < grace

    def _end_if_done(self) -> None:
        if not self.connections():
            self._give(self._gaps.end())
            self._move(ClientState.CLOSED)

    def _rest(self) -> None:
        """Without a connection: wait for the next attempt, or for something to be wanted."""
        now = self._clock()
        self._retry_at = now if self._retry_at is None else self._retry_at
        if not self._wanted:
            self._handover_at = None
            self._forget_handover()
            self._give(self._gaps.end())
            self._move(ClientState.PARKED)
        else:
            self._move(ClientState.WAITING if self._retry_at > now else ClientState.CONNECTING)

    # Two connections

    def _plan_handover(self, notice: ReconnectNotice, now: float) -> None:
        """Begin one at once, but no storm of them where each server announces its end (F5)."""
        if self._handover_at is not None:
            return
        delay = self._backoff.delay(now, self._chance())
        self._handover_at = now if self._backoff.attempts == 1 else now + delay
        within = DEFAULT_NOTICE_SECONDS if notice.within_seconds is None else float(notice.within_seconds)
        self._first_ends_by = self._handover_at + within + HANDOVER_GRACE_SECONDS
        if self._handover_at <= now:
            self._begin_handover()

    def _begin_handover(self) -> None:
        assert self._delivered is not None
        before, first_ends_by = self._handover, self._first_ends_by
        self._end_merging()
        self._handover = Handover(self._delivered, before)
        self._first_ends_by = first_ends_by
        self._handover_at = None
        self._successor = self._second = self._connect(self._wanted)
        self._take(self._successor, self._successor.start())

    def _hand_over(self, second: SelectorConnection, scope: Scope, ending: Disconnected) -> None:
        """Let the second connection be the one, now that the first has ended."""
        now = self._clock()
        if self._handover is None or second.state is not SessionState.LIVE:
            self._forget_handover()
            self._gaps.cut(ending, scope)
            self._quiet.down()
            self._move(ClientState.CONNECTING)
            # An attempt as any other, begun already.
            self._give([Reconnecting(attempt=self._backoff.attempts, delay=0.0, cause=ending.cause)])
            return
        left = self._handover.end_first()
        self._first_ends_by, self._merges_until = None, now + AFTER_HANDOVER_SECONDS
        self._backoff.live(now)
        if self._state is not ClientState.LIVE:
            self._go_live(now)
        if not (ending.clean and ending.cause in (Cause.NOTICE, Cause.LOCAL)):
            self._give(self._gaps.between(*self._handover.seam(), ending, scope))
        self._give([HandedOver(duplicates=self._handover.duplicates, pairs_left=left)])
        if self._next_notice is not None:
            self._plan_handover(self._next_notice, now)
            self._next_notice = None

    def _lose_second(self, first: SelectorConnection, ending: Disconnected) -> None:
        handover = self._handover
        assert handover is not None
        LOGGER.warning("no handover, so the first connection's end is waited for: %s", ending.summary())
        # What the second has delivered may still come of the first.
        handover.lose_second()
        now = self._clock()
        self._first_ends_by, self._merges_until, self._next_notice = None, now + AFTER_HANDOVER_SECONDS, None
        self._backoff.live(now)
        self._give([HandoverFailed(reason=ending.summary())])
        if handover.has_switched:
            # Some books came from the second already; only a new beginning makes them whole.
            self._take(first, first.close())

    def _end_first(self, now: float) -> None:
        """Close the first connection, whose announced end did not come, as soon as the second is live."""
        assert self._current is not None
        if self._successor is not None and self._successor.state is SessionState.LIVE:
            self._first_ends_by = None
            self._take(self._current, self._current.close())
        else:
            self._first_ends_by = now + HANDOVER_GRACE_SECONDS

    def _end_merging(self) -> None:
        handover = self._handover
        self._forget_handover()
        if handover is not None and not self._is_closing:
            self._give(handover.finish())

    def _forget_handover(self) -> None:
        self._handover = self._second = self._first_ends_by = self._merges_until = None

    # Small things

    def _pause_all(self) -> None:
        for connection in self.connections():
            if connection.state in (SessionState.OPEN, SessionState.LIVE):
                connection.pause_reading()

    def _move(self, state: ClientState) -> None:
        if state is not self._state:
            self._state = state
            self._on_state(state)


def _is_past(due: float | None, now: float) -> bool:
    return due is not None and due <= now
