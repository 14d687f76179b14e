"""Market data in the wrong order: deltas before the snapshot, frames of a scope that was left."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from coinapi_ws import Message as ClientMessage
from coinapi_ws import Stream, Subscription, connect
from coinapi_ws.simulator import Simulator, VirtualClock
from coinapi_ws.simulator.wire import uuid_text

BTC = "COINBASE_SPOT_BTC_USD"
ADA = "COINBASE_SPOT_ADA_USD"
BOTH = [BTC + "$", ADA + "$"]
TYPES = ("book", "trade", "quote")

Dial = Callable[..., Any]
Message = dict[str, Any]


def sequences(messages: list[Message], kind: str, symbol_id: str) -> list[int]:
    return [m["sequence"] for m in messages if (m["type"], m.get("symbol_id")) == (kind, symbol_id)]


def two_alike(simulator: Simulator, dial: Dial, *data_types: str) -> tuple[Any, Any]:
    """Two clients that get the same texts as long as nothing happens to the first."""
    peers = dial(simulator.url), dial(simulator.url)
    for peer in peers:
        peer.hello(*data_types, symbol_id=BOTH)
    simulator.settle()
    first, second = (peer.texts(simulator) for peer in peers)
    assert first == second
    return peers


# Deltas before the snapshot.


class Book:
    """What the documentation makes of the frames of one symbol, L2 or L3: nothing before a snapshot."""

    def __init__(self) -> None:
        self.asks: dict[Any, tuple[Decimal, Decimal]] = {}
        self.bids: dict[Any, tuple[Decimal, Decimal]] = {}
        self.skipped = 0
        self._has_snapshot = False

    def apply(self, message: Message) -> None:
        if message["is_snapshot"]:
            self.asks, self.bids = {}, {}
            self._has_snapshot = True
        if not self._has_snapshot:
            self.skipped += 1
            return
        for side, entries in ((self.asks, message["asks"]), (self.bids, message["bids"])):
            for entry in entries:
                self._entry(side, entry)

    def _entry(self, side: dict[Any, tuple[Decimal, Decimal]], entry: Message) -> None:
        key, price, size = entry.get("id", entry["price"]), entry["price"], entry["size"]
        kind = entry.get("update_type", "UPDATE")
        if kind in ("MATCH", "SUBTRACT"):
            price, size = side[key][0], side[key][1] - size
        if kind == "DELETE" or size <= 0:
            side.pop(key, None)
        else:
            side[key] = (price, size)


def own_book(simulator: Simulator, kind: str, symbol_id: str) -> tuple[Any, Any]:
    """The book as the simulator itself has it."""
    market = simulator._engine.market
    venue = market.venue(symbol_id)
    instrument = venue.instrument

    def entry(key: Any, price: int, size: int) -> tuple[Any, tuple[Decimal, Decimal]]:
        scaled = Decimal(price).scaleb(-instrument.price_decimals), Decimal(size).scaleb(-instrument.size_decimals)
        return scaled[0] if key is None else uuid_text(market._uuid_base, key), scaled

    def side(orders: Any) -> dict[Any, tuple[Decimal, Decimal]]:
        if kind == "book":
            return dict(entry(None, price, size) for price, size in orders.top())
        return dict(entry(order, price, size) for order, price, size in orders.orders())

    return side(venue.asks), side(venue.bids)


@pytest.mark.parametrize("kind", ["book", "book_l3"])
@pytest.mark.parametrize("count", [1, 3])
def test_deltas_come_before_the_snapshot_which_is_the_book_of_that_moment(
    simulator: Simulator, clock: VirtualClock, dial: Dial, kind: str, count: int
) -> None:
    simulator.faults.deltas_first(count)
    peer = dial(simulator.url)
    peer.hello(kind, "trade", symbol_id=BOTH)
    assert peer.drain(simulator) == []
    clock.advance(10)
    messages = peer.drain(simulator)
    for symbol_id in (BTC, ADA):
        ours = [m for m in messages if (m["type"], m["symbol_id"]) == (kind, symbol_id)]
        assert [m["is_snapshot"] for m in ours] == [False] * count + [True] + [False] * (len(ours) - count - 1)
        assert [m["sequence"] for m in ours] == list(range(1, len(ours) + 1))
        assert len(ours) > count + 5
        book = Book()
        for message in ours:
            book.apply(message)
        assert (book.asks, book.bids) == own_book(simulator, kind, symbol_id)
        assert book.skipped == count


def test_a_book_that_comes_back_has_its_deltas_first_again_and_one_that_stayed_has_not(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    simulator.faults.deltas_first(2)
    peer = dial(simulator.url)
    peer.hello("book", symbol_id=BOTH)
    clock.advance(5)
    peer.hello("book", symbol_id=[ADA + "$"])
    clock.advance(1)
    peer.drain(simulator)
    peer.hello("book", symbol_id=BOTH)
    clock.advance(5)
    messages = peer.drain(simulator)
    assert [m["is_snapshot"] for m in messages if m["symbol_id"] == BTC][:4] == [False, False, True, False]
    assert sequences(messages, "book", BTC)[:4] == [1, 2, 3, 4]
    assert not any(m["is_snapshot"] for m in messages if m["symbol_id"] == ADA)
    assert sequences(messages, "book", ADA)[0] > 4


@pytest.mark.parametrize("end", [lambda faults: faults.clear(), lambda faults: faults.deltas_first(0)])
def test_an_end_to_deltas_first_brings_the_snapshot_that_is_owed_with_the_next_change(
    simulator: Simulator, clock: VirtualClock, dial: Dial, end: Callable[[Any], None]
) -> None:
    simulator.faults.deltas_first(1_000_000)
    peer = dial(simulator.url)
    peer.hello("book", symbol_id=[BTC + "$"])
    clock.advance(3)
    before = peer.drain(simulator)
    assert before
    assert not any(m["is_snapshot"] for m in before)
    end(simulator.faults)
    clock.advance(3)
    after = peer.drain(simulator)
    assert [m["is_snapshot"] for m in after[:3]].count(True) == 1
    other = dial(simulator.url)
    other.hello("book", symbol_id=[BTC + "$"])
    assert [(m["sequence"], m["is_snapshot"]) for m in other.drain(simulator)] == [(1, True)]


# Frames of the scope before.


@pytest.mark.parametrize("count", [1, 5])
def test_stale_frames_of_what_left_the_scope_come_so_often_and_no_more(
    simulator: Simulator, clock: VirtualClock, dial: Dial, count: int
) -> None:
    peer, sound = two_alike(simulator, dial, *TYPES)
    simulator.faults.stale_frames(count, connection=1)
    clock.advance(3)
    assert peer.texts(simulator) == sound.texts(simulator)
    peer.hello(*TYPES, symbol_id=[ADA + "$"])
    clock.advance(5)
    received, whole = peer.drain(simulator), sound.drain(simulator)
    stale = [m for m in received if m["symbol_id"] == BTC]
    assert len(stale) == count
    # They run on as if nothing had happened, and what stayed is not touched.
    assert stale == [m for m in whole if m["symbol_id"] == BTC][:count]
    assert [m for m in received if m["symbol_id"] == ADA] == [m for m in whole if m["symbol_id"] == ADA]


def test_after_stale_frames_a_pair_that_comes_back_begins_at_1_with_a_snapshot(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    # So many that it comes back while they still come.
    for count in (3, 1_000_000):
        simulator.faults.stale_frames(count)
        peer = dial(simulator.url)
        peer.hello("book", symbol_id=BOTH)
        clock.advance(3)
        peer.hello("book", symbol_id=[ADA + "$"])
        clock.advance(3)
        peer.hello("book", symbol_id=BOTH)
        clock.advance(3)
        messages = [m for m in peer.drain(simulator) if m["symbol_id"] == BTC]
        restart = sequences(messages, "book", BTC).index(1, 1)
        assert [m["sequence"] for m in messages] == [*range(1, restart + 1), *range(1, len(messages) - restart + 1)]
        assert [n for n, m in enumerate(messages) if m["is_snapshot"]] == [0, restart]
        assert len(messages) > restart + 5


def test_each_change_of_the_scope_brings_stale_frames_anew(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    simulator.faults.stale_frames(2)
    peer = dial(simulator.url)
    peer.hello("trade", "quote", symbol_id=BOTH)
    clock.advance(3)
    peer.drain(simulator)
    peer.unsubscribe("quote")
    clock.advance(5)
    assert [m["type"] for m in peer.drain(simulator)].count("quote") == 2
    peer.unsubscribe("trade")
    clock.advance(5)
    assert [m["type"] for m in peer.drain(simulator)] == ["trade", "trade"]
    # The same once more changes nothing.
    peer.unsubscribe("trade")
    clock.advance(5)
    assert peer.drain(simulator) == []


@pytest.mark.parametrize("end", [lambda faults: faults.clear(), lambda faults: faults.stale_frames(0)])
def test_an_end_to_stale_frames_holds_at_once(
    simulator: Simulator, clock: VirtualClock, dial: Dial, end: Callable[[Any], None]
) -> None:
    simulator.faults.stale_frames(1_000_000)
    peer = dial(simulator.url)
    peer.hello("trade", symbol_id=BOTH)
    peer.hello("trade", symbol_id=[ADA + "$"])
    clock.advance(3)
    assert BTC in {m["symbol_id"] for m in peer.drain(simulator)}
    end(simulator.faults)
    clock.advance(3)
    assert {m["symbol_id"] for m in peer.drain(simulator)} == {ADA}


# What a program with our own client sees.


def stream_to(simulator: Simulator, key: str, *subscriptions: Subscription) -> Stream:
    return connect(key, *subscriptions, endpoint=simulator.url, request_heartbeats=False)


def read(stream: Stream, simulator: Simulator) -> list[Any]:
    """All items that the simulator has sent so far."""
    simulator.faults.unknown_type("that_was_all")
    return list(iter(lambda: what_matters(stream.recv(timeout=10)), None))


def what_matters(item: Any) -> Any:
    return None if getattr(item, "type", None) == "that_was_all" else item


def test_our_client_reports_no_gap_for_deltas_before_a_snapshot(
    simulator: Simulator, clock: VirtualClock, canary_key: str
) -> None:
    simulator.faults.deltas_first(3)
    with stream_to(simulator, canary_key, Subscription(["book"], symbol_ids=[BTC + "$"])) as stream:
        clock.advance(3)
        items = read(stream, simulator)
        assert [item.is_snapshot for item in items[:5]] == [False, False, False, True, False]
        assert stream.stats().jumps == {}


def test_our_client_drops_stale_frames_as_surplus_and_takes_the_restart_for_none(
    simulator: Simulator, clock: VirtualClock, canary_key: str
) -> None:
    simulator.faults.stale_frames(4)
    bitcoin, cardano = (Subscription(["book"], symbol_ids=[symbol]) for symbol in BOTH)
    with stream_to(simulator, canary_key, bitcoin, cardano) as stream:
        clock.advance(2)
        before = read(stream, simulator)
        assert {item.symbol_id for item in before} == {BTC, ADA}
        stream.unsubscribe(bitcoin)
        clock.advance(2)
        assert {item.symbol_id for item in read(stream, simulator)} == {ADA}
        assert stream.stats().surplus == 4
        stream.subscribe(bitcoin)
        clock.advance(2)
        back = read(stream, simulator)
        assert all(isinstance(item, ClientMessage) for item in back)
        numbers = [item.sequence for item in back if item.symbol_id == BTC]
        assert numbers == list(range(1, len(numbers) + 1)) != []
        assert stream.stats().surplus == 4
        assert stream.stats().jumps == {}
