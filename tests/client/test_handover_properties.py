"""Two connections to one market, as far apart as they like: what is delivered of both, put together.

A market is a list of updates. The first connection has all of them up to where it ends; the second begins with a
snapshot of each book as of some update, and has all that come after. Which of both is how far when is arbitrary.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from builders import ADA, BTC, asset, at, book, book_l3, candle, quote, rate, trade
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_books import Side, apply

from coinapi_ws import Book, BookL3, Heartbeat, Message, SequenceGap, Trade
from coinapi_ws.client.handover import Delivered, Handover
from coinapi_ws.client.keys import key_of
from coinapi_ws.timestamps import parse_ns

L2, L3 = ("book", BTC), ("book_l3", ADA)

SIZES = st.sampled_from([0.0, 1.0, 2.0])
L2_CHANGES = st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0]), SIZES), min_size=1, max_size=2)
L3_CHANGES = st.lists(
    st.tuples(
        st.sampled_from([1.0, 2.0]),
        st.sampled_from([1.0, 2.0]),
        st.sampled_from(["a", "b", None]),
        st.sampled_from(["ADD", "SUBTRACT", "DELETE", "UPDATE"]),
    ),
    min_size=1,
    max_size=2,
)
CHANGES = {"book": L2_CHANGES, "book_l3": L3_CHANGES}
#: Without what can be read in two ways, for which a book may be said to be wrong.
CLEAR_CHANGES = {
    "book": L2_CHANGES,
    "book_l3": L3_CHANGES.filter(lambda changes: all(change[2:] != (None, "DELETE") for change in changes)),
}
OTHERS = ("trade", "quote", "other quote", "book5", "candle", "rate", "asset")


def made(kind: str, changes: Any, moment: int, number: int) -> Message:
    """An update of the market; `number` tells it from all others."""
    if kind == "book":
        return book(moment, *changes, sequence=number)
    if kind == "book_l3":
        return book_l3(moment, *changes, symbol_id=ADA, sequence=number)
    if kind == "trade":
        return trade(moment, uuid=f"trade {number}")
    if kind in ("quote", "other quote"):
        return quote(moment, BTC if kind == "quote" else ADA, sequence=number)
    if kind == "book5":
        return Book(type="book5", symbol_id=BTC, time_coinapi=at(moment), sequence=number)
    if kind == "asset":
        return asset(f"asset {number}")
    return candle(moment, start=0) if kind == "candle" else rate(moment)


def snapshot(key: tuple[str, str], side: Side, moment: int, number: int) -> Message:
    how: dict[str, Any] = {"is_snapshot": True, "sequence": number}
    if key == L2:
        return book(moment, *side.items(), **how)
    orders = [(price, size, name if isinstance(name, str) else None, None) for name, (price, size) in side.items()]
    return book_l3(moment, *orders, symbol_id=ADA, **how)


@dataclass
class Market:
    """What happens, and the books after each update."""

    updates: list[Message]
    moments: list[int]
    books: list[dict[tuple[str, str], Side]] = field(default_factory=list)

    def __post_init__(self) -> None:
        now: dict[tuple[str, str], Side] = {L2: {1.0: 1.0}, L3: {"a": (1.0, 1.0)}}
        self.books.append({key: dict(side) for key, side in now.items()})
        for update in self.updates:
            if (key := key_of(update)) in now:
                apply(now[key], update, "asks")  # type: ignore[arg-type, index]
            self.books.append({key: dict(side) for key, side in now.items()})

    def snapshots(self, index: int, *, as_of_now: bool) -> list[Message]:
        """The books before an update, with the time of their last change or of the last update at all."""
        found = []
        for key, side in self.books[index].items():
            before = (i for i in reversed(range(index)) if as_of_now or key_of(self.updates[i]) == key)
            latest = next(before, None)
            found.append(snapshot(key, side, 0 if latest is None else self.moments[latest], index))
        return found

    def stream(
        self, number: int, begin: int, end: int, lost: frozenset[int], again: frozenset[int], **how: bool
    ) -> list[Any]:
        """What connection 1 or 2 sends: snapshots, updates with heartbeats between, gaps where changes are lost."""
        items: list[Any] = self.snapshots(begin, **how)
        gaps: set[tuple[str, str]] = set()
        for index in range(begin, end):
            update, key = self.updates[index], key_of(self.updates[index])
            if index in again:
                items += self.snapshots(index, **how)
                gaps.clear()
            if key not in (L2, L3):
                items += [update, Heartbeat(received_ns=number)]
            elif index in lost and any(key_of(later) == key for later in self.updates[index + 1 :]):
                # What comes later shows that it is missing.
                gaps.add(key)  # type: ignore[arg-type]
            else:
                if key in gaps:
                    gaps.discard(key)  # type: ignore[arg-type]
                    items.append(SequenceGap(type=key[0], symbol_id=key[1], expected=0, received=index))  # type: ignore[arg-type]
                items.append(update)
        return items


@dataclass
class Plan:
    """What each connection sends, and who sends when."""

    market: Market
    before: list[Any]  # of the first, before there is a second
    first: list[Any]
    second: list[Any]
    turns: list[bool]
    finish_early: int | None

    def delivered(self) -> list[Any]:
        """Hand over; return all that is delivered."""
        delivered = Delivered()
        delivered.watch(self.before)
        handover = Handover(delivered)
        out, first, second = list(self.before), list(self.first), list(self.second)
        for is_first in itertools.chain(self.turns, itertools.repeat(True)):
            if not first:
                break
            if is_first:
                out += handover.take_first([first.pop(0)])
            elif second:
                out += handover.take_second([second.pop(0)])
        handover.end_first()
        out += handover.lacking()
        after = len(second) if self.finish_early is None else min(self.finish_early, len(second))
        out += handover.take_second(second[:after])
        return out + handover.finish() + second[after:]


@st.composite
def plans(draw: st.DrawFn, *, is_lossy: bool = False, may_finish_early: bool = False, step: int = 0) -> Plan:
    """A plan; with `step` 1 no two updates have the same time."""
    # Of few kinds, so that there are many of each.
    changes = CHANGES if is_lossy else CLEAR_CHANGES
    kinds = draw(st.lists(st.sampled_from([*changes, *(() if is_lossy else OTHERS)]), min_size=1, max_size=4))
    updates = st.sampled_from(kinds).flatmap(lambda kind: st.tuples(st.just(kind), changes.get(kind, st.none())))
    drawn = draw(st.lists(st.tuples(updates, st.integers(step, 1)), min_size=6, max_size=30))
    moments = list(itertools.accumulate((step for _, step in drawn), initial=1))[1:]
    drawn_at = enumerate(zip(drawn, moments, strict=True), 1)
    market = Market([made(*update, moment, number) for number, ((update, _), moment) in drawn_at], moments)
    count = len(drawn)
    end = draw(st.integers(0, count))
    begin = draw(st.integers(0, end))
    # Drawn one by one these would mostly be few, and all alike.
    chance = Random(draw(st.integers(0, 2**32)))

    def some(rate: float) -> frozenset[int]:
        return frozenset(index for index in range(count) if is_lossy and chance.random() < rate)

    how = {"as_of_now": draw(st.booleans())}
    first = market.stream(1, 0, end, some(0.3), some(0.1), **how)
    second = market.stream(2, begin, count, some(0.3), some(0.1), **how)
    split = draw(st.integers(0, len(first)))
    early = draw(st.integers(0, len(second))) if may_finish_early else None
    bias = draw(st.sampled_from([0.1, 0.5, 0.9]))
    turns = [chance.random() < bias for _ in range(len(first) + len(second))]
    return Plan(market, first[:split], first[split:], second, turns, early)


class Consumer:
    """Books as one who applies what is delivered has them; None once it was told that something is missing."""

    def __init__(self) -> None:
        self.books: dict[tuple[str, str], Side | None] = {}

    def take(self, item: Any) -> None:
        if isinstance(item, SequenceGap):
            self.books[item.type, item.symbol_id] = None
        elif isinstance(item, (Book, BookL3)) and (key := (item.type, item.symbol_id)) in (L2, L3):
            if item.is_snapshot:
                self.books[key] = {}
            if (side := self.books[key]) is not None:
                apply(side, item, "asks")


def rebuilt(delivered: list[Any]) -> dict[tuple[str, str], Side | None]:
    consumer = Consumer()
    for item in delivered:
        consumer.take(item)
    return consumer.books


def times_of(delivered: list[Any]) -> dict[Any, list[int]]:
    """The times of what was delivered of each thing but trades, in the order of delivery."""
    times: dict[Any, list[int]] = {}
    for item in delivered:
        text = getattr(item, "time_coinapi", None) or getattr(item, "time", None)
        if isinstance(item, Message) and text is not None and not isinstance(item, Trade):
            times.setdefault(key_of(item), []).append(parse_ns(text))
    return times


@settings(max_examples=100)
@given(plans())
def test_trades_are_delivered_exactly_once(plan: Plan) -> None:
    delivered = Counter(item.uuid for item in plan.delivered() if isinstance(item, Trade))
    assert delivered == Counter(item.uuid for item in plan.market.updates if isinstance(item, Trade))


@settings(max_examples=100)
@given(plans())
def test_the_books_that_are_rebuilt_are_the_true_ones(plan: Plan) -> None:
    assert rebuilt(plan.delivered()) == plan.market.books[-1]


@settings(max_examples=100)
@given(plans())
def test_nothing_goes_backwards_and_nothing_comes_twice(plan: Plan) -> None:
    delivered = plan.delivered()
    for times in times_of(delivered).values():
        assert times == sorted(times)
    once = Counter(
        (item.type, item.symbol_id, item.sequence)
        for item in delivered
        if isinstance(item, Message) and item.type in ("quote", "book5")
    )
    assert set(once.values()) <= {1}


@settings(max_examples=100)
@given(plans(step=1))
def test_the_last_word_of_everything_is_delivered(plan: Plan) -> None:
    last = {key_of(update): update for update in plan.market.updates if update.type in ("quote", "book5", "ohlcv")}
    found = {key_of(item): item for item in plan.delivered() if isinstance(item, Message)}
    assert {key: found[key] for key in last} == last


@settings(max_examples=100)
@given(plans())
def test_heartbeats_are_those_of_one_connection(plan: Plan) -> None:
    heard = [item.received_ns for item in plan.delivered() if isinstance(item, Heartbeat)]
    assert heard == sorted(heard)
    assert heard.count(1) == sum(isinstance(item, Heartbeat) for item in plan.before + plan.first)


@settings(max_examples=200)
@given(plans(is_lossy=True, may_finish_early=True))
def test_a_book_is_right_or_said_to_be_wrong_whatever_is_lost(plan: Plan) -> None:
    """Also where the second connection is still behind when repetitions are no longer looked for."""
    books = rebuilt(plan.delivered())
    for key, side in plan.market.books[-1].items():
        if (found := books[key]) is not None:
            assert found == side
