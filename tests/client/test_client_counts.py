"""What stats() says as a whole, and more descriptors than select() can count (F20)."""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from client_harness import BTC, HEARTBEAT, Heard, eventually, go_live, trade
from peers import PATIENCE_SECONDS, TRADES, ServerSide, serving

from coinapi_ws import (
    Backoff,
    Client,
    ClientState,
    Connected,
    ConnectionGap,
    Heartbeat,
    Live,
    Quote,
    Subscription,
    Trade,
)
from coinapi_ws.simulator import Simulator, VirtualClock

MakeClient = Callable[..., Client]

ETH = "COINBASE_SPOT_ETH_USD"
BTC_TRADES = Subscription(["trade"], symbol_ids=[f"{BTC}$"])
ETH_QUOTES = Subscription(["quote"], symbol_ids=[f"{ETH}$"])


def quote(**fields: Any) -> str:
    return json.dumps({"symbol_id": ETH, **fields, "type": "quote"})


def test_all_counts_of_two_connections(make_client: MakeClient) -> None:
    first = [HEARTBEAT, trade(1, sequence=1), trade(2, sequence=5), trade(2, symbol_id=ETH, sequence=1), quote(), "{"]
    second = [trade(9, sequence=1), quote()]
    texts = iter([first, second])

    def handle(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        mine = next(texts)
        for text in mine:
            server.text(text)
        if mine is second:
            server.send(server.until_closed().response())

    with serving(handle) as url:
        client = make_client(url, BTC_TRADES, ETH_QUOTES)
        empty = client.stats()
        assert (empty.messages, empty.delivered, empty.reconnects) == ({}, 0, 0)
        assert empty.last_message_age is empty.last_message_ns is empty.latency is empty.disconnected is None
        trades, gaps = client.on(Trade, Heard()), client.on(ConnectionGap, Heard())
        client.on(Live, lambda live: 1 / 0)
        client.start()
        gaps.wait(ConnectionGap)
        trades.wait(Trade, 3)
        eventually(lambda: client.stats().messages.get("quote") == 2)
        assert client.close()
    stats = client.stats()
    assert stats.messages == {"heartbeat": 1, "trade": 4, "quote": 2, "undecodable": 1}
    assert stats.bytes == {
        "heartbeat": len(HEARTBEAT),
        "trade": sum(map(len, [*first[1:4], second[0]])),
        "quote": 2 * len(quote()),
        "undecodable": 1,
    }
    assert stats.surplus == 1  # the trade of the symbol that only quotes were asked for
    assert stats.jumps == {("trade", "COINBASE_SPOT_BTC_USD"): 1}
    assert (stats.delivered, stats.unhandled) == (3, 3)
    assert (stats.queued, stats.queued_bytes) == (0, 0)
    assert 1 <= stats.queued_most <= sum(stats.messages.values())
    assert stats.dropped == stats.conflated == stats.undelivered == 0
    assert stats.reconnects == 1
    assert stats.gaps == {"ConnectionGap": 1}
    assert stats.disconnects == {"network": 1, "local": 1}
    assert stats.callback_failures == 2
    assert stats.disconnected is client.disconnected
    assert stats.last_message_age is not None
    assert 0 <= stats.last_message_age < 60
    assert stats.last_message_ns is not None
    assert 0 <= time.time_ns() - stats.last_message_ns < 60e9
    assert stats.latency is not None
    assert stats.latency.count >= 2
    assert stats.latency.p50 <= stats.latency.p99 <= stats.latency.max


class SlowReader:
    """A client that gets a trade and stays in its callback, while the server goes on as it is told; it comes once."""

    def __init__(self, make_client: MakeClient, then: Callable[[ServerSide], object], **options: Any) -> None:
        self._then, self._options = then, {"backoff": Backoff(initial=1e6), **options}
        self._make_client = make_client
        self._go_on = threading.Event()

    def __enter__(self) -> Client:
        has_come = threading.Event()

        def handle(server: ServerSide) -> None:
            server.upgrade()
            server.event()
            server.text(trade(1, sequence=1))
            assert has_come.wait(PATIENCE_SECONDS)
            self._then(server)

        def stay(item: Trade) -> None:
            has_come.set()
            assert self._go_on.wait(PATIENCE_SECONDS)

        self._stack = ExitStack()
        url = self._stack.enter_context(serving(handle))
        client = self._make_client(url, BTC_TRADES, ETH_QUOTES, **self._options)
        client.on(Trade, stay)
        client.start()
        assert has_come.wait(PATIENCE_SECONDS)
        return client

    def go_on(self) -> None:
        self._go_on.set()

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._stack.close()


def test_what_is_decoded_after_the_end_of_its_connection_counts_as_well(make_client: MakeClient) -> None:
    has_counted = threading.Event()

    def then(server: ServerSide) -> None:
        for sequence in (1, 5, 9):
            server.text(trade(2, symbol_id=ETH, sequence=sequence))
        assert has_counted.wait(PATIENCE_SECONDS)
        server.close()

    reader = SlowReader(make_client, then)
    with reader as client:
        eventually(lambda: client.stats().messages["trade"] == 4)
        has_counted.set()
        eventually(lambda: client.disconnected)
        assert client.stats().surplus == 0
        reader.go_on()
        assert client.close()
    stats = client.stats()
    assert (stats.surplus, stats.jumps, stats.delivered) == (3, {("trade", ETH): 2}, 1)


def test_a_connection_that_ends_while_the_queue_is_full_is_let_go(make_client: MakeClient) -> None:
    is_asked = threading.Event()

    def then(server: ServerSide) -> None:
        server.text(trade(2, sequence=2))
        assert is_asked.wait(PATIENCE_SECONDS)
        server.text(trade(3, sequence=3))
        server.send(server.until_closed().response())

    reader = SlowReader(make_client, then, max_queued_messages=1)
    with reader as client:
        eventually(lambda: client.stats().queued == 1)
        client.reconnect()
        is_asked.set()
        eventually(lambda: client.disconnected)
        reader.go_on()
        eventually(lambda: client.stats().delivered == 2)
        assert client.close()
    assert client.stats().dropped == 1
    assert client._worker.statistics._sessions == {}


def test_the_rate_is_of_the_last_seconds(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    client = make_client(simulator.url, TRADES)
    with client:
        go_live(client, virtual)
        # Full seconds count, so it is above none within two.
        eventually(lambda: client.stats().rate > 0)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Take all descriptors up to 1100."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1400
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("this system allows no descriptor above 1024")
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while (taken := os.open(os.devnull, os.O_RDONLY)) < 1100:
            stack.callback(os.close, taken)
        os.close(taken)
        yield


def test_more_descriptors_than_select_can_count_f20(many_descriptors: None, make_client: MakeClient) -> None:
    """F20, T8: select() refuses a descriptor above 1024."""
    virtual = VirtualClock()
    with Simulator(clock=virtual) as simulator:
        client = make_client(simulator.url, TRADES)
        heard = client.on(Trade, Heard())
        for kind in (Connected, Heartbeat, Quote):
            client.on(kind, heard)
        client.start()
        go_live(client, virtual)
        [connection] = client._worker.supervisor.connections()
        assert connection.fileno() > 1024
        virtual.advance(10)
        heard.wait(Trade)
        client.subscribe(Subscription(["quote"], symbol_ids=[f"{BTC}$"]))  # by way of the wakeup
        eventually(lambda: virtual.advance(1) or heard.of(Quote))  # type: ignore[func-returns-value]
        assert client.close()
        assert client.state is ClientState.CLOSED
