"""A session whose driver reads nothing for a while: no silence counts against the server (F7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conversation import HEARTBEAT, QUOTES, TRADES, Conversation, trade
from websocket_peer import CLOSE, accept, close, frame

from coinapi_ws import SessionState
from coinapi_ws.events import Cause
from coinapi_ws.protocol.pacing import MARGIN_SECONDS

Converse = Callable[..., Conversation]


def pause(talk: Conversation, seconds: float) -> None:
    talk.session.pause(talk.now)
    talk.advance(seconds)
    talk.session.resume(talk.now)


def test_f7_silence_stands_still(converse: Converse) -> None:
    talk = converse(silence_timeout=10).live()
    talk.advance(4)
    pause(talk, 1000)
    assert talk.session.next_timeout() == talk.now + 6
    talk.advance(5.9)
    assert talk.session.state is SessionState.LIVE
    talk.advance(0.2)
    assert talk.disconnected.cause is Cause.NETWORK


def test_f7_proof_of_life_stands_still(converse: Converse) -> None:
    talk = converse(live_timeout=8).upgrade()
    talk.advance(3)
    pause(talk, 1000)
    talk.advance(4.9)
    assert talk.session.state is SessionState.OPEN
    talk.advance(0.1)
    assert "neither data nor a heartbeat" in talk.disconnected.detail


def test_f7_a_pong_that_waits_unread_is_not_missed(converse: Converse) -> None:
    talk = converse(request_heartbeats=False, ping_interval=100, ping_timeout=5).live()
    talk.advance(100)
    [ping] = talk.pings
    talk.advance(2)
    pause(talk, 50)
    assert talk.session.next_timeout() == talk.now + 3
    talk.pong(ping)
    talk.advance(40)
    assert talk.session.state is SessionState.LIVE


def test_f7_pings_in_flight_keep_their_distance(converse: Converse) -> None:
    talk = converse(request_heartbeats=False, ping_interval=10, ping_timeout=25).live()
    talk.advance(20)
    first, _ = talk.pings  # due at +15 and +25 from now
    pause(talk, 7)
    assert talk.session.next_timeout() == talk.now + 3  # pings go on meanwhile
    talk.pong(first)
    talk.advance(24.9)
    assert talk.session.state is SessionState.LIVE
    talk.advance(0.1)
    assert "Pong" in talk.disconnected.detail


def test_f7_a_ping_that_is_sent_meanwhile_has_its_whole_time(converse: Converse) -> None:
    talk = converse(request_heartbeats=False, ping_interval=10, ping_timeout=5).live()
    pause(talk, 14)
    assert len(talk.pings) == 1
    talk.advance(4.9)
    assert talk.session.state is SessionState.LIVE
    talk.pong(talk.pings[0])
    for _ in range(3):
        talk.advance(6)
        talk.pong(talk.pings[-1])
    assert talk.session.state is SessionState.LIVE


def test_nothing_of_the_servers_is_due_while_paused(converse: Converse) -> None:
    talk = converse(silence_timeout=10).live()
    talk.session.pause(talk.now)
    assert talk.session.next_timeout() is None
    talk.session.handle_timeout(talk.now + 1e6)
    assert talk.session.state is SessionState.LIVE


def test_the_upgrade_does_not_stand_still(converse: Converse) -> None:
    talk = converse(open_timeout=7).start()
    talk.session.pause(talk.now)
    talk.advance(7)
    assert talk.disconnected.stage == "upgrade"


def test_a_change_of_the_scope_does_not_wait_for_reading(converse: Converse) -> None:
    talk = converse().upgrade("X-WsHelloPerIpLimit-Limit: 1", "X-WsHelloPerIpLimit-WindowSizeMs: 4000")
    talk.say(HEARTBEAT)
    talk.set_scope(TRADES, QUOTES)
    assert len(talk.hellos()) == 1
    talk.session.pause(talk.now)
    talk.advance(4 + MARGIN_SECONDS)
    assert len(talk.hellos()) == 2


def test_pausing_and_resuming_are_idempotent(converse: Converse) -> None:
    talk = converse(silence_timeout=10).live()
    talk.session.resume(talk.now)
    talk.session.pause(talk.now)
    talk.advance(100)
    talk.session.pause(talk.now)
    talk.advance(100)
    talk.session.resume(talk.now)
    talk.session.resume(talk.now)
    assert talk.session.next_timeout() == talk.now + 10


def test_what_was_read_before_goes_on_as_ever(converse: Converse) -> None:
    talk = converse(silence_timeout=10).live()
    pause(talk, 100)
    talk.say(trade())
    talk.advance(9.9)
    assert talk.session.state is SessionState.LIVE
    assert talk.kinds[-1] == "trade"


@pytest.mark.parametrize("is_resumed", [False, True])
def test_f3_closing_ends_the_pause_and_has_its_deadline(converse: Converse, is_resumed: bool) -> None:
    talk = converse(close_timeout=5, ping_interval=10, ping_timeout=10).live()
    talk.advance(10)
    talk.session.pause(talk.now)
    talk.advance(3)
    talk.close()
    if is_resumed:
        talk.session.resume(talk.now)
    talk.session.pause(talk.now)  # too late to matter
    assert talk.session.next_timeout() == talk.now + 5
    talk.advance(5)
    assert (talk.disconnected.cause, talk.disconnected.clean) == (Cause.LOCAL, False)


def test_closing_while_paused_takes_the_answer(converse: Converse) -> None:
    talk = converse().live()
    talk.session.pause(talk.now)
    talk.close()
    assert talk.sent(CLOSE) == [b"\x03\xe8"]
    talk.receive(close())
    assert talk.disconnected.clean


def test_before_the_start_and_after_the_end_it_does_not_matter(converse: Converse) -> None:
    talk = converse(silence_timeout=10)
    talk.session.pause(talk.now)
    talk.session.resume(talk.now)
    talk.start()
    talk.receive(accept(talk.request) + frame(0x1, HEARTBEAT.encode()))
    assert talk.session.next_timeout() == talk.now + 10
    talk.eof()
    pause(talk, 100)
    assert talk.session.next_timeout() is None
