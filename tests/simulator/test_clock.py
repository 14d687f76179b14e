"""Virtual time is walked and not jumped, and leaves clients the real time that they need for a Pong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import websocket

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
