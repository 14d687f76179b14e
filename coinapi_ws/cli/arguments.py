"""What can be written on the command line."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter, _ArgumentGroup
from math import inf, nan
from typing import Any, Final

from .._version import __version__
from ..auth import API_KEY_VARIABLE
from ..books.books import L2_TYPES
from ..endpoints import NAMED_ENDPOINTS, REST_ENDPOINT
from ..metadata.client import DEFAULT_TIMEOUT_SECONDS
from ..relay.entries import DEFAULT_PREFIX, DEFAULT_STREAMS
from ..relay.redis_publisher import DEFAULT_MAX_AGE_SECONDS
from ..subscription import KNOWN_DATA_TYPES

#: Has the place of ``--redis``.
REDIS_VARIABLE: Final = "COINAPI_WS_REDIS"

_KEY: Final = f"""\
The API key comes from the environment variable {API_KEY_VARIABLE} and from nowhere else: an argument would be seen
by everybody who can list processes. The embedded server needs no key."""

_OUTPUT: Final = """\
Formats, on stdout:
  text  a line a message in columns: when CoinAPI published it (UTC; where the message does not say, when it came),
        type, symbol, latency (arrival minus time_coinapi), values. Sizes and very long prices are shortened.
  json  the server's own JSON object a line, digit for digit, unknown fields included
  raw   every text frame as it came, also heartbeats and what cannot be read
In json and raw, a line break within a frame, which JSON allows between tokens, becomes a space. Gaps and frames that
cannot be read are lines in text, and notes on stderr otherwise. Heartbeats are in raw and in recordings alone, and
--count does not count them; it counts all other messages. A summary comes on stderr at the end."""

_EXITS: Final = """\
Exit codes: 0 done, also when the server or a recording ended the stream properly, or nobody reads the output any
more; 1 the server refused, or the connection failed; 2 wrong usage; 130 Ctrl-C, 143 SIGTERM. It does not reconnect."""

_STREAM: Final = f"""\
TYPE is one or more of:
  {", ".join(KNOWN_DATA_TYPES)}
Each filter can be given several times; any of them matches. A symbol id matches by its beginning, exactly with a
$ at its end (write it in single quotes). Filter by symbol where you can: how the server combines kinds of filter
is not documented. exrate needs --asset; beside other types, with --symbol or --exchange, --asset is for exrate alone.

Examples:
  coinapi-ws stream trade quote --symbol 'COINBASE_SPOT_BTC_USD$'
  coinapi-ws stream trade book5 --symbol KRAKEN_ --endpoint emea --format json | jq .price
  coinapi-ws stream exrate --asset BTC/USD --simulate
  coinapi-ws stream exrate --asset BTC/USD --endpoint exrates
  coinapi-ws stream trade --symbol 'COINBASE_SPOT_BTC_USD$' --endpoint ds:coinbase
  coinapi-ws stream trade --symbol BITSTAMP_ --record trades.jsonl.gz --duration 60
  coinapi-ws stream trade --symbol BITSTAMP_ --recording trades.jsonl.gz"""

_REPLAY: Final = """\
Prints what recordings hold without a server, as fast as it can or in recorded time; several files, such as a recorder
that rotates makes them, in the order of their times. Each --type, --symbol and --exchange can be given several times;
any of them matches. What a frame cannot be read as, and what is missing, is printed whatever they are. The latency is
the recorded one.

Examples:
  coinapi-ws replay market.jsonl.gz --type trade --symbol 'COINBASE_SPOT_BTC_USD$'
  coinapi-ws replay market-*.jsonl.zst --speed 10 --format json | jq .price"""

_INSPECT: Final = """\
Reads all of the recordings, in memory that does not grow with their length, and prints: size, time span, messages by
type and symbol, the busiest second, connections, what is missing and what came twice, by sequences within each
connection and by the uuids of the last 100,000 trades, what is no message, and how late messages were (arrival minus
time_coinapi, and time_coinapi minus time_exchange). A restart is a sequence that begins again at 1 within a
connection. In json times and durations are in nanoseconds.

