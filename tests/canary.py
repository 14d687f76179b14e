"""An API key that sings: where it is found, it leaked.

`Canary` knows the key and every form in which it travels. `Watch` listens to logs, warnings, captured output
and exceptions while one test runs. conftest.py ties both to pytest.
"""

from __future__ import annotations

import base64
import logging
import secrets
import subprocess
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote_plus

import pytest

TESTS: Final = Path(__file__).resolve().parent

# Their frames hold the arguments of the test function, and so the key.
TEST_MACHINERY: Final = frozenset({"_pytest", "pluggy", "hypothesis"})

# A server from another project, in this process, may log the requests that it is sent.
FOREIGN_LOGGERS: Final = ("websockets",)


class Canary:
    """One key, and the search for it."""

    def __init__(self) -> None:
        self.key: Final = f"CANARY-{secrets.token_hex(16)}"
        basic = base64.b64encode(f"coinapi:{self.key}".encode()).decode()
        alone = base64.b64encode(self.key.encode()).decode()
        percent = "".join(f"%{byte:02x}" for byte in self.key.encode())
        forms = {self.key, quote(self.key, safe=""), percent, basic, alone}
        # Either half will do: a key cut short by a repr is half a key told.
        halves = [(form[: len(form) // 2], form[len(form) // 2 :].rstrip("=")) for form in forms]
        self._marks: Final = frozenset(half.lower() for pair in halves for half in pair)

    def is_in(self, text: str) -> bool:
        """Say whether `text` holds the key, or half of it, in any form."""
        readings = {text.lower(), unquote_plus(text).lower()}
        return any(mark in reading for mark in self._marks for reading in readings)

    def is_told_by(self, exception: BaseException, *, captured_locals: bool = True) -> bool:
        """Say whether `exception` gives the key away: by its text, attributes or traceback, or by a cause.

        `captured_locals` looks at the local variables of every frame too, as error trackers do, but for the
        frames of test files and of the test machinery, which hold the key by right.
        """
        return any(self.is_in(text) for text in _renderings(exception, captured_locals))


def _renderings(exception: BaseException, captured_locals: bool) -> Iterator[str]:
    # traceback.TracebackException(capture_locals=True) is not used: on 3.10 it dies of a repr that raises.
    yield "".join(traceback.format_exception(exception))
    for member in _family(exception, set()):
        yield _repr(member)
        yield _repr(member.args)
        yield _repr(vars(member))
        if captured_locals:
            for frame, _ in traceback.walk_tb(member.__traceback__):
                if not _holds_the_key_by_right(frame):
                    # Each by itself: the namespace of a class body need not have a repr that works.
                    yield from (f"{name} = {_repr(value)}" for name, value in list(frame.f_locals.items()))


def _family(exception: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """Yield the exception and all that its traceback shows with it: causes, contexts, members of groups."""
    if exception is None or id(exception) in seen:
        return
    seen.add(id(exception))
    yield exception
    yield from _family(exception.__cause__, seen)
    if not exception.__suppress_context__:
        yield from _family(exception.__context__, seen)
    for member in getattr(exception, "exceptions", ()):
        if isinstance(member, BaseException):
            yield from _family(member, seen)


def _holds_the_key_by_right(frame: types.FrameType) -> bool:
    path = Path(frame.f_code.co_filename)
    return TESTS in path.parents or not TEST_MACHINERY.isdisjoint(path.parts)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  a half-built object may raise anything
        return f"<no repr: {type(error).__name__}>"


class Watch(logging.Handler):
    """What one test lets out: `leaks` names the places where the key was seen, never what was seen."""

    def __init__(self, canary: Canary) -> None:
        super().__init__(logging.DEBUG)
        self.leaks: list[str] = []
        self._canary = canary

    def look(self, place: str, text: object) -> None:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        if self._canary.is_in(str(text)):
            self.leaks.append(place)

    def look_at_error(self, place: str, error: BaseException | None, *, captured_locals: bool) -> None:
        if error is not None and self._canary.is_told_by(error, captured_locals=captured_locals):
            self.leaks.append(place)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] in FOREIGN_LOGGERS:
            return
        # The attributes too, since structured handlers write them out: arguments, and what came in `extra`.
        place = f"log record of {record.name}"
        self.look(place, f"{record.getMessage()}\n{_repr(vars(record))}")
        if record.exc_info:
            self.look_at_error(place, record.exc_info[1], captured_locals=False)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Look at all that passes, and put everything back afterwards."""
        with pytest.MonkeyPatch.context() as patch, self._logs():
            self._warnings(patch)
            self._uncaught(patch)
            self._consumed_by_tests(patch)
            yield

    @contextmanager
    def _logs(self) -> Iterator[None]:
        root, package = logging.getLogger(), logging.getLogger("coinapi_ws")
        levels = {logger: logger.level for logger in (root, *map(logging.getLogger, FOREIGN_LOGGERS))}
        # Frame by frame, a foreign peer's debug log would only slow the test down.
        for logger in levels:
            logger.setLevel(logging.DEBUG if logger is root else logging.WARNING)
        # The package's logger too, for the test that stops it propagating.
        root.addHandler(self)
        package.addHandler(self)
        try:
            yield
        finally:
            package.removeHandler(self)
            root.removeHandler(self)
            for logger, level in levels.items():
                logger.setLevel(level)

    def _warnings(self, patch: pytest.MonkeyPatch) -> None:
        # Not a filter or a hook: pytest.warns() and recwarn would be deaf, or we would.
        warn = warnings.warn

        def listen(message: Any, category: Any = None, stacklevel: int = 1, *args: Any, **more: Any) -> None:
            self.look("warning", message)
            warn(message, category, stacklevel + 1, *args, **more)

        patch.setattr(warnings, "warn", listen)

    def _uncaught(self, patch: pytest.MonkeyPatch) -> None:
        in_main, in_thread, unraisable = sys.excepthook, threading.excepthook, sys.unraisablehook

        def excepthook(kind: Any, value: BaseException, trace: Any) -> None:
            self.look_at_error("uncaught exception", value, captured_locals=True)
            in_main(kind, value, trace)

        def thread_excepthook(args: threading.ExceptHookArgs) -> None:
            self.look_at_error("uncaught exception of a thread", args.exc_value, captured_locals=True)
            in_thread(args)

        def unraisablehook(args: Any) -> None:
            self.look("unraisable exception", f"{args.err_msg} {_repr(args.object)}")
            self.look_at_error("unraisable exception", args.exc_value, captured_locals=True)
            unraisable(args)

        patch.setattr(sys, "excepthook", excepthook)
        patch.setattr(threading, "excepthook", thread_excepthook)
        patch.setattr(sys, "unraisablehook", unraisablehook)

    def _consumed_by_tests(self, patch: pytest.MonkeyPatch) -> None:
        """Look at what a test takes for itself: the output that it reads, the exceptions that it expects."""
        readouterr, leave_raises = pytest.CaptureFixture.readouterr, pytest.RaisesExc.__exit__
        communicate = subprocess.Popen.communicate

        def read(fixture: pytest.CaptureFixture[Any]) -> Any:
            captured = readouterr(fixture)
            self.look("captured output", captured.out)
            self.look("captured output", captured.err)
            return captured

        def leave(raises: Any, kind: Any, value: BaseException | None, trace: Any) -> Any:
            # Without locals: who is handed a key and refuses the call has it in a local variable, and may.
            self.look_at_error("expected exception", value, captured_locals=False)
            return leave_raises(raises, kind, value, trace)

        def hear(child: subprocess.Popen[Any], *args: Any, **more: Any) -> Any:
            said = communicate(child, *args, **more)
            for text in said:
                self.look("output of a subprocess", text)
            return said

        patch.setattr(subprocess.Popen, "communicate", hear)
        patch.setattr(pytest.CaptureFixture, "readouterr", read)
        patch.setattr(pytest.RaisesExc, "__exit__", leave)
