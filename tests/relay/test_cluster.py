"""A Redis Cluster of three real nodes: each stream is on one of them, with all that belongs to it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis_servers import RedisProcess
from relay_entries import STREAMS, batch, publisher, read_all, reader

from coinapi_ws.sharding import shard_of

SYMBOLS = [
    next(name for number in range(1000) if shard_of(name := f"COINBASE_SPOT_{number}_USD", STREAMS) == stream)
    for stream in range(STREAMS)
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The URL of a node."""
    program = shutil.which("redis-cli")
    if program is None:
        pytest.skip("no redis-cli: install the package redis-tools")
    with ExitStack() as stack:
        nodes = []
        for number in range(3):
            directory = tmp_path / str(number)
            directory.mkdir()
            nodes.append(stack.enter_context(RedisProcess(directory, "--cluster-enabled", "yes")))
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        command = [program, "--cluster", "create", *addresses, "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        yield nodes[0].url


def test_all_of_a_stream_is_on_one_node(cluster: str) -> None:
    with publisher(cluster, cluster=True) as published:
        for sequence in range(1, 21):
            published.publish([batch(sequence, symbol_id=name) for name in SYMBOLS])
        with reader(cluster, cluster=True) as reading:
            items: list[Any] = read_all(reading, 20 * len(SYMBOLS))
            assert reading.stats().streams == tuple(range(STREAMS))
            published.publish([batch(21, symbol_id=SYMBOLS[0])])
            assert read_all(reading, 1)[0].sequence == 21
    for name in SYMBOLS:
        assert [item.sequence for item in items if item.symbol_id == name] == list(range(1, 21))
    client = RedisCluster.from_url(cluster)
    keys = {key.decode() for key in client.scan_iter("coinapi:{*", target_nodes=RedisCluster.PRIMARIES)}
    client.close()
    slots = {key: key_slot(key.encode()) for key in keys}
    assert len({slots[f"coinapi:{{{number}}}"] for number in range(STREAMS)}) == STREAMS
    for key, slot in slots.items():
        assert slot == slots[key.partition("}")[0] + "}"]
