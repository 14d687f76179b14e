"""What a `reconnect` notice, and silence, bring about; handing over has a file of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise

import pytest
from client_harness import HEARTBEAT, NOTICE, Life, at, trade
from peers import QUOTES, TRADES, Listener, url_of

from coinapi_ws import (
    Cause,
    ClientState,
    ConnectionGap,
    Heartbeat,
    Quiet,
    Reconnecting,
    ReconnectNotice,
    Scope,
    Trade,
)

LiveIt = Callable[..., Life]

#: Nothing but what a test does ends a connection.
PATIENT = {"silence_timeout": None}


def test_the_announced_close_is_waited_for(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    server.text(NOTICE)
    server.text(trade(1))
    life.until(Trade)
    assert [notice.within_seconds for notice in life.of(ReconnectNotice)] == [10]
    assert life.state is ClientState.LIVE
    assert len(life.made) == 1
    assert life.hang_up(server, 1001).cause is Cause.NOTICE
    assert life.of(Reconnecting) == [Reconnecting(attempt=1, delay=0.5, cause=Cause.NOTICE)]
    life.retry()
    server = life.live(listener)
    server.text(trade(2))
    life.until(Trade)
    assert [(gap.from_ns, gap.to_ns) for gap in life.of(ConnectionGap)] == [(at(1), at(2))]


def test_now_closes_at_once_and_comes_back(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="now").start()
    server = life.live(listener)
    server.text(trade(1))
    server.text(NOTICE)
    life.until(ReconnectNotice)
    assert life.answer_close(server).code == 1000
    assert life.of(Reconnecting) == [Reconnecting(attempt=1, delay=0.5, cause=Cause.LOCAL)]
    life.retry()
    server = life.live(listener)
    server.text(trade(2))
    life.until(Trade)
    assert life.supervisor.failure is None
    assert [(gap.from_ns, gap.to_ns) for gap in life.of(ConnectionGap)] == [(at(1), at(2))]


def test_now_where_the_end_came_with_the_notice(live_it: LiveIt, listener: Listener) -> None:
    """A timer reads more than once, so both may come of one call: the end is decided about once all the same."""
    life = live_it(url_of(listener), on_reconnect_notice="now").start()
    server = life.live(listener)
    server.text(NOTICE)
    server.socket.close()
    life.advance(30)  # past the silence timeout
    assert len(life.of(ReconnectNotice)) == 1
    life.ended()
    assert life.of(Reconnecting) == [Reconnecting(attempt=1, delay=0.5, cause=Cause.NOTICE)]


@pytest.mark.parametrize("policy", ["wait", "now", "handover"])
def test_a_notice_while_we_close_changes_nothing(live_it: LiveIt, listener: Listener, policy: str) -> None:
    life = live_it(url_of(listener), on_reconnect_notice=policy).start()
    server = life.live(listener)
    life.supervisor.close()
    server.text(NOTICE)
    life.until(ReconnectNotice)
    life.answer_close(server)
    assert life.state is ClientState.CLOSED
    assert len(life.made) == 1


# Quiet


def test_a_type_that_is_silent_is_told_of_once(
    live_it: LiveIt, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coinapi_ws")
    life = live_it(url_of(listener), quiet_after=20, options=PATIENT).start()
    server = life.live(listener)
    life.advance(19)
    assert life.of(Quiet) == []
    assert life.due_in() == 1
    life.advance(1)
    assert life.of(Quiet) == [
        Quiet(type="trade", seconds=20, asked=Scope(TRADES), last_ns=None, received=(("heartbeat", 1),))
    ]
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "no trade for 20 s" in record.getMessage()
    # Once, whatever else comes.
    server.text(HEARTBEAT)
    life.until(Heartbeat)
    life.advance(100)
    assert len(life.of(Quiet)) == 1
    # Again, after something of it came.
    server.text(trade(1))
    server.text(trade(2))
    life.until(Trade, 2)
    life.advance(20)
    assert len(life.of(Quiet)) == 2
    again = life.of(Quiet)[-1]
    assert again.last_ns == life.of(Trade)[-1].received_ns
    assert again.received == (("heartbeat", 2), ("trade", 2))
    assert caplog.records[-1].levelname == "INFO"


def test_each_type_is_watched_for_itself(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), scope=Scope(TRADES, QUOTES), quiet_after=20, options=PATIENT).start()
    server = life.live(listener)
    life.advance(15)
    server.text(trade())
    life.until(Trade)
    life.advance(5)
    assert [(event.type, event.asked) for event in life.of(Quiet)] == [("quote", Scope(QUOTES))]
    life.advance(15)
    assert [event.type for event in life.of(Quiet)] == ["quote", "trade"]


def test_only_a_live_connection_is_quiet(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), quiet_after=20, options={**PATIENT, "live_timeout": None}).start()
    server = life.open(listener)
    life.advance(60)
    server.text(HEARTBEAT)
    life.until(Heartbeat)
    life.advance(15)
    life.cut(server)
    life.clock.now += 100
    life.advance(0)
    life.live(listener)
    life.advance(19)
    assert life.of(Quiet) == []
    life.advance(1)
    assert [event.received for event in life.of(Quiet)] == [(("heartbeat", 1),)]


def test_a_type_that_is_asked_for_later_has_its_own_time(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), quiet_after=20, options=PATIENT).start()
    life.live(listener)
    life.advance(10)
    life.supervisor.set_scope(Scope(TRADES, QUOTES))
    life.advance(10)
    assert [event.type for event in life.of(Quiet)] == ["trade"]
    life.advance(10)
    assert [event.type for event in life.of(Quiet)] == ["trade", "quote"]


def test_without_a_time_nobody_watches(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), quiet_after=None, options=PATIENT).start()
    life.live(listener)
    assert life.supervisor.next_timeout() is None


def test_the_next_timer_is_always_ahead(live_it: LiveIt, listener: Listener) -> None:
    """What is due is done, and not left due: the I/O thread would never rest."""
    life = live_it(url_of(listener), quiet_after=7, options={"ping_interval": 5, "ping_timeout": 3}).start()
    life.live(listener)
    times = [life.clock.now]
    while life.state is not ClientState.CLOSED and len(times) < 20:
        due = life.supervisor.next_timeout()
        if due is None:
            break
        times.append(due)
        life.clock.now = due
        life.supervisor.handle_timeout()
        if life.state is ClientState.WAITING:
            life.supervisor.close()
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert len(times) < 20
