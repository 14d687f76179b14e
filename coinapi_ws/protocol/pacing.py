"""Budgets for upgrades and hellos, so that no one is asked more often than the server allows.

The vendor limits both per IP address (vendor_notes.md, "Limits"). A Pacer outlives sessions; whoever shares one
between threads guards it with a lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

UPGRADE: Final = "upgrade"
HELLO: Final = "hello"

#: The vendor's published numbers; headers of a response replace them.
DEFAULT_LIMIT: Final = 10
DEFAULT_WINDOW_SECONDS: Final = 10.0
#: We count what leaves, the server what arrives: one that was late on its way and one that was not come closer together
#: than they left. How late is the network's doing, whatever the window, so short ones have it as well.
MARGIN_SECONDS: Final = 0.5

_HEADER_PREFIXES: Final = {UPGRADE: "x-wsrequestsperiplimit", HELLO: "x-wshelloperiplimit"}
#: Headers beyond these are nonsense and are ignored.
_MAX_LIMIT: Final = 1_000_000
_MAX_MILLISECONDS: Final = 3_600_000

#: All header names, in lower case, that begin with one of these tell of limits.
LIMIT_HEADER_PREFIXES: Final = (*_HEADER_PREFIXES.values(), "x-concurrencylimit", "retry-after")


@dataclass(slots=True)
class _Budget:
    limit: int | None = None  # None: not limited
    window: float = DEFAULT_WINDOW_SECONDS
    blocked_until: float = float("-inf")
    taken: deque[float] = field(default_factory=deque)

    @property
    def counts_for(self) -> float:
        """How many seconds one that was taken counts."""
        return self.window + MARGIN_SECONDS


class Pacer:
    """Say when the next upgrade or hello may go to a host.

    Times are seconds on the caller's monotonic clock. The defaults, ten of each kind in ten seconds (vendor_notes.md,
    "Limits"), hold for hosts that the caller says are the vendor's; other hosts are limited once their headers say so.
    ``kind`` is "upgrade" or "hello". Nothing blocks; whoever shares one between threads guards it with a lock, as that
    which all connections of a process share by default does itself.
    """

    def __init__(self) -> None:
        self._budgets: dict[tuple[str, str], _Budget] = {}

    def next_allowed(self, host: str, kind: str, now: float, *, is_vendor: bool, count: int = 1) -> float:
        """Return the earliest time for the next one, ``now`` where it may go at once.

        ``count`` is how many are to go together, as far as :meth:`together` lets them.
        """
        count = self.together(host, kind, count, is_vendor=is_vendor)
        budget = self._budget(host, kind, is_vendor)
        self._forget_old(budget, now)
        allowed = max(now, budget.blocked_until)
        if budget.limit is not None:
            excess = len(budget.taken) + count - budget.limit
            if excess > 0:
                allowed = max(allowed, budget.taken[excess - 1] + budget.counts_for)
        return allowed

    def together(self, host: str, kind: str, count: int, *, is_vendor: bool) -> int:
        """Return how many of so many may ever go together."""
        limit = self._budget(host, kind, is_vendor).limit
        return count if limit is None else min(count, limit)

    def record(self, host: str, kind: str, now: float, *, is_vendor: bool) -> None:
        """Take note that one was sent."""
        budget = self._budget(host, kind, is_vendor)
        self._forget_old(budget, now)
        if budget.limit is not None:
            budget.taken.append(now)

    def take(self, host: str, kind: str, now: float, *, is_vendor: bool, count: int = 1) -> float:
        """Take one for now, or ``count`` as far as :meth:`together` lets them, and return ``now``.

        Where there are not so many left, none is taken; return when to ask again.
        """
        allowed = self.next_allowed(host, kind, now, is_vendor=is_vendor, count=count)
        if allowed <= now:
            for _ in range(self.together(host, kind, count, is_vendor=is_vendor)):
                self.record(host, kind, now, is_vendor=is_vendor)
        return allowed

    def block(self, host: str, kind: str, until: float) -> None:
        """Allow none before that time, whatever the budget says."""
        budget = self._budget(host, kind, is_vendor=False)
        budget.blocked_until = max(budget.blocked_until, until)

    def observe(self, host: str, headers: Iterable[tuple[str, str]], now: float) -> None:
        """Learn from the limit headers of a response; names in lower case, nonsense is ignored."""
        values = dict(headers)
        for kind, prefix in _HEADER_PREFIXES.items():
            limit = _number(values.get(f"{prefix}-limit"), _MAX_LIMIT)
            window_ms = _number(values.get(f"{prefix}-windowsizems"), _MAX_MILLISECONDS)
            remaining = _number(values.get(f"{prefix}-remaining"), _MAX_LIMIT)
            retry_ms = _number(values.get(f"{prefix}-retryafterms"), _MAX_MILLISECONDS)
            if limit is None and retry_ms is None:
                continue
            budget = self._budget(host, kind, is_vendor=False)
            if limit:
                budget.limit = limit
            if window_ms:
                budget.window = window_ms / 1000
            if retry_ms is not None:
                budget.blocked_until = max(budget.blocked_until, now + retry_ms / 1000)
            elif remaining == 0:
                # Others behind our address have taken what we did not count.
                budget.blocked_until = max(budget.blocked_until, now + budget.window)

    def _budget(self, host: str, kind: str, is_vendor: bool) -> _Budget:
        budget = self._budgets.setdefault((host, kind), _Budget())
        if is_vendor and budget.limit is None:
            budget.limit = DEFAULT_LIMIT
        return budget

    @staticmethod
    def _forget_old(budget: _Budget, now: float) -> None:
        while budget.taken and budget.taken[0] + budget.counts_for <= now:
            budget.taken.popleft()


def can_wait(wait: float, patience: float | None) -> bool:
    """Return whether who has so much patience can wait so long; the margin, which is ours, is not held against it."""
    return patience is None or wait <= patience + MARGIN_SECONDS


def retry_after_seconds(headers: Iterable[tuple[str, str]]) -> float | None:
    """Return the longest wait that the headers ask for, in seconds; HTTP dates are not read."""
    waits = []
    for name, value in headers:
        if name == "retry-after" and (seconds := _number(value, _MAX_MILLISECONDS // 1000)) is not None:
            waits.append(float(seconds))
        elif name.endswith("-retryafterms") and (ms := _number(value, _MAX_MILLISECONDS)) is not None:
            waits.append(ms / 1000)
    return max(waits, default=None)


def _number(text: str | None, most: int) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    number = int(text)
    return number if number <= most else None
