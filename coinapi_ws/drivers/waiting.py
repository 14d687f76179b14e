"""Waiting for one connection's descriptor, for those who have no loop of their own."""

from __future__ import annotations

import selectors
import time
from typing import Final, NamedTuple

#: No wait is longer, so that Ctrl-C works where a wait cannot be interrupted (F17).
LONGEST_WAIT_SECONDS: Final = 0.2

#: Poll is the cheapest for few descriptors and has no limit on their number (T8). Neither needs to be closed.
Selector: Final[type[selectors.BaseSelector]] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Interest(NamedTuple):
    """What to wait for: a descriptor, -1 where there is none, and the ``selectors`` events that mean work, perhaps 0.

    ``generation`` tells two sockets with the same descriptor apart.
    """

    descriptor: int
    generation: int
    events: int


NO_INTEREST: Final = Interest(-1, 0, 0)


class Waiting:
    """A selector for a descriptor that may change from wait to wait."""

    def __init__(self) -> None:
        self._selector = Selector()
        self._watched: Interest | None = None

    def wait(self, interest: Interest, seconds: float) -> int:
        """Wait until the descriptor is ready for one of the events; return for which, 0 after ``seconds``."""
        if not interest.events:
            time.sleep(seconds)
            return 0
        if interest != self._watched:
            # A new one, since Ctrl-C may have left the old one half changed (F18).
            self._watched, self._selector = None, Selector()
            self._selector.register(interest.descriptor, interest.events)
            self._watched = interest
        ready = self._selector.select(seconds)
        return ready[0][1] if ready else 0
