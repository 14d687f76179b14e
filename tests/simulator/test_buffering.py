"""A client that does not read: what waits for it, when the simulator gives it up, and that nobody else notices."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

from coinapi_ws import Cause, ErrorMessage, ServerRejected, Subscription, connect
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Faults, Simulator, VirtualClock

Dial = Callable[..., Any]

BTC = "COINBASE_SPOT_BTC_USD"
OVERFLOW = "Reached maximum allowed buffered messages for this connection."
#: The most that a system is expected to take from the simulator for a client that reads nothing.
SYSTEM_BYTES = 12 * 1024 * 1024


class Sleeper:
    """A client of websocket-client with a small receive buffer, which reads only when it is told to."""

    def __init__(self, url: str, *data_types: str, symbol_ids: list[str] | None = None) -> None:
        small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]
        self.socket = websocket.create_connection(url, sockopt=small, timeout=10, skip_utf8_validation=True)
        hello: dict[str, Any] = {"type": "hello", "subscribe_data_type": list(data_types)}
        if symbol_ids is not None:
            hello["subscribe_filter_symbol_id"] = symbol_ids
        self.socket.send(json.dumps(hello))

    def wake(self) -> tuple[list[dict[str, Any]], int | None]:
        """All that comes until the end, and the code of the Close if there was one."""
        messages = []
        while True:
            try:
                opcode, payload = self.socket.recv_data(control_frame=True)
            except (websocket.WebSocketConnectionClosedException, ConnectionError):
                return messages, None
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return messages, int.from_bytes(payload[:2], "big")
            messages.append(json.loads(payload))


@contextmanager
def asleep(simulator: Simulator, *data_types: str, symbol_ids: list[str] | None = None) -> Iterator[Sleeper]:
    sleeper = Sleeper(simulator.url, *data_types, symbol_ids=symbol_ids)
    simulator.settle()
    try:
        yield sleeper
    finally:
        sleeper.socket.shutdown()


def until_given_up(simulator: Simulator, clock: VirtualClock, others: int = 0) -> float:
    """Let time pass until the sleeper is given up; return how long it took."""
    began = clock.now()
    while simulator.connections > others:
        clock.advance(1)
        assert clock.now() - began < 3600, "a client that does not read is never given up"
    return clock.now() - began


def test_who_does_not_read_gets_the_vendor_s_error_once_it_reads_and_loses_what_waited(
    clock: VirtualClock, shared: Path
) -> None:
    samples = (shared / "recordings" / "sample_frames.jsonl").read_text("utf-8").splitlines()
    assert OVERFLOW in [json.loads(json.loads(line)["frame"]).get("message") for line in samples]
    with Simulator(seed=1, clock=clock, buffer_limit=500) as simulator:
        simulator.set_activity(50)
        with asleep(simulator, "trade", "quote") as sleeper:
            until_given_up(simulator, clock)
            messages, code = sleeper.wake()
        assert messages[-1] == {"type": "error", "message": OVERFLOW}
        assert code == 1008
        sent = simulator.frames_sent
        assert sent.pop("error") == 1
        # The limit's worth of messages, and the one too much, were dropped; those before had left already.
        lost = sum(sent.values()) - (len(messages) - 1)
        assert 500 < lost <= 500 + 10  # one event of the market is at most a few messages
        for kind in ("trade", "quote"):
            of_btc = [m["sequence"] for m in messages if m["type"] == kind and m["symbol_id"] == BTC]
            assert of_btc == list(range(1, len(of_btc) + 1))


def test_the_others_go_on_undisturbed(dial: Dial) -> None:
    seen = []
    for with_sleeper in (False, True):
        clock = VirtualClock()
        with Simulator(seed=1, clock=clock, buffer_limit=100) as simulator, ExitStack() as stack:
            peer = dial(simulator.url)
            peer.hello("trade", "book5", symbol_id=[BTC + "$"])
            if with_sleeper:
                stack.enter_context(asleep(simulator, "book50", "book20", "quote", symbol_ids=[""]))
            messages = []
            for _ in range(300):
                clock.advance(1)
                messages += peer.drain(simulator)
            seen.append(messages)
            assert simulator.connections == 1
            assert simulator.frames_sent.get("error", 0) == with_sleeper
    assert len(seen[0]) > 1000
    assert seen[0] == seen[1]


def test_exactly_the_limit_may_wait(clock: VirtualClock, tmp_path: Path) -> None:
    # One message that fills all that the system takes, and then small ones that wait in the simulator.
    path = tmp_path / "full.jsonl"
    with RecordingWriter(path) as writer:
        writer.write(json.dumps({"filling": "x" * SYSTEM_BYTES, "type": "trade"}), 1)
        for n in range(1, 12):
            writer.write(f'{{"n":{n},"type":"trade"}}', 1 + n * 1_000_000_000)
    with (
        Simulator(clock=clock, recording=path, buffer_limit=10) as simulator,
        asleep(simulator, "trade") as sleeper,
    ):
        clock.advance(10.5)
        assert simulator.connections == 1
        clock.advance(0.5)
        assert simulator.connections == 0
        messages, code = sleeper.wake()
        # What had begun to be sent comes whole.
        assert [m["type"] for m in messages] == ["trade", "error"]
        assert (len(messages[0]["filling"]), messages[1]["message"], code) == (SYSTEM_BYTES, OVERFLOW, 1008)


def test_who_wakes_in_time_loses_nothing(clock: VirtualClock, tmp_path: Path) -> None:
    path = tmp_path / "full.jsonl"
    with RecordingWriter(path) as writer:
        writer.write(json.dumps({"filling": "x" * SYSTEM_BYTES, "type": "trade"}), 1)
        for n in range(1, 12):
            writer.write(f'{{"n":{n},"type":"trade"}}', 1 + n * 1_000_000_000)
    with (
        Simulator(clock=clock, recording=path, buffer_limit=10) as simulator,
        asleep(simulator, "trade") as sleeper,
    ):
        clock.advance(10.5)
        assert "filling" in json.loads(sleeper.socket.recv())
        assert [json.loads(sleeper.socket.recv())["n"] for _ in range(10)] == list(range(1, 11))
        clock.advance(0.5)
        assert sleeper.wake() == ([{"n": 11, "type": "trade"}], 1000)


def test_a_recording_without_a_pace_waits_for_its_reader_and_ends_whole(clock: VirtualClock, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with RecordingWriter(path) as writer:
        for n in range(20_000):
            writer.write(json.dumps({"n": n, "filling": "x" * 500, "type": "trade"}), n)
    with (
        Simulator(clock=clock, recording=path, speed=None, buffer_limit=1000) as simulator,
        asleep(simulator, "trade") as sleeper,
    ):
        clock.advance(50)  # longer than a Close may take
        assert simulator.frames_sent["trade"] < 20_000
        messages, code = sleeper.wake()
        assert [m["n"] for m in messages] == list(range(20_000))
        assert code == 1000


def test_what_waits_is_131_072_messages_unless_told_otherwise(clock: VirtualClock, tmp_path: Path) -> None:
    path = tmp_path / "full.jsonl"
    with RecordingWriter(path) as writer:
        writer.write(json.dumps({"filling": "x" * SYSTEM_BYTES, "type": "trade"}), 1)
        for n in range(131_073):
            writer.write('{"type":"trade"}', 1_000_000_001 + n * 1000)
    with Simulator(clock=clock, recording=path) as simulator, asleep(simulator, "trade"):
        clock.advance(1 + 131_071e-6)
        assert simulator.frames_sent["trade"] == 131_073
        assert simulator.connections == 1
        clock.advance(1e-6)
        assert simulator.frames_sent == {"trade": 131_074, "error": 1}
        assert simulator.connections == 0


def test_memory_stays_bounded_over_a_long_time(clock: VirtualClock, tmp_path: Path) -> None:
    path = tmp_path / "a_second.jsonl"
    with RecordingWriter(path) as writer:
        for n in range(1000):
            # A hundred at a time, so that they are copied into one piece.
            writer.write(json.dumps({"n": n, "filling": "x" * 1000, "type": "trade"}), 1 + n // 100 * 100_000_000)
    peaks = []
    for limit in (1000, 4000):
        with (
            Simulator(clock=clock, recording=path, loop=True, buffer_limit=limit) as simulator,
            asleep(simulator, "trade"),
        ):
            clock.advance(0.05)  # what is made once has been made
            tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
            tracemalloc.start()
            try:
                for _ in range(1000):
                    clock.advance(0.1)
                after, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            # It was given up on the way, and what waited was let go.
            assert simulator.frames_sent["error"] == 1
            assert after < 400_000
            peaks.append(peak)
    # So many messages of a kilobyte may wait, and what the socket was given at once.
    assert 1_000_000 < peaks[0] < 2_000_000
    assert 4_000_000 < peaks[1] < 5_000_000


@pytest.mark.parametrize(
    "slow_down", [lambda f: f.delay(0.5), lambda f: f.split(1000, interval=0.1)], ids=["delay", "split"]
)
def test_a_slow_line_does_not_hide_that_nobody_reads(clock: VirtualClock, slow_down: Callable[[Faults], None]) -> None:
    with (
        Simulator(seed=1, clock=clock, buffer_limit=500) as simulator,
        asleep(simulator, "trade", "quote", "book50", symbol_ids=[BTC]),
    ):
        slow_down(simulator.faults)
        simulator.set_activity(50)
        until_given_up(simulator, clock)
        assert simulator.frames_sent["error"] == 1
        assert clock.now() < 60  # it was not the missing Pong


def test_many_sleepers_are_all_given_up(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(seed=1, clock=clock, buffer_limit=100) as simulator:
        simulator.set_activity(50)
        sleepers = [Sleeper(simulator.url, "trade", "quote", symbol_ids=[BTC]) for _ in range(10)]
        try:
            simulator.settle()
            assert simulator.connections == 10
            until_given_up(simulator, clock)
            assert simulator.frames_sent["error"] == 10
        finally:
            for sleeper in sleepers:
                sleeper.socket.shutdown()


def test_the_socket_of_who_never_reads_is_closed_in_the_end(clock: VirtualClock) -> None:
    with Simulator(seed=1, clock=clock, buffer_limit=100) as simulator:
        simulator.set_activity(50)
        with asleep(simulator, "trade", "quote"):
            (served,) = simulator._engine.clients
            until_given_up(simulator, clock)
            clock.advance(9)
            assert served.fileno() != -1  # it may still begin to read
            for _ in range(20):
                clock.advance(1)
            assert served.fileno() == -1


def test_our_client_calls_it_an_overflow(clock: VirtualClock, tmp_path: Path, canary_key: str) -> None:
    path = tmp_path / "full.jsonl"
    with RecordingWriter(path) as writer:
        writer.write(json.dumps({"filling": "x" * SYSTEM_BYTES, "type": "trade"}), 1)
        for n in range(1, 12):
            writer.write(f'{{"n":{n},"type":"trade"}}', 1 + n * 1_000_000_000)
    with (
        Simulator(clock=clock, recording=path, buffer_limit=10) as simulator,
        connect(
            canary_key, Subscription(["trade"], everything=True), endpoint=simulator.url, pacer=SharedPacer()
        ) as stream,
    ):
        simulator.settle()
        clock.advance(20)  # meanwhile the program does something else
        last = None
        with pytest.raises(ServerRejected, match="maximum allowed buffered messages"):
            for last in stream:  # noqa: B007
                pass
        assert isinstance(last, ErrorMessage)
        assert stream.disconnected is not None
        assert (stream.disconnected.cause, stream.disconnected.code) == (Cause.OVERFLOW, 1008)
        assert stream.disconnected.server_text == OVERFLOW


@pytest.mark.parametrize("value", [0, -1])
def test_a_buffer_for_nothing_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="buffer_limit"):
        Simulator(buffer_limit=value)
