"""The commands that print messages."""

from __future__ import annotations

import os
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from math import inf
from typing import Any, Final

from ..drivers.blocking import Stream, connect
from ..endpoints import endpoint_from
from ..events import Gap, Undecodable
from ..exceptions import CoinAPIError, ConfigurationError, ConnectionClosed
from ..messages import Heartbeat, Message
from ..recording import RecordingWriter
from ..subscription import WIRE_HELLO, WIRE_INCREMENTAL, Subscription
from .arguments import parsers
from .running import CLOSE_SECONDS, check_source, note, opened_source, prepare_stdout, run_to_the_end
from .summary import Tally
from .text import HEADER, TextLines

#: The scope of the demo: several exchanges, and every kind of market data.
DEMO: Final = (
    *("trade", "quote", "book5", "book", "book_l3", "ohlcv", "exrate"),
    *("--symbol", "COINBASE_", "--symbol", "KRAKEN_", "--symbol", "BINANCEFTS_", "--symbol", "BITSTAMP_SPOT_BTC_USD$"),
    *("--asset", "BTC", "--asset", "ETH/USD", "--period", "1SEC", "--simulate"),
)

#: So often what was written is flushed, also while nothing comes.
_FLUSH_SECONDS: Final = 0.1


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
        opened = connect(
            source.key,
            *subscriptions,
            endpoint=source.endpoint,
            numbers="decimal",  # lines show the digits of the wire, and no number is too large
            wire=WIRE_HELLO if len(subscriptions) == 1 else WIRE_INCREMENTAL,
            keep_raw=True,
            # Raw output and recordings have all that came.
            deliver_surplus=arguments.format == "raw" or arguments.record is not None,
            close_timeout=CLOSE_SECONDS,
            ssl=source.ssl_context,
        )
        stack.enter_context(opened)
        record = None
        if arguments.record is not None:
            record = stack.enter_context(_recording_writer(arguments.record)).write
        printer = _Printer(arguments, tally, record=record, redact=source.redact)
        _print_all(opened, printer, arguments)
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


def _recording_writer(path: str) -> RecordingWriter:
    try:
        return RecordingWriter(path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from None


def _print_all(opened: Stream, printer: _Printer, arguments: Namespace) -> None:
    """Print until the count or the duration is reached, or the server closes properly."""
    tally, out = printer.tally, sys.stdout
    count = inf if arguments.count is None else arguments.count
    now = start = flushed = time.monotonic()
    end = inf if arguments.duration is None else start + arguments.duration
    try:
        while tally.messages < count and now < end:
            try:
                printer.take(opened.recv(timeout=min(_FLUSH_SECONDS, end - now)))
            except ConnectionClosed as closed:
                if closed.disconnected is None or closed.disconnected.error_type is not None:
                    raise
                return
            except CoinAPIError:
                raise  # of which ConnectTimeout is a TimeoutError too
            except TimeoutError:
                pass  # nothing came for a moment, in which what was written is flushed
            now = time.monotonic()
            if now - flushed > _FLUSH_SECONDS:
                flushed = now
                out.flush()
    finally:
        tally.elapsed_seconds = time.monotonic() - start
        tally.surplus = opened.stats().surplus


class _Printer:
    """Writes items to stdout in one of the formats, records their frames, and counts them."""

    def __init__(
        self,
        arguments: Namespace,
        tally: Tally,
        *,
        record: Callable[[str, int], None] | None,
        redact: Callable[[str], str],
    ) -> None:
        self.tally = tally
        self._format: str = arguments.format
        self._record = record
        self._redact = redact
        self._lines = TextLines(all_digits=arguments.decimal, with_latency=arguments.recording is None, redact=redact)
        prepare_stdout(as_text=self._format == "text")
        self._write = sys.stdout.write
        if self._format == "text" and sys.stdout.isatty():
            self._write(f"{HEADER}\n")

    def take(self, item: Message | Gap | Undecodable) -> None:
        """Write one item, record its frame, and count it, as its kind demands."""
        payload = item.raw if isinstance(item, Message) else getattr(item, "payload", None)
        frame = self._redact(payload) if isinstance(payload, str) else None
        if frame is not None and self._record is not None:
            self._record(frame, getattr(item, "received_ns", 0))
        if not isinstance(item, Heartbeat):
            self.tally.add(item)
        if frame is not None and self._is_printed_as_frame(item):
            # A line break is possible between the tokens of JSON alone.
            one_line = frame.replace("\r", " ").replace("\n", " ")
            self._write(f"{one_line}\n")
        elif isinstance(item, Heartbeat):
            return
        elif self._format == "text":
            self._write(f"{self._lines.line(item)}\n")
        else:
            note(self._lines.line(item))

    def _is_printed_as_frame(self, item: object) -> bool:
        if self._format == "json":
            return isinstance(item, Message) and not isinstance(item, Heartbeat)
        return self._format == "raw"
