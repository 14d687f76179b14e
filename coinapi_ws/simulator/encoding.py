"""Values of the market → JSON text, in the order of fields that captured frames have, ``type`` last.

A body is everything up to the fields that differ from client to client; `seal` adds those.
"""

from __future__ import annotations

from collections.abc import Iterable

from .candles import Candle
from .instruments import INSTRUMENTS, Asset, Exchange, Instrument
from .orderbook import OrderChange, Side
from .streams import Stream
from .venue import Trade, Venue
from .wire import decimal_text, time_text, uuid_text


def seal(body: str, stream: Stream, sequence: int | None) -> str:
    """Return the whole text of a frame; the sequence is None for the types that have none."""
    if sequence is None:
        return f'{body},"type":"{stream.type}"}}'
    return f'{body},"symbol_id":"{stream.symbol_id}","sequence":{sequence},"type":"{stream.type}"}}'


def trade_body(venue: Venue, trade: Trade, now_ns: int, uuid_base: int) -> str:
    """Return the body of a trade."""
    instrument = venue.instrument
    return (
        f'{_times(venue, now_ns)},"uuid":"{uuid_text(uuid_base, trade.counter)}"'
        f',"price":{_price(instrument, trade.price)},"size":{_size(instrument, trade.size)}'
        f',"taker_side":"{"BUY" if trade.is_buy else "SELL"}"'
    )


def quote_body(venue: Venue, now_ns: int) -> str:
    """Return the body of a quote, which is the best of the book."""
    instrument = venue.instrument
    ask, ask_size, bid, bid_size = venue.quote()
    return (
        f"{_times(venue, now_ns)}"
        f',"ask_price":{_price(instrument, ask)},"ask_size":{_size(instrument, ask_size)}'
        f',"bid_price":{_price(instrument, bid)},"bid_size":{_size(instrument, bid_size)}'
    )


def top_body(venue: Venue, now_ns: int, depth: int) -> str:
    """Return the body of a book5, book20 or book50."""
    return f"{_times(venue, now_ns)}{_levels(venue.instrument, venue.asks.top(depth), venue.bids.top(depth))}"


def book_snapshot_body(venue: Venue, now_ns: int) -> str:
    """Return the body of a snapshot of the whole book."""
    levels = _levels(venue.instrument, venue.asks.top(), venue.bids.top())
    return f'{_times(venue, now_ns)},"is_snapshot":true{levels}'


def book_delta_body(venue: Venue, now_ns: int, asks: list[tuple[int, int]], bids: list[tuple[int, int]]) -> str:
    """Return the body of the changed levels."""
    return f'{_times(venue, now_ns)},"is_snapshot":false{_levels(venue.instrument, asks, bids)}'


def l3_snapshot_body(venue: Venue, now_ns: int, uuid_base: int) -> str:
    """Return the body of a snapshot of all orders, which have no update type there."""

    def entries(side: Side) -> str:
        return ",".join(
            f'{{"id":"{uuid_text(uuid_base, order)}","price":{_price(venue.instrument, price)}'
            f',"size":{_size(venue.instrument, size)}}}'
            for order, price, size in side.orders()
        )

    sides = f'"asks":[{entries(venue.asks)}],"bids":[{entries(venue.bids)}]'
    return f'{_times(venue, now_ns)},"is_snapshot":true,{sides}'


def l3_delta_body(
    venue: Venue, now_ns: int, asks: Iterable[OrderChange], bids: Iterable[OrderChange], uuid_base: int
) -> str:
    """Return the body of the changed orders, each side in the order in which they changed."""

    def entries(changes: Iterable[OrderChange]) -> str:
        return ",".join(
            f'{{"id":"{uuid_text(uuid_base, change.order)}","price":{_price(venue.instrument, change.price)}'
            f',"size":{_size(venue.instrument, change.size)},"update_type":"{change.update_type}"}}'
            for change in changes
        )

    return f'{_times(venue, now_ns)},"is_snapshot":false,"asks":[{entries(asks)}],"bids":[{entries(bids)}]'


