"""Recordings are decoded again: messages with their times, and what is missing between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coinapi_ws import ConfigurationError, ConnectionGap, Dropped, Message, SequenceGap, Trade, Undecodable
from coinapi_ws.recording import RecordingError, RecordingWarning, replay
from coinapi_ws.recording.replaying import Pace

SYMBOL = "COINBASE_SPOT_BTC_USD"


def frame(number: int, name: str = "book", **fields: Any) -> str:
    members = {"time_coinapi": f"2026-01-01T00:00:{number:02}.0Z", "symbol_id": SYMBOL, "sequence": number, **fields}
    return json.dumps({**members, "type": name}, separators=(",", ":"))


def write(path: Path, *entries: dict[str, Any], start: int = 1) -> Path:
    """Write entries, a nanosecond apart."""
    lines = [json.dumps({"received_ns": number, **entry}) for number, entry in enumerate(entries, start)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def of(connection: int, *numbers: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"connection": connection, "frame": frame(number, **fields)} for number in numbers]


def event(name: str, **more: Any) -> dict[str, Any]:
    return {"event": name, **more}


def shown(items: list[Any]) -> list[Any]:
    """Sequences, and gaps as what they say."""
    return [
        item.sequence
        if hasattr(item, "sequence")
        else (item.expected, item.received)
        if isinstance(item, SequenceGap)
        else item
        for item in items
    ]


def test_messages_have_the_times_of_their_arrival(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"frame": frame(1, "trade", price=1.50)}, {"frame": "nonsense"})
    items = list(replay(path, numbers="decimal", keep_raw=True))
    trade, garbage = items
    assert isinstance(trade, Trade)
    assert (trade.received_ns, str(trade.price), trade.raw) == (1, "1.5", frame(1, "trade", price=1.50))
    assert isinstance(garbage, Undecodable)
    assert (garbage.received_ns, garbage.payload) == (2, "nonsense")


def test_gaps_of_sequences_are_found_within_a_connection(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *of(1, 1, 2, 5), *of(1, 5, 8, name="trade"))
    assert shown(list(replay(path))) == [1, 2, (3, 5), 5, 5, 8]
    assert shown(list(replay(path, all_sequence_gaps=True))) == [1, 2, (3, 5), 5, 5, (6, 8), 8]


def test_a_sequence_that_begins_again_is_no_gap(tmp_path: Path) -> None:
    assert shown(list(replay(write(tmp_path / "a.jsonl", *of(0, 1, 2, 3, 1, 2))))) == [1, 2, 3, 1, 2]


def test_two_connections_at_once_have_sequences_of_their_own(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        *(event("Connected", connection=1), *of(1, 7, 8)),
        *(event("Connected", connection=2), *of(2, 1), *of(1, 9), *of(2, 2)),
        *(event("Disconnected", connection=1, detail="announced"), *of(2, 3)),
    )
    assert shown(list(replay(path))) == [7, 8, 1, 9, 2, 3]


def test_a_lost_connection_is_a_gap_from_the_last_message_to_the_next(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        *(event("Connected", connection=1), *of(1, 1, 2), event("Disconnected", connection=1, detail="the wire broke")),
        event("Disconnected", connection=2, detail="an attempt that failed"),
        *(event("Connected", connection=3), {"connection": 3, "frame": '{"type":"hearbeat"}'}, *of(3, 30)),
        event("Disconnected", connection=3, detail="closed by us"),
    )
    gap = list(replay(path))[3]
    assert isinstance(gap, ConnectionGap)
    second = 1_767_225_600_000_000_000
    assert (gap.from_ns, gap.to_ns) == (second + 2_000_000_000, second + 30_000_000_000)
    assert gap.reason == "the wire broke"
    assert sum(isinstance(item, ConnectionGap) for item in replay(path)) == 1


def test_a_recording_that_follows_one_that_broke_off_begins_anew(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", event("Connected", connection=1), *of(1, 8), event("Connected", connection=2))
    second = write(tmp_path / "b.jsonl", event("Other"), event("Connected", connection=1), *of(1, 20, 21), start=10)
    items = list(replay([second, first]))
    assert isinstance(items[1], ConnectionGap)
    assert items[1].reason == "another recording begins"
    assert shown(items)[::2] == [8, 20]
    assert shown(items)[3:] == [21]


def test_a_recorder_follows_frames_of_no_connection(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *of(0, 4, 5), event("Connected", connection=1), *of(1, 3))
    assert [type(item).__name__ for item in replay(path)] == ["Book", "Book", "ConnectionGap", "Book"]


def test_what_a_recorder_dropped_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *of(1, 1), event("Dropped", count=12, first_ns=1), *of(1, 14))
    assert list(replay(path))[1] == Dropped(type="", symbol_id=None, count=12, first_ns=1, last_ns=2)


def test_several_recordings_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.jsonl" for name in "cab"]
    for number, path in enumerate(paths):
        entry = {"received_ns": 10 - number, "frame": frame(10 - number, "trade")}
        path.write_text(json.dumps(entry) + "\n")
    (tmp_path / "empty.jsonl").touch()
    assert shown(list(replay([tmp_path / "empty.jsonl", *paths]))) == [8, 9, 10]
    assert shown(list(replay(str(paths[0])))) == [10]


def test_cut_ends_are_warned_of_and_passed_over(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        write(tmp_path / name, *of(1, number + 1))
        with (tmp_path / name).open("a") as file:
            file.write('{"rec')
    with pytest.warns(RecordingWarning) as caught:
        assert shown(list(replay([tmp_path / "a", tmp_path / "b"]))) == [1, 2]
    assert [str(warning.message).partition(":")[0] for warning in caught] == [
        f"{tmp_path / name}, line 2" for name in "ab"
    ]


@pytest.mark.parametrize("speed", [0, -1.0, float("inf"), float("nan")])
def test_a_speed_is_positive(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ConfigurationError, match="speed"):
        replay(tmp_path / "a.jsonl", speed=speed)


def test_errors_come_at_the_call_or_where_they_stand(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replay(tmp_path / "no.jsonl")
    with pytest.raises(ConfigurationError, match="numbers"):
        replay(write(tmp_path / "a.jsonl"), numbers="int")
    (tmp_path / "bad.jsonl").write_text("nonsense\n")
    with pytest.raises(RecordingError, match=r"bad\.jsonl, line 1"):
        replay(tmp_path / "bad.jsonl")


def test_the_shared_recording_is_replayed_without_a_gap(shared: Path) -> None:
    items = list(replay(shared / "recordings" / "coinbase_2021-04-17.jsonl.gz", all_sequence_gaps=True))
    assert len(items) == 9943
    assert all(isinstance(item, Message) for item in items)


class Clock:
    """A clock that goes on by sleeping."""

    def __init__(self) -> None:
        self.now = 50.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_the_pace_is_the_recorded_one_divided_by_the_speed() -> None:
    clock = Clock()
    pace = Pace(2.0, clock=clock, sleep=clock.sleep)
    for received_ns in (10**9, 2 * 10**9, 10**8, 2 * 10**9, 5 * 10**9):
        pace.wait(received_ns)
    assert clock.slept == [0.5, 1.5]
    clock.now += 10
    pace.wait(6 * 10**9)
    assert clock.slept == [0.5, 1.5]


def test_a_long_wait_is_slept_in_parts() -> None:
    clock = Clock()
    pace = Pace(1.0, clock=clock, sleep=clock.sleep)
    pace.wait(0)
    pace.wait(7200 * 10**9 + 1)
    assert clock.slept[:2] == [3600.0, 3600.0]
    assert pace.left(10**400) < 10**10


def test_without_a_speed_nothing_is_waited_for() -> None:
    clock = Clock()
    pace = Pace(None, clock=clock, sleep=clock.sleep)
    pace.wait(0)
    pace.wait(10**20)
    assert clock.slept == []
