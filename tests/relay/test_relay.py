"""A relay on a client: what is published is what came, with the gaps in their places."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from redis_servers import RedisProcess
from relay_entries import BTC, PATIENCE_SECONDS, trade, wait_until

from coinapi_ws import (
    Book,
    Client,
    ConfigurationError,
    ConnectionGap,
    Dropped,
    Heartbeat,
    Message,
    Quote,
    ReconnectNotice,
    Scope,
    SequenceGap,
    Subscription,
    Trade,
    Undecodable,
    UsageError,
)
from coinapi_ws.relay import Batch, EntryDecoder, RedisPublisher, RedisReader, Relay, RelayError
from coinapi_ws.sharding import shard_of
from coinapi_ws.simulator import Simulator

ETH: Final = "KRAKEN_SPOT_ETH_USD"
WANTED: Final = Subscription(["trade", "quote", "book"], symbol_ids=[f"{BTC}$", f"{ETH}$"])


class Shelf:
    """A publisher that keeps all in memory, and calls ``look`` with what came so far."""

    streams = 8

    def __init__(self, look: Callable[[Shelf], object] = lambda _: None) -> None:
        self.batches: list[Batch] = []
        self._look = look

    def publish(self, batches: Sequence[Batch]) -> None:
        self.batches += batches
        self._look(self)

    def texts(self) -> list[str]:
        return [text for batch in self.batches for received_ns, text in batch.entries if received_ns is not None]

    def decoded(self) -> dict[int, list[Any]]:
        """The items of each stream, as a reader gives them."""
        decoder, items = EntryDecoder(), defaultdict(list)
        for stream, connection, entries in self.batches:
            for entry in entries:
                items[stream] += decoder.decode(connection, entry)
        return items


def client_of(market: Simulator, key: str, wanted: Subscription = WANTED, **options: Any) -> Client:
    return Client(key, wanted, endpoint=market.url, **{"keep_raw": True, **options})


def reached(count: int) -> tuple[Callable[[Shelf], object], threading.Event]:
    """What a shelf calls, and an event that is set once it has so many frames."""
    event = threading.Event()
    return lambda shelf: event.set() if len(shelf.texts()) >= count else None, event


def test_what_comes_is_published_unchanged_each_symbol_in_one_stream(canary_key: str) -> None:
    look, enough = reached(200)
    shelf = Shelf(look)
    with Simulator(activity=50) as market:
        client = client_of(market, canary_key)
        relay = Relay(client, shelf)
        with client:
            assert enough.wait(PATIENCE_SECONDS)
    texts, stats = shelf.texts(), relay.stats()
    assert (stats.published, stats.unpublished, stats.bytes) == (len(texts), 0, sum(map(len, texts)))
    assert client.stats().delivered == len(texts)
    assert sum(client.stats().messages.values()) - client.stats().messages.get("heartbeat", 0) >= len(texts)
    for stream, items in shelf.decoded().items():
        # What came before a relay began may be missing, and nothing else.
        assert isinstance(items[0], ConnectionGap)
        assert (items[0].from_ns, items[0].reason, items[0].scope) == (None, "a relay began", Scope(WANTED))
        messages = items[1:]
        assert all(isinstance(message, Message) for message in messages)
        assert {shard_of(message.symbol_id, 8) for message in messages} == {stream}
        numbers = defaultdict(list)
        for message in messages:
            numbers[message.type, message.symbol_id].append(message.sequence)
        assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())
    assert stats.gaps == len(shelf.decoded())


def test_a_cut_is_told_in_each_stream_before_what_came_after_it(canary_key: str) -> None:
    heard: list[ConnectionGap] = []
    cut, enough = threading.Event(), threading.Event()

    def look(shelf: Shelf) -> None:
        connections = {batch.connection for batch in shelf.batches}
        if len(connections) == 1 and len({batch.stream for batch in shelf.batches}) == 2:
            cut.set()
        elif len(connections) == 2 and sum(batch.connection.endswith(".2") for batch in shelf.batches) > 20:
            enough.set()

    shelf = Shelf(look)
    with Simulator(activity=50) as market:
        client = client_of(market, canary_key)
        Relay(client, shelf)
        client.on(ConnectionGap, heard.append)
        with client:
            assert cut.wait(PATIENCE_SECONDS)
            market.faults.drop(reset=True)
            assert enough.wait(PATIENCE_SECONDS)
    (gap,) = heard
    for items in shelf.decoded().values():
        assert [item for item in items if not isinstance(item, Message)] == [items[0], gap]
        after = items[items.index(gap) + 1]
        assert after.sequence == 1
    assert gap.from_ns is not None
    assert not any(isinstance(item, SequenceGap) for items in shelf.decoded().values() for item in items)


def test_what_begins_anew_with_the_scope_is_no_gap(canary_key: str) -> None:
    def beginnings(shelf: Shelf) -> int:
        return sum('"sequence":1,"type":"book"' in text for text in shelf.texts())

    first, again = threading.Event(), threading.Event()

    def look(shelf: Shelf) -> None:
        if (count := beginnings(shelf)) >= 2:
            first.set()
        if count >= 3:
            again.set()

    shelf = Shelf(look)
    with Simulator(activity=50) as market:
        client = client_of(market, canary_key)
        Relay(client, shelf)
        with client:
            assert first.wait(PATIENCE_SECONDS)
            assert client.resubscribe([BTC])
            assert again.wait(PATIENCE_SECONDS)
    gaps = [item for items in shelf.decoded().values() for item in items if not isinstance(item, Message)]
    assert [type(gap) for gap in gaps] == [ConnectionGap] * len(shelf.decoded())  # a relay began


def test_a_stream_that_was_quiet_hears_of_all_gaps_before_its_next_message(canary_key: str) -> None:
    busy = {shard_of(name, Shelf.streams) for name in (BTC, ETH)}
    numbers = (n for n in range(100) if shard_of(f"QUIET_SPOT_{n}_USD", Shelf.streams) not in busy)
    quiet = f"QUIET_SPOT_{next(numbers)}_USD"
    shelf = Shelf()

    def say(number: int) -> None:
        wait_until(lambda: len({batch.connection for batch in shelf.batches}) == number)
        market.faults.send_text(trade(number, quiet))
        wait_until(lambda: trade(number, quiet) in shelf.texts())

    heard: list[ConnectionGap] = []
    with Simulator(activity=50) as market:
        client = client_of(market, canary_key)
        Relay(client, shelf)
        client.on(ConnectionGap, heard.append)
        with client:
            say(1)
            market.faults.drop(reset=True)
            wait_until(lambda: len({batch.connection for batch in shelf.batches}) == 2)
            market.faults.drop(reset=True)
            say(3)
    items = shelf.decoded()[shard_of(quiet, Shelf.streams)]
    assert [item.sequence for item in items if isinstance(item, Trade)] == [1, 3]
    assert items[2] == replace(heard[1], from_ns=heard[0].from_ns)


def test_callbacks_hear_the_conversation_and_no_data(canary_key: str) -> None:
    heard: list[Any] = []
    look, enough = reached(20)
    quiet = threading.Event()
    shelf = Shelf(look)
    with Simulator(activity=50) as market:
        client = client_of(market, canary_key)
        Relay(client, shelf)
        client.on(Message, heard.append)
        client.on(Undecodable, heard.append)
        client.on(ReconnectNotice, lambda _: quiet.set())
        with client:
            assert enough.wait(PATIENCE_SECONDS)
            market.faults.send_text("[]")
            market.faults.send_text('{"within_seconds":60,"type":"reconnect"}')
            assert quiet.wait(PATIENCE_SECONDS)
    assert {type(item) for item in heard} - {Heartbeat} == {ReconnectNotice, Undecodable}
    assert "[]" in shelf.texts()
    assert client.stats().latency is None


def test_messages_without_a_symbol_have_a_stream_by_their_type(canary_key: str) -> None:
    look, enough = reached(20)
    shelf = Shelf(look)
    with Simulator(activity=50) as market:
        client = client_of(market, canary_key, Subscription(["exrate"], asset_ids=["BTC/USD"]))
        Relay(client, shelf)
        with client:
            assert enough.wait(PATIENCE_SECONDS)
    assert {batch.stream for batch in shelf.batches} == {shard_of("exrate", 8)}
    assert {json.loads(text)["type"] for text in shelf.texts()} == {"exrate"}


def test_what_the_publisher_raises_ends_the_client(canary_key: str) -> None:
    def fail(_: Shelf) -> None:
        raise RelayError("full")

    with Simulator(activity=50) as market:
        client = client_of(market, canary_key)
        relay = Relay(client, Shelf(fail))
        client.start()
        with pytest.raises(RelayError, match="full"):
            client.join(PATIENCE_SECONDS)
        assert client.close()
    assert relay.stats().published == 0
    assert relay.stats().unpublished > 0


@pytest.mark.parametrize(
    "options",
    [
        {"keep_raw": False},
        {"dispatch": "inline"},
        {"when_full": "drop_oldest"},
        {"on_reconnect_notice": "handover"},
    ],
)
def test_a_client_that_cannot_be_relayed_is_refused(canary_key: str, options: dict[str, Any]) -> None:
    with Simulator() as market, pytest.raises(ConfigurationError, match="write "):
        Relay(client_of(market, canary_key, **options), Shelf())


def test_a_client_has_one_relay_from_its_beginning(canary_key: str) -> None:
    with Simulator() as market:
        client = client_of(market, canary_key)
        Relay(client, Shelf())
        with pytest.raises(UsageError, match="taken already"):
            Relay(client, Shelf())
        with client, pytest.raises(UsageError, match="started already"):
            Relay(client, Shelf())


def test_a_client_that_is_relayed_is_not_iterated(canary_key: str) -> None:
    with Simulator() as market:
        client = client_of(market, canary_key)
        Relay(client, Shelf())
        with client, pytest.raises(UsageError, match="not to both"):
            iter(client)


def test_where_redis_is_away_reading_pauses_and_nothing_is_missing(tmp_path: Path, canary_key: str) -> None:
    with RedisProcess(tmp_path) as server, Simulator(activity=50) as market, RedisPublisher(server.url) as publisher:
        client = client_of(market, canary_key, max_queued_messages=20)
        relay = Relay(client, publisher)
        with client:
            wait_until(lambda: relay.stats().published > 50)
            server.kill()
            wait_until(lambda: client.stats().queued >= 20)
            wait_until(lambda: publisher.failures > 5)
            read = sum(client.stats().messages.values())
            wait_until(lambda: publisher.failures > 6)
            assert sum(client.stats().messages.values()) == read
            server.start()
            more = relay.stats().published + 100
            wait_until(lambda: relay.stats().published > more)
        numbers, dropped = defaultdict(list), Counter[tuple[str, str]]()
        with RedisReader(server.url, group="test") as reader:
            while sum(map(len, numbers.values())) < relay.stats().published:
                item = reader.recv(timeout=PATIENCE_SECONDS)
                if isinstance(item, (Trade, Quote, Book)):
                    numbers[item.type, item.symbol_id].append(item.sequence)
                elif isinstance(item, Dropped):  # what the closing client left out of a full queue, and tells
                    dropped[item.type, item.symbol_id or ""] += item.count
                else:
                    assert isinstance(item, SequenceGap)
                    assert dropped[item.type, item.symbol_id] > 0
    for pair, found in numbers.items():
        assert found == sorted(set(found))
        assert found[-1] - len(found) <= dropped[pair]


def test_closing_while_redis_is_away_tells_what_is_not_there(
    tmp_path: Path, canary_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisProcess(tmp_path) as server, Simulator(activity=50) as market, RedisPublisher(server.url) as publisher:
        client = client_of(market, canary_key)
        relay = Relay(client, publisher)
        client.start()
        wait_until(lambda: relay.stats().published > 50)
        server.kill()
        wait_until(lambda: publisher.failures > 0)
        assert not client.close(timeout=0.1)
        publisher.close()
        assert client.close()
        assert relay.stats().unpublished > 0
        assert client.stats().delivered == relay.stats().published
    assert "messages unpublished: closed while Redis was away" in caplog.text
