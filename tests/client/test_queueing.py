"""The bounded queue: bounds, policies, counts, and whoever takes from it (F4, F12)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from builders import ADA, BTC, asset, book, book5, candle, heartbeat, ns, quote, rate, trade, undecodable
from peers import PATIENCE_SECONDS

from coinapi_ws import Dropped, Live, Message, SequenceGap, Undecodable
from coinapi_ws.client import queueing
from coinapi_ws.client.queueing import READ_AHEAD_BYTES, DeliveryQueue

GAP = SequenceGap(type="book", symbol_id=BTC, expected=5, received=9)
LIVE = Live(received_ns=0)
FOREVER = 100 * PATIENCE_SECONDS


class Made(DeliveryQueue):
    """A queue that counts how often it told of room."""

    def __init__(self, policy: str = "pause", messages: int = 8, size: int = 1_000_000) -> None:
        self.rooms = 0
        super().__init__(policy, messages, size, self._count_room)

    def _count_room(self) -> None:
        self.rooms += 1

    def add(self, *items: Any) -> None:
        """Put items of ten bytes each."""
        self.put(list(items), 10 * sum(isinstance(item, (Message, Undecodable)) for item in items))

    def all(self) -> list[Any]:
        """Take all that is there."""
        return self.take(1_000_000, timeout=0) or []


def dropped(type_name: str, count: int, first: int, last: int, symbol_id: str | None = BTC) -> Dropped:
    return Dropped(type=type_name, symbol_id=symbol_id, count=count, first_ns=ns(first), last_ns=ns(last))


def test_what_is_put_is_taken_in_order_at_most_so_many() -> None:
    queue = Made()
    queue.add(trade(1), LIVE, trade(2))
    queue.add(undecodable(), trade(3))
    assert (queue.messages, queue.bytes, queue.most_messages) == (4, 40, 4)
    assert queue.take(3) == [trade(1), LIVE, trade(2)]
    assert (queue.messages, queue.bytes, queue.most_messages) == (2, 20, 4)
    assert queue.take(3) == [undecodable(), trade(3)]
    assert (queue.messages, queue.bytes, queue.most_messages) == (0, 0, 4)
    assert queue.take(3, timeout=0) == []


# Pause


@pytest.mark.parametrize("policy", ["pause", "conflate"])
def test_it_is_full_once_the_bound_is_reached_f12(policy: str) -> None:
    queue = Made(policy)
    for moment in range(7):
        queue.add(trade(moment))
    assert not queue.is_full
    queue.add(trade(7), trade(8))
    assert queue.is_full
    queue.add(trade(9))  # one read goes beyond; nothing is lost
    assert queue.all() == [trade(moment) for moment in range(10)]
    assert (queue.dropped, queue.conflated, queue.undelivered) == (0, 0, 0)


@pytest.mark.parametrize("policy", ["pause", "conflate"])
def test_bytes_fill_it_too_f12(policy: str) -> None:
    queue = Made(policy, messages=1000, size=100)
    queue.put([trade(1), LIVE, trade(2)], 99)  # 49 each, rounded down
    assert not queue.is_full
    queue.put([trade(3)], 2)
    assert queue.is_full
    assert queue.bytes == 100


@pytest.mark.parametrize(("policy", "put", "until"), [("pause", 80, 69), ("conflate", 80, 52)])
def test_there_is_room_again_a_little_below_what_stopped_it(policy: str, put: int, until: int) -> None:
    """7/8 of the bound, where conflating of 3/4 of it."""
    queue = Made(policy, messages=80)
    queue.add(*(trade(moment) for moment in range(put)))
    while queue.messages > until + 1:
        queue.take(1)
        assert queue.is_full
    assert queue.rooms == 0
    queue.take(1)
    assert not queue.is_full
    assert queue.rooms == 1
    queue.all()
    assert queue.rooms == 1  # told once


def test_room_is_in_messages_and_in_bytes() -> None:
    queue = Made(messages=8, size=800)
    queue.put([trade(1), trade(2)], 720)
    queue.put([trade(3), trade(4)], 80)
    queue.take(1)
    assert not queue.is_full  # 440 of 800
    queue.add(*(trade(moment) for moment in range(5)))
    assert queue.is_full  # 8 of 8
    queue.take(1)
    assert queue.is_full  # 7 of 8 is not below 7/8
    queue.take(1)
    assert not queue.is_full


def test_events_take_no_room() -> None:
    queue = Made(messages=2, size=2)
    queue.put([LIVE] * 100, 0)
    queue.put([LIVE, trade(1)], 0)
    assert (queue.messages, queue.bytes) == (1, 1)  # a message has a byte at least, by which it is known
    assert not queue.is_full


def test_whoever_is_told_of_room_may_use_the_queue() -> None:
    queue: DeliveryQueue
    taken: list[Any] = []

    def refill() -> None:
        helper = threading.Thread(target=queue.put, args=([quote(1)], 10))  # needs the lock
        helper.start()
        helper.join(PATIENCE_SECONDS)
        taken.append(helper.is_alive())

    queue = DeliveryQueue("pause", 1, 1000, refill)
    queue.put([trade(1)], 10)
    assert queue.take(1) == [trade(1)]
    assert queue.take(1) == [quote(1)]
    assert taken == [False, False]


# Conflate


def test_below_the_bound_nothing_is_conflated() -> None:
    queue = Made("conflate")
    queue.add(*(quote(moment) for moment in range(7)))
    assert queue.all() == [quote(moment) for moment in range(7)]


def test_the_newest_takes_the_place_of_the_oldest() -> None:
    queue = Made("conflate")
    queue.add(trade(0), quote(1), quote(2, ADA), quote(3), LIVE, quote(4, ADA), book5(5), quote(6), heartbeat())
    assert not queue.is_full
    assert (queue.messages, queue.bytes, queue.conflated, queue.dropped) == (5, 50, 3, 0)
    assert queue.all() == [
        dropped("quote", 2, 1, 3),
        dropped("quote", 1, 2, 2, ADA),
        trade(0),
        quote(6),
        quote(4, ADA),
        LIVE,
        book5(5),
        heartbeat(),
    ]


def test_the_size_is_that_of_the_one_that_is_kept() -> None:
    queue = Made("conflate", messages=3)
    queue.put([quote(1)], 100)
    queue.put([quote(2)], 1)
    queue.put([quote(3)], 7)
    assert (queue.messages, queue.bytes) == (1, 7)


def test_what_is_conflated_is_told_apart_by_what_it_is_about() -> None:
    different = [
        quote(1),
        quote(1, ADA),
        book5(1),
        candle(1, start=0),
        candle(1, start=0, period_id="1HRS"),
        candle(1, start=0, symbol_id=ADA),
        candle(1, start=60),
        rate(1),
        rate(1, "ADA"),
        rate(1, rate_type="SPOT"),
    ]
    queue = Made("conflate", messages=20)
    queue.add(*different, *different)
    assert queue.conflated == 10
    assert [item for item in queue.all() if not isinstance(item, Dropped)] == different


def test_each_candle_has_its_last_word() -> None:
    queue = Made("conflate")
    queue.add(*(candle(moment, start=moment // 4 * 4) for moment in range(8)))
    assert queue.all() == [dropped("ohlcv", 6, 0, 6), candle(3, start=0), candle(7, start=4)]


def test_what_builds_on_what_came_before_is_kept_in_order() -> None:
    queue = Made("conflate")
    items = [trade(1), book(1), GAP, book(2), asset(), trade(1), undecodable(), asset(), trade(2), heartbeat()]
    queue.add(*items)
    assert queue.is_full
    assert (queue.conflated, queue.messages) == (0, 9)
    assert queue.all() == items


def test_where_too_little_was_conflated_reading_stops() -> None:
    queue = Made("conflate")
    queue.add(*(trade(moment) for moment in range(5)), quote(1), quote(2), quote(3))
    assert queue.messages == 6  # 3/4 of 8
    assert queue.is_full
    queue.take(1)  # the Dropped
    assert queue.is_full
    queue.take(1)
    assert not queue.is_full
    assert queue.rooms == 1


def test_conflating_again_goes_on_with_the_counts() -> None:
    queue = Made("conflate")
    for moment in range(100):
        queue.add(quote(moment))
    [summary, *quotes] = queue.all()
    assert summary == dropped("quote", queue.conflated, 0, queue.conflated - 1)
    assert len(quotes) + queue.conflated == 100
    assert quotes[-1] == quote(99)


# Drop the oldest


def test_the_oldest_are_dropped_and_counted_f12() -> None:
    queue = Made("drop_oldest", messages=3)
    queue.add(trade(1), trade(2, ADA), quote(3), trade(4), trade(5), trade(6), trade(7))
    assert not queue.is_full
    assert (queue.dropped, queue.messages, queue.bytes, queue.most_messages) == (4, 3, 30, 7)
    assert queue.all() == [
        dropped("trade", 2, 1, 4),
        dropped("trade", 1, 2, 2, ADA),
        dropped("quote", 1, 3, 3),
        trade(5),
        trade(6),
        trade(7),
    ]
    assert queue.rooms == 0


def test_at_the_bound_nothing_is_dropped_yet() -> None:
    queue = Made("drop_oldest", messages=3, size=30)
    queue.add(trade(1), trade(2), trade(3))
    assert queue.all() == [trade(1), trade(2), trade(3)]


def test_bytes_drop_too() -> None:
    queue = Made("drop_oldest", size=100)
    queue.put([trade(1)], 60)
    queue.put([trade(2)], 60)
    assert queue.all() == [dropped("trade", 1, 1, 1), trade(2)]


def test_a_message_that_is_larger_than_the_bound_drops_all_and_itself() -> None:
    queue = Made("drop_oldest", size=100)
    queue.add(trade(1), LIVE)
    queue.put([trade(2)], 101)
    assert (queue.messages, queue.bytes) == (0, 0)
    assert queue.all() == [dropped("trade", 2, 1, 2), LIVE]


def test_events_survive_in_their_order() -> None:
    queue = Made("drop_oldest", messages=1)
    lives = [Live(received_ns=number) for number in range(3)]
    queue.add(lives[0], trade(1), lives[1], trade(2), lives[2], trade(3))
    assert queue.all() == [dropped("trade", 2, 1, 2), *lives, trade(3)]


def test_a_sequence_gap_goes_with_its_message() -> None:
    queue = Made("drop_oldest", messages=1)
    queue.add(book(1), GAP, book(2), trade(3))
    assert queue.all() == [dropped("book", 2, 1, 2), trade(3)]


def test_a_sequence_gap_stays_with_its_message() -> None:
    queue = Made("drop_oldest", messages=1)
    queue.add(book(1), GAP, book(2))
    assert queue.all() == [dropped("book", 1, 1, 1), GAP, book(2)]


def test_a_sequence_gap_whose_message_is_not_there_survives() -> None:
    """The end of a handover tells of gaps by themselves."""
    queue = Made("drop_oldest", messages=1)
    queue.add(trade(1))
    queue.add(GAP, book(2, symbol_id=ADA))
    queue.add(trade(3))
    assert queue.all() == [dropped("trade", 1, 1, 1), dropped("book", 1, 2, 2, ADA), GAP, trade(3)]


def test_what_has_no_symbol_or_no_time_is_counted_as_well() -> None:
    queue = Made("drop_oldest", messages=1)
    queue.add(asset(), undecodable(4), undecodable(5), trade(1))
    assert queue.all() == [
        Dropped(type="asset", symbol_id=None, count=1, first_ns=0, last_ns=0),
        dropped("undecodable", 2, 4, 5, None),
        trade(1),
    ]


def test_what_was_told_is_not_told_again() -> None:
    queue = Made("drop_oldest", messages=1)
    queue.add(trade(1), quote(2), trade(3))
    assert queue.take(1) == [dropped("trade", 1, 1, 1)]
    queue.add(trade(4), quote(5))
    assert queue.take(1) == [dropped("quote", 1, 2, 2)]
    assert queue.all() == [dropped("trade", 2, 3, 4), quote(5)]


# The end


def test_after_the_end_what_is_left_is_taken_and_then_none() -> None:
    queue = Made("drop_oldest", messages=1)
    queue.add(trade(1), trade(2))
    queue.end()
    assert queue.take(1) == [dropped("trade", 1, 1, 1)]
    assert queue.take(1) == [trade(2)]
    assert queue.take(1) is None
    assert queue.take(1, timeout=0) is None


def test_discarding_counts_what_is_left_and_what_comes_f4() -> None:
    queue = Made("pause", messages=2)
    queue.add(trade(1), LIVE, undecodable())
    assert queue.is_full
    queue.discard()
    assert queue.rooms == 1
    assert queue.undelivered == 2  # at once
    assert queue.take(1) is None
    assert (queue.is_full, queue.messages, queue.bytes, queue.undelivered) == (False, 0, 0, 2)
    queue.discard()
    queue.add(trade(3), LIVE)
    queue.count_undelivered([trade(4), LIVE])
    assert queue.undelivered == 4
    assert queue.take(1) is None


def test_what_was_discarded_is_gone_at_the_end() -> None:
    queue = Made()
    queue.add(trade(1), LIVE)
    queue.discard()
    queue.end()
    assert (queue.messages, queue.bytes, queue.undelivered) == (0, 0, 1)
    assert queue.take(1) is None


def test_discarding_forgets_what_was_to_be_told() -> None:
    queue = Made("drop_oldest", messages=1)
    queue.add(trade(1), trade(2))
    queue.discard()
    assert queue.take(1) is None
    assert (queue.dropped, queue.undelivered) == (1, 1)


def test_of_a_connection_that_is_closed_what_goes_beyond_the_bounds_is_dropped_and_told() -> None:
    queue = Made(messages=2)
    queue.put([trade(1), LIVE], 10, may_drop=True)
    queue.put([trade(2)], 10, may_drop=True)
    assert queue.is_full
    queue.put([trade(3), LIVE, undecodable()], 20, may_drop=True)
    assert (queue.dropped, queue.undelivered, queue.messages) == (2, 0, 2)
    items = queue.all()
    assert {(drop.type, drop.count) for drop in items[:2]} == {("trade", 1), ("undecodable", 1)}
    assert items[2:] == [trade(1), LIVE, trade(2), LIVE]
    queue.put([trade(4)], 10, may_drop=True)
    assert queue.all() == [trade(4)]


def test_what_must_not_be_delivered_is_put_where_the_queue_is_full_alone() -> None:
    queue = Made(messages=1)
    assert not queue.put_left_out([trade(1)], 10)
    queue.add(trade(2))
    assert queue.put_left_out([trade(3), LIVE], 10)
    assert queue.dropped == 1
    assert queue.all()[1:] == [trade(2), LIVE]


def test_a_forked_child_has_an_ended_queue_f16() -> None:
    """F16: what waits is the parent's."""
    queue = Made("drop_oldest", messages=1)
    queue.add(trade(1), trade(2))
    queue.end_after_fork()
    assert queue.take(1) is None


