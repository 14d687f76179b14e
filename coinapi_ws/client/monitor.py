"""A lock and its condition, in whose use a Ctrl-C or a signal handler may come at any moment (F18)."""

from __future__ import annotations

import threading


class Monitor:
    """Enter by ``with monitor.lock``; a condition is entered by Python code, which a Ctrl-C leaves with the lock taken.

    Reentrant, since a signal handler may call in the middle of a call.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._condition = threading.Condition(self.lock)

    def wait(self, seconds: float) -> None:
        """Let others in until :meth:`notify_all`, at most so long. The lock has to be held."""
        try:
            self._condition.wait(seconds)
        except BaseException:
            if not self.is_held_here():
                self.lock.acquire()  # the caller's `with` will release it
            raise

    def notify_all(self) -> None:
        """Wake all that wait. The lock has to be held."""
        self._condition.notify_all()

    def is_held_here(self) -> bool:
        """Return whether this thread is inside: a signal handler in the middle of a call, which must not wait."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]