Examples:
  coinapi-ws inspect market.jsonl.gz
  coinapi-ws inspect market-*.jsonl.zst --format json | jq .sequence_gaps"""

_RECORDING_EXITS: Final = """\
Exit codes: 0 done, also where nobody reads the output any more; 1 (inspect) a recording is not sound, of which all up
to there is counted; 2 wrong usage, or (replay) a recording that is not sound; 130 Ctrl-C, 143 SIGTERM. A recording that
was cut off is sound, and a note says where it ends."""

_BOOK: Final = """\
SYMBOL is one whole symbol id, such as COINBASE_SPOT_BTC_USD. With --endpoint ds:EXCHANGE the exchange's own name of it
will do.

On a terminal: asks above, bids below, the best in the middle, with the spread, the sequence, the time (of time_coinapi,
UTC) and whether the book is true, drawn at most ten times a second. NO_COLOR in the environment is honoured.
Elsewhere: a line whenever the best levels or the state change, columns parted by blanks:
  time, symbol, state, sequence, bid, its size, ask, its size, spread, and the reason where it is not LIVE
A book is EMPTY before its first snapshot, LIVE while nothing is missing, else STALE; a line of a book that is not LIVE
has "-" for its values. A STALE book gets a new connection, so that a snapshot comes. Numbers have the digits of the
wire. --count counts lines, on a terminal updates of the book.

Examples:
  coinapi-ws book COINBASE_SPOT_BTC_USD --simulate
  coinapi-ws book KRAKEN_SPOT_BTC_USD --type book5 --depth 5 --endpoint emea | grep -v LIVE"""

_CANDLES: Final = """\
SYMBOL is one or more whole symbol ids, such as COINBASE_SPOT_BTC_USD.

A candle comes once, when a later one of its symbol and period came, or 5 seconds after its end. Formats, on stdout:
  text  a line a candle, columns parted by blanks: start of the period (UTC), period, symbol, state, open, high, low,
        close, volume, trades; of a correction, what was said before
  json  a JSON object a line: "state", "candle" with the server's own object digit for digit, and "before" if corrected
The state is "closed"; "uncertain" where the connection was lost after the candle had come for the last time;
"corrected" where a closed one is told differently later; "running" with --running alone. --count counts lines.

Examples:
  coinapi-ws candles COINBASE_SPOT_BTC_USD --period 1MIN
  coinapi-ws candles COINBASE_SPOT_BTC_USD --period 1SEC --simulate --format json"""

_LISTS: Final = """\
What can be subscribed, from the vendor's REST API; each request counts against its limits. Filters can be given several
times: any id of one filter matches, and of several filters each has to. Formats, on stdout:
  text  a line each, columns parted by blanks, "-" for what is not known
  json  the server's own JSON object a line, digit for digit, unknown fields included

Examples:
  coinapi-ws exchanges
  coinapi-ws assets --asset BTC --asset ETH --format json
  coinapi-ws symbols --exchange COINBASE --asset USD --simulate
  coinapi-ws stream trade $(coinapi-ws symbols --symbol _SPOT_BTC_USD | awk '{print "--symbol " $1 "$"}')"""

_LISTED: Final = """\
Exit codes: 0 done, also when nobody reads the output any more; 1 the server refused, or the answer did not come whole;
2 wrong usage; 130 Ctrl-C, 143 SIGTERM. Nothing is tried again."""

_RELAY: Final = f"""\
Frames go into Redis Streams as they came, for the readers of coinapi_ws.relay. Where Redis is away, they wait; where
that takes so long that the connection breaks, readers are told of the gap. A URL with a password is better given in
the environment variable {REDIS_VARIABLE}: an argument would be seen by everybody who can list processes.

With --shard 2/8 this is the second of eight relays, which share the symbols out among them; each --symbol has to be one
whole id with a $ at its end.

Examples:
  coinapi-ws relay trade quote --symbol 'COINBASE_SPOT_BTC_USD$' --redis redis://127.0.0.1:6379/0
  coinapi-ws relay book --symbol KRAKEN_ --max-age 600 --simulate --redis redis://127.0.0.1:6379/0"""

_RECONNECTS: Final = """\
Exit codes: 0 done, also when a recording ended, or nobody reads the output any more; 1 the server refused, or could not
be reached at first; 2 wrong usage; 130 Ctrl-C, 143 SIGTERM. Once connected, it reconnects by itself. A summary comes on
stderr at the end, and in lines what happens to the connection."""

