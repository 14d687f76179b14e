"""Subscriptions: what is refused before it is sent, what is warned of, and what a value promises."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import warnings
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws.exceptions import ConfigurationError
from coinapi_ws.messages import Asset, Exchange, ExchangeRate, Heartbeat, Message, Ohlcv, Quote, Symbol, Trade
from coinapi_ws.scope import Scope
from coinapi_ws.subscription import KNOWN_DATA_TYPES, Subscription, SubscriptionWarning, _batches

BTC: Final = "COINBASE_SPOT_BTC_USD$"
ETH: Final = "COINBASE_SPOT_ETH_USD$"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        # An empty scope of types
        ({"data_types": [], "symbol_ids": [BTC]}, r"needs data types; write Subscription\(\[\"trade\"\]"),
        ({"data_types": []}, "needs data types; write"),
        # Books need a filter
        *(
            ({"data_types": [book]}, rf"^{book} needs a filter; add symbol_ids=")
            for book in ("book", "book5", "book20", "book50", "book_l3")
        ),
        ({"data_types": ["trade", "book", "book5"], "everything": True}, "^book, book5 needs a filter"),
        # exrate needs assets
        ({"data_types": ["exrate"]}, r'exrate needs an asset filter; add asset_ids=\["BTC/USD"\]'),
        ({"data_types": ["exrate"], "symbol_ids": [BTC]}, "exrate needs an asset filter"),
        ({"data_types": ["exrate"], "everything": True}, "exrate needs an asset filter"),
        # No filter is everything
        ({"data_types": ["trade"]}, "no filter means everything, billed by volume; add symbol_ids=.* everything=True"),
        ({"data_types": ["trade"], "symbol_ids": [], "asset_ids": ()}, "no filter means everything"),
        ({"data_types": ["ohlcv"], "period_ids": ["1MIN"]}, "no filter means everything"),
        ({"data_types": ["trade"], "symbol_ids": [BTC], "everything": True}, "contradict each other"),
        # Periods
        ({"data_types": ["trade"], "symbol_ids": [BTC], "period_ids": ["1MIN"]}, "period_ids narrow ohlcv alone"),
        ({"data_types": (), "asset_ids": ["BTC"], "period_ids": ["1MIN"]}, "period_ids narrow ohlcv alone"),
        # Lists
        ({"data_types": "trade", "symbol_ids": [BTC]}, r"data_types is a list; write data_types=\['trade'\]"),
        ({"data_types": ["trade"], "symbol_ids": BTC}, r"write symbol_ids=\['COINBASE_SPOT_BTC_USD\$'\]"),
        ({"data_types": ["trade"], "exchange_ids": b"A"}, r"write exchange_ids=\[b'A'\]"),
        ({"data_types": ["trade"], "symbol_ids": None}, "symbol_ids is a list of str, not NoneType"),
        ({"data_types": ["trade"], "asset_ids": [1]}, "asset_ids is a list of str; 1 is int"),
        ({"data_types": [Trade], "symbol_ids": [BTC]}, "data_types is a list of str; .* is (type|MessageType)"),
    ],
)
def test_what_is_wrong_is_said(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Subscription(**fields)


@pytest.mark.parametrize("name", ["data_types", "symbol_ids", "exchange_ids", "asset_ids", "period_ids"])
@pytest.mark.parametrize("text", ["", "$", " ", "A B", " A", "A\n", "A\tB", "\x00", "\u200b", "\u2028", "A\ud800"])
def test_texts_that_name_nothing(name: str, text: str) -> None:
    """An empty filter would mean everything."""
    fields: dict[str, Any] = {"data_types": ["ohlcv"], "symbol_ids": [BTC]}
    fields[name] = ["X$", text]
    with pytest.raises(ConfigurationError, match=f"{name} has .* in it, which names nothing"):
        Subscription(**fields)


LIMITS: Final = {
    "limit_ms_quote": {"quote"},
    "limit_ms_book_snapshot": {"book5", "book20", "book50"},
    "limit_ms_exrate": {"exrate"},
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("limit", [True, False, 0, -1, 1.5, "100"])
def test_limits_are_positive_ints(name: str, limit: object) -> None:
    types = sorted(LIMITS[name])
    with pytest.raises(ConfigurationError, match=f"{name} is a positive int of milliseconds, not {limit!r}"):
        Subscription(types, asset_ids=["BTC"], **{name: limit})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("data_type", [*(set(KNOWN_DATA_TYPES)), ""])
def test_a_limit_needs_its_type(name: str, data_type: str) -> None:
    """Without data types the Exchange Rates product sends exrate alone."""
    types = [data_type] if data_type else []
    fields: dict[str, Any] = {"asset_ids": ["BTC"], name: 100}
    if (data_type or "exrate") in LIMITS[name]:
        assert getattr(Subscription(types, **fields), name) == 100
    else:
        with pytest.raises(ConfigurationError, match=f"{name} needs one of these data types: .*{min(LIMITS[name])}"):
            Subscription(types, **fields)


# Warnings


def warned(*args: Any, **fields: Any) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Subscription(*args, **fields)
    return caught


@pytest.mark.parametrize(
    ("data_types", "symbol_ids", "messages"),
    [
        (["trade"], ["BINANCE"], ["matches by prefix.*write 'BINANCE\\$' .* or 'BINANCE_'"]),
        (["trade"], ["A", "B"], ["'A' matches by prefix", "'B' matches by prefix"]),
        (["trade"], ["BINANCE_", BTC], []),
        (
            ["trades"],
            [BTC],
            ["did you mean 'trade'\\? Known are book5, .*, connectivity_status"],
        ),
        (["volume"], [BTC], ["retired data type 'volume'"]),
        (["ticker"], [BTC], ["retired data type 'ticker'"]),
        (["volume", "trades"], ["A"], ["unknown", "retired", "prefix"]),
        (KNOWN_DATA_TYPES, [BTC], []),
    ],
)
def test_warnings(data_types: list[str], symbol_ids: list[str], messages: list[str]) -> None:
    caught = warned(data_types, symbol_ids=symbol_ids, asset_ids=["BTC"])
    assert len(caught) == len(messages)
    for warning, message in zip(caught, messages, strict=True):
        assert warning.category is SubscriptionWarning
        with pytest.raises(ConfigurationError, match=message):
            raise ConfigurationError(str(warning.message))


@pytest.mark.parametrize(
    "made", ["Subscription(['trades'], symbol_ids=['A$'])", "Subscription.for_symbols(['trades'], ['A'])"]
)
def test_a_warning_points_at_the_caller(made: str) -> None:
    source = f"import coinapi_ws\n\ndef subscribe():\n    coinapi_ws.{made}\n"
    program: dict[str, Any] = {"__name__": "program"}
    exec(compile(source, "program.py", "exec"), program)
    with pytest.warns(SubscriptionWarning, match="unknown") as caught:
        program["subscribe"]()
    assert [(warning.filename, warning.lineno) for warning in caught] == [("program.py", 4)]


# What a value promises


def test_fields_are_sorted_and_unique() -> None:
    subscription = Subscription(
        iter(["trade", "quote", "trade"]),
        symbol_ids={ETH: 1, BTC: 2},
        exchange_ids=("B", "A", "B"),
        asset_ids={"BTC/USD"},
    )
    assert subscription.data_types == ("quote", "trade")
    assert subscription.symbol_ids == (BTC, ETH)
    assert subscription.exchange_ids == ("A", "B")
    assert subscription.asset_ids == ("BTC/USD",)
    assert subscription.filters == {"symbol_ids", "exchange_ids", "asset_ids"}


def test_everything_is_a_choice() -> None:
    subscription = Subscription(["trade"], everything=1)  # type: ignore[arg-type]
    assert subscription.everything is True
    assert subscription.filters == frozenset()
    assert subscription.wire_fields() == {"subscribe_data_type": ["trade"]}


TYPES: Final = st.lists(st.sampled_from(["trade", "quote", "book5", "exrate", "ohlcv"]), min_size=1, max_size=5)


@given(TYPES, st.lists(st.sampled_from([BTC, ETH, "KRAKEN_"]), min_size=1, max_size=4), st.randoms())
def test_order_and_repetition_make_no_difference(types: list[str], symbols: list[str], random: Any) -> None:
    fields: dict[str, Any] = {"asset_ids": ["BTC", "ETH"]}
    first = Subscription(types, symbol_ids=symbols, **fields)
    types, symbols = types * 2, symbols * 2
    random.shuffle(types)
    random.shuffle(symbols)
    second = Subscription(types, symbol_ids=symbols, asset_ids=["ETH", "BTC", "ETH"])
    assert first == second
    assert hash(first) == hash(second)
    assert len({first, second}) == 1
    assert first.wire_fields() == second.wire_fields()


FULL: Final = Subscription(
    ["ohlcv", "quote", "book5", "exrate"],
    symbol_ids=[BTC],
    exchange_ids=["KRAKEN"],
    asset_ids=["BTC/USD"],
    period_ids=["1MIN", "1SEC"],
    limit_ms_quote=1,
    limit_ms_book_snapshot=2,
    limit_ms_exrate=3,
)


@pytest.mark.parametrize(
    "other",
    [
        {"data_types": ["ohlcv", "quote", "book5", "exrate", "trade"]},
        {"symbol_ids": [ETH]},
        {"exchange_ids": []},
        {"asset_ids": ["BTC"]},
        {"period_ids": []},
        {"limit_ms_quote": 9},
        {"limit_ms_book_snapshot": None},
        {"limit_ms_exrate": 9},
    ],
)
def test_every_field_counts(other: dict[str, Any]) -> None:
    assert dataclasses.replace(FULL, **other) != FULL
    assert dataclasses.replace(FULL) == FULL


def test_wire_fields() -> None:
    assert FULL.wire_fields() == {
        "subscribe_data_type": ["book5", "exrate", "ohlcv", "quote"],
        "subscribe_filter_symbol_id": [BTC],
        "subscribe_filter_asset_id": ["BTC/USD"],
        "subscribe_filter_period_id": ["1MIN", "1SEC"],
        "subscribe_filter_exchange_id": ["KRAKEN"],
        "subscribe_update_limit_ms_quote": 1,
        "subscribe_update_limit_ms_book_snapshot": 2,
        "subscribe_update_limit_ms_exrate": 3,
    }


def test_the_products_have_wire_fields_of_their_own() -> None:
    assert FULL.wire_fields("exrates") == {
        name: value for name, value in FULL.wire_fields().items() if name != "subscribe_data_type"
    }
    direct = Subscription(["trade"], symbol_ids=[BTC, "ETH-USD$"], asset_ids=["BTC"])
    assert direct.wire_fields("ds") == {
        "subscribe_data_type": ["trade"],
        "subscribe_filter_symbol_id": ["COINBASE_SPOT_BTC_USD", "ETH-USD"],
        "subscribe_filter_asset_id": ["BTC"],
    }
    assert Subscription(["trade"], asset_ids=["BTC"]).wire_fields("ds").keys() == {
        "subscribe_data_type",
        "subscribe_filter_asset_id",
    }


def test_all_rates_have_to_be_meant() -> None:
    with pytest.raises(ConfigurationError, match="needs data types"):
        Subscription(())
    assert Subscription((), everything=True).wire_fields("exrates") == {}


def test_what_is_not_set_is_left_out() -> None:
    assert Subscription((), asset_ids=["BTC"]).wire_fields() == {"subscribe_filter_asset_id": ["BTC"]}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_and_copy(protocol: int) -> None:
    twins = [pickle.loads(pickle.dumps(FULL, protocol)), copy.copy(FULL), copy.deepcopy(FULL)]
    assert twins == [FULL] * 3
    assert {hash(twin) for twin in twins} == {hash(FULL)}


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.symbol_ids = ()  # type: ignore[misc]
    assert FULL.symbol_ids == (BTC,)
    assert not hasattr(FULL, "__dict__")


def test_repr_can_be_read_back() -> None:
    assert eval(repr(FULL)) == FULL


# may_match: False only where it is certain


@pytest.mark.parametrize(
    ("fields", "message", "expected"),
    [
        ({"data_types": ["trade"], "symbol_ids": [BTC]}, Trade(symbol_id="COINBASE_SPOT_BTC_USD"), True),
        ({"data_types": ["trade"], "symbol_ids": [BTC]}, Trade(symbol_id="COINBASE_SPOT_BTC_USDC"), False),
        ({"data_types": ["trade"], "symbol_ids": [BTC]}, Quote(symbol_id="COINBASE_SPOT_BTC_USD"), False),
        ({"data_types": ["trade"], "symbol_ids": [BTC]}, Trade(), True),
        ({"data_types": ["trade"], "symbol_ids": ["COINBASE_"]}, Trade(symbol_id="COINBASE_SPOT_BTC_USD"), True),
        ({"data_types": ["trade"], "symbol_ids": ["COINBASE_"]}, Trade(symbol_id="COINBASEX_SPOT_BTC_USD"), False),
        ({"data_types": ["trade"], "exchange_ids": ["KRAKEN"]}, Trade(symbol_id="KRAKEN_SPOT_BTC_USD"), True),
        ({"data_types": ["trade"], "exchange_ids": ["KRAKEN"]}, Trade(symbol_id="KRAKENFTS_PERP_BTC_USD"), False),
        # AND or OR between kinds of filter is not documented: either will do
        (
            {"data_types": ["trade"], "exchange_ids": ["KRAKEN"], "symbol_ids": [BTC]},
            Trade(symbol_id="COINBASE_SPOT_BTC_USD"),
            True,
        ),
        (
            {"data_types": ["trade"], "exchange_ids": ["KRAKEN"], "symbol_ids": [BTC]},
            Trade(symbol_id="KRAKEN_SPOT_ETH_USD"),
            True,
        ),
        (
            {"data_types": ["trade"], "exchange_ids": ["KRAKEN"], "symbol_ids": [BTC]},
            Trade(symbol_id="BITSTAMP_SPOT_BTC_USD"),
            False,
        ),
        # No symbol tells of what assets it is
        ({"data_types": ["trade"], "asset_ids": ["BTC"]}, Trade(symbol_id="A_SPOT_ETH_USD"), True),
        (
            {"data_types": ["exrate"], "asset_ids": ["BTC"]},
            ExchangeRate(asset_id_base="BTC", asset_id_quote="USD"),
            True,
        ),
        (
            {"data_types": ["exrate"], "asset_ids": ["BTC"]},
            ExchangeRate(asset_id_base="USD", asset_id_quote="BTC"),
            True,
        ),
        (
            {"data_types": ["exrate"], "asset_ids": ["BTC"]},
            ExchangeRate(asset_id_base="ETH", asset_id_quote="USD"),
            False,
        ),
        (
            {"data_types": ["exrate"], "asset_ids": ["BTC/USD"]},
            ExchangeRate(asset_id_base="BTC", asset_id_quote="USD"),
            True,
        ),
        (
            {"data_types": ["exrate"], "asset_ids": ["BTC/USD"]},
            ExchangeRate(asset_id_base="BTC", asset_id_quote="EUR"),
            False,
        ),
        ({"data_types": (), "asset_ids": ["BTC"]}, ExchangeRate(asset_id_base="BTC", asset_id_quote="USD"), True),
        ({"data_types": (), "asset_ids": ["BTC"]}, ExchangeRate(asset_id_base="ETH", asset_id_quote="USD"), False),
        # Periods
        (
            {"data_types": ["ohlcv"], "symbol_ids": [BTC], "period_ids": ["1MIN"]},
            Ohlcv(symbol_id="COINBASE_SPOT_BTC_USD", period_id="1SEC"),
            False,
        ),
        (
            {"data_types": ["ohlcv"], "symbol_ids": [BTC], "period_ids": ["1MIN"]},
            Ohlcv(symbol_id="COINBASE_SPOT_BTC_USD", period_id="1MIN"),
            True,
        ),
        (
            {"data_types": ["ohlcv"], "symbol_ids": [BTC], "period_ids": ["1MIN"]},
            Ohlcv(symbol_id="COINBASE_SPOT_BTC_USD"),
            True,
        ),
        (
            {"data_types": ["ohlcv"], "symbol_ids": [BTC]},
            Ohlcv(symbol_id="COINBASE_SPOT_BTC_USD", period_id="5SEC"),
            True,
        ),
        # Metadata
        ({"data_types": ["asset"], "symbol_ids": [BTC]}, Asset(asset_id="BTC"), True),
        ({"data_types": ["exchange"], "symbol_ids": [BTC]}, Exchange(exchange_id="COINBASE"), True),
        ({"data_types": ["symbol"], "symbol_ids": [BTC]}, Symbol(symbol_id="COINBASE_SPOT_BTC_USD"), True),
        ({"data_types": ["symbol"], "symbol_ids": [BTC]}, Symbol(symbol_id="COINBASE_SPOT_ETH_USD"), False),
        # Everything
        ({"data_types": ["trade"], "everything": True}, Trade(symbol_id="A_SPOT_B_C"), True),
        ({"data_types": ["trade"], "everything": True}, Quote(symbol_id="A_SPOT_B_C"), False),
        ({"data_types": ["trade"], "everything": True}, Heartbeat(), False),
    ],
)
def test_may_match(fields: dict[str, Any], message: Message, expected: bool) -> None:
    assert Subscription(**fields).may_match(message) is expected


# For symbols that were listed


def test_for_symbols_asks_for_exactly_these() -> None:
    symbols = [Symbol(symbol_id="B_SPOT_X_Y"), "A_SPOT_X_Y", "A_SPOT_X_Y$", Symbol(symbol_id="C_SPOT_X_Y")]
    limits = {"limit_ms_quote": 100, "limit_ms_book_snapshot": 200}
    (wanted,) = Subscription.for_symbols(["quote", "book5", "ohlcv"], iter(symbols), period_ids=["1MIN"], **limits)
    ids = ["A_SPOT_X_Y$", "B_SPOT_X_Y$", "C_SPOT_X_Y$"]
    assert wanted == Subscription(["quote", "book5", "ohlcv"], symbol_ids=ids, period_ids=["1MIN"], **limits)


@pytest.mark.parametrize(
    ("symbols", "text"),
    [
        ([], "there is no symbol to subscribe to, and no filter would mean everything"),
        ("COINBASE_SPOT_BTC_USD", r"write \['COINBASE_SPOT_BTC_USD'\]"),
        (["COINBASE_SPOT_"], "a whole id such as"),
        ([Symbol()], "a Symbol that has an id"),
        ([""], "a whole id such as"),
        (["$"], "a whole id such as"),
        ([5], "a whole id such as"),
        (["A B"], "names nothing"),
    ],
)
def test_for_symbols_refuses(symbols: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Subscription.for_symbols(["trade"], symbols)


@given(st.lists(st.integers(1, 5000), unique=True, max_size=30, min_size=1), st.sampled_from(["X", "Ä", "💰"]))
def test_batches_fit_a_frame_and_lose_nothing(sizes: list[int], letter: str) -> None:
    symbol_ids = [f"{letter * size}_" + "$" for size in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coinapi_ws.subscription.MAX_BATCH_BYTES", 10_000)
        batches = list(_batches(symbol_ids))
    assert [symbol_id for batch in batches for symbol_id in batch] == symbol_ids
    for batch in batches:
        assert len(batch) == 1 or len(json.dumps(batch, separators=(",", ":"))) <= 10_000 + 1


def test_a_hundred_thousand_symbols_are_parted() -> None:
    symbol_ids = [f"EXCHANGE{number % 100}_SPOT_TOKEN{number}_USD" for number in range(100_000)]
    wanted = Subscription.for_symbols(["trade", "quote"], symbol_ids)
    assert sum(len(each.symbol_ids) for each in wanted) == 100_000
    for each in wanted:
        assert len(json.dumps({"type": "subscribe", **each.wire_fields()}, separators=(",", ":"))) < 65_536
    assert Scope(*wanted).merged().symbol_ids == tuple(sorted(f"{symbol_id}$" for symbol_id in symbol_ids))


@given(
    st.text("AB$_", max_size=5),
    st.lists(st.text("AB$_", min_size=1, max_size=4).filter(lambda text: text != "$"), max_size=6),
)
def test_a_symbol_is_found_among_many_filters_as_among_few(symbol: str, filters: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SubscriptionWarning)
        wanted = Subscription(["trade"], symbol_ids=filters, everything=not filters)
    one_by_one = any(symbol == text[:-1] if text.endswith("$") else symbol.startswith(text) for text in filters)
    assert wanted.may_match(Trade(symbol_id=symbol)) == (one_by_one or not filters)
