"""Batches for relays, and readers of them."""

from __future__ import annotations

import json
from typing import Any, Final

from coinapi_ws.relay import Batch, Entry, RedisReader
from coinapi_ws.sharding import shard_of

BTC: Final = "COINBASE_SPOT_BTC_USD"
STREAMS: Final = 4
#: Of readers that are to be taken for dead soon. On a busy machine they may lose a stream though they live.
SHORT_LEASE_SECONDS: Final = 0.5


def trade(number: int, symbol_id: str = BTC) -> str:
    """A trade's frame as the server writes it, with its sequence."""
    moment = f"2026-01-01T00:00:{number % 60:02}.0000000Z"
    fields = {"time_coinapi": moment, "price": 1.5, "size": 1.0, "symbol_id": symbol_id, "sequence": number}
    return json.dumps({**fields, "type": "trade"}, separators=(",", ":"))


def batch(*numbers: int, symbol_id: str = BTC, connection: str = "relay.1", streams: int = STREAMS) -> Batch:
    """A batch of trades with these sequences."""
    entries = [Entry(number, trade(number, symbol_id)) for number in numbers]
    return Batch(shard_of(symbol_id, streams), connection, entries)


def reader(url: str, group: str = "group", **options: Any) -> RedisReader:
    """A reader of a few streams."""
    return RedisReader(url, group=group, streams=STREAMS, **options)


def read_all(reading: RedisReader, count: int, seconds: float = 60.0) -> list[Any]:
    """Read so many items."""
    return [reading.recv(timeout=seconds) for _ in range(count)]
