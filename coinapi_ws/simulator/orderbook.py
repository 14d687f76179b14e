"""One order book in integers: orders in levels, levels in sides. Deterministic, no randomness of its own."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final, NamedTuple

ADD: Final = "ADD"
UPDATE: Final = "UPDATE"
SUBTRACT: Final = "SUBTRACT"
DELETE: Final = "DELETE"
MATCH: Final = "MATCH"


class OrderChange(NamedTuple):
    """One entry of an L3 delta; by its type, size is the new size or what was taken off."""

    order: int
    price: int
    size: int
    update_type: str


class Side:
    """The bids or the asks: price → orders in the order of their arrival, each order an integer → size.

    ``direction`` is 1 for asks (best is lowest) and -1 for bids; internally prices are kept times the
    direction, so that the best is always first.
    """

    def __init__(self, direction: int) -> None:
        self.direction = direction
        self._keys: list[int] = []
        self._levels: dict[int, dict[int, int]] = {}
        #: Sizes of the levels that changed since the last `drain`; 0 for a level that is gone.
        self._changed_prices: set[int] = set()
        self._changes: list[OrderChange] = []

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def best(self) -> int:
        """The best price. A side is never empty while the market runs."""
        return self._keys[0] * self.direction

    @property
    def worst(self) -> int:
        """The price farthest from the other side."""
        return self._keys[-1] * self.direction

    def price_at(self, index: int) -> int:
        """The price of the level at this distance from the best, 0 being the best."""
        return self._keys[index] * self.direction

    def size_at(self, price: int) -> int:
        """The whole size of a level, 0 where there is none."""
        return sum(self._levels.get(price, {}).values())

    def top(self, depth: int | None = None) -> list[tuple[int, int]]:
        """The (price, size) of the best levels, best first."""
        return [(key * self.direction, self.size_at(key * self.direction)) for key in self._keys[:depth]]

    def orders_at(self, price: int) -> dict[int, int]:
        """The orders of a level and their sizes, oldest first. Not to be changed."""
        return self._levels[price]

    def orders(self) -> Iterator[tuple[int, int, int]]:
        """Yield (order, price, size) of all orders, best level first."""
        for key in self._keys:
            price = key * self.direction
            for order, size in self._levels[price].items():
                yield order, price, size

    def add(self, order: int, price: int, size: int) -> None:
        """Put a new order at the end of its level."""
        self._place(order, price, size)
        self._changes.append(OrderChange(order, price, size, ADD))

    def resize(self, order: int, price: int, size: int) -> None:
        """Give an order a new size at its place."""
        self._levels[price][order] = size
        self._changed_prices.add(price)
        self._changes.append(OrderChange(order, price, size, UPDATE))

    def move(self, order: int, price: int, new_price: int) -> None:
        """Move an order to another price, in L3 an UPDATE whose price is new."""
        size = self._take(order, price)
        self._place(order, new_price, size)
        self._changes.append(OrderChange(order, new_price, size, UPDATE))

    def reduce(self, order: int, price: int, size: int, update_type: str) -> None:
        """Take off a part of an order, or all of it: a MATCH or a SUBTRACT."""
        rest = self._levels[price][order] - size
        if rest > 0:
            self._levels[price][order] = rest
            self._changed_prices.add(price)
        else:
            self._take(order, price)
        self._changes.append(OrderChange(order, price, size, update_type))

    def delete(self, order: int, price: int) -> None:
        """Remove an order."""
        size = self._take(order, price)
        self._changes.append(OrderChange(order, price, size, DELETE))

    def drain(self) -> tuple[list[tuple[int, int]], list[OrderChange]]:
        """Return what changed since the last call: levels with new sizes, best first, and order changes."""
        prices = sorted(self._changed_prices, key=self.direction.__mul__)
        levels = [(price, self.size_at(price)) for price in prices]
        changes = self._changes
        self._changed_prices = set()
        self._changes = []
        return levels, changes

    def _place(self, order: int, price: int, size: int) -> None:
        level = self._levels.get(price)
        if level is None:
            self._levels[price] = {order: size}
            insort(self._keys, price * self.direction)
        else:
            level[order] = size
        self._changed_prices.add(price)

    def _take(self, order: int, price: int) -> int:
        level = self._levels[price]
        size = level.pop(order)
        if not level:
            del self._levels[price]
            del self._keys[bisect_left(self._keys, price * self.direction)]
        self._changed_prices.add(price)
        return size
