"""When the supervisor tries again: at once, later, never at a rate that harms the server (F5, F6)."""

from __future__ import annotations

import gc
import logging
import select
import selectors
import traceback
from collections.abc import Callable

import pytest
from client_harness import HEARTBEAT, Life, trade
from peers import PATIENCE_SECONDS, FakeClock, Listener, listening, url_of

from coinapi_ws import (
    Backoff,
    Cause,
    ClientState,
    Connected,
    ConnectError,
    Disconnected,
    ErrorMessage,
    Live,
    RateLimited,
    Reconnecting,
    Scope,
    SelectorConnection,
    Trade,
)
from coinapi_ws.client.supervisor import LOGGER
from coinapi_ws.drivers.pacing import SharedPacer

LiveIt = Callable[..., Life]


@pytest.fixture
def nobody() -> str:
    """The URL of a port on which nobody listens."""
    with listening() as closed:
        return url_of(closed)


def delays(life: Life) -> list[float]:
    return [event.delay for event in life.of(Reconnecting)]


def test_the_first_connect_comes_at_once(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), chance=0.99).start()
    assert life.clock.now == 1000.0
    life.live(listener)
    assert life.states == [ClientState.CONNECTING, ClientState.LIVE]
    assert life.of(Reconnecting) == []
    assert len(life.made) == 1


def test_attempts_that_fail_are_counted_by_cause(live_it: LiveIt, nobody: str) -> None:
    life = live_it(nobody).start()
    for attempts in (1, 2, 3):
        life.ended()
        assert life.statistics.ends == {"network": attempts}
        life.advance(100)


def test_nothing_happens_before_the_timer_says_so(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener))
    life.supervisor.start(life.scope)
    assert life.made == []
    assert life.due_in() == 0.0
    assert life.state is ClientState.CONNECTING


def test_the_first_reconnect_is_delayed_already_f5(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), chance=0.75).start()
    life.cut(life.live(listener))
    assert life.of(Reconnecting) == [Reconnecting(attempt=1, delay=0.75, cause=Cause.NETWORK)]
    assert life.state is ClientState.WAITING
    assert life.supervisor.connections() == []
    life.advance(0.74)
    assert len(life.made) == 1
    life.advance(0.01)
    assert len(life.made) == 2
    life.live(listener)
    assert life.states == [
        ClientState.CONNECTING,
        ClientState.LIVE,
        ClientState.WAITING,
        ClientState.CONNECTING,
        ClientState.LIVE,
    ]


@pytest.mark.parametrize("chance", [0.0, 0.001, 0.5, 0.999])
def test_the_whole_delay_is_a_matter_of_chance_f5(live_it: LiveIt, nobody: str, chance: float) -> None:
    life = live_it(nobody, chance=chance).start()
    for _ in range(7):
        life.ended()
        life.retry()
    life.ended()
    assert delays(life) == pytest.approx([chance * ceiling for ceiling in (1, 2, 4, 8, 16, 32, 60, 60)])
    assert [event.attempt for event in life.of(Reconnecting)] == list(range(1, 9))


def test_who_accepts_and_drops_is_asked_ever_less_often_f5(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), backoff=Backoff(maximum=1e6)).start()
    for _ in range(10):
        life.cut(life.live(listener))
        life.retry()
    assert delays(life) == [0.5 * 2**n for n in range(10)]
    assert len(life.made) == 11


def test_a_healthy_period_begins_anew(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), options={"silence_timeout": None}).start()
    for _ in range(3):
        life.cut(life.live(listener))
        life.retry()
    server = life.live(listener)
    life.advance(59.9)
    life.cut(server)
    life.retry()
    server = life.live(listener)
    life.advance(60)
    life.cut(server)
    assert delays(life) == [0.5, 1, 2, 4, 0.5]
    assert life.of(Reconnecting)[-1].attempt == 1


