"""What can be subscribed: one stream is a data type of one symbol, pair, asset or exchange."""

from __future__ import annotations

from typing import Final, NamedTuple

#: In the order of the vendor's error message.
DATA_TYPES: Final = (
    "book5",
    "book20",
    "book50",
    "book",
    "book_l3",
    "quote",
    "trade",
    "ohlcv",
    "exrate",
    "asset",
    "exchange",
    "symbol",
    "connectivity_status",
)
BOOK_TYPES: Final = frozenset({"book", "book5", "book20", "book50", "book_l3"})
#: Types whose frames carry a symbol and a sequence number.
SEQUENCED_TYPES: Final = BOOK_TYPES | {"quote", "trade", "ohlcv"}


class Stream(NamedTuple):
    """One stream, with all that a filter can ask of it; None where the stream has no such property."""

    type: str
    symbol_id: str | None = None
    exchange_id: str | None = None
    base: str | None = None
    quote: str | None = None
    period_id: str | None = None
