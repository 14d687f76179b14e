"""Kafka, by the cluster that librdkafka has for tests: real connections, no broker of ours."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis_servers import LosingProxy
from relay_entries import BTC, PATIENCE_SECONDS, STREAMS, batch, in_time, trade

from coinapi_ws import ConfigurationError, ConnectionGap, Scope, SequenceGap, Subscription
from coinapi_ws.relay import Batch, Entry, EntryDecoder, KafkaPublisher, RelayError, kafka_entry
from coinapi_ws.relay.entries import gap_text
from coinapi_ws.sharding import shard_of

kafka = pytest.importorskip("confluent_kafka", reason="no confluent-kafka: install the extra kafka")

STREAM = shard_of(BTC, STREAMS)


@pytest.fixture(autouse=True)
def none_of_librdkafka_goes_on() -> Iterator[None]:
    """What is closed, or dropped, leaves none of librdkafka's threads, which open a socket at each attempt."""
    yield
    # The kernel may still list one that was waited for.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := threads_of_librdkafka():
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def threads_of_librdkafka() -> list[str]:
    """Their names, where the system tells; Python does not know them."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return []
    gc.collect()
    names = []
    for task in tasks.iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            names.append((task / "comm").read_text().strip())
    return [name for name in names if name.startswith("rdk:")]


@pytest.fixture
def brokers() -> Iterator[str]:
    """The address of a cluster, which lives as long as the producer that has it."""
    owner = kafka.Producer({"test.mock.num.brokers": 1})
    names: list[str] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not names:
        assert time.monotonic() < deadline
        names = [f"{broker.host}:{broker.port}" for broker in owner.list_topics(timeout=10).brokers.values()]
    yield ",".join(names)
    owner.flush(1)


def consumed(brokers: str, count: int) -> list[Any]:
    """The items of so many entries of the stream."""
    consumer = consumer_of(brokers)
    decoder, items = EntryDecoder(all_sequence_gaps=True), list[Any]()
    for _ in range(count):
        message = consumer.poll(PATIENCE_SECONDS)
        assert message is not None
        assert message.error() is None, message.error()
        items += decoder.decode(*kafka_entry(message))
    consumer.close()
    return items


def unread(brokers: str) -> Any:
    """The first entry of the stream, None where none comes soon."""
    consumer = consumer_of(brokers)
    message = consumer.poll(2.0)
    consumer.close()
    return message


def consumer_of(brokers: str) -> Any:
    """Who reads the stream from its beginning."""
    consumer = kafka.Consumer({"bootstrap.servers": brokers, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.assign([kafka.TopicPartition("coinapi", STREAM, 0)])
    return consumer


def test_entries_come_through_in_order_with_their_gaps(brokers: str) -> None:
    scope = Scope(Subscription(["trade"], symbol_ids=[f"{BTC}$"]))
    gap = ConnectionGap(from_ns=None, to_ns=5, reason="a relay began", scope=scope)
    with in_time(KafkaPublisher({"bootstrap.servers": brokers}, streams=STREAMS)) as published:
        published.publish([Batch(STREAM, "one.1", [Entry(None, gap_text(gap))])])
        published.publish([batch(1, 2, 4, connection="one.1")])
        published.publish([batch(1, connection="one.2")])
    items = consumed(brokers, 5)
    assert items[0] == gap
    assert items[3] == SequenceGap(type="trade", symbol_id=BTC, expected=3, received=4)
    messages = [item for item in items if hasattr(item, "sequence")]
    assert [(item.sequence, item.received_ns) for item in messages] == [(1, 1), (2, 2), (4, 4), (1, 1)]


def test_more_entries_than_the_producer_holds_are_published(brokers: str) -> None:
    config = {"bootstrap.servers": brokers, "queue.buffering.max.messages": 10}
    with in_time(KafkaPublisher(config, streams=STREAMS)) as published:
        published.publish([batch(*range(1, 301))])
    assert [item.sequence for item in consumed(brokers, 300)] == list(range(1, 301))


def test_what_kafka_refuses_is_an_error(brokers: str) -> None:
    config = {"bootstrap.servers": brokers}
    foreign = Batch(99, "one.1", [Entry(1, trade(1))])  # a partition that is not there
    with (
        in_time(KafkaPublisher(config, streams=100)) as published,
        # Told by the broker, or at once where the broker has said which there are.
        pytest.raises(RelayError, match=r"Kafka refused (1 entries|an entry): .*[Uu]nknown partition"),
    ):
        published.publish([foreign])


def test_an_entry_that_is_too_large_is_an_error(brokers: str) -> None:
    config = {"bootstrap.servers": brokers, "message.max.bytes": 1000}
    with (
        in_time(KafkaPublisher(config, streams=STREAMS)) as published,
        pytest.raises(RelayError, match=r"Kafka refused an entry: .*too large"),
    ):
        published.publish([Batch(STREAM, "one.1", [Entry(1, "x" * 2000)])])


def test_wrong_options_are_refused(canary_key: str, leaks: Any) -> None:
    with pytest.raises(ConfigurationError, match='No such configuration property: "nonsense"') as raised:
        KafkaPublisher({"nonsense": "1", "sasl.password": canary_key})
    assert not leaks(raised.value)
    with pytest.raises(ConfigurationError, match="1 or more"):
        KafkaPublisher({}, streams=0)


def away_from(brokers: str) -> tuple[KafkaPublisher, LosingProxy]:
    """A publisher whose Kafka is away: the proxy to it takes connections, and carries nothing before it is entered."""
    door = LosingProxy(int(brokers.rpartition(":")[2]))
    config = {"bootstrap.servers": f"127.0.0.1:{door.port}", "log_level": 0, "message.max.bytes": 1000}
    return KafkaPublisher(config, streams=STREAMS), door


def test_what_was_given_up_is_not_sent_when_kafka_returns(brokers: str) -> None:
    published, door = away_from(brokers)
    closing = threading.Timer(0.3, published.close)
    closing.start()
    with pytest.raises(RelayError, match="closed while Kafka was away; 2 entries"):
        published.publish([batch(1, 2)])
    closing.join()
    with door:
        assert unread(brokers) is None
        with pytest.raises(RelayError, match="closed while Kafka was away; 1 entries"):
            published.publish([batch(3)])


def test_what_waits_beside_a_refused_entry_is_not_sent_once_closed(brokers: str) -> None:
    published, door = away_from(brokers)
    with pytest.raises(RelayError, match="too large"):
        published.publish([Batch(STREAM, "one.1", [Entry(1, trade(1)), Entry(2, "x" * 2000)])])
    published.close()
    with door:
        assert unread(brokers) is None


def test_what_close_met_on_its_way_to_the_queue_is_not_sent(brokers: str) -> None:
    published, door = away_from(brokers)
    producer = published._producer

    class ClosedMeanwhile:
        def __getattr__(self, name: str) -> Any:
            return getattr(producer, name)

        def produce(self, *arguments: Any, **options: Any) -> None:
            published.close()
            producer.produce(*arguments, **options)

    published._producer = ClosedMeanwhile()
    with pytest.raises(RelayError, match="closed while Kafka was away; 2 entries"):
        published.publish([batch(1, 2)])
    with door:
        assert unread(brokers) is None


def test_closing_ends_the_wait_for_a_broker_that_is_away() -> None:
    published = KafkaPublisher({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, streams=STREAMS)
    closing = threading.Timer(0.3, published.close)
    closing.start()
    with pytest.raises(RelayError, match="closed while Kafka was away; 2 entries"):
        published.publish([batch(1, 2)])
    closing.join()
