"""A second connection that takes over from a first one, from the notice to the last repetition, pure.

Planned, where the back-off says to wait; then both are up; then one of them has ended, and for a while what comes of
the other is still compared with what was delivered.
"""

from __future__ import annotations

from typing import Final

from ..drivers.selector import SelectorConnection
from ..messages import ReconnectNotice
from ..protocol.frames import Item
from .handover import Handover

#: Where a notice does not say when the server will close.
DEFAULT_NOTICE_SECONDS: Final = 60.0
#: A first connection whose announced end does not come is closed so long after it.
GRACE_SECONDS: Final = 10.0
#: The second server may lag behind the first: so long after the first one's end repetitions are still looked for.
MERGING_SECONDS: Final = 30.0


class Takeover:
    """One handover. Times are seconds on a monotonic clock."""

    def __init__(self, notice: ReconnectNotice, now: float, begins_at: float) -> None:
        within = DEFAULT_NOTICE_SECONDS if notice.within_seconds is None else float(notice.within_seconds)
        self.begins_at: float | None = begins_at
        self.first_ends_by: float | None = max(now + within, begins_at) + GRACE_SECONDS
        self.merges_until: float | None = None
        self.second: SelectorConnection | None = None
        self.second_was_live = False
        self.is_off = False  # both are being closed
        self._handover: Handover | None = None

    @property
    def handover(self) -> Handover:
        """What merges the two; there is none while it is planned."""
        assert self._handover is not None
        return self._handover

    def begin(self, second: SelectorConnection, handover: Handover) -> None:
        """Have both connections."""
        self.second, self._handover = second, handover
        self.begins_at = None

    def be_over(self, now: float) -> None:
        """Have one of them alone, and look for repetitions for a while."""
        self.first_ends_by, self.merges_until = None, now + MERGING_SECONDS

    def merged(self, connection: SelectorConnection, items: list[Item]) -> list[Item]:
        """Return what of these items of one of the two is to be delivered."""
        is_second = connection is self.second
        return self.handover.take_second(items) if is_second else self.handover.take_first(items)

    def next_timeout(self) -> float | None:
        """Return when something is due."""
        times = (self.begins_at, self.first_ends_by, self.merges_until)
        return min((time for time in times if time is not None), default=None)

    def stand_still(self, seconds: float) -> None:
        """Do not count seconds in which nothing was read."""
        if self.first_ends_by is not None:
            self.first_ends_by += seconds
        if self.merges_until is not None:
            self.merges_until += seconds
