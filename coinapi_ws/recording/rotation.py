"""A recording in one file, or in many that follow each other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ..timestamps import to_datetime
from .compression import SUFFIXES, TextFile


class RotatingFile:
    """Text in a file of this name or, with a limit, in files whose names have the time (UTC) when each was begun.

    The first one is opened at once, each other one when there is something to write. None is ever overwritten. Raises
    what `TextFile` does. ``clock`` is in seconds, ``wall_clock_ns`` in nanoseconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        *,
        max_bytes: int | None = None,
        max_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._name = name
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._clock = clock
        self._wall_clock_ns = wall_clock_ns
        self._last_us = 0
        self._is_empty = True
        self._file: TextFile | None = self._open()
        self._begun = clock()
        #: The name of the file that was written to last.
        self.path = self._file.name

    def write(self, text: bytes) -> None:
        """Add whole lines."""
        if self._file is None:
            self._file, self._begun, self._is_empty = self._open(), self._clock(), True
            self.path = self._file.name
        self._file.write(text)
        self._is_empty = False

    def sync(self) -> None:
        """Let all that was written be readable by others; end a file whose time, or room, is over."""
        if self._file is None:
            return
        self._file.sync()
        if not self._is_empty and self._is_over(self._file):
            self.close()

    def close(self) -> None:
        """Finish the file; idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _is_over(self, file: TextFile) -> bool:
        if self._max_bytes is not None and file.size >= self._max_bytes:
            return True
        return self._max_seconds is not None and self._clock() - self._begun >= self._max_seconds

    def _open(self) -> TextFile:
        if self._max_bytes is None and self._max_seconds is None:
            return TextFile(self._name)
        while True:
            # Later than the one before, though the clock may have been set back.
            self._last_us = max(self._wall_clock_ns() // 1000, self._last_us + 1)
            try:
                return TextFile(name_at(self._name, self._last_us * 1000))
            except FileExistsError:
                continue


def name_at(name: str, begun_ns: int) -> str:
    """Return the name of a file that was begun then: ``a-20260102T030405.678901Z.jsonl.gz`` for ``a.jsonl.gz``."""
    path = Path(name)
    stem, end = path.name, ""
    if path.suffix in SUFFIXES:
        stem, end = path.stem, path.suffix
    stem, kind = os.path.splitext(stem)
    return str(path.with_name(f"{stem}-{to_datetime(begun_ns):%Y%m%dT%H%M%S.%fZ}{kind}{end}"))
