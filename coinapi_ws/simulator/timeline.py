"""What happens to a simulator by itself, and when. Without a clock of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .wire import NEVER_NS


@dataclass(order=True)
class Entry:
    """One entry of a time line: when it is due after the beginning, what it does, and how often it comes again."""

    at_ns: int
    position: int
    act: Callable[[], object]
    every_ns: int | None = None
    left: int | None = None
    #: At the beginning, it comes before there is a connection.
    precedes: bool = False


class Timeline:
    """The entries in the order of their times, those of one time in the order in which they were given."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = sorted(entries)
        self._begin_ns: int | None = None

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def has_begun(self) -> bool:
        """True once `begin` was called."""
        return self._begin_ns is not None

    @property
    def due_ns(self) -> int:
        """When `run` has something to do."""
        if self._begin_ns is None or not self._entries:
            return NEVER_NS
        return self._begin_ns + self._entries[0].at_ns

    def begin(self, now_ns: int) -> None:
        """Count from now on, and do what comes before the first connection."""
        self._begin_ns = now_ns
        for entry in [entry for entry in self._entries if entry.at_ns == 0 and entry.precedes]:
            entry.act()

    def run(self) -> None:
        """Do what is due first."""
        entry = heapq.heappop(self._entries)
        if entry.left is not None:
            entry.left -= 1
        if entry.every_ns is not None and entry.left != 0:
            entry.at_ns += entry.every_ns
            heapq.heappush(self._entries, entry)
        entry.act()
