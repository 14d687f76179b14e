"""The messages that the API sends, as frozen values.

One declaration of the fields serves everything: the names are the wire's, and the name of the
annotation (``Text``, ``Number``, …) is the kind that :mod:`coinapi_ws.converting` checks and converts to.
An absent or null field reads as None, an absent or null list as empty. Fields that are not declared
are kept in ``extra``. Messages compare by content (``received_ns`` and ``raw`` are not content), pickle,
and are not hashable. They may be shared between threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from .kinds import LEVEL_TYPES, Count, Flag, Items, Json, Levels, LevelsL3, Number, Text, Time
from .kinds import Level as Level
from .kinds import LevelL3 as LevelL3
from .timestamps import parse_ns, to_datetime

if TYPE_CHECKING:
    from . import records

    storage = records
else:
    try:
        from . import structs as storage
    except ImportError:  # the extra `speed` is not there
        from . import records as storage

#: Each frame of these is a whole book of at most so many levels a side.
WHOLE_BOOK_TYPES: Final = frozenset({"book5", "book20", "book50"})

#: From a wire name to its class; filled by the declarations below.
MESSAGE_TYPES: Final[dict[str, type[Message]]] = {}

#: Set a field of a message that was not published yet: ``set_field(message, "received_ns", ns)``.
set_field: Final = storage.set_field

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_OWN_FIELDS: Final = ("type", "received_ns", "raw", "extra")
_TUPLE_KINDS: Final = frozenset({"Items", *LEVEL_TYPES})


class _Nanoseconds:
    """The companion of a time field: integer nanoseconds since the epoch."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._field = name.removesuffix("_ns")

    def __get__(self, message: object, owner: type | None = None) -> int | None:
        text = getattr(message, self._field, None)
        try:
            return None if text is None else parse_ns(text)
        except ValueError:
            return None


class _Datetime:
    """The companion of a time field: an aware UTC datetime, cut off at microseconds; None beyond its years."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._field = name.removesuffix("_datetime")

    def __get__(self, message: object, owner: type | None = None) -> datetime | None:
        ns = getattr(message, f"{self._field}_ns", None)
        try:
            return None if ns is None else to_datetime(ns)
        except OverflowError:
            return None


class Message(storage.Record):
    """Base of all messages.

    ``type`` is the wire's name of the message; ``received_ns`` the wall clock in nanoseconds when its bytes
    were read; ``extra`` a read-only mapping of fields that are not declared; ``raw`` the frame's text with
    ``keep_raw=True``, else None.

    Messages can be built by hand, with keywords: ``Trade(symbol_id="X_SPOT_A_B", price=1.5)``.
    """

    type: str
    received_ns: int = 0
    raw: str | None = None
    extra: Mapping[str, Any] = _NOTHING

    #: From each declared field to its kind, the ones of the bases included.
    kinds: ClassVar[dict[str, str]] = {}
    #: The wire's names of the message, the one that stands for all first.
    wire_names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def _declare(cls, annotations: dict[str, str], wire: tuple[str, ...]) -> None:
        own = {n: kind for n, kind in annotations.items() if n not in _OWN_FIELDS and not kind.startswith("ClassVar")}
        cls.kinds = cls.kinds | own
        cls.wire_names = wire
        for name, kind in own.items():
            if kind in LEVEL_TYPES:
                setattr(cls, name, storage.Side(name, LEVEL_TYPES[kind], vars(cls)[name]))
        for name in wire:
            MESSAGE_TYPES[name] = cls

    @classmethod
    def _given(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Check and complete what was given by keywords."""
        unknown = fields.keys() - cls.kinds.keys() - set(_OWN_FIELDS)
        if unknown:
            raise TypeError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
        # A list would be open to change, and of a side it would be taken for what the decoder left.
        given = {
            name: tuple(value) if cls.kinds.get(name) in _TUPLE_KINDS else value
            for name, value in fields.items()
            if value is not None
        }
        if cls.wire_names:
            given.setdefault("type", cls.wire_names[0])
            if given["type"] in WHOLE_BOOK_TYPES and "is_snapshot" in cls.kinds:
                given["is_snapshot"] = True
        if "extra" in given:
            given["extra"] = MappingProxyType(dict(given["extra"]))
        return given

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return type(self) is type(other) and self._content() == other._content()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._content().items())
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        # By keywords, so that it can be read with msgspec and without.
        return _from_fields, (type(self), {**self._content(), "received_ns": self.received_ns, "raw": self.raw})

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {"type": self.type}
        for name in self.kinds:
            # None and empty read as if they were absent, so they are no difference.
            if (value := getattr(self, name)) is not None and value != ():
                content[name] = value
        if self.extra:
            content["extra"] = dict(self.extra)
        return content


