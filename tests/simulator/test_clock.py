"""Virtual time is walked and not jumped, and leaves clients the real time that they need for a Pong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import websocket
from raw_client import RawClient
from websocket_peer import CLOSE, PING, PONG

from coinapi_ws import Disconnected, Pacer, Subscription, connect
from coinapi_ws.simulator import Simulator, VirtualClock

BTC = "COINBASE_SPOT_BTC_USD"

Dial = Callable[..., Any]


def test_virtual_time_is_walked_and_not_jumped(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello("ohlcv", symbol_id=[BTC + "$"], period_id=["5MIN"])
    clock.advance(301)
    candles = peer.drain(simulator)
    assert len(candles) > 50
    last = [c for c in candles if c["time_period_start"] == "2026-01-01T00:00:00.0000000Z"][-1]
    assert last["trades_count"] > 1000
    assert last["time_close"] > "2026-01-01T00:04:58"


def test_a_ping_comes_each_minute_and_an_answer_keeps_the_connection(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("connectivity_status")
    clock.advance(59.9)
    assert simulator.pings_sent == 0
    for count in (1, 2, 3):
        clock.advance(60)
        assert simulator.pings_sent == count
        peer.drain(simulator)  # a round trip: the Pong was sent before
        assert simulator.pongs_received == count
    assert simulator.connections == 1


def test_without_a_pong_the_connection_is_closed(simulator: Simulator, clock: VirtualClock) -> None:
    silent = websocket.create_connection(simulator.url)
    try:
        silent.send(json.dumps({"type": "hello", "subscribe_data_type": ["connectivity_status"]}))
        clock.advance(60)
        assert (simulator.pings_sent, simulator.connections) == (1, 1)
        clock.advance(59.9)
        assert simulator.connections == 1
        clock.advance(0.1)
        assert simulator.connections == 0
        frames = [silent.recv_frame() for _ in range(2)]
        assert [frame.opcode for frame in frames] == [websocket.ABNF.OPCODE_PING, websocket.ABNF.OPCODE_CLOSE]
        # The answer to the Close does not come either: then TCP ends.
        clock.advance(10)
        with pytest.raises(websocket.WebSocketConnectionClosedException):
            silent.recv_frame()
    finally:
        silent.shutdown()


def test_a_long_advance_waits_for_the_answer_to_its_pings(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, ping_interval=5, pong_timeout=5) as simulator:
        peer = dial(simulator.url)
        peer.hello("connectivity_status")
        clock.advance(50)
        assert (simulator.pings_sent, simulator.connections) == (10, 1)
        peer.drain(simulator)
        clock.advance(4.9)
        assert simulator.connections == 1


# Real clients need real time for a Pong.


@pytest.fixture
def long_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that waits for a Pong longer than a machine is ever busy, and so long that a test can tell."""
    monkeypatch.setattr("coinapi_ws.simulator.engine._PONG_PATIENCE_SECONDS", 60.0)