_SIMULATE: Final = """\
A scenario is a JSON file with options, a market and faults on a time line, so that a program's fault can be shown to
others; its form stands in the docstring of coinapi_ws.simulator.scenario. It can also say what has no option here, such
as keys and limits. Options given here take the place of the scenario's. Its time line begins with the first
connection, and runs once: start the server again for another run.

With --tls the server makes certificates (pip install "coinapi-ws[tls]"); clients trust them by the file that
the second line names, which --ca-file keeps."""

_SIMULATE_EXITS: Final = """\
It ends with Ctrl-C (exit code 130) or SIGTERM (143; for a job in the background, which a shell makes deaf to Ctrl-C's
signal). Other exit codes: 1 it could not listen; 2 wrong usage."""

#: How the library's advice reads on the command line, longest first.
_AS_OPTIONS: Final = (
    ('write Subscription(["exrate"], …)', "write exrate"),
    ("write Subscription((), asset_ids=[…])", "write: stream exrate --asset BTC/USD --endpoint exrates"),
    ('symbol_ids=["COINBASE_SPOT_BTC_USD$", …]', "--symbol 'COINBASE_SPOT_BTC_USD$'"),
    ("pass streams=", "write --streams "),
    ('asset_ids=["BTC/USD"]', "--asset BTC/USD"),
    ("symbol_ids=[…]", "--symbol ID"),
    ("everything=True", "--everything"),
    (", or pass allow_plaintext=True", ""),
    ("pass the key as api_key instead", f"set {API_KEY_VARIABLE} instead"),
    ("pass it as api_key, with auth='query' or auth='path'", f"set {API_KEY_VARIABLE} instead"),
    ("period_ids narrow", "--period narrows"),
    ("data_types", "TYPE"),
    ("symbol_ids", "--symbol"),
    ("exchange_ids", "--exchange"),
    ("asset_ids", "--asset"),
    ("period_ids", "--period"),
)


