"""Candles, each once when it closed. Pure: the wall clock is a parameter (vendor_notes.md, "Messages")."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ..exceptions import ConfigurationError
from ..messages import Ohlcv
from ..timestamps import NANOSECONDS_PER_SECOND

#: A candle is repeated each 1 to 5 seconds and once more when it closed: so long after its end, all has been said.
DEFAULT_GRACE_SECONDS: Final = 5.0
#: Closed candles that are remembered of each symbol and period, to tell corrections from repetitions.
DEFAULT_REMEMBERED: Final = 10

#: A start that is so much later than when the candle came, and than all that its stream had, is a mistake, which would
#: make everything else late. So long, since clocks may be wrong.
_MOST_AHEAD_NS: Final = 24 * 3600 * NANOSECONDS_PER_SECOND

#: What is not what a candle says: when it was received, and its number among the messages.
_CONTENT: Final = tuple(Ohlcv.kinds.keys() - {"sequence", "time_exchange", "time_coinapi"})

#: Before all times that a text can say.
_NEVER: Final = -(2**63)

# Symbol and period; where the server does not name the period, its length in nanoseconds.
_Stream: TypeAlias = "tuple[str, str | int]"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleRunning:
    """The newest state of a period that has not closed."""

    candle: Ohlcv


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleClosed:
    """A period is over, and this is the last that was said of it.

    ``is_certain`` is False where the connection was lost after the candle had come for the last time: more may have
    been said meanwhile.
    """

    candle: Ohlcv
    is_certain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleCorrected:
    """A period that was delivered as closed is told differently: ``candle`` now, ``before`` until now.

    ``before`` is None where the period is too long ago to be remembered, if it was delivered at all.
    """

    candle: Ohlcv
    before: Ohlcv | None


#: What :meth:`Candles.feed` and :meth:`Candles.handle_timeout` return.
CandleResult: TypeAlias = "CandleRunning | CandleClosed | CandleCorrected"


@dataclass(slots=True)
class _Candles:
    """The candles of one symbol and period, by the start of their periods in nanoseconds since the epoch."""

    running: Ohlcv | None = None
    #: Of the latest period that came, whether it runs or has closed.
    start_ns: int = _NEVER
    end_ns: int = _NEVER
    is_certain: bool = True
    closed: dict[int, Ohlcv] = field(default_factory=dict)
    #: The latest start that was forgotten.
    forgotten_ns: int = _NEVER


class Candles:
    """Tell running candles from closed ones, of any number of symbols and periods.

    The server repeats a candle while its period runs, and never says which one was the last. Here a period has closed
    when a later one of the same symbol and period comes, or ``grace`` seconds after its end, which
    :meth:`handle_timeout` notices. ``remembered`` is how many closed candles of each symbol and period are compared
    with what comes late; ``unplaced`` counts messages without symbol, start or end, or with a start that is more than a
    day too late to be true, which are left out.

    For one thread; nothing blocks.
    """

    def __init__(self, *, grace: float = DEFAULT_GRACE_SECONDS, remembered: int = DEFAULT_REMEMBERED) -> None:
        if not 0 <= grace < float("inf") or remembered < 1:
            raise ConfigurationError("grace is a number of seconds from 0 on, remembered a number of candles from 1 on")
        self.unplaced = 0
        self._grace_ns = round(grace * NANOSECONDS_PER_SECOND)
        self._remembered = remembered
        self._streams: dict[_Stream, _Candles] = {}

    def feed(self, candle: Ohlcv) -> list[CandleResult]:
        """Take the next message; return what it tells: first the period that it closed, where there is one."""
        start_ns, end_ns = candle.time_period_start_ns, candle.time_period_end_ns
        if candle.symbol_id is None or start_ns is None or end_ns is None:
            self.unplaced += 1
            return []
        period = end_ns - start_ns if candle.period_id is None else candle.period_id
        of_stream = self._streams.setdefault((candle.symbol_id, period), _Candles())
        if _is_too_late(start_ns, candle, of_stream):
            self.unplaced += 1
            return []
        if start_ns < of_stream.start_ns or start_ns in of_stream.closed:
            return self._late(of_stream, start_ns, candle)
        results: list[CandleResult] = []
        if of_stream.running is not None and start_ns > of_stream.start_ns:
            results.append(self._close(of_stream))
        of_stream.running, of_stream.start_ns, of_stream.end_ns = candle, start_ns, end_ns
        of_stream.is_certain = True
        results.append(CandleRunning(candle=candle))
        return results

    def next_timeout(self) -> int | None:
        """Return when the next period closes by itself, in nanoseconds since the epoch; None while nothing runs.

        This looks at all symbols and periods.
        """
        ends = (of_stream.end_ns for of_stream in self._streams.values() if of_stream.running is not None)
        end_ns = min(ends, default=None)
        return None if end_ns is None else end_ns + self._grace_ns

    def handle_timeout(self, now_ns: int) -> list[CandleResult]:
        """Return the periods that have closed by now (nanoseconds since the epoch, by the wall clock), earliest first.

        A clock that is ahead of the server's, or messages that wait somewhere for longer than ``grace``, make
        corrections of what comes then.
        """
        due = [
            of_stream
            for of_stream in self._streams.values()
            if of_stream.running is not None and of_stream.end_ns + self._grace_ns <= now_ns
        ]
        return [self._close(of_stream) for of_stream in sorted(due, key=lambda of_stream: of_stream.end_ns)]

    def disconnected(self) -> None:
        """Take note that messages may be missing: what runs now is certain again with its next message."""
        for of_stream in self._streams.values():
            of_stream.is_certain = False

    def _close(self, of_stream: _Candles) -> CandleClosed:
        assert of_stream.running is not None
        candle, of_stream.running = of_stream.running, None
        self._remember(of_stream, of_stream.start_ns, candle)
        return CandleClosed(candle=candle, is_certain=of_stream.is_certain)

    def _late(self, of_stream: _Candles, start_ns: int, candle: Ohlcv) -> list[CandleResult]:
        """Take a message of a period that is over."""
        if start_ns <= of_stream.forgotten_ns:
            return [CandleCorrected(candle=candle, before=None)]
        before = of_stream.closed.get(start_ns)
        self._remember(of_stream, start_ns, candle)
        if before is None:
            return [CandleClosed(candle=candle, is_certain=True)]
        return [] if _content(before) == _content(candle) else [CandleCorrected(candle=candle, before=before)]

    def _remember(self, of_stream: _Candles, start_ns: int, candle: Ohlcv) -> None:
        of_stream.closed[start_ns] = candle
        if len(of_stream.closed) > self._remembered:
            of_stream.forgotten_ns = min(of_stream.closed)
            del of_stream.closed[of_stream.forgotten_ns]


def _is_too_late(start_ns: int, candle: Ohlcv, of_stream: _Candles) -> bool:
    """Return whether a period cannot have begun yet; unknown of the first one, and without the time of its coming."""
    if of_stream.end_ns == _NEVER or not candle.received_ns:
        return False
    return start_ns > max(of_stream.end_ns, candle.received_ns) + _MOST_AHEAD_NS


def _content(candle: Ohlcv) -> tuple[object, ...]:
    return tuple(getattr(candle, name) for name in _CONTENT)
