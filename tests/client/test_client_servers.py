"""A client with its threads, and servers that come and go."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from client_harness import START_NS, Heard, eventually, go_live
from peers import TRADES

from coinapi_ws import (
    Backoff,
    Client,
    ClientState,
    ConnectionGap,
    Disconnected,
    Event,
    HandedOver,
    HandoverFailed,
    Live,
    Reconnecting,
    Trade,
)
from coinapi_ws.simulator import Simulator, VirtualClock

MakeClient = Callable[..., Client]

#: Next to no wait, since the client's time is real.
SOON = {"initial": 0.01, "maximum": 0.02}


def one_more(heard: Heard, clock: VirtualClock) -> None:
    """Let virtual time pass until something more was heard."""
    so_far = len(heard)

    def is_there() -> bool:
        clock.advance(0.5)
        return len(heard) > so_far

    eventually(is_there)


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_a_second_server_takes_over(make_client: MakeClient, virtual: VirtualClock, dispatch: str) -> None:
    def same_market() -> Simulator:
        return Simulator(seed=7, clock=virtual, market_start_ns=START_NS)

    def advance(seconds: int) -> None:
        for _ in range(2 * seconds):
            virtual.advance(0.5)

    with same_market() as first, same_market() as second:
        watcher = make_client(second.url, TRADES)
        there_was = watcher.on(Trade, Heard())
        watcher.start()
        go_live(watcher, virtual)
        client = make_client(first.url, TRADES, on_reconnect_notice="handover", dispatch=dispatch)
        trades, events = client.on(Trade, Heard()), client.on(Event, Heard())
        client.start()
        go_live(client, virtual)
        advance(5)
        first.announce_reconnect(10, successor=second)
        eventually(lambda: len(second.received) == 2)  # both have sent their hello
        advance(9)
        events.wait(Live, 2)
        advance(1)
        events.wait(HandedOver)
        advance(10)
        assert client.state is ClientState.LIVE

        def are_the_same() -> bool:
            uuids, all_uuids = [trade.uuid for trade in trades], [trade.uuid for trade in there_was]
            return len(uuids) > 20 and uuids == all_uuids[all_uuids.index(uuids[0]) :]

        eventually(are_the_same)
        assert client.close()
    assert len({trade.uuid for trade in trades}) == len(trades)
    assert events.of(ConnectionGap) == events.of(Reconnecting) == []
    # One for each connection, and each is the end of its own.
    assert len(events.of(Disconnected)) == 2
    assert isinstance(events[-1], Disconnected)


def test_a_plan_for_one_connection_alone(make_client: MakeClient, virtual: VirtualClock) -> None:
    with Simulator(clock=virtual, connection_limit=1) as simulator:
        client = make_client(simulator.url, TRADES, on_reconnect_notice="handover")
        events = client.on(Event, Heard())
        client.start()
        go_live(client, virtual)
        simulator.announce_reconnect(5)
        assert "429" in events.wait(HandoverFailed).reason
        assert client.state is ClientState.LIVE
        virtual.advance(5)
        events.wait(Reconnecting)
        assert client.close()


def test_cut_again_and_again(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    client = make_client(simulator.url, TRADES, backoff=Backoff(**SOON))
    trades, events = client.on(Trade, Heard()), client.on(Event, Heard())
    with client:
        for cut in range(1, 6):
            go_live(client, virtual)
            one_more(trades, virtual)
            simulator.faults.drop()
            events.wait(Disconnected, cut)
        go_live(client, virtual)
        one_more(trades, virtual)
    stats = client.stats()
    assert stats.reconnects == 5
    assert stats.gaps == {"ConnectionGap": 5}
    assert [event.attempt for event in events.of(Reconnecting)] == [1, 2, 3, 4, 5]
    moments = {trade.time_coinapi_ns for trade in trades}
    for gap in events.of(ConnectionGap):
        assert {gap.from_ns, gap.to_ns} <= moments
        assert not any(gap.from_ns < moment < gap.to_ns for moment in moments)
    assert len({trade.uuid for trade in trades}) == len(trades)
