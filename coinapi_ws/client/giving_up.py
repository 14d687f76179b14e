"""Which end of a connection is the last one: when to try again is of no use, pure."""

from __future__ import annotations

from typing import Final

from ..events import Cause, Disconnected
from ..exceptions import AuthenticationError, HandshakeRejected, ServerRejected
from ..protocol.reconnect import FINAL_CAUSES
from .settings import ClientSettings

#: Refusals of a kind that nobody has described are tried again so often, since each may be the last.
MAX_UNKNOWN_REFUSALS: Final = 5


class GivingUp:
    """Counts what went wrong in a row. Times are seconds on a monotonic clock."""

    def __init__(self, settings: ClientSettings) -> None:
        self._max_attempts = settings.max_attempts
        self._fresh_key_grace = settings.fresh_key_grace
        self._started_at = 0.0
        self._failed_attempts = 0
        self._unknown_refusals = 0

    def start(self, now: float) -> None:
        """Begin to count the age of a fresh key."""
        self._started_at = now

    def may_be_fresh_key(self, ending: Disconnected, now: float, *, was_ever_live: bool) -> bool:
        """Return whether the key was refused, but may be so new that the server does not know it yet."""
        grace = self._fresh_key_grace
        is_refused = ending.cause is Cause.CREDENTIALS and ending.error_type is AuthenticationError
        return is_refused and grace is not None and not was_ever_live and now - self._started_at < grace

    def is_final(self, ending: Disconnected, *, was_healthy: bool, is_fresh: bool) -> bool:
        """Count this end, and return whether no attempt is to follow it.

        ``was_healthy``: there was a healthy connection before it, so the count begins anew. ``is_fresh`` is for a
        refusal of what :meth:`may_be_fresh_key` says is fresh.
        """
        if was_healthy:
            self._failed_attempts = self._unknown_refusals = 0
        if ending.cause is Cause.UNKNOWN and ending.error_type in (ServerRejected, HandshakeRejected):
            self._unknown_refusals += 1
        else:
            self._unknown_refusals = 0
        # What was live until one of both wanted to end it did not fail.
        self._failed_attempts += ending.stage != "live" or ending.cause not in (Cause.LOCAL, Cause.NOTICE)
        if self._max_attempts is not None and self._failed_attempts > self._max_attempts:
            return True
        is_refused = ending.cause in FINAL_CAUSES and ending.cause is not Cause.LOCAL
        return self._unknown_refusals > MAX_UNKNOWN_REFUSALS or (is_refused and not is_fresh)
