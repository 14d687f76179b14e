"""Readers of a real Redis: everything at least once, in order, and what is missing is told."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import redis
from redis_servers import LosingProxy, RedisProcess
from relay_entries import (
    BTC,
    PATIENCE_SECONDS,
    SHORT_LEASE_SECONDS,
    STREAMS,
    batch,
    book,
    once,
    publisher,
    read_all,
    read_to,
    reader,
    trade,
)

from coinapi_ws import Book, ConfigurationError, Message, SequenceGap, Trade, UsageError
from coinapi_ws.relay import Batch, Entry, RedisPublisher, RedisReader, RelayError, Trimmed
from coinapi_ws.sharding import shard_of

#: One in each stream.
SYMBOLS = [
    next(name for number in range(1000) if shard_of(name := f"COINBASE_SPOT_{number}_USD", STREAMS) == stream)
    for stream in range(STREAMS)
]
KEY = f"coinapi:{{{shard_of(BTC, STREAMS)}}}"


@pytest.fixture
def published(server: RedisProcess) -> Iterable[RedisPublisher]:
    with publisher(server.url) as made:
        yield made


def sequences(items: Iterable[Any]) -> list[int]:
    return [item.sequence for item in items if isinstance(item, Message)]


def test_a_reader_gives_all_in_order_and_the_next_one_what_comes_after(
    server: RedisProcess, published: RedisPublisher
) -> None:
    published.publish([batch(*range(1, 601))])
    with reader(server.url) as first:
        items = read_all(first, 600)
        assert sequences(items) == list(range(1, 601))
        assert items[0] == Trade(**{name: getattr(items[0], name) for name in Trade.kinds}, received_ns=1, type="trade")
        assert first.stats().messages == 600
        assert first.stats().streams == tuple(range(STREAMS))
        delay = first.stats().delay
        assert delay is not None
        assert delay > 0
        with pytest.raises(TimeoutError, match=r"no message within 0.01 s"):
            first.recv(timeout=0.01)
    published.publish([batch(601)])
    with reader(server.url) as second:
        assert sequences(read_all(second, 1)) == [601]
    with reader(server.url, group="another") as third:
        assert sequences(read_all(third, 601)) == list(range(1, 602))


def test_a_reader_that_waits_hears_at_once(server: RedisProcess, published: RedisPublisher) -> None:
    with reader(server.url, lease_seconds=60) as reading:
        with pytest.raises(TimeoutError):
            reading.recv(timeout=0.05)
        later = threading.Timer(0.2, published.publish, ([batch(1)],))
        later.start()
        assert sequences(read_all(reading, 1)) == [1]
        later.join()


def test_a_reader_that_waits_keeps_its_streams(
    server: RedisProcess, published: RedisPublisher, redis_client: Any
) -> None:
    with reader(server.url, lease_seconds=4) as reading:
        with pytest.raises(TimeoutError):
            reading.recv(timeout=0.01)
        lease = redis_client.get(f"{KEY}:lease:group")
        with pytest.raises(TimeoutError):
            reading.recv(timeout=5)
        assert redis_client.get(f"{KEY}:lease:group") == lease
        assert redis_client.pttl(f"{KEY}:lease:group") > 0


def test_it_is_iterated(server: RedisProcess, published: RedisPublisher) -> None:
    published.publish([batch(1, 2, 3)])
    with reader(server.url) as reading:
        for item in reading:
            if isinstance(item, Trade) and item.sequence == 3:
                break
    assert reading.stats().messages == 3
    reading.close()
    with pytest.raises(UsageError, match="closed"):
        reading.recv()


def test_what_was_not_handled_comes_again(server: RedisProcess, published: RedisPublisher) -> None:
    published.publish([batch(1, 2, 3, 4)])

    def fail_at_the_third() -> None:
        with reader(server.url) as failing:
            assert [1 / (3 - item.sequence) for item in failing if isinstance(item, Trade) and item.sequence]

    with pytest.raises(ZeroDivisionError):
        fail_at_the_third()
    with reader(server.url) as second:
        assert sequences(read_all(second, 2)) == [3, 4]


def test_readers_of_a_group_share_its_streams(server: RedisProcess, published: RedisPublisher) -> None:
    seen: dict[str, list[tuple[str, int]]] = {"one": [], "two": []}
    with reader(server.url, lease_seconds=5) as one, reader(server.url, lease_seconds=5) as two:
        readers = {"one": one, "two": two}
        sequence, deadline = 0, time.monotonic() + PATIENCE_SECONDS
        while not all(seen.values()) or len(one.stats().streams) != 2 or len(two.stats().streams) != 2:
            assert time.monotonic() < deadline, "one has not got its share"
            sequence += 1
            published.publish([batch(sequence, symbol_id=name) for name in SYMBOLS])
            for name, each in readers.items():
                seen[name] += taken(each)
        for name, each in readers.items():
            seen[name] += taken(each, seconds=0.2)
        assert not set(one.stats().streams) & set(two.stats().streams)
    assert {*seen["one"], *seen["two"]} == {(name, number) for name in SYMBOLS for number in range(1, sequence + 1)}
    for found in seen.values():
        for name in SYMBOLS:
            numbers = [number for symbol_id, number in dict.fromkeys(found) if symbol_id == name]
            assert numbers == sorted(numbers)


def taken(reading: RedisReader, seconds: float = 0.02) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    while True:
        try:
            item = reading.recv(timeout=seconds)
        except TimeoutError:
            return found
        assert isinstance(item, Trade), item
        assert item.symbol_id is not None
        assert item.sequence is not None
        found.append((item.symbol_id, item.sequence))


def test_one_that_came_back_after_it_was_taken_for_dead_changes_nothing(
    server: RedisProcess, published: RedisPublisher, redis_client: Any
) -> None:
    published.publish([batch(*range(1, 11))])
    with reader(server.url, lease_seconds=SHORT_LEASE_SECONDS) as late:
        assert sequences(read_all(late, 2))[:1] == [1]
        with reader(server.url) as other:
            # `late` is not asked for anything meanwhile, as if its process stood still.
            assert_all_but_noted(read_to(other, 10))
        with pytest.raises(TimeoutError):  # though it had all ten, and handled two
            late.recv(timeout=0.1)
        assert [group["last-delivered-id"].partition(b"-")[2] for group in redis_client.xinfo_groups(KEY)] == [b"10"]
        published.publish([batch(11)])
        assert set(sequences(read_all(late, 1))) == {11}


def assert_all_but_noted(items: list[Any]) -> None:
    """Up to the tenth, from the first, or from the second where the one before was slow, and noted what it handled."""
    numbers = sequences(items)
    assert numbers[0] <= 2
    assert numbers == list(range(numbers[0], 11))


def test_one_that_is_slow_and_alone_gets_on(server: RedisProcess, published: RedisPublisher) -> None:
    published.publish([batch(1, 2, 3)])
    for expected in ([1, 2], [3]):
        with reader(server.url, lease_seconds=0.1) as slow:
            for sequence in expected:
                assert sequences(read_all(slow, 1)) == [sequence]
                time.sleep(0.3)  # its leases run out, and before the close too


def test_what_another_reader_read_meanwhile_is_no_gap(server: RedisProcess, published: RedisPublisher) -> None:
    books = [Entry(number, book(number, is_snapshot=number == 1)) for number in range(1, 13)]
    published.publish([Batch(shard_of(BTC, STREAMS), "relay.1", books[:10])])
    with reader(server.url, lease_seconds=SHORT_LEASE_SECONDS) as late:
        read_all(late, 2)
        with reader(server.url) as other:
            assert_all_but_noted(read_to(other, 10))
            published.publish([Batch(shard_of(BTC, STREAMS), "relay.1", books[10:11])])
            assert sequences(read_to(other, 11)) == [11]
        published.publish([Batch(shard_of(BTC, STREAMS), "relay.1", books[11:])])
        assert [type(item) for item in read_to(late, 12)] == [Book]


def test_without_a_time_it_gives_what_is_there(server: RedisProcess, published: RedisPublisher) -> None:
    published.publish([batch(1)])
    with reader(server.url) as reading:
        assert sequences([reading.recv(timeout=0)]) == [1]
        with pytest.raises(TimeoutError):
            reading.recv(timeout=0)


def test_a_server_that_changes_its_role_is_waited_for(
    server: RedisProcess, published: RedisPublisher, redis_client: Any
) -> None:
    def fail_over() -> None:
        redis_client.replicaof("127.0.0.1", "1")
        redis_client.replicaof("NO", "ONE")
        published.publish([batch(2)])

    published.publish([batch(1)])
    with reader(server.url) as reading:
        read_all(reading, 1)
        change = threading.Timer(0.3, fail_over)  # while it waits
        change.start()
        assert set(sequences(read_to(reading, 2))) <= {1, 2}
        change.join()


def test_entries_that_were_trimmed_before_they_were_read_are_a_gap(
    server: RedisProcess, published: RedisPublisher, redis_client: Any
) -> None:
    published.publish([batch(1, 2)])
    with reader(server.url) as reading:
        assert sequences(read_all(reading, 2)) == [1, 2]
        published.publish([batch(*range(3, 11))])
        redis_client.xtrim(KEY, maxlen=3, approximate=False)
        gap, *items = read_to(reading, 10)
        assert isinstance(gap, Trimmed)
        assert (gap.stream, gap.count) == (shard_of(BTC, STREAMS), 5)
        assert gap.after_ms <= gap.before_ms
        assert sequences(items) == [8, 9, 10]
    published.publish([batch(*range(11, 21))])
    redis_client.xtrim(KEY, maxlen=3, approximate=False)
    with reader(server.url) as another:  # of the same group, which was at 10
        gap, *items = read_to(another, 20)
        assert isinstance(gap, Trimmed)
        assert gap.count == 7
        assert sequences(items) == [18, 19, 20]
        assert another.stats().gaps == 1


def test_what_a_server_forgot_is_a_gap(server: RedisProcess, published: RedisPublisher, redis_client: Any) -> None:
    published.publish([batch(1, 2)])
    with reader(server.url) as reading:
        assert sequences(read_all(reading, 2)) == [1, 2]
    dumps = {key: redis_client.dump(key) for key in redis_client.keys("*")}
    published.publish([batch(3, 4)])
    redis_client.flushall()
    for key, value in dumps.items():
        redis_client.restore(key, 0, value)
    published.publish([batch(5)])
    with reader(server.url) as reading:
        gap, *items = read_to(reading, 5)
        assert isinstance(gap, Trimmed)
        assert gap.count == 2
        assert sequences(items) == [5]


@pytest.mark.parametrize("is_asked_meanwhile", [False, True])
def test_that_a_server_forgot_everything_is_a_gap(
    server: RedisProcess, published: RedisPublisher, tmp_path: Path, is_asked_meanwhile: bool
) -> None:
    published.publish([batch(1, 2)])
    with reader(server.url) as reading:
        assert sequences(read_all(reading, 2)) == [1, 2]
        published.publish([batch(3, 4)])  # which nobody reads
        server.kill()
        if is_asked_meanwhile:
            with pytest.raises(TimeoutError):
                reading.recv(timeout=0.1)
        shutil.rmtree(tmp_path / "appendonlydir")
        server.start()
        published.publish([batch(5, 6)])
        gap, *items = read_to(reading, 6)
        assert isinstance(gap, Trimmed)
        assert gap.count is None
        assert 0 < gap.after_ms <= gap.before_ms
        assert sequences(items) == [5, 6]


def test_a_sequence_that_jumps_is_a_gap(server: RedisProcess, published: RedisPublisher) -> None:
    published.publish([batch(1, 2, 5)])
    with reader(server.url, all_sequence_gaps=True) as reading:
        items = read_all(reading, 4)
    assert items[2] == SequenceGap(type="trade", symbol_id=BTC, expected=3, received=5)


def test_a_server_that_is_killed_is_waited_for(server: RedisProcess, published: RedisPublisher) -> None:
    def come_back() -> None:
        server.start()
        published.publish([batch(4, 5)])

    published.publish([batch(1, 2, 3)])
    with reader(server.url) as reading:
        assert sequences(read_all(reading, 3)) == [1, 2, 3]
        server.kill()
        with once(lambda: reading.stats().failures > 0, come_back):
            seen = sequences(read_to(reading, 5))
        assert list(dict.fromkeys(seen))[-2:] == [4, 5]
        assert reading.stats().failures > 0


def test_where_an_answer_was_lost_nothing_is_missing(server: RedisProcess, published: RedisPublisher) -> None:
    with LosingProxy(server.port) as proxy, reader(f"redis://127.0.0.1:{proxy.port}/0") as reading:
        seen: list[int] = []
        for number in range(1, 21):
            published.publish([batch(number)])
            if number % 5 == 0:
                proxy.lose()
            seen += sequences(read_to(reading, number))
        assert proxy.lost == 4
        assert set(seen) == set(range(1, 21))


def test_where_the_group_was_deleted_it_begins_anew(
    server: RedisProcess, published: RedisPublisher, redis_client: Any
) -> None:
    published.publish([batch(1)])
    with reader(server.url) as reading:
        read_all(reading, 1)
        redis_client.flushall()
        published.publish([batch(2)])
        assert sequences(read_to(reading, 2)) == [2]


def test_entries_of_others_are_told(server: RedisProcess, published: RedisPublisher, redis_client: Any) -> None:
    published.publish([batch(1)])
    for fields in ({"x": "y"}, {"frame": b"\xff", "received_ns": "1"}, {"frame": "{}", "received_ns": "one"}):
        redis_client.xadd(KEY, fields)
    published.publish([batch(2)])
    with reader(server.url) as reading:
        items = read_to(reading, 2)
        assert reading.stats().gaps == 0
    assert sequences(items) == [1, 2]
    assert [item.reason for item in items[1:-1]] == ["an entry that no relay wrote"] * 3


def test_keys_of_another_kind_are_an_error(server: RedisProcess, redis_client: Any) -> None:
    redis_client.set(KEY, "text")
    with pytest.raises(RelayError, match="WRONGTYPE"), reader(server.url) as reading:
        reading.recv(timeout=10)


def test_a_reader_gives_up_neither_before_its_time_nor_after(server: RedisProcess) -> None:
    server.kill()
    with reader(server.url) as reading, pytest.raises(TimeoutError):
        reading.recv(timeout=0.3)


def test_a_password_is_never_told(canary_key: str, leaks: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RedisReader(f"redis://:{canary_key}@localhost", group="")
    assert not leaks(raised.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"group": ""}, "group"), ({"lease_seconds": 0.01}, "lease_seconds"), ({"numbers": "int"}, "numbers")],
)
def test_wrong_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        RedisReader("redis://127.0.0.1:1/0", **{"group": "g", **options})


@pytest.mark.parametrize("options", [{"protocol": 2}, {"protocol": 3}, {"protocol": 3, "legacy_responses": False}])
def test_each_protocol_of_redis_is_read(server: RedisProcess, published: RedisPublisher, options: Any) -> None:
    published.publish([batch(1, 2), batch(1, symbol_id=SYMBOLS[shard_of(BTC, STREAMS) - 1])])
    if "legacy_responses" in options and "legacy_responses" not in signature(redis.Redis.__init__).parameters:
        pytest.skip("this redis-py has old shapes of replies alone")
    with redis.Redis(port=server.port, socket_timeout=10, **options) as client:
        for group in range(2):
            with RedisReader(client, group="g", streams=STREAMS) as reading:
                count = 3 - 2 * group
                assert len(sequences(read_all(reading, count))) == count
            published.publish([batch(3)])


def test_frames_are_kept_as_they_came(server: RedisProcess, published: RedisPublisher) -> None:
    published.publish([batch(1)])
    with reader(server.url, keep_raw=True) as reading:
        assert reading.recv(timeout=10).raw == trade(1)  # type: ignore[union-attr]
