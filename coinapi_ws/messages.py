"""The messages that the API sends, as frozen values.

One declaration of the fields serves everything: the names are the wire's, and the name of the
annotation (``Text``, ``Number``, …) is the kind that :mod:`coinapi_ws.decoding` checks and converts to.
An absent or null field reads as None, an absent or null list as empty. Fields that are not declared
are kept in ``extra``. Messages compare by content (``received_ns`` and ``raw`` are not content), pickle,
and are not hashable. They may be shared between threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeAlias, TypeVar

from .timestamps import parse_ns, to_datetime

# The kinds of fields, by the name of their annotation.
Text: TypeAlias = "str | None"
Number: TypeAlias = "float | Decimal | None"  # float or Decimal, as the `numbers` option says
Count: TypeAlias = "int | None"
Flag: TypeAlias = "bool | None"
Time: TypeAlias = "str | None"  # the wire's text; see the `_ns` and `_datetime` companions
Items: TypeAlias = "tuple[Any, ...]"  # any JSON list
Json: TypeAlias = "Any"  # any JSON value

L = TypeVar("L", bound=tuple[Any, ...])

#: Each frame of these is a whole book of at most so many levels a side.
WHOLE_BOOK_TYPES: Final = frozenset({"book5", "book20", "book50"})

#: From a wire name to its class; filled by the declarations below.
MESSAGE_TYPES: Final[dict[str, type[Message]]] = {}

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_OWN_FIELDS: Final = frozenset({"type", "received_ns", "raw", "extra"})
_TUPLE_KINDS: Final = frozenset({"Items", "Levels", "LevelsL3"})


class Level(NamedTuple):
    """One price level of an L2 book; size 0 in a delta means that the level is gone."""

    price: Number
    size: Number


class LevelL3(NamedTuple):
    """One order of an L3 book, or an aggregated level where ``id`` is None.

    ``update_type`` is ADD, UPDATE, SUBTRACT, DELETE or MATCH, with SET and SUB as aliases in flat files,
    and None in snapshots.
    """

    price: Number
    size: Number
    id: str | None
    update_type: str | None


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


class _Computed:
    """Base of what reads an entry of the same name; with ``__set__`` it goes before that entry."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, message: object, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {self._name!r}")


class _Side(_Computed, Generic[L]):
    """One side of a book, kept as the decoder left it and built into a tuple of levels on first use."""

    def __init__(self, level: Callable[..., L], fields: tuple[str, ...], kind: str) -> None:
        self._level = level
        self._fields = fields
        self.kind = kind

    def __get__(self, message: Message, owner: type | None = None) -> tuple[L, ...]:
        levels: Any = message.__dict__.get(self._name, ())
        if type(levels) is not tuple:
            # Two threads may both build it; they store equal values.
            levels = tuple([self._level(*map(level.get, self._fields)) for level in levels])
            message.__dict__[self._name] = levels
        return levels  # type: ignore[no-any-return]


class _IsSnapshot(_Computed):
    """True by the type's nature for book5, book20 and book50; for others what the frame said."""

    kind = "Flag"

    def __get__(self, message: Message, owner: type | None = None) -> bool | None:
        snapshot: bool | None = message.__dict__.get(self._name)
        return True if message.type in WHOLE_BOOK_TYPES else snapshot


