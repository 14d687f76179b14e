"""close(): from everywhere, once, and whatever the server or a callback does meanwhile (F1 to F4, F19)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_harness import BTC, HEARTBEAT, Heard, eventually, go_live, trade
from peers import PATIENCE_SECONDS, TRADES, ServerSide, accept, listening, serving, url_of
from wsproto.events import CloseConnection

from coinapi_ws import (
    CallbackFailed,
    Client,
    ClientState,
    Connected,
    Disconnected,
    ErrorMessage,
    Heartbeat,
    Live,
    Reconnecting,
    SequenceGap,
    Subscription,
    Trade,
    Undecodable,
    UnknownMessage,
)
from coinapi_ws.drivers.transport import Address
from coinapi_ws.simulator import Simulator, VirtualClock

MakeClient = Callable[..., Client]

#: So long that no test passes because it ran out.
LONG = {"close_timeout": 60.0}

BOOK = '{"symbol_id":"COINBASE_SPOT_BTC_USD","sequence":%d,"is_snapshot":false,"asks":[],"bids":[],"type":"book"}'


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What holds a callback until the test, or its end, opens it."""
    gate = threading.Event()
    yield gate
    gate.set()


def provoke(simulator: Simulator, kind: type) -> None:
    """Let the server do what brings an item of that kind."""
    faults = simulator.faults
    doing: dict[type, Callable[[], object]] = {
        Reconnecting: faults.drop,
        Disconnected: faults.drop,
        ErrorMessage: lambda: faults.error("Something", close=False),
        Undecodable: faults.malformed_json,
        UnknownMessage: faults.unknown_type,
        Heartbeat: lambda: faults.send_text(HEARTBEAT),
        Trade: lambda: faults.send_text(trade(sequence=1)),
        SequenceGap: lambda: [faults.send_text(BOOK % sequence) for sequence in (100_000, 900_000)],
        CallbackFailed: lambda: faults.send_text(trade(sequence=1)),
    }
    if kind in doing:
        doing[kind]()


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
@pytest.mark.parametrize(
    "kind",
    [
        Connected,
        Live,
        Trade,
        Heartbeat,
        ErrorMessage,
        UnknownMessage,
        Undecodable,
        SequenceGap,
        Disconnected,
        Reconnecting,
        CallbackFailed,
    ],
)
def test_close_within_each_kind_of_callback_f1(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, dispatch: str, kind: type
) -> None:
    """F1: it says False at once, no other callback starts, and the threads end by themselves."""
    scope = Subscription(["trade", "book"], symbol_ids=[f"{BTC}$"])
    client = make_client(simulator.url, scope, dispatch=dispatch, **LONG)
    returned: list[bool] = []
    after: list[Any] = []

    def close(item: object) -> None:
        returned.append(client.close())

    def fail(item: object) -> None:
        raise LookupError

    client.on(kind, close)
    client.on(kind, after.append)
    if kind is CallbackFailed:
        client.on(Trade, fail)
    client.start()
    go_live_unless_closed(client, virtual)
    if not returned:
        provoke(simulator, kind)
    assert client.join(PATIENCE_SECONDS)
    assert returned == [False]
    assert after == []
    assert client.state is ClientState.CLOSED
    assert client.close()


def go_live_unless_closed(client: Client, clock: VirtualClock) -> None:
    def is_there() -> bool:
        clock.advance(0.1)
        return client.state in (ClientState.LIVE, ClientState.CLOSING, ClientState.CLOSED)

    eventually(is_there)


