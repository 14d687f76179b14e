"""Trades that come once, and markers told from trades. Pure (vendor_notes.md, "Messages")."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from ..exceptions import ConfigurationError
from ..messages import Trade

#: About 20 MB of uuids; at 1,000 trades a second, those of the last 100 seconds.
DEFAULT_REMEMBERED: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTrade:
    """A trade that had not come before. ``is_marker`` where its size is 0: then nothing was traded."""

    trade: Trade
    is_marker: bool


class Trades:
    """Drop trades that were there before, which exchanges send, and flag markers.

    ``remembered`` is how many uuids are kept to tell repetitions by, the newest ones; with 0 nothing is dropped, and
    never a trade without a uuid. ``repeated`` and ``markers`` count what was dropped and flagged.

    For one thread; nothing blocks.
    """

    def __init__(self, *, remembered: int = DEFAULT_REMEMBERED) -> None:
        if remembered < 0:
            raise ConfigurationError(f"remembered={remembered} is not possible; write a number of trades, 0 for none")
        self.repeated = 0
        self.markers = 0
        self._remembered = remembered
        self._uuids: set[str] = set()
        self._order: deque[str] = deque()

    def feed(self, trade: Trade) -> CheckedTrade | None:
        """Take the next trade; return it with what is to be known about it, None where it came before."""
        if self._remembered and trade.uuid is not None:
            if trade.uuid in self._uuids:
                self.repeated += 1
                return None
            self._uuids.add(trade.uuid)
            self._order.append(trade.uuid)
            if len(self._order) > self._remembered:
                self._uuids.discard(self._order.popleft())
        is_marker = trade.size == 0
        self.markers += is_marker
        return CheckedTrade(trade=trade, is_marker=is_marker)
