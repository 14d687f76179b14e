"""A terminal that is drawn on, with plain ANSI sequences, and given back as it was."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing_extensions import Self

#: The alternate screen, no cursor, and no line that wraps where the window has just become narrower.
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
#: Attributes first: whatever was interrupted may have left some.
_LEAVE: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"


def is_drawable() -> bool:
    """Return whether stdout is a terminal that understands ANSI sequences."""
    return os.name == "posix" and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def wants_color() -> bool:
    """Return whether the user has nothing against colors (no-color.org)."""
    return not os.environ.get("NO_COLOR")


def can_encode(text: str) -> bool:
    """Return whether stdout has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


class Screen:
    """The whole terminal of stdout: a context manager, which gives it back on every exit and leaves the last picture.

    It is given back while Ctrl-Z suspends the program, too. The same picture is not drawn twice. For the main thread.
    """

    def __init__(self) -> None:
        self._picture: Sequence[str] = ()
        self._footer: Sequence[str] = ()
        self._size = (0, 0)
        self._is_drawn = False
        self._suspended_by: Any = None

    def __enter__(self) -> Self:
        try:
            self._suspended_by = signal.signal(signal.SIGTSTP, self._suspend)
            _write(_ENTER)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if self._picture:
            _write("\n".join((*self._picture, "")))

    def size(self) -> tuple[int, int]:
        """Return how many columns and lines there are now."""
        columns, lines = shutil.get_terminal_size()
        if (columns, lines) != self._size:
            self._size, self._is_drawn = (columns, lines), False
        return columns, lines

    def draw(self, picture: Sequence[str], footer: Sequence[str] = ()) -> None:
        """Show these lines, together no more than the terminal has; the footer goes with the screen."""
        if self._is_drawn and (picture, footer) == (self._picture, self._footer):
            return
        self._picture, self._footer, self._is_drawn = picture, footer, True
        *lines, last = (*picture, *footer)
        # Cleared before it is written: behind the last column, clearing takes away what stands in it.
        _write("".join((_HOME, *(f"{_CLEAR_LINE}{line}\r\n" for line in lines), _CLEAR_BELOW, last)))

    def _leave(self) -> None:
        if self._suspended_by is not None:
            signal.signal(signal.SIGTSTP, self._suspended_by)
        _write(_LEAVE)

    def _suspend(self, *_: object) -> None:
        # Not by sys.stdout, in the middle of a call of which this signal may have come.
        os.write(sys.stdout.fileno(), _LEAVE.encode())
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here somebody has let it go on.
        signal.signal(signal.SIGTSTP, self._suspend)
        os.write(sys.stdout.fileno(), _ENTER.encode())
        self._is_drawn = False


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
