"""Settings of the threaded client itself, frozen and validated; those of its connections are ``Options``."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

from ..exceptions import ConfigurationError
from .queueing import PAUSE, POLICIES

THREAD: Final = "thread"
INLINE: Final = "inline"
WAIT: Final = "wait"
NOW: Final = "now"
HANDOVER: Final = "handover"

DEFAULT_MAX_QUEUED_MESSAGES: Final = 100_000
DEFAULT_MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
#: The server pings about each minute and closes without a Pong (vendor_notes.md, "Liveness").
DEFAULT_SLOW_CONSUMER_TIMEOUT_SECONDS: Final = 30.0
PING_PERIOD_SECONDS: Final = 60.0
DEFAULT_QUIET_AFTER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How the client delivers and reconnects; :class:`~coinapi_ws.Client` explains each."""

    dispatch: str = THREAD
    when_full: str = PAUSE
    max_queued_messages: int = DEFAULT_MAX_QUEUED_MESSAGES
    max_queued_bytes: int = DEFAULT_MAX_QUEUED_BYTES
    slow_consumer_timeout: float | None = DEFAULT_SLOW_CONSUMER_TIMEOUT_SECONDS
    max_attempts: int | None = None
    fresh_key_grace: float | None = None
    on_reconnect_notice: str = WAIT
    quiet_after: float | None = DEFAULT_QUIET_AFTER_SECONDS
    stop_on_callback_error: bool = False

    def __post_init__(self) -> None:
        self._check_choice("dispatch", (THREAD, INLINE))
        self._check_choice("when_full", POLICIES)
        self._check_choice("on_reconnect_notice", (WAIT, NOW, HANDOVER))
        for name in ("max_queued_messages", "max_queued_bytes"):
            self._check_count(name)
        if self.max_attempts is not None:
            self._check_count("max_attempts")
        if not isinstance(self.stop_on_callback_error, bool):
            raise ConfigurationError(f"stop_on_callback_error is True or False, not {self.stop_on_callback_error!r}")
        for name in ("slow_consumer_timeout", "fresh_key_grace", "quiet_after"):
            self._check_seconds(name)
        patience = self.slow_consumer_timeout
        if patience is None or patience >= PING_PERIOD_SECONDS:
            warnings.warn(
                f"with slow_consumer_timeout={patience!r} the server's Pings, about one a minute, may go unanswered "
                "while the queue is full, and the server then closes the connection",
                RuntimeWarning,
                stacklevel=4,
            )

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ConfigurationError(f"{name}={getattr(self, name)!r} is not possible; write one of {choices}")

    def _check_count(self, name: str) -> None:
        count = getattr(self, name)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigurationError(f"{name} is an int of 1 or more, not {count!r}")

    def _check_seconds(self, name: str) -> None:
        seconds = getattr(self, name)
        if seconds is None:
            return
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < float("inf"):
            raise ConfigurationError(f"{name} is a positive number of seconds, or None, not {seconds!r}")
