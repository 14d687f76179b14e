"""The market that two servers share, once more: what one client must be told by both of them together."""

from __future__ import annotations

import re
import threading
from collections import Counter
from typing import Any, Final

from coinapi_ws import (
    Book,
    BookL3,
    CallbackFailed,
    ConnectionGap,
    Event,
    Gap,
    HandedOver,
    HandoverFailed,
    LevelL3,
    Message,
    Trade,
    Undecodable,
)
from coinapi_ws.simulator.market import Market
from coinapi_ws.simulator.orderbook import Side

_UUID: Final = re.compile(r'"uuid":"([0-9a-f-]+)"')
_MOST_DISAGREEMENTS: Final = 20
#: So many changes after the last time a book is compared whole again.
_COMPARE_EACH: Final = 10

_Levels = dict[Any, tuple[Any, Any]]


class Reference:
    """Give it every message and event that the client delivers; it walks the market along.

    Trades come exactly once, no book, quote or rate goes back in time, and each book is that of the market, order by
    order and level by level. Prices and sizes are to be Decimals. Only with ``may_be_cut`` may a ``ConnectionGap`` say
    that some are missing.
    """

    def __init__(self, seed: int, start_ns: int, activity: float, symbol_ids: tuple[str, ...]) -> None:
        self.may_be_cut = False
        self.disagreements: list[str] = []
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._market = Market(seed)
        self._market.set_activity(activity)
        self._market.open(start_ns)
        self._wanted = [s for s in self._market.streams if s.type == "trade" and s.symbol_id in symbol_ids]
        self._awaited: dict[str, int] = {}
        self._gaps: list[ConnectionGap] = []
        self._begins_ns: int | None = None
        self._last_ns = 0
        self._times: dict[tuple[str, str | None], int] = {}
        self._books: dict[tuple[str, str], tuple[_Levels, _Levels]] = {}
        self._changes: Counter[tuple[str, str]] = Counter()

    def take(self, item: Message | Event) -> None:
        """Compare what the client delivered."""
        with self._lock:
            if self.may_be_cut and isinstance(item, ConnectionGap):
                self._gaps.append(item)
            elif self.may_be_cut and isinstance(item, HandoverFailed):
                self.counts["handovers failed"] += 1
            elif isinstance(item, (Gap, Undecodable, CallbackFailed, HandoverFailed)):
                self._disagree(str(item))
            elif isinstance(item, HandedOver):
                self.counts["duplicates"] += item.duplicates
                self.counts["handovers"] += 1
            elif isinstance(item, Event):
                self.counts[type(item).__name__] += 1
            else:
                self._take_message(item)

    @property
    def handovers(self) -> int:
        """How many were done."""
        return self.counts["handovers"]

    def missing_trades(self) -> list[str]:
        """Return the trades of before the last message that did not come, where no gap tells; with one connection."""
        with self._lock:
            awaited = [(uuid, time_ns) for uuid, time_ns in self._awaited.items() if time_ns <= self._last_ns]
            return [
                f"{uuid} of {time_ns}" for uuid, time_ns in awaited if not any(_has(g, time_ns) for g in self._gaps)
            ]

    def _take_message(self, message: Message) -> None:
        self.counts["messages"] += 1
        time_ns = getattr(message, "time_coinapi_ns", None)
        symbol_id = getattr(message, "symbol_id", None)
        if time_ns is None or symbol_id is None:
            return
        if self._begins_ns is None:
            self._begins_ns = time_ns  # of the first snapshot: that of the hello
        self._walk(time_ns)
        self._last_ns = time_ns
        if isinstance(message, Trade):
            self.counts["trades"] += 1
            if self._awaited.pop(message.uuid or "", None) is None:
                self._disagree(f"a trade of nobody, or delivered before: {message}")
            return
        key = (message.type, symbol_id)
        if time_ns < self._times.get(key, 0):
            self._disagree(f"back in time from {self._times[key]}: {message}"[:500])
        self._times[key] = time_ns
        if isinstance(message, BookL3) or (isinstance(message, Book) and message.type == "book"):
            self._take_book(key, message, time_ns)

    def _walk(self, time_ns: int) -> None:
        market = self._market
        while market.next_ns <= time_ns:
            step_ns = market.next_ns
            for publication in market.step(self._wanted):
                found = _UUID.search(publication.body)
                assert found is not None
                if self._begins_ns is not None and step_ns > self._begins_ns:
                    self._awaited[found[1]] = step_ns

    def _take_book(self, key: tuple[str, str], message: Book | BookL3, time_ns: int) -> None:
        if message.is_snapshot:
            self.counts["snapshots"] += 1
            self._books[key] = ({}, {})
        elif key not in self._books:
            self._disagree(f"a change of a book without a snapshot: {message}"[:500])
            return
        for levels, changes in zip(self._books[key], (message.asks, message.bids), strict=True):
            for change in changes:
                _apply(levels, change)
        venue = self._market.venue(key[1])
        self._changes[key] += 1
        if message.is_snapshot or self._changes[key] % _COMPARE_EACH == 0:
            if venue.changed_ns > time_ns or (not message.is_snapshot and venue.changed_ns != time_ns):
                return  # another thing has shown the market of later already
            self.counts["books compared"] += 1
            instrument = venue.instrument
            units = 10**instrument.price_decimals, 10**instrument.size_decimals
            for levels, side in zip(self._books[key], (venue.asks, venue.bids), strict=True):
                held = sorted((price * units[0], size * units[1]) for price, size in levels.values())
                if held != _levels_of(side, by_order=message.type == "book_l3"):
                    self._disagree(f"the {message.type} of {key[1]} at {time_ns} is not the market's")

    def _disagree(self, what: str) -> None:
        if len(self.disagreements) < _MOST_DISAGREEMENTS:
            self.disagreements.append(what)


def _has(gap: ConnectionGap, time_ns: int) -> bool:
    return (gap.from_ns is None or gap.from_ns <= time_ns) and (gap.to_ns is None or time_ns < gap.to_ns)


def _levels_of(side: Side, *, by_order: bool) -> list[tuple[int, int]]:
    return sorted((price, size) for _, price, size in side.orders()) if by_order else sorted(side.top())


def _apply(levels: _Levels, change: Any) -> None:
    """Apply one entry, as the simulator's docstring says that they are meant."""
    key, size = change.price, change.size
    if isinstance(change, LevelL3):
        key = change.id
        if change.update_type in ("MATCH", "SUBTRACT"):
            size = levels[key][1] - size
        elif change.update_type == "DELETE":
            size = 0
    if size:
        levels[key] = (change.price, size)
    else:
        levels.pop(key, None)
