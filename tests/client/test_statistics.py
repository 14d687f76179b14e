"""What the client counts: messages and bytes by type, rate, latency, gaps."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from builders import asset, heartbeat, ns, trade

from coinapi_ws import ConnectionGap, Live, Message, Scope, SequenceGap, Trade, Undecodable
from coinapi_ws.client.statistics import Latency, Statistics
from coinapi_ws.protocol.frames import Frame, Frames, FrameType
from coinapi_ws.protocol.session import SessionStats

SECOND = 1_000_000_000


def frame(type_name: str, length: int = 10, received_ns: int = 0) -> Frames:
    frame_type = FrameType(type_name, quick=None, following=None, is_delta=False, wanted=None)
    return Frames(received_ns, [frame_type], ["x" * length])


def late(seconds: float, received_ns: int = ns(0)) -> Trade:
    """A trade that came so late."""
    made = trade(-int(seconds * SECOND) // 100 + (received_ns - ns(0)) // 100)
    return Trade(symbol_id=made.symbol_id, time_coinapi=made.time_coinapi, received_ns=received_ns)


def test_messages_and_bytes_are_counted_by_type() -> None:
    counted = Statistics()
    bad = Undecodable(reason="binary", received_ns=3, payload=b"12345")
    first = [Live(received_ns=1), frame("trade", 10), frame("trade", 20), bad]
    assert counted.receive(first, 0.0) == ({"trade": 2, "undecodable": 1}, 35)
    assert counted.receive([frame("heartbeat", 7), frame("trade", 1)], 0.0) == ({"heartbeat": 1, "trade": 1}, 8)
    assert counted.messages == {"trade": 3, "undecodable": 1, "heartbeat": 1}
    assert counted.bytes == {"trade": 31, "undecodable": 5, "heartbeat": 7}


def test_a_frame_that_turned_out_to_be_no_message_is_undecodable() -> None:
    counted = Statistics()
    bad = Undecodable(reason="no JSON", received_ns=3, payload="}")
    assert counted.receive([Frame("}", 3, bad)], 0.0) == ({"undecodable": 1}, 1)


def test_events_alone_are_no_messages() -> None:
    counted = Statistics()
    assert counted.receive([Live(received_ns=1)], 0.0) == ({}, 0)
    assert counted.last_received_ns is None
    assert counted.rate(1.0) == 0


def test_when_the_last_message_came() -> None:
    counted = Statistics()
    counted.receive([frame("trade", received_ns=5), frame("trade", received_ns=6), Live(received_ns=9)], 0.0)
    assert counted.last_received_ns == 6


def test_the_rate_is_that_of_the_last_ten_full_seconds() -> None:
    counted = Statistics()
    for second in range(100, 200):
        for part in (0.0, 0.25, 0.99):
            counted.receive([frame("trade")] * 4, second + part)
    assert counted.rate(199.99) == 12.0  # the second that is not over does not count
    assert counted.rate(200.0) == 12.0
    assert counted.rate(205.5) == 6.0
    assert counted.rate(209.9) == 1.2
    assert counted.rate(210.0) == 0.0


def test_the_rate_of_messages_that_come_seldom() -> None:
    counted = Statistics()
    for second in (0, 7, 14):
        counted.receive([frame("trade")] * 10, float(second))
    assert counted.rate(15.0) == 2.0
    assert counted.rate(20.0) == 1.0


def test_the_memory_of_the_rate_is_bounded() -> None:
    counted = Statistics()
    for second in range(10_000):
        counted.receive([frame("trade")], float(second))
    assert len(counted._seconds) < 20


def test_gaps_are_counted_by_class() -> None:
    counted = Statistics()
    gap = SequenceGap(type="book", symbol_id="X", expected=1, received=3)
    cut = ConnectionGap(from_ns=None, to_ns=None, reason="", scope=Scope())
    counted.deliver([gap, trade(1), cut, gap])
    counted.deliver([gap])
    assert counted.gaps == {"SequenceGap": 3, "ConnectionGap": 1}


class Yielding(dict[str, int]):
    """Lets the other thread run between a look and what follows from it."""

    def get(self, *arguments: Any) -> Any:
        found = super().get(*arguments)
        time.sleep(0)
        return found


def test_two_threads_may_count_gaps() -> None:
    """The I/O thread decodes what ends a gap, while the dispatcher is still at what came before."""
    counted, begin = Statistics(), threading.Barrier(2)
    counted.gaps = Yielding()
    gap = SequenceGap(type="book", symbol_id="X", expected=1, received=3)

    def deliver() -> None:
        begin.wait()
        for _ in range(1000):
            counted.deliver([gap])

    threads = [threading.Thread(target=deliver) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.gaps == {"SequenceGap": 2000}


class Session:
    """What counts, and goes on counting for as long as its frames are being decoded."""

    def __init__(self, surplus: int, **jumps: int) -> None:
        self.counts = SessionStats(
            messages=9, bytes=9, surplus=surplus, jumps={("book", name): count for name, count in jumps.items()}
        )

    def stats(self) -> SessionStats:
        return self.counts


def test_sessions_are_added_up_once_they_are_gone_and_decoded() -> None:
    counted = Statistics()
    first, second, current = Session(2, A=1), Session(3, A=4, B=5), Session(10)
    for session in (first, second, current):
        counted.begin_session(session)
    for session in (first, second, first):
        counted.end_session(session)
    second.counts = Session(4, A=4, B=6).counts
    assert counted.of_sessions() == (16, {("book", "A"): 5, ("book", "B"): 6})
    counted.end_session(second)
    assert counted.of_sessions() == (16, {("book", "A"): 5, ("book", "B"): 6})
    assert (counted.surplus, counted.jumps) == (6, {("book", "A"): 5, ("book", "B"): 6})


def test_no_count_shrinks_while_a_session_is_added() -> None:
    counted, begin, done = Statistics(), threading.Barrier(2), threading.Event()
    seen: list[tuple[int, int]] = []

    def look() -> None:
        begin.wait()
        while not done.is_set():
            surplus, jumps = counted.of_sessions()
            seen.append((surplus, sum(jumps.values())))

    looker = threading.Thread(target=look)
    looker.start()
    begin.wait()
    for _ in range(500):
        session = Session(3, A=1, B=2)
        counted.begin_session(session)
        counted.end_session(session)
        time.sleep(0)
        counted.end_session(session)
    done.set()
    looker.join()
    assert seen == sorted(seen)
    assert counted.of_sessions() == (1500, {("book", "A"): 500, ("book", "B"): 1000})


def test_two_sessions_are_not_added_at_once() -> None:
    counted, could_look = Statistics(), []

    class Last(Session):
        def stats(self) -> SessionStats:
            other = threading.Thread(target=lambda: could_look.append(counted._lock.acquire(blocking=False)))
            other.start()
            other.join()
            return self.counts

    session = Last(2)
    counted.begin_session(session)
    counted.end_session(session)
    counted.end_session(session)
    assert (could_look, counted.surplus) == ([False], 2)


def test_latency_is_from_time_coinapi_to_the_arrival() -> None:
    counted = Statistics()
    assert counted.latency(ns(0)) is None
    counted.deliver([late(0.25)])
    assert counted.latency(ns(0)) == Latency(p50=0.25, p99=0.25, max=0.25, count=1)


def test_the_first_message_of_a_read_is_its_oldest_and_counts_for_it() -> None:
    counted = Statistics()
    counted.deliver([Live(received_ns=0), heartbeat(), late(0.5), late(0.1), late(0.9)])
    assert counted.latency(ns(0)) == Latency(p50=0.5, p99=0.5, max=0.5, count=1)


@pytest.mark.parametrize("first", [asset(), Trade(received_ns=5)])
def test_what_has_no_time_has_no_latency(first: Message) -> None:
    counted = Statistics()
    counted.deliver([first, late(0.5)])
    assert counted.latency(ns(0)) is None


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    counted = Statistics()
    for hundredth in sorted(range(1, 101), key=lambda number: number * 37 % 101):
        counted.deliver([late(hundredth / 100)])
    assert counted.latency(ns(0)) == Latency(p50=0.5, p99=0.99, max=1.0, count=100)


@pytest.mark.parametrize(("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (3, 2, 3), (10, 5, 10), (200, 100, 198)])
def test_few_messages_have_percentiles_too(count: int, p50: int, p99: int) -> None:
    counted = Statistics()
    for number in range(1, count + 1):
        counted.deliver([late(float(number))])
    assert counted.latency(ns(0)) == Latency(p50=float(p50), p99=float(p99), max=float(count), count=count)


def test_latency_is_of_the_last_minute() -> None:
    counted = Statistics()
    start = ns(0)
    for second in range(100):
        counted.deliver([late(float(second), start + second * SECOND)])
    latency = counted.latency(start + 100 * SECOND)
    assert latency is not None
    assert (latency.count, latency.max) == (60, 99.0)
    assert latency.p50 == 69.0
    assert counted.latency(start + 160 * SECOND) is None


def test_the_memory_of_latencies_is_bounded_and_keeps_the_newest() -> None:
    counted = Statistics()
    for number in range(5000):
        counted.deliver([late(1.0 if number < 904 else 0.5)])
    latency = counted.latency(ns(0))
    assert latency is not None
    assert (latency.count, latency.max) == (4096, 0.5)


def test_types_that_the_server_makes_up_do_not_fill_the_memory() -> None:
    counted = Statistics()
    counted.receive([frame("trade")], 0.0)
    for number in range(5000):
        counted.receive([frame(f"type{number}"), frame("trade")], 0.0)
    assert counted.messages["trade"] == 5001
    assert len(counted.messages) == len(counted.bytes) <= 1001
    assert sum(counted.messages.values()) == 10_001
    assert counted.bytes["other"] == 10 * counted.messages["other"] > 10
