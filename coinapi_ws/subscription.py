"""What to receive: a Subscription, its rules, and its fields on the wire.

All values are immutable and pure; any thread. The rules are the vendor's (vendor_notes.md, "Subscribing").
"""

from __future__ import annotations

import json
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from .exceptions import ConfigurationError
from .messages import Message, Symbol

#: What the server named as allowed when it refused another type; the list may grow.
KNOWN_DATA_TYPES: Final = (
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
_RETIRED_DATA_TYPES: Final = frozenset({"volume", "ticker"})
_BOOK_TYPES: Final = frozenset({"book", "book5", "book20", "book50", "book_l3"})
_SNAPSHOT_BOOK_TYPES: Final = frozenset({"book5", "book20", "book50"})

#: From the name of a limit to the data types that it throttles.
LIMITED_TYPES: Final = {
    "limit_ms_quote": frozenset({"quote"}),
    "limit_ms_book_snapshot": _SNAPSHOT_BOOK_TYPES,
    "limit_ms_exrate": frozenset({"exrate"}),
}
_WIRE_LIMITS: Final = {
    "limit_ms_quote": "subscribe_update_limit_ms_quote",
    "limit_ms_book_snapshot": "subscribe_update_limit_ms_book_snapshot",
    "limit_ms_exrate": "subscribe_update_limit_ms_exrate",
}
_FILTERS: Final = ("symbol_ids", "exchange_ids", "asset_ids")

#: How much of a frame symbol ids may take before they are parted: our own bound (vendor_notes.md, "Subscribing").
MAX_BATCH_BYTES: Final = 60_000


class SubscriptionWarning(UserWarning):
    """A subscription is possible but perhaps not what was meant."""


@dataclass(frozen=True, slots=True, init=False)
class Subscription:
    """Data types, and filters that narrow them.

    ``data_types`` are wire names such as "trade", "quote", "book". ``symbol_ids`` match by prefix; a trailing
    ``$`` makes one exact. ``exchange_ids`` such as "BINANCE"; ``asset_ids`` such as "BTC" or a pair "BTC/USD";
    ``period_ids`` such as "1MIN", for ohlcv alone. The three limits ask for at least so many milliseconds
    between updates of one symbol or pair. Without any filter the server sends everything and bills by
    volume, so that needs ``everything=True``. The Exchange Rates product has no data types: ``Subscription((),
    asset_ids=…)``. On WS DS, symbol ids are whole, so each has its ``$``; an exchange's own name is one, too.

    How the server combines different kinds of filter is not documented: filter by symbol alone.

    Raises ``ConfigurationError`` with what to write instead; warns with ``SubscriptionWarning`` of a data type
    that is unknown or retired, and of a prefix that ends in neither ``_`` nor ``$``. Members are sorted and
    unique, so that equal subscriptions compare equal.
    """

    data_types: tuple[str, ...]
    symbol_ids: tuple[str, ...]
    exchange_ids: tuple[str, ...]
    asset_ids: tuple[str, ...]
    period_ids: tuple[str, ...]
    limit_ms_quote: int | None
    limit_ms_book_snapshot: int | None
    limit_ms_exrate: int | None
    everything: bool

    def __init__(
        self,
        data_types: Iterable[str],
        *,
        symbol_ids: Iterable[str] = (),
        exchange_ids: Iterable[str] = (),
        asset_ids: Iterable[str] = (),
        period_ids: Iterable[str] = (),
        limit_ms_quote: int | None = None,
        limit_ms_book_snapshot: int | None = None,
        limit_ms_exrate: int | None = None,
        everything: bool = False,
    ) -> None:
        fields = {
            "data_types": data_types,
            "symbol_ids": symbol_ids,
            "exchange_ids": exchange_ids,
            "asset_ids": asset_ids,
            "period_ids": period_ids,
            "limit_ms_quote": limit_ms_quote,
            "limit_ms_book_snapshot": limit_ms_book_snapshot,
            "limit_ms_exrate": limit_ms_exrate,
            "everything": bool(everything),
        }
        _fill(self, fields)
        _warn(self)

    @classmethod
    def for_symbols(
        cls,
        data_types: Iterable[str],
        symbols: Iterable[Symbol | str],
        *,
        period_ids: Iterable[str] = (),
        limit_ms_quote: int | None = None,
        limit_ms_book_snapshot: int | None = None,
    ) -> tuple[Subscription, ...]:
        """Return subscriptions to exactly these symbols, which are messages or whole ids; sorted, each once.

        It is one subscription, or several where one would make a frame of more than some 64 kB. Those go to several
        clients, or all to one with ``wire="incremental"``, which sends each in a frame of its own; ``wire="hello"``
        would send one long frame again. Raises ``ConfigurationError``, also where there is no symbol, since no filter
        would mean everything.
        """
        if isinstance(symbols, str):
            raise ConfigurationError(f"symbols is a list; write [{symbols!r}]")
        symbol_ids = {_exactly(symbol) for symbol in symbols}
        if not symbol_ids:
            raise ConfigurationError("there is no symbol to subscribe to, and no filter would mean everything")
        fields = {
            "data_types": data_types,
            "symbol_ids": symbol_ids,
            "exchange_ids": (),
            "asset_ids": (),
            "period_ids": period_ids,
            "limit_ms_quote": limit_ms_quote,
            "limit_ms_book_snapshot": limit_ms_book_snapshot,
            "limit_ms_exrate": None,
            "everything": False,
        }
        whole = subscription_of(fields)
        _warn(whole)  # of the caller's line, not of one here
        return tuple(with_symbols(whole, batch) for batch in _batches(whole.symbol_ids))

    @property
    def filters(self) -> frozenset[str]:
        """The kinds of filter that narrow it by instrument: symbol_ids, exchange_ids, asset_ids."""
        return frozenset(name for name in _FILTERS if getattr(self, name))

    def wire_fields(self, product: str = "market") -> dict[str, Any]:
        """Return the fields that a hello, subscribe or unsubscribe carries for it; unset ones are left out.

        The Exchange Rates product ("exrates") has none for data types, and in WS DS ("ds") no ``$`` marks the whole id.
        """
        fields: dict[str, Any] = {}
        if self.data_types and product != "exrates":
            fields["subscribe_data_type"] = list(self.data_types)
        for kind in ("symbol", "asset", "period", "exchange"):
            if values := getattr(self, f"{kind}_ids"):
                fields[f"subscribe_filter_{kind}_id"] = list(values)
        if self.symbol_ids and product == "ds":
            fields["subscribe_filter_symbol_id"] = [symbol.removesuffix("$") for symbol in self.symbol_ids]
        for name, wire_name in _WIRE_LIMITS.items():
            if (limit := getattr(self, name)) is not None:
                fields[wire_name] = limit
        return fields

    def may_match(self, message: Message, product: str = "market") -> bool:
        """Return False only where it is certain that this subscription did not ask for the message.

        In WS DS ("ds") a name that is not CoinAPI's may be the exchange's own of any of its symbols.
        """
        if self.data_types and message.type not in self.data_types:
            return False
        period = getattr(message, "period_id", None)
        if self.period_ids and period is not None and period not in self.period_ids:
            return False
        symbol = getattr(message, "symbol_id", None)
        by_pair = message.type == "exrate" and bool(self.asset_ids)
        if self.everything or (symbol is None and not by_pair) or (self.asset_ids and not by_pair):
            return True
        if by_pair:
            base, to = getattr(message, "asset_id_base", None), getattr(message, "asset_id_quote", None)
            return bool({base, to, f"{base}/{to}"} & set(self.asset_ids))
        if matches_symbol(str(symbol), self.symbol_ids) or (product == "ds" and other_names(self, str(symbol))):
            return True
        return any(str(symbol).startswith(f"{exchange}_") for exchange in self.exchange_ids)


def fields_of(subscription: Subscription) -> dict[str, Any]:
    """Return the arguments that make an equal one."""
    return {name: getattr(subscription, name) for name in Subscription.__slots__}


def subscription_of(fields: dict[str, Any]) -> Subscription:
    """Return a subscription of all its fields, without a warning: whoever wrote them has been given it."""
    subscription: Subscription = object.__new__(Subscription)
    _fill(subscription, fields)
    return subscription


def _fill(subscription: Subscription, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        is_list = name == "data_types" or name.endswith("_ids")
        object.__setattr__(subscription, name, _texts(name, value) if is_list else value)
    _check(subscription)


def with_symbols(subscription: Subscription, symbol_ids: list[str]) -> Subscription:
    return subscription_of(fields_of(subscription) | {"symbol_ids": symbol_ids})


def other_names(subscription: Subscription, symbol_id: str) -> set[str]:
    """Return the names of symbols that are none of CoinAPI's for symbols of the same exchange as this one."""
    exchange = symbol_id.partition("_")[0]
    return {name for name in subscription.symbol_ids if not name.startswith(f"{exchange}_")}


def _exactly(symbol: Symbol | str) -> str:
    symbol_id = symbol.symbol_id if isinstance(symbol, Symbol) else symbol
    whole = symbol_id.removesuffix("$") if isinstance(symbol_id, str) else ""
    if not whole or whole.endswith("_"):
        raise ConfigurationError("a symbol is a Symbol that has an id, or a whole id such as COINBASE_SPOT_BTC_USD")
    return f"{whole}$"


def _batches(symbol_ids: Iterable[str]) -> Iterator[list[str]]:
    """Part ids into lists that are not longer in a frame than `MAX_BATCH_BYTES`."""
    batch: list[str] = []
    left = MAX_BATCH_BYTES
    for symbol_id in symbol_ids:
        size = len(json.dumps(symbol_id)) + 1  # and a comma
        if size > left and batch:
            yield batch
            batch, left = [], MAX_BATCH_BYTES
        batch.append(symbol_id)
        left -= size
    yield batch


def _texts(name: str, values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, (str, bytes)):
        raise ConfigurationError(f"{name} is a list; write {name}=[{values!r}]")
    try:
        texts = list(values)
    except TypeError:
        raise ConfigurationError(f"{name} is a list of str, not {type(values).__name__}") from None
    for text in texts:
        if not isinstance(text, str):
            raise ConfigurationError(f"{name} is a list of str; {text!r} is {type(text).__name__}")
        if not text or text == "$" or text.split() != [text] or not text.isprintable():
            raise ConfigurationError(
                f"{name} has {text!r} in it, which names nothing (an empty filter would mean everything)"
            )
    return tuple(sorted(set(texts)))


def _check(subscription: Subscription) -> None:
    types = frozenset(subscription.data_types)
    if not types and not subscription.asset_ids and not subscription.everything:
        raise ConfigurationError(
            'a subscription needs data types; write Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])'
        )
    if (books := sorted(types & _BOOK_TYPES)) and not subscription.filters:
        raise ConfigurationError(f"{', '.join(books)} needs a filter; add symbol_ids=[…]")
    if "exrate" in types and not subscription.asset_ids:
        raise ConfigurationError('exrate needs an asset filter; add asset_ids=["BTC/USD"]')
    if not subscription.filters and not subscription.everything:
        raise ConfigurationError(
            "no filter means everything, billed by volume; add symbol_ids=[…], or everything=True if you mean it"
        )
    if subscription.filters and subscription.everything:
        raise ConfigurationError("everything=True and a filter contradict each other; leave one out")
    if subscription.period_ids and "ohlcv" not in types:
        raise ConfigurationError('period_ids narrow ohlcv alone; add "ohlcv" to the data types or leave them out')
    for name, limited in LIMITED_TYPES.items():
        limit = getattr(subscription, name)
        if limit is None:
            continue
        if isinstance(limit, bool) or not isinstance(limit, int) or limit <= 0:
            raise ConfigurationError(f"{name} is a positive int of milliseconds, not {limit!r}")
        if not limited & types_sent(subscription):
            raise ConfigurationError(f"{name} needs one of these data types: {', '.join(sorted(limited))}")


def types_sent(subscription: Subscription) -> frozenset[str]:
    """Return the data types that come for it; without any named, what the Exchange Rates product sends."""
    return frozenset(subscription.data_types or ("exrate",))


def _warn(subscription: Subscription) -> None:
    texts = []
    for data_type in subscription.data_types:
        if data_type in _RETIRED_DATA_TYPES:
            texts.append(f"the server ends connections that ask for the retired data type {data_type!r}")
        elif data_type not in KNOWN_DATA_TYPES:
            near = get_close_matches(data_type, KNOWN_DATA_TYPES, n=1)
            meant = f"did you mean {near[0]!r}? Known" if near else "known"
            texts.append(f"unknown data type {data_type!r}; {meant} are {', '.join(KNOWN_DATA_TYPES)}")
    for symbol in subscription.symbol_ids:
        if not symbol.endswith(("_", "$")):
            texts.append(
                f"symbol id {symbol!r} matches by prefix, so also longer ids; "
                f"write {symbol + '$'!r} for this one alone or {symbol + '_'!r} for all below it"
            )
    for text in texts:
        warnings.warn(text, SubscriptionWarning, stacklevel=3)


def matches_symbol(symbol: str, filters: tuple[str, ...]) -> bool:
    """Return whether any of the filters, sorted, prefixes or exact with a ``$`` at the end, is one of this symbol."""
    prefixes = (symbol[:length] for length in range(1, len(symbol) + 1))
    return _has(filters, f"{symbol}$") or any(_has(filters, text) for text in prefixes if not text.endswith("$"))


def _has(texts: tuple[str, ...], text: str) -> bool:
    """Return whether a text is among these, which are sorted, and may be many."""
    position = bisect_left(texts, text)
    return texts[position : position + 1] == (text,)
