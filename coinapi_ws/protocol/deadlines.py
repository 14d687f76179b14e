"""Named deadlines, of which some stand still while nothing is read."""

from __future__ import annotations

from typing import Final

#: These count what the server does, which nobody sees while nothing is read.
_OF_THE_SERVER: Final = frozenset({"live", "silence", "pong"})


class Deadlines:
    """When what becomes due, in seconds on the caller's monotonic clock."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}
        self._paused_at: float | None = None

    def set(self, name: str, time: float) -> None:
        """Set or move one."""
        self._times[name] = time

    def move(self, name: str, time: float) -> None:
        """Move one, where there is one of this name."""
        if name in self._times:
            self._times[name] = time

    def drop(self, name: str) -> None:
        """Forget one, where there is one of this name."""
        self._times.pop(name, None)

    def clear(self) -> None:
        """Forget all."""
        self._times.clear()

    def next(self) -> float | None:
        """Return the earliest, None without any."""
        times = self._times
        if self._paused_at is not None:
            times = {name: times[name] for name in self._running()}
        return min(times.values(), default=None)

    def due(self, now: float) -> list[str]:
        """Return the names of those that have passed."""
        return [name for name in self._running() if self._times[name] <= now]

    def pause(self, now: float) -> None:
        """Let those that count what the server does stand still. Idempotent."""
        if self._paused_at is None:
            self._paused_at = now

    def resume(self, now: float) -> float:
        """Let them run again, and return for how long they stood; idempotent."""
        if self._paused_at is None:
            return 0.0
        paused_for, self._paused_at = now - self._paused_at, None
        for name in self._times.keys() & _OF_THE_SERVER:
            self._times[name] += paused_for
        return paused_for

    def _running(self) -> list[str]:
        return [name for name in self._times if self._paused_at is None or name not in _OF_THE_SERVER]
