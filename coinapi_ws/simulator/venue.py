"""One symbol's trading: a book that follows a fair price, and the trades that hit it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from .candles import Candle, Candles
from .instruments import ASSETS, EXCHANGES, Instrument
from .orderbook import MATCH, SUBTRACT, OrderChange, Side
from .wire import NS_PER_SECOND

MIN_LEVELS: Final = 55  # so that book50 is full
MAX_LEVELS: Final = 80
_FIRST_LEVELS: Final = 64
_TRADE_PERCENT: Final = 30
_LEVEL_GAP_PARTS: Final = 30_000  # levels are about a third of a basis point apart
_NEAR_LEVELS: Final = 20  # where orders are changed and removed
_ORDER_USD: Final = 1000


class Trade(NamedTuple):
    """One trade: the counter that makes its identifier, ticks, lots, and the side that came to the book."""

    counter: int
    price: int
    size: int
    is_buy: bool


class Activity(NamedTuple):
    """What one event changed. Levels carry their new size; a quote is prices and sizes at the best."""

    trade: Trade | None
    over: list[Candle]
    asks: list[tuple[int, int]]
    bids: list[tuple[int, int]]
    ask_orders: list[OrderChange]
    bid_orders: list[OrderChange]
    quote_changed: bool


class Venue:
    """The market of one symbol. Prices are ticks, sizes lots, times nanoseconds since the epoch."""

    def __init__(self, instrument: Instrument, rng: random.Random, counter: Callable[[], int], fair: int) -> None:
        self.instrument = instrument
        self.latency_ns = EXCHANGES[instrument.exchange_id].latency_ns
        self.asks = Side(1)
        self.bids = Side(-1)
        self.candles = Candles()
        self.last_price = fair
        self.changed_ns = 0
        self._rng = rng
        self._counter = counter
        usd_lots = 10 ** (instrument.size_decimals + 6) // ASSETS[instrument.base].price_micro_usd
        self._order_lots = max(10, _ORDER_USD * usd_lots)
        for side in (self.asks, self.bids):
            side.add(counter(), fair + side.direction * (1 + self._below(self._gap(fair))), self._size())
            while len(side) < _FIRST_LEVELS:
                self._add_behind(side, fair)
            side.drain()

    def next_delay_ns(self) -> int:
        """Return how long it is until the next event, in whole units of 100 ns."""
        mean_ns = NS_PER_SECOND / self.instrument.events_per_second
        return max(1, int(mean_ns * (0.1 + 1.8 * self._rng.random()) / 100)) * 100

    def act(self, now_ns: int, fair: int) -> Activity:
        """Let one thing happen at this time, with the fair price in ticks."""
        before = self.quote()
        trade = self._trade(fair)
        for _ in range(1 + self._below(2)):
            self._change_an_order(self.asks if self._below(2) else self.bids, fair)
        for side in (self.asks, self.bids):
            self._keep_depth(side, fair)
        self.changed_ns = now_ns
        over: list[Candle] = []
        if trade is not None:
            self.last_price = trade.price
            over = self.candles.add_trade(now_ns - self.latency_ns, trade.price, trade.size)
        asks, ask_orders = self.asks.drain()
        bids, bid_orders = self.bids.drain()
        return Activity(trade, over, asks, bids, ask_orders, bid_orders, self.quote() != before)

    def quote(self) -> tuple[int, int, int, int]:
        """Return best ask, its size, best bid, its size."""
        ask, bid = self.asks.best, self.bids.best
        return ask, self.asks.size_at(ask), bid, self.bids.size_at(bid)

    def _trade(self, fair: int) -> Trade | None:
        # Whoever sees a price on the wrong side of the fair one takes all of it: so the book follows the
        # walk.
        if self.asks.best <= fair:
            side, whole = self.asks, True
        elif self.bids.best >= fair:
            side, whole = self.bids, True
        elif self._below(100) < _TRADE_PERCENT:
            side, whole = (self.asks if self._below(2) else self.bids), False
        else:
            return None
        price = side.best
        order, available = next(iter(side.orders_at(price).items()))
        size = available if whole else 1 + self._below(available)
        side.reduce(order, price, size, MATCH)
        return Trade(self._counter(), price, size, side is self.asks)

    def _change_an_order(self, side: Side, fair: int) -> None:
        choice = self._below(100)
        if choice < 45:
            side.add(self._counter(), self._free_price(side, fair), self._size())
            return
        price = side.price_at(self._below(min(_NEAR_LEVELS, len(side))))
        orders = tuple(side.orders_at(price).items())
        order, size = orders[self._below(len(orders))]
        if choice < 70:
            side.delete(order, price)
        elif choice < 80:
            side.resize(order, price, self._size())
        elif choice < 90:
            side.reduce(order, price, 1 + self._below(size), SUBTRACT)
        else:
            side.move(order, price, self._free_price(side, fair))

    def _free_price(self, side: Side, fair: int) -> int:
        """Return a price at which an order rests without crossing the other side."""
        gap = self._gap(fair)
        near = self._below(2) == 0
        price = fair + side.direction * (1 + self._below(gap * (3 if near else MIN_LEVELS)))
        if side is self.asks:
            return max(price, self.bids.best + 1)
        return min(price, self.asks.best - 1)

    def _keep_depth(self, side: Side, fair: int) -> None:
        while len(side) < MIN_LEVELS:
            self._add_behind(side, fair)
        while len(side) > MAX_LEVELS:
            price = side.worst
            for order in tuple(side.orders_at(price)):
                side.delete(order, price)

    def _add_behind(self, side: Side, fair: int) -> None:
        price = side.worst + side.direction * (1 + self._below(2 * self._gap(fair)))
        side.add(self._counter(), price, self._size())

    def _gap(self, fair: int) -> int:
        return max(1, fair // _LEVEL_GAP_PARTS)

    def _size(self) -> int:
        large = self._below(10) == 0
        return 1 + self._below(self._order_lots * (20 if large else 2))

    def _below(self, limit: int) -> int:
        # random() alone is promised to be the same in every Python version.
        return int(self._rng.random() * limit)
