"""A client that has the server begin anew: with some symbols, or with all by another connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from client_harness import BTC, HEARTBEAT, Heard, Life, eventually
from peers import Listener, ServerSide, serving, url_of
from wsproto.events import Message

from coinapi_ws import (
    Book,
    Cause,
    Client,
    ClientState,
    ConfigurationError,
    ConnectionGap,
    Disconnected,
    Live,
    Reconnecting,
    Scope,
    SequenceGap,
    SessionState,
    Subscription,
    UsageError,
)
from coinapi_ws.simulator import Simulator

LiveIt = Callable[..., Life]
MakeClient = Callable[..., Client]

ETH = "COINBASE_SPOT_ETH_USD"
BOOKS = Subscription(["book"], symbol_ids=[f"{BTC}$", f"{ETH}$"])
BOOKS_AND_TRADES = (BOOKS, Subscription(["trade"], symbol_ids=[f"{BTC}$"]))


def snapshots(heard: Heard, symbol_id: str) -> int:
    return sum(book.symbol_id == symbol_id and bool(book.is_snapshot) for book in heard.of(Book))


def test_a_book_comes_again_and_the_others_go_on(make_client: MakeClient) -> None:
    with Simulator(seed=7) as simulator:
        client = make_client(simulator.url, BOOKS)
        books, gaps = client.on(Book, Heard()), client.on(SequenceGap, Heard())
        with client:
            eventually(lambda: snapshots(books, BTC) and snapshots(books, ETH))
            assert client.resubscribe([BTC])
            eventually(lambda: snapshots(books, BTC) == 2)
            books.wait(Book, len(books) + 5)
        assert (snapshots(books, ETH), client.stats().reconnects) == (1, 0)
        assert gaps == []
        assert client.scope == Scope(BOOKS)
        assert len(simulator.received) == 3


@pytest.mark.parametrize("symbol_ids", [[BTC, ETH], ["KRAKEN_SPOT_BTC_USD"], [BTC, "KRAKEN_SPOT_BTC_USD"], []])
def test_what_cannot_be_taken_out_is_said_and_nothing_happens(make_client: MakeClient, symbol_ids: list[str]) -> None:
    with Simulator(seed=7) as simulator:
        client = make_client(simulator.url, BOOKS)
        with client:
            assert client.wait_live(10)
            assert not client.resubscribe(symbol_ids)
        simulator.settle()
        assert len(simulator.received) == 1


def test_before_the_start_it_means_nothing_and_after_the_end_it_is_wrong(make_client: MakeClient) -> None:
    with Simulator(seed=7) as simulator:
        client = make_client(simulator.url, BOOKS)
        assert client.resubscribe([BTC])
        client.reconnect()
        with client:
            assert client.wait_live(10)
        simulator.settle()
        assert (len(simulator.received), simulator.connections) == (1, 0)
        for call in (client.reconnect, lambda: client.resubscribe([BTC])):
            with pytest.raises(UsageError, match="closed"):
                call()


def test_reconnecting_is_as_after_a_cut(make_client: MakeClient) -> None:
    with Simulator(seed=7) as simulator:
        client = make_client(simulator.url, BOOKS)
        events = client.on("book", Heard())
        for kind in (Disconnected, Reconnecting, ConnectionGap, Live):
            client.on(kind, events)
        with client:
            eventually(lambda: snapshots(events, BTC))
            client.reconnect()
            events.wait(ConnectionGap)
            eventually(lambda: snapshots(events, BTC) == 2)
            assert client.state is ClientState.LIVE
        [first, _] = events.of(Disconnected)
        assert (first.cause, first.clean) == (Cause.LOCAL, True)
        assert [event.attempt for event in events.of(Reconnecting)] == [1]
        assert len(events.of(Live)) == 2


def test_an_end_that_was_asked_for_is_no_failed_attempt(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), max_attempts=1).start()
    for _ in range(3):
        server = life.live(listener)
        life.supervisor.reconnect()
        life.supervisor.reconnect()
        life.answer_close(server)
        assert life.state is ClientState.WAITING
        life.retry()


def test_without_a_live_connection_nothing_happens(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), scope=Scope(BOOKS)).start()
    life.open(listener)
    life.supervisor.reconnect()
    life.supervisor.resubscribe([BTC])
    assert [connection.state for connection in life.made] == [SessionState.OPEN]


def test_while_symbols_begin_anew_nobody_decodes_also_where_a_timer_has_waited_for_the_budget(
    live_it: LiveIt, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = live_it(url_of(listener), scope=Scope(BOOKS)).start()
    server = life.meet(listener)
    server.upgrade([(b"x-wshelloperiplimit-limit", b"2"), (b"x-wshelloperiplimit-windowsizems", b"5000")])
    server.text(HEARTBEAT)
    life.until(Live)
    reader = life.made[0]._session._reader
    begun_anew: list[bool] = []
    monkeypatch.setattr(reader, "scope_changed", lambda *_: begun_anew.append(life.supervisor._decoding.locked()))
    life.supervisor.resubscribe([BTC])
    assert begun_anew == []
    life.advance(life.due_in())
    life.supervisor.set_scope(Scope(*BOOKS_AND_TRADES))
    assert begun_anew == [True, True]


def test_a_call_in_a_callback_is_as_good_as_any_other(make_client: MakeClient) -> None:
    hellos: list[str] = []

    def handle(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        server.text('{"type":"hearbeat"}')
        while len(hellos) < 2:
            event = server.event()
            assert isinstance(event, Message)
            hellos.append(event.data)
        server.send(server.until_closed().response())

    for dispatch in ("thread", "inline"):
        hellos.clear()
        with serving(handle) as url:
            client = make_client(url, BOOKS, dispatch=dispatch)
            client.on(Live, lambda _, client=client: client.resubscribe([ETH]))  # type: ignore[misc]
            with client:
                eventually(lambda: len(hellos) == 2)
        assert [ETH in hello for hello in hellos] == [False, True]


def test_symbols_are_a_list_of_ids() -> None:
    client = Client(None, BOOKS, endpoint="ws://127.0.0.1:1/")
    with pytest.raises(ConfigurationError, match=r"write \['COINBASE_SPOT_BTC_USD'\]"):
        client.resubscribe("COINBASE_SPOT_BTC_USD")