def parsers() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    """Return the whole parser, and the one of each command by its name."""
    parser = ArgumentParser(
        prog="coinapi-ws",
        description="Market data of CoinAPI's WebSocket API V1, live, simulated or recorded.",
        epilog=f"Begin with: coinapi-ws demo\n\n{_KEY}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"coinapi-ws {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, *epilog: str) -> ArgumentParser:
        return subparsers.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog="\n\n".join(epilog),
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    stream = add("stream", "print messages as they come", _STREAM, _OUTPUT, _KEY, _EXITS)
    _add_scope(stream)
    _add_source(stream)
    _add_output(stream)
    demo = add("demo", "stream a synthetic market from the embedded server, no key needed", _OUTPUT, _EXITS)
    _add_output(demo)
    book = add("book", "show one order book, live", _BOOK, _KEY, _RECONNECTS)
    _add_book(book)
    _add_source(book)
    _add_end(book.add_argument_group("output"), "lines, or updates on a terminal")
    candles = add("candles", "print candles when they have closed", _CANDLES, _KEY, _RECONNECTS)
    _add_candles(candles)
    _add_source(candles)
    _add_candles_output(candles)
    for name in ("exchanges", "assets", "symbols"):
        _add_list(add(name, f"list the {name}", _LISTS, _KEY, _LISTED), name)
    replay = add("replay", "print what recordings hold", _REPLAY, _OUTPUT, _RECORDING_EXITS)
    _add_replay(replay)
    inspect = add("inspect", "say what is in recordings, and what is missing", _INSPECT, _RECORDING_EXITS)
    _add_files(inspect)
    inspect.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    relay = add("relay", "publish messages to Redis, for readers elsewhere", _RELAY, _KEY, _RECONNECTS)
    _add_scope(relay)
    _add_source(relay)
    _add_relay(relay)
    simulate = add("simulate", "run the embedded server for other programs", _SIMULATE, _SIMULATE_EXITS)
    _add_simulator(simulate)
    return parser, subparsers.choices


def as_options(advice: str) -> str:
    """Return what the library advises, in words of the command line."""
    for argument, option in _AS_OPTIONS:
        advice = advice.replace(argument, option)
    return advice


def complaint(unknown: list[str]) -> str:
    """Return what is wrong with arguments that no parser knows; a key among them is not repeated."""
    if any(argument.startswith("-") and "key" in argument.lower() for argument in unknown):
        return f"the API key is no argument, which others could see: set the environment variable {API_KEY_VARIABLE}"
    return f"unrecognized arguments: {' '.join(unknown)}"


def _add_scope(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what to receive")
    group.add_argument("types", nargs="+", metavar="TYPE", help="data types, such as trade, quote, book")
    group.add_argument("--symbol", action="append", default=[], metavar="ID", help="such as 'COINBASE_SPOT_BTC_USD$'")
    group.add_argument("--exchange", action="append", default=[], metavar="ID", help="such as COINBASE")
    group.add_argument("--asset", action="append", default=[], metavar="ID", help="such as BTC, or a pair: BTC/USD")
    group.add_argument("--period", action="append", default=[], metavar="ID", help="of ohlcv, such as 1MIN; else all")
    group.add_argument(
        "--everything", action="store_true", help="no filter at all, which the vendor bills by its volume"
    )


def _add_source(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("where from")
    sources = group.add_mutually_exclusive_group()
    sources.add_argument(
        "--endpoint",
        default="geo",
        metavar="NAME|URL",
        help=f"{', '.join(NAMED_ENDPOINTS)}, ds:<exchange>, or a ws:// or wss:// URL, for the Exchange Rates product "
        "exrates:URL (default: geo)",
    )
    sources.add_argument("--simulate", action="store_true", help="the embedded server's synthetic market")
    sources.add_argument("--recording", metavar="FILE", help="replay a recording through the embedded server")
    group.add_argument(
        "--speed", type=_speed, default=None, metavar="X|max", help="of --recording: 1 as recorded (default: max)"
    )
    group.add_argument("--ca-file", metavar="FILE", help="trust the authorities in this PEM file too")


def _add_output(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    _add_end(group, "messages")
    _add_format(group)
    group.add_argument(
        "--record",
        metavar="FILE",
        help="write every text frame to a new file as well; with gzip if it ends in .gz, zstd in .zst",
    )


def _add_format(group: _ArgumentGroup) -> None:
    group.add_argument("--format", choices=("text", "json", "raw"), default="text", help="default: text")
    group.add_argument("--decimal", action="store_true", help="in text, shorten no number (json and raw never do)")


def _add_replay(parser: ArgumentParser) -> None:
    _add_files(parser)
    group = parser.add_argument_group("what to print")
    group.add_argument("--type", action="append", default=[], metavar="TYPE", help="such as trade")
    group.add_argument("--symbol", action="append", default=[], metavar="ID", help="such as 'COINBASE_SPOT_BTC_USD$'")
    group.add_argument("--exchange", action="append", default=[], metavar="ID", help="such as COINBASE")
    group.add_argument("--count", type=_count, metavar="N", help="end after N messages")
    group.add_argument("--speed", type=_speed, default=None, metavar="X|max", help="1 as recorded (default: max)")
    _add_format(group)


def _add_files(parser: ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="a recording, such as --record makes")


def _add_end(group: _ArgumentGroup, counted: str) -> None:
    group.add_argument("--count", type=_count, metavar="N", help=f"end after N {counted}")
    group.add_argument("--duration", type=_seconds, metavar="S", help="end S seconds after connecting")


def _add_book(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what to show")
    group.add_argument("symbol", type=_symbol, metavar="SYMBOL", help="such as COINBASE_SPOT_BTC_USD")
    group.add_argument("--type", choices=L2_TYPES, default="book", help="data type (default: book, all levels)")
    group.add_argument("--depth", type=_count, default=10, metavar="N", help="levels of each side (default: 10)")
    group.add_argument("--no-bars", dest="bars", action="store_false", help="no bars beside the sizes")


def _add_candles(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what to print")
    group.add_argument("symbols", nargs="+", type=_symbol, metavar="SYMBOL", help="such as COINBASE_SPOT_BTC_USD")
    group.add_argument("--period", action="append", metavar="ID", help="such as 1SEC, 5MIN, 1HRS (default: 1MIN)")
    group.add_argument("--running", action="store_true", help="print every change of what has not closed as well")


def _add_candles_output(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    _add_end(group, "lines")
    group.add_argument("--format", choices=("text", "json"), default="text", help="default: text")


def _add_list(parser: ArgumentParser, name: str) -> None:
    group = parser.add_argument_group("what to list")
    if name == "symbols":
        group.add_argument("--symbol", action="append", default=[], metavar="PART", help="a part of the symbol's id")
    if name != "assets":
        group.add_argument("--exchange", action="append", default=[], metavar="ID", help="such as COINBASE")
    if name != "exchanges":
        group.add_argument("--asset", action="append", default=[], metavar="ID", help="such as BTC")
    group = parser.add_argument_group("where from")
    sources = group.add_mutually_exclusive_group()
    sources.add_argument(
        "--endpoint",
        default=REST_ENDPOINT,
        metavar="URL",
        help=f"an https:// or http:// URL (default: {REST_ENDPOINT})",
    )
    sources.add_argument("--simulate", action="store_true", help="the embedded server's synthetic market")
    group.add_argument("--ca-file", metavar="FILE", help="trust the authorities in this PEM file too")
    group.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="S",
        help="for all of it (default: %(default)g)",
    )
    group = parser.add_argument_group("output")
    group.add_argument("--format", choices=("text", "json"), default="text", help="default: text")


def _add_relay(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("where to")
    group.add_argument("--redis", metavar="URL", help=f"such as redis://127.0.0.1:6379/0 (default: ${REDIS_VARIABLE})")
    group.add_argument("--cluster", action="store_true", help="the URL is that of a node of a Redis Cluster")
    group.add_argument("--shard", type=_shard, metavar="I/N", help="of N relays the one with number I, from 1 on")
    group.add_argument("--prefix", default=DEFAULT_PREFIX, metavar="NAME", help=f"of keys (default: {DEFAULT_PREFIX})")
    group.add_argument(
        "--streams", type=_count, default=DEFAULT_STREAMS, metavar="N", help=f"how many (default: {DEFAULT_STREAMS})"
    )
    kept = group.add_mutually_exclusive_group()
    kept.add_argument(
        "--max-age", type=_seconds, default=DEFAULT_MAX_AGE_SECONDS, metavar="S", help="keep S seconds (default: 3600)"
    )
    kept.add_argument("--max-length", type=_count, metavar="N", help="keep the newest N of each stream")
    _add_end(group, "messages")


def _add_simulator(parser: ArgumentParser) -> None:
    # What is not given stays away, so that a scenario's own value holds.
    def add(name: str, **options: Any) -> None:
        parser.add_argument(name, default=SUPPRESS, **options)

    add("--scenario", metavar="FILE", help="options, market and faults from a scenario file")
    add("--port", type=_port, metavar="N", help="on 127.0.0.1 (default: any free one)")
    add("--recording", metavar="FILE", help="replay this to each client, not the synthetic market")
    add("--speed", type=_speed, metavar="X|max", help="of the recording (default: 1, as recorded)")
    add("--seed", type=int, metavar="N", help="of the synthetic market, and of chance in faults (default: 0)")
    add("--direct-source", metavar="EXCHANGE", help="be WS DS of an exchange, such as COINBASE")
    add("--exchange-rates", action="store_true", help="be the Exchange Rates product")
    add("--tls", action="store_true", help="speak TLS, as localhost, with certificates of its own")
    add("--ca-file", metavar="FILE", help="write the authority behind the certificates there (default: temporary)")


def _count(text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() else 0
    if not count:
        raise ArgumentTypeError(f"{text!r} is not a positive whole number")
    return count


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    try:
        shard = _count(number), _count(count)
    except ArgumentTypeError:
        shard = 2, 1
    if shard[0] > shard[1]:
        raise ArgumentTypeError(f"{text!r} is no shard; write such as 1/8, up to 8/8")
    return shard


def _symbol(text: str) -> str:
    symbol = text[:-1] if text.endswith("$") else text
    if not symbol or symbol.endswith("_") or "$" in symbol or not symbol.isprintable() or " " in symbol:
        raise ArgumentTypeError(f"{text!r} is no symbol id; write a whole one, such as COINBASE_SPOT_BTC_USD")
    return symbol


def _seconds(text: str) -> float:
    return _positive(text, "a positive number of seconds")


def _speed(text: str) -> float | None:
    return None if text == "max" else _positive(text, 'a positive factor, or "max"')


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise ArgumentTypeError(f"{text!r} is no port (0 to 65535)")
    return port


def _positive(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not 0 < number < inf:
        raise ArgumentTypeError(f"{text!r} is not {what}")
    return number
