"""Nothing is read while the queue is full, and that is nobody's fault for a while (F7)."""

from __future__ import annotations

from collections.abc import Callable

from client_harness import HEARTBEAT, Life, trade
from peers import QUOTES, Listener, ServerSide, url_of
from wsproto.events import Ping, Pong

from coinapi_ws import Cause, ClientState, Disconnected, Quiet, Scope, SlowConsumerError, Trade, Undecodable

LiveIt = Callable[..., Life]


def slow(life: Life) -> SlowConsumerError:
    failure = life.supervisor.failure
    assert isinstance(failure, SlowConsumerError)
    return failure


def test_what_comes_meanwhile_waits(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    life.supervisor.pause()
    life.supervisor.pause()
    for second in range(5):
        server.text(trade(second))
    assert not life.turn(0)
    life.advance(10)
    assert life.of(Trade) == []
    life.supervisor.resume()
    life.supervisor.resume()
    life.until(Trade, 5)
    assert life.state is ClientState.LIVE


def test_a_consumer_that_is_too_slow_ends_it(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), slow_consumer_timeout=30, max_queued_messages=77).start()
    server = life.live(listener)
    life.supervisor.pause()
    life.advance(29.9)
    assert life.supervisor.failure is None
    assert 0 < life.due_in() <= 0.2
    life.advance(0.1)
    assert "the queue had no room for 30 s" in str(slow(life))
    assert life.state is ClientState.CLOSING
    assert life.answer_close(server).code == 1000
    assert life.state is ClientState.CLOSED
    assert life.of(Disconnected)[0].cause is Cause.LOCAL


def test_each_pause_has_its_own_time(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), slow_consumer_timeout=30).start()
    server = life.live(listener)
    for second in range(5):
        life.supervisor.pause()
        life.advance(25)
        life.supervisor.resume()
        server.text(trade(second))
        life.until(Trade)
    assert life.supervisor.failure is None


def test_a_healthy_connection_survives_a_long_pause_f7(live_it: LiveIt, listener: Listener) -> None:
    """F7: our own Pings go out, their answers wait unread, and ten times the patience with them passes."""
    options = {"ping_interval": 5, "ping_timeout": 2, "silence_timeout": 3}
    life = live_it(url_of(listener), slow_consumer_timeout=59, options=options).start()
    server = life.live(listener)
    life.supervisor.pause()
    for _ in range(4):
        life.advance(5)
    for _ in range(4):
        answer(life, server)
    server.text(HEARTBEAT)
    assert life.of(Disconnected) == []
    assert life.state is ClientState.LIVE
    life.supervisor.resume()
    life.advance(1.9)
    while life.turn(0):
        pass
    life.advance(1)
    assert life.of(Disconnected) == []
    # From here on the server is answerable again.
    life.advance(3)
    assert [ended.cause for ended in life.of(Disconnected)] == [Cause.NETWORK]


def answer(life: Life, server: ServerSide) -> None:
    while any(connection.want_write() for connection in life.supervisor.connections()):
        life.turn(0)
    ping = server.event()
    assert isinstance(ping, Ping)
    server.send(Pong(payload=ping.payload))


def test_no_attempt_is_made_meanwhile(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    life.cut(server)
    life.supervisor.pause()
    life.advance(20)
    assert len(life.made) == 1
    assert life.state is ClientState.WAITING
    life.supervisor.resume()
    life.advance(0)
    assert len(life.made) == 2


def test_a_connection_still_comes_up_and_is_paused_then(live_it: LiveIt, listener: Listener) -> None:
    """A server that never shows a sign of life must not fill the memory either."""
    life = live_it(url_of(listener)).start()
    life.supervisor.pause()
    server = life.open(listener)
    server.text("not yet a sign of life")
    server.text(trade())
    assert not life.turn(0)
    assert life.of(Undecodable) == life.of(Trade) == []
    life.supervisor.resume()
    life.until(Trade)
    assert life.state is ClientState.LIVE


def test_a_pause_is_no_silence_of_the_market(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), quiet_after=20.0, options={"silence_timeout": None}).start()
    server = life.live(listener)
    server.text(trade())
    life.until(Trade)
    life.advance(5)
    life.supervisor.pause()
    life.advance(25)
    life.supervisor.resume()
    life.advance(14.9)
    assert life.of(Quiet) == []
    life.advance(0.1)
    assert len(life.of(Quiet)) == 1


def test_a_change_of_the_scope_still_leaves(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    life.supervisor.pause()
    life.supervisor.set_scope(Scope(QUOTES))
    assert '"quote"' in server.event().data


def test_closing_reads_on_to_the_answer(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    life.supervisor.pause()
    server.text(trade())
    life.supervisor.close()
    life.answer_close(server)
    assert life.state is ClientState.CLOSED
    assert life.supervisor.failure is None
    assert len(life.of(Trade)) == 1


def test_no_timer_is_left_due_while_a_close_goes_unanswered(live_it: LiveIt, listener: Listener) -> None:
    """Else the I/O thread would turn without rest for as long as the close may take."""
    life = live_it(url_of(listener), slow_consumer_timeout=30, options={"close_timeout": 5}).start()
    life.live(listener)
    life.supervisor.pause()
    life.advance(30)
    slow(life)
    assert life.due_in() == 5
    life.advance(5)
    life.advance(1)
    assert life.state is ClientState.CLOSED


def test_closing_during_a_pause_is_no_slow_consumer(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), slow_consumer_timeout=30, options={"close_timeout": 40}).start()
    life.live(listener)
    life.supervisor.pause()
    life.advance(10)
    life.supervisor.close()
    life.supervisor.pause()
    assert life.due_in() == 40
    life.advance(41)
    life.advance(1)
    assert life.state is ClientState.CLOSED
    assert life.supervisor.failure is None