def candle_body(instrument: Instrument, candle: Candle) -> str:
    """Return the body of an ohlcv."""
    return (
        f'{{"period_id":"{candle.period_id}"'
        f',"time_period_start":"{time_text(candle.start_ns)}","time_period_end":"{time_text(candle.end_ns)}"'
        f',"time_open":"{time_text(candle.time_open_ns)}","time_close":"{time_text(candle.time_close_ns)}"'
        f',"price_open":{_price(instrument, candle.open)},"price_high":{_price(instrument, candle.high)}'
        f',"price_low":{_price(instrument, candle.low)},"price_close":{_price(instrument, candle.close)}'
        f',"volume_traded":{_size(instrument, candle.volume)},"trades_count":{candle.trades}'
    )


def exrate_body(base: str, quote: str, now_ns: int, rate: str) -> str:
    """Return the body of an exchange rate, whose text is given."""
    return (
        f'{{"time":"{time_text(now_ns)}","asset_id_base":"{base}","asset_id_quote":"{quote}"'
        f',"rate_type":"BASE_QUOTE_ISOLATED","rate":{rate}'
    )


def asset_body(asset: Asset, price_micro_usd: int, start_ns: int, now_ns: int) -> str:
    """Return the body of an asset's metadata."""
    count = sum(asset.asset_id in (instrument.base, instrument.quote) for instrument in INSTRUMENTS)
    return (
        f'{{"asset_id":"{asset.asset_id}","name":"{asset.name}","type_is_crypto":{int(asset.is_crypto)}'
        f'{_periods(start_ns, now_ns)},"data_symbols_count":{count}'
        f',"price_usd":{decimal_text(price_micro_usd, 6)}'
    )


def exchange_body(exchange: Exchange, start_ns: int, now_ns: int) -> str:
    """Return the body of an exchange's metadata."""
    count = sum(exchange.exchange_id == instrument.exchange_id for instrument in INSTRUMENTS)
    return (
        f'{{"exchange_id":"{exchange.exchange_id}","website":"{exchange.website}","name":"{exchange.name}"'
        f'{_periods(start_ns, now_ns)},"data_symbols_count":{count}'
    )


def symbol_body(venue: Venue, start_ns: int, now_ns: int) -> str:
    """Return the body of a symbol's metadata, which names the symbol itself."""
    symbol = venue.instrument
    return (
        f'{{"symbol_id":"{symbol.symbol_id}","exchange_id":"{symbol.exchange_id}"'
        f',"symbol_type":"{symbol.kind}","asset_id_base":"{symbol.base}","asset_id_quote":"{symbol.quote}"'
        f"{_periods(start_ns, now_ns)}"
        f',"price":{_price(symbol, venue.last_price)},"symbol_id_exchange":"{symbol.exchange_symbol}"'
        f',"asset_id_base_exchange":"{symbol.base}","asset_id_quote_exchange":"{symbol.quote}"'
        f',"price_precision":{decimal_text(1, symbol.price_decimals)}'
        f',"size_precision":{decimal_text(1, symbol.size_decimals)}'
    )


def _periods(start_ns: int, now_ns: int) -> str:
    start, end = time_text(start_ns), time_text(now_ns)
    ranges = "".join(
        f',"data_{kind}_start":"{start}","data_{kind}_end":"{end}"' for kind in ("quote", "orderbook", "trade")
    )
    return f',"data_start":"{start[:10]}","data_end":"{end[:10]}"{ranges}'


def _times(venue: Venue, now_ns: int) -> str:
    # A quote or a book of now is as old as the last change.
    exchange_ns = min(now_ns, venue.changed_ns or now_ns) - venue.latency_ns
    return f'{{"time_exchange":"{time_text(exchange_ns)}","time_coinapi":"{time_text(now_ns)}"'


def _levels(instrument: Instrument, asks: list[tuple[int, int]], bids: list[tuple[int, int]]) -> str:
    def entries(levels: list[tuple[int, int]]) -> str:
        return ",".join(f'{{"price":{_price(instrument, p)},"size":{_size(instrument, s)}}}' for p, s in levels)

    return f',"asks":[{entries(asks)}],"bids":[{entries(bids)}]'


def _price(instrument: Instrument, ticks: int) -> str:
    return decimal_text(ticks, instrument.price_decimals)


def _size(instrument: Instrument, lots: int) -> str:
    return decimal_text(lots, instrument.size_decimals)
