"""How the connections of a client end: asked to, by a deadline, or by an error in here."""

from __future__ import annotations

from collections.abc import Callable

from client_harness import HEARTBEAT, Life, trade
from peers import QUOTES, Listener, url_of

from coinapi_ws import (
    ClientState,
    Disconnected,
    Live,
    Scope,
    Trade,
)

LiveIt = Callable[..., Life]
EMPTY = Scope()


def test_closing_while_nothing_is_open_is_done_at_once(live_it: LiveIt, listener: Listener) -> None:
    parked = live_it(url_of(listener), scope=EMPTY).start()
    parked.supervisor.close()
    assert parked.states == [ClientState.PARKED, ClientState.CLOSED]
    waiting = live_it(url_of(listener)).start()
    waiting.cut(waiting.live(listener))
    waiting.supervisor.close()
    assert waiting.states[2:] == [ClientState.WAITING, ClientState.CLOSED]
    connecting = live_it(url_of(listener)).start()
    connecting.supervisor.close()
    assert connecting.states == [ClientState.CONNECTING, ClientState.CLOSING, ClientState.CLOSED]
    assert [type(item) for item in connecting.items] == [Disconnected]
    for life in (parked, waiting, connecting):
        assert life.supervisor.next_timeout() is None
        assert life.supervisor.failure is None
        assert life.supervisor.connections() == []


def test_closing_is_idempotent_and_ends_with_one_close_frame_f2(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    life.supervisor.close()
    life.supervisor.close()
    life.supervisor.fail(RuntimeError("too late to be the reason"))
    assert life.answer_close(server).code == 1000
    assert life.state is ClientState.CLOSED
    assert life.supervisor.failure is None
    assert life.items[-1] is life.supervisor.disconnected
    assert len(life.of(Disconnected)) == 1


def test_a_close_that_is_not_answered_ends_by_its_deadline_f3(live_it: LiveIt, listener: Listener) -> None:
    """F3: the deadline is absolute: data that goes on to come does not move it."""
    life = live_it(url_of(listener), options={"close_timeout": 5}).start()
    server = life.live(listener)
    life.supervisor.close()
    for _ in range(4):
        server.text(trade())
        life.until(Trade)
        life.advance(1.2)
        assert life.state is ClientState.CLOSING
    life.advance(0.2)
    life.advance(1)  # TCP is given a moment to carry our Close
    assert life.state is ClientState.CLOSED
    assert life.items[-1] is life.supervisor.disconnected


def test_an_end_in_here_drops_everything_f11(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    life.live(listener)
    [connection] = life.supervisor.connections()
    failure = RuntimeError("a bug")
    life.supervisor.abort(failure)
    assert life.state is ClientState.CLOSED
    assert life.supervisor.failure is failure
    assert connection.fileno() == -1
    assert life.supervisor.connections() == []
    assert life.supervisor.disconnected is connection.disconnected is not None
    life.supervisor.close()
    life.supervisor.set_scope(Scope(QUOTES))
    assert life.states[-1] is ClientState.CLOSED


def test_the_first_reason_stays(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    first = RuntimeError("first")
    life.supervisor.fail(first)
    life.supervisor.fail(RuntimeError("second"))
    life.answer_close(server)
    life.supervisor.abort(RuntimeError("third"))
    assert life.supervisor.failure is first


def test_a_heartbeat_after_the_close_makes_nobody_live(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.open(listener)
    life.supervisor.close()
    server.text(HEARTBEAT)
    life.answer_close(server)
    assert ClientState.LIVE not in life.states
    assert life.of(Live) == []
