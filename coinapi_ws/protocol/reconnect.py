"""Why a session ended, as a class, and how long to wait before the next one."""

from __future__ import annotations

from typing import Final

from ..events import Cause
from ..exceptions import (
    AuthenticationError,
    CoinAPIError,
    HandshakeRejected,
    PermissionDenied,
    RateLimited,
    ServerRejected,
)

Verdict = tuple[Cause, type[CoinAPIError]]

#: Which words of an ``error`` message mean what, in this order (vendor_notes.md, "Errors").
_ERROR_TEXTS: Final[tuple[tuple[str, Verdict], ...]] = (
    ("invalid api key", (Cause.CREDENTIALS, AuthenticationError)),
    ("unauthorized", (Cause.CREDENTIALS, AuthenticationError)),
    ("forbidden", (Cause.CREDENTIALS, PermissionDenied)),
    ("privileges", (Cause.CREDENTIALS, PermissionDenied)),
    ("maximum allowed buffered messages", (Cause.OVERFLOW, ServerRejected)),
    ("_limit_ms", (Cause.SCOPE, ServerRejected)),  # a field of the hello, not a limit that was exceeded
    ("too many", (Cause.RATE_LIMIT, RateLimited)),
    ("limit", (Cause.RATE_LIMIT, RateLimited)),
    ("data type", (Cause.SCOPE, ServerRejected)),
    ("subscribe", (Cause.SCOPE, ServerRejected)),
    ("filter", (Cause.SCOPE, ServerRejected)),
    ("hello", (Cause.SCOPE, ServerRejected)),
    ("symbol", (Cause.SCOPE, ServerRejected)),
)
#: REST's codes, since those of a refused upgrade are not documented.
_STATUSES: Final[dict[int, Verdict]] = {
    401: (Cause.CREDENTIALS, AuthenticationError),
    403: (Cause.CREDENTIALS, PermissionDenied),
    429: (Cause.RATE_LIMIT, RateLimited),
}
#: Close codes by which a server says that another one, or a later time, will do (RFC 6455, 7.4; IANA registry).
_GOING_AWAY_CODES: Final = frozenset({1001, 1012, 1013})
#: Of these the server asks for patience.
SLOW_CODES: Final = frozenset({1012, 1013})

#: Causes that another try cannot mend.
FINAL_CAUSES: Final = frozenset({Cause.CREDENTIALS, Cause.SCOPE, Cause.LOCAL})


def classify_error(text: str) -> Verdict:
    """Return the class of an ``error`` message that ended a connection, by its text."""
    lowered = text.lower()
    for words, verdict in _ERROR_TEXTS:
        if words in lowered:
            return verdict
    return Cause.UNKNOWN, ServerRejected


def classify_status(status: int) -> Verdict:
    """Return the class of a refused upgrade, by its HTTP status."""
    if status in _STATUSES:
        return _STATUSES[status]
    return (Cause.NETWORK if status >= 500 else Cause.UNKNOWN), HandshakeRejected


def classify_close(code: int, *, notified: bool) -> Cause:
    """Return the class of a close by the server, by its code and whether a ``reconnect`` notice came before."""
    if notified or code in _GOING_AWAY_CODES:
        return Cause.NOTICE
    if code == 1006:
        return Cause.NETWORK
    return Cause.PROTOCOL if code in (1002, 1003, 1007, 1009) else Cause.UNKNOWN


class Backoff:
    """Exponential back-off with full jitter.

    The wait before attempt n is a random part of ``initial * factor ** n``, at most ``maximum``, and never less
    than the server asked for; after a Close of 1012 or 1013 also not less than ``slow_minimum``. Attempts count up
    until a connection was live for ``reset_after`` seconds. All times are seconds; the random number is an argument, so
    that this stays pure. For one thread, and one client.
    """

    def __init__(
        self,
        *,
        initial: float = 1.0,
        factor: float = 2.0,
        maximum: float = 60.0,
        reset_after: float = 60.0,
        slow_minimum: float = 10.0,
    ) -> None:
        self._initial = initial
        self._factor = factor
        self._maximum = maximum
        self._reset_after = reset_after
        self._slow_minimum = slow_minimum
        self._live_since: float | None = None
        self._ceiling = min(initial, maximum)
        self.attempts = 0

    def live(self, now: float) -> None:
        """Take note that a session went live."""
        self._live_since = now

    def delay(self, now: float, random: float, *, retry_after: float | None = None, code: int = 0) -> float:
        """Take note that a session ended, and return the seconds to wait before the next attempt.

        ``random`` is in [0, 1); ``retry_after`` what the server asked for; ``code`` the close code.
        """
        if self._live_since is not None and now - self._live_since >= self._reset_after:
            self.attempts = 0
            self._ceiling = min(self._initial, self._maximum)
        self._live_since = None
        ceiling = self._ceiling
        # Step by step: a power would overflow by the thousandth attempt.
        self._ceiling = min(ceiling * self._factor, self._maximum)
        self.attempts += 1
        return self.least(retry_after=retry_after, code=code) + random * ceiling

    def least(self, *, retry_after: float | None = None, code: int = 0) -> float:
        """Return the seconds that the server asks to wait at least."""
        return max(retry_after or 0.0, self._slow_minimum if code in SLOW_CODES else 0.0)