# Whoever waits


@pytest.mark.parametrize(
    ("act", "result"),
    [
        (lambda queue: queue.add(trade(1)), [trade(1)]),
        (lambda queue: queue.add(LIVE), [LIVE]),
        (lambda queue: queue.end(), None),
        (lambda queue: queue.discard(), None),
    ],
    ids=["message", "event", "end", "discard"],
)
@pytest.mark.parametrize("timeout", [None, PATIENCE_SECONDS])
def test_who_waits_is_woken(act: Callable[[Made], None], result: object, timeout: float | None) -> None:
    queue, taken = Made(), []
    waiter = threading.Thread(target=lambda: taken.append(queue.take(5, timeout)))
    waiter.start()
    act(queue)
    waiter.join(PATIENCE_SECONDS)
    assert taken == [result]


def test_who_waits_long_waits_in_slices_f17(monkeypatch: pytest.MonkeyPatch) -> None:
    """F17: where a wait cannot be interrupted, Ctrl-C has its turn after each."""

    class Looking(Made):
        looks = 0

        @property
        def is_discarding(self) -> bool:
            self.looks += 1
            if self.looks == 10:
                self.add(trade(1))  # by who waits, so nobody is woken
            return False

        @is_discarding.setter
        def is_discarding(self, value: bool) -> None: ...

    monkeypatch.setattr(queueing, "_SLICE_SECONDS", 0.001)
    queue = Looking()
    assert queue.take(1) == [trade(1)]
    assert queue.looks >= 10


