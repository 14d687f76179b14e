"""Trades come once, markers are told, and memory is bounded."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from coinapi_ws import Trade
from coinapi_ws.books import CheckedTrade, Trades
from coinapi_ws.exceptions import ConfigurationError


def trade(uuid: str | None, size: Any = 1.0) -> Trade:
    return Trade(symbol_id="X", uuid=uuid, price=2.0, size=size)


def test_a_trade_comes_once() -> None:
    trades = Trades()
    assert trades.feed(trade("a")) == CheckedTrade(trade=trade("a"), is_marker=False)
    assert trades.feed(trade("b")) is not None
    assert trades.feed(trade("a")) is None
    assert (trades.repeated, trades.markers) == (1, 0)


@pytest.mark.parametrize("size", [0.0, Decimal("0.000")])
def test_size_zero_is_a_marker(size: Any) -> None:
    trades = Trades()
    checked = trades.feed(trade("a", size))
    assert checked is not None
    assert checked.is_marker
    assert trades.markers == 1


def test_an_unknown_size_is_no_marker() -> None:
    checked = Trades().feed(trade("a", None))
    assert checked is not None
    assert not checked.is_marker


def test_without_a_uuid_nothing_is_dropped() -> None:
    trades = Trades()
    assert None not in [trades.feed(trade(None)) for _ in range(3)]


def test_only_the_newest_uuids_are_remembered() -> None:
    trades = Trades(remembered=2)
    assert [trades.feed(trade(uuid)) is None for uuid in "abab"] == [False, False, True, True]
    assert [trades.feed(trade(uuid)) is None for uuid in "cbab"] == [False, True, False, False]
    for number in range(1000):
        trades.feed(trade(str(number)))
    assert len(trades._uuids) == len(trades._order) == 2


def test_it_can_be_switched_off() -> None:
    trades = Trades(remembered=0)
    assert None not in [trades.feed(trade("a")) for _ in range(3)]
    assert trades.repeated == 0


def test_a_wrong_number_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="0 for none"):
        Trades(remembered=-1)
