"""Callbacks that are no room for: what each policy does, from the socket to the callback (F12)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_harness import BTC, Heard, eventually, go_live, trade
from peers import PATIENCE_SECONDS, TRADES, ServerSide, serving
from wsproto.events import Ping, Pong

from coinapi_ws import (
    Client,
    ClientState,
    Dropped,
    Gap,
    Message,
    Quote,
    SlowConsumerError,
    Subscription,
    Trade,
)
from coinapi_ws.client.queueing import READ_AHEAD_BYTES, DeliveryQueue
from coinapi_ws.simulator import Simulator, VirtualClock

MakeClient = Callable[..., Client]

BUSY = Subscription(["trade", "quote"], symbol_ids=[f"{BTC}$", "COINBASE_SPOT_ETH_USD$"])
MOST = 20


class Gated(Heard):
    """A callback that blocks on its first message until its gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.gate = threading.Event()

    def __call__(self, item: Any) -> None:
        self.entered.set()
        assert self.gate.wait(PATIENCE_SECONDS)
        super().__call__(item)


@pytest.fixture
def gated() -> Iterator[Gated]:
    callback = Gated()
    yield callback
    callback.gate.set()


@pytest.fixture
def run(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, gated: Gated
) -> Callable[..., tuple[Client, Heard]]:
    """Let the market run far ahead of a blocked callback; return the client, and who hears of gaps."""

    def run_one(**options: Any) -> tuple[Client, Heard]:
        client = make_client(simulator.url, BUSY, **{"max_queued_messages": MOST, **options})
        client.on(Message, gated)
        gaps = client.on(Gap, Heard())
        client.start()
        go_live(client, virtual)
        assert gated.entered.wait(PATIENCE_SECONDS)
        for _ in range(20):
            virtual.advance(2)
        return client, gaps

    return run_one


def sent(simulator: Simulator, *types: str) -> int:
    simulator.settle()
    return sum(simulator.frames_sent.get(name, 0) for name in types)


def test_pausing_delivers_everything_f12(
    run: Callable[..., tuple[Client, Heard]], gated: Gated, simulator: Simulator
) -> None:
    client, gaps = run(when_full="pause")
    eventually(lambda: client.stats().queued >= MOST)
    gated.gate.set()
    everything = sent(simulator, "trade", "quote")
    assert everything > 10 * MOST
    eventually(lambda: len(gated.of(Trade)) + len(gated.of(Quote)) == everything)
    assert client.close()
    stats = client.stats()
    assert gaps == []
    assert (stats.dropped, stats.conflated, stats.undelivered) == (0, 0, 0)
    assert stats.delivered == sum(stats.messages.values()) == len(gated)
    assert [one.sequence for one in gated.of(Trade) if one.symbol_id == BTC][:5] == [1, 2, 3, 4, 5]


def test_a_paused_client_does_not_read_on_f12(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, gated: Gated
) -> None:
    client = make_client(simulator.url, TRADES, max_queued_messages=MOST)
    client.on(Message, gated)
    client.start()
    go_live(client, virtual)
    assert gated.entered.wait(PATIENCE_SECONDS)
    while client.stats().queued < MOST:
        virtual.advance(1)
    # One read may go beyond the bound; what comes later is not read.
    received = client.stats().messages
    virtual.advance(60)
    simulator.settle()
    assert client.stats().messages == received
    assert client.state is ClientState.LIVE


