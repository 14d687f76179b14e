"""What becomes of the connections of a client: connected, replaced, handed over, given up. No thread of its own.

Driven by the I/O thread, as a ``SelectorConnection`` is by a loop. Each end of a connection is followed by one
decision, made at one place; the next attempt is begun by a timer and never from within the last one's end (F6).
"""

from __future__ import annotations

import logging
import selectors
import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Final, cast

from ..drivers.selector import SelectorConnection
from ..events import Cause, Disconnected, Event, HandedOver, HandoverFailed, Live, Reconnecting
from ..exceptions import SlowConsumerError
from ..messages import ReconnectNotice
from ..protocol.frames import Frame, Frames, Item
from ..protocol.reconnect import Backoff
from ..protocol.states import SessionState
from ..scope import Scope
from .gaps import ConnectionGaps
from .giving_up import GivingUp
from .handover import Delivered, Handover
from .queueing import Deliver
from .quiet import QuietWatch
from .settings import HANDOVER, NOW, ClientSettings
from .states import ClientState
from .statistics import Statistics
from .takeover import GRACE_SECONDS, Takeover
from .undecoded import Undecoded

LOGGER: Final = logging.getLogger("coinapi_ws")

#: A key that was just made is refused for some minutes; it is tried no more often than this.
FRESH_KEY_RETRY_SECONDS: Final = 10.0
_TOO_SLOW: Final = "the queue had no room for {:g} s: callbacks, or an iteration, did not take the messages in time"


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
        #: What is wanted.
        self.scope = Scope()
        self._current: SelectorConnection | None = None
        self._takeover: Takeover | None = None  # planned, or with a second connection beside the current one
        self._merging: Takeover | None = None  # that is over, but for repetitions
        self._notice: tuple[SelectorConnection, ReconnectNotice] | None = None  # heeded once that one is the live one
        self._delivered = Delivered() if settings.on_reconnect_notice == HANDOVER else None
        self._retry_at: float | None = None
        #: Since when the queue is full.
        self.paused_since: float | None = None
        self._giving_up = GivingUp(settings)
        self._is_closing = False
        self._gaps = ConnectionGaps()
        self._decoding = threading.Lock()
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
        current, second = self._current, None if self._takeover is None else self._takeover.second
        if current is None:
            return [] if second is None else [second]
        return [current] if second is None else [current, second]

    def start(self, scope: Scope) -> None:
        """Begin to connect, where anything is wanted."""
        now = self._retry_at = self._clock()
        self._giving_up.start(now)
        self.scope = scope
        self._quiet.ask(scope, now)
        self._rest()

    def set_scope(self, scope: Scope) -> None:
        """Want another scope; an empty one parks the client."""
        if self._is_closing or scope is self.scope:
            return
        is_equal = scope == self.scope
        self.scope = scope
        if is_equal:
            return
        if not scope:
            self._drop_plan()
        self._quiet.ask(scope, self._clock())
        for connection in self.connections():
            if connection.state in (SessionState.CLOSING, SessionState.CLOSED):
                continue  # the next one will be asked
            with self._decoding:
                items = connection.set_scope(scope) if scope else connection.close()
            self._take(connection, items)
        if not self.connections():
            self._rest()

    def resubscribe(self, symbol_ids: Iterable[str]) -> None:
        """Have the connections that are live begin anew with these symbols."""
        for connection in self.connections():
            if connection.state is SessionState.LIVE:
                with self._decoding:
                    items = connection.resubscribe(symbol_ids)
                self._take(connection, items)

    def reconnect(self) -> None:
        """Begin anew with everything: close what is live, and connect as after any other end."""
        if self._takeover is not None:
            self._takeover.is_off = self._takeover.second_was_live
        for connection in self.connections():
            if connection.state is SessionState.LIVE:
                self._take(connection, connection.close())

    def close(self) -> None:
        """Close what is open, and end. Idempotent."""
        if self._is_closing:
            return
        self._is_closing = True
        self._retry_at = None
        self._drop_plan()
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
        endings: list[Item] = []
        for connection in self.connections():
            connection.abandon()
            if (ending := connection.disconnected) is not None:
                endings.append(ending)
                self.disconnected = ending
                self._statistics.count_end(ending)
        self._current = self._takeover = None
        self._move(ClientState.CLOSED)
        self._give([*endings, *self._gaps.end()])

    def pause(self) -> None:
        """Stop reading: the queue is full. Idempotent."""
        if self.paused_since is None and not self._is_closing:
            self.paused_since = self._clock()
            self._pause_all()

    def resume(self) -> None:
        """Go on reading. Idempotent."""
        if self.paused_since is None:
            return
        paused_for = self._clock() - self.paused_since
        for timed in (self._quiet, self._takeover, self._merging):
            if timed is not None:
                timed.stand_still(paused_for)
        self.paused_since = None
        for connection in self.connections():
            connection.resume_reading()

    def handle(self, connection: SelectorConnection, ready: int) -> None:
        """Let a connection do what its descriptor is ready for; nothing where it is none of ours any more."""
        if ready & selectors.EVENT_READ and self._is_ours(connection):
            self._take(connection, connection.handle_read())
        if ready & selectors.EVENT_WRITE and self._is_ours(connection):
            self._take(connection, connection.handle_write())

    def next_timeout(self) -> float | None:
        """Return when to call :meth:`handle_timeout`."""
        times = [connection.next_timeout() for connection in self.connections()]
        times += [self._attempt_due(), self._pause_ends(), *self._standing_timeouts()]
        return min([time for time in times if time is not None], default=None)

    def handle_timeout(self, now: float | None = None) -> None:
        """Do what has become due by ``now``; harmless where nothing has.

        ``now`` is the time since when all that the sockets had was handled: a callback that took long is no silence of
        the server.
        """
        now = self._clock() if now is None else now
        for connection in self.connections():
            if _is_past(connection.next_timeout(), now):
                is_live = connection.state is SessionState.LIVE
                with self._decoding if is_live else nullcontext():  # symbols begin anew; before, names are resolved
                    items = connection.handle_timeout()
                self._take(connection, items)
        if _is_past(self._pause_ends(), now):
            self.fail(SlowConsumerError(_TOO_SLOW.format(self._settings.slow_consumer_timeout or 0.0)))
        takeover_due, merging_due, quiet_due = self._standing_timeouts()
        if self._takeover is not None and _is_past(takeover_due, now):
            self._advance(self._takeover, now)
        if self._merging is not None and _is_past(merging_due, now):
            self._end_merging()
        if _is_past(quiet_due, now):
            quiet = self._quiet.report(now)
            for event in quiet:
                LOGGER.log(logging.WARNING if event.last_ns is None else logging.INFO, "%s", event.summary())
            self._give(list(quiet))
        if _is_past(self._attempt_due(), now):
            self._attempt()

    # Time

    def _attempt_due(self) -> float | None:
        is_possible = self._current is None and self.paused_since is None and self.scope
        return self._retry_at if is_possible else None

    def _pause_ends(self) -> float | None:
        patience = self._settings.slow_consumer_timeout
        if self.paused_since is None or patience is None or self._is_closing:
            return None
        return self.paused_since + patience

    def _standing_timeouts(self) -> tuple[float | None, float | None, float | None]:
        """Of takeover, merging and quiet watch, which stand still while nothing is read."""
        if self.paused_since is not None or self._is_closing:
            return None, None, None
        takeover = None if self._takeover is None else self._takeover.next_timeout()
        merging = None if self._merging is None else self._merging.next_timeout()
        return takeover, merging, self._quiet.next_timeout()

    # What comes of connections

    def _attempt(self) -> None:
        self._retry_at = None
        self._move(ClientState.CONNECTING)
        self._current = self._new_connection()
        self._take(self._current, self._current.start())

    def _new_connection(self) -> SelectorConnection:
        connection = self._connect(self.scope)
        self._statistics.begin_session(connection)
        return connection

    def _take(self, connection: SelectorConnection, items: list[Item]) -> None:
        """Count, decode, merge and deliver what came of a connection, then do what it asks for."""
        if items:
            now = self._clock()
            frames = cast("list[Event | Frame | Frames]", items)
            for item in items:
                if isinstance(item, Live):
                    self._note_live(connection, now)
            counts, size = self._statistics.receive(frames, now)
            self._pass_on(connection, frames, sum(counts.values()), size)
            if counts:  # nobody waits for this
                self._quiet.received(counts, now, self._statistics.last_received_ns or 0)
            for frame in frames:
                if isinstance(frame, Frame) and isinstance(frame.decoded, ReconnectNotice):
                    self._hear(connection, frame.decoded)
            if self._notice is not None:
                self._heed(*self._notice, now)
        if not self._is_ours(connection):
            return  # its end was dealt with in the middle of this, or of the call before
        if connection.disconnected is not None:
            self._end_of(connection, connection.disconnected)
        elif self.paused_since is not None:
            self._pause_all()

    def _is_ours(self, connection: SelectorConnection) -> bool:
        return connection is self._current or connection in self.connections()

    def _pass_on(
        self, connection: SelectorConnection, frames: list[Event | Frame | Frames], count: int, size: int
    ) -> None:
        """Deliver what came; it is decoded by whoever delivers it, unless something is to be put in or left out."""
        if self._delivered is None and not self._gaps.is_open:
            undecoded = Undecoded(connection, frames, count, lock=self._decoding, look=self._look)
            self._deliver(undecoded, size, may_drop=connection.was_closed)
            self._gaps.passed(frames)
            return
        items = list(connection.decode(frames))
        decoded = self._gaps.deliver(self._merged(connection, items))
        self._statistics.deliver(decoded)
        if items and isinstance(items[-1], Disconnected):
            self._statistics.end_session(connection)
        # What was left out takes no room.
        self._deliver(decoded, size * len(decoded) // max(count, len(decoded), 1), may_drop=connection.was_closed)

    def _look(self, connection: SelectorConnection, items: list[Item]) -> None:
        """Take note of what was delivered."""
        self._statistics.deliver(items)
        if items and isinstance(items[-1], Disconnected):
            self._statistics.end_session(connection)

    def _merged(self, connection: SelectorConnection, items: list[Item]) -> list[Item]:
        is_up = self._takeover is not None and self._takeover.second is not None
        takeover = self._takeover if is_up else self._merging
        if takeover is not None:
            before = takeover.handover.duplicates
            items = takeover.merged(connection, items)
            self._statistics.duplicates += takeover.handover.duplicates - before
        elif self._delivered is not None:
            self._delivered.watch(items)
        return items

    def _give(self, items: list[Item]) -> None:
        """Deliver events of its own."""
        if items:
            self._statistics.deliver(items)
            self._deliver(items, 0, may_drop=False)

    def _note_live(self, connection: SelectorConnection, now: float) -> None:
        self._statistics.lives += 1
        if connection is self._current:
            self._go_live(now)
        elif self._takeover is not None:
            self._takeover.second_was_live = True

    def _go_live(self, now: float) -> None:
        self._backoff.live(now)
        self._quiet.live(now)
        if not self._is_closing:
            self._move(ClientState.LIVE)

    def _hear(self, connection: SelectorConnection, notice: ReconnectNotice) -> None:
        within = "" if notice.within_seconds is None else f" within {notice.within_seconds:g} s"
        LOGGER.info("the server will close the connection%s", within)
        self._notice = (connection, notice)

    def _heed(self, connection: SelectorConnection, notice: ReconnectNotice, now: float) -> None:
        """Do what the policy says of a notice, once its connection is the one that is live."""
        if connection is not self._current or connection.state is not SessionState.LIVE:
            return
        self._notice = None
        if self._settings.on_reconnect_notice == NOW:
            self._take(connection, connection.close())
        elif self._settings.on_reconnect_notice == HANDOVER and self._takeover is None:
            self._plan_takeover(notice, now)

    # Ends

    def _end_of(self, connection: SelectorConnection, ending: Disconnected) -> None:
        LOGGER.info("disconnected: %s", ending.summary())
        self.disconnected = ending
        self._statistics.count_end(ending)
        takeover = self._takeover
        if takeover is not None and takeover.second is not None:
            self._takeover, self._merging = None, takeover
            takeover.be_over(self._clock())
        if connection is self._current:
            self._current = None if takeover is None else takeover.second
        self._statistics.end_session(connection)
        if self._current is None:
            self._quiet.down()
        if self._is_closing:
            self._end_if_done()
        elif not self.scope:
            if self._current is None:
                self._rest()
        elif self._current is None:
            self._merging = None
            self._decide(connection.scope, ending)
        elif takeover is not None and takeover.is_off:
            pass  # the other one is about to end
        elif takeover is not None and connection is takeover.second:
            self._lose_second(takeover.handover, self._current, ending)
        elif takeover is not None:
            self._hand_over(takeover, connection.scope, ending)

    def _decide(self, scope: Scope, ending: Disconnected) -> None:
        """Give up, or wait for the next attempt."""
        now = self._clock()
        self._gaps.cut(ending, scope)
        is_fresh = self._giving_up.may_be_fresh_key(ending, now, was_ever_live=bool(self._statistics.lives))
        retry_after = max(ending.retry_after or 0.0, FRESH_KEY_RETRY_SECONDS if is_fresh else 0.0)
        plan, self._takeover = self._takeover, None
        if plan is None or plan.begins_at is None:
            delay = self._backoff.delay(now, self._chance(), retry_after=retry_after, code=ending.code)
        else:  # for which the back-off was asked already
            delay = max(plan.begins_at - now, self._backoff.least(retry_after=retry_after, code=ending.code))
        if self._giving_up.is_final(ending, was_healthy=self._backoff.attempts == 1, is_fresh=is_fresh):
            LOGGER.error("the client gives up: %s", ending.summary())
            self.fail(ending)
            return
        level = logging.ERROR if ending.cause is Cause.OVERFLOW else logging.INFO
        LOGGER.log(level, "attempt %d in %.1f s, after: %s", self._backoff.attempts, delay, ending.detail)
        self._retry_at = now + delay
        self._move(ClientState.WAITING)
        self._give([Reconnecting(attempt=self._backoff.attempts, delay=delay, cause=ending.cause)])

    def _end_if_done(self) -> None:
        if not self.connections():
            self._give(self._gaps.end())
            self._move(ClientState.CLOSED)

    def _rest(self) -> None:
        """Without a connection: wait for the next attempt, or for something to be wanted."""
        now = self._clock()
        self._retry_at = now if self._retry_at is None else self._retry_at
        if not self.scope:
            self._merging = None
            self._give(self._gaps.end())
            self._move(ClientState.PARKED)
        else:
            self._move(ClientState.WAITING if self._retry_at > now else ClientState.CONNECTING)

    # Two connections

    def _plan_takeover(self, notice: ReconnectNotice, now: float) -> None:
        """Begin one at once, but no storm of them where each server announces its end (F5)."""
        delay = self._backoff.delay(now, self._chance())
        self._takeover = Takeover(notice, now, now if self._backoff.attempts == 1 else now + delay)
        if self._takeover.begins_at == now:
            self._advance(self._takeover, now)

    def _advance(self, takeover: Takeover, now: float) -> None:
        """Begin a takeover that is planned, or end the first connection, whose announced end did not come."""
        first = self._current
        assert first is not None
        if takeover.second is None:
            if first.state is SessionState.LIVE:
                self._begin_takeover(takeover)
            else:
                self._takeover = None  # it ends already
        elif takeover.second_was_live:
            takeover.first_ends_by = None
            self._take(first, first.close())
        else:
            takeover.first_ends_by = now + GRACE_SECONDS

    def _begin_takeover(self, takeover: Takeover) -> None:
        assert self._delivered is not None
        before = None if self._merging is None else self._merging.handover
        self._end_merging()
        second = self._new_connection()
        takeover.begin(second, Handover(self._delivered, before))
        self._take(second, second.start())

    def _hand_over(self, takeover: Takeover, scope: Scope, ending: Disconnected) -> None:
        """Let the second connection be the one, now that the first has ended."""
        now = self._clock()
        left = takeover.handover.end_first()
        self._give(takeover.handover.lacking())
        if not takeover.second_was_live:
            self._gaps.cut(ending, scope)
            self._quiet.down()
            self._move(ClientState.CONNECTING)
            # An attempt as any other, begun already.
            self._give([Reconnecting(attempt=self._backoff.attempts, delay=0.0, cause=ending.cause)])
            return
        if self._state is ClientState.LIVE:
            self._backoff.live(now)
        else:
            self._go_live(now)
        is_whole = ending.clean and ending.cause in (Cause.NOTICE, Cause.LOCAL)
        from_ns, to_ns = takeover.handover.seam(is_whole=is_whole)
        if to_ns is not None or not is_whole:
            self._give(self._gaps.between(from_ns, to_ns, ending, scope))
        self._give([HandedOver(duplicates=takeover.handover.duplicates, pairs_left=left)])
        if self._notice is not None:
            self._heed(*self._notice, now)

    def _lose_second(self, handover: Handover, first: SelectorConnection, ending: Disconnected) -> None:
        LOGGER.warning("no handover, so the first connection's end is waited for: %s", ending.summary())
        handover.lose_second()
        self._backoff.live(self._clock())
        self._give([HandoverFailed(reason=ending.summary())])
        if handover.has_switched:
            # Some books came from the second already; only a new beginning makes them whole.
            self._give(handover.lacking())
            self._take(first, first.close())

    def _end_merging(self) -> None:
        merging, self._merging = self._merging, None
        if merging is not None:
            self._give(merging.handover.finish())

    def _drop_plan(self) -> None:
        if self._takeover is not None and self._takeover.second is None:
            self._takeover = None

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
