"""Scopes without some symbols: what can be taken out and put back, and what cannot."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws.messages import Book
from coinapi_ws.scope import Scope, frames_between
from coinapi_ws.subscription import Subscription, SubscriptionWarning

A, B, C = "X_SPOT_A_USD", "X_SPOT_B_USD", "X_SPOT_C_USD"


def sub(*symbols: str, types: tuple[str, ...] = ("book", "trade"), **filters: Any) -> Subscription:
    return Subscription(types, symbol_ids=symbols, **filters)


def test_a_symbol_is_taken_out_of_each_member() -> None:
    scope = Scope(sub(f"{A}$", f"{B}$"), sub(f"{A}$", f"{C}$", types=("quote",)))
    assert scope.without_symbols([A]) == Scope(sub(f"{B}$"), sub(f"{C}$", types=("quote",)))
    assert scope.without_symbols([A, C]) == Scope(sub(f"{B}$"))
    assert scope.without_symbols([]) is None


def test_a_member_keeps_all_but_its_symbols() -> None:
    member = sub(f"{A}$", f"{B}$", types=("book5", "ohlcv"), period_ids=["1MIN"], limit_ms_book_snapshot=5)
    [left] = Scope(member).without_symbols([A]) or ()
    assert left == sub(f"{B}$", types=("book5", "ohlcv"), period_ids=["1MIN"], limit_ms_book_snapshot=5)


def test_no_warning_is_given_again() -> None:
    with pytest.warns(SubscriptionWarning):
        scope = Scope(sub(f"{A}$", "KRAKEN"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scope.without_symbols([A]) is not None


@pytest.mark.parametrize(
    ("scope", "why"),
    [
        (Scope(sub(f"{A}$")), "nothing is left"),
        (Scope(sub("X_")), "a prefix asks for it"),
        (Scope(sub(f"{A}$", f"{B}$", "X_SPOT_")), "a prefix asks for it too"),
        (Scope(sub(f"{A}$", f"{B}$"), sub("X_", types=("trade",))), "another member asks for it"),
        (Scope(sub(f"{A}$", f"{B}$"), Subscription(["trade"], everything=True)), "everything is asked for"),
        (Scope(sub(f"{A}$", exchange_ids=["X"])), "its exchange asks for it"),
        (Scope(sub(f"{A}$", f"{B}$", exchange_ids=["Y"]), sub(f"{A}$", exchange_ids=["Y"])), "no symbol would be left"),
        (Scope(sub(f"{A}$", f"{B}$", asset_ids=["A/USD"])), "its assets may ask for it"),
        (Scope(), "nothing is asked for"),
    ],
)
def test_what_cannot_be_taken_out(scope: Scope, why: str) -> None:
    assert scope.without_symbols([A], wire="incremental") is None, why


def test_where_nothing_but_these_is_left() -> None:
    assert Scope(sub(f"{A}$", f"{B}$")).without_symbols([A, B]) is None


@pytest.mark.parametrize("wire", ["hello", "incremental"])
@pytest.mark.parametrize(("named", "by_prefix"), [("book", "trade"), ("trade", "book")])
def test_where_a_prefix_asks_for_another_type_of_it_not_all_of_it_would_begin_anew(
    wire: str, named: str, by_prefix: str
) -> None:
    scope = Scope(sub(f"{A}$", f"{B}$", types=(named,)), sub("X_", types=(by_prefix,)))
    assert scope.without_symbols([A], wire=wire) is None
    assert scope.most_that_can_leave([A, B], wire=wire) == set()


def test_what_is_of_no_symbol_goes_on() -> None:
    assets = Subscription(["asset", "exchange", "symbol"], everything=True)
    scope = Scope(sub(f"{A}$", f"{B}$"), assets)
    assert scope.without_symbols([A], wire="incremental") == Scope(sub(f"{B}$"), assets)


def test_a_symbol_that_nobody_named_cannot_be_left_out() -> None:
    scope = Scope(sub(f"{A}$", f"{B}$"))
    assert scope.without_symbols([A, C]) is None
    assert scope.most_that_can_leave([A, C]) == {A}


def test_where_one_has_to_stay_it_is_the_last() -> None:
    scope = Scope(sub(f"{A}$", f"{B}$", f"{C}$"))
    assert scope.most_that_can_leave([C, B, A, "X_SPOT_NONE"]) == {A, B}
    assert Scope(sub(f"{A}$")).most_that_can_leave([A]) == set()
    assert scope.most_that_can_leave([]) == set()


@given(st.sets(st.sampled_from([A, B, C]), min_size=1), st.sampled_from(["hello", "incremental"]))
def test_taken_out_nothing_asks_for_them_and_put_back_the_scope_is_the_same(out: set[str], wire: str) -> None:
    scope = Scope(sub(f"{A}$", f"{B}$"), sub(f"{B}$", f"{C}$", types=("quote",)), sub("Y_", types=("trade",)))
    left = scope.without_symbols(out, wire=wire)
    assert left is not None
    for symbol_id in (A, B, C):
        for data_type in ("book", "trade", "quote"):
            probe = Book(type=data_type, symbol_id=symbol_id)
            assert left.may_match(probe) is (scope.may_match(probe) and symbol_id not in out)
    assert frames_between(left, scope, wire=wire)
