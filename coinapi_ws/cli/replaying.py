"""The command that prints what recordings hold."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from math import inf

from ..exceptions import ConfigurationError
from ..messages import Message
from ..recording.reading import in_order, read_entries
from ..recording.replaying import Item, Pace, Replay
from ..subscription import matches_symbol
from .printing import FLUSH_SECONDS, Printer
from .running import run_to_the_end
from .summary import Tally


def replay(arguments: Namespace) -> int:
    """Print the messages of recordings until their end, the count, the user or the reader of our output ends it."""
    tally = Tally()
    return run_to_the_end(lambda: _print_all(arguments, tally), tally)


def ordered(names: list[str]) -> list[str]:
    """Return the recordings in the order of their times. Raises ``ConfigurationError`` where one cannot be opened."""
    try:
        return in_order(names)
    except OSError as error:
        raise ConfigurationError(f"cannot read {error.filename}: {error.strerror}") from None


def _print_all(arguments: Namespace, tally: Tally) -> None:
    names = ordered(arguments.files)
    made, pace = Replay(numbers="decimal", keep_raw=True), Pace(arguments.speed)
    printer = Printer(arguments, tally, with_latency=True, redact=str)
    count = inf if arguments.count is None else arguments.count
    symbols = tuple(sorted([*arguments.symbol, *(f"{exchange}_" for exchange in arguments.exchange)]))
    start = flushed = time.monotonic()
    try:
        for name in names:
            for entry in read_entries(name):
                now = time.monotonic()
                if now - flushed > FLUSH_SECONDS or pace.left(entry.received_ns) > FLUSH_SECONDS:
                    flushed = now
                    sys.stdout.flush()
                pace.wait(entry.received_ns)
                for item in made.take(entry):
                    if _is_wanted(item, arguments.type, symbols):
                        printer.take(item)
                        if tally.messages >= count:
                            return
    finally:
        tally.elapsed_seconds = time.monotonic() - start


def _is_wanted(item: Item, types: list[str], symbols: tuple[str, ...]) -> bool:
    """Return whether the filters let an item through; without a type or a symbol of its own, it is."""
    name, symbol_id = getattr(item, "type", ""), getattr(item, "symbol_id", None)
    if name and types and name not in types:
        return False
    if not symbols:
        return True
    if symbol_id is None:
        return not isinstance(item, Message)
    return matches_symbol(symbol_id, symbols)
