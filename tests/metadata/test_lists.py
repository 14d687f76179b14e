"""Exchanges, assets and symbols of the simulator's market, and what they are for."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from coinapi_ws import (
    Asset,
    AuthenticationError,
    Client,
    ConfigurationError,
    Exchange,
    PermissionDenied,
    RateLimited,
    Subscription,
    Symbol,
    Trade,
    connect,
    endpoint_from,
    metadata,
)
from coinapi_ws.simulator import Simulator


@pytest.fixture
def market(canary_key: str) -> Iterator[Simulator]:
    with Simulator(api_keys={canary_key: None, "a-key-without-rights": []}) as simulator:
        yield simulator


@pytest.fixture
def client(market: Simulator, canary_key: str) -> metadata.Client:
    return metadata.Client(canary_key, endpoint=market.rest_url)


def ids(symbols: Iterator[Symbol]) -> list[str | None]:
    return [symbol.symbol_id for symbol in symbols]


def test_the_lists_have_the_messages_of_the_stream(client: metadata.Client, market: Simulator, canary_key: str) -> None:
    found: dict[Any, Any] = {message.exchange_id: message for message in client.exchanges()}
    found |= {message.asset_id: message for message in client.assets()}
    found |= {message.symbol_id: message for message in client.symbols()}
    assert {type(message) for message in found.values()} == {Exchange, Asset, Symbol}
    wanted = Subscription(["exchange", "asset", "symbol"], everything=True)
    with connect(canary_key, wanted, endpoint=market.url, heartbeats=False) as stream:
        streamed: list[Any] = [stream.recv(timeout=10) for _ in found]
    for message in streamed:
        listed = found.pop(next(getattr(message, f"{message.type}_id") for _ in "1"))
        assert (type(listed), listed.type) == (type(message), message.type)
        same = set(message.kinds) - {name for name in message.kinds if name.startswith("data_")} - {"sequence"}
        assert {name: getattr(listed, name) for name in same} == {name: getattr(message, name) for name in same}
        assert listed.extra == {}
    assert not found


def test_filters(client: metadata.Client) -> None:
    assert ids(client.symbols("BITSTAMP")) == ["BITSTAMP_SPOT_BTC_USD", "BITSTAMP_SPOT_ETH_USD"]
    assert ids(client.symbols("BITSTAMP", asset_ids=["BTC"])) == ["BITSTAMP_SPOT_BTC_USD"]
    assert ids(client.symbols(symbol_ids=["BITSTAMP_SPOT_E", "_PERP_B"])) == [
        "BITSTAMP_SPOT_ETH_USD",
        "BINANCEFTS_PERP_BTC_USDT",
    ]
    assert len(ids(client.symbols(exchange_ids=["BITSTAMP", "KRAKEN"], asset_ids=["BTC", "ADA"]))) == 3
    assert ids(client.symbols("NO_SUCH/EXCHANGE")) == []
    assert [asset.asset_id for asset in client.assets(asset_ids=["USD", "BTC"])] == ["BTC", "USD"]
    assert [exchange.name for exchange in client.exchanges(exchange_ids=["KRAKEN"])] == ["Kraken"]


def test_numbers_and_raw(market: Simulator, canary_key: str) -> None:
    exact = metadata.Client(canary_key, endpoint=market.rest_url, numbers="decimal", keep_raw=True)
    (kraken,) = exact.symbols(symbol_ids=["KRAKEN_SPOT_ADA_USD"])
    assert kraken.price_precision == Decimal("0.000001")
    assert str(kraken.raw).startswith('{"symbol_id":"KRAKEN_SPOT_ADA_USD",')
    assert kraken.received_ns > 1_600_000_000_000_000_000
    assert type(next(metadata.Client(canary_key, endpoint=market.rest_url).assets()).price_usd) is float


def test_symbols_feed_a_subscription(client: metadata.Client, market: Simulator, canary_key: str) -> None:
    market.set_activity(20)
    wanted = Subscription.for_symbols(["trade"], client.symbols("COINBASE", asset_ids=["USD"]))
    missing = {"COINBASE_SPOT_BTC_USD", "COINBASE_SPOT_ETH_USD", "COINBASE_SPOT_ADA_USD"}
    with connect(canary_key, *wanted, endpoint=market.url, heartbeats=False) as stream:
        while missing:
            trade = stream.recv(timeout=10)
            assert isinstance(trade, Trade)
            missing.discard(str(trade.symbol_id))


def test_many_symbols_go_out_in_frames_of_one_client(market: Simulator, canary_key: str) -> None:
    many = [f"EXCHANGE_SPOT_TOKEN{number}_USD" for number in range(5_000)]
    wanted = Subscription.for_symbols(["trade"], [*many, "COINBASE_SPOT_BTC_USD"])
    assert len(wanted) > 2
    market.set_activity(50)
    with Client(canary_key, *wanted, endpoint=market.url, wire="incremental") as client:
        item = client.recv(timeout=10)
        while not isinstance(item, Trade):
            item = client.recv(timeout=10)
    assert len(market.received) == len(wanted)
    assert max(map(len, market.received)) < 65_536


def test_a_refused_key(market: Simulator, canary_key: str) -> None:
    with pytest.raises(AuthenticationError, match="status 401; the server said: 'Invalid API key'") as wrong:
        next(metadata.Client(f"{canary_key}-wrong", endpoint=market.rest_url).assets())
    assert (wrong.value.stage, wrong.value.status, wrong.value.server_text) == ("rest", 401, "Invalid API key")
    with pytest.raises(AuthenticationError):
        next(metadata.Client(None, endpoint=market.rest_url).assets())
    with pytest.raises(PermissionDenied, match="status 403"):
        next(metadata.Client("a-key-without-rights", endpoint=market.rest_url).assets())


def test_the_key_of_the_environment(market: Simulator, canary_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINAPI_API_KEY", canary_key)
    assert next(metadata.Client(None, endpoint=market.rest_url).assets()).asset_id == "BTC"


def test_limits() -> None:
    with Simulator(rest_limit=(2, 3600.0)) as market:
        client = metadata.Client(None, endpoint=market.rest_url)
        assert client.limits == ()
        for remaining in ("1", "0"):
            next(client.exchanges())
            assert dict(client.limits)["x-ratelimit-remaining"] == remaining
        with pytest.raises(RateLimited, match=r"retry after 3.* s; x-ratelimit-limit: 2") as caught:
            next(client.exchanges())
        assert 3000 < (caught.value.retry_after or 0) <= 3600
        assert dict(client.limits)["x-ratelimit-limit"] == "2"
        assert caught.value.disconnected is not None
        assert caught.value.disconnected.limits == client.limits


def test_over_tls() -> None:
    with Simulator(tls=True) as market:
        client = metadata.Client(None, endpoint=market.rest_url, ssl=market.client_context)
        assert market.rest_url.startswith("https://localhost:")
        assert len(list(client.symbols())) == 10


def test_nothing_is_asked_before_the_first_object_is(client: metadata.Client) -> None:
    client.symbols()
    assert client.limits == ()
    with pytest.raises(ConfigurationError):
        client.symbols(symbol_ids="COINBASE_SPOT_BTC_USD")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"symbol_ids": "BTC"}, "symbol_ids is a list of str, not one str"),
        ({"symbol_ids": None}, "symbol_ids is a list of str, not one NoneType"),
        ({"asset_ids": [b"BTC"]}, "asset_ids takes ids as str, not bytes"),
        ({"asset_ids": ["BTC,ETH"]}, "no blank, comma or semicolon"),
        ({"asset_ids": [""]}, "not empty"),
        ({"exchange_id": ""}, "exchange_id takes ids that are not empty"),
        ({"exchange_id": "A\r\nB"}, "exchange_id takes ids that are not empty"),
    ],
)
def test_wrong_filters(client: metadata.Client, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        client.symbols(**arguments)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, r"rest\.coinapi\.io needs an API key"),
        ({"endpoint": "wss://ws.coinapi.io/v1/"}, "must begin with https:// or http://"),
        ({"endpoint": "https://localhost/?a=b"}, "has a query in it"),
        ({"endpoint": 5}, "is an https:// or http:// URL"),
        ({"endpoint": endpoint_from("geo")}, "is an https:// or http:// URL"),
        ({"endpoint": "https://localhost", "timeout": 0}, "timeout is a positive number"),
        ({"endpoint": "https://localhost", "timeout": None}, "timeout is a positive number"),
        ({"endpoint": "https://localhost", "max_bytes": True}, "max_bytes is a positive number"),
        ({"endpoint": "https://localhost", "numbers": "int"}, 'write "float" or "decimal"'),
        ({"api_key": "a-key", "endpoint": "http://rest.coinapi.io"}, "unencrypted; use https://, or pass allow_plain"),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        metadata.Client(**{"api_key": None, **options})


def test_repr_says_where_it_asks(canary_key: str) -> None:
    client = metadata.Client(canary_key, endpoint="https://rest.example/prefix")
    assert repr(client) == "<metadata.Client of https://rest.example/prefix>"
    assert repr(object.__new__(metadata.Client)) == "<metadata.Client half made>"
