"""How other threads tell the one that waits in a selector that there is something to do (F25)."""

from __future__ import annotations

import socket
from contextlib import suppress

from .monitor import Monitor


class Wakeup:
    """A descriptor that becomes readable when any thread pokes.

    Leave the work where the owner finds it, then :meth:`poke`; the owner calls :meth:`drain`, then looks for work: so
    none is overlooked. However many pokes, one byte waits. :meth:`poke` never blocks, and after :meth:`close` does
    nothing.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        # Closing while another thread sends would hit whichever socket has the number next (F21).
        self._monitor = Monitor()
        self._is_poked = False
        self._is_closed = False

    def fileno(self) -> int:
        """Return the descriptor to watch for reading; -1 once closed."""
        return self._reader.fileno()

    @property
    def is_held_here(self) -> bool:
        """Whether this thread is in the middle of a call."""
        return self._monitor.is_held_here()

    def poke(self) -> None:
        """Wake the owner. From any thread."""
        with self._monitor.lock:
            if self._is_poked or self._is_closed:
                return
            with suppress(BlockingIOError, InterruptedError):
                self._writer.send(b"\0")
            self._is_poked = True  # last, since a Ctrl-C in between must not keep the next poke from waking (F18)

    def drain(self) -> None:
        """Make the descriptor unreadable until the next poke."""
        with self._monitor.lock:
            with suppress(BlockingIOError, InterruptedError):
                while not self._is_closed and self._reader.recv(64):
                    pass
            # Last, so that a signal handler's poke in between leaves no byte taken and no next poke without one.
            self._is_poked = False

    def close(self) -> None:
        """Close both ends. Idempotent. Unregister the descriptor from selectors before."""
        with self._monitor.lock:
            self._is_closed = True
            self._reader.close()
            self._writer.close()

    def close_after_fork(self) -> None:
        """Close the child's descriptors, whoever held the lock when the process was forked."""
        self._monitor = Monitor()
        self.close()
