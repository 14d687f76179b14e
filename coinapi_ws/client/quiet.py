"""Connected, but no data: which data type was silent for how long, pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..events import Quiet
from ..scope import Scope
from ..subscription import Subscription


class QuietWatch:
    """Watch each data type in scope while the connection is live. Times are seconds on a monotonic clock."""

    def __init__(self, quiet_after: float | None) -> None:
        self._quiet_after = quiet_after
        self._scope = Scope()
        self._types: frozenset[str] = frozenset()
        self._is_live = False
        #: When to report which type; one that was reported is not here until its next message.
        self._due: dict[str, float] = {}
        self._last_ns: dict[str, int] = {}
        self._received: dict[str, int] = {}

    def live(self, now: float) -> None:
        """Begin to watch: a connection is live."""
        self._is_live = True
        self._received = {}
        self._watch(self._types, now)

    def down(self) -> None:
        """Stop watching: there is no connection."""
        self._is_live = False
        self._due = {}

    def ask(self, scope: Scope, now: float) -> None:
        """Watch the types of another scope; what is known of those in both goes on."""
        types = frozenset(name for member in scope for name in _types_of(member))
        for name in self._types - types:
            self._due.pop(name, None)
        self._watch(types - self._types, now)
        self._scope, self._types = scope, types

    def received(self, counts: Mapping[str, int], now: float, received_ns: int) -> None:
        """Take note of so many messages by type."""
        for name, count in counts.items():
            self._received[name] = self._received.get(name, 0) + count
            self._last_ns[name] = received_ns
        self._watch(self._types & counts.keys(), now)

    def stand_still(self, seconds: float) -> None:
        """Do not count seconds in which nothing was read."""
        for name in self._due:
            self._due[name] += seconds

    def next_timeout(self) -> float | None:
        """Return when to call :meth:`report`."""
        return min(self._due.values(), default=None)

    def report(self, now: float) -> list[Quiet]:
        """Return what has become quiet."""
        silent = [name for name, due in self._due.items() if due <= now]
        for name in silent:
            del self._due[name]
        received = tuple(sorted(self._received.items()))
        return [
            Quiet(
                type=name,
                seconds=self._quiet_after or 0.0,
                asked=Scope(*(member for member in self._scope if name in _types_of(member))),
                last_ns=self._last_ns.get(name),
                received=received,
            )
            for name in silent
        ]

    def _watch(self, types: Iterable[str], now: float) -> None:
        if self._is_live and self._quiet_after is not None:
            due = now + self._quiet_after
            for name in types:
                self._due[name] = due


def _types_of(member: Subscription) -> tuple[str, ...]:
    return member.data_types or ("exrate",)
