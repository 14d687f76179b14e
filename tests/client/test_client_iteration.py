"""A client as an iterator, instead of callbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from client_harness import Heard, eventually, go_live, on_a_thread
from peers import PATIENCE_SECONDS, TRADES

from coinapi_ws import (
    AuthenticationError,
    Client,
    ClientState,
    Connected,
    Disconnected,
    Heartbeat,
    Live,
    Trade,
    UsageError,
)
from coinapi_ws.simulator import Simulator, VirtualClock

MakeClient = Callable[..., Client]


def test_messages_and_events_in_order_until_the_close(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock
) -> None:
    seen: list[object] = []
    with make_client(simulator.url, TRADES) as client:
        go_live(client, virtual)
        virtual.advance(10)
        for item in client:
            seen.append(item)
            if len([one for one in seen if isinstance(one, Trade)]) == 5:
                break
    # What was received before the close is still there, and then it ends.
    seen += list(client)
    assert isinstance(seen[0], Connected)
    assert isinstance(seen[1], Live)
    assert isinstance(seen[-1], Disconnected)
    assert {type(item) for item in seen[2:-1]} <= {Trade, Heartbeat}
    stats = client.stats()
    assert stats.delivered == sum(stats.messages.values()) == len(seen) - 3
    assert stats.undelivered == 0
    assert next(client, None) is None


def test_several_threads_share_them_out(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    client = make_client(simulator.url, TRADES)
    client.start()
    parts: list[list[object]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda part: part.extend(client), args=[part], daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    go_live(client, virtual)
    for _ in range(20):
        virtual.advance(5)
    assert client.close()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    trades = [item.uuid for part in parts for item in part if isinstance(item, Trade)]
    assert len(trades) == len(set(trades)) == client.stats().messages["trade"]
    assert sum(isinstance(item, Disconnected) for part in parts for item in part) == 1


def test_an_end_that_nobody_asked_for_is_raised(make_client: MakeClient, virtual: VirtualClock) -> None:
    with Simulator(clock=virtual, api_keys=[]) as simulator:
        client = make_client(simulator.url, TRADES)
        client.start()
        seen: list[object] = []
        with pytest.raises(AuthenticationError) as raised:
            seen.extend(client)
        # Only after all that came before.
        assert isinstance(seen[-1], Disconnected)
        assert raised.value.disconnected is seen[-1]
        with pytest.raises(AuthenticationError) as again:
            next(client)
        assert again.value is not raised.value


def test_a_close_wakes_who_waits_for_the_next(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    client.start()
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.extend(client), daemon=True)
    thread.start()
    eventually(lambda: seen)
    assert client.close()
    thread.join(PATIENCE_SECONDS)
    assert [type(item) for item in seen] in ([Connected, Disconnected], [Disconnected])


def test_a_close_from_within_the_loop(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    client = make_client(simulator.url, TRADES)
    client.start()
    go_live(client, virtual)
    kinds = []
    for item in client:
        kinds.append(type(item))
        if isinstance(item, Live):
            assert client.close()  # it is no thread of the client's own
    assert kinds[-1] is Disconnected
    assert client.state is ClientState.CLOSED


def test_it_comes_after_the_start(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    with pytest.raises(UsageError, match="after start"):
        next(iter(client))
    assert client.close()
    assert on_a_thread(lambda: list(client))() == []


def test_callbacks_or_iteration_but_not_both(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    heard = client.on(Trade, Heard())
    with pytest.raises(UsageError, match="not to both"):
        iter(client)
    client.off(Trade, heard)
    iter(client)
    with pytest.raises(UsageError, match="not to both"):
        client.on(Trade, heard)
    inline = make_client(simulator.url, TRADES, dispatch="inline")
    with pytest.raises(UsageError):
        iter(inline)


def test_nobody_who_takes_is_a_slow_consumer(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(simulator.url, TRADES, max_queued_messages=5)
    client.start()
    go_live(client, virtual)
    virtual.advance(30)
    eventually(lambda: client.stats().queued >= 5)
    simulator.settle()
    everything = simulator.frames_sent["trade"]
    trades = 0
    for item in client:
        trades += isinstance(item, Trade)
        if trades == everything:
            break
    assert client.state is ClientState.LIVE


def test_waiting_for_one_item(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    client = make_client(simulator.url, TRADES)
    client.start()
    assert isinstance(client.recv(timeout=PATIENCE_SECONDS), Connected)
    with pytest.raises(TimeoutError, match=r"no message within 0\.01 s"):
        client.recv(timeout=0.01)
    with pytest.raises(TimeoutError):
        client.recv(timeout=0)
    virtual.advance(30)
    items = [client.recv(timeout=PATIENCE_SECONDS) for _ in range(5)]
    assert isinstance(items[0], Live)
    assert client.close()
    assert isinstance(list(client)[-1], Disconnected)
    with pytest.raises(UsageError, match="closed"):
        client.recv(timeout=PATIENCE_SECONDS)


def test_no_item_for_who_has_callbacks(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    client.on(Trade, print)
    with pytest.raises(UsageError, match="callbacks"):
        client.recv(timeout=0)
