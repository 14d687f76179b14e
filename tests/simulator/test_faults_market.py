"""Market data that goes wrong on its way: lost or doubled."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from coinapi_ws import SequenceGap, Stream, Subscription, connect
from coinapi_ws.simulator import Simulator, VirtualClock

BTC = "COINBASE_SPOT_BTC_USD"
ADA = "COINBASE_SPOT_ADA_USD"
BOTH = [BTC + "$", ADA + "$"]
TYPES = ("book", "trade", "quote")

Dial = Callable[..., Any]
Message = dict[str, Any]


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
    first, second = (peer.texts(simulator) for peer in peers)
    assert first == second
    return peers


SELECTIONS = [
    ({}, lambda m: True),
    ({"types": ["trade"]}, lambda m: m["type"] == "trade"),
    ({"symbol_ids": [ADA]}, lambda m: m["symbol_id"] == ADA),
    ({"types": ["book", "quote"], "symbol_ids": [BTC]}, lambda m: m["type"] != "trade" and m["symbol_id"] == BTC),
    ({"types": []}, lambda m: False),
    ({"symbol_ids": ["KRAKEN_SPOT_BTC_USD"]}, lambda m: False),
]


@pytest.mark.parametrize(("selection", "is_meant"), SELECTIONS)
def test_skipping_loses_the_next_messages_of_the_selection_and_no_other(
    simulator: Simulator, clock: VirtualClock, dial: Dial, selection: dict[str, Any], is_meant: Callable[..., bool]
) -> None:
    harmed, sound = two_alike(simulator, dial, *TYPES)
    assert simulator.faults.skip_sequence(3, connection=1, **selection) == 1
    clock.advance(5)
    whole = sound.texts(simulator)
    lost = [n for n, text in enumerate(whole) if is_meant(decode(text))][:3]
    assert harmed.texts(simulator) == [text for n, text in enumerate(whole) if n not in lost]
    assert sum(simulator.frames_lost.values()) == len(lost)


@pytest.mark.parametrize(("selection", "is_meant"), SELECTIONS)
def test_repeating_sends_the_next_messages_of_the_selection_twice(
    simulator: Simulator, clock: VirtualClock, dial: Dial, selection: dict[str, Any], is_meant: Callable[..., bool]
) -> None:
    harmed, sound = two_alike(simulator, dial, *TYPES)
    assert simulator.faults.repeat_sequence(3, connection=1, **selection) == 1
    clock.advance(5)
    whole = sound.texts(simulator)
    doubled = [n for n, text in enumerate(whole) if is_meant(decode(text))][:3]
    expected = [copy for n, text in enumerate(whole) for copy in [text] * (1 + (n in doubled))]
    assert harmed.texts(simulator) == expected
    assert simulator.frames_lost == {}


def test_a_skipped_message_has_taken_its_number(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello("book", "trade", symbol_id=BOTH)
    assert sequences(peer.drain(simulator), "book", BTC) == [1]
    simulator.faults.skip_sequence(2, types=["book"], symbol_ids=[BTC])
    clock.advance(5)
    messages = peer.drain(simulator)
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
    numbers = later.drain(simulator)
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
    messages = peer.drain(simulator)
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
    assert len(peer.drain(simulator)) == 6
    simulator.faults.repeat_sequence(4, types=["exrate"])
    clock.advance(1)
    assert len(peer.drain(simulator)) == 14
    assert simulator.frames_sent == {"exrate": 20}
    assert simulator.frames_lost == {"exrate": 4}


def test_faults_of_several_calls_come_one_after_another(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    harmed, sound = two_alike(simulator, dial, "trade")
    simulator.faults.skip_sequence(1, types=["trade"], connection=1)
    simulator.faults.skip_sequence(1, connection=1)
    # What is lost is not there to be sent twice.
    simulator.faults.repeat_sequence(2, connection=1)
    clock.advance(5)
    whole = sound.texts(simulator)
    assert len(whole) > 5
    assert harmed.texts(simulator) == [whole[2], whole[2], whole[3], whole[3], *whole[4:]]


def test_clear_forgets_what_was_still_to_be_lost_or_doubled(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    harmed, sound = two_alike(simulator, dial, *TYPES)
    simulator.faults.skip_sequence(5, connection=1)
    simulator.faults.repeat_sequence(5, connection=1)
    simulator.faults.lose(1.0, connection=1)
    simulator.faults.clear()
    clock.advance(3)
    assert harmed.texts(simulator) == sound.texts(simulator) != []


# By chance.


def lossy_run(dial: Dial, seed: int, connections: int = 1, **options: Any) -> tuple[list[list[str]], Simulator]:
    clock = VirtualClock()
    with Simulator(seed=seed, clock=clock) as simulator:
        simulator.faults.lose(0.3, **options)
        peers = [dial(simulator.url) for _ in range(connections)]
        for peer in peers:
            peer.hello(*TYPES, symbol_id=BOTH)
        clock.advance(10)
        return [peer.texts(simulator) for peer in peers], simulator


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
    whole = sound.texts(simulator)
    assert harmed.texts(simulator) == [text for text in whole if not is_meant(decode(text))]
    assert sum(simulator.frames_lost.values()) == sum(is_meant(decode(text)) for text in whole)
    simulator.faults.lose(0, connection=1)
    clock.advance(3)
    assert harmed.texts(simulator) == sound.texts(simulator)


def test_losses_reach_connections_to_come_unless_one_is_named(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    two_alike(simulator, dial, "trade")
    simulator.faults.lose(1.0, connection=2)
    sound = dial(simulator.url)
    sound.hello("trade", symbol_id=BOTH)
    clock.advance(2)
    assert sound.drain(simulator) != []
    simulator.faults.lose(1.0)
    late = dial(simulator.url)
    late.hello("trade", symbol_id=BOTH)
    clock.advance(2)
    assert sound.drain(simulator) == late.drain(simulator) == []


def test_heartbeats_are_no_market_data_and_are_not_lost(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    simulator.faults.lose(1.0)
    peer.hello("trade", symbol_id=BOTH, heartbeat=True)
    clock.advance(3)
    assert [m["type"] for m in peer.drain(simulator)] == ["hearbeat"] * 3
    assert simulator.frames_lost["trade"] > 5


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda f: f.skip_sequence(0), "count must be 1 or more"),
        (lambda f: f.repeat_sequence(-1), "count must be 1 or more"),
        (lambda f: f.skip_sequence(types=["books"]), "unknown types: books; there are book5, "),
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
        assert sum(stream.stats().jumps.values()) == 3
        assert stream.stats().jumps["book", BTC] == 2