@contextmanager
def at_once() -> Iterator[None]:
    """Fail where the patience was waited out."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 30


def advance_an_hour(simulator: Simulator, clock: VirtualClock) -> None:
    """Sixty times a minute: a Ping in each, whose Pong is due in the next."""
    for minutes in range(1, 61):
        clock.advance(60)
        assert simulator.pings_sent == minutes
        assert simulator.connections == 1
        # Only the last one's answer may still be on its way.
        assert simulator.pongs_received >= minutes - 1
    assert simulator.closes_received == []


@pytest.mark.usefixtures("long_patience")
def test_websockets_answers_in_its_thread_while_the_clock_goes_on(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    advance_an_hour(simulator, clock)
    assert peer.drain(simulator) == []
    assert simulator.pongs_received == 60


@pytest.mark.usefixtures("long_patience")
def test_websocket_client_in_a_reader_thread_answers_while_the_clock_goes_on(
    simulator: Simulator, clock: VirtualClock
) -> None:
    client = websocket.create_connection(simulator.url, timeout=30)
    reader = threading.Thread(target=client.recv)  # which answers Pings until something else comes
    try:
        reader.start()
        advance_an_hour(simulator, clock)
        assert simulator.faults.send_text("that was all") == 1
        reader.join(10)
        assert not reader.is_alive()
    finally:
        client.shutdown()
        reader.join(10)


@pytest.mark.usefixtures("long_patience")
def test_our_client_in_a_reader_thread_answers_while_the_clock_goes_on(clock: VirtualClock, canary_key: str) -> None:
    is_open = threading.Event()

    def read() -> tuple[list[Any], Disconnected | None]:
        trades = Subscription(["trade"], symbol_ids=[BTC + "$"])
        with connect(canary_key, trades, endpoint=simulator.url, pacer=Pacer(), request_heartbeats=False) as stream:
            is_open.set()
            return list(stream), stream.disconnected

    # Nothing but Pings comes: the market begins later.
    later_ns = clock.time_ns() + 2 * 3_600_000_000_000
    with Simulator(clock=clock, market_start_ns=later_ns) as simulator, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            assert is_open.wait(10)
            advance_an_hour(simulator, clock)
        finally:
            simulator.faults.close(1000)
        items, end = reading.result(10)
    assert items == []
    assert end is not None
    assert (end.initiator, end.code, end.clean) == ("server", 1000, True)


@pytest.mark.usefixtures("long_patience")
def test_a_far_jump_asks_for_one_pong_before_it(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    dial(simulator.url)
    clock.advance(60)
    clock.advance(3600)
    assert (simulator.pings_sent, simulator.connections) == (61, 1)
    clock.advance(3600)
    assert simulator.connections == 1


def test_who_never_answers_is_closed_all_the_same(simulator: Simulator, clock: VirtualClock) -> None:
    with RawClient(simulator.port) as silent:
        silent.upgrade()
        clock.advance(60)
        assert silent.frame().opcode == PING
        with at_once():
            clock.advance(60)
        assert simulator.connections == 0
        end = silent.frame()
        assert (end.opcode, end.payload) == (CLOSE, (1011).to_bytes(2, "big") + b"no Pong received")


def test_who_answers_stays_beside_who_never_does(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    with RawClient(simulator.port) as silent:
        silent.upgrade()
        dial(simulator.url)
        for left in ([1, 2], [2], [2]):
            clock.advance(60)
            assert simulator.open_connections == left


@pytest.mark.usefixtures("long_patience")
def test_an_advance_goes_on_as_soon_as_the_pong_has_come(simulator: Simulator, clock: VirtualClock) -> None:
    with RawClient(simulator.port) as raw:
        raw.upgrade()
        clock.advance(60)
        ping = raw.frame()
        assert ping.opcode == PING
        # Long after the clock began to wait for it.
        answer = threading.Timer(0.3, raw.send, (PONG, ping.payload))
        answer.start()
        with at_once():
            clock.advance(60)
        answer.join(10)
        assert simulator.connections == 1
        assert simulator.pongs_received == 1


@pytest.mark.usefixtures("long_patience")
def test_an_advance_waits_for_no_pong_that_is_not_due_in_it(simulator: Simulator, clock: VirtualClock) -> None:
    with RawClient(simulator.port) as silent, at_once():
        silent.upgrade()
        clock.advance(60)
        for _ in range(10):
            clock.advance(5.999_999)
            simulator.settle()
        assert simulator.connections == 1


@pytest.mark.usefixtures("long_patience")
def test_an_advance_waits_for_nobody_whose_connection_is_cut(simulator: Simulator, clock: VirtualClock) -> None:
    with RawClient(simulator.port) as silent, at_once():
        silent.upgrade()
        clock.advance(60)
        simulator.faults.go_silent()
        clock.advance(3600)
        assert simulator.connections == 1


@pytest.mark.usefixtures("long_patience")
def test_who_closed_or_vanished_is_not_waited_for(simulator: Simulator, clock: VirtualClock) -> None:
    with RawClient(simulator.port) as closed, at_once():
        closed.upgrade()
        with RawClient(simulator.port) as vanished:
            vanished.upgrade()
            clock.advance(60)
        closed.close_frame()
        clock.advance(60)
        assert simulator.connections == 0
        assert simulator.closes_received == [(1000, "")]


def test_a_clock_does_not_go_back(clock: VirtualClock) -> None:
    for seconds in (-1, float("nan")):
        with pytest.raises(ValueError, match="back"):
            clock.advance(seconds)


def test_real_time_needs_no_virtual_clock(dial: Dial) -> None:
    with Simulator(heartbeat_interval=0.05, ping_interval=0.05) as simulator:
        peer = dial(simulator.url)
        peer.hello("connectivity_status", heartbeat=True)
        assert [m["type"] for m in peer.messages(3)] == ["hearbeat"] * 3
        assert simulator.pings_sent > 0
        assert simulator.connections == 1
        peer.hello("trade")
        times = [m["time_coinapi"] for m in peer.messages(5)]
        assert times == sorted(times)


@pytest.mark.parametrize(("seconds", "error"), [(float("inf"), ValueError), (True, TypeError), ("1", TypeError)])
def test_a_clock_goes_ahead_by_a_number_with_an_end(clock: VirtualClock, seconds: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        clock.advance(seconds)
    assert clock.now() == 0
