"""The commands that print what can be subscribed: exchanges, assets, symbols."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, Final

from ..events import Undecodable
from ..messages import Asset, Exchange, Symbol
from ..metadata import Client
from .running import note, opened_rest, prepare_stdout, run_to_the_end
from .summary import Tally
from .text import number_text, printable

#: Of each command the columns: heading, width, field. What may have blanks in it comes last.
_COLUMNS: Final = {
    "exchanges": (
        ("EXCHANGE", 16, "exchange_id"),
        ("SYMBOLS", 8, "data_symbols_count"),
        ("VOLUME 1DAY USD", 20, "volume_1day_usd"),
        ("WEBSITE", 32, "website"),
        ("NAME", 0, "name"),
    ),
    "assets": (
        ("ASSET", 16, "asset_id"),
        ("SYMBOLS", 8, "data_symbols_count"),
        ("VOLUME 1DAY USD", 20, "volume_1day_usd"),
        ("PRICE USD", 20, "price_usd"),
        ("NAME", 0, "name"),
    ),
    "symbols": (
        ("SYMBOL", 32, "symbol_id"),
        ("TYPE", 10, "symbol_type"),
        ("BASE", 8, "asset_id_base"),
        ("QUOTE", 8, "asset_id_quote"),
        ("VOLUME 1DAY USD", 20, "volume_1day_usd"),
        ("PRICE", 0, "price"),
    ),
}
_NOTHING_FOUND: Final = "nothing matches; ids are in capitals, such as COINBASE, BTC, COINBASE_SPOT_BTC_USD"


def show_list(arguments: Namespace) -> int:
    """Print the list of the command until its end, or until nobody reads the output any more."""
    return run_to_the_end(lambda: _print_all(arguments), Tally())


def _print_all(arguments: Namespace) -> None:
    as_text = arguments.format == "text"
    columns = _COLUMNS[arguments.command]
    prepare_stdout(as_text=as_text)
    count = 0
    with opened_rest(arguments) as source:
        client = Client(
            source.key,
            endpoint=source.endpoint,
            timeout=arguments.timeout,
            numbers="decimal",  # lines show the digits of the wire
            keep_raw=True,
            ssl=source.ssl_context,
            on_undecodable=_note_undecodable,
        )
        if as_text and sys.stdout.isatty():
            sys.stdout.write(f"{_line([(heading, width) for heading, width, _ in columns])}\n")
        for found in _found(client, arguments):
            count += 1
            if as_text:
                line = _line([(getattr(found, field), width) for _, width, field in columns])
            else:
                # A line break is possible between the tokens of JSON alone.
                line = str(found.raw).replace("\r", " ").replace("\n", " ")
            sys.stdout.write(f"{source.redact(line)}\n")
    note(f"{count:,} found" if count else _NOTHING_FOUND)


def _found(client: Client, arguments: Namespace) -> Iterator[Exchange | Asset | Symbol]:
    if arguments.command == "exchanges":
        return client.exchanges(exchange_ids=arguments.exchange)
    if arguments.command == "assets":
        return client.assets(asset_ids=arguments.asset)
    return client.symbols(symbol_ids=arguments.symbol, exchange_ids=arguments.exchange, asset_ids=arguments.asset)


def _line(cells: list[tuple[Any, int]]) -> str:
    texts = (f"{cell if isinstance(cell, str) else number_text(cell):<{width}}" for cell, width in cells)
    return printable(" ".join(texts).rstrip())


def _note_undecodable(found: Undecodable) -> None:
    note(f"one could not be read: {found.reason} (length {len(found.payload)})")
