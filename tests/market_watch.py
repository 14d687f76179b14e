"""What a market looked like, message by message, to compare what one client was told with what there was."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from coinapi_ws import Book, BookL3, Message, Trade

Sides = tuple[dict[Any, Decimal], dict[Any, Decimal]]


def uuids(items: Iterable[Any], before_ns: int | None = None) -> list[str]:
    """Of all trades, in their order."""
    return [
        str(item.uuid)
        for item in items
        if isinstance(item, Trade) and (before_ns is None or (item.time_exchange_ns or 0) < before_ns)
    ]


def repeated(items: Iterable[Any], *types: str) -> list[Any]:
    """The messages of these types that were told more than once."""
    told = Counter(
        (item.type, item.symbol_id, item.time_coinapi)
        for item in items
        if isinstance(item, Message) and item.type in types
    )
    return [key for key, count in told.items() if count > 1]


class Books:
    """The book of each symbol at each time at which a message changed it, by the vendor's rules for changes."""

    def __init__(self, items: Iterable[Any], data_type: str) -> None:
        self.moments: dict[str, list[int]] = {}
        self._sides: dict[tuple[str, int], Sides] = {}
        now: dict[str, Sides] = {}
        for message in items:
            if not isinstance(message, (Book, BookL3)) or message.type != data_type:
                continue
            symbol_id, moment = str(message.symbol_id), message.time_coinapi_ns or 0
            if message.is_snapshot:
                now[symbol_id] = ({}, {})
            for levels, changes in zip(now[symbol_id], (message.asks, message.bids), strict=True):
                for change in changes:
                    _apply(levels, change)
            self.moments.setdefault(symbol_id, []).append(moment)
            self._sides[symbol_id, moment] = (dict(now[symbol_id][0]), dict(now[symbol_id][1]))

    def at(self, symbol_id: str, moment: int) -> Sides:
        """The book as the last message up to that time left it."""
        moments = self.moments[symbol_id]
        return self._sides[symbol_id, moments[bisect_right(moments, moment) - 1]]

    def are_as_in(self, others: Books) -> bool:
        """Whether each book, at each time at which it was shown, was the one that the others know."""
        return all(sides == others.at(*at) for at, sides in self._sides.items())


def _apply(levels: dict[Any, Decimal], change: Any) -> None:
    key = getattr(change, "id", None) or change.price
    kind = getattr(change, "update_type", None)
    if kind in ("SUBTRACT", "MATCH"):
        levels[key] -= change.size
    elif kind == "DELETE":
        levels[key] = Decimal(0)
    else:
        levels[key] = change.size
    if not levels[key]:
        del levels[key]


def times(items: Iterable[Any], data_type: str) -> dict[str, list[int]]:
    """When each symbol's messages of a type were made, in the order in which they were told."""
    told: dict[str, list[int]] = {}
    for item in items:
        if isinstance(item, Message) and item.type == data_type:
            told.setdefault(str(item.symbol_id), []).append(item.time_coinapi_ns)
    return told