def test_health_counts_from_the_first_sign_of_life(live_it: LiveIt, listener: Listener) -> None:
    """A 101 proves nothing: without data or heartbeat a long connection was no healthy one."""
    life = live_it(url_of(listener), options={"live_timeout": None}).start()
    for _ in range(2):
        life.cut(life.live(listener))
        life.retry()
    server = life.open(listener)
    life.advance(300)
    life.cut(server)
    assert delays(life) == [0.5, 1, 2]


@pytest.mark.parametrize("code", [1012, 1013])
def test_a_server_that_asks_for_patience_gets_it(live_it: LiveIt, listener: Listener, code: int) -> None:
    life = live_it(url_of(listener), chance=0.0, backoff=Backoff(slow_minimum=12.5)).start()
    life.hang_up(life.live(listener), code)
    assert life.of(Reconnecting) == [Reconnecting(attempt=1, delay=12.5, cause=Cause.NOTICE)]
    life.advance(12.4)
    assert len(life.made) == 1
    life.advance(0.1)
    assert len(life.made) == 2


def test_other_closes_need_no_patience(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), chance=0.0).start()
    for code in (1000, 1001, 1011):
        life.hang_up(life.live(listener), code)
        life.retry()
    assert delays(life) == [0, 0, 0]


def refuse_upgrade(life: Life, listener: Listener, answer: bytes) -> Disconnected:
    server = life.meet(listener)
    server.event()
    server.socket.sendall(answer)
    server.socket.close()
    return life.ended()


BUSY = b"HTTP/1.1 429 Busy\r\nRetry-After: 40\r\nContent-Length: 0\r\n\r\n"


def test_retry_after_is_obeyed_and_jitter_comes_on_top(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    refused = refuse_upgrade(life, listener, BUSY)
    assert (refused.cause, refused.retry_after) == (Cause.RATE_LIMIT, 40)
    assert life.of(Reconnecting) == [Reconnecting(attempt=1, delay=40.5, cause=Cause.RATE_LIMIT)]
    assert life.retry() == 40.5
    life.live(listener)


def test_retry_after_holds_back_whoever_shares_the_pacer(live_it: LiveIt, listener: Listener, clock: FakeClock) -> None:
    pacer = SharedPacer()
    first = live_it(url_of(listener), pacer=pacer, clock=clock).start()
    refuse_upgrade(first, listener, BUSY)
    second = live_it(url_of(listener), pacer=pacer, clock=clock, options={"open_timeout": None}).start()
    assert second.due_in() == 40
    assert not second.turn(0)
    second.advance(39.9)
    assert not second.turn(0)
    second.advance(0.1)
    second.live(listener)


def test_a_wait_that_is_longer_than_opening_may_take_is_an_attempt(
    live_it: LiveIt, listener: Listener, clock: FakeClock
) -> None:
    pacer = SharedPacer()
    refuse_upgrade(live_it(url_of(listener), pacer=pacer, clock=clock).start(), listener, BUSY)
    second = live_it(url_of(listener), pacer=pacer, clock=clock).start()
    [ended] = second.of(Disconnected)
    assert (ended.cause, ended.error_type, ended.retry_after) == (Cause.RATE_LIMIT, RateLimited, 40)
    assert second.retry() == 40.5
    second.live(listener)


def test_limit_headers_of_an_upgrade_are_obeyed(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), chance=0.0, options={"open_timeout": None}).start()
    server = life.meet(listener)
    server.upgrade([(b"X-WsRequestsPerIpLimit-Limit", b"1"), (b"X-WsRequestsPerIpLimit-RetryAfterMs", b"25000")])
    life.until(Connected)
    life.cut(server)
    life.retry()  # which the pacer holds back
    assert life.state is ClientState.CONNECTING
    assert life.due_in() == 25
    life.advance(25)
    life.live(listener)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_thousand_attempts_leave_nothing_behind_f6(
    live_it: LiveIt, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F6: the next attempt is begun by a timer, never from within the last one's end; memory stays flat."""
    life = live_it(nobody)
    depths: list[int] = []

    def connect(scope: Scope) -> SelectorConnection:
        depths.append(len(traceback.extract_stack()))
        life.made.clear()
        return made(scope)

    made = life.supervisor._connect
    monkeypatch.setattr(life.supervisor, "_connect", connect)
    monkeypatch.setattr(LOGGER, "disabled", True)  # pytest keeps what is logged
    life.start()

    def attempt(times: int) -> None:
        for _ in range(times):
            life.ended()
            life.retry()
            life.items.clear()
            life.states.clear()

    attempt(100)
    gc.collect()
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    tracemalloc.start()
    try:
        objects, before = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
        attempt(900)
        gc.collect()
        assert len(gc.get_objects()) < objects + 100
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000  # a session has some kilobytes; what the interpreter keeps free counts too
    assert len(depths) == 1001
    assert len(set(depths[1:])) == 1


def test_no_error_is_chained_to_that_of_the_attempt_before_f6(live_it: LiveIt, nobody: str) -> None:
    life = live_it(nobody, max_attempts=3).start()
    while not life.supervisor.has_ended:
        life.ended()
        if life.state is ClientState.WAITING:
            life.retry()
    failure = life.supervisor.failure
    assert isinstance(failure, Disconnected)
    told = failure.error()
    assert isinstance(told, ConnectError)
    assert told.__cause__ is told.__context__ is None


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_attempts_and_no_more(live_it: LiveIt, nobody: str, most: int) -> None:
    life = live_it(nobody, max_attempts=most).start()
    for _ in range(most):
        life.ended()
        life.retry()
    last = life.ended()
    assert life.state is ClientState.CLOSED
    assert life.supervisor.failure is last is life.supervisor.disconnected
    assert [event.attempt for event in life.of(Reconnecting)] == list(range(1, most + 1))
    assert life.supervisor.next_timeout() is None


def test_attempts_count_anew_after_a_healthy_connection(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), max_attempts=2, options={"silence_timeout": None}).start()
    for _ in range(2):
        life.cut(life.live(listener))
        life.retry()
    server = life.live(listener)
    life.advance(100)
    life.cut(server)
    life.retry()
    life.cut(life.live(listener))
    assert [event.attempt for event in life.of(Reconnecting)] == [1, 2, 1, 2]
    life.retry()
    life.cut(life.live(listener))
    assert life.state is ClientState.CLOSED


