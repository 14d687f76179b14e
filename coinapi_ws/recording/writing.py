"""Frames written to one recording by whoever has them."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final

from .compression import SUFFIXES, TextFile
from .lines import frame_line

#: A compressed recording is made readable up to here each time this much text was added. Each point costs a
#: few bytes of compression; without any, a killed process would leave nothing that can be read.
_SYNC_BYTES: Final = 64 * 1024


class RecordingWriter:
    """Write frames to a new recording, one by one; a context manager. A `Recorder` does it for a connection.

    Takes the path of a file that must not exist yet, unless ``overwrite=True``: a recording cannot be made
    again. A plain file gets each line with one unbuffered write, so that a killed process leaves whole lines;
    a compressed one can be read up to the last 64 KiB of text, or the last `flush`, in that case. For use by one
    thread at a time; `write` blocks as long as the disk does. Raises `FileExistsError` and other `OSError`, after
    which it can only be closed, and ``ConfigurationError`` where the extra for zstd is missing.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self._file = TextFile(os.fspath(path), overwrite=overwrite)
        self._sync_bytes = _SYNC_BYTES if self._file.name.endswith(SUFFIXES) else 0
        self._unsynced_bytes = 0

    def __repr__(self) -> str:
        return f"<RecordingWriter {self._file.name!r}{' closed' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._file.closed

    def write(self, frame: str, received_ns: int) -> None:
        """Append one frame with the wall clock of its arrival in nanoseconds since the epoch.

        Raises TypeError where the frame is no text, such as ``message.raw`` without ``keep_raw=True``.
        """
        if self.closed:
            raise ValueError(f"the recording {self._file.name} is closed")
        if not isinstance(frame, str):
            raise TypeError(f"a frame is text, not {type(frame).__name__}; message.raw has it with keep_raw=True")
        line = frame_line(frame, int(received_ns)).encode("ascii")
        self._file.write(line)
        self._unsynced_bytes += len(line)
        if self._unsynced_bytes >= self._sync_bytes:
            self.flush()

    def flush(self) -> None:
        """Let all that was written be readable by others, and survive the process."""
        self._unsynced_bytes = 0
        self._file.sync()

    def close(self) -> None:
        """Finish the file; idempotent."""
        self._file.close()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
