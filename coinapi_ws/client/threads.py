"""Threads whose start and end are certain, wherever a Ctrl-C comes in between, and their end with the interpreter."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Final

#: What is to be done at the interpreter's end after clients were closed, for what they still bring.
AFTER_CLIENTS: Final[list[Callable[[], object]]] = []


class InterruptibleThread(threading.Thread):
    """A daemon thread for starts and waits that a Ctrl-C may cut anywhere (F18): whether it runs is certain.

    ``join`` is not for that: cut by a Ctrl-C it takes the thread for ended (before CPython 3.13), and where a signal
    handler waits for the end in the middle of such a wait it hangs.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self.has_ended = False
        self._is_decided = threading.Lock()
        self._is_running = threading.Lock()
        self._is_running.acquire()

    def run(self) -> None:
        if not self._is_decided.acquire(blocking=False):
            return
        try:
            super().run()
        finally:
            self.has_ended = True
            self._is_running.release()

    def cancel(self) -> bool:
        """Return whether it has not begun; it never will then, though ``start`` may have been called."""
        return self._is_decided.acquire(blocking=False)

    def wait(self, seconds: float) -> None:
        """Wait for the end, at most so long."""
        if self._is_running.acquire(timeout=seconds):
            self._is_running.release()


def _end() -> None:
    for call in AFTER_CLIENTS:
        call()


# Who is registered later has its turn earlier, and clients import this.
atexit.register(_end)