class Message:
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

    def __init_subclass__(cls, *, wire: tuple[str, ...] = ()) -> None:
        cls.kinds = dict(cls.kinds)
        for name, annotation in vars(cls).get("__annotations__", {}).items():
            if name not in _OWN_FIELDS:
                cls.kinds[name] = str(annotation)
                setattr(cls, name, () if annotation == "Items" else None)
        for name, value in vars(cls).items():
            if isinstance(value, (_Side, _IsSnapshot)):
                cls.kinds[name] = value.kind
        for name in wire:
            MESSAGE_TYPES[name] = cls
        if wire:
            cls.type = wire[0]

    def __init__(self, **fields: Any) -> None:
        unknown = fields.keys() - self.kinds.keys() - _OWN_FIELDS
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        # A list would be open to change, and of a side it would be taken for what the decoder left.
        self.__setstate__(
            {
                name: tuple(value) if self.kinds.get(name) in _TUPLE_KINDS else value
                for name, value in fields.items()
                if value is not None
            }
        )

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

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in state.keys() & self.kinds.keys():
            state[name] = getattr(self, name)
        if "extra" in state:
            state["extra"] = dict(state["extra"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "extra" in state:
            state["extra"] = MappingProxyType(dict(state["extra"]))
        object.__setattr__(self, "__dict__", state)

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {"type": self.type}
        for name in self.kinds:
            # None and empty read as if they were absent, so they are no difference.
            if (value := getattr(self, name)) is not None and value != ():
                content[name] = value
        if self.extra:
            content["extra"] = dict(self.extra)
        return content


class _MarketData(Message):
    symbol_id: Text
    sequence: Count
    time_exchange: Time
    time_exchange_ns = _Nanoseconds()
    time_exchange_datetime = _Datetime()
    time_coinapi: Time
    time_coinapi_ns = _Nanoseconds()
    time_coinapi_datetime = _Datetime()


class Trade(_MarketData, wire=("trade",)):
    """A trade. ``taker_side`` is open-ended; size 0 is a marker; exchanges repeat trades: see ``uuid``."""

    uuid: Text
    price: Number
    size: Number
    taker_side: Text


class Quote(_MarketData, wire=("quote",)):
    """Best ask and bid. Size 0 means unknown; each of the four may be None (a one-sided book)."""

    ask_price: Number
    ask_size: Number
    bid_price: Number
    bid_size: Number


class Book(_MarketData, wire=("book", "book5", "book20", "book50")):
    """An L2 book or a change of it; ``type`` says which.

    ``is_snapshot`` is True for book5, book20 and book50. Where ``book`` does not say, it is False once a
    snapshot was seen for that symbol on this connection, else None. ``asks`` and ``bids`` come in no
    promised order.
    """

    is_snapshot = _IsSnapshot()
    asks = _Side(Level, Level._fields, "Levels")
    bids = _Side(Level, Level._fields, "Levels")


class BookL3(_MarketData, wire=("book_l3",)):
    """An L3 book or a change of it: orders with an ``id``, or aggregated levels without."""

    is_snapshot = _IsSnapshot()
    asks = _Side(LevelL3, LevelL3._fields, "LevelsL3")
    bids = _Side(LevelL3, LevelL3._fields, "LevelsL3")


class Ohlcv(_MarketData, wire=("ohlcv",)):
    """A candle, sent many times while its period runs and once more when it closed, with no mark."""

    period_id: Text
    time_period_start: Time
    time_period_start_ns = _Nanoseconds()
    time_period_start_datetime = _Datetime()
    time_period_end: Time
    time_period_end_ns = _Nanoseconds()
    time_period_end_datetime = _Datetime()
    time_open: Time
    time_open_ns = _Nanoseconds()
    time_open_datetime = _Datetime()
    time_close: Time
    time_close_ns = _Nanoseconds()
    time_close_datetime = _Datetime()
    price_open: Number
    price_high: Number
    price_low: Number
    price_close: Number
    volume_traded: Number
    trades_count: Count


class ExchangeRate(Message, wire=("exrate",)):
    """The rate between two assets. ``rate_type`` is newer and may be None."""

    asset_id_base: Text
    asset_id_quote: Text
    rate_type: Text
    time: Time
    time_ns = _Nanoseconds()
    time_datetime = _Datetime()
    rate: Number


class _DataSpan(Message):
    data_start: Time
    data_start_ns = _Nanoseconds()
    data_start_datetime = _Datetime()
    data_end: Time
    data_end_ns = _Nanoseconds()
    data_end_datetime = _Datetime()
    data_quote_start: Time
    data_quote_start_ns = _Nanoseconds()
    data_quote_start_datetime = _Datetime()
    data_quote_end: Time
    data_quote_end_ns = _Nanoseconds()
    data_quote_end_datetime = _Datetime()
    data_orderbook_start: Time
    data_orderbook_start_ns = _Nanoseconds()
    data_orderbook_start_datetime = _Datetime()
    data_orderbook_end: Time
    data_orderbook_end_ns = _Nanoseconds()
    data_orderbook_end_datetime = _Datetime()
    data_trade_start: Time
    data_trade_start_ns = _Nanoseconds()
    data_trade_start_datetime = _Datetime()
    data_trade_end: Time
    data_trade_end_ns = _Nanoseconds()
    data_trade_end_datetime = _Datetime()
    volume_1hrs_usd: Number
    volume_1day_usd: Number
    volume_1mth_usd: Number


class Asset(_DataSpan, wire=("asset",)):
    """Metadata of an asset; nearly every field may be None."""

    asset_id: Text
    name: Text
    type_is_crypto: Count
    data_symbols_count: Count
    price_usd: Number
    id_icon: Text
    supply_current: Number
    supply_total: Number
    supply_max: Number
    chain_addresses: Items


class Exchange(_DataSpan, wire=("exchange",)):
    """Metadata of an exchange; nearly every field may be None."""

    exchange_id: Text
    website: Text
    name: Text
    data_trade_count: Count
    data_symbols_count: Count
    metric_id: Items
    icons: Items
    rank: Number
    integration_status: Text


class Symbol(_DataSpan, wire=("symbol",)):
    """Metadata of a symbol. The precisions lag behind the exchange: never round by them."""

    symbol_id: Text
    exchange_id: Text
    symbol_type: Text
    asset_id_base: Text
    asset_id_quote: Text
    asset_id_unit: Text
    future_contract_unit: Number
    future_contract_unit_asset: Text
    future_delivery_time: Time
    future_delivery_time_ns = _Nanoseconds()
    future_delivery_time_datetime = _Datetime()
    option_type_is_call: Flag
    option_strike_price: Number
    option_contract_unit: Number
    option_exercise_style: Text
    option_expiration_time: Time
    option_expiration_time_ns = _Nanoseconds()
    option_expiration_time_datetime = _Datetime()
    contract_delivery_time: Time
    contract_delivery_time_ns = _Nanoseconds()
    contract_delivery_time_datetime = _Datetime()
    contract_unit: Number
    contract_unit_asset: Text
    contract_id: Text
    contract_display_name: Text
    contract_display_description: Text
    index_id: Text
    index_display_name: Text
    index_display_description: Text
    volume_1hrs: Number
    volume_1day: Number
    volume_1mth: Number
    price: Number
    symbol_id_exchange: Text
    asset_id_base_exchange: Text
    asset_id_quote_exchange: Text
    price_precision: Number
    size_precision: Number
    raw_kvp: Json


class ErrorMessage(Message, wire=("error",)):
    """The server's ``error``; after most of them it closes the connection."""

    message: Text


class ReconnectNotice(Message, wire=("reconnect",)):
    """The server will close this connection; a new one reaches another server."""

    within_seconds: Number
    before_time: Time
    before_time_ns = _Nanoseconds()
    before_time_datetime = _Datetime()


class Heartbeat(Message, wire=("heartbeat", "hearbeat")):
    """Sent after a second of silence. ``type`` is "heartbeat", though the wire says ``hearbeat``."""


class UnknownMessage(Message):
    """A message of a type that this version does not know; all its fields are in ``extra``."""

    type: str = "unknown"
