"""The command that prints candles when they have closed."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from math import inf
from typing import Final

from ..books import CandleCorrected, CandleResult, CandleRunning, Candles
from ..events import ConnectionGap, Disconnected
from ..messages import Ohlcv
from ..subscription import Subscription
from ..timestamps import NANOSECONDS_PER_SECOND, format_ns
from .feed import ConnectionText, Item, opened_feed
from .running import check_source, note, prepare_stdout, run_to_the_end
from .summary import Tally
from .text import number_text, printable

_DEFAULT_PERIODS: Final = ("1MIN",)
#: So often it is seen to whether a period has closed by itself, and what was written is flushed.
_PAUSE_SECONDS: Final = 0.1
_NOTHING: Final = "-"

_LINE: Final = (
    "{start:<20} {period:<6} {symbol:<24} {state:<9} {open:>10} {high:>10} {low:>10} {close:>10}"
    " {volume:>12} {trades:>6}"
)
HEADER: Final = _LINE.format(
    start="START (UTC)",
    period="PERIOD",
    symbol="SYMBOL",
    state="STATE",
    open="OPEN",
    high="HIGH",
    low="LOW",
    close="CLOSE",
    volume="VOLUME",
    trades="TRADES",
)
#: What a correction may change, by its name in a line.
_VALUES: Final = {
    "open": "price_open",
    "high": "price_high",
    "low": "price_low",
    "close": "price_close",
    "volume": "volume_traded",
    "trades": "trades_count",
}


def candles(arguments: Namespace) -> int:
    """Print candles until the count, the duration, the end of a recording or the user ends it."""
    check_source(arguments)
    tally = Tally(with_latency=arguments.recording is None)
    return run_to_the_end(lambda: _print_all(arguments, tally), tally)


def candle_state(result: CandleResult) -> str:
    """Return how far a candle can be trusted, in a word."""
    if isinstance(result, CandleCorrected):
        return "corrected"
    if isinstance(result, CandleRunning):
        return "running"
    return "closed" if result.is_certain else "uncertain"


def candle_line(result: CandleResult) -> str:
    """Return one line without its end, its columns parted by blanks; what a correction changed comes last."""
    candle = result.candle
    start_ns = candle.time_period_start_ns
    line = _LINE.format(
        start=_NOTHING if start_ns is None else format_ns(start_ns, 0),
        period=candle.period_id or _NOTHING,
        symbol=candle.symbol_id or _NOTHING,
        state=candle_state(result),
        **{name: number_text(getattr(candle, field)) for name, field in _VALUES.items()},
    )
    return printable(f"{line}{_before(result)}")


def candle_json(result: CandleResult, redact: Callable[[str], str] = str) -> str:
    """Return a JSON object without a line break, the server's own objects in it digit for digit."""
    members = [f'"state":"{candle_state(result)}"', f'"candle":{_object(result.candle, redact)}']
    if isinstance(result, CandleCorrected):
        members.append(f'"before":{_object(result.before, redact)}')
    return f"{{{','.join(members)}}}"


class CandleFeed:
    """Makes candles of items, and closes those that nothing came after by the server's clock. Pure.

    Candles need not say when they were published, and our clock may be another one; but the server's clock is not
    before the last trade that it tells of. So a period may close late, and never early. With ``by_clock=False``, as for
    a recording, only a later candle closes one.
    """

    def __init__(self, *, by_clock: bool = True, with_running: bool = False) -> None:
        self._candles = Candles()
        self._by_clock = by_clock
        self._with_running = with_running
        #: How far the server's clock is ahead of the parameter ``now``, at least; None until a candle tells.
        self._ahead_ns: int | None = None

    def take(self, item: Item | None, now: float) -> list[CandleResult]:
        """Take the next item, or None where none came, at a time in seconds by any clock; return what is to be told."""
        now_ns = round(now * NANOSECONDS_PER_SECOND)
        results: list[CandleResult] = []
        if isinstance(item, Ohlcv):
            told = (item.time_coinapi_ns, item.time_close_ns, item.time_period_start_ns)
            ahead_ns = [time_ns - now_ns for time_ns in told if time_ns is not None]
            self._ahead_ns = max(ahead_ns if self._ahead_ns is None else [*ahead_ns, self._ahead_ns], default=None)
            results += self._candles.feed(item)
        elif isinstance(item, (Disconnected, ConnectionGap)):
            self._candles.disconnected()
        if self._by_clock and self._ahead_ns is not None:
            results += self._candles.handle_timeout(now_ns + self._ahead_ns)
        return [result for result in results if self._with_running or not isinstance(result, CandleRunning)]


def _print_all(arguments: Namespace, tally: Tally) -> None:
    periods = arguments.period or _DEFAULT_PERIODS
    wanted = Subscription(["ohlcv"], symbol_ids=[f"{symbol}$" for symbol in arguments.symbols], period_ids=periods)
    made = CandleFeed(by_clock=arguments.recording is None, with_running=arguments.running)
    count = inf if arguments.count is None else arguments.count
    as_text = arguments.format == "text"
    prepare_stdout(as_text=as_text)
    if as_text and sys.stdout.isatty():
        sys.stdout.write(f"{HEADER}\n")
    printed, flushed = 0, -inf
    with opened_feed(arguments, wanted, tally) as (feed, source):
        connection = ConnectionText(source.redact)
        for item in feed.items(pause=_PAUSE_SECONDS, duration=arguments.duration):
            said = None if item is None else connection.take(item)
            if said is not None:
                note(printable(said))
            now = time.monotonic()
            for result in made.take(item, now):
                sys.stdout.write(f"{candle_line(result) if as_text else candle_json(result, source.redact)}\n")
                printed += 1
                if printed >= count:
                    return
            if now - flushed >= _PAUSE_SECONDS:
                flushed = now
                sys.stdout.flush()


def _before(result: CandleResult) -> str:
    """Return what a correction has changed, as it was before; nothing for other results."""
    if not isinstance(result, CandleCorrected):
        return ""
    candle, before = result.candle, result.before
    if before is None:
        return "  before: not known"
    changed = [
        f"{name} {number_text(getattr(before, field))}"
        for name, field in _VALUES.items()
        if getattr(before, field) != getattr(candle, field)
    ]
    return f"  before: {', '.join(changed) or 'the same values'}"


def _object(candle: Ohlcv | None, redact: Callable[[str], str]) -> str:
    if candle is None or candle.raw is None:
        return "null"
    # A line break is possible between the tokens of JSON alone.
    return redact(candle.raw).replace("\r", " ").replace("\n", " ")
