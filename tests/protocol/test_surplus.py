"""The filter behind a merge."""

from __future__ import annotations

import pytest

from coinapi_ws.messages import (
    Book,
    ErrorMessage,
    ExchangeRate,
    Heartbeat,
    Message,
    Ohlcv,
    Quote,
    Trade,
    UnknownMessage,
)
from coinapi_ws.protocol import surplus as surplus_module
from coinapi_ws.protocol.surplus import Surplus
from coinapi_ws.scope import Scope
from coinapi_ws.subscription import Subscription

A, B = "X_SPOT_A_USD", "X_SPOT_B_USD"
TRADES_A = Subscription(["trade"], symbol_ids=[f"{A}$"])
QUOTES_B = Subscription(["quote"], symbol_ids=[f"{B}$"])


def test_a_scope_of_one_that_never_changed_is_not_filtered() -> None:
    surplus = Surplus(Scope(TRADES_A))
    assert not surplus.drops(Quote(symbol_id=B))
    assert surplus.dropped == 0


@pytest.mark.parametrize(
    ("message", "dropped"),
    [
        (Trade(symbol_id=A), False),
        (Trade(symbol_id=B), True),
        (Quote(symbol_id=A), True),
        (Quote(symbol_id=B), False),
        (Trade(), False),
        (Book(symbol_id=A), True),
        (Heartbeat(), False),
        (ErrorMessage(message="x"), False),
        (UnknownMessage(type="news"), False),
    ],
)
def test_what_no_member_asked_for_is_dropped(message: Message, dropped: bool) -> None:
    surplus = Surplus(Scope(TRADES_A, QUOTES_B))
    assert [surplus.drops(message) for _ in range(2)] == [dropped] * 2
    assert surplus.dropped == 2 * dropped


@pytest.mark.parametrize("name", ["A-USD$", "a_usd_perp$"])
def test_ws_ds_may_have_been_asked_by_the_exchange_s_own_name(name: str) -> None:
    scope = Scope(Subscription(["trade"], symbol_ids=[name]), QUOTES_B)
    direct, market = Surplus(scope, "ds"), Surplus(scope)
    assert [surplus.drops(Trade(symbol_id=A)) for surplus in (direct, market)] == [False, True]
    assert [surplus.drops(Quote(symbol_id=A)) for surplus in (direct, market)] == [True, True]
    assert [surplus.drops(Quote(symbol_id=B)) for surplus in (direct, market)] == [False, False]


def test_ws_ds_drops_what_was_not_asked_for_by_any_name() -> None:
    surplus = Surplus(Scope(TRADES_A, QUOTES_B), "ds")
    assert surplus.drops(Trade(symbol_id=B))
    assert not surplus.drops(Trade(symbol_id=A))


def test_periods_and_pairs_are_told_apart() -> None:
    surplus = Surplus(
        Scope(
            Subscription(["ohlcv"], symbol_ids=[f"{A}$"], period_ids=["1MIN"]),
            Subscription(["ohlcv"], symbol_ids=[f"{B}$"], period_ids=["1HRS"]),
        )
    )
    assert not surplus.drops(Ohlcv(symbol_id=A, period_id="1MIN"))
    assert surplus.drops(Ohlcv(symbol_id=A, period_id="1HRS"))
    assert not surplus.drops(Ohlcv(symbol_id=A))

    rates = Surplus(Scope(Subscription(["exrate"], asset_ids=["BTC/USD"]), TRADES_A))
    assert not rates.drops(ExchangeRate(asset_id_base="BTC", asset_id_quote="USD"))
    assert rates.drops(ExchangeRate(asset_id_base="USD", asset_id_quote="BTC"))
    assert rates.drops(ExchangeRate(asset_id_base="BTC", asset_id_quote="EUR"))


def test_after_a_change_the_new_scope_counts() -> None:
    surplus = Surplus(Scope(TRADES_A))
    surplus.scope_changed(Scope(QUOTES_B))
    assert surplus.drops(Trade(symbol_id=A))
    surplus.scope_changed(Scope(TRADES_A, QUOTES_B))
    assert not surplus.drops(Trade(symbol_id=A))
    assert surplus.dropped == 1


def test_a_scope_of_one_is_filtered_once_it_changed() -> None:
    surplus = Surplus(Scope(TRADES_A, QUOTES_B))
    surplus.scope_changed(Scope(TRADES_A))
    assert surplus.drops(Quote(symbol_id=B))


def test_verdicts_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surplus_module, "_MAX_CACHED_VERDICTS", 10)
    surplus = Surplus(Scope(TRADES_A, QUOTES_B))
    for number in range(100):
        assert surplus.drops(Trade(symbol_id=f"X_{number}"))
        assert len(surplus._verdicts) <= 10
    assert not surplus.drops(Trade(symbol_id=A))
    assert surplus.dropped == 100
