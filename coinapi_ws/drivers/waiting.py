"""Waiting for one connection's descriptor, for those who have no loop of their own."""

from __future__ import annotations

import selectors
import time
from typing import Final, Protocol

#: No wait is longer, so that Ctrl-C works where a wait cannot be interrupted (F17).
LONGEST_WAIT_SECONDS: Final = 0.2

#: Poll is the cheapest for few descriptors and has no limit on their number (T8). Neither needs to be closed.
Selector: Final[type[selectors.BaseSelector]] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class _Wanting(Protocol):
    def want_read(self) -> bool: ...

    def want_write(self) -> bool: ...


def wants_of(connection: _Wanting) -> int:
    """Return the events to wait for; 0 where there are none."""
    return selectors.EVENT_READ * connection.want_read() | selectors.EVENT_WRITE * connection.want_write()


class Waiting:
    """A selector for a descriptor that may change from wait to wait."""

    def __init__(self) -> None:
        self._selector = Selector()
        self._watched: tuple[int, int, int] | None = None

    def wait(self, descriptor: int, generation: int, wants: int, seconds: float) -> int:
        """Wait until the descriptor is ready for one of ``wants``; return for which, 0 after ``seconds``.

        ``generation`` tells two sockets with the same descriptor apart.
        """
        if not wants:
            time.sleep(seconds)
            return 0
        watched = (descriptor, generation, wants)
        if watched != self._watched:
            # A new one, since Ctrl-C may have left the old one half changed (F18).
            self._watched, self._selector = None, Selector()
            self._selector.register(descriptor, wants)
            self._watched = watched
        ready = self._selector.select(seconds)
        return ready[0][1] if ready else 0
