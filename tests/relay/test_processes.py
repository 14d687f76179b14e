"""Relays and readers in processes of their own, killed with SIGKILL: nothing is lost, and nothing published twice."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from redis_servers import RedisProcess
from relay_entries import (
    BTC,
    PATIENCE_SECONDS,
    SHORT_LEASE_SECONDS,
    STREAMS,
    batch,
    publisher,
    read_all,
    read_to,
    reader,
)

from coinapi_ws import ConnectionGap, Message
from coinapi_ws.simulator import Simulator

READER: Final = """
import sys
from coinapi_ws import Message
from coinapi_ws.relay import RedisReader
url, streams, seconds = sys.argv[1:]
with RedisReader(url, group="group", streams=int(streams), lease_seconds=float(seconds)) as reader:
    for item in reader:
        print(item.sequence, flush=True)
"""
CLOSED_UNDER_WAY: Final = """
import sys, threading
if sys.argv[2]:
    sys.modules["hiredis"] = None
from coinapi_ws.relay import Batch, Entry, RedisPublisher, RelayError
publisher = RedisPublisher(sys.argv[1])
publisher.publish([Batch(0, "relay.1", [Entry(1, "text")])])
print("ready", flush=True)
sys.stdin.readline()
threading.Timer(0.3, publisher.close).start()
try:
    publisher.publish([Batch(0, "relay.1", [Entry(2, "text")])])
except RelayError as error:
    print(error)
"""
BENCHMARKS: Final = Path(__file__).resolve().parents[2] / "benchmarks"


@contextmanager
def running(*command: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python with these arguments; it is killed at the end, or after a time, and what it started with it."""
    child = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    end = threading.Timer(2 * PATIENCE_SECONDS, kill)  # of what waits for it to say something
    end.start()
    try:
        yield child
    finally:
        end.cancel()
        end.join()
        kill()
        child.communicate()


def sequences(items: list[Any]) -> list[int]:
    return [item.sequence for item in items if isinstance(item, Message)]


def gaps_of(items: list[Any]) -> list[ConnectionGap]:
    return [item for item in items if isinstance(item, ConnectionGap)]


def test_a_reader_that_is_killed_leaves_the_rest_to_the_next_one(server: RedisProcess) -> None:
    with publisher(server.url) as published:
        published.publish([batch(*range(1, 301))])
        with running("-c", READER, server.url, STREAMS, SHORT_LEASE_SECONDS) as child:
            assert child.stdout is not None
            handled = [int(child.stdout.readline()) for _ in range(100)]
            child.kill()
            rest = child.stdout.read().split("\n")[:-1]
        handled += map(int, rest)
        last = max(handled)
        assert list(dict.fromkeys(handled)) == list(range(1, last + 1))
        with reader(server.url) as second:
            again = sequences(read_to(second, 300))
    # From the last that Redis knew as handled, in order, to the end.
    assert again == list(range(again[0], 301))
    assert again[0] <= last + 1


def test_a_relay_that_is_killed_goes_on_with_a_gap_and_without_a_repetition(
    server: RedisProcess, redis_client: Any
) -> None:
    symbols = [word for name in (BTC, "KRAKEN_SPOT_ETH_USD") for word in ("--symbol", f"{name}$")]
    with Simulator(activity=50) as market:
        command = ("-m", "coinapi_ws", "relay", "trade", "book", *symbols, "--endpoint", market.url)
        wanted = ("--redis", server.url, "--streams", STREAMS)
        with reader(server.url) as reading:
            items: list[Any] = []
            for number in range(3):
                with running(*command, *wanted):
                    # The first entries of all are of the first relay; of the others each begins with a gap.
                    begun = len(gaps_of(items))
                    items += read_all(reading, 60)
                    deadline = time.monotonic() + PATIENCE_SECONDS
                    while number > 0 and len(gaps_of(items)) == begun:
                        assert time.monotonic() < deadline, "the gap is not told"
                        items += read_all(reading, 1)
            entries = sum(redis_client.xlen(key) for key in redis_client.scan_iter("coinapi:{*}", _type="stream"))
            firsts = sum(bool(redis_client.xlen(f"coinapi:{{{number}}}")) for number in range(STREAMS))
            items += read_all(reading, entries - firsts - len(items))  # of a stream's first entry nothing is told
            assert reading.stats().failures == 0
    in_streams = 0
    assert {gap.reason for gap in gaps_of(items)} == {"a relay began"}
    for key in redis_client.scan_iter("coinapi:{*}", _type="stream"):
        connections: dict[bytes, set[tuple[str, str, int]]] = defaultdict(set)
        for _, fields in redis_client.xrange(key):
            if b"frame" in fields:
                frame = json.loads(fields[b"frame"])
                one = (frame["type"], frame["symbol_id"], frame["sequence"])
                assert one not in connections[fields[b"connection"]]
                connections[fields[b"connection"]].add(one)
                in_streams += 1
        for found in connections.values():
            for pair in {one[:2] for one in found}:
                numbers = sorted(sequence for *of, sequence in found if tuple(of) == pair)
                assert numbers == list(range(1, len(numbers) + 1))
    assert in_streams == len(sequences(items))


@pytest.mark.parametrize("without", ["", "hiredis"])
def test_closing_ends_the_wait_for_an_answer(server: RedisProcess, without: str) -> None:
    with running("-c", CLOSED_UNDER_WAY, server.url, without) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        server.stop()
        out, err = child.communicate("\n")
    assert out == "closed while Redis was away; 1 entries are not known to be there\n", err


def test_the_demonstration_finds_every_message(tmp_path: Path) -> None:
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks are not beside the tests, as in an unpacked sdist")
    with RedisProcess(tmp_path):
        pass  # skips where there is none
    with running("-m", "benchmarks.relay", "--messages", 5000) as child:
        out, err = child.communicate()
    assert child.returncode == 0, err
    assert re.search(r"^5,000 messages .* 0 missing, 0 that were never sent; sums agree\.$", out, re.MULTILINE), out
