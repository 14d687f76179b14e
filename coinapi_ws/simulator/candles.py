"""Candles of one symbol, summed from its trades in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .wire import NS_PER_SECOND

PERIOD_SECONDS: Final = {
    "1SEC": 1,
    "5SEC": 5,
    "1MIN": 60,
    "5MIN": 300,
    "15MIN": 900,
    "1HRS": 3600,
    "1DAY": 86400,
}
#: How often a candle that is open and changing is published: [D] each 1 to 5 seconds.
_SHORT_UPDATE_SECONDS: Final = 1
_LONG_UPDATE_SECONDS: Final = 5
_LONG_PERIOD_SECONDS: Final = 300


@dataclass
class Candle:
    """The trades of one period so far; prices in ticks, the volume in lots."""

    period_id: str
    start_ns: int
    end_ns: int
    time_open_ns: int
    time_close_ns: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int
    changed: bool = True

    def add(self, time_ns: int, price: int, size: int) -> None:
        """Count one more trade."""
        self.time_close_ns = time_ns
        self.close = price
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.volume += size
        self.trades += 1
        self.changed = True


class Candles:
    """The open candles of one symbol, one a period. Periods in which nothing was traded have none."""

    def __init__(self) -> None:
        self._open: dict[str, Candle] = {}

    def add_trade(self, time_ns: int, price: int, size: int) -> list[Candle]:
        """Count a trade by the exchange's time; return the candles that it shows to be over."""
        over = []
        for period_id, seconds in PERIOD_SECONDS.items():
            candle = self._open.get(period_id)
            if candle is not None and time_ns < candle.end_ns:
                candle.add(time_ns, price, size)
                continue
            if candle is not None:
                over.append(candle)
            start_ns = time_ns - time_ns % (seconds * NS_PER_SECOND)
            end_ns = start_ns + seconds * NS_PER_SECOND
            self._open[period_id] = Candle(
                period_id, start_ns, end_ns, time_ns, time_ns, price, price, price, price, size, 1
            )
        return over

    def due(self, second_ns: int) -> list[Candle]:
        """Return what is to be published once all trades before ``second_ns`` are counted.

        That is each candle whose period is over by then, for the last time, and those that changed and whose
        turn it is.
        """
        due = []
        second = second_ns // NS_PER_SECOND
        for period_id, candle in tuple(self._open.items()):
            if candle.end_ns <= second_ns:
                del self._open[period_id]
                due.append(candle)
                continue
            is_long = PERIOD_SECONDS[period_id] >= _LONG_PERIOD_SECONDS
            interval = _LONG_UPDATE_SECONDS if is_long else _SHORT_UPDATE_SECONDS
            if candle.changed and second % interval == 0:
                candle.changed = False
                due.append(candle)
        return due