def test_a_wait_has_an_end() -> None:
    queue, begun = Made(), time.monotonic()
    assert queue.take(1, timeout=0.25) == []
    assert time.monotonic() - begun >= 0.25


def far_ahead(policy: str = "pause") -> Made:
    """A queue in which more waits than is worth reading ahead."""
    queue = Made(policy, messages=1000, size=10 * READ_AHEAD_BYTES)
    queue.put([trade(1), LIVE], READ_AHEAD_BYTES)
    queue.put([trade(2)], 1)
    return queue


@pytest.mark.parametrize("policy", ["pause", "conflate", "drop_oldest"])
def test_who_reads_goes_on_at_once_where_little_waits_or_all_has_to_be_read(policy: str) -> None:
    queue = Made(policy)
    queue.put([trade(1)], READ_AHEAD_BYTES if policy == "pause" else 100)
    queue.wait_for_takers(FOREVER)
    if policy != "pause":
        far_ahead(policy).wait_for_takers(FOREVER)


@pytest.mark.parametrize("end", [lambda queue: queue.take(1), Made.discard], ids=["taken", "discarded"])
def test_who_reads_far_ahead_waits_until_somebody_takes(
    end: Callable[[Made], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = far_ahead()
    taker = threading.Thread(target=end, args=(queue,))
    condition, woken = queue._monitor._condition, []
    wait = condition.wait

    def wait_for_the_taker(seconds: float) -> bool:
        taker.start()  # it needs the lock, which is free once this waits
        woken.append(wait(seconds))
        return woken[-1]

    monkeypatch.setattr(condition, "wait", wait_for_the_taker)
    queue.wait_for_takers(PATIENCE_SECONDS)
    assert woken == [True]
    taker.join(PATIENCE_SECONDS)
    assert not taker.is_alive()


def test_who_reads_far_ahead_waits_so_long_and_no_longer() -> None:
    queue = far_ahead()
    queue.wait_for_takers(0)
    queue.wait_for_takers(1e-3)
    assert queue.messages == 2


def test_several_threads_share_out_what_comes_and_all_end() -> None:
    queue = Made(messages=50)
    shares: list[list[Any]] = [[] for _ in range(4)]

    def take(share: list[Any]) -> None:
        while (items := queue.take(3)) is not None:
            share.extend(items)

    takers = [threading.Thread(target=take, args=(share,)) for share in shares]
    for taker in takers:
        taker.start()
    everything = [trade(moment) for moment in range(3000)]
    for start in range(0, 3000, 10):
        queue.add(*everything[start : start + 10])
    queue.end()
    for taker in takers:
        taker.join(PATIENCE_SECONDS)
        assert not taker.is_alive()
    taken = [item for share in shares for item in share]
    assert sorted(taken, key=lambda item: item.price) == everything
    for share in shares:
        assert share == sorted(share, key=lambda item: item.price)  # type: ignore[arg-type, return-value]
    assert (queue.messages, queue.bytes, queue.is_full) == (0, 0, False)
