"""What is traded in the simulated market: exchanges, assets and symbols. Constants and pure lookups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Exchange:
    """One exchange. ``latency_ns`` is how long after the exchange's own time the API publishes."""

    exchange_id: str
    name: str
    website: str
    latency_ns: int


@dataclass(frozen=True)
class Asset:
    """One asset. Its price starts at ``price_micro_usd`` millionths of a dollar."""

    asset_id: str
    name: str
    is_crypto: bool
    price_micro_usd: int


@dataclass(frozen=True)
class Instrument:
    """One symbol. Prices are integers of 10**-price_decimals, sizes of 10**-size_decimals."""

    exchange_id: str
    kind: str
    base: str
    quote: str
    price_decimals: int
    size_decimals: int
    events_per_second: float
    exchange_symbol: str
    has_l3: bool = False

    @property
    def symbol_id(self) -> str:
        """The identifier that CoinAPI gives such a symbol."""
        return f"{self.exchange_id}_{'PERP' if self.kind == 'PERPETUAL' else self.kind}_{self.base}_{self.quote}"


# Every latency is below the phase of the periodic publications (market.SECOND_PHASE_NS): a period that ended
# is whole when its candle is published.
EXCHANGES: Final = {
    exchange.exchange_id: exchange
    for exchange in (
        Exchange("BITSTAMP", "Bitstamp Ltd.", "https://www.bitstamp.net/", 17_204_300),
        Exchange("COINBASE", "Coinbase Pro (GDAX)", "https://pro.coinbase.com/", 5_037_900),
        Exchange("KRAKEN", "Kraken", "https://www.kraken.com/", 11_480_100),
        Exchange("BINANCEFTS", "Binance USDT Perpetual", "https://www.binance.com/", 38_615_700),
    )
}

ASSETS: Final = {
    asset.asset_id: asset
    for asset in (
        Asset("BTC", "Bitcoin", True, 84_523_690_000),
        Asset("ETH", "Ethereum", True, 3_271_450_000),
        Asset("ADA", "Cardano", True, 501_700),
        Asset("USD", "US Dollar", False, 1_000_000),
        Asset("USDT", "Tether", True, 1_000_000),
    )
}

INSTRUMENTS: Final = (
    Instrument("BITSTAMP", "SPOT", "BTC", "USD", 2, 8, 6.0, "btcusd"),
    Instrument("BITSTAMP", "SPOT", "ETH", "USD", 2, 8, 3.0, "ethusd"),
    Instrument("COINBASE", "SPOT", "BTC", "USD", 2, 8, 12.0, "BTC-USD", has_l3=True),
    Instrument("COINBASE", "SPOT", "ETH", "USD", 2, 8, 6.0, "ETH-USD", has_l3=True),
    Instrument("COINBASE", "SPOT", "ADA", "USD", 4, 8, 3.0, "ADA-USD", has_l3=True),
    Instrument("KRAKEN", "SPOT", "BTC", "USD", 1, 8, 5.0, "XBT/USD"),
    Instrument("KRAKEN", "SPOT", "ETH", "USD", 2, 8, 3.0, "ETH/USD"),
    Instrument("KRAKEN", "SPOT", "ADA", "USD", 6, 8, 2.0, "ADA/USD"),
    Instrument("BINANCEFTS", "PERPETUAL", "BTC", "USDT", 1, 3, 12.0, "BTCUSDT"),
    Instrument("BINANCEFTS", "PERPETUAL", "ETH", "USDT", 2, 3, 6.0, "ETHUSDT"),
)

SYMBOL_IDS: Final = tuple(instrument.symbol_id for instrument in INSTRUMENTS)
PAIRS: Final = tuple(dict.fromkeys((instrument.base, instrument.quote) for instrument in INSTRUMENTS))