def _from_fields(cls: type[Message], fields: dict[str, Any]) -> Message:
    return cls(**fields)


class _MarketData(Message):
    symbol_id: Text = None
    sequence: Count = None
    time_exchange: Time = None
    time_exchange_ns = _Nanoseconds()
    time_exchange_datetime = _Datetime()
    time_coinapi: Time = None
    time_coinapi_ns = _Nanoseconds()
    time_coinapi_datetime = _Datetime()


class Trade(_MarketData, wire=("trade",)):
    """A trade. ``taker_side`` is open-ended; size 0 is a marker; exchanges repeat trades: see ``uuid``."""

    uuid: Text = None
    price: Number = None
    size: Number = None
    taker_side: Text = None


class Quote(_MarketData, wire=("quote",)):
    """Best ask and bid. Size 0 means unknown; each of the four may be None (a one-sided book)."""

    ask_price: Number = None
    ask_size: Number = None
    bid_price: Number = None
    bid_size: Number = None


class Book(_MarketData, wire=("book", "book5", "book20", "book50")):
    """An L2 book or a change of it; ``type`` says which.

    ``is_snapshot`` is True for book5, book20 and book50. Where ``book`` does not say, it is False once a
    snapshot was seen for that symbol on this connection, else None. ``asks`` and ``bids`` come in no
    promised order.
    """

    is_snapshot: Flag = None
    asks: Levels = ()
    bids: Levels = ()


class BookL3(_MarketData, wire=("book_l3",)):
    """An L3 book or a change of it: orders with an ``id``, or aggregated levels without."""

    is_snapshot: Flag = None
    asks: LevelsL3 = ()
    bids: LevelsL3 = ()


class Ohlcv(_MarketData, wire=("ohlcv",)):
    """A candle, sent many times while its period runs and once more when it closed, with no mark."""

    period_id: Text = None
    time_period_start: Time = None
    time_period_start_ns = _Nanoseconds()
    time_period_start_datetime = _Datetime()
    time_period_end: Time = None
    time_period_end_ns = _Nanoseconds()
    time_period_end_datetime = _Datetime()
    time_open: Time = None
    time_open_ns = _Nanoseconds()
    time_open_datetime = _Datetime()
    time_close: Time = None
    time_close_ns = _Nanoseconds()
    time_close_datetime = _Datetime()
    price_open: Number = None
    price_high: Number = None
    price_low: Number = None
    price_close: Number = None
    volume_traded: Number = None
    trades_count: Count = None


class ExchangeRate(Message, wire=("exrate",)):
    """The rate between two assets. ``rate_type`` is newer and may be None."""

    asset_id_base: Text = None
    asset_id_quote: Text = None
    rate_type: Text = None
    time: Time = None
    time_ns = _Nanoseconds()
    time_datetime = _Datetime()
    rate: Number = None


