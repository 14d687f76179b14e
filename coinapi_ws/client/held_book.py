"""A book of the second connection that is held back until it has caught up with the first one, pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..messages import Book, BookL3, Level, LevelL3
from ..sides import L2Side, L3Side


class HeldBook:
    """A snapshot and the changes after it, as the one snapshot that they amount to."""

    latest: Book | BookL3
    _snapshot: Book | BookL3 | None

    def __init__(self, snapshot: Book | BookL3) -> None:
        side = L3Side if isinstance(snapshot, BookL3) else L2Side
        self._sides: dict[str, Any] = {"asks": side(is_asks=True), "bids": side(is_asks=False)}
        #: Whether all of it could be understood; what could not must be the end of it.
        self.is_whole = True
        self.change(snapshot)

    def change(self, message: Book | BookL3) -> None:
        """Apply a later message of the same book; another snapshot begins anew."""
        self.latest, self._snapshot = message, message if message.is_snapshot else None
        changes = {name: getattr(message, name) for name in self._sides}
        flaws = (side._flaw(changes[name]) or _can_mean_both(changes[name]) for name, side in self._sides.items())
        self.is_whole = not any(flaws)
        if self.is_whole:
            for name, side in self._sides.items():
                (side._replace if message.is_snapshot else side._change)(changes[name])

    def as_snapshot(self) -> Book | BookL3:
        """Return the book as a snapshot with the times and the sequence of the latest message."""
        if self._snapshot is not None:
            return self._snapshot
        latest = self.latest
        return type(latest)(
            type=latest.type,
            symbol_id=latest.symbol_id,
            sequence=latest.sequence,
            time_exchange=latest.time_exchange,
            time_coinapi=latest.time_coinapi,
            received_ns=latest.received_ns,
            is_snapshot=True,
            **{name: tuple(_entries(side)) for name, side in self._sides.items()},
        )


def _can_mean_both(changes: Iterable[Level | LevelL3]) -> bool:
    """Return whether something without an id is deleted: the level, or so much of it, which its reader says, not we."""
    orders = (change for change in changes if isinstance(change, LevelL3))
    return any(order.id is None and order.update_type == "DELETE" for order in orders)


def _entries(side: L2Side | L3Side) -> Any:
    return side.orders() if isinstance(side, L3Side) else side
