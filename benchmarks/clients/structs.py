"""The mix for msgspec, as its documentation has it: a tagged union of Structs, without garbage collection."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec


class Level(msgspec.Struct, gc=False):
    price: float
    size: float


class Timed(msgspec.Struct, tag_field="type"):
    time_exchange: str
    time_coinapi: str
    symbol_id: str
    sequence: int


class Quote(Timed, tag="quote"):
    type: ClassVar[str] = "quote"
    ask_price: float
    ask_size: float
    bid_price: float
    bid_size: float


class Trade(Timed, tag="trade"):
    type: ClassVar[str] = "trade"
    uuid: str
    price: float
    size: float
    taker_side: str


class Book20(Timed, tag="book20"):
    type: ClassVar[str] = "book20"
    asks: list[Level]
    bids: list[Level]


class Book(Timed, tag="book"):
    type: ClassVar[str] = "book"
    is_snapshot: bool
    asks: list[Level]
    bids: list[Level]


DECODER: Final = msgspec.json.Decoder(Quote | Trade | Book | Book20)
