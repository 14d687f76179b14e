"""Recordings read line by line."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterable, Iterator

from .compression import Cut, Damaged, read_text
from .lines import Entry, RecordedFrame, RecordingError, RecordingWarning, parse_line

Path = str | os.PathLike[str]


def read_recording(path: Path) -> Iterator[RecordedFrame]:
    """Yield the frames of a recording in their order, reading the file as it goes.

    A last line that was cut short (its writer was killed) is left out, with a `RecordingWarning` that names
    the file and the line; so is the cut end of a compressed file. Every other line that is neither a frame nor an
    event raises `RecordingError`, and so does a compressed file that is damaged, after the whole lines before the
    damage: all of them with gzip, those up to 128 KiB of text before it with zstd. Empty lines are skipped. Raises
    `OSError` when the file cannot be opened, ``ConfigurationError`` where the extra for zstd is missing.
    """
    for entry in read_entries(path):
        if entry.frame is not None:
            yield RecordedFrame(entry.received_ns, entry.frame)


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield frames and events, as `read_recording` does."""
    name, number = os.fspath(path), 0
    begun: list[bytes] = []  # the line that is not whole yet
    is_cut = False
    try:
        for piece in read_text(name):
            first, *others = piece.split(b"\n")
            begun.append(first)
            if others:
                *lines, last = [b"".join(begun), *others]
                begun = [last]
                for line in lines:
                    number += 1
                    if line.strip():
                        yield parse_line(line, name, number)
    except Cut:
        is_cut = True
    except Damaged as damage:
        raise RecordingError(f"{name}, line {number + 1}: {damage}") from None
    yield from _last_line(b"".join(begun), name, number + 1, is_cut=is_cut)


def in_order(paths: Path | Iterable[Path]) -> list[str]:
    """Return the names of recordings in the order of their first lines; those without any come first.

    A pipe can be read once, and so stands alone: ``OSError`` where it does not.
    """
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    names = [os.fspath(path) for path in several]
    pipe = next((name for name in names if stat.S_ISFIFO(os.stat(name).st_mode)), None)
    if pipe is None:
        return sorted(names, key=_first_ns)
    if len(names) > 1:
        raise OSError(errno.ESPIPE, "a pipe is read alone, beside no other recording", pipe)
    return names


def _first_ns(name: str) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)  # told when it is read
        entry = next(read_entries(name), None)
    return 0 if entry is None else entry.received_ns


def _last_line(line: bytes, name: str, number: int, *, is_cut: bool) -> Iterator[Entry]:
    """Yield what stands behind the last line break, if it is whole."""
    if not is_cut:
        if not line.strip():
            return
        try:
            yield parse_line(line, name, number)
            return
        except RecordingError:
            pass  # told by the warning
    warnings.warn(
        f"{name}, line {number}: the recording ends in the middle of this line, which is left out",
        RecordingWarning,
        stacklevel=4,
    )