class _DataSpan(Message):
    data_start: Time = None
    data_start_ns = _Nanoseconds()
    data_start_datetime = _Datetime()
    data_end: Time = None
    data_end_ns = _Nanoseconds()
    data_end_datetime = _Datetime()
    data_quote_start: Time = None
    data_quote_start_ns = _Nanoseconds()
    data_quote_start_datetime = _Datetime()
    data_quote_end: Time = None
    data_quote_end_ns = _Nanoseconds()
    data_quote_end_datetime = _Datetime()
    data_orderbook_start: Time = None
    data_orderbook_start_ns = _Nanoseconds()
    data_orderbook_start_datetime = _Datetime()
    data_orderbook_end: Time = None
    data_orderbook_end_ns = _Nanoseconds()
    data_orderbook_end_datetime = _Datetime()
    data_trade_start: Time = None
    data_trade_start_ns = _Nanoseconds()
    data_trade_start_datetime = _Datetime()
    data_trade_end: Time = None
    data_trade_end_ns = _Nanoseconds()
    data_trade_end_datetime = _Datetime()
    volume_1hrs_usd: Number = None
    volume_1day_usd: Number = None
    volume_1mth_usd: Number = None


class Asset(_DataSpan, wire=("asset",)):
    """Metadata of an asset; nearly every field may be None."""

    asset_id: Text = None
    name: Text = None
    type_is_crypto: Count = None
    data_symbols_count: Count = None
    price_usd: Number = None
    id_icon: Text = None
    supply_current: Number = None
    supply_total: Number = None
    supply_max: Number = None
    chain_addresses: Items = ()


class Exchange(_DataSpan, wire=("exchange",)):
    """Metadata of an exchange; nearly every field may be None."""

    exchange_id: Text = None
    website: Text = None
    name: Text = None
    data_trade_count: Count = None
    data_symbols_count: Count = None
    metric_id: Items = ()
    icons: Items = ()
    rank: Number = None
    integration_status: Text = None


class Symbol(_DataSpan, wire=("symbol",)):
    """Metadata of a symbol. The precisions lag behind the exchange: never round by them."""

    symbol_id: Text = None
    exchange_id: Text = None
    symbol_type: Text = None
    asset_id_base: Text = None
    asset_id_quote: Text = None
    asset_id_unit: Text = None
    future_contract_unit: Number = None
    future_contract_unit_asset: Text = None
    future_delivery_time: Time = None
    future_delivery_time_ns = _Nanoseconds()
    future_delivery_time_datetime = _Datetime()
    option_type_is_call: Flag = None
    option_strike_price: Number = None
    option_contract_unit: Number = None
    option_exercise_style: Text = None
    option_expiration_time: Time = None
    option_expiration_time_ns = _Nanoseconds()
    option_expiration_time_datetime = _Datetime()
    contract_delivery_time: Time = None
    contract_delivery_time_ns = _Nanoseconds()
    contract_delivery_time_datetime = _Datetime()
    contract_unit: Number = None
    contract_unit_asset: Text = None
    contract_id: Text = None
    contract_display_name: Text = None
    contract_display_description: Text = None
    index_id: Text = None
    index_display_name: Text = None
    index_display_description: Text = None
    volume_1hrs: Number = None
    volume_1day: Number = None
    volume_1mth: Number = None
    price: Number = None
    symbol_id_exchange: Text = None
    asset_id_base_exchange: Text = None
    asset_id_quote_exchange: Text = None
    price_precision: Number = None
    size_precision: Number = None
    raw_kvp: Json = None


class ErrorMessage(Message, wire=("error",)):
    """The server's ``error``; after most of them it closes the connection."""

    message: Text = None


class ReconnectNotice(Message, wire=("reconnect",)):
    """The server will close this connection; a new one reaches another server."""

    within_seconds: Number = None
    before_time: Time = None
    before_time_ns = _Nanoseconds()
    before_time_datetime = _Datetime()


class Heartbeat(Message, wire=("heartbeat", "hearbeat")):
    """Sent after a second of silence. ``type`` is "heartbeat", though the wire says ``hearbeat``."""


class UnknownMessage(Message):
    """A message of a type that this version does not know; all its fields are in ``extra``."""

    type: str = "unknown"
