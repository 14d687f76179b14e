"""Sixty clients at once: each has its scope, its sequences and its faults to itself."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from coinapi_ws import Book, SequenceGap, Subscription, connect
from coinapi_ws.simulator import Simulator, VirtualClock

Dial = Callable[..., Any]
Message = dict[str, Any]

CLIENTS = 60
SYMBOLS = (
    "BITSTAMP_SPOT_BTC_USD",
    "BITSTAMP_SPOT_ETH_USD",
    "COINBASE_SPOT_BTC_USD",
    "COINBASE_SPOT_ETH_USD",
    "COINBASE_SPOT_ADA_USD",
    "KRAKEN_SPOT_BTC_USD",
    "KRAKEN_SPOT_ETH_USD",
    "KRAKEN_SPOT_ADA_USD",
    "BINANCEFTS_PERP_BTC_USDT",
    "BINANCEFTS_PERP_ETH_USDT",
)
TYPES = ("book", "trade", "quote", "book5", "book20", "ohlcv")
#: Sixty scopes, no two of which are alike.
SCOPES = [(kind, symbol_id) for kind in TYPES for symbol_id in SYMBOLS]

assert len(SCOPES) == CLIENTS


def drain(simulator: Simulator, peer: Any) -> list[Message]:
    """All messages that the simulator has sent this one client so far."""
    simulator.settle()
    assert peer.websocket.ping().wait(10)
    received = []
    while True:
        try:
            received.append(json.loads(peer.websocket.recv(timeout=0)))
        except TimeoutError:
            return received


def numbered_from_1(messages: list[Message]) -> bool:
    return [m["sequence"] for m in messages] == list(range(1, len(messages) + 1)) != []


@pytest.fixture
def crowd(simulator: Simulator, dial: Dial) -> list[Any]:
    """Sixty clients, each with its own scope."""
    peers = [dial(simulator.url, close_timeout=1) for _ in SCOPES]
    for peer, (kind, symbol_id) in zip(peers, SCOPES, strict=True):
        peer.hello(kind, symbol_id=[symbol_id + "$"])
    simulator.settle()
    assert simulator.open_connections == list(range(1, CLIENTS + 1))
    return peers


def test_each_of_sixty_clients_gets_its_scope_and_nothing_else_numbered_from_1(
    simulator: Simulator, clock: VirtualClock, crowd: list[Any], dial: Dial
) -> None:
    everything = dial(simulator.url)
    everything.hello(*TYPES, symbol_id=[""])
    clock.advance(5)
    whole = drain(simulator, everything)
    total = 0
    for peer, scope in zip(crowd, SCOPES, strict=True):
        messages = drain(simulator, peer)
        # All that there was of it, and all of it the same for everybody.
        assert messages == [m for m in whole if (m["type"], m["symbol_id"]) == scope]
        assert numbered_from_1(messages)
        total += len(messages)
    assert total == len(whole)
    assert sum(simulator.frames_sent.values()) == 2 * total


def test_clients_come_change_their_scope_and_go_and_the_others_notice_nothing(
    simulator: Simulator, clock: VirtualClock, crowd: list[Any], dial: Dial
) -> None:
    clock.advance(2)
    staying, leaving, changing = crowd[0::3], crowd[1::3], crowd[2::3]
    for number, peer in enumerate(leaving):
        if number % 2:
            peer.websocket.close()
        else:
            peer.websocket.socket.shutdown(socket.SHUT_RDWR)
    for peer in changing:
        drain(simulator, peer)
        peer.hello("exrate", asset_id=["BTC/USD"])
    coming = [dial(simulator.url) for _ in leaving]
    for peer in coming:
        peer.subscribe("trade", symbol_id=["COINBASE_SPOT_BTC_USD$"])
    simulator.settle()
    assert simulator.connections == len(staying) + len(changing) + len(coming) == CLIENTS
    clock.advance(3)
    for peer, scope in zip(staying, SCOPES[0::3], strict=True):
        messages = drain(simulator, peer)
        assert {(m["type"], m["symbol_id"]) for m in messages} == {scope}
        assert numbered_from_1(messages)
    for peer in changing:
        assert [m["type"] for m in drain(simulator, peer)] == ["exrate"] * 30
    trades = [drain(simulator, peer) for peer in coming]
    assert all(each == trades[0] for each in trades)
    assert numbered_from_1(trades[0])
    assert min(simulator.open_connections) == 1
    assert max(simulator.open_connections) == CLIENTS + len(coming)


def test_faults_on_one_of_sixty_touch_no_other(simulator: Simulator, clock: VirtualClock, crowd: list[Any]) -> None:
    faults = simulator.faults
    harm: dict[int, Callable[[int], object]] = {
        1: lambda n: faults.skip_sequence(2, connection=n),
        2: lambda n: faults.repeat_sequence(2, connection=n),
        3: lambda n: faults.lose(1.0, connection=n),
        4: lambda n: faults.drop(reset=True, connection=n),
        5: lambda n: faults.drop(connection=n),
        6: lambda n: faults.go_silent(connection=n),
        7: lambda n: faults.go_silent(heartbeats=True, connection=n),
        8: lambda n: faults.close(1013, connection=n),
        9: lambda n: faults.error("no", connection=n),
        10: lambda n: faults.delay(1000, connection=n),
        11: lambda n: faults.split(1, interval=1, connection=n),
        12: lambda n: faults.fragment(1, connection=n),
        13: lambda n: faults.malformed_json(connection=n),
        14: lambda n: faults.masked_frame(connection=n),
        15: lambda n: faults.invalid_utf8(connection=n),
        16: lambda n: faults.oversized_message(3_000_000, connection=n),
        17: lambda n: faults.stale_frames(9, connection=n),
        18: lambda n: faults.ignore_close(keep_sending=True, connection=n),
        19: lambda n: faults.deltas_first(9, connection=n),
    }
    for number, act in harm.items():
        assert act(number) in (None, 1)
    clock.advance(5)
    sound = 0
    for number, (peer, scope) in enumerate(zip(crowd, SCOPES, strict=True), 1):
        if number in harm:
            continue
        messages = drain(simulator, peer)
        assert {(m["type"], m["symbol_id"]) for m in messages} == {scope}
        assert numbered_from_1(messages)
        sound += 1
    assert sound == CLIENTS - len(harm)
    # Where nothing is received any more, it is not because nothing was done.
    assert not {4, 5, 8, 9} & set(simulator.open_connections)
    assert simulator.frames_lost["book"] > 2
    # Else those who hear nothing wait for the answer to their Close.
    faults.clear()


def test_a_fault_for_all_reaches_all_and_an_end_reaches_all(
    simulator: Simulator, clock: VirtualClock, crowd: list[Any]
) -> None:
    for peer in crowd:
        drain(simulator, peer)
    assert simulator.faults.skip_sequence() == CLIENTS
    simulator.faults.go_silent(heartbeats=True)
    clock.advance(3)
    assert all(drain(simulator, peer) == [] for peer in crowd)
    simulator.faults.clear()
    clock.advance(3)
    for peer, (kind, _) in zip(crowd, SCOPES, strict=True):
        messages = drain(simulator, peer)
        assert messages
        assert messages[0]["sequence"] > 1, kind
    simulator.announce_reconnect(1)
    clock.advance(1)
    assert simulator.connections == 0
    for peer in crowd:
        assert json.loads(peer.rest_until_closed()[0])["type"] == "reconnect"


def test_each_of_sixty_streams_of_our_client_sees_its_own_gaps_alone(
    simulator: Simulator, clock: VirtualClock, canary_key: str
) -> None:
    with ExitStack() as stack:
        streams = [
            stack.enter_context(
                connect(
                    canary_key,
                    Subscription(["book"], symbol_ids=[SYMBOLS[n % 10] + "$"]),
                    endpoint=simulator.url,
                    request_heartbeats=False,
                )
            )
            for n in range(CLIENTS)
        ]
        clock.advance(1)
        for number in range(1, CLIENTS + 1, 7):
            assert simulator.faults.skip_sequence(connection=number) == 1
        clock.advance(3)
        simulator.faults.close(1000)
        for number, stream in enumerate(streams, 1):
            items = list(stream)
            symbol_id = SYMBOLS[(number - 1) % 10]
            assert {item.symbol_id for item in items if isinstance(item, (Book, SequenceGap))} == {symbol_id}
            assert len(items) > 3
            gaps = [item for item in items if isinstance(item, SequenceGap)]
            assert len(gaps) == (number % 7 == 1)
