"""The commands that print messages."""

from __future__ import annotations

import os
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import inf
from pathlib import Path
from typing import Any, Final

from ..drivers.blocking import Stream, connect
from ..endpoints import endpoint_from
from ..exceptions import CoinAPIError, ConfigurationError, ConnectionClosed
from ..recording import Recorder
from ..scope import WIRE_HELLO, WIRE_INCREMENTAL
from ..subscription import Subscription
from .arguments import parsers
from .printing import FLUSH_SECONDS, Printer
from .running import CLOSE_SECONDS, check_source, note, opened_source, run_to_the_end
from .summary import Tally

#: The scope of the demo: several exchanges, and every kind of market data.
DEMO: Final = (
    *("trade", "quote", "book5", "book", "book_l3", "ohlcv", "exrate"),
    *("--symbol", "COINBASE_", "--symbol", "KRAKEN_", "--symbol", "BINANCEFTS_", "--symbol", "BITSTAMP_SPOT_BTC_USD$"),
    *("--asset", "BTC", "--asset", "ETH/USD", "--period", "1SEC", "--simulate"),
)


def demo(arguments: Namespace) -> int:
    """Stream the synthetic market, and say with which command one would do so."""
    note(f"the same as: coinapi-ws stream {shlex.join(DEMO)}")
    return stream(parsers()[1]["stream"].parse_args(DEMO, namespace=arguments))


def stream(arguments: Namespace) -> int:
    """Print messages until their count, the duration, the server, the user or the reader of our output ends it."""
    _check(arguments)
    tally = Tally(with_latency=arguments.recording is None)
    return run_to_the_end(lambda: _stream(arguments, tally), tally)


def _check(arguments: Namespace) -> None:
    """Raise ``ConfigurationError`` for what argparse cannot know to be wrong."""
    check_source(arguments)
    if arguments.record is not None and os.path.lexists(arguments.record):
        raise ConfigurationError(f"{arguments.record} exists already; choose another name for --record")


def _stream(arguments: Namespace, tally: Tally) -> None:
    subscriptions = subscriptions_of(arguments)
    with ExitStack() as stack:
        source = stack.enter_context(opened_source(arguments))
        recorder = None if arguments.record is None else stack.enter_context(_opened_recorder(arguments.record))
        opened = connect(
            source.key,
            *subscriptions,
            endpoint=source.endpoint,
            numbers="decimal",  # lines show the digits of the wire, and no number is too large
            wire=WIRE_HELLO if len(subscriptions) == 1 else WIRE_INCREMENTAL,
            keep_raw=True,
            deliver_surplus=arguments.format == "raw",
            close_timeout=CLOSE_SECONDS,
            ssl=source.ssl_context,
            tap=None if recorder is None else recorder.take,
        )
        stack.enter_context(opened)
        printer = Printer(arguments, tally, with_latency=arguments.recording is None, redact=source.redact)
        _print_all(opened, printer, arguments, recorder)
        ended = opened.disconnected
        if ended is not None and arguments.recording is None:
            note(f"the server ended the stream: {ended.summary()}")


def subscriptions_of(arguments: Namespace) -> list[Subscription]:
    """Return the subscription; two where exrate is asked for by asset and the rest in another way."""
    types: list[str] = arguments.types
    by_symbol: dict[str, Any] = {
        "symbol_ids": arguments.symbol,
        "exchange_ids": arguments.exchange,
        "period_ids": arguments.period,
    }
    others = [name for name in types if name != "exrate"]
    if arguments.asset and "exrate" in types and others and (arguments.symbol or arguments.exchange):
        return [Subscription(others, **by_symbol), Subscription(["exrate"], asset_ids=arguments.asset)]
    is_filtered = bool(arguments.asset) or arguments.everything
    if is_filtered and not others and endpoint_from(arguments.endpoint).product == "exrates":
        types = []  # that product has none
    return [Subscription(types, asset_ids=arguments.asset, everything=arguments.everything, **by_symbol)]


@contextmanager
def _opened_recorder(path: str) -> Iterator[Recorder]:
    try:
        recorder = Recorder(path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from None
    try:
        with recorder:
            yield recorder
    except OSError as error:
        if error is recorder.error:
            raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from None
        raise
    finally:
        recorder.close()  # which a Ctrl-C may have cut
        if not recorder.written and recorder.error is None:
            Path(path).unlink()  # so that it can be tried again


def _print_all(opened: Stream, printer: Printer, arguments: Namespace, recorder: Recorder | None = None) -> None:
    """Print until the count or the duration is reached, the server closes properly, or the recorder fails."""
    tally, out = printer.tally, sys.stdout
    count = inf if arguments.count is None else arguments.count
    now = start = flushed = time.monotonic()
    end = inf if arguments.duration is None else start + arguments.duration
    try:
        while tally.messages < count and now < end and (recorder is None or recorder.error is None):
            try:
                printer.take(opened.recv(timeout=min(FLUSH_SECONDS, end - now)))
            except ConnectionClosed as closed:
                if closed.disconnected is None or closed.disconnected.error_type is not None:
                    raise
                return
            except CoinAPIError:
                raise  # of which ConnectTimeout is a TimeoutError too
            except TimeoutError:
                pass  # nothing came for a moment, in which what was written is flushed
            now = time.monotonic()
            if now - flushed > FLUSH_SECONDS:
                flushed = now
                out.flush()
    finally:
        tally.elapsed_seconds = time.monotonic() - start
        tally.surplus = opened.stats().surplus
