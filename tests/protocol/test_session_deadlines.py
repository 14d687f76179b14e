"""Every deadline of a session, under a fake clock; hazards F3, F8 and F9."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conversation import HEARTBEAT, TRADES, Conversation, error, trade
from websocket_peer import BINARY, PING, accept, close, frame, text

from coinapi_ws import SessionState
from coinapi_ws.events import Cause
from coinapi_ws.exceptions import AuthenticationError, ConnectionClosed, ConnectTimeout, RateLimited

Converse = Callable[..., Conversation]


def test_before_the_start_nothing_is_due(converse: Converse) -> None:
    talk = converse()
    assert talk.session.next_timeout() is None
    talk.session.handle_timeout(talk.now + 1e6)
    assert talk.drain() == []


def test_an_early_call_does_nothing(converse: Converse) -> None:
    talk = converse().live()
    due = talk.session.next_timeout()
    talk.session.handle_timeout(talk.now)
    assert talk.session.next_timeout() == due
    assert talk.drain() == []


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Swi", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 401 X\r\n"])
def test_the_upgrade_has_a_deadline_whatever_trickles_in(converse: Converse, answer: bytes) -> None:
    talk = converse(open_timeout=7).start()
    talk.receive(answer)
    talk.advance(6.9)
    assert talk.items == []
    talk.advance(0.1)
    ended = talk.disconnected
    assert (ended.cause, ended.initiator, ended.stage) == (Cause.NETWORK, "client", "upgrade")
    assert ended.error_type is ConnectTimeout
    assert talk.closes == []


def test_w13_a_refusal_whose_body_does_not_end_is_one_at_the_deadline(converse: Converse) -> None:
    talk = converse(open_timeout=7).start()
    talk.receive(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
    for _ in range(14):
        talk.receive(b"x")
        talk.advance(0.5)
    ended = talk.disconnected
    assert (ended.status, ended.server_text, ended.error_type) == (401, "x" * 14, AuthenticationError)


def test_the_drivers_deadline_for_the_upgrade_goes_before_the_option(converse: Converse) -> None:
    talk = converse(open_timeout=7)
    talk.start(deadline=talk.now + 2)
    assert talk.session.next_timeout() == talk.now + 2


def test_without_open_timeout_the_upgrade_may_take_for_ever(converse: Converse) -> None:
    talk = converse(open_timeout=None).start()
    assert talk.session.next_timeout() is None
    talk.receive(accept(talk.request))
    assert talk.kinds == ["Connected"]


def test_proof_of_life_has_a_deadline_after_the_hello(converse: Converse) -> None:
    talk = converse(live_timeout=8).start()
    talk.advance(5)
    talk.receive(accept(talk.request))
    talk.advance(7.9)
    talk.receive(frame(PING))
    assert talk.session.state is SessionState.OPEN
    talk.advance(0.1)
    ended = talk.disconnected
    assert (ended.cause, ended.stage, ended.server_text) == (Cause.NETWORK, "hello", None)
    assert ended.error_type is ConnectTimeout
    assert talk.closes == [b"\x03\xe9"]


def test_an_error_that_only_silence_follows_keeps_its_class(converse: Converse) -> None:
    talk = converse(live_timeout=8).upgrade()
    talk.say(error("Invalid API key"))
    talk.advance(8)
    ended = talk.disconnected
    assert (ended.cause, ended.stage, ended.server_text) == (Cause.CREDENTIALS, "hello", "Invalid API key")
    assert ended.error_type is AuthenticationError
    assert "neither data nor a heartbeat" in ended.detail


@pytest.mark.parametrize(("open_timeout", "waits"), [(10, False), (31, True), (None, True)])
def test_the_first_hello_waits_for_the_limits_no_longer_than_the_opening_may_take(
    converse: Converse, open_timeout: float | None, waits: bool
) -> None:
    talk = converse(open_timeout=open_timeout).start()
    talk.receive(accept(talk.request, "X-WsHelloPerIpLimit-RetryAfterMs: 30000"))
    if waits:
        talk.advance(30)
        assert talk.kinds == ["Connected"]
        assert len(talk.hellos()) == 1
        return
    ended = talk.disconnected
    assert (ended.cause, ended.stage, ended.retry_after) == (Cause.RATE_LIMIT, "hello", 30)
    assert ended.error_type is RateLimited
    assert "next hello in 30 s" in str(ended.error())
    assert talk.hellos() == []
    assert talk.closes == [b"\x03\xe9"]


@pytest.mark.parametrize("how", [{"live_timeout": None}, {"request_heartbeats": False}])
def test_proof_of_life_may_take_for_ever(converse: Converse, how: dict[str, object]) -> None:
    talk = converse(**how).upgrade()
    assert talk.session.next_timeout() is None


def test_silence_has_a_deadline_that_each_message_moves(converse: Converse) -> None:
    talk = converse(silence_timeout=10).live()
    for message in (text(error("x")), text(trade()), text(HEARTBEAT), text("no JSON"), frame(BINARY)):
        talk.advance(9.9)
        talk.receive(message)
    talk.advance(9.9)
    talk.receive(frame(PING) + frame(0x1, b"half", fin=False))  # neither a message
    assert talk.session.state is SessionState.LIVE
    talk.advance(0.1)
    ended = talk.disconnected
    assert (ended.cause, ended.initiator, ended.stage) == (Cause.NETWORK, "client", "live")
    assert ended.error_type is ConnectionClosed
    assert ended.silent_for == pytest.approx(0.1)
    assert talk.closes == [b"\x03\xe9"]


@pytest.mark.parametrize("how", [{"silence_timeout": None}, {"request_heartbeats": False}])
def test_silence_may_last_for_ever(converse: Converse, how: dict[str, object]) -> None:
    talk = converse(**how).live()
    assert talk.session.next_timeout() is None


# Own pings


def pinging(converse: Converse, **how: object) -> Conversation:
    return converse(request_heartbeats=False, **how).live()


def test_f9_pings_are_off_by_default(converse: Converse) -> None:
    talk = pinging(converse)
    talk.advance(1000)
    assert talk.pings == []


def test_f9_pings_leave_at_each_interval_with_payloads_of_their_own(converse: Converse) -> None:
    talk = pinging(converse, ping_interval=10, ping_timeout=None)
    talk.advance(9.9)
    assert talk.pings == []
    talk.advance(30)
    assert len(talk.pings) == len(set(talk.pings)) == 3
    talk.advance(1000)
    assert talk.session.state is SessionState.LIVE


def test_f9_an_answered_ping_is_forgotten(converse: Converse) -> None:
    talk = pinging(converse, ping_interval=10, ping_timeout=5)
    for _ in range(5):
        talk.advance(10)
        talk.pong(talk.pings[-1])
    talk.advance(4)
    assert talk.session.state is SessionState.LIVE
    assert len(talk.pings) == 5


@pytest.mark.parametrize("answer", [None, b"", b"foreign!"])
def test_f9_a_ping_without_its_pong_ends_the_connection(converse: Converse, answer: bytes | None) -> None:
    talk = pinging(converse, ping_interval=10, ping_timeout=5)
    talk.advance(10)
    if answer is not None:
        talk.pong(answer)
    talk.advance(4.9)
    assert talk.session.state is SessionState.LIVE
    talk.advance(0.1)
    ended = talk.disconnected
    assert (ended.cause, ended.error_type) == (Cause.NETWORK, ConnectionClosed)
    assert "Pong" in ended.detail
    assert talk.closes == [b"\x03\xe9"]


def test_f8_data_do_not_stand_for_a_pong(converse: Converse) -> None:
    talk = pinging(converse, ping_interval=10, ping_timeout=5)
    talk.advance(10)
    for _ in range(5):
        talk.say(trade())
        talk.advance(1)
    assert "Pong" in talk.disconnected.detail


def test_f9_each_ping_has_a_deadline_of_its_own(converse: Converse) -> None:
    talk = pinging(converse, ping_interval=10, ping_timeout=25)
    talk.advance(30)
    first, second, third = talk.pings  # due at +35, +45, +55
    talk.pong(first)
    assert talk.session.next_timeout() == talk.now + 10  # the next ping
    talk.advance(14)
    assert talk.session.next_timeout() == talk.now + 1
    talk.pong(third)  # answers the second too (RFC 6455, section 5.5.3)
    assert second in talk.pings
    talk.advance(10)
    assert talk.session.state is SessionState.LIVE


def test_f9_a_pong_answers_once(converse: Converse) -> None:
    talk = pinging(converse, ping_interval=10, ping_timeout=15)
    talk.advance(20)
    first, _ = talk.pings
    talk.pong(first)
    talk.pong(first)
    talk.advance(15)
    assert "Pong" in talk.disconnected.detail


def test_f9_a_ping_and_a_pong_due_at_once(converse: Converse) -> None:
    talk = pinging(converse, ping_interval=10, ping_timeout=10)
    talk.advance(10)
    talk.advance(10)
    assert "Pong" in talk.disconnected.detail


def test_f9_a_late_call_does_all_that_was_due_and_ends_once(converse: Converse) -> None:
    talk = converse(ping_interval=10, ping_timeout=10, silence_timeout=15).live()
    talk.advance(10)
    talk.now += 1000
    talk.session.handle_timeout(talk.now)
    talk.drain()
    assert talk.disconnected.cause is Cause.NETWORK
    assert len(talk.closes) == 1
    talk.session.handle_timeout(talk.now)
    assert talk.drain() == []


# Closing


def test_f3_the_close_deadline_is_absolute_while_the_peer_floods(converse: Converse) -> None:
    talk = converse(close_timeout=5, ping_interval=1, ping_timeout=2).live()
    talk.advance(1)
    talk.close()
    deadline = talk.now + 5
    for _ in range(49):
        talk.advance(0.1)
        talk.receive(text(trade()) * 20 + frame(PING, b"x"))
        assert talk.session.next_timeout() == deadline
    assert talk.session.state is SessionState.CLOSING
    talk.advance(0.2)
    ended = talk.disconnected
    assert (ended.cause, ended.initiator, ended.clean, ended.error_type) == (Cause.LOCAL, "client", False, None)
    assert talk.kinds.count("trade") == 49 * 20
    assert talk.closes == [b"\x03\xe8"]


def test_f9_a_pong_while_closing_revives_no_deadline(converse: Converse) -> None:
    talk = converse(close_timeout=50, ping_interval=1, ping_timeout=5).live()
    talk.advance(2)
    first, _ = talk.pings
    talk.close()
    talk.pong(first)
    talk.advance(40)
    assert talk.session.state is SessionState.CLOSING
    talk.receive(close())
    assert (talk.disconnected.cause, talk.disconnected.clean) == (Cause.LOCAL, True)


def test_a_paced_hello_is_forgotten_when_closing(converse: Converse) -> None:
    talk = converse().upgrade("X-WsHelloPerIpLimit-RetryAfterMs: 1000")
    talk.close()
    talk.advance(4)
    assert talk.hellos() == []
    assert len(talk.closes) == 1


def test_after_the_end_nothing_is_due_and_nothing_happens(converse: Converse) -> None:
    talk = converse(ping_interval=1).live()
    talk.set_scope(TRADES)
    talk.eof()
    before = list(talk.items)
    talk.advance(1000)
    talk.receive(text(trade()))
    talk.session.receive_eof(talk.now)
    talk.close()
    assert talk.drain() == []
    assert talk.items == before
    assert talk.closes == []
