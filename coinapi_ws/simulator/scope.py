"""What a client may say, and the scope that it makes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .streams import BOOK_TYPES, DATA_TYPES, Stream

#: Longer than the longest name that there is, shorter than any key.
_SHOWN_CHARACTERS: Final = 20
_MESSAGE_TYPES: Final = ("hello", "subscribe", "unsubscribe")
_FILTERS: Final = {
    "symbol_ids": "subscribe_filter_symbol_id",
    "asset_ids": "subscribe_filter_asset_id",
    "exchange_ids": "subscribe_filter_exchange_id",
    "period_ids": "subscribe_filter_period_id",
}
_LIMITS: Final = {
    "quote": "subscribe_update_limit_ms_quote",
    "book_snapshot": "subscribe_update_limit_ms_book_snapshot",
    "exrate": "subscribe_update_limit_ms_exrate",
}
_LIMIT_OF_TYPE: Final = {
    "quote": "quote",
    "book5": "book_snapshot",
    "book20": "book_snapshot",
    "book50": "book_snapshot",
    "exrate": "exrate",
}


class Refused(Exception):
    """The client's message ends the connection; the text goes to the client as the error's message."""


@dataclass(frozen=True)
class Product:
    """Which of the vendor's products this is: Market Data, Exchange Rates, or WS DS of one exchange.

    ``symbol_ids`` are those of WS DS, by each name that it knows them by.
    """

    exchange_id: str | None = None
    symbol_ids: Mapping[str, str] = field(default_factory=dict)
    is_exchange_rates: bool = False

    @property
    def data_types(self) -> tuple[str, ...]:
        """What can be subscribed; rates are no exchange's."""
        if self.is_exchange_rates:
            return ("exrate",)
        return DATA_TYPES if self.exchange_id is None else tuple(kind for kind in DATA_TYPES if kind != "exrate")

    @property
    def refused_filters(self) -> tuple[str, ...]:
        """The filters that it does not take."""
        if self.is_exchange_rates:
            return ("symbol_ids", "exchange_ids", "period_ids")
        return () if self.exchange_id is None else ("exchange_ids",)

    def has(self, stream: Stream) -> bool:
        """Tell whether a stream is part of the product."""
        return stream.type in self.data_types and (
            self.exchange_id is None or stream.exchange_id in (None, self.exchange_id)
        )

    def symbol_filter(self, text: str) -> str:
        """Return a symbol filter as Market Data has it: WS DS takes whole names, also those of the exchange."""
        if self.exchange_id is None:
            return text
        name = text.removesuffix("$")
        return f"{self.symbol_ids.get(name, name)}$"

    def unknown_symbols(self, message: ClientMessage) -> list[str]:
        """Return the symbol ids of a message that WS DS answers with an error. Elsewhere they are prefixes."""
        if self.exchange_id is None:
            return []
        return [symbol for f in message.symbol_ids if (symbol := f.removesuffix("$")) not in self.symbol_ids]


@dataclass(frozen=True)
class ClientMessage:
    """A hello, subscribe or unsubscribe that passed all checks. Holds no API key."""

    type: str
    data_types: frozenset[str]
    symbol_ids: tuple[str, ...] = ()
    asset_ids: tuple[str, ...] = ()
    exchange_ids: tuple[str, ...] = ()
    period_ids: tuple[str, ...] = ()
    heartbeat: bool | None = None
    limits_ms: tuple[tuple[str, int], ...] = ()

    def concerns(self, stream: Stream) -> bool:
        """Tell whether this names the stream. A filter is silent on streams without such a property."""
        return (
            stream.type in self.data_types
            and (stream.symbol_id is None or _symbol_matches(stream.symbol_id, self.symbol_ids))
            and (stream.exchange_id is None or _is_in(stream.exchange_id, self.exchange_ids))
            and (stream.base is None or _asset_matches(stream.base, stream.quote, self.asset_ids))
            and (stream.period_id is None or _is_in(stream.period_id, self.period_ids))
        )

    def same_selection(self, other: ClientMessage) -> bool:
        """Tell whether both name the same streams, whatever they want done with them."""
        return (
            self.data_types == other.data_types
            and self.symbol_ids == other.symbol_ids
            and self.asset_ids == other.asset_ids
            and self.exchange_ids == other.exchange_ids
            and self.period_ids == other.period_ids
        )


