"""Recordings decoded again: the messages, with what is missing between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..client.keys import is_market_data, time_ns_of
from ..endpoints import endpoint_from
from ..events import ConnectionGap, Dropped, Gap, Undecodable
from ..exceptions import ConfigurationError
from ..messages import Message
from ..options import Options
from ..protocol.reading import Reader, begins_anew
from ..scope import Scope
from ..timestamps import NANOSECONDS_PER_SECOND
from .lines import Entry
from .reading import Path, in_order, read_entries

Item = Message | Gap | Undecodable

_NOWHERE: Final = endpoint_from("ws://localhost/")
_LONGEST_SLEEP_SECONDS: Final = 3600.0
#: Some 30 years, so that any time in a file can be reckoned with.
_LONGEST_NS: Final = 10**18


def replay(
    paths: Path | Iterable[Path],
    *,
    speed: float | None = None,
    numbers: str = "float",
    keep_raw: bool = False,
    all_sequence_gaps: bool = False,
) -> Iterator[Message | Gap | Undecodable]:
    """Iterate over the messages of one recording, or of several in the order of their times, as over a stream.

    Messages have the ``received_ns`` that was recorded. Between them come ``SequenceGap``, ``ConnectionGap`` where a
    connection was lost, and ``Dropped`` (of the type "") where a recorder dropped messages; a frame that is none is an
    ``Undecodable``. A sequence that begins again at 1 is no gap: so a server numbers a symbol that comes back
    (vendor_notes.md, "Sequences"). Where two connections overlap, as in a handover, what came on both comes twice.

    ``speed`` divides the recorded times, as in a ``Simulator``: 1.0 is as it was; None does not wait. The other options
    are those of ``Options``. Raises `RecordingError`, ``OSError`` and ``ConfigurationError`` as `read_recording` does;
    warns with `RecordingWarning`. For one thread; blocks.
    """
    if speed is not None and not 0 < speed < float("inf"):
        raise ConfigurationError(f"speed is a positive number, or None, not {speed!r}")
    made = Replay(numbers=numbers, keep_raw=keep_raw, all_sequence_gaps=all_sequence_gaps)
    return _replayed(in_order(paths), made, Pace(speed))


def _replayed(names: list[str], made: Replay, pace: Pace) -> Iterator[Item]:
    for name in names:
        for entry in read_entries(name):
            pace.wait(entry.received_ns)
            yield from made.take(entry)


class Pace:
    """When an entry is due, that was recorded then; a clock that was set back counts as standing still."""

    def __init__(
        self,
        speed: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._first_ns: int | None = None
        self._start = 0.0
        self._latest_ns = 0

    def left(self, received_ns: int) -> float:
        """Return for how many seconds to wait until then; 0 or less where it is due."""
        if self._speed is None:
            return 0.0
        if self._first_ns is None:
            self._first_ns, self._start = received_ns, self._clock()
        self._latest_ns = max(self._latest_ns, min(received_ns - self._first_ns, _LONGEST_NS))
        return self._start + self._latest_ns / NANOSECONDS_PER_SECOND / self._speed - self._clock()

    def wait(self, received_ns: int) -> None:
        """Wait until then."""
        while (left := self.left(received_ns)) > 0:
            self._sleep(min(left, _LONGEST_SLEEP_SECONDS))


class Replay:
    """What the entries of recordings hold, each given to :meth:`take`, in order. Pure."""

    def __init__(self, *, numbers: str = "float", keep_raw: bool = False, all_sequence_gaps: bool = False) -> None:
        self._options = Options(
            endpoint=_NOWHERE,
            numbers=numbers,
            keep_raw=keep_raw,
            all_sequence_gaps=all_sequence_gaps,
            deliver_surplus=True,
        )
        #: What is known of each connection that is open; sequences begin anew with each.
        self._readers: dict[int, Reader] = {}
        self._highest = 0
        self._last: Message | None = None
        self._cut: tuple[int, str] | None = None
        self.connections = 0
        self.restarts = 0

    def take(self, entry: Entry) -> list[Item]:
        """Return what an entry holds, gaps first."""
        if entry.frame is None:
            return self._event(entry)
        reader = self._readers.get(entry.connection)
        if reader is None:  # it begins in the middle
            reader = self._open(entry.connection)
        items: list[Item] = []
        for item in reader.decode_text(entry.frame, entry.received_ns):
            if begins_anew(item):
                self.restarts += 1
                continue
            if is_market_data(item):
                if self._cut is not None:
                    items.append(self._connection_gap(*self._cut, time_ns_of(item)))
                self._last = item
            items.append(item)  # type: ignore[arg-type]  # no session has events here
        return items

    def _event(self, entry: Entry) -> list[Item]:
        detail = str(entry.more.get("detail", ""))
        if entry.event == "Connected":
            if self._readers and entry.connection <= self._highest:
                self._end_of_all("another recording begins")
            self._open(entry.connection)
        elif entry.event == "Disconnected":
            was_open = self._readers.pop(entry.connection, None) is not None
            if was_open and not self._readers:
                self._end_of_all(detail)
        elif entry.event == "Undecodable":
            return [Undecodable(reason=detail, received_ns=entry.received_ns, payload=b"")]
        elif entry.event == "Dropped":
            count, first_ns = entry.more.get("count"), entry.more.get("first_ns")
            if isinstance(count, int) and isinstance(first_ns, int):
                gap = Dropped(type="", symbol_id=None, count=count, first_ns=first_ns, last_ns=entry.received_ns)
                return [gap]
        return []

    def _open(self, connection: int) -> Reader:
        reader = self._readers[connection] = Reader(self._options, Scope())
        self._highest = max(self._highest, connection, 1)
        self.connections += 1
        return reader

    def _end_of_all(self, reason: str) -> None:
        self._readers.clear()
        self._highest = 0
        if self._last is not None and self._cut is None:
            self._cut = (time_ns_of(self._last), reason)

    def _connection_gap(self, from_ns: int, reason: str, to_ns: int) -> ConnectionGap:
        self._cut = None
        return ConnectionGap(from_ns=from_ns, to_ns=max(from_ns, to_ns), reason=reason, scope=Scope())
