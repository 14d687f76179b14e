"""Batches for relays, publishers that do not wait for ever, and readers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeVar

from coinapi_ws.relay import Batch, Entry, KafkaPublisher, RedisPublisher, RedisReader
from coinapi_ws.sharding import shard_of

BTC: Final = "COINBASE_SPOT_BTC_USD"
STREAMS: Final = 4
#: Of readers that are to be taken for dead soon. On a busy machine they may lose a stream though they live.
SHORT_LEASE_SECONDS: Final = 0.5
#: All that a test waits for comes within this.
PATIENCE_SECONDS: Final = 30.0


def trade(number: int, symbol_id: str = BTC) -> str:
    """A trade's frame as the server writes it, with its sequence."""
    moment = f"2026-01-01T00:00:{number % 60:02}.0000000Z"
    fields = {"time_coinapi": moment, "price": 1.5, "size": 1.0, "symbol_id": symbol_id, "sequence": number}
    return json.dumps({**fields, "type": "trade"}, separators=(",", ":"))


def book(sequence: int, *, is_snapshot: bool = False) -> str:
    """A book's frame, with its sequence."""
    levels = {"asks": [{"price": 2.5, "size": 1.0}], "bids": []}
    fields = {"is_snapshot": is_snapshot, **levels, "symbol_id": BTC, "sequence": sequence, "type": "book"}
    return json.dumps(fields, separators=(",", ":"))


def batch(*numbers: int, symbol_id: str = BTC, connection: str = "relay.1", streams: int = STREAMS) -> Batch:
    """A batch of trades with these sequences."""
    entries = [Entry(number, trade(number, symbol_id)) for number in numbers]
    return Batch(shard_of(symbol_id, streams), connection, entries)


def reader(url: str, group: str = "group", **options: Any) -> RedisReader:
    """A reader of a few streams."""
    return RedisReader(url, group=group, streams=STREAMS, **options)


def read_all(reading: RedisReader, count: int) -> list[Any]:
    """Read so many items."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    return [reading.recv(timeout=deadline - time.monotonic()) for _ in range(count)]


def read_to(reading: RedisReader, sequence: int) -> list[Any]:
    """Read up to the first message with this sequence: at once, also where a gap before it is not told."""
    deadline, items = time.monotonic() + PATIENCE_SECONDS, list[Any]()
    while not items or getattr(items[-1], "sequence", None) != sequence:
        assert time.monotonic() < deadline, items[-20:]
        items.append(reading.recv(timeout=deadline - time.monotonic()))
    return items


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until that is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def once(is_so: Callable[[], bool], act: Callable[[], object]) -> Iterator[None]:
    """Do something on another thread once that is so, and not a time after which it should be."""

    def run() -> None:
        wait_until(is_so)
        act()

    thread = threading.Thread(target=run, name="what a test does meanwhile")
    thread.start()
    try:
        yield
    finally:
        thread.join()


P = TypeVar("P", RedisPublisher, KafkaPublisher)


@contextmanager
def in_time(published: P) -> Iterator[P]:
    """Close a publisher at the end, or where it waits for longer than it may."""
    with published:
        end = threading.Timer(PATIENCE_SECONDS, published.close)
        end.start()
        try:
            yield published
        finally:
            end.cancel()
            end.join()


def publisher(redis: Any, **options: Any) -> AbstractContextManager[RedisPublisher]:
    """A publisher to a few streams of a Redis."""
    return in_time(RedisPublisher(redis, streams=STREAMS, **options))
