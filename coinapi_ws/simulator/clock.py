"""The simulator's time: the real clock, or a virtual one that a test moves."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from .checking import checked
from .wire import NS_PER_SECOND

#: 2026-01-01T00:00:00Z, the beginning of every period there is, so that candles of virtual time are whole.
DEFAULT_START_NS: Final = 1_767_225_600 * NS_PER_SECOND


@runtime_checkable
class Clock(Protocol):
    """What the simulator asks of a clock. Both methods are called on the simulator's thread."""

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    def time_ns(self) -> int:
        """Return the wall clock in nanoseconds since the epoch."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def time_ns(self) -> int:
        """Return the wall clock in nanoseconds since the epoch."""
        return time.time_ns()


class VirtualClock:
    """A clock that stands still until it is advanced, for tests that must not wait.

    Takes the wall clock to begin with, ``start_ns``, in nanoseconds since the epoch. All methods may be
    called from every thread but the simulator's own.
    """

    @checked
    def __init__(self, start_ns: int = DEFAULT_START_NS) -> None:
        self._start_ns = start_ns
        self._elapsed_ns = 0
        self._lock = threading.Lock()
        self._followers: list[weakref.WeakMethod[Callable[[int], None]]] = []

    def now(self) -> float:
        """Return the virtual seconds that have passed since the clock was made."""
        return self._elapsed_ns / NS_PER_SECOND

    def time_ns(self) -> int:
        """Return the virtual wall clock in nanoseconds since the epoch."""
        return self._start_ns + self._elapsed_ns

    @checked
    def advance(self, seconds: float) -> None:
        """Move the clock on, and return when every simulator that uses it has caught up.

        What clients had already sent is processed at the old time. Then all timers that became due run one by
        one in their order, each at its own virtual time. A client that does not read meanwhile fills its buffer as it
        would in that time: read between advances where more than ``buffer_limit`` messages come. A client that still
        owes a Pong, and would be closed for it, gets a second of real time to send it. Blocks while the simulators
        work, some five seconds for an hour of the whole market. Raises ValueError for a number below 0 or
        without end, and what a simulator's thread died of.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError("a clock goes ahead, by a number of seconds of 0 or more: it cannot go back")
        with self._lock:
            ahead_ns = round(seconds * NS_PER_SECOND)
            self._settle(ahead_ns)
            self._elapsed_ns += ahead_ns
            self._settle(0)

    def follow(self, settle: Callable[[int], None]) -> None:
        """Have a simulator's bound method called before and after each advance; it is held weakly.

        Its argument is how many nanoseconds the clock will go ahead next.
        """
        self._followers.append(weakref.WeakMethod(settle))

    def _settle(self, ahead_ns: int) -> None:
        for reference in tuple(self._followers):
            settle = reference()
            if settle is None:
                self._followers.remove(reference)
            else:
                settle(ahead_ns)