def test_who_reads_lets_the_callbacks_catch_up_where_much_waits(
    make_client: MakeClient, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[tuple[str, int]] = []
    rest = DeliveryQueue.wait_for_takers

    def noted(queue: DeliveryQueue, seconds: float) -> None:
        rests.append((threading.current_thread().name, queue.bytes))
        rest(queue, seconds)

    monkeypatch.setattr(DeliveryQueue, "wait_for_takers", noted)
    long = trade(note="x" * 100_000)

    def serve(server: ServerSide) -> None:
        server.upgrade()
        for _ in range(2 * READ_AHEAD_BYTES // len(long)):
            server.text(long)
        server.until_closed()

    with serving(serve) as url:
        client = make_client(url, TRADES)
        client.on(Message, gated)
        client.start()
        eventually(lambda: any(waiting > READ_AHEAD_BYTES for _, waiting in rests))
        gated.gate.set()
        assert client.close()
    assert {name for name, _ in rests} == {"coinapi-ws-io"}


def test_conflating_keeps_the_newest_of_each_quote_f12(
    run: Callable[..., tuple[Client, Heard]], gated: Gated, simulator: Simulator, virtual: VirtualClock
) -> None:
    client, gaps = run(when_full="conflate", max_queued_messages=200)
    eventually(lambda: client.stats().conflated > 50)
    gated.gate.set()
    everything = sent(simulator, "trade", "quote")
    eventually(lambda: sum(client.stats().messages.get(name, 0) for name in ("trade", "quote")) == everything)
    assert client.close()
    stats = client.stats()
    assert len(gated.of(Trade)) == stats.messages["trade"]
    assert len(gated.of(Quote)) == stats.messages["quote"] - stats.conflated
    assert {gap.type for gap in gaps} == {"quote"}
    assert sum(gap.count for gap in gaps) == stats.conflated
    assert stats.dropped == 0
    for symbol_id in (BTC, "COINBASE_SPOT_ETH_USD"):
        moments = [quote.time_coinapi_ns for quote in gated.of(Quote) if quote.symbol_id == symbol_id]
        assert moments == sorted(moments)
        assert max(gap.last_ns for gap in gaps if gap.symbol_id == symbol_id) < moments[-1]


def test_dropping_the_oldest_says_how_many_f12(
    run: Callable[..., tuple[Client, Heard]], gated: Gated, simulator: Simulator
) -> None:
    client, gaps = run(when_full="drop_oldest")
    everything = sent(simulator, "trade", "quote")
    eventually(lambda: sum(client.stats().messages.get(name, 0) for name in ("trade", "quote")) == everything)
    gated.gate.set()
    assert client.close()
    stats = client.stats()
    assert {type(gap) for gap in gaps} == {Dropped}
    assert sum(gap.count for gap in gaps) == stats.dropped > 100
    assert stats.delivered + stats.dropped == sum(stats.messages.values())
    assert stats.conflated == stats.undelivered == 0
    for data_type in (Trade, Quote):
        # The newest are there, and what is told to be missing is older.
        newest = gated.of(data_type)[-1]
        [missing] = [gap for gap in gaps if (gap.type, gap.symbol_id) == (newest.type, newest.symbol_id)]
        assert missing.first_ns <= missing.last_ns < newest.time_coinapi_ns
    assert client.state is ClientState.CLOSED


def test_bytes_are_bounded_too_f12(run: Callable[..., tuple[Client, Heard]], gated: Gated) -> None:
    client, _ = run(when_full="drop_oldest", max_queued_messages=1_000_000, max_queued_bytes=5000)
    eventually(lambda: client.stats().dropped > 100)
    stats = client.stats()
    assert 0 < stats.queued_bytes <= 5000
    assert stats.queued < 50


def test_pings_go_on_while_a_callback_blocks_f7(make_client: MakeClient, gated: Gated) -> None:
    """F7: timers and control frames are the I/O thread's, and callbacks are not."""
    pings: list[bytes] = []

    def handle(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        server.text(trade())
        assert gated.entered.wait(PATIENCE_SECONDS)
        server.send(Ping(payload=b"ours"))
        answered = False
        while len(pings) < 5 or not answered:
            event = server.event()
            answered = answered or isinstance(event, Pong)
            if isinstance(event, Ping):
                pings.append(bytes(event.payload))
                server.send(event.response())
        gated.gate.set()
        server.send(server.until_closed().response())

    with serving(handle) as url:
        client = make_client(url, TRADES, ping_interval=0.01, ping_timeout=PATIENCE_SECONDS)
        client.on(Trade, gated)
        client.start()
        assert gated.gate.wait(PATIENCE_SECONDS)
        assert client.state is ClientState.LIVE
        assert client.close()
    assert len(set(pings)) == len(pings) >= 5


def test_a_callback_that_never_ends_does_f12(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, gated: Gated
) -> None:
    """join() tells at once, though the callback goes on; close() waits for it in vain."""
    client = make_client(simulator.url, TRADES, max_queued_messages=3, slow_consumer_timeout=0.05)
    client.on(Trade, gated)
    client.start()
    # It may be over before anybody has seen that it was live.
    with pytest.raises(SlowConsumerError, match="no room for"):
        eventually(lambda: virtual.advance(0.5) or client.join(0))  # type: ignore[func-returns-value]
    assert client.close(timeout=0.01) is False
    gated.gate.set()
    eventually(lambda: client.close(timeout=0.1))
    assert len(gated) == 1
    with pytest.raises(SlowConsumerError):
        client.join()
    with pytest.raises(SlowConsumerError):
        client.wait_live()


def test_a_slow_callback_that_catches_up_is_forgiven(
    run: Callable[..., tuple[Client, Heard]], gated: Gated, simulator: Simulator, virtual: VirtualClock
) -> None:
    client, _ = run(when_full="pause", slow_consumer_timeout=20)
    gated.gate.set()
    before = len(gated)
    eventually(lambda: len(gated) > before + MOST)
    virtual.advance(5)
    everything = sent(simulator, "trade", "quote")
    eventually(lambda: len(gated.of(Trade)) + len(gated.of(Quote)) == everything)
    assert client.state is ClientState.LIVE
