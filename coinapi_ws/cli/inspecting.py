"""The command that says what is in recordings: how much of what, what is missing, how late it came."""

from __future__ import annotations

import json
import os
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from ..books.trades import Trades
from ..events import ConnectionGap, Dropped, SequenceGap, Undecodable
from ..messages import Message, Trade
from ..recording import RecordingError, RecordingWarning
from ..recording.lines import Entry
from ..recording.reading import read_entries
from ..recording.replaying import Replay
from ..timestamps import NANOSECONDS_PER_SECOND, format_ns
from .replaying import ordered
from .summary import Durations, counts_text, duration_text, latency_ns
from .text import printable, subject_of

_DONE, _FAILED = 0, 1

_SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_SHOWN_SYMBOLS: Final = 20
#: What comes of more pairs of a type and a symbol is counted for each type.
_MOST_PAIRS: Final = 100_000
_OTHERS: Final = "(others)"


def inspect(arguments: Namespace) -> int:
    """Print what is in the recordings up to where they are sound; return 1 where one is not."""
    try:
        names = ordered(arguments.files)
    except RecordingError:  # told below, where it stands
        names = arguments.files
    seen, unsound = Inspection(), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RecordingWarning)
        try:
            for name in names:
                for entry in read_entries(name):
                    seen.add(entry)
        except RecordingError as error:
            unsound = str(error)
    told = {
        "files": names,
        "file_bytes": sum(os.stat(name).st_size for name in names),
        **seen.told(),
        "cut_ends": [str(warning.message) for warning in caught],
        "unsound": unsound,
    }
    for line in [json.dumps(told)] if arguments.format == "json" else text_lines(told):
        print(line)
    return _DONE if unsound is None else _FAILED


class _Pair:
    """Counts of one type and symbol; ``missing`` are the sequences that gaps passed over."""

    __slots__ = ("gaps", "messages", "missing", "repeated")

    def __init__(self) -> None:
        self.messages = self.gaps = self.missing = self.repeated = 0


class Inspection:
    """Counts what the entries of recordings hold. Memory is bounded, but for a few words a type and symbol."""

    def __init__(self) -> None:
        self._replay = Replay(all_sequence_gaps=True)
        self._trades = Trades()
        self._text_bytes = 0
        self._first_ns: int | None = None
        self._last_ns = 0
        self._second = self._in_second = self._busiest = 0
        self._types: Counter[str] = Counter()
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._connection_gaps = self._dropped = self._undecodable = 0
        self._latency = Durations()
        self._to_coinapi = Durations()

    def add(self, entry: Entry) -> None:
        """Count one entry."""
        if entry.frame is not None:
            self._text_bytes += len(entry.frame)
            self._add_time(entry.received_ns)
        for item in self._replay.take(entry):
            if isinstance(item, Message):
                self._add_message(item)
            elif isinstance(item, SequenceGap):
                self._add_gap(item)
            elif isinstance(item, Undecodable):
                self._undecodable += 1
            elif isinstance(item, ConnectionGap):
                self._connection_gaps += 1
            elif isinstance(item, Dropped):
                self._dropped += item.count

    def told(self) -> dict[str, Any]:
        """Return all that is known, as JSON has it: times in nanoseconds since the epoch, durations in nanoseconds."""
        pairs = sorted(self._pairs.items(), key=lambda pair: (-pair[1].messages, pair[0]))
        counts = list(self._pairs.values())
        seconds = 0.0 if self._first_ns is None else (self._last_ns - self._first_ns) / NANOSECONDS_PER_SECOND
        messages = self._types.total()
        return {
            "text_bytes": self._text_bytes,
            "first_ns": self._first_ns,
            "last_ns": self._last_ns if self._first_ns is not None else None,
            "seconds": seconds,
            "messages": messages,
            "rate": messages / seconds if seconds else None,
            "most_in_a_second": max(self._busiest, self._in_second),
            "types": dict(self._types.most_common()),
            "connections": self._replay.connections,
            "connection_gaps": self._connection_gaps,
            "sequence_gaps": sum(pair.gaps for pair in counts),
            "missing": sum(pair.missing for pair in counts),
            "repeated": sum(pair.repeated for pair in counts),
            "restarts": self._replay.restarts,
            "repeated_trades": self._trades.repeated,
            "dropped_by_the_recorder": self._dropped,
            "undecodable": self._undecodable,
            "coinapi_to_here_ns": _shares(self._latency),
            "exchange_to_coinapi_ns": _shares(self._to_coinapi),
            "symbols": [
                {
                    "type": name,
                    "symbol": symbol,
                    "messages": pair.messages,
                    "sequence_gaps": pair.gaps,
                    "missing": pair.missing,
                    "repeated": pair.repeated,
                }
                for (name, symbol), pair in pairs
            ],
        }

    def _add_time(self, received_ns: int) -> None:
        if self._first_ns is None:
            self._first_ns = self._last_ns = received_ns
        self._last_ns = max(self._last_ns, received_ns)
        second = received_ns // NANOSECONDS_PER_SECOND
        if second != self._second:
            self._busiest = max(self._busiest, self._in_second)
            self._second, self._in_second = second, 0
        self._in_second += 1

    def _add_message(self, message: Message) -> None:
        self._types[message.type] += 1
        self._pair(message.type, subject_of(message)).messages += 1
        if isinstance(message, Trade):
            self._trades.feed(message)
        if (latency := latency_ns(message)) is not None:
            self._latency.add(latency)
        published, happened = getattr(message, "time_coinapi_ns", None), getattr(message, "time_exchange_ns", None)
        if published is not None and happened is not None:
            self._to_coinapi.add(published - happened)

    def _add_gap(self, gap: SequenceGap) -> None:
        pair = self._pair(gap.type, gap.symbol_id)
        if gap.received < gap.expected:
            pair.repeated += 1
        else:
            pair.gaps += 1
            pair.missing += gap.received - gap.expected

    def _pair(self, name: str, symbol: str) -> _Pair:
        pair = self._pairs.get((name, symbol))
        if pair is None:
            if len(self._pairs) >= _MOST_PAIRS:
                symbol = _OTHERS
            pair = self._pairs.setdefault((name, symbol), _Pair())
        return pair


