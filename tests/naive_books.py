"""Books kept in the plainest way, for comparison: dicts to which changes are applied as the vendor describes them."""

from __future__ import annotations

from typing import Any

from coinapi_ws import Book, BookL3

#: One side: of L2 the size by price; of L3 price and size by id, or by price of what has no id.
Side = dict[Any, Any]


def apply_l2(levels: Side, changes: list[tuple[Any, Any]]) -> None:
    """Apply (price, size); size 0 removes."""
    for price, size in changes:
        if size:
            levels[price] = size
        else:
            levels.pop(price, None)


def apply_l3(orders: Side, changes: list[tuple[Any, Any, Any, Any]]) -> None:
    """Apply (price, size, id, update_type)."""
    for price, size, order_id, update in changes:
        key = order_id or price
        if update == "DELETE" or (update in ("ADD", "UPDATE", "SET", None) and not size):
            orders.pop(key, None)
        elif update in ("ADD", "UPDATE", "SET", None):
            is_more = update == "ADD" and order_id is None and key in orders  # of a level that is there
            orders[key] = (price, orders[key][1] + size if is_more else size)
        elif key in orders:
            known_price, known_size = orders.pop(key)
            if known_size > size:
                orders[key] = (known_price, known_size - size)


def shown(book: Book | BookL3) -> dict[str, Side]:
    """The levels of a snapshot, as they are."""
    if isinstance(book, Book):
        return {name: {level.price: level.size for level in getattr(book, name)} for name in ("asks", "bids")}
    return {
        name: {level.id or level.price: (level.price, level.size) for level in getattr(book, name)}
        for name in ("asks", "bids")
    }


def apply(side: Side, book: Book | BookL3, name: str) -> None:
    """Apply one side of a message."""
    changes = [tuple(level) for level in getattr(book, name)]
    if isinstance(book, Book):
        apply_l2(side, changes)
    else:
        apply_l3(side, changes)
