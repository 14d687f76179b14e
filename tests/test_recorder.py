"""What connections bring is recorded: all of it, in order, in whole lines, or counted as lost."""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from client_harness import eventually

from coinapi_ws import (
    Client,
    ConfigurationError,
    ConnectionGap,
    Disconnected,
    Dropped,
    HandedOver,
    Message,
    Options,
    Scope,
    Secret,
    SelectorConnection,
    Subscription,
    Undecodable,
    connect,
    endpoint_from,
)
from coinapi_ws.protocol.frames import Frames
from coinapi_ws.recording import Recorder, RecordingWarning, RecordingWriter, read_recording, replay
from coinapi_ws.recording.reading import read_entries
from coinapi_ws.simulator import Simulator

TRADES = Subscription(["trade"], symbol_ids=["A_"])
NAMES = ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]


def trade(number: int) -> str:
    return f'{{"price":{number}.5,"symbol_id":"A_SPOT_B_C","sequence":{number},"type":"trade"}}'


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Callable[..., Simulator]]:
    """Simulators that replay frames as fast as they are taken, and close."""
    running: list[Simulator] = []

    def start(*frames: str) -> Simulator:
        path = tmp_path / f"market-{len(running)}.jsonl"
        with RecordingWriter(path) as writer:
            for number, frame in enumerate(frames):
                writer.write(frame, number)
        running.append(Simulator(recording=path, speed=None))
        running[-1].start()
        return running[-1]

    yield start
    for simulator in running:
        simulator.close()


def frames_of(path: Path) -> list[str]:
    return [frame for _, frame in read_recording(path)]


def events_of(path: Path) -> list[tuple[int, str]]:
    return [(entry.connection, entry.event) for entry in read_entries(path) if entry.frame is None]


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_is_recorded_as_it_came(tmp_path: Path, market: Callable[..., Simulator], name: str) -> None:
    frames = [trade(number) for number in range(1, 2001)]
    frames[5:5] = ['{"type":"hearbeat"}', "nonsense", '{\r\n"type":"trade", "note":"ä"}']
    with Recorder(tmp_path / name) as recorder:
        received = list(connect(None, TRADES, endpoint=market(*frames).url, tap=recorder.take))
    assert len(received) == 2003
    assert frames_of(tmp_path / name) == frames
    assert events_of(tmp_path / name) == [(1, "Connected"), (1, "Disconnected")]
    assert (recorder.written, recorder.lost, recorder.error) == (2003, 0, None)
    times = {item.received_ns for item in received if isinstance(item, (Message, Undecodable))}
    assert {entry.received_ns for entry in read_entries(tmp_path / name) if entry.frame is not None} == times


def test_a_selector_connection_is_recorded_and_decoded_as_ever(
    tmp_path: Path, market: Callable[..., Simulator]
) -> None:
    frames = [trade(number) for number in range(1, 300)]
    with Recorder(tmp_path / "a.jsonl") as recorder:
        options = Options(endpoint=endpoint_from(market(*frames).url))
        connection = SelectorConnection(options, Scope(TRADES), tap=recorder.take)
        items = connection.start()
        while connection.disconnected is None:
            items += connection.step(5)
    assert sum(isinstance(item, Message) for item in items) == 299
    assert isinstance(items[-1], Disconnected)
    assert frames_of(tmp_path / "a.jsonl") == frames
    (ending,) = [entry for entry in read_entries(tmp_path / "a.jsonl") if entry.event == "Disconnected"]
    assert ending.more["detail"] == items[-1].summary()


