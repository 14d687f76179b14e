"""A book of the second connection that is held back until it has caught up with the first one, pure.

The rules for changes are the vendor's (vendor_notes.md, "Books").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..messages import Book, BookL3, Level, LevelL3

_TIMES = ("time_exchange", "time_coinapi")
_SETTING = frozenset({"ADD", "UPDATE", "SET", None})
_SUBTRACTING = frozenset({"SUBTRACT", "SUB", "MATCH"})


class HeldBook:
    """A snapshot and the changes after it, as the one snapshot that they amount to."""

    latest: Book | BookL3
    _snapshot: Book | BookL3 | None
    _sides: dict[str, dict[Any, Level | LevelL3]]

    def __init__(self, snapshot: Book | BookL3) -> None:
        self._begin(snapshot)

    def _begin(self, snapshot: Book | BookL3) -> None:
        self.latest = self._snapshot = snapshot
        self._sides = {}
        for side in ("asks", "bids"):
            levels: Iterable[Level | LevelL3] = getattr(snapshot, side)
            self._sides[side] = {_key(level): level for level in levels}

    def change(self, delta: Book | BookL3) -> None:
        """Apply a later message of the same book; another snapshot begins anew."""
        if delta.is_snapshot:
            self._begin(delta)
            return
        self.latest, self._snapshot = delta, None
        for side, levels in self._sides.items():
            for change in getattr(delta, side):
                _apply(levels, change)

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
            **{side: tuple(levels.values()) for side, levels in self._sides.items()},
        )


def _key(level: Level | LevelL3) -> Any:
    """An order by its id; a level, and what has no id, by its price."""
    order_id = getattr(level, "id", None)
    return ("price", level.price) if order_id is None else ("id", order_id)


def _apply(levels: dict[Any, Level | LevelL3], change: Level | LevelL3) -> None:
    key = _key(change)
    if isinstance(change, LevelL3) and change.update_type not in _SETTING:
        known = levels.get(key)
        left: Any = None
        if change.update_type in _SUBTRACTING and known is not None and None not in (known.size, change.size):
            left = known.size - change.size  # type: ignore[operator]
        if left is not None and left > 0:
            assert isinstance(known, LevelL3)
            levels[key] = known._replace(size=left)
        elif change.update_type in _SUBTRACTING or change.update_type == "DELETE":
            levels.pop(key, None)
    elif not change.size:
        levels.pop(key, None)
    else:
        levels[key] = change._replace(update_type=None) if isinstance(change, LevelL3) else change
