"""How often one IP address may ask, and how many connections one key may hold."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from .wire import NS_PER_SECOND

Headers = list[tuple[bytes, bytes]]

#: Idle addresses are forgotten once there are so many.
_MAX_ADDRESSES: Final = 1000


class RateLimit:
    """At most ``limit`` in each sliding window, for each IP address on its own; a refused one does not count.

    ``header`` is how the names of the headers begin that tell a client.
    """

    def __init__(self, header: str, limit: int, window_ns: int) -> None:
        self.limit = limit
        self.window_ms = window_ns // 1_000_000
        self._header = header.encode()
        self._window_ns = window_ns
        self._taken: dict[str, deque[int]] = {}

    def take(self, address: str, now_ns: int) -> int:
        """Take one and return 0; where none is left, return in how many milliseconds there is."""
        taken = self._recent(address, now_ns)
        if len(taken) >= self.limit:
            return -(-(taken[0] + self._window_ns - now_ns) // 1_000_000)
        taken.append(now_ns)
        return 0

    def remaining(self, address: str, now_ns: int) -> int:
        """Return how many may be taken now."""
        return self.limit - len(self._recent(address, now_ns))

    def headers(self, address: str, now_ns: int, retry_after_ms: int = 0) -> Headers:
        """Return what an upgrade response says of this limit, vendor_notes.md "Limits"."""
        remaining = self.remaining(address, now_ns)
        values = [("Limit", self.limit), ("Remaining", remaining), ("WindowSizeMs", self.window_ms)]
        if retry_after_ms:
            values.append(("RetryAfterMs", retry_after_ms))
        return [(b"%s-%s" % (self._header, name.encode()), b"%d" % value) for name, value in values]

    def _recent(self, address: str, now_ns: int) -> deque[int]:
        if len(self._taken) > _MAX_ADDRESSES:
            start_ns = now_ns - self._window_ns
            self._taken = {a: taken for a, taken in self._taken.items() if taken and taken[-1] > start_ns}
        taken = self._taken.setdefault(address, deque())
        while taken and taken[0] <= now_ns - self._window_ns:
            taken.popleft()
        return taken


class _Holder(Protocol):
    @property
    def is_over(self) -> bool: ...


class ConnectionLimit:
    """At most ``limit`` open connections for each API key, given as its hash."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._holders: list[tuple[bytes, _Holder]] = []

    def is_reached(self, key: bytes) -> bool:
        """Tell whether this key may open no other connection."""
        return self._remaining(key) <= 0

    def hold(self, key: bytes, connection: _Holder) -> None:
        """Count a connection for a key until it is over."""
        self._holders.append((key, connection))

    def headers(self, key: bytes) -> Headers:
        """Return what an upgrade response says of this limit."""
        remaining = max(0, self._remaining(key))
        return [(b"X-ConcurrencyLimit-Limit", b"%d" % self.limit), (b"X-ConcurrencyLimit-Remaining", b"%d" % remaining)]

    def _remaining(self, key: bytes) -> int:
        self._holders = [(k, connection) for k, connection in self._holders if not connection.is_over]
        return self.limit - sum(k == key for k, _ in self._holders)


def retry_after(milliseconds: int) -> tuple[bytes, bytes]:
    """Return HTTP's own header for it, whole seconds rounded up."""
    return b"Retry-After", b"%d" % -(-milliseconds * 1_000_000 // NS_PER_SECOND)
