"""More than a client takes, or than a moment has room for: memory stays bounded, and nobody else waits for it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from raw_client import REQUEST, Frame, RawClient
from websocket_peer import CLOSE, PING, PONG, TEXT

from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Faults, Simulator, VirtualClock

T = TypeVar("T")
Record = Callable[..., Path]

PATIENCE_SECONDS = 10.0
MEGABYTE = 1024 * 1024
#: More than any system takes from the simulator for a client that reads nothing.
LARGE_BYTES = 16 * MEGABYTE
OVERFLOW = "Reached maximum allowed buffered messages for this connection."


def within_patience(act: Callable[[], T]) -> T:
    """Do this on a thread, so that a call that never returns fails the test."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(act())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive(), "a call did not return"
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def reading(client: RawClient) -> Iterator[threading.Event]:
    """Let a client read as fast as it can; the event says that its connection ended."""
    ended = threading.Event()

    def run() -> None:
        try:
            while client.socket.recv(MEGABYTE):
                pass
        except OSError:
            pass
        ended.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        with suppress(OSError):
            client.socket.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Write trades to a file, so many seconds apart, and return its path."""

    def write(count: int, *, apart: float = 0.0, padding: int = 100) -> Path:
        path = tmp_path / "frames.jsonl"
        with RecordingWriter(path) as writer:
            for n in range(count):
                text = json.dumps({"symbol_id": "A_SPOT_B_C", "sequence": n, "pad": "x" * padding, "type": "trade"})
                writer.write(text, round(n * apart * 1e9))
        return path

    return write


def sent(simulator: Simulator) -> int:
    return sum(simulator.frames_sent.values())


def trades(client: RawClient, count: int) -> list[int]:
    return [json.loads(client.text())["sequence"] for _ in range(count)]


def closed(client: RawClient) -> int:
    """Answer the Close that comes next, after which TCP ends, and return its code."""
    last = client.frame()
    assert last.opcode == CLOSE
    client.send(CLOSE, last.payload)
    assert client.rest() == b""
    return int.from_bytes(last.payload[:2], "big")


# A recording faster than time or the client.


def test_a_delayed_recording_without_pace_does_not_pile_up(clock: VirtualClock, record: Record) -> None:
    with Simulator(recording=record(1000), speed=None, loop=True, clock=clock) as simulator:
        simulator.faults.delay(1.0)
        with RawClient(simulator.port) as client:
            client.ask()
            within_patience(lambda: clock.advance(1))
            client.head()
            client.hello("trade")
            within_patience(simulator.settle)
            # What waits is a quarter of a megabyte at most, and one more helping.
            assert 0 < sent(simulator) < MEGABYTE / 100
            assert client.at_hand() == b""
            within_patience(simulator.faults.clear)
            assert trades(client, 20_000) == [n % 1000 for n in range(20_000)]


@pytest.mark.parametrize(
    ("count", "apart", "speed"), [(1, 0.0, 1.0), (1, 0.0, None), (1000, 0.001, 1e7)], ids=["one", "any", "fast"]
)
def test_a_loop_that_takes_no_time_leaves_time_for_calls(
    record: Record, count: int, apart: float, speed: float | None
) -> None:
    simulator = Simulator(recording=record(count, apart=apart), loop=True, speed=speed)
    with simulator, RawClient(simulator.port).upgrade() as client:
        client.hello("trade")
        assert trades(client, 2) == [0, 1 % count]
        with reading(client) as ended:
            assert within_patience(lambda: simulator.faults.send_text("a word")) == 1
            within_patience(simulator.faults.clear)
            with RawClient(simulator.port) as other:
                within_patience(other.upgrade)
            within_patience(simulator.close)
            assert ended.wait(PATIENCE_SECONDS)


def test_close_does_not_wait_for_the_end_of_a_long_advance(clock: VirtualClock) -> None:
    simulator = Simulator(clock=clock, activity=100)
    with simulator, RawClient(simulator.port).upgrade() as client:
        client.hello("trade", "quote")
        simulator.settle()
        advance = threading.Thread(target=lambda: clock.advance(36_000), daemon=True)
        advance.start()
        client.text()  # comes while the clock is on its way
        with reading(client) as ended:
            within_patience(simulator.close)
            assert ended.wait(PATIENCE_SECONDS)
            advance.join(PATIENCE_SECONDS)
            assert not advance.is_alive()


def test_a_loop_of_which_all_was_lost_goes_on_once_nothing_is(record: Record) -> None:
    simulator = Simulator(recording=record(10), speed=None, loop=True)
    with simulator, RawClient(simulator.port).upgrade() as client:
        simulator.faults.lose(1.0)
        client.hello("trade")
        within_patience(lambda: client.ping())
        assert sent(simulator) == 0
        within_patience(simulator.faults.clear)
        first = trades(client, 1)[0]
        assert trades(client, 100) == [(first + 1 + n) % 10 for n in range(100)]


def test_a_loop_of_which_all_is_lost_keeps_nobody_waiting_in_virtual_time(clock: VirtualClock, record: Record) -> None:
    simulator = Simulator(recording=record(10), speed=None, loop=True, clock=clock)
    with simulator, RawClient(simulator.port).upgrade() as client:
        simulator.faults.lose(1.0)
        client.hello("trade")
        within_patience(simulator.settle)
        assert client.ping() == []
        with RawClient(simulator.port) as other:
            other.upgrade()
        within_patience(simulator.faults.clear)
        within_patience(lambda: clock.advance(1))
        assert len(trades(client, 100)) == 100


def test_a_time_line_ends_the_loss_of_a_whole_loop(clock: VirtualClock, record: Record) -> None:
    timeline = [{"at": 0, "do": "lose", "rate": 1}, {"at": 1, "do": "clear"}]
    simulator = Simulator(recording=record(10), speed=None, loop=True, clock=clock, timeline=timeline)
    with simulator, RawClient(simulator.port).upgrade() as client:
        client.hello("trade")
        within_patience(simulator.settle)
        within_patience(lambda: clock.advance(2))
        assert len(trades(client, 100)) == 100


# A client that is slow, or takes nothing.


def test_a_slow_reader_gets_all_of_a_large_body(clock: VirtualClock) -> None:
    size = 3 * LARGE_BYTES
    with Simulator(clock=clock) as simulator:
        simulator.faults.refuse_upgrades(503, body_size=size)
        with RawClient(simulator.port) as client:
            client.ask()
            assert f"Content-Length: {size}\r\n" in client.head()
            for _ in range(size // (4 * MEGABYTE)):
                clock.advance(5)
                client.exactly(4 * MEGABYTE)
            assert client.rest() == b""


@pytest.mark.parametrize(("seconds", "is_given_up"), [(9.9, False), (10.1, True)])
def test_who_takes_nothing_is_given_up_ten_seconds_after_the_last_progress(
    clock: VirtualClock, seconds: float, is_given_up: bool
) -> None:
    size = 2 * LARGE_BYTES
    with Simulator(clock=clock) as simulator:
        simulator.faults.refuse_upgrades(503, body_size=size)
        with RawClient(simulator.port) as client:
            client.ask()
            client.head()
            simulator.settle()
            clock.advance(6)
            taken = len(client.exactly(8 * MEGABYTE))
            simulator.settle()  # a new progress, now
            clock.advance(seconds)
            taken += len(client.rest())
            assert (taken < size) == is_given_up


def test_a_recording_larger_than_all_buffers_ends_whole(clock: VirtualClock, record: Record) -> None:
    path = record(241, apart=0.05, padding=LARGE_BYTES // 160)
    with Simulator(clock=clock, recording=path) as simulator, RawClient(simulator.port).upgrade() as client:
        client.hello("trade")
        simulator.settle()
        for _ in range(12):
            clock.advance(1)
        assert sent(simulator) == 241
        # From here on it reads a part now and then.
        for start in range(0, 240, 60):
            clock.advance(9)
            assert trades(client, 60) == list(range(start, start + 60))
        assert trades(client, 1) == [240]
        assert closed(client) == 1000


def test_a_recording_that_a_far_jump_ends_is_not_cut_short(clock: VirtualClock, record: Record) -> None:
    path = record(241, apart=0.05, padding=LARGE_BYTES // 160)
    with Simulator(clock=clock, recording=path) as simulator, RawClient(simulator.port).upgrade() as client:
        client.hello("trade")
        clock.advance(3600)
        assert trades(client, 241) == list(range(241))
        assert closed(client) == 1000


def test_what_is_said_in_pieces_is_said_to_the_end(clock: VirtualClock) -> None:
    with Simulator(clock=clock) as simulator, RawClient(simulator.port).upgrade() as client:
        simulator.settle()
        simulator.faults.split(1, interval=0.1)
        simulator.faults.send_text("x" * 200)
        simulator.faults.close(1012)
        for _ in range(30):
            clock.advance(1)
        assert client.text() == "x" * 200
        assert closed(client) == 1012


@pytest.mark.parametrize(
    "behave",
    [lambda faults: faults.split(1, interval=0.1), lambda faults: faults.delay(20)],
    ids=["in pieces", "late"],
)
def test_a_far_jump_brings_all_that_was_due_in_it(clock: VirtualClock, behave: Callable[[Faults], None]) -> None:
    with Simulator(clock=clock) as simulator, RawClient(simulator.port).upgrade() as client:
        simulator.settle()
        behave(simulator.faults)
        simulator.faults.send_text("x" * 200)
        simulator.faults.close(1012)
        clock.advance(3600)
        assert client.text() == "x" * 200
        assert client.frame() == (True, CLOSE, (1012).to_bytes(2, "big"))
        # The Close was not answered in an hour.
        assert client.rest() == b""


def test_a_close_that_is_late_arrives(clock: VirtualClock) -> None:
    with Simulator(clock=clock) as simulator, RawClient(simulator.port).upgrade() as client:
        simulator.settle()
        simulator.faults.delay(20)
        simulator.faults.close(1012)
        clock.advance(19.9)
        assert client.at_hand() == b""
        clock.advance(0.1)
        assert closed(client) == 1012


def test_a_refusal_in_pieces_arrives_whole(clock: VirtualClock) -> None:
    with Simulator(clock=clock) as simulator:
        simulator.faults.split(1, interval=0.1)
        simulator.faults.refuse_upgrades(503, body="y" * 100)
        with RawClient(simulator.port) as client:
            client.ask()
            for _ in range(40):
                clock.advance(1)
            client.head()
            assert client.rest() == b"y" * 100


# In the middle of a large frame.


def test_a_close_in_the_middle_of_a_frame_is_answered_after_it(clock: VirtualClock) -> None:
    with Simulator(clock=clock) as simulator, RawClient(simulator.port).upgrade() as client:
        simulator.settle()
        simulator.faults.oversized_frame(LARGE_BYTES)
        simulator.faults.send_text("not sent any more")
        client.close_frame(1000)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]
        assert client.frame() == (True, TEXT, b"x" * LARGE_BYTES)
        assert client.frame() == (True, CLOSE, (1000).to_bytes(2, "big"))
        assert client.rest() == b""


def test_an_overflow_in_the_middle_of_a_frame_is_told_after_it(clock: VirtualClock) -> None:
    with Simulator(clock=clock, buffer_limit=10) as simulator, RawClient(simulator.port).upgrade() as client:
        client.hello("trade", "quote")
        simulator.settle()
        simulator.faults.oversized_frame(LARGE_BYTES)
        clock.advance(5)
        assert client.frame() == (True, TEXT, b"x" * LARGE_BYTES)
        assert json.loads(client.text()) == {"type": "error", "message": OVERFLOW}
        assert closed(client) == 1008


def test_an_overflow_in_the_middle_of_a_message_lets_it_end(clock: VirtualClock) -> None:
    with Simulator(clock=clock, buffer_limit=10) as simulator, RawClient(simulator.port).upgrade() as client:
        client.hello("trade", "quote")
        simulator.settle()
        simulator.faults.oversized_message(LARGE_BYTES, frame_size=MEGABYTE)
        clock.advance(5)
        parts = [client.frame() for _ in range(16)]
        assert [part.fin for part in parts] == [False] * 15 + [True]
        assert json.loads(client.text()) == {"type": "error", "message": OVERFLOW}
        assert closed(client) == 1008


def test_a_split_frame_that_is_large_leaves_time_for_the_others() -> None:
    with Simulator() as simulator, RawClient(simulator.port).upgrade() as client, reading(client) as ended:
        simulator.settle()
        simulator.faults.split(1, connection=1)
        assert within_patience(lambda: simulator.faults.oversized_frame(8 * MEGABYTE)) == 1
        with RawClient(simulator.port) as other:
            within_patience(other.upgrade)
            other.hello("trade", heartbeat=True)
            assert within_patience(other.text)
            assert within_patience(lambda: simulator.faults.close(1012, connection=2)) == 1
            # Its eight million pieces are still on their way.
            assert not ended.is_set()
        within_patience(simulator.close)


# Control frames.


def test_a_pong_to_an_older_ping_counts(clock: VirtualClock) -> None:
    simulator = Simulator(clock=clock, ping_interval=1, pong_timeout=4)
    with simulator, RawClient(simulator.port).upgrade() as client:
        simulator.settle()
        simulator.faults.delay(2.5)
        answered = 0
        for _ in range(60):
            clock.advance(0.5)
            for payload in pings(client.at_hand()):
                client.send(PONG, payload)
                answered += 1
        simulator.settle()
        assert simulator.open_connections == [1]
        assert simulator.pings_sent == 30
        assert simulator.pongs_received == answered == 27


def test_of_many_pings_of_a_client_that_does_not_read_the_newest_is_answered(clock: VirtualClock) -> None:
    with Simulator(clock=clock) as simulator, RawClient(simulator.port).upgrade() as client:
        simulator.settle()
        simulator.faults.oversized_frame(LARGE_BYTES)
        for n in range(100):
            client.send(PING, b"%d" % n)
            simulator.settle()
        assert client.frame().payload == b"x" * LARGE_BYTES
        assert client.frame() == Frame(True, PONG, b"99")
        assert client.ping(b"and one more") == []


def test_texts_of_a_time_line_that_are_not_read_overflow(clock: VirtualClock) -> None:
    text = "x" * 100_000
    timeline = [{"at": 0, "every": 0.01, "do": "send_text", "text": text}]
    simulator = Simulator(clock=clock, buffer_limit=100, timeline=timeline)
    with simulator, RawClient(simulator.port).upgrade() as client:
        simulator.settle()
        clock.advance(9)
        assert simulator.open_connections == []
        taken = 0
        while (next_text := client.text()) == text:
            taken += 1
        assert taken < 900 - 100
        assert json.loads(next_text) == {"type": "error", "message": OVERFLOW}
        assert closed(client) == 1008


def pings(received: bytes) -> list[bytes]:
    payloads = []
    while received:
        assert received[:2] == bytes([0x80 | PING, 4])
        payloads.append(received[2:6])
        received = received[6:]
    return payloads


# The handshake, the answers to it, and the end.


@pytest.mark.parametrize("end", ["clear", "slow_handshakes"])
def test_a_handshake_waits_no_longer_than_the_fault(clock: VirtualClock, end: str) -> None:
    with Simulator(clock=clock) as simulator:
        simulator.faults.slow_handshakes(30)
        with RawClient(simulator.port) as client:
            client.ask()
            simulator.settle()
            assert client.at_hand() == b""
            within_patience(simulator.faults.clear if end == "clear" else lambda: simulator.faults.slow_handshakes(0))
            assert client.head().startswith("HTTP/1.1 101 ")


def test_a_dropped_connection_counts_once() -> None:
    with Simulator() as simulator, RawClient(simulator.port).upgrade() as client:
        simulator.settle()
        assert [simulator.faults.drop(), simulator.faults.drop(), simulator.faults.drop(reset=True)] == [1, 0, 0]
        assert client.rest() == b""


def test_a_refusal_says_what_would_be_accepted(canary_key: str) -> None:
    with Simulator(api_keys=[canary_key], key_check="upgrade") as simulator:
        for request, status, field in [
            (REQUEST, "401", "WWW-Authenticate"),
            (REQUEST.replace(b"Version: 13", b"Version: 12"), "426", "Upgrade: websocket"),
        ]:
            with RawClient(simulator.port) as client:
                client.socket.sendall(request)
                head = client.head()
            assert head.startswith(f"HTTP/1.1 {status} ")
            assert f"\r\n{field}" in head


# A time line in a far jump.


def test_entries_of_a_time_line_act_at_their_own_times_in_a_far_jump() -> None:
    timeline: list[dict[str, Any]] = [
        {"at": 1, "do": "announce_reconnect", "within_seconds": 50},
        {"at": 3, "do": "delay", "seconds": 10},
        {"at": 4, "do": "unknown_type", "name": "late"},
    ]
    clock = VirtualClock(1_000_000_000_000_000_000)
    with Simulator(clock=clock, timeline=timeline) as simulator, RawClient(simulator.port).upgrade() as client:
        simulator.settle()
        clock.advance(13.5)
        notice = json.loads(client.text())
        # Second 1 of the time line, and fifty more; the epoch's second 1,000,000,000 is 01:46:40.
        assert notice == {"type": "reconnect", "within_seconds": 50, "before_time": "2001-09-09T01:47:31.0000000Z"}
        assert client.at_hand() == b""
        clock.advance(0.5)  # ten seconds after the fourth
        assert json.loads(client.text())["type"] == "late"
        clock.advance(46.9)
        assert client.at_hand() == b""
        clock.advance(0.1)  # fifty seconds after the first, and ten late
        assert closed(client) == 1001


def test_all_that_a_far_jump_brings_comes_in_its_order() -> None:
    clock = VirtualClock()
    timeline = [{"at": n + 1, "do": "send_text", "text": f"{n}"} for n in range(200)]
    simulator = Simulator(clock=clock, timeline=timeline, ping_interval=3600)
    with simulator, RawClient(simulator.port).upgrade() as client:
        simulator.settle()
        clock.advance(200)
        assert [part.payload for part in client.ping()] == [b"%d" % n for n in range(200)]