def text_lines(told: dict[str, Any]) -> Iterator[str]:
    """Yield the same for people."""

    def line(name: str, text: str) -> str:
        return printable(f"{name:<12} {text}")

    files = ", ".join(told["files"]) if len(told["files"]) == 1 else f"{len(told['files'])} files"
    yield line("recording", f"{files}, {told['file_bytes']:,} bytes; {told['text_bytes']:,} of text")
    if told["first_ns"] is not None:
        yield line("time", f"{_time(told['first_ns'])} to {_time(told['last_ns'])}, {told['seconds']:,.3f} s")
    rate = "" if told["rate"] is None else f", {told['rate']:,.0f} a second"
    yield line("messages", f"{told['messages']:,}{rate}, at most {told['most_in_a_second']:,} in a second")
    yield line("types", counts_text(Counter(told["types"])))
    yield line("connections", f"{told['connections']}, {told['connection_gaps']} gaps between them")
    names = {"sequence_gaps": "gaps", "missing": "missing", "repeated": "repeated", "restarts": "restarts"}
    yield line("sequences", ", ".join(f"{told[name]:,} {title}" for name, title in names.items()))
    yield line("trades", f"{told['repeated_trades']} came before")
    yield line(
        "not read", f"{told['undecodable']} undecodable, {told['dropped_by_the_recorder']:,} dropped by the recorder"
    )
    for name, title in (("coinapi_to_here_ns", "latency"), ("exchange_to_coinapi_ns", "to CoinAPI")):
        if told[name]:
            yield line(title, ", ".join(f"{share} {duration_text(ns)}" for share, ns in told[name].items()))
    for problem in [*told["cut_ends"], *filter(None, [told["unsound"]])]:
        yield line("unsound", problem)
    yield ""
    yield f"{'TYPE':<9} {'SYMBOL':<32} {'MESSAGES':>12} {'GAPS':>8} {'MISSING':>10} {'REPEATED':>8}"
    for pair in told["symbols"][:_SHOWN_SYMBOLS]:
        yield printable(
            f"{pair['type']:<9} {pair['symbol']:<32} {pair['messages']:>12,} {pair['sequence_gaps']:>8,}"
            f" {pair['missing']:>10,} {pair['repeated']:>8,}"
        )
    if (more := len(told["symbols"]) - _SHOWN_SYMBOLS) > 0:
        yield f"and {more:,} more, which --format json has"


def _shares(durations: Durations) -> dict[str, float]:
    return {name: durations.percentile(share) for name, share in _SHARES.items()} if durations else {}


def _time(ns: int) -> str:
    try:
        return format_ns(ns, 3)
    except OverflowError:  # beyond the years that a date has
        return str(ns)