def test_an_overflow_reconnects_and_is_an_error_in_the_log(
    live_it: LiveIt, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coinapi_ws")
    life = live_it(url_of(listener)).start()
    ended = life.refuse(life.live(listener), "Maximum allowed buffered messages exceeded")
    assert ended.cause is Cause.OVERFLOW
    assert [(event.cause, event.attempt) for event in life.of(Reconnecting)] == [(Cause.OVERFLOW, 1)]
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR"]
    life.retry()
    life.live(listener)


def test_an_error_that_closes_nothing_ends_nothing(live_it: LiveIt, listener: Listener) -> None:
    """As WS DS says that it does not know a symbol."""
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    server.text('{"type":"error","message":"Invalid symbol"}')
    server.text(trade())
    life.until(Trade)
    assert [item.message for item in life.of(ErrorMessage)] == ["Invalid symbol"]
    assert life.state is ClientState.LIVE
    life.cut(server)
    assert life.of(Disconnected)[0].cause is Cause.NETWORK


def test_each_end_is_decided_about_once(live_it: LiveIt, listener: Listener) -> None:
    """A descriptor may be ready for both at once, and the connection be over after the first."""
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    server.socket.close()
    [connection] = life.supervisor.connections()
    assert select.select([connection], [], [], PATIENCE_SECONDS)[0]
    life.supervisor.handle(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
    assert len(life.of(Disconnected)) == 1
    assert life.of(Reconnecting) == [Reconnecting(attempt=1, delay=0.5, cause=Cause.NETWORK)]


def test_a_new_connection_wants_what_is_wanted_now(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    life.cut(life.live(listener))
    life.retry()
    server = life.meet(listener)
    server.upgrade()
    life.until(Connected)
    assert '"subscribe_data_type":["trade"]' in server.event().data
    server.text(HEARTBEAT)
    life.until(Live)
    assert life.statistics.lives == 2
