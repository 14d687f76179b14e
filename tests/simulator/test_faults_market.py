"""Market data that goes wrong on its way: lost, doubled, in the wrong order, of a scope that was left."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from coinapi_ws import Message as ClientMessage
from coinapi_ws import SequenceGap, Stream, Subscription, connect
from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Simulator, VirtualClock
from coinapi_ws.simulator.wire import uuid_text

BTC = "COINBASE_SPOT_BTC_USD"
ADA = "COINBASE_SPOT_ADA_USD"
BOTH = [BTC + "$", ADA + "$"]
TYPES = ("book", "trade", "quote")

Dial = Callable[..., Any]
Message = dict[str, Any]


def texts(simulator: Simulator, peer: Any) -> list[str]:
    """All texts that the simulator has sent this one client so far."""
    simulator.settle()
    assert peer.websocket.ping().wait(10)
    received = []
    while True:
        try:
            received.append(peer.websocket.recv(timeout=0))
        except TimeoutError:
            return received


def drain(simulator: Simulator, peer: Any) -> list[Message]:
    return [decode(text) for text in texts(simulator, peer)]


def decode(text: str) -> Message:
    message: Message = json.loads(text, parse_float=Decimal)
    return message


def sequences(messages: list[Message], kind: str, symbol_id: str) -> list[int]:
    return [m["sequence"] for m in messages if (m["type"], m.get("symbol_id")) == (kind, symbol_id)]


def two_alike(simulator: Simulator, dial: Dial, *data_types: str) -> tuple[Any, Any]:
    """Two clients that get the same texts as long as nothing happens to the first."""
    peers = dial(simulator.url), dial(simulator.url)
    for peer in peers:
        peer.hello(*data_types, symbol_id=BOTH)
    simulator.settle()
    first, second = (texts(simulator, peer) for peer in peers)
    assert first == second
    return peers


SELECTIONS = [
    ({}, lambda m: True),
    ({"types": ["trade"]}, lambda m: m["type"] == "trade"),
    ({"symbol_ids": [ADA]}, lambda m: m["symbol_id"] == ADA),
    ({"types": ["book", "quote"], "symbol_ids": [BTC]}, lambda m: m["type"] != "trade" and m["symbol_id"] == BTC),
    ({"types": []}, lambda m: False),
    ({"symbol_ids": ["NOBODY_SPOT_A_B"]}, lambda m: False),
]


@pytest.mark.parametrize(("selection", "is_meant"), SELECTIONS)
def test_skipping_loses_the_next_messages_of_the_selection_and_no_other(
    simulator: Simulator, clock: VirtualClock, dial: Dial, selection: dict[str, Any], is_meant: Callable[..., bool]
) -> None:
    harmed, sound = two_alike(simulator, dial, *TYPES)
    assert simulator.faults.skip_sequence(3, connection=1, **selection) == 1
    clock.advance(5)
    whole = texts(simulator, sound)
    lost = [n for n, text in enumerate(whole) if is_meant(decode(text))][:3]
    assert texts(simulator, harmed) == [text for n, text in enumerate(whole) if n not in lost]
    assert sum(simulator.frames_lost.values()) == len(lost)


@pytest.mark.parametrize(("selection", "is_meant"), SELECTIONS)
def test_repeating_sends_the_next_messages_of_the_selection_twice(
    simulator: Simulator, clock: VirtualClock, dial: Dial, selection: dict[str, Any], is_meant: Callable[..., bool]
) -> None:
    harmed, sound = two_alike(simulator, dial, *TYPES)
    assert simulator.faults.repeat_sequence(3, connection=1, **selection) == 1
    clock.advance(5)
    whole = texts(simulator, sound)
    doubled = [n for n, text in enumerate(whole) if is_meant(decode(text))][:3]
    expected = [copy for n, text in enumerate(whole) for copy in [text] * (1 + (n in doubled))]
    assert texts(simulator, harmed) == expected
    assert simulator.frames_lost == {}


def test_a_skipped_message_has_taken_its_number(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello("book", "trade", symbol_id=BOTH)
    assert sequences(drain(simulator, peer), "book", BTC) == [1]
    simulator.faults.skip_sequence(2, types=["book"], symbol_ids=[BTC])
    clock.advance(5)
    messages = drain(simulator, peer)
    assert sequences(messages, "book", BTC)[:3] == [4, 5, 6]
    assert sequences(messages, "book", ADA)[:3] == [2, 3, 4]
    assert sequences(messages, "trade", BTC)[:3] == [1, 2, 3]
    assert simulator.frames_lost == {"book": 2}


def test_skipping_reaches_every_connection_that_is_there_each_with_its_own_count(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    assert simulator.faults.skip_sequence() == 0
    two_alike(simulator, dial, "trade")
    assert simulator.faults.skip_sequence(2, types=["trade"]) == 2
    assert simulator.faults.skip_sequence(connection=7) == 0
    later = dial(simulator.url)
    later.hello("trade", symbol_id=BOTH)
    clock.advance(3)
    assert simulator.frames_lost == {"trade": 4}
    numbers = drain(simulator, later)
    assert sequences(numbers, "trade", BTC)[0] == sequences(numbers, "trade", ADA)[0] == 1


@pytest.mark.parametrize(("fault", "expected"), [("skip_sequence", [2, 3]), ("repeat_sequence", [1, 1, 2])])
def test_the_snapshot_itself_can_be_lost_or_come_twice(
    simulator: Simulator, clock: VirtualClock, dial: Dial, fault: str, expected: list[int]
) -> None:
    peer = dial(simulator.url)
    simulator.settle()
    assert getattr(simulator.faults, fault)(types=["book"]) == 1
    peer.hello("book", symbol_id=[BTC + "$"])
    clock.advance(2)
    messages = drain(simulator, peer)
    assert sequences(messages, "book", BTC)[: len(expected)] == expected
    assert [m["is_snapshot"] for m in messages[:3]] == [number == 1 for number in [*expected, 3][:3]]


def test_messages_without_a_number_can_be_lost_and_doubled_too(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("exrate", asset_id=["BTC/USD"])
    simulator.settle()
    simulator.faults.skip_sequence(4, types=["exrate"])
    clock.advance(1)
    assert len(drain(simulator, peer)) == 6
    simulator.faults.repeat_sequence(4, types=["exrate"])
    clock.advance(1)
    assert len(drain(simulator, peer)) == 14
    assert simulator.frames_sent == {"exrate": 20}
    assert simulator.frames_lost == {"exrate": 4}


def test_faults_of_several_calls_come_one_after_another(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    harmed, sound = two_alike(simulator, dial, "trade")
    simulator.faults.skip_sequence(1, types=["trade"], connection=1)
    simulator.faults.skip_sequence(1, connection=1)
    # What is lost is not there to be sent twice.
    simulator.faults.repeat_sequence(2, connection=1)
    clock.advance(5)
    whole = texts(simulator, sound)
    assert len(whole) > 5
    assert texts(simulator, harmed) == [whole[2], whole[2], whole[3], whole[3], *whole[4:]]


def test_clear_forgets_what_was_still_to_be_lost_or_doubled(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    harmed, sound = two_alike(simulator, dial, *TYPES)
    simulator.faults.skip_sequence(5, connection=1)
    simulator.faults.repeat_sequence(5, connection=1)
    simulator.faults.lose(1.0, connection=1)
    simulator.faults.clear()
    clock.advance(3)
    assert texts(simulator, harmed) == texts(simulator, sound) != []


# By chance.


def lossy_run(dial: Dial, seed: int, connections: int = 1, **options: Any) -> tuple[list[list[str]], Simulator]:
    clock = VirtualClock()
    with Simulator(seed=seed, clock=clock) as simulator:
        simulator.faults.lose(0.3, **options)
        peers = [dial(simulator.url) for _ in range(connections)]
        for peer in peers:
            peer.hello(*TYPES, symbol_id=BOTH)
        clock.advance(10)
        return [texts(simulator, peer) for peer in peers], simulator


def lost_numbers(received: list[str], kind: str = "book", symbol_id: str = BTC) -> set[int]:
    numbers = sequences([decode(text) for text in received], kind, symbol_id)
    return set(range(1, numbers[-1])) - set(numbers)


def test_the_same_seed_loses_the_same_messages_and_another_seed_others(dial: Dial) -> None:
    runs = [lossy_run(dial, seed)[0][0] for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert lost_numbers(runs[0]) == lost_numbers(runs[1]) != lost_numbers(runs[2])


def test_each_connection_loses_its_own_messages_which_no_other_connection_moves(dial: Dial) -> None:
    (alone,), _ = lossy_run(dial, 3)
    (first, second, third), _ = lossy_run(dial, 3, connections=3)
    assert first == alone
    assert len({frozenset(lost_numbers(received)) for received in (first, second, third)}) == 3


def test_about_as_many_are_lost_as_the_rate_says_and_each_is_counted(dial: Dial) -> None:
    (received,), simulator = lossy_run(dial, 5)
    sent, lost = simulator.frames_sent, simulator.frames_lost
    assert set(sent) == set(lost) == set(TYPES)
    assert sum(sent.values()) == len(received)
    assert 0.2 < sum(lost.values()) / (sum(lost.values()) + len(received)) < 0.4
    (all_there,), sound = lossy_run(dial, 5, types=[])
    assert sound.frames_lost == {}
    assert {kind: sent[kind] + lost[kind] for kind in TYPES} == sound.frames_sent
    assert set(received) < set(all_there)


@pytest.mark.parametrize(("selection", "is_meant"), SELECTIONS)
def test_a_rate_of_one_loses_the_whole_selection_until_the_rate_is_0(
    simulator: Simulator, clock: VirtualClock, dial: Dial, selection: dict[str, Any], is_meant: Callable[..., bool]
) -> None:
    harmed, sound = two_alike(simulator, dial, *TYPES)
    simulator.faults.lose(1, connection=1, **selection)
    clock.advance(3)
    whole = texts(simulator, sound)
    assert texts(simulator, harmed) == [text for text in whole if not is_meant(decode(text))]
    assert sum(simulator.frames_lost.values()) == sum(is_meant(decode(text)) for text in whole)
    simulator.faults.lose(0, connection=1)
    clock.advance(3)
    assert texts(simulator, harmed) == texts(simulator, sound)


def test_losses_reach_connections_to_come_unless_one_is_named(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    two_alike(simulator, dial, "trade")
    simulator.faults.lose(1.0, connection=2)
    sound = dial(simulator.url)
    sound.hello("trade", symbol_id=BOTH)
    clock.advance(2)
    assert drain(simulator, sound) != []
    simulator.faults.lose(1.0)
    late = dial(simulator.url)
    late.hello("trade", symbol_id=BOTH)
    clock.advance(2)
    assert drain(simulator, sound) == drain(simulator, late) == []


def test_heartbeats_are_no_market_data_and_are_not_lost(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    simulator.faults.lose(1.0)
    peer.hello("trade", symbol_id=BOTH, heartbeat=True)
    clock.advance(3)
    assert [m["type"] for m in drain(simulator, peer)] == ["hearbeat"] * 3
    assert simulator.frames_lost["trade"] > 5


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
    assert drain(simulator, peer) == []
    clock.advance(10)
    messages = drain(simulator, peer)
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
    drain(simulator, peer)
    peer.hello("book", symbol_id=BOTH)
    clock.advance(5)
    messages = drain(simulator, peer)
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
    before = drain(simulator, peer)
    assert before
    assert not any(m["is_snapshot"] for m in before)
    end(simulator.faults)
    clock.advance(3)
    after = drain(simulator, peer)
    assert [m["is_snapshot"] for m in after[:3]].count(True) == 1
    other = dial(simulator.url)
    other.hello("book", symbol_id=[BTC + "$"])
    assert [(m["sequence"], m["is_snapshot"]) for m in drain(simulator, other)] == [(1, True)]


# Frames of the scope before.


@pytest.mark.parametrize("count", [1, 5])
def test_stale_frames_of_what_left_the_scope_come_so_often_and_no_more(
    simulator: Simulator, clock: VirtualClock, dial: Dial, count: int
) -> None:
    peer, sound = two_alike(simulator, dial, *TYPES)
    simulator.faults.stale_frames(count, connection=1)
    clock.advance(3)
    assert texts(simulator, peer) == texts(simulator, sound)
    peer.hello(*TYPES, symbol_id=[ADA + "$"])
    clock.advance(5)
    received, whole = drain(simulator, peer), drain(simulator, sound)
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
        messages = [m for m in drain(simulator, peer) if m["symbol_id"] == BTC]
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
    drain(simulator, peer)
    peer.unsubscribe("quote")
    clock.advance(5)
    assert [m["type"] for m in drain(simulator, peer)].count("quote") == 2
    peer.unsubscribe("trade")
    clock.advance(5)
    assert [m["type"] for m in drain(simulator, peer)] == ["trade", "trade"]
    # The same once more changes nothing.
    peer.unsubscribe("trade")
    clock.advance(5)
    assert drain(simulator, peer) == []


@pytest.mark.parametrize("end", [lambda faults: faults.clear(), lambda faults: faults.stale_frames(0)])
def test_an_end_to_stale_frames_holds_at_once(
    simulator: Simulator, clock: VirtualClock, dial: Dial, end: Callable[[Any], None]
) -> None:
    simulator.faults.stale_frames(1_000_000)
    peer = dial(simulator.url)
    peer.hello("trade", symbol_id=BOTH)
    peer.hello("trade", symbol_id=[ADA + "$"])
    clock.advance(3)
    assert BTC in {m["symbol_id"] for m in drain(simulator, peer)}
    end(simulator.faults)
    clock.advance(3)
    assert {m["symbol_id"] for m in drain(simulator, peer)} == {ADA}


# A recording.


def recorded(number: int, kind: str, symbol_id: str) -> str:
    return json.dumps({"symbol_id": symbol_id, "sequence": number, "is_snapshot": number == 1, "type": kind})


RECORDED = [recorded(n, kind, BTC) for n in range(1, 21) for kind in ("book", "trade")]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "frames.jsonl"
    with RecordingWriter(path) as writer:
        for n, text in enumerate(RECORDED):
            writer.write(text, n * 100_000_000)
    return path


@pytest.mark.parametrize("speed", [1.0, None])
@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda f: f.skip_sequence(2, types=["book"]), [t for n, t in enumerate(RECORDED) if n not in (0, 2)]),
        (lambda f: f.repeat_sequence(2, symbol_ids=[BTC]), [t for t in RECORDED[:2] for _ in "12"] + RECORDED[2:]),
        (lambda f: f.lose(1.0, types=["trade"]), RECORDED[::2]),
    ],
)
def test_a_recording_is_harmed_the_same_way(
    recording: Path,
    clock: VirtualClock,
    dial: Dial,
    speed: float | None,
    act: Callable[[Any], Any],
    expected: list[str],
) -> None:
    with Simulator(recording=recording, clock=clock, speed=speed) as simulator:
        peer = dial(simulator.url)
        simulator.settle()
        act(simulator.faults)
        peer.hello("book", "trade", symbol_id=[BTC])
        clock.advance(10)
        assert peer.rest_until_closed() == expected
        assert sum(simulator.frames_sent.values()) == len(expected)
        assert sum(simulator.frames_lost.values()) == max(0, len(RECORDED) - len(expected))


def test_chance_in_a_recording_is_the_same_for_the_same_seed(recording: Path, dial: Dial) -> None:
    runs = []
    for seed in (1, 1, 2):
        with Simulator(seed=seed, recording=recording, speed=None, clock=VirtualClock()) as simulator:
            simulator.faults.lose(0.5)
            peer = dial(simulator.url)
            peer.hello("book", "trade", symbol_id=[BTC])
            runs.append(peer.rest_until_closed())
    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0]) < set(RECORDED)


@pytest.mark.parametrize("fault", ["deltas_first", "stale_frames"])
def test_what_a_recording_cannot_do_is_refused(recording: Path, fault: str) -> None:
    with Simulator(recording=recording) as simulator:
        with pytest.raises(ValueError, match="for the synthetic market; a recording has an order of its own"):
            getattr(simulator.faults, fault)()
        with pytest.raises(ValueError, match=r"timeline\[0\]: .*for the synthetic market"):
            Simulator(recording=recording, timeline=[{"at": 0, "do": fault}])


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda f: f.skip_sequence(0), "count must be 1 or more"),
        (lambda f: f.repeat_sequence(-1), "count must be 1 or more"),
        (lambda f: f.skip_sequence(types=["books"]), "unknown types: books; there are book5, "),
        (lambda f: f.repeat_sequence(types="book"), "types must be a list of names, not one name"),
        (lambda f: f.lose(0.1, symbol_ids=BTC), "symbol_ids must be a list of names, not one name"),
        (lambda f: f.lose(1.01), "rate must be between 0 and 1"),
        (lambda f: f.lose(-0.01), "rate must be between 0 and 1"),
        (lambda f: f.lose(float("nan")), "rate must be between 0 and 1"),
        (lambda f: f.deltas_first(-1), "count must be 0 or more"),
        (lambda f: f.stale_frames(-1), "count must be 0 or more"),
        (lambda f: f.skip_sequence(connection=0), "connection must be 1 or more"),
        (lambda f: f.lose(0.5, connection=0), "connection must be 1 or more"),
    ],
)
def test_values_that_make_no_sense_are_refused(simulator: Simulator, act: Callable[[Any], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        act(simulator.faults)


# What a program with our own client sees.


def stream_to(simulator: Simulator, key: str, *subscriptions: Subscription) -> Stream:
    return connect(key, *subscriptions, endpoint=simulator.url, request_heartbeats=False)


def read(stream: Stream, simulator: Simulator) -> list[Any]:
    """All items that the simulator has sent so far."""
    simulator.faults.unknown_type("that_was_all")
    return list(iter(lambda: what_matters(stream.recv(timeout=10)), None))


def what_matters(item: Any) -> Any:
    return None if getattr(item, "type", None) == "that_was_all" else item


def test_our_client_tells_of_a_lost_delta_and_of_one_that_came_twice(
    simulator: Simulator, clock: VirtualClock, canary_key: str
) -> None:
    with stream_to(simulator, canary_key, Subscription(["book", "trade"], symbol_ids=[BTC + "$"])) as stream:
        clock.advance(1)
        number = simulator.frames_sent["book"]
        simulator.faults.skip_sequence(2, types=["book"])
        simulator.faults.skip_sequence(1, types=["trade"])
        clock.advance(2)
        lost_at = simulator.frames_sent["book"] + 2
        simulator.faults.repeat_sequence(1, types=["book"])
        clock.advance(2)
        items = read(stream, simulator)
        gaps = [item for item in items if isinstance(item, SequenceGap)]
        assert gaps == [
            SequenceGap(type="book", symbol_id=BTC, expected=number + 1, received=number + 3),
            SequenceGap(type="book", symbol_id=BTC, expected=lost_at + 2, received=lost_at + 1),
        ]
        # A gap stands right before the message that shows it.
        after = items[items.index(gaps[0]) + 1]
        assert (after.type, after.sequence) == ("book", number + 3)
        assert stream.stats().jumps == {"book": 2, "trade": 1}


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
