"""Entries in a real Redis: each once and in order, whatever happens on the way."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from redis_servers import LosingProxy, RedisProcess
from relay_entries import BTC, STREAMS, batch, once, publisher, trade, wait_until

from coinapi_ws import ConfigurationError
from coinapi_ws.relay import Batch, Entry, RedisPublisher, RelayError
from coinapi_ws.sharding import shard_of

STREAM = shard_of(BTC, STREAMS)
KEY = f"coinapi:{{{STREAM}}}"


def frames(client: Any, key: str = KEY) -> list[str]:
    return [fields[b"frame"].decode() for _, fields in client.xrange(key) if b"frame" in fields]


def test_entries_are_there_in_order_with_all_that_readers_need(server: RedisProcess, redis_client: Any) -> None:
    with publisher(server.url) as published:
        published.publish([batch(1, 2), Batch((STREAM + 1) % STREAMS, "relay.1", [Entry(None, '{"gap":"x"}')])])
        published.publish([batch(3)])
    entries = redis_client.xrange(KEY)
    assert [fields for _, fields in entries] == [
        {b"frame": trade(number).encode(), b"received_ns": b"%d" % number, b"connection": b"relay.1"}
        for number in (1, 2, 3)
    ]
    numbers = [int(entry_id.partition(b"-")[2]) for entry_id, _ in entries]
    assert numbers == [1, 2, 3]
    (gap,) = redis_client.xrange(f"coinapi:{{{(STREAM + 1) % STREAMS}}}")
    assert gap[1] == {b"gap": b'{"gap":"x"}', b"connection": b"relay.1"}


def test_two_relays_share_a_stream(server: RedisProcess, redis_client: Any) -> None:
    with publisher(server.url) as one, publisher(server.url) as two:
        for number in range(5):
            one.publish([batch(number)])
            two.publish([batch(number, symbol_id=BTC, connection="other.1")])
    assert frames(redis_client) == [trade(number) for number in range(5) for _ in range(2)]
    assert [entry_id.partition(b"-")[2] for entry_id, _ in redis_client.xrange(KEY)] == [
        b"%d" % n for n in range(1, 11)
    ]


def test_where_an_answer_was_lost_nothing_is_there_twice(server: RedisProcess, redis_client: Any) -> None:
    with LosingProxy(server.port) as proxy, publisher(f"redis://127.0.0.1:{proxy.port}/0") as published:
        published.publish([batch(1, 2)])
        proxy.lose()
        published.publish([batch(3, 4, 5)])
        published.publish([batch(6)])
        assert proxy.lost == 1
        assert (published.failures, published.repeated) == (1, 3)
    assert frames(redis_client) == [trade(number) for number in range(1, 7)]


def test_a_server_that_is_killed_is_waited_for(server: RedisProcess, caplog: pytest.LogCaptureFixture) -> None:
    with publisher(server.url) as published:
        published.publish([batch(1)])
        server.kill()
        with once(lambda: published.failures > 0, server.start):
            published.publish([batch(2, 3)])
        assert published.failures > 0
    with server.client() as client:
        assert frames(client) == [trade(number) for number in (1, 2, 3)]
    away, back = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert away.startswith("Redis is away: ConnectionError")
    assert back == f"Redis is back after {published.failures} failures"


def test_what_a_server_forgot_leaves_a_hole_in_the_numbers(server: RedisProcess, redis_client: Any) -> None:
    with publisher(server.url) as published:
        published.publish([batch(1, 2)])
        dumps = {key: redis_client.dump(key) for key in redis_client.keys("*")}
        published.publish([batch(3, 4)])
        redis_client.flushall()
        for key, value in dumps.items():
            redis_client.restore(key, 0, value)
        published.publish([batch(5)])
    assert frames(redis_client) == [trade(number) for number in (1, 2, 5)]
    assert [entry_id.partition(b"-")[2] for entry_id, _ in redis_client.xrange(KEY)] == [b"1", b"2", b"5"]
    assert redis_client.xinfo_stream(KEY)["entries-added"] == 5


def test_where_all_was_forgotten_it_begins_anew(server: RedisProcess, redis_client: Any) -> None:
    with publisher(server.url) as published:
        published.publish([batch(1, 2)])
        redis_client.flushall()
        published.publish([batch(3)])
    assert frames(redis_client) == [trade(3)]


def test_a_batch_of_which_a_part_was_there_is_completed(server: RedisProcess, redis_client: Any) -> None:
    # What a server that was full in the middle leaves behind.
    with publisher(server.url) as published:
        published.publish([batch(1)])
        redis_client.set(f"{KEY}:{published._mark}", 3)
        published.publish([batch(2, 3, 4, 5)])
        assert published.repeated == 2
    assert frames(redis_client) == [trade(1), trade(4), trade(5)]


def test_the_time_of_the_server_may_go_back(server: RedisProcess, redis_client: Any) -> None:
    redis_client.xadd(KEY, {"frame": "of the future"}, id="99999999999999-7")
    with publisher(server.url) as published:
        published.publish([batch(1)])
    assert redis_client.xrange(KEY)[-1][0] == b"99999999999999-8"


def test_streams_are_trimmed_by_length(server: RedisProcess, redis_client: Any) -> None:
    redis_client.config_set("stream-node-max-entries", 10)
    with publisher(server.url, max_age=None, max_length=50) as published:
        for number in range(0, 1000, 100):
            published.publish([batch(*range(number, number + 100))])
    assert 50 <= redis_client.xlen(KEY) <= 60


def test_streams_are_trimmed_by_age(server: RedisProcess, redis_client: Any) -> None:
    redis_client.config_set("stream-node-max-entries", 10)
    long_ago = int(redis_client.time()[0] - 100) * 1000
    for number in range(1, 101):
        redis_client.xadd(KEY, {"frame": trade(number)}, id=f"{long_ago}-{number}")
    with publisher(server.url, max_age=101 + 60) as published:
        published.publish([batch(101)])
        assert redis_client.xlen(KEY) == 101
    with publisher(server.url, max_age=99) as published:
        published.publish([batch(102)])
    assert redis_client.xlen(KEY) <= 10


def test_a_full_server_is_waited_for(server: RedisProcess, redis_client: Any) -> None:
    redis_client.config_set("maxmemory", 1)
    with publisher(server.url) as published:
        redis_client.config_set("maxmemory", 0)
        published.publish([batch(1)])
        redis_client.config_set("maxmemory", 1)
        with once(lambda: published.failures > 0, lambda: redis_client.config_set("maxmemory", 0)):
            published.publish([batch(2, 3)])
        assert published.failures > 0
    assert frames(redis_client) == [trade(1), trade(2), trade(3)]


def test_what_is_too_old_makes_room_on_a_full_server(server: RedisProcess, redis_client: Any) -> None:
    redis_client.config_set("stream-node-max-entries", 10)
    long_ago = int(redis_client.time()[0] - 200) * 1000
    for number in range(1, 1001):
        redis_client.xadd(KEY, {"frame": "x" * 2000}, id=f"{long_ago + number}-{number}")
    redis_client.set("coinapi:streams", STREAMS)
    redis_client.config_set("maxmemory", redis_client.info("memory")["used_memory"] - 500_000)
    with publisher(server.url, max_age=99) as published:
        published.publish([batch(1001)])
        assert published.failures > 0
    assert redis_client.xlen(KEY) <= 20
    assert redis_client.xrange(KEY)[-1][0].partition(b"-")[2] == b"1001"


def test_a_server_that_cannot_write_to_its_disk_is_waited_for(
    server: RedisProcess, redis_client: Any, tmp_path: Path
) -> None:
    with publisher(server.url) as published:
        published.publish([batch(1)])
        redis_client.config_set("appendonly", "no")
        redis_client.config_set("save", "3600 1000000")
        shutil.rmtree(tmp_path)
        redis_client.bgsave()
        wait_until(lambda: redis_client.info("persistence")["rdb_last_bgsave_status"] == "err")
        with once(lambda: published.failures > 0, lambda: redis_client.config_set("save", "")):
            published.publish([batch(2)])
        assert published.failures > 0
    assert frames(redis_client) == [trade(1), trade(2)]


def test_a_key_of_another_kind_is_an_error(server: RedisProcess, redis_client: Any) -> None:
    redis_client.set(KEY, "text")
    with publisher(server.url) as published, pytest.raises(RelayError, match="WRONGTYPE"):
        published.publish([batch(1)])


def test_closing_ends_the_wait_for_a_server_that_is_away(server: RedisProcess) -> None:
    with publisher(server.url) as published:
        published.publish([batch(1)])
        server.kill()
        closing = threading.Timer(0.2, published.close)
        closing.start()
        with pytest.raises(RelayError, match=r"closed while Redis was away; 2 entries"):
            published.publish([batch(2, 3)])
        closing.join()


def test_all_have_to_agree_on_the_number_of_streams(server: RedisProcess) -> None:
    with publisher(server.url) as published:
        published.publish([batch(1)])
    with RedisPublisher(server.url, streams=8) as other, pytest.raises(ConfigurationError, match="streams=4"):
        other.publish([batch(1, streams=8)])
    with RedisPublisher(server.url, streams=8, prefix="another") as third:
        third.publish([batch(1, streams=8)])


def test_a_password_is_never_told(
    tmp_path: Path, canary_key: str, leaks: Any, assert_no_canary: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisProcess(tmp_path, password=canary_key) as server:
        with publisher(server.url) as published:
            published.publish([batch(1)])
            assert_no_canary(published)
        with publisher(server.url.replace(canary_key, canary_key[::-1])) as refused:
            with pytest.raises(RelayError, match="Redis refused: AuthenticationError") as caught:
                refused.publish([batch(1)])
            assert not leaks(caught.value)
            assert canary_key[::-1] not in caplog.text
    with pytest.raises(ConfigurationError) as raised:
        RedisPublisher(f"nothing://:{canary_key}@localhost")
    assert not leaks(raised.value)
    with pytest.raises(ConfigurationError) as raised:
        RedisPublisher(f"redis://:{canary_key}@localhost", prefix="{}")
    assert not leaks(raised.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prefix": ""}, "prefix"),
        ({"prefix": "a{b"}, "prefix"),
        ({"streams": 0}, "streams"),
        ({"streams": True}, "streams"),
        ({"max_age": None}, "max_length"),
        ({"max_length": 5}, "max_age=None"),
        ({"max_age": -1.0}, "positive"),
        ({"max_age": None, "max_length": 0}, "positive"),
        ({"max_age": None, "max_length": 5.0}, "int"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        RedisPublisher("redis://127.0.0.1:1/0", **options)


def test_a_client_that_decodes_texts_is_refused(server: RedisProcess) -> None:
    import redis

    client = redis.Redis(port=server.port, decode_responses=True)
    with pytest.raises(ConfigurationError, match="decode_responses=False"):
        RedisPublisher(client)
    client.close()


def test_a_client_of_ones_own_is_used_and_left_open(redis_client: Any) -> None:
    with publisher(redis_client) as published:
        published.publish([batch(1)])
    assert frames(redis_client) == [trade(1)]
