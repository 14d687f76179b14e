"""Whatever is put and taken, in any order: nothing is lost without a word; signal handlers may come in between."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from builders import ADA, BTC, book, book5, candle, quote, trade, undecodable
from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws import Dropped, Live, Message, SequenceGap, Undecodable
from coinapi_ws.client import queueing
from coinapi_ws.client.queueing import POLICIES, DeliveryQueue

# Each makes the item of a moment.
MAKERS: dict[str, Callable[[int], Any]] = {
    "trade": trade,
    "trade of another": lambda moment: trade(moment, ADA),
    "quote": quote,
    "quote of another": lambda moment: quote(moment, ADA),
    "book5": book5,
    "book": lambda moment: book(moment, sequence=moment),
    "candle": lambda moment: candle(moment, start=moment // 8),
    "undecodable": undecodable,
    "event": lambda moment: Live(received_ns=moment),
    "gap": lambda moment: SequenceGap(type="book", symbol_id=BTC, expected=0, received=moment),
}

PUTS = st.tuples(st.lists(st.sampled_from(sorted(MAKERS)), max_size=12), st.integers(0, 400))
STEPS = st.lists(PUTS | st.integers(1, 10), max_size=40)


class Run:
    """A queue after some steps: lists are put, of so many bytes; numbers are taken."""

    def __init__(self, policy: str, bounds: tuple[int, int], steps: list[Any]) -> None:
        self.queue = DeliveryQueue(policy, *bounds, lambda: None)
        self.put: list[Any] = []
        self.taken: list[Any] = []
        moments = itertools.count(1)
        for step in steps:
            if isinstance(step, int):
                self.taken += self.queue.take(step, timeout=0) or []
            else:
                names, size = step
                items = [MAKERS[name](next(moments)) for name in names]
                self.put += items
                self.queue.put(items, size)

    def drain(self) -> None:
        self.queue.end()
        while (items := self.queue.take(7)) is not None:
            self.taken += items


def counted(items: list[Any]) -> list[Any]:
    return [item for item in items if isinstance(item, (Message, Undecodable))]


def drops(items: list[Any]) -> list[Dropped]:
    return [item for item in items if isinstance(item, Dropped)]


@given(policy=st.sampled_from(POLICIES), bounds=st.tuples(st.integers(1, 20), st.integers(1, 1000)), steps=STEPS)
def test_nothing_is_lost_without_a_word_f12(policy: str, bounds: tuple[int, int], steps: list[Any]) -> None:
    run = Run(policy, bounds, steps)
    queue = run.queue
    waiting = queue.messages
    run.drain()
    delivered = counted(run.taken)
    assert len(counted(run.put)) == len(delivered) + queue.dropped + queue.conflated
    assert sum(drop.count for drop in drops(run.taken)) == queue.dropped + queue.conflated
    assert waiting <= queue.most_messages
    assert (queue.messages, queue.bytes, queue.is_full, queue.undelivered) == (0, 0, False, 0)
    # By type and symbol too.
    missing = Counter(map(named, counted(run.put))) - Counter(map(named, delivered))
    told: Counter[tuple[str, str | None]] = Counter()
    for drop in drops(run.taken):
        told[drop.type, drop.symbol_id] += drop.count
    assert told == missing


def named(item: Any) -> tuple[str, str | None]:
    return getattr(item, "type", "undecodable"), getattr(item, "symbol_id", None)


@given(policy=st.sampled_from(POLICIES), bounds=st.tuples(st.integers(1, 20), st.integers(1, 1000)), steps=STEPS)
def test_what_is_discarded_is_counted(policy: str, bounds: tuple[int, int], steps: list[Any]) -> None:
    run = Run(policy, bounds, steps)
    queue = run.queue
    queue.discard()
    known = len(counted(run.taken)) + queue.dropped + queue.conflated + queue.undelivered
    assert known == len(counted(run.put))


@given(bounds=st.tuples(st.integers(1, 20), st.integers(1, 1000)), steps=STEPS)
def test_pausing_keeps_all_in_order_and_is_full_from_the_bound_on(bounds: tuple[int, int], steps: list[Any]) -> None:
    run = Run("pause", bounds, steps)
    if run.queue.messages >= bounds[0] or run.queue.bytes >= bounds[1]:
        assert run.queue.is_full
    run.drain()
    assert run.taken == run.put


@given(bounds=st.tuples(st.integers(1, 20), st.integers(1, 1000)), steps=STEPS)
def test_dropping_keeps_the_bounds_the_order_and_the_newest(bounds: tuple[int, int], steps: list[Any]) -> None:
    run = Run("drop_oldest", bounds, steps)
    queue = run.queue
    assert not queue.is_full
    assert queue.messages <= bounds[0]
    assert queue.bytes <= bounds[1]
    left = queue.messages
    run.drain()
    messages = counted(run.taken)
    assert is_within(messages, counted(run.put))
    assert not left or messages[-left:] == counted(run.put)[-left:]
    events = [item for item in run.put if isinstance(item, Live)]
    assert [item for item in run.taken if isinstance(item, Live)] == events


@given(bounds=st.tuples(st.integers(1, 20), st.integers(1, 1000)), steps=STEPS)
def test_conflating_keeps_the_newest_of_each_and_the_rest_in_order(bounds: tuple[int, int], steps: list[Any]) -> None:
    run = Run("conflate", bounds, steps)
    run.drain()
    for name in ("quote", "book5"):
        put, taken = ([item for item in counted(items) if named(item) == (name, BTC)] for items in (run.put, run.taken))
        assert is_within(taken, put)
        assert taken[-1:] == put[-1:]
    for period in {item.time_period_start for item in run.put if named(item)[0] == "ohlcv"}:
        put, taken = (
            [item for item in items if getattr(item, "time_period_start", None) == period]
            for items in (run.put, run.taken)
        )
        assert taken[-1] == put[-1]
    assert [i for i in run.taken if is_kept(i)] == [i for i in run.put if is_kept(i)]


def is_kept(item: Any) -> bool:
    return not isinstance(item, Dropped) and named(item)[0] not in ("quote", "book5", "ohlcv")


def is_within(some: list[Any], every: list[Any]) -> bool:
    """Whether all of `some` are in `every`, in that order."""
    remaining = iter(every)
    return all(any(item == other for other in remaining) for item in some)


# A signal handler, which Python runs between any two instructions of the main thread


def interrupted(call: Callable[[], Any], after: int, handler: Callable[[], None]) -> tuple[Any, bool]:
    """Call, and run the handler after so many instructions of the queue; return the result and whether it ran."""
    left = after

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != queueing.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == -1:
                sys.settrace(None)
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return call(), left < 0
    finally:
        sys.settrace(before)


def each_instruction(steps: Callable[[int], bool]) -> None:
    """Take the steps with an interruption after 0, 1, 2 … instructions, as long as they come to it."""
    steps(10**9)  # CPython 3.12 traces instructions only from the second time on
    instructions = next(after for after in itertools.count() if not steps(after))
    assert instructions > 20


@pytest.mark.parametrize("policy", POLICIES)
def test_a_signal_handler_puts_an_end_to_what_it_interrupts_f18(policy: str) -> None:
    """F18: whoever iterates closes in a signal handler; the lock is reentrant and the counts are right."""

    def take_and_discard(after: int) -> bool:
        queue = DeliveryQueue(policy, 4, 1000, lambda: None)
        queue.put([quote(1), trade(2), Live(received_ns=0), trade(3), quote(4), quote(5)], 50)
        taken, was_interrupted = interrupted(lambda: queue.take(4), after, queue.discard)
        delivered = len(counted(taken or []))
        if not was_interrupted:
            queue.discard()
        for _ in range(2):
            known = delivered + queue.dropped + queue.conflated + queue.undelivered
            assert known == 5, f"after {after} instructions"
            assert queue.take(1) is None
        assert (queue.messages, queue.bytes, queue.is_full) == (0, 0, False), f"after {after} instructions"
        return was_interrupted

    each_instruction(take_and_discard)


def test_a_signal_handler_ends_what_it_interrupts_f18() -> None:
    def take_and_end(after: int) -> bool:
        queue = DeliveryQueue("pause", 2, 1000, lambda: None)
        queue.put([trade(1), trade(2)], 20)
        taken, was_interrupted = interrupted(lambda: queue.take(1), after, queue.end)
        queue.end()
        assert taken == [trade(1)]
        assert (queue.take(5), queue.take(5)) == ([trade(2)], None)
        return was_interrupted

    each_instruction(take_and_end)


def test_a_signal_handler_discards_while_it_is_discarded_f18() -> None:
    def discard_twice(after: int) -> bool:
        queue = DeliveryQueue("pause", 2, 1000, lambda: None)
        queue.put([trade(1), trade(2)], 20)
        _, was_interrupted = interrupted(queue.discard, after, queue.discard)
        assert queue.undelivered == 2, f"after {after} instructions"
        assert queue.take(1) is None
        assert (queue.undelivered, queue.messages, queue.is_full) == (2, 0, False), f"after {after} instructions"
        return was_interrupted

    each_instruction(discard_twice)
