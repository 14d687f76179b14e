"""A recording is replayed in its order, byte for byte, filtered, paced, to each client at its own place."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websocket
from websockets.exceptions import ConnectionClosedOK

from coinapi_ws.recording import RecordingError, RecordingWriter, read_recording
from coinapi_ws.simulator import Simulator, VirtualClock

START_NS = 1_618_677_817_000_000_000
SECOND_NS = 1_000_000_000

Dial = Callable[..., Any]


def frame(kind: str, symbol: str, number: int) -> str:
    # Spaces and an odd order show that nothing is encoded anew.
    return json.dumps({"symbol_id": symbol, "n": number, "price": 1.50, "type": kind})


FRAMES = [
    (0.0, frame("trade", "KRAKEN_SPOT_BTC_USD", 0)),
    (0.5, frame("quote", "KRAKEN_SPOT_BTC_USD", 1)),
    (1.0, frame("trade", "COINBASE_SPOT_ETH_EUR", 2)),
    (1.0, '{"type":"reconnect","within_seconds":10}'),
    (2.0, frame("trade", "KRAKEN_SPOT_BTC_USD", 4)),
    (4.0, frame("quote", "COINBASE_SPOT_ETH_EUR", 5)),
]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "frames.jsonl.gz"
    with RecordingWriter(path) as writer:
        for seconds, text in FRAMES:
            writer.write(text, START_NS + round(seconds * SECOND_NS))
    return path


def available(peer: Any, simulator: Simulator) -> list[str]:
    simulator.settle()
    assert peer.websocket.ping().wait(10)
    texts = []
    while True:
        try:
            texts.append(peer.websocket.recv(timeout=0))
        except TimeoutError:
            return texts


@pytest.mark.parametrize("speed", [1.0, 10, 0.25])
def test_frames_come_at_their_times_divided_by_the_speed(
    recording: Path, clock: VirtualClock, dial: Dial, speed: float
) -> None:
    with Simulator(recording=recording, speed=speed, clock=clock) as simulator:
        peer = dial(simulator.url)
        clock.advance(100)  # nothing before the hello
        peer.hello("trade", "quote")
        assert available(peer, simulator) == [FRAMES[0][1]]
        clock.advance(0.999 / speed)
        assert available(peer, simulator) == [FRAMES[1][1]]
        clock.advance(0.001 / speed)
        assert available(peer, simulator) == [FRAMES[2][1], FRAMES[3][1]]
        clock.advance(2.999 / speed)
        assert available(peer, simulator) == [FRAMES[4][1]]
        clock.advance(0.001 / speed)
        assert peer.text() == FRAMES[5][1]
        with pytest.raises(ConnectionClosedOK) as closed:
            peer.text()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000


@pytest.mark.parametrize("speed", [0, -1.0, float("inf"), float("nan")])
def test_a_speed_that_is_none_is_refused(recording: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="above 0 and finite, or None"):
        Simulator(recording=recording, speed=speed)


def test_a_replay_may_take_longer_than_a_float_can_hold(recording: Path, clock: VirtualClock, dial: Dial) -> None:
    with Simulator(recording=recording, speed=1e-300, clock=clock) as simulator:
        peer = dial(simulator.url)
        peer.hello("trade", "quote")
        clock.advance(1)
        assert available(peer, simulator) == [FRAMES[0][1]]


def test_as_fast_as_the_client_takes_it(recording: Path, clock: VirtualClock, dial: Dial) -> None:
    with Simulator(recording=recording, speed=None, clock=clock) as simulator:
        peer = dial(simulator.url)
        peer.hello("trade", "quote")
        assert peer.rest_until_closed() == [text for _, text in FRAMES]
        assert simulator.frames_sent == {"trade": 3, "quote": 2, "reconnect": 1}


@pytest.mark.parametrize("speed", [None, 1.0])
@pytest.mark.parametrize(
    ("data_types", "filters", "numbers"),
    [
        (["trade"], {}, [0, 2, 4]),
        (["trade", "quote"], {"symbol_id": ["KRAKEN_"]}, [0, 1, 4]),
        (["trade", "quote"], {"asset_id": ["ETH/EUR"]}, [2, 5]),
        (["quote"], {"exchange_id": ["COINBASE"]}, [5]),
        (["book"], {"exchange_id": ["COINBASE"]}, []),
    ],
)
def test_the_scope_filters_and_other_types_pass(
    recording: Path, clock: VirtualClock, dial: Dial, speed: float | None, data_types: list[str],
    filters: dict[str, list[str]], numbers: list[int],
) -> None:  # fmt: skip
    with Simulator(recording=recording, speed=speed, clock=clock) as simulator:
        peer = dial(simulator.url)
        peer.hello(*data_types, **filters)
        clock.advance(4)
        messages = [json.loads(text) for text in peer.rest_until_closed()]
        assert [m["n"] for m in messages if "n" in m] == numbers
        assert [m["type"] for m in messages if "n" not in m] == ["reconnect"]


def test_each_client_starts_at_the_beginning(recording: Path, clock: VirtualClock, dial: Dial) -> None:
    with Simulator(recording=recording, clock=clock) as simulator:
        first = dial(simulator.url)
        first.hello("trade", "quote")
        clock.advance(3)
        second = dial(simulator.url)
        second.hello("trade", "quote")
        clock.advance(1)
        assert first.rest_until_closed() == [text for _, text in FRAMES]
        clock.advance(3)
        assert second.rest_until_closed() == [text for _, text in FRAMES]


def test_a_scope_may_change_on_the_way(recording: Path, clock: VirtualClock, dial: Dial) -> None:
    with Simulator(recording=recording, clock=clock) as simulator:
        peer = dial(simulator.url)
        peer.hello("quote")
        clock.advance(1.5)
        assert available(peer, simulator) == [FRAMES[1][1], FRAMES[3][1]]
        peer.subscribe("trade")
        clock.advance(0.5)
        assert available(peer, simulator) == [FRAMES[4][1]]
        clock.advance(2)
        assert peer.rest_until_closed() == [FRAMES[5][1]]


def test_with_loop_it_starts_again(recording: Path, clock: VirtualClock, dial: Dial) -> None:
    with Simulator(recording=recording, loop=True, clock=clock) as simulator:
        peer = dial(simulator.url)
        peer.hello("trade")
        clock.advance(8.5)
        numbers = [json.loads(text).get("n") for text in available(peer, simulator)]
        assert numbers == [0, 2, None, 4, 0, 2, None, 4, 0]
        assert simulator.connections == 1


def test_with_loop_as_fast_as_possible_nobody_is_starved(recording: Path, dial: Dial) -> None:
    with Simulator(recording=recording, loop=True, speed=None) as simulator:
        peers = [dial(simulator.url, max_queue=16, close_timeout=0.1) for _ in range(3)]
        for peer in peers:
            peer.hello("trade", "quote")
        expected = [text for _, text in FRAMES] * 200
        for peer in peers:
            assert [peer.text() for _ in expected] == expected
        # Nothing in the recording is of these types: that must not spin, and the scope can still change.
        other = dial(simulator.url, close_timeout=0.1)
        other.hello("ohlcv", heartbeat=True)
        other.hello("quote")
        # What goes to everybody had filled the line meanwhile.
        kinds = {"reconnect"}
        for _ in range(500_000):
            kinds.add(other.message()["type"])
            if len(kinds) > 1:
                break
        assert kinds == {"quote", "reconnect"}


def test_a_recording_with_nothing_in_scope_stays_quiet_in_a_loop(
    tmp_path: Path, clock: VirtualClock, dial: Dial
) -> None:
    path = tmp_path / "one.jsonl"
    with RecordingWriter(path) as writer:
        writer.write(frame("trade", "KRAKEN_SPOT_BTC_USD", 1), START_NS)
    for speed in (None, 1.0):
        with Simulator(recording=path, loop=True, speed=speed, clock=clock) as simulator:
            peer = dial(simulator.url)
            peer.hello("quote", heartbeat=True)
            clock.advance(3)
            assert available(peer, simulator) == ['{"type":"hearbeat"}'] * 3


def test_an_empty_recording_ends_at_once(tmp_path: Path, clock: VirtualClock, dial: Dial) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()
    with Simulator(recording=path, clock=clock) as simulator:
        peer = dial(simulator.url)
        peer.hello("trade")
        assert peer.rest_until_closed() == []


def test_scopes_are_checked_as_live(recording: Path, clock: VirtualClock, dial: Dial) -> None:
    with Simulator(recording=recording, clock=clock) as simulator:
        peer = dial(simulator.url)
        peer.hello("book")
        assert peer.message()["type"] == "error"


def test_heartbeats_fill_the_silence(recording: Path, clock: VirtualClock, dial: Dial) -> None:
    with Simulator(recording=recording, clock=clock) as simulator:
        peer = dial(simulator.url)
        peer.hello("trade", "quote", heartbeat=True)
        clock.advance(10)
        kinds = [json.loads(text)["type"] for text in peer.rest_until_closed()]
        assert kinds == ["trade", "quote", "trade", "reconnect", "trade", "hearbeat", "quote"]


def test_a_slow_reader_loses_nothing_and_holds_up_nobody(tmp_path: Path, dial: Dial) -> None:
    path = tmp_path / "large.jsonl"
    texts = [frame("trade", "KRAKEN_SPOT_BTC_USD", n) + " " * 4000 for n in range(3000)]
    with RecordingWriter(path) as writer:
        for n, text in enumerate(texts):
            writer.write(text, START_NS + n)
    with Simulator(recording=path, speed=None) as simulator:
        slow = websocket.create_connection(
            simulator.url, sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)], skip_utf8_validation=True
        )
        slow.send(json.dumps({"type": "hello", "subscribe_data_type": ["trade"]}))
        assert slow.recv() == texts[0]
        peer = dial(simulator.url)
        peer.hello("trade")
        assert peer.rest_until_closed() == texts
        # The other one was not read meanwhile, and its share was not piled up in memory.
        assert simulator.frames_sent["trade"] < 4500
        assert [slow.recv() for _ in texts[1:]] == texts[1:]
        slow.close()


@pytest.mark.parametrize(("buffer_limit", "is_too_slow"), [(2000, False), (1000, True)])
def test_paced_frames_pile_up_for_a_slow_reader_up_to_the_limit(
    tmp_path: Path, clock: VirtualClock, buffer_limit: int, is_too_slow: bool
) -> None:
    path = tmp_path / "large.jsonl"
    texts = [frame("trade", "KRAKEN_SPOT_BTC_USD", n) + " " * 5000 for n in range(2000)]
    with RecordingWriter(path) as writer:
        for n, text in enumerate(texts):
            writer.write(text, START_NS + n * 1_000_000)
    with Simulator(recording=path, clock=clock, buffer_limit=buffer_limit) as simulator:
        slow = websocket.create_connection(
            simulator.url, sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)], skip_utf8_validation=True
        )
        slow.send(json.dumps({"type": "hello", "subscribe_data_type": ["trade"]}))
        simulator.settle()
        clock.advance(2)
        received = []
        for _ in texts:
            received.append(slow.recv())
            if '"error"' in received[-1]:
                break
        slow.shutdown()
        if is_too_slow:
            # What the system's buffers took on the way was sent; what waited here is lost.
            error = json.loads(received.pop())
            assert error["message"].startswith("Reached maximum allowed buffered messages")
            # The first alone was sent before the jump of the clock.
            assert 1 < len(received) < len(texts) - buffer_limit
            assert received == texts[: len(received)]
        else:
            assert received == texts


def test_the_shared_recording_comes_byte_for_byte(shared: Path, dial: Dial) -> None:
    path = shared / "recordings" / "coinbase_2021-04-17.jsonl.gz"
    recorded = [entry.frame for entry in read_recording(path)]
    with Simulator(recording=path, speed=None) as simulator:
        everything, band = dial(simulator.url), dial(simulator.url)
        everything.hello("trade", "quote", "book", symbol_id=["COINBASE_"])
        band.hello("book", symbol_id=["COINBASE_SPOT_BAND_"])
        assert everything.rest_until_closed() == recorded
        assert band.rest_until_closed() == [
            text for text in recorded if '"symbol_id":"COINBASE_SPOT_BAND_' in text and '"type":"book"' in text
        ]


def test_an_unsound_recording_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("nonsense\n")
    with pytest.raises(RecordingError, match=r"bad\.jsonl, line 1"):
        Simulator(recording=path).start()
    with pytest.raises(FileNotFoundError):
        Simulator(recording=tmp_path / "absent").start()
    path.write_text('{"received_ns": 1, "frame": "\\ud800"}\n')
    with pytest.raises(RecordingError, match="frame 1"):
        Simulator(recording=path).start()