def test_one_close_frame_and_one_end_and_that_is_last_f2(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(simulator.url, TRADES, **LONG)
    heard = Heard()
    for kind in (Trade, Live, Disconnected):
        client.on(kind, heard)
    client.start()
    go_live(client, virtual)
    virtual.advance(20)
    assert client.close()
    assert client.close()
    assert simulator.closes_received == [(1000, "")]
    assert [type(item) for item in heard].count(Disconnected) == 1
    assert isinstance(heard[-1], Disconnected)
    # All that was received was delivered before.
    assert client.stats().undelivered == 0
    assert len(heard.of(Trade)) == client.stats().messages["trade"] > 10


def test_two_threads_that_close_at_once_f2(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(simulator.url, TRADES, **LONG)
    ends = client.on(Disconnected, Heard())
    client.start()
    go_live(client, virtual)
    together = threading.Barrier(4)
    returned: list[bool] = []

    def close() -> None:
        together.wait(PATIENCE_SECONDS)
        returned.append(client.close())

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert returned == [True] * 4
    assert simulator.closes_received == [(1000, "")]
    assert len(ends) == 1


@pytest.mark.parametrize("keep_sending", [False, True])
def test_a_server_that_never_answers_the_close_f3(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, keep_sending: bool
) -> None:
    client = make_client(simulator.url, TRADES, close_timeout=0.2)
    ends = client.on(Disconnected, Heard())
    client.start()
    go_live(client, virtual)
    simulator.faults.ignore_close(keep_sending=keep_sending)
    assert client.close()
    assert len(ends) == 1
    assert "did not answer our Close" in ends[0].detail


def test_a_server_that_floods_f3(make_client: MakeClient) -> None:
    """F3: the deadline is absolute, whatever comes meanwhile."""
    flood = trade()

    def handle(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        try:
            while True:
                server.text(flood)
        except OSError:
            pass  # at last

    # What one turn of the I/O thread reads is little then, however slow the machine.
    options = {"close_timeout": 0.2, "receive_buffer_bytes": 8192, "when_full": "drop_oldest"}
    with serving(handle) as url:
        client = make_client(url, TRADES, max_queued_messages=1000, **options)
        heard = client.on(Trade, Heard())
        client.start()
        heard.wait(Trade, 100)
        assert client.close(timeout=60)
        assert client.state is ClientState.CLOSED


def test_a_full_queue_and_a_blocked_callback_f4(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, gate: threading.Event
) -> None:
    """F4: close() gives up in time and says which callback; once that returns no other starts."""
    client = make_client(simulator.url, TRADES, max_queued_messages=5, **LONG)
    entered, calls = threading.Event(), []

    def stuck(item: Trade) -> None:
        calls.append(item)
        entered.set()
        assert gate.wait(PATIENCE_SECONDS)

    client.on(Trade, stuck)
    client.start()
    go_live(client, virtual)
    virtual.advance(10)
    assert entered.wait(PATIENCE_SECONDS)
    eventually(lambda: client.stats().queued >= 5)
    assert client.close(timeout=0.05) is False
    eventually(lambda: client.state is ClientState.CLOSED)  # the I/O thread does not wait for it
    assert client.close(timeout=0) is False
    gate.set()
    assert client.join(PATIENCE_SECONDS)
    assert len(calls) == 1
    stats = client.stats()
    assert stats.undelivered + stats.dropped == stats.messages["trade"] - 1
    assert client.close()


def test_a_close_that_is_not_done_in_time_says_what_runs(
    make_client: MakeClient,
    simulator: Simulator,
    virtual: VirtualClock,
    gate: threading.Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = make_client(simulator.url, TRADES, **LONG)
    entered = threading.Event()

    def slow_callback(item: Live) -> None:
        entered.set()
        assert gate.wait(PATIENCE_SECONDS)

    client.on(Live, slow_callback)
    client.start()
    go_live(client, virtual)
    assert entered.wait(PATIENCE_SECONDS)
    assert not client.close(timeout=0)
    assert "not closed within 0 s" in caplog.text
    assert "slow_callback is running" in caplog.text


def test_a_close_during_the_upgrade(make_client: MakeClient) -> None:
    with listening() as silent:
        client = make_client(url_of(silent), TRADES, **LONG)
        ends = client.on(Disconnected, Heard())
        client.start()
        with accept(silent) as accepted:
            assert accepted.recv(65536)
            assert client.close()
            assert accepted.recv(65536) == b""
        assert [ended.detail for ended in ends] == ["closed before the connection was up"]


def test_a_close_before_anything_is_connected(make_client: MakeClient, simulator: Simulator) -> None:
    """The I/O thread may not have come to its first attempt yet."""
    for _ in range(20):
        client = make_client(simulator.url, TRADES, **LONG)
        client.start()
        assert client.close()
        assert client.state is ClientState.CLOSED


def test_a_resolver_that_hangs_f19(make_client: MakeClient, simulator: Simulator, gate: threading.Event) -> None:
    """F19: close() does not wait for it; the thread ends when it does, and connects nowhere."""
    entered = threading.Event()

    def resolve(host: str, port: int) -> list[Address]:
        entered.set()
        assert gate.wait(PATIENCE_SECONDS)
        raise OSError("gone")

    client = make_client(simulator.url, TRADES, resolve=resolve)
    client.on(Trade, Heard())
    client.start()
    assert entered.wait(PATIENCE_SECONDS)
    assert client.close(timeout=0.05) is False
    assert client.state is not ClientState.CLOSED
    gate.set()
    assert client.join(PATIENCE_SECONDS)
    assert client.state is ClientState.CLOSED
    assert simulator.connections == 0


def test_a_close_while_it_waits_for_the_next_attempt(make_client: MakeClient) -> None:
    with listening() as closed:
        url = url_of(closed)
    client = make_client(url, TRADES)
    client.start()
    eventually(lambda: client.state is ClientState.WAITING)
    assert client.close()


def test_the_close_frame_waits_behind_nothing_we_read(make_client: MakeClient) -> None:
    """A paused client that closes reads on, so that the answer is found."""
    closes: list[CloseConnection] = []

    def handle(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        for second in range(50):
            server.text(trade(second % 60))
        closes.append(server.until_closed())
        server.send(closes[0].response())

    with serving(handle) as url:
        client = make_client(url, TRADES, max_queued_messages=10, **LONG)
        client.start()  # nobody takes anything
        eventually(lambda: client.stats().queued >= 10)
        client.on(Trade, Heard())
        assert client.close()
    assert [closing.code for closing in closes] == [1000]


def test_what_comes_after_the_close_is_bounded_too_f4(make_client: MakeClient) -> None:
    """What a full queue has no room for is counted, and read for the sake of the answer alone."""
    paused = threading.Event()

    def handle(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        for count in (30, 20):
            for second in range(count):
                server.text(trade(second))
            assert paused.wait(PATIENCE_SECONDS)
        server.send(server.until_closed().response())

    with serving(handle) as url:
        client = make_client(url, TRADES, max_queued_messages=10, **LONG)
        client.start()
        eventually(lambda: client.stats().queued >= 10)
        paused.set()
        assert client.close()
    stats = client.stats()
    assert stats.messages == {"trade": 50}
    assert stats.queued == stats.queued_most <= 30
    assert stats.dropped == 50 - stats.queued
