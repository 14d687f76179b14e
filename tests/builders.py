"""Messages built by hand, each with a time that a small number stands for."""

from __future__ import annotations

from typing import Any, Final

from coinapi_ws import Asset, Book, BookL3, ExchangeRate, Heartbeat, Level, LevelL3, Ohlcv, Quote, Trade, Undecodable
from coinapi_ws.timestamps import format_ns

BTC: Final = "COINBASE_SPOT_BTC_USD"
ADA: Final = "COINBASE_SPOT_ADA_USD"

_START_NS: Final = 1_700_000_000_000_000_000
_STEP_NS: Final = 100


def ns(moment: int) -> int:
    """The moment in nanoseconds since the epoch: moments are 100 ns apart, as finely as the API tells them."""
    return _START_NS + moment * _STEP_NS


def at(moment: int) -> str:
    """The moment as the wire has it."""
    return format_ns(ns(moment))


def trade(moment: int = 0, symbol_id: str = BTC, **fields: Any) -> Trade:
    return Trade(symbol_id=symbol_id, time_coinapi=at(moment), **{"price": float(moment), **fields})


def quote(moment: int = 0, symbol_id: str = BTC, **fields: Any) -> Quote:
    return Quote(symbol_id=symbol_id, time_coinapi=at(moment), **{"ask_price": float(moment), **fields})


def candle(moment: int, start: int, period_id: str = "1MIN", symbol_id: str = BTC) -> Ohlcv:
    return Ohlcv(
        symbol_id=symbol_id, period_id=period_id, time_period_start=at(start), time_coinapi=at(moment), price_close=1.0
    )


def rate(moment: int, base: str = "BTC", rate_type: str | None = None) -> ExchangeRate:
    return ExchangeRate(asset_id_base=base, asset_id_quote="USD", rate_type=rate_type, time=at(moment), rate=1.0)


def book5(moment: int, symbol_id: str = BTC) -> Book:
    return Book(type="book5", symbol_id=symbol_id, time_coinapi=at(moment), asks=[Level(float(moment), 1.0)])


def book(moment: int, *asks: tuple[Any, Any], bids: tuple[tuple[Any, Any], ...] = (), **fields: Any) -> Book:
    return Book(
        symbol_id=fields.pop("symbol_id", BTC),
        time_coinapi=at(moment),
        asks=[Level(*level) for level in asks],
        bids=[Level(*level) for level in bids],
        **fields,
    )


def book_l3(moment: int, *asks: tuple[Any, Any, Any, Any], **fields: Any) -> BookL3:
    """An L3 book of asks: (price, size, id, update_type)."""
    symbol_id = fields.pop("symbol_id", BTC)
    return BookL3(symbol_id=symbol_id, time_coinapi=at(moment), asks=[LevelL3(*level) for level in asks], **fields)


def asset(name: str = "BTC") -> Asset:
    return Asset(asset_id=name)


def heartbeat() -> Heartbeat:
    return Heartbeat()


def undecodable(moment: int = 0) -> Undecodable:
    return Undecodable(reason="no JSON", received_ns=ns(moment), payload="}")
