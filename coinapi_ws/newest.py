"""The newest of what is noted by one thread and looked at by another."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Keeps what was appended last, at most so many. Any thread may append and look; neither blocks.

    A list underneath, of which every interpreter cuts or copies a part in one go. A free-threaded one does not copy a
    deque in one go: it fails where another thread appends meanwhile.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[T] = []

    def append(self, item: T) -> None:
        """Keep this; now and then let go of what is too old."""
        self._kept.append(item)
        if len(self._kept) >= 2 * self._most:
            del self._kept[: -self._most]

    def items(self) -> list[T]:
        """Return a copy, the oldest first."""
        return self._kept[-self._most :]
