"""The client with the other products: WS DS and Exchange Rates, each simulated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_harness import Heard, eventually

from coinapi_ws import (
    Backoff,
    Client,
    ClientState,
    ConfigurationError,
    ConnectionGap,
    Dropped,
    ErrorMessage,
    ExchangeRate,
    Gap,
    Quiet,
    ServerRejected,
    Subscription,
    Trade,
    connect,
)
from coinapi_ws.books import BookKeeper, BookLive, BookStale, BookState
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator, VirtualClock

SOON = Backoff(initial=0.01)
BTC, ETH, ADA = (f"COINBASE_SPOT_{asset}_USD" for asset in ("BTC", "ETH", "ADA"))

MakeClient = Callable[..., Client]


@pytest.fixture
def virtual() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def direct(virtual: VirtualClock) -> Iterator[Simulator]:
    with Simulator(seed=1, clock=virtual, direct_source="COINBASE") as simulator:
        yield simulator


@pytest.fixture
def rates(virtual: VirtualClock) -> Iterator[Simulator]:
    with Simulator(seed=1, clock=virtual, exchange_rates=True) as simulator:
        yield simulator


@pytest.fixture
def make_client(canary_key: str) -> Iterator[MakeClient]:
    clients: list[Client] = []

    def make(endpoint: str, *subscriptions: Subscription, **options: Any) -> Client:
        options = {"pacer": SharedPacer(), "endpoint": endpoint, **options}
        clients.append(Client(canary_key, *subscriptions, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def requests(simulator: Simulator) -> list[dict[str, Any]]:
    simulator.settle()
    return [json.loads(text) for text in simulator.received]


# WS DS


def test_books_of_ws_ds_are_kept_and_come_back(
    make_client: MakeClient, direct: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(direct.url, Subscription(["book"], symbol_ids=[f"{BTC}$", f"{ETH}$"]))
    keeper = BookKeeper(client)
    told = keeper.on(BookLive, keeper.on(BookStale, Heard()))
    client.start()
    told.wait(BookLive, 2)
    direct.faults.skip_sequence(types=["book"], symbol_ids=[BTC])
    eventually(lambda: virtual.advance(1) or told.of(BookStale))
    eventually(lambda: virtual.advance(1) or len(told.of(BookLive)) == 3)
    assert [(event.symbol_id, event.type) for event in told.of(BookStale)] == [(BTC, "book")]
    assert keeper.states() == {("book", BTC): BookState.LIVE, ("book", ETH): BookState.LIVE}
    assert [hello["subscribe_filter_symbol_id"] for hello in requests(direct)] == [[BTC, ETH], [ETH], [BTC, ETH]]
    assert client.stats().reconnects == 0


def test_books_by_the_exchange_s_own_names_are_kept_and_come_back_by_reconnecting(
    make_client: MakeClient, direct: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(direct.url, Subscription(["book"], symbol_ids=[f"{BTC}$", "ETH-USD$"]), backoff=SOON)
    keeper = BookKeeper(client)
    told = keeper.on(BookLive, keeper.on(BookStale, Heard()))
    client.start()
    told.wait(BookLive, 2)
    direct.faults.skip_sequence(types=["book"], symbol_ids=[ETH])
    eventually(lambda: virtual.advance(1) or told.of(BookStale))
    eventually(lambda: virtual.advance(1) or len(told.of(BookLive)) == 4)
    assert keeper.states() == {("book", BTC): BookState.LIVE, ("book", ETH): BookState.LIVE}
    assert client.stats().reconnects == 1
    client.replace(Subscription(["book"], symbol_ids=["ETH-USD$", "ADA-USD$"]))
    eventually(lambda: virtual.advance(1) or keeper.states().get(("book", ADA)) is BookState.LIVE)
    states = keeper.states()
    assert states["book", ETH] is BookState.LIVE
    assert states.get(("book", BTC)) is not BookState.LIVE  # but late messages may have begun it anew
    client.replace(Subscription(["book"], symbol_ids=["ADA-USD$"]))  # which of them left is not known
    eventually(lambda: virtual.advance(1) or keeper.states().get(("book", ETH)) is not BookState.LIVE)


def test_an_unknown_symbol_ends_nothing(make_client: MakeClient, direct: Simulator, virtual: VirtualClock) -> None:
    client = make_client(direct.url, Subscription(["trade"], symbol_ids=[f"{BTC}$", "KRAKEN_SPOT_BTC_USD$"]))
    heard = client.on(ErrorMessage, client.on(Trade, Heard()))
    client.start()
    error = heard.wait(ErrorMessage)
    assert error.message == "Symbol 'KRAKEN_SPOT_BTC_USD' is unknown"
    eventually(lambda: virtual.advance(1) or heard.of(Trade))
    assert (client.state, client.stats().disconnects) == (ClientState.LIVE, {})


def test_symbols_by_the_exchange_s_own_names_are_no_surplus(
    make_client: MakeClient, direct: Simulator, virtual: VirtualClock
) -> None:
    """Also after a change of the scope, from when on what nobody asked for is left out."""
    client = make_client(direct.url, Subscription(["trade"], symbol_ids=["BTC-USD$"]))
    heard = client.on(Trade, Heard())
    client.start()
    eventually(lambda: virtual.advance(1) or heard.of(Trade))
    client.subscribe(Subscription(["trade"], symbol_ids=[f"{ADA}$"]))
    eventually(lambda: len(requests(direct)) == 2)
    heard.clear()
    eventually(lambda: virtual.advance(1) or {trade.symbol_id for trade in heard.copy()} == {BTC, ADA})
    assert client.stats().surplus == 0


def test_what_ws_ds_cannot_serve_is_said_before_it_is_sent(make_client: MakeClient, direct: Simulator) -> None:
    prefix = Subscription(["trade"], symbol_ids=["COINBASE_"])
    exchange = Subscription(["trade"], exchange_ids=["COINBASE"])
    for wrong in (prefix, exchange):
        with pytest.raises(ConfigurationError, match="WS DS takes"):
            make_client(direct.url, wrong)
    client = make_client(direct.url, Subscription(["trade"], symbol_ids=[f"{BTC}$"]))
    client.start()
    for change in (client.subscribe, client.replace):
        with pytest.raises(ConfigurationError, match="is a prefix"):
            change(prefix)
    assert len(requests(direct)) <= 1


def test_what_ws_ds_does_not_have_is_the_server_s_to_say(direct: Simulator, canary_key: str) -> None:
    wanted = Subscription(["exrate"], asset_ids=["BTC/USD"])
    with (
        connect(canary_key, wanted, endpoint=direct.url, pacer=SharedPacer()) as stream,
        pytest.raises(ServerRejected, match="Subscribed data type 'exrate' is invalid"),
    ):
        list(stream)


# Exchange Rates


@pytest.mark.parametrize("data_types", [(), ("exrate",)])
def test_rates_come_by_asset_and_the_scope_may_change(
    make_client: MakeClient, rates: Simulator, virtual: VirtualClock, data_types: tuple[str, ...]
) -> None:
    btc, eth = (Subscription(data_types, asset_ids=[f"{asset}/USD"]) for asset in ("BTC", "ETH"))
    client = make_client(rates.endpoint, btc)
    heard = client.on(ExchangeRate, Heard())
    client.start()
    eventually(lambda: virtual.advance(1) or heard.copy())
    assert {rate.asset_id_base for rate in heard.copy()} == {"BTC"}
    client.subscribe(eth)
    eventually(lambda: len(requests(rates)) == 2)
    eventually(lambda: virtual.advance(1) or {rate.asset_id_base for rate in heard.copy()} == {"BTC", "ETH"})
    client.replace(eth)
    eventually(lambda: len(requests(rates)) == 3)

    def only_eth_comes() -> bool:
        heard.clear()
        virtual.advance(1)
        eventually(lambda: len(heard) >= 10)
        return {rate.asset_id_base for rate in heard.copy()} == {"ETH"}

    eventually(only_eth_comes)  # after what was on its way
    assert [sorted(hello) for hello in requests(rates)] == [["heartbeat", "subscribe_filter_asset_id", "type"]] * 3


def test_all_rates_where_that_is_meant(rates: Simulator, virtual: VirtualClock, canary_key: str) -> None:
    wanted = Subscription((), everything=True, limit_ms_exrate=1000)
    with connect(canary_key, wanted, endpoint=rates.endpoint, heartbeats=False, pacer=SharedPacer()) as stream:
        rates.settle()
        virtual.advance(2)
        items = [stream.recv(timeout=10) for _ in range(4)]
    assert all(isinstance(item, ExchangeRate) for item in items)
    assert requests(rates) == [{"type": "hello", "heartbeat": True, "subscribe_update_limit_ms_exrate": 1000}]


def test_members_are_subscribed_one_by_one(make_client: MakeClient, rates: Simulator, virtual: VirtualClock) -> None:
    members = [Subscription((), asset_ids=[f"{asset}/USD"]) for asset in ("ADA", "BTC", "ETH")]
    client = make_client(rates.endpoint, *members, wire="incremental")
    heard = client.on(ExchangeRate, Heard())
    client.start()
    eventually(lambda: virtual.advance(1) or len({rate.asset_id_base for rate in heard.copy()}) == 3)
    assert [request["type"] for request in requests(rates)] == ["hello", "subscribe", "subscribe"]
    assert not any("subscribe_data_type" in request for request in requests(rates))


def test_rates_come_again_after_a_cut(make_client: MakeClient, rates: Simulator, virtual: VirtualClock) -> None:
    client = make_client(rates.endpoint, Subscription((), asset_ids=["BTC/USD"]))
    heard = client.on(ExchangeRate, client.on(Gap, Heard()))
    client.start()
    eventually(lambda: virtual.advance(1) or heard.of(ExchangeRate))
    rates.faults.drop(reset=True)
    eventually(lambda: virtual.advance(1) or heard.of(ConnectionGap))
    assert client.stats().disconnects == {"network": 1}


def test_the_newest_rate_of_each_pair_is_kept(make_client: MakeClient, rates: Simulator, virtual: VirtualClock) -> None:
    client = make_client(
        rates.endpoint, Subscription((), asset_ids=["USD"]), when_full="conflate", max_queued_messages=10
    )
    client.start()
    eventually(lambda: virtual.advance(5) or client.stats().conflated > 20)
    client.close()
    items = list(client)
    left = [item for item in items if isinstance(item, ExchangeRate)]
    assert {rate.asset_id_base for rate in left} == {"BTC", "ETH", "ADA"}
    assert len(left) <= 10
    stats = client.stats()
    assert len(left) + stats.conflated + stats.dropped == stats.messages["exrate"]
    assert sum(item.count for item in items if isinstance(item, Dropped)) == stats.conflated + stats.dropped


def test_no_rates_for_long_are_told(make_client: MakeClient, rates: Simulator) -> None:
    client = make_client(rates.endpoint, Subscription((), asset_ids=["NOTHING"]), quiet_after=0.05)
    heard = client.on(Quiet, Heard())
    client.start()
    eventually(lambda: rates.faults.send_text('{"type":"hearbeat"}'))
    quiet = heard.wait(Quiet)
    assert quiet.type == "exrate"


def test_what_exchange_rates_cannot_serve_is_said_before_it_is_sent(make_client: MakeClient, rates: Simulator) -> None:
    wrong = [
        Subscription(["trade"], symbol_ids=[f"{BTC}$"]),
        Subscription(["exrate", "trade"], asset_ids=["BTC"]),
        Subscription(["exrate"], asset_ids=["BTC"], exchange_ids=["COINBASE"]),
    ]
    for subscription in wrong:
        with pytest.raises(ConfigurationError, match="the Exchange Rates endpoint"):
            make_client(rates.endpoint, subscription)
    assert requests(rates) == []
