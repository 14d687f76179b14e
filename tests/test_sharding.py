"""Shards: disjoint, whole, the same everywhere, and stable when one is added."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws import ConfigurationError, Scope, Subscription
from coinapi_ws.sharding import shard_of

IDS = st.from_regex(r"[A-Z]{2,5}_SPOT_[A-Z]{3}_USD", fullmatch=True)
COUNTS = st.integers(1, 12)


@st.composite
def exact_subscriptions(draw: st.DrawFn) -> Subscription:
    types = draw(st.sets(st.sampled_from(["trade", "quote", "book", "ohlcv"]), min_size=1))
    periods = draw(st.sets(st.sampled_from(["1MIN", "1HRS"]))) if "ohlcv" in types else set()
    limit = draw(st.none() | st.integers(1, 1000)) if "quote" in types else None
    symbols = {f"{symbol_id}$" for symbol_id in draw(st.sets(IDS, min_size=1, max_size=12))}
    return Subscription(types, symbol_ids=symbols, period_ids=periods, limit_ms_quote=limit)


def asked(scope: Scope) -> set[tuple[object, ...]]:
    """All single things that a scope asks for."""
    return {
        (name, symbol_id, member.period_ids, member.limit_ms_quote)
        for member in scope
        for name in member.data_types
        for symbol_id in member.symbol_ids
    }


@given(st.lists(exact_subscriptions(), min_size=1, max_size=4), COUNTS)
def test_shards_are_disjoint_and_together_the_whole(members: list[Subscription], count: int) -> None:
    scope = Scope(*members)
    shards = scope.shards(count)
    assert len(shards) == count
    assert set().union(*map(asked, shards)) == asked(scope)
    symbols = [symbol_id for shard in shards for symbol_id in {name for member in shard for name in member.symbol_ids}]
    assert len(symbols) == len(set(symbols))


@given(exact_subscriptions(), COUNTS)
def test_one_more_shard_takes_symbols_and_moves_no_other(member: Subscription, count: int) -> None:
    before, after = Scope(member).shards(count), Scope(member).shards(count + 1)
    for old, new in zip(before, after, strict=False):
        assert asked(new) <= asked(old)


def test_one_more_shard_takes_its_even_share() -> None:
    names = [f"EXCHANGE_SPOT_{number}_USD" for number in range(20_000)]
    for count in (1, 2, 8):
        moved = sum(shard_of(name, count) != shard_of(name, count + 1) for name in names)
        assert moved / len(names) == pytest.approx(1 / (count + 1), rel=0.05)
        sizes = Counter(shard_of(name, count + 1) for name in names)
        assert max(sizes.values()) < 1.1 * min(sizes.values())


def test_each_shard_has_the_symbols_that_hash_to_it_about_as_many_as_the_others() -> None:
    symbol_ids = [f"KRAKEN_SPOT_A{n}_USD" for n in range(1000)]
    shards = Scope(Subscription(["trade"], symbol_ids=[f"{symbol_id}$" for symbol_id in symbol_ids])).shards(8)
    found = [{name for member in shard for name in member.symbol_ids} for shard in shards]
    assert found == [{f"{name}$" for name in symbol_ids if shard_of(name, 8) == number} for number in range(8)]
    assert all(90 < len(names) < 160 for names in found)


def test_a_shard_is_the_same_in_each_process_and_version() -> None:
    names = ["COINBASE_SPOT_BTC_USD", "KRAKEN_SPOT_ETH_USD", "BITSTAMP_SPOT_BTC_USD", "é", ""]
    program = f"from coinapi_ws.sharding import shard_of; print([shard_of(name, 8) for name in {names!r}])"
    for seed in ("1", "2"):
        command = [sys.executable, "-c", program]
        run = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == "[0, 2, 4, 2, 5]"


def test_a_shard_without_a_symbol_is_false() -> None:
    shards = Scope(Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])).shards(3)
    assert sorted(map(bool, shards)) == [False, False, True]
    assert all(not shard for shard in Scope().shards(2))


@pytest.mark.parametrize(
    "member",
    [
        Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$", "KRAKEN_"]),
        Subscription(["trade"], exchange_ids=["COINBASE"]),
        Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"], exchange_ids=["COINBASE"]),
        Subscription(["exrate"], asset_ids=["BTC"]),
        Subscription(["trade"], everything=True),
    ],
)
def test_what_names_no_exact_symbols_cannot_be_split(member: Subscription) -> None:
    with pytest.raises(ConfigurationError, match="only exact symbols"):
        Scope(Subscription(["quote"], symbol_ids=["KRAKEN_SPOT_BTC_USD$"]), member).shards(2)


@pytest.mark.parametrize("count", [0, -1, True, 2.0])
def test_the_count_is_a_positive_int(count: int) -> None:
    with pytest.raises(ConfigurationError, match="1 or more"):
        Scope().shards(count)
