"""When to ask for which books again. Pure: times are seconds of the caller's monotonic clock."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, TypeVar

#: So long nothing came of an asking, the first time; then twice as long, and so on.
FIRST_RETRY_SECONDS: Final = 5.0
LONGEST_RETRY_SECONDS: Final = 60.0

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Missing:
    due: float
    asked: int = 0


class Resync(Generic[K]):
    """The books that are not true, each with a back-off of its own; those that are due are asked for together.

    ``interval`` is how many seconds there are at least between two askings.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._missing: dict[K, _Missing] = {}
        self._next_asking = -inf
        #: Not after the first that is due; what is found may leave it too early.
        self._first_due = inf

    def __bool__(self) -> bool:
        return bool(self._missing)

    def miss(self, key: K, due: float) -> None:
        """Ask for a book at that time. Nothing where that is so already."""
        if key not in self._missing:
            self._missing[key] = _Missing(due)
            self._first_due = min(self._first_due, due)

    def forget(self, key: K) -> None:
        """Ask no more: it is true, or nobody wants it."""
        self._missing.pop(key, None)

    def clear(self) -> None:
        """Ask for none: all of them come by themselves."""
        self._missing.clear()
        self._first_due = inf

    def take(self, now: float) -> list[K]:
        """Return what to ask for now, nothing mostly."""
        if now < self._first_due or now < self._next_asking:
            return []
        keys = [key for key, missing in self._missing.items() if missing.due <= now]
        for key in keys:
            missing = self._missing[key]
            missing.due = now + min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(missing.asked, 10))
            missing.asked += 1
        if keys:
            self._next_asking = now + self._interval
        self._find_first()
        return keys

    def asked(self, key: K) -> int:
        """Return how often a book was taken to be asked for, with this time."""
        return self._missing[key].asked

    def postpone(self, keys: Iterable[K]) -> None:
        """Ask for these, which were taken, the next time all the same."""
        for key in keys:
            missing = self._missing[key]
            missing.due, missing.asked = self._next_asking, missing.asked - 1
        self._find_first()

    def _find_first(self) -> None:
        self._first_due = min((missing.due for missing in self._missing.values()), default=inf)
