"""Everything that a connection brings, written to files on a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Final

from ..auth import redact_json
from ..client.monitor import Monitor
from ..client.threads import AFTER_CLIENTS, InterruptibleThread
from ..drivers.selector import SelectorConnection
from ..drivers.waiting import LONGEST_WAIT_SECONDS
from ..events import Connected, Disconnected, Event, Undecodable
from ..exceptions import ConfigurationError
from ..protocol.frames import Frame, Frames
from .lines import event_line, frame_lines
from .rotation import RotatingFile

if TYPE_CHECKING:
    from typing_extensions import Self

LOGGER: Final = logging.getLogger("coinapi_ws")

DEFAULT_FLUSH_SECONDS: Final = 1.0
DEFAULT_MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
#: The thread begins to write before its time once so much waits, or half of what may, and formats so much at once.
_WRITE_BYTES: Final = 1024 * 1024
#: The memory of a read, and of each frame in it, beside its text.
_READ_BYTES: Final = 480
_FRAME_BYTES: Final = 64
#: At the interpreter's end a recorder that was left open has so long to write what waits.
_EXIT_SECONDS: Final = 2.0


class _Read:
    """What one read of a connection brought."""

    __slots__ = ("at_ns", "connection", "frames", "items", "size")

    def __init__(self, connection: SelectorConnection, items: Sequence[Event | Frame | Frames], at_ns: int) -> None:
        self.connection = connection
        self.items = items
        self.at_ns = at_ns
        self.frames = characters = 0
        for item in items:
            if isinstance(item, Frames):
                self.frames += len(item.payloads)
                characters += sum(map(len, item.payloads))
            elif isinstance(item, (Frame, Undecodable)):
                self.frames += 1
                characters += len(item.payload)
        #: About how much memory it takes.
        self.size = _READ_BYTES + _FRAME_BYTES * self.frames + characters


class _Dropped:
    """What there was no room for, between two reads that there was room for."""

    __slots__ = ("first_ns", "frames", "last_ns")
    size = 0

    def __init__(self, first_ns: int) -> None:
        self.first_ns = self.last_ns = first_ns
        self.frames = 0


class Recorder:
    """Record everything that a connection brings, as it came, on a thread of its own; a context manager.

    Pass :meth:`take` as ``tap`` to :func:`~coinapi_ws.connect`, :class:`~coinapi_ws.Client` or
    :class:`~coinapi_ws.SelectorConnection`. Text frames are recorded before they are decoded, heartbeats and what
    cannot be decoded included, with the beginnings and ends of connections; the API key is taken out. One recorder is
    for one client or stream; close it after that.

    ``path`` is a file that must not exist yet; where its name ends in ``.gz`` it is compressed with gzip, in ``.zst``
    with zstd. With ``max_bytes`` (of a file on the disk, exceeded by less than a flush brings) or ``max_seconds`` there
    are many files: ``market.jsonl.gz`` becomes ``market-20260102T030405.678901Z.jsonl.gz``, with the time (UTC) when it
    was begun, so that names sort in order. None is ever overwritten, and each can be read alone.

    What came is written, in whole lines, within ``flush_seconds``, or sooner where much comes, so a killed process
    loses no more than that. At most about ``max_waiting_bytes`` of memory wait for the disk; what comes beyond is
    dropped: counted in :attr:`lost`, logged, and told by an event in the recording.

    Where the disk fails, or is full, the recording is over: that is logged, ``on_error`` is called on the recorder's
    thread with the ``OSError``, all that comes from then on is counted in :attr:`lost`, and :meth:`close` raises the
    error. The connection goes on.

    Raises ``FileExistsError`` and other ``OSError``, and ``ConfigurationError`` for wrong options and where the extra
    for zstd is missing. In the child of a fork it records nothing, and the parent's goes on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        max_seconds: float | None = None,
        flush_seconds: float = DEFAULT_FLUSH_SECONDS,
        max_waiting_bytes: int = DEFAULT_MAX_WAITING_BYTES,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        for name, value in (("max_bytes", max_bytes), ("max_seconds", max_seconds)):
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} is a positive number, or None, not {value!r}")
        for name, value in (("flush_seconds", flush_seconds), ("max_waiting_bytes", max_waiting_bytes)):
            if not 0 < value <= threading.TIMEOUT_MAX:
                raise ConfigurationError(f"{name} is a positive number, not {value!r}")
        self._file = RotatingFile(os.fspath(path), max_bytes=max_bytes, max_seconds=max_seconds)
        self._flush_seconds = flush_seconds
        self._max_waiting_bytes = max_waiting_bytes
        self._write_at_bytes = min(_WRITE_BYTES, max_waiting_bytes // 2)
        self._on_error = on_error
        self._numbers: weakref.WeakKeyDictionary[SelectorConnection, int] = weakref.WeakKeyDictionary()
        self._counter = count(1)
        self._monitor = Monitor()
        #: Released to wake the thread: no signal comes into the middle of that, as it may with an event.
        self._idle = threading.Lock()
        self._idle.acquire()
        self._waiting: deque[_Read | _Dropped] = deque()
        self._waiting_bytes = 0
        self._is_closing = False
        self._accepted = self._written = self._lost = 0
        self._error: Exception | None = None
        self._untold: Exception | None = None
        self._process = os.getpid()
        self._thread = InterruptibleThread(self._run, "coinapi-ws-recorder")
        try:
            self._thread.start()
            _OPEN.add(self)
        except BaseException:  # such as a Ctrl-C (F18), or that there are no more threads
            if self._thread.cancel():
                self._file.close()
            self._ask_to_close()
            raise

    def __repr__(self) -> str:
        return f"<Recorder {self.path!r}, {self._written} written, {self._lost} lost>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def path(self) -> str:
        """The file that was written to last. Any thread may read it, and the three below."""
        return self._file.path

    @property
    def written(self) -> int:
        """How many messages are in the recording, for others to read."""
        return self._written

    @property
    def lost(self) -> int:
        """How many messages are not in the recording: dropped, after a failure, or after `close`."""
        return self._lost

    @property
    def error(self) -> Exception | None:
        """What ended the recording; None where nothing did."""
        return self._error

    def take(self, connection: SelectorConnection, items: Sequence[Event | Frame | Frames]) -> None:
        """Record what a read of a connection brought: for ``tap``. Any thread may call it; it does not block."""
        read = _Read(connection, items, time.time_ns())
        if self._process != os.getpid():  # whose thread is not here, and whose lock may be taken for ever
            self._lost += read.frames
            return
        with self._monitor.lock:
            if self._is_closing or self._error is not None:
                self._lost += read.frames
            elif self._waiting_bytes + read.size > self._max_waiting_bytes:
                self._drop(read)
            else:
                self._waiting_bytes += read.size
                self._accepted += read.frames
                self._waiting.append(read)  # last, since a Ctrl-C may come after it
            is_much = self._waiting_bytes > self._write_at_bytes
        if is_much:
            self._wake()

    def close(self) -> None:
        """Write what waits, and end. Idempotent, for any thread; blocks as long as the disk does.

        Raises, once, what ended the recording. In ``on_error``, and in a signal handler that came into the middle of
        :meth:`take`, it does not wait.
        """
        self._ask_to_close()
        is_within = threading.current_thread() is self._thread or self._monitor.is_held_here()
        if is_within or self._process != os.getpid():
            return
        while not self._thread.has_ended:
            self._thread.wait(LONGEST_WAIT_SECONDS)
        self._thread.join(LONGEST_WAIT_SECONDS)  # for its last lines
        _OPEN.discard(self)
        error, self._untold = self._untold, None
        if error is not None:
            raise error

    def _ask_to_close(self) -> None:
        if self._process == os.getpid():
            with self._monitor.lock:
                self._is_closing = True
            self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # it is awake
            self._idle.release()

    def _drop(self, read: _Read) -> None:
        last = self._waiting[-1] if self._waiting else None
        dropped = last if isinstance(last, _Dropped) else _Dropped(read.at_ns)
        dropped.frames += read.frames
        dropped.last_ns = read.at_ns
        self._lost += read.frames
        if dropped is not last:
            self._waiting.append(dropped)
        # Without its end a lost connection would be replayed as one that goes on.
        if events := [item for item in read.items if isinstance(item, (Connected, Disconnected))]:
            kept = _Read(read.connection, events, read.at_ns)
            self._waiting_bytes += kept.size
            self._waiting.append(kept)

    # On the recorder's thread

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._idle.acquire(timeout=self._flush_seconds)
                self._write_waiting()
            self._write_waiting()  # what came before it was told to close
            self._file.close()
        except Exception as error:  # noqa: BLE001 - it must not end unseen, and the connection goes on
            self._fail(error)

    def _write_waiting(self) -> None:
        with self._monitor.lock:
            waiting, self._waiting = self._waiting, deque()
        if not waiting:
            self._file.sync()  # its time may be over
        while waiting:
            parts = _next_piece(waiting)
            lines = [line for part in parts for line in self._lines_of(part)]
            self._file.write("".join(lines).encode("ascii"))
            self._file.sync()
            reads = [part for part in parts if isinstance(part, _Read)]
            with self._monitor.lock:
                self._written += sum(read.frames for read in reads)
                self._waiting_bytes -= sum(read.size for read in reads)

    def _fail(self, error: Exception) -> None:
        is_expected = isinstance(error, OSError)
        LOGGER.error("the recording %s ended: %s", self.path, error, exc_info=None if is_expected else error)
        with self._monitor.lock:
            self._error = self._untold = error
            self._lost += self._accepted - self._written
            self._waiting.clear()
        with suppress(OSError):  # the first one says it
            self._file.close()
        if self._on_error is not None:
            try:
                self._on_error(error)
            except Exception as failure:
                LOGGER.error("on_error of a recorder failed", exc_info=failure)

    def _lines_of(self, part: _Read | _Dropped) -> list[str]:
        if isinstance(part, _Dropped):
            LOGGER.warning("%d messages are missing in %s: the disk is too slow", part.frames, self.path)
            return [event_line("Dropped", part.last_ns, count=part.frames, first_ns=part.first_ns)]
        number = self._numbers.get(part.connection)
        if number is None:
            number = self._numbers[part.connection] = next(self._counter)
        redact = part.connection.redact
        lines: list[str] = []
        for item in part.items:
            if isinstance(item, Frames):
                lines += frame_lines([_redacted(text, redact) for text in item.payloads], item.received_ns, number)
            elif isinstance(item, Frame):
                lines += frame_lines([_redacted(item.payload, redact)], item.received_ns, number)
            elif isinstance(item, Undecodable):
                detail = f"{item.reason} of {len(item.payload)} bytes"
                lines.append(event_line("Undecodable", item.received_ns, connection=number, detail=detail))
            elif isinstance(item, Connected):
                lines.append(event_line("Connected", part.at_ns, connection=number))
            elif isinstance(item, Disconnected):
                lines.append(event_line("Disconnected", part.at_ns, connection=number, detail=item.summary()))
        return lines


def _redacted(text: str, redact: Callable[[str], str]) -> str:
    text = redact(text)
    if "\\" in text:  # which market data has none of
        with suppress(ValueError):  # it is no JSON
            text = redact_json(text, redact)
    return text


def _next_piece(waiting: deque[_Read | _Dropped]) -> list[_Read | _Dropped]:
    """Take from what waits what is formatted at once."""
    piece: list[_Read | _Dropped] = []
    size = 0
    while waiting and size <= _WRITE_BYTES:
        piece.append(waiting.popleft())
        size += piece[-1].size
    return piece


_OPEN: Final[set[Recorder]] = set()


def _close_all_at_exit() -> None:
    here = [recorder for recorder in list(_OPEN) if recorder._process == os.getpid()]
    for recorder in here:
        recorder._ask_to_close()
    end = time.monotonic() + _EXIT_SECONDS
    for recorder in here:
        recorder._thread.wait(max(0.0, end - time.monotonic()))
        if not recorder._thread.has_ended:
            LOGGER.warning("the recording %s was cut off by the end of the program", recorder.path)


AFTER_CLIENTS.append(_close_all_at_exit)
