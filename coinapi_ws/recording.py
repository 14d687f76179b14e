"""Record frames to a file and read them back.

A recording is JSON Lines in UTF-8: one object a line, ``{"received_ns": 1618677817077736000, "frame":
"..."}``, in the order of arrival. ``received_ns`` is the wall clock in nanoseconds since the epoch, ``frame``
the text of one WebSocket message, unchanged. A file whose name ends in ``.gz`` is compressed with gzip.

A recording holds no API key: only what the server sent is written.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, cast

__all__ = ["RecordedFrame", "RecordingError", "RecordingWarning", "RecordingWriter", "read_recording"]

#: A compressed recording is made readable up to here each time this much text was added. Each point costs a
#: few bytes of compression; without any, a killed process would leave nothing that can be read.
GZIP_SYNC_BYTES: Final = 64 * 1024


class RecordedFrame(NamedTuple):
    """One recorded text frame and the wall clock (nanoseconds since the epoch) when it was received."""

    received_ns: int
    frame: str


class RecordingError(ValueError):
    """A recording cannot be read; the text names the file and the line."""


class RecordingWarning(UserWarning):
    """A recording ends in the middle of a line; the frames before that line were read."""


def read_recording(path: str | os.PathLike[str]) -> Iterator[RecordedFrame]:
    """Yield the frames of a recording in their order, reading the file as it goes.

    A last line that was cut short (its writer was killed) is left out, with a `RecordingWarning` that names
    the file and the line; so is the cut end of a gzip file. Every other line that is not a frame raises
    `RecordingError`. Empty lines are skipped. Raises `OSError` when the file cannot be opened.
    """
    name = os.fspath(path)
    number = 0
    with _open_for_reading(name) as file:
        while True:
            number += 1
            line, cut = _read_line(file, name, number)
            if not line and not cut:
                return
            if cut or not line.endswith(b"\n"):
                yield from _last_line(line, name, number, cut=cut)
                return
            if line.strip():
                yield _parse(line, name, number)


class RecordingWriter:
    """Write frames to a new recording; a context manager.

    Takes the path of a file that must not exist yet, unless ``overwrite=True``: a recording cannot be made
    again. A plain file gets each line with one unbuffered write, so that a killed process leaves whole lines;
    a ``.gz`` file can be read up to the last 64 KiB of text in that case. For use by one thread at a time;
    `write` blocks as long as the disk does. Raises `FileExistsError` and other `OSError`.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self._name = os.fspath(path)
        self._raw: BinaryIO = open(self._name, "wb" if overwrite else "xb", buffering=0)  # noqa: SIM115
        self._zipped: gzip.GzipFile | None = None
        if self._name.endswith(".gz"):
            self._zipped = gzip.GzipFile(filename="", mode="wb", fileobj=self._raw)
        self._unsynced_bytes = 0

    def __repr__(self) -> str:
        return f"<RecordingWriter {self._name!r}{' closed' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._raw.closed

    def write(self, frame: str, received_ns: int) -> None:
        """Append one frame with the wall clock of its arrival in nanoseconds since the epoch.

        Raises TypeError where the frame is no text, such as ``message.raw`` without ``keep_raw=True``.
        """
        if self.closed:
            raise ValueError(f"the recording {self._name} is closed")
        if not isinstance(frame, str):
            raise TypeError(f"a frame is text, not {type(frame).__name__}; message.raw has it with keep_raw=True")
        line = json.dumps({"received_ns": int(received_ns), "frame": frame}).encode("ascii") + b"\n"
        if self._zipped is None:
            _write_all(self._raw, line)
            return
        self._zipped.write(line)
        self._unsynced_bytes += len(line)
        if self._unsynced_bytes >= GZIP_SYNC_BYTES:
            self._unsynced_bytes = 0
            self._zipped.flush(zlib.Z_SYNC_FLUSH)

    def close(self) -> None:
        """Finish the file; idempotent."""
        try:
            if self._zipped is not None:
                self._zipped.close()
        finally:
            self._raw.close()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _open_for_reading(name: str) -> io.BufferedIOBase:
    if name.endswith(".gz"):
        return gzip.open(name, "rb")
    return cast(io.BufferedIOBase, Path(name).open("rb"))


def _read_line(file: io.BufferedIOBase, name: str, number: int) -> tuple[bytes, bool]:
    """Return the next line, and whether the compressed stream was cut within it."""
    try:
        return file.readline(), False
    except EOFError:
        return b"", True
    except (zlib.error, gzip.BadGzipFile) as error:
        raise RecordingError(f"{name}, line {number}: not a sound gzip file ({error})") from None


def _last_line(line: bytes, name: str, number: int, *, cut: bool) -> Iterator[RecordedFrame]:
    try:
        frame = None if cut else _parse(line, name, number)
    except RecordingError:
        frame = None
    if frame is None:
        warnings.warn(
            f"{name}, line {number}: the recording ends in the middle of this line, which is left out",
            RecordingWarning,
            stacklevel=3,
        )
    else:
        yield frame


def _parse(line: bytes, name: str, number: int) -> RecordedFrame:
    # The message of a JSON error names the place, never the line itself.
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise RecordingError(f"{name}, line {number}: not JSON ({reason})") from None
    if not isinstance(entry, dict):
        raise RecordingError(f"{name}, line {number}: not a JSON object")
    received_ns, frame = entry.get("received_ns"), entry.get("frame")
    if not isinstance(received_ns, int) or isinstance(received_ns, bool):
        raise RecordingError(f"{name}, line {number}: 'received_ns' is missing or not an integer")
    if not isinstance(frame, str):
        raise RecordingError(f"{name}, line {number}: 'frame' is missing or not a string")
    return RecordedFrame(received_ns, frame)


def _write_all(raw: BinaryIO, line: bytes) -> None:
    rest = memoryview(line)
    while rest:
        rest = rest[raw.write(rest) :]