@dataclass(frozen=True)
class Scope:
    """What one client gets: of its messages since the last hello, the last that names a stream decides."""

    messages: tuple[ClientMessage, ...] = field(default=())

    def after(self, message: ClientMessage) -> Scope:
        """Return the scope that this message leads to."""
        if message.type == "hello":
            return Scope((message,))
        # An older message about the same streams can decide nothing any more.
        kept = tuple(m for m in self.messages if not message.same_selection(m))
        return Scope((*kept, message))

    def contains(self, stream: Stream) -> bool:
        """Tell whether the stream is in scope."""
        message = self._deciding(stream)
        return message is not None and message.type != "unsubscribe"

    def update_limit_ms(self, stream: Stream) -> int:
        """Return the least time between two frames of this stream, in milliseconds; 0 without a limit."""
        message = self._deciding(stream)
        limit = _LIMIT_OF_TYPE.get(stream.type)
        if message is None or limit is None:
            return 0
        return dict(message.limits_ms).get(limit, 0)

    def _deciding(self, stream: Stream) -> ClientMessage | None:
        return next((m for m in reversed(self.messages) if m.concerns(stream)), None)


def decode(text: str) -> dict[str, object]:
    """Return the JSON object that a client sent; raise `Refused` where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("Malformed JSON") from None
    if not isinstance(value, dict):
        raise Refused("Malformed JSON: an object was expected")
    return value


def check_type(value: dict[str, object], *, is_first: bool) -> str:
    """Return the type of a client's message; raise `Refused` where it may not come now."""
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _MESSAGE_TYPES:
        allowed = ", ".join(_MESSAGE_TYPES)
        raise Refused(f"Message type {_shown(kind)} is invalid. Allowed values: {allowed}")
    if is_first and kind == "unsubscribe":
        raise Refused("The first message must be 'hello' or 'subscribe'")
    return kind


def check(kind: str, value: dict[str, object], product: Product) -> ClientMessage:
    """Return the checked message; raise `Refused` with the error for the client."""
    data_types = _texts(value, "subscribe_data_type") or (("exrate",) if product.is_exchange_rates else ())
    if not data_types:
        raise Refused("Missing required field 'subscribe_data_type'")
    for data_type in data_types:
        if data_type not in product.data_types:
            allowed = ", ".join(product.data_types)
            raise Refused(f"Subscribed data type {_shown(data_type)} is invalid. Allowed values: {allowed}")
    filters = {name: _texts(value, key) for name, key in _FILTERS.items()}
    for name in product.refused_filters:
        if filters[name]:
            raise Refused(f"Filter '{_FILTERS[name]}' is not supported")
    filters["symbol_ids"] = tuple(map(product.symbol_filter, filters["symbol_ids"]))
    if kind != "unsubscribe" and not product.is_exchange_rates:
        _check_filters(data_types, filters)
    heartbeat = value.get("heartbeat")
    if heartbeat is not None and not isinstance(heartbeat, bool):
        raise Refused("Field 'heartbeat' must be true or false")
    limits = tuple((name, _limit(value, key)) for name, key in _LIMITS.items() if value.get(key) is not None)
    return ClientMessage(kind, frozenset(data_types), heartbeat=heartbeat, limits_ms=limits, **filters)


def _check_filters(data_types: Iterable[str], filters: dict[str, tuple[str, ...]]) -> None:
    has_filter = any(values for name, values in filters.items() if name != "period_ids")
    for data_type in data_types:
        if data_type in BOOK_TYPES and not has_filter:
            raise Refused(f"Data type '{data_type}' requires at least one filter")
        if data_type == "exrate" and not filters["asset_ids"]:
            raise Refused("Data type 'exrate' requires the filter 'subscribe_filter_asset_id'")


def _texts(value: dict[str, object], key: str) -> tuple[str, ...]:
    texts = value.get(key)
    if texts is None:
        return ()
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refused(f"Field '{key}' must be an array of strings")
    return tuple(texts)


def _limit(value: dict[str, object], key: str) -> int:
    limit = value[key]
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise Refused(f"Field '{key}' must be a number of milliseconds")
    return limit


def _shown(value: object) -> str:
    # Never more of what a client sent than helps it: a key may sit in the wrong field.
    return f"'{value[:_SHOWN_CHARACTERS]}'" if isinstance(value, str) else "of this kind"


def _symbol_matches(symbol_id: str, filters: tuple[str, ...]) -> bool:
    return not filters or any(symbol_id == f[:-1] if f.endswith("$") else symbol_id.startswith(f) for f in filters)


def _asset_matches(base: str, quote: str | None, filters: tuple[str, ...]) -> bool:
    if not filters:
        return True
    if quote is None:
        return any(base in f.split("/") for f in filters)
    return any(f == f"{base}/{quote}" if "/" in f else f in (base, quote) for f in filters)


def _is_in(value: str, filters: tuple[str, ...]) -> bool:
    return not filters or value in filters
