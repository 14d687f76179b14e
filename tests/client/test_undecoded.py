"""What a read brought, decoded in pieces by whoever delivers it: on its way through the queue to the callbacks."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from conversation import BTC, Conversation, trade
from websocket_peer import text

from coinapi_ws import (
    Backoff,
    Book,
    Event,
    Heartbeat,
    Message,
    Quiet,
    Scope,
    SequenceGap,
    Subscription,
    Trade,
    Undecodable,
)
from coinapi_ws.client.dispatch import Dispatcher
from coinapi_ws.client.queueing import DeliveryQueue
from coinapi_ws.client.registry import Registry
from coinapi_ws.client.settings import ClientSettings
from coinapi_ws.client.undecoded import Undecoded
from coinapi_ws.client.worker import Worker
from coinapi_ws.protocol.frames import Frame
from coinapi_ws.protocol.session import Session

HEARTBEAT = '{"type":"hearbeat"}'
EVERYTHING = Scope(Subscription(["trade", "book"], symbol_ids=[f"{BTC}$"]))


class Reads:
    """A session's reads, each as it is handed over; it is its own lock, and knows when it is held."""

    def __init__(self, talk: Conversation) -> None:
        self.talk = talk
        self.is_locked = False
        self.looked: list[list[Any]] = []

    def __enter__(self) -> None:
        assert not self.is_locked
        self.is_locked = True

    def __exit__(self, *_: object) -> None:
        self.is_locked = False

    def look(self, connection: Session, piece: list[Any]) -> None:
        assert connection is self.talk.session
        assert not self.is_locked
        self.looked.append(piece)

    def of(self, *texts: str, kind: type[Undecoded] = Undecoded) -> Undecoded:
        self.talk.session.receive_data(b"".join(map(text, texts)), self.talk.now, 7)
        frames = self.talk.session.frames()
        connection: Any = self.talk.session
        return kind(connection, frames, len(texts), lock=self, look=self.look)  # type: ignore[arg-type]


@pytest.fixture
def reads(canary_key: str) -> Reads:
    return Reads(Conversation(canary_key, scope=EVERYTHING).live())


@pytest.fixture
def queue() -> DeliveryQueue:
    return DeliveryQueue("pause", 100, 1_000_000, lambda: None)


def trades(first: int, last: int) -> list[str]:
    return [trade(sequence=sequence) for sequence in range(first, last + 1)]


def book(sequence: int) -> str:
    return f'{{"symbol_id":"{BTC}","sequence":{sequence},"is_snapshot":false,"type":"book"}}'


def sequences(items: Any) -> list[int]:
    return [item.sequence for item in items if isinstance(item, Message)]


def test_it_comes_in_small_pieces_each_looked_at_and_decoded_under_the_lock(reads: Reads) -> None:
    pieces = []
    for piece in reads.of(*trades(1, 100)):
        assert not reads.is_locked  # whoever delivers may take his time
        pieces.append(piece)
    assert max(map(len, pieces)) <= 32
    assert reads.looked == pieces
    assert sequences(chain(*pieces)) == [*range(1, 101)]
    assert {type(item) for item in chain(*pieces)} == {Trade}
    assert {item.received_ns for item in chain(*pieces)} == {7}


def test_gaps_are_found_in_the_order_in_which_reads_are_decoded(reads: Reads) -> None:
    first, second = reads.of(book(1), book(2)), reads.of(book(4))
    assert [type(item) for item in chain(*first, *second)] == [Book, Book, SequenceGap, Book]


def test_what_is_left_out_is_told_of_without_a_look_at_what_came_before(reads: Reads) -> None:
    left_out, second = reads.of(book(1), book(3)), reads.of(book(4))
    assert [type(item) for item in left_out.without_order()] == [Book, Book]
    assert reads.talk.session.stats().jumps == {}
    assert [type(item) for item in chain(*second)] == [Book]


def test_the_queue_counts_the_messages_of_a_read(reads: Reads, queue: DeliveryQueue) -> None:
    read = reads.of(*trades(1, 60))
    queue.put_undecoded(read, 6000)
    assert (queue.messages, queue.bytes, queue.most_messages, queue.is_full) == (60, 6000, 60, False)
    queue.put_undecoded(reads.of(*trades(61, 100)), 4000)
    assert (queue.messages, queue.bytes, queue.most_messages, queue.is_full) == (100, 10_000, 100, True)
    assert queue.take(1) == [read]
    assert (queue.messages, queue.bytes, queue.is_full) == (40, 4000, False)


def test_few_reads_are_taken_at_once_however_many_wait(reads: Reads, queue: DeliveryQueue) -> None:
    waiting = [reads.of(*trades(first, first + 19)) for first in range(1, 101, 20)]
    for read in waiting:
        queue.put_undecoded(read, 2000)
    assert queue.is_full
    assert queue.take(30) == waiting[:2]
    assert queue.messages == 60
    assert queue.take(1) == waiting[2:3]