def test_a_client_is_recorded_with_its_connections(tmp_path: Path) -> None:
    wanted = Subscription(["trade", "book"], symbol_ids=["COINBASE_"])
    seen: list[Any] = []
    ended = threading.Event()
    with Simulator(activity=50) as simulator, Recorder(tmp_path / "a.jsonl.gz", flush_seconds=0.05) as recorder:
        client = Client(None, wanted, endpoint=simulator.url, keep_raw=True, tap=recorder.take)
        client.on(Message, seen.append)
        client.on(ConnectionGap, seen.append)
        client.on(ConnectionGap, lambda _: ended.set())
        with client:
            eventually(lambda: len(seen) > 100)
            simulator.faults.drop()
            assert ended.wait(30)
            eventually(lambda: len(seen) > 300)
    assert frames_of(tmp_path / "a.jsonl.gz") == [item.raw for item in seen if isinstance(item, Message)]
    numbers = [entry.connection for entry in read_entries(tmp_path / "a.jsonl.gz")]
    assert numbers == sorted(numbers)
    assert events_of(tmp_path / "a.jsonl.gz") == [
        *((1, "Connected"), (1, "Disconnected")),
        *((2, "Connected"), (2, "Disconnected")),
    ]
    again = list(replay(tmp_path / "a.jsonl.gz"))
    assert [item for item in again if isinstance(item, Message)] == [item for item in seen if isinstance(item, Message)]
    (gap,) = [item for item in seen if isinstance(item, ConnectionGap)]
    assert [(one.from_ns, one.to_ns, one.reason) for one in again if isinstance(one, ConnectionGap)] == [
        (gap.from_ns, gap.to_ns, gap.reason)
    ]


def test_both_connections_of_a_handover_are_recorded_and_replayed_without_a_gap(tmp_path: Path) -> None:
    wanted = Subscription(["trade", "book"], symbol_ids=["COINBASE_"])
    seen: list[Any] = []
    over = threading.Event()
    with Simulator(activity=50) as simulator, Recorder(tmp_path / "a.jsonl") as recorder:
        client = Client(None, wanted, endpoint=simulator.url, tap=recorder.take, on_reconnect_notice="handover")
        client.on(Message, seen.append)
        client.on(HandedOver, lambda _: over.set())
        with client:
            eventually(lambda: len(seen) > 100)
            simulator.announce_reconnect(3)  # for the second connection to be live by then
            assert over.wait(30)
    assert events_of(tmp_path / "a.jsonl") == [
        *((1, "Connected"), (2, "Connected")),
        *((1, "Disconnected"), (2, "Disconnected")),
    ]
    again = list(replay(tmp_path / "a.jsonl", all_sequence_gaps=True))
    assert all(isinstance(item, Message) for item in again)
    assert len(again) >= len(seen)


def test_an_attempt_that_fails_has_no_beginning(tmp_path: Path, market: Callable[..., Simulator]) -> None:
    simulator = market(trade(1))
    simulator.faults.refuse_upgrades(503, count=1)
    with Recorder(tmp_path / "a.jsonl") as recorder:
        with pytest.raises(Exception, match="503"):
            connect(None, TRADES, endpoint=simulator.url, tap=recorder.take)
        list(connect(None, TRADES, endpoint=simulator.url, tap=recorder.take))
    assert events_of(tmp_path / "a.jsonl") == [(1, "Disconnected"), (2, "Connected"), (2, "Disconnected")]
    assert [type(item).__name__ for item in replay(tmp_path / "a.jsonl")] == ["Trade"]


