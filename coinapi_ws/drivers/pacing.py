"""The pacer of all connections of a process, whichever threads they belong to."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from ..protocol.pacing import Pacer


class SharedPacer(Pacer):
    """A pacer for the connections of all threads of a process."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()  # take() calls the others

    def renew_lock(self) -> None:
        """Forget, in a forked child, whoever held the lock."""
        self._lock = threading.RLock()

    def next_allowed(self, host: str, kind: str, now: float, *, is_vendor: bool, count: int = 1) -> float:
        with self._lock:
            return super().next_allowed(host, kind, now, is_vendor=is_vendor, count=count)

    def together(self, host: str, kind: str, count: int, *, is_vendor: bool) -> int:
        with self._lock:
            return super().together(host, kind, count, is_vendor=is_vendor)

    def record(self, host: str, kind: str, now: float, *, is_vendor: bool) -> None:
        with self._lock:
            super().record(host, kind, now, is_vendor=is_vendor)

    def take(self, host: str, kind: str, now: float, *, is_vendor: bool, count: int = 1) -> float:
        with self._lock:
            return super().take(host, kind, now, is_vendor=is_vendor, count=count)

    def block(self, host: str, kind: str, until: float) -> None:
        with self._lock:
            super().block(host, kind, until)

    def observe(self, host: str, headers: Iterable[tuple[str, str]], now: float) -> None:
        with self._lock:
            super().observe(host, headers, now)


#: The vendor counts per IP address, so one process has one budget.
PROCESS_PACER: Final = SharedPacer()