def test_what_nobody_takes_any_more_is_undelivered(reads: Reads, queue: DeliveryQueue) -> None:
    queue.put_undecoded(reads.of(*trades(1, 10)), 1000)
    queue.discard()
    assert queue.undelivered == 10
    queue.put_undecoded(reads.of(*trades(11, 15)), 500)
    assert queue.take(1) is None
    assert (queue.undelivered, queue.messages, queue.bytes) == (15, 0, 0)


def test_each_callback_gets_it_decoded(reads: Reads, queue: DeliveryQueue) -> None:
    registry = Registry()
    dispatcher = Dispatcher(queue, registry, lambda error: None)
    heard: list[Any] = []
    registry.add(Message, heard.append, None)
    queue.put_undecoded(reads.of(*trades(1, 50), book(1)), 5000)
    queue.end()
    dispatcher.run()
    assert sequences(heard) == [*range(1, 51), 1]
    assert (dispatcher.delivered, dispatcher.unhandled) == (51, 0)


def test_after_a_callback_that_closes_the_rest_of_the_read_is_undelivered(reads: Reads, queue: DeliveryQueue) -> None:
    registry = Registry()
    dispatcher = Dispatcher(queue, registry, lambda error: None)
    heard: list[Any] = []

    def hear(item: Trade) -> None:
        heard.append(item)
        if len(heard) == 40:
            queue.discard()

    registry.add(Trade, hear, None)
    queue.put_undecoded(reads.of(*trades(1, 70)), 7000)
    queue.put_undecoded(reads.of(*trades(71, 75)), 500)
    queue.end()
    dispatcher.run()
    assert (len(heard), dispatcher.delivered, queue.undelivered) == (40, 40, 35)


def test_a_taker_has_what_came_and_callbacks_have_the_rest(reads: Reads, queue: DeliveryQueue) -> None:
    registry = Registry()
    dispatcher = Dispatcher(queue, registry, lambda error: None)
    heard: list[Any] = []
    taken: list[Any] = []
    dispatcher.taker = taken.extend
    for kind in (Message, Event):
        registry.add(kind, heard.append, None)
    end = Quiet(type="trade", seconds=1.0, asked=EVERYTHING)
    queue.put_undecoded(reads.of(*trades(1, 3), HEARTBEAT, "[]"), 500)
    queue.put([end, Trade(raw="T", received_ns=8), Undecodable(reason="r", received_ns=9, payload="[")], 2)
    queue.end()
    dispatcher.run()
    frames, heartbeat, odd, *rest = taken
    assert frames.payloads == trades(1, 3)
    assert [heartbeat.payload, odd.payload] == [HEARTBEAT, "[]"]
    assert rest == [end, Frame("T", 8, Trade(raw="T", received_ns=8)), Frame("[", 9, heard[-1])]
    assert [type(item) for item in heard] == [Heartbeat, Undecodable, Quiet, Undecodable]
    assert (dispatcher.delivered, dispatcher.unhandled) == (5, 0)
    assert reads.looked == [[]]


def test_a_binary_frame_is_no_text_to_a_taker(reads: Reads, queue: DeliveryQueue) -> None:
    dispatcher = Dispatcher(queue, Registry(), lambda error: None)
    taken: list[Any] = []
    dispatcher.taker = taken.extend
    binary = Undecodable(reason="a binary frame", received_ns=9, payload=b"x")
    queue.put([binary], 1)
    queue.end()
    dispatcher.run()
    assert taken == [binary]


def test_what_there_is_room_for_after_all_at_the_close_is_delivered_in_order(reads: Reads) -> None:
    """A callback may take from a full queue at any moment."""

    class Overtaken(Undecoded):
        """One that is decoded alone while a callback takes what waits."""

        def without_order(self) -> list[Any]:
            left_out = super().without_order()
            waiting = worker.queue.take(10)
            assert waiting is not None
            assert sequences(chain(*chain(*waiting))) == [1]
            return left_out

    worker = Worker(
        ClientSettings(max_queued_messages=1),
        Scope(),
        connect=lambda scope: pytest.fail("not started"),
        backoff=Backoff(),
    )
    worker.queue.put_undecoded(reads.of(book(1)), 10)
    assert worker.queue.is_full
    worker._deliver(reads.of(book(2), kind=Overtaken), 10, may_drop=True)
    assert sequences(worker.queue.take(10)) == [2]
    assert [type(item) for item in chain(*reads.of(book(3)))] == [Book]  # and no gap before it
    assert worker.queue.dropped == 0


def test_when_nothing_may_be_delivered_nothing_is_given_to_a_taker(reads: Reads, queue: DeliveryQueue) -> None:
    dispatcher = Dispatcher(queue, Registry(), lambda error: None)

    def taker(items: Any) -> None:
        taken.append(items)
        queue.discard()

    taken: list[Any] = []
    dispatcher.taker = taker
    dispatcher.deliver(dispatcher._left_by(taker, [reads.of(*trades(1, 3))]))
    dispatcher.deliver(dispatcher._left_by(taker, [reads.of(*trades(4, 8))]))
    assert (len(taken), dispatcher.delivered, queue.undelivered) == (1, 3, 5)