def test_the_key_that_a_server_repeats_is_taken_out(
    tmp_path: Path, canary_key: str, assert_no_canary: Callable[[object], None], market: Callable[..., Simulator]
) -> None:
    """F24: from what the session reads, and from what it does not; escaped too, as a server may that quotes it."""
    frames = [f'{{"note":"{canary_key}","type":"novelty"}}', f'{{"type":"error","message":"{canary_key}'] * 2
    escaped = "".join(f"\\u{ord(character):04x}" for character in canary_key)
    frames += [f'{{"note":"{escaped}","type":"novelty"}}', '{"note":"\\x","type":"novelty"}']
    with Recorder(tmp_path / "a.jsonl") as recorder:
        list(connect(Secret(canary_key), TRADES, endpoint=market(*frames).url, tap=recorder.take))
    text = (tmp_path / "a.jsonl").read_text()
    assert text.count("***") == 5
    assert_no_canary(text)
    assert [frame for frame in frames_of(tmp_path / "a.jsonl") if canary_key in frame or escaped in frame] == []
    assert frames_of(tmp_path / "a.jsonl")[-1] == frames[-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_quiet_feed_reaches_the_disk_soon(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    wanted = Subscription(["asset"], everything=True)
    with (
        Simulator() as simulator,
        Recorder(path, flush_seconds=0.02) as recorder,
        connect(None, wanted, endpoint=simulator.url, tap=recorder.take) as stream,
    ):
        first = stream.recv(10)
        assert isinstance(first, Message)
        eventually(lambda: recorder.written)
        # Of a compressed file the end is not there yet.
        with nullcontext() if name == "a.jsonl" else pytest.warns(RecordingWarning):
            assert first.received_ns in {received_ns for received_ns, _ in read_recording(path)}


def test_files_follow_each_other_and_are_replayed_as_one(tmp_path: Path, market: Callable[..., Simulator]) -> None:
    frames = [trade(number).replace("{", f'{{"note":"{"x" * 400}",') for number in range(1, 6_001)]
    recorder = Recorder(tmp_path / "r.jsonl.gz", max_bytes=10_000)
    with recorder:
        list(connect(None, TRADES, endpoint=market(*frames).url, tap=recorder.take))
    paths = list(tmp_path.glob("r-*.jsonl.gz"))
    assert len(paths) > 1
    assert recorder.path == str(max(paths))
    assert [frame for path in sorted(paths) for frame in frames_of(path)] == frames
    again = list(replay(paths[::-1], keep_raw=True))
    assert [item.raw for item in again] == frames  # type: ignore[union-attr]
    alone = list(replay(sorted(paths)[1], keep_raw=True))
    assert all(isinstance(item, Message) for item in alone)


def test_what_there_is_no_room_for_is_counted_logged_and_told(
    tmp_path: Path, market: Callable[..., Simulator], caplog: pytest.LogCaptureFixture
) -> None:
    frames = [trade(number) for number in range(1, 5_001)]
    with (
        caplog.at_level(logging.WARNING, "coinapi_ws"),
        Recorder(tmp_path / "a.jsonl", max_waiting_bytes=1_000) as recorder,
    ):
        received = list(connect(None, TRADES, endpoint=market(*frames).url, tap=recorder.take))
    assert len(received) == 5_000
    assert recorder.lost > 0
    assert recorder.written + recorder.lost == 5_000
    assert "messages are missing" in caplog.text
    again = list(replay(tmp_path / "a.jsonl"))
    assert sum(isinstance(item, Message) for item in again) == recorder.written
    assert sum(item.count for item in again if isinstance(item, Dropped)) == recorder.lost


def test_the_ends_of_connections_are_told_though_there_is_no_room(
    tmp_path: Path, market: Callable[..., Simulator]
) -> None:
    with Recorder(tmp_path / "a.jsonl", max_waiting_bytes=10) as recorder:
        simulator = market(trade(1))
        for _ in range(2):
            list(connect(None, TRADES, endpoint=simulator.url, tap=of_one_read(recorder)))
    assert (recorder.written, recorder.lost, recorder._waiting_bytes) == (0, 2, 0)
    assert events_of(tmp_path / "a.jsonl") == [
        *((0, "Dropped"), (1, "Connected"), (1, "Disconnected")),
        *((0, "Dropped"), (2, "Connected"), (2, "Disconnected")),
    ]


def test_a_recorder_itself_is_no_tap(tmp_path: Path, canary_key: str) -> None:
    with Recorder(tmp_path / "a.jsonl") as recorder, pytest.raises(ConfigurationError, match=r"Recorder\(path\)\.take"):
        connect(canary_key, TRADES, tap=recorder)  # type: ignore[arg-type]


def test_reads_of_little_text_take_room_too(tmp_path: Path, market: Callable[..., Simulator]) -> None:
    """Each waits with objects around it that take more memory than its text."""
    (read,) = reads_of(market(trade(1)))
    # While the lock is held, the thread takes nothing.
    with Recorder(tmp_path / "a.jsonl", max_waiting_bytes=100_000) as recorder, recorder._monitor.lock:
        for _ in range(1_000):
            recorder.take(*read)
    assert recorder.written + recorder.lost == 1_000
    assert 100 < recorder.written < 200


def reads_of(simulator: Simulator) -> list[tuple[SelectorConnection, tuple[Any, ...]]]:
    """Return what comes of a connection in reads that bring frames."""
    reads: list[tuple[SelectorConnection, tuple[Any, ...]]] = []
    list(connect(None, TRADES, endpoint=simulator.url, tap=lambda *read: reads.append(read)))
    return [(connection, frames) for connection, items in reads if (frames := frames_in(items))]


def frames_in(items: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(item for item in items if isinstance(item, Frames))


def of_one_read(recorder: Recorder) -> Callable[..., None]:
    """A tap that gives a recorder all of a connection as if it had come at once."""
    came: list[Any] = []

    def take(connection: SelectorConnection, items: tuple[Any, ...]) -> None:
        came.extend(items)
        if isinstance(items[-1], Disconnected):
            recorder.take(connection, came)

    return take


def test_what_comes_after_the_end_is_lost(tmp_path: Path, market: Callable[..., Simulator]) -> None:
    recorder = Recorder(tmp_path / "a.jsonl")
    recorder.close()
    recorder.close()
    list(connect(None, TRADES, endpoint=market(trade(1)).url, tap=recorder.take))
    assert (recorder.written, recorder.lost) == (0, 1)
    assert "1 lost" in repr(recorder)


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("precious")
    with pytest.raises(FileExistsError):
        Recorder(tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == "precious"


@pytest.mark.parametrize(
    "options",
    [
        {"max_bytes": 0},
        {"max_seconds": -1.0},
        {"flush_seconds": 0.0},
        {"flush_seconds": 1e300},
        {"max_waiting_bytes": 0},
    ],
)
def test_wrong_options_are_refused_and_make_no_file(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Recorder(tmp_path / "a.jsonl", **options)
    assert not list(tmp_path.iterdir())


def test_a_tap_that_raises_ends_the_stream_with_its_error(market: Callable[..., Simulator]) -> None:
    def tap(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        connect(None, TRADES, endpoint=market(trade(1)).url, tap=tap)


def test_a_tap_that_raises_ends_the_connection(market: Callable[..., Simulator]) -> None:
    """Also at its end, and without ``step``: what came is lost, and nothing goes on as if it were not."""

    def tap(_: object, items: tuple[Any, ...]) -> None:
        if isinstance(items[-1], Disconnected):
            raise ZeroDivisionError

    options = Options(endpoint=endpoint_from(market(trade(1)).url))
    connection = SelectorConnection(options, Scope(TRADES), tap=tap)

    def drive() -> None:
        connection.start()
        while connection.disconnected is None:
            writable = [connection] if connection.want_write() else []
            assert any(select.select([connection], writable, [], 30))
            connection.handle_read()
            connection.handle_write()

    with pytest.raises(ZeroDivisionError):
        drive()
    assert connection.disconnected is not None
    assert connection.fileno() == -1
    assert connection.handle_read() == []


def test_a_tap_that_raises_ends_the_client_with_its_error(market: Callable[..., Simulator]) -> None:
    def tap(*_: object) -> None:
        raise ZeroDivisionError

    client = Client(None, TRADES, endpoint=market(trade(1)).url, tap=tap)
    client.start()
    with pytest.raises(ZeroDivisionError):
        client.join(30)
    client.close()


def test_a_tap_is_a_callable() -> None:
    with pytest.raises(ConfigurationError, match="tap is a callable"):
        Client(None, TRADES, endpoint="ws://localhost", tap="a.jsonl")  # type: ignore[arg-type]


def test_binary_frames_are_told_of(tmp_path: Path, market: Callable[..., Simulator]) -> None:
    simulator = Simulator(activity=10)
    with simulator, Recorder(tmp_path / "a.jsonl") as recorder:
        wanted = Subscription(["trade"], symbol_ids=["COINBASE_"])
        with connect(None, wanted, endpoint=simulator.url, tap=recorder.take) as stream:
            simulator.settle()
            simulator.faults.send_bytes(b"\x82\x03abc")
            while not isinstance(stream.recv(10), Undecodable):
                pass
    (told,) = [item for item in replay(tmp_path / "a.jsonl") if isinstance(item, Undecodable)]
    assert told.reason == "a binary frame of 3 bytes"
