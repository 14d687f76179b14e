"""``coinapi-ws replay`` and ``inspect``: what recordings hold, and what is missing in them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TIME_NS = 1_700_000_000_000_000_000


def frame(number: int, name: str = "book", symbol: str = "A_SPOT_B_C", **fields: Any) -> str:
    times = {"time_exchange": "2023-11-14T22:13:19.98Z", "time_coinapi": "2023-11-14T22:13:19.99Z"}
    members = {**times, "symbol_id": symbol, "sequence": number, **fields, "type": name}
    return json.dumps(members, separators=(",", ":"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A recording with something of everything, 10 ms apart."""
    entries: list[dict[str, Any]] = [
        {"event": "Connected", "connection": 1},
        {"connection": 1, "frame": frame(1)},
        {"connection": 1, "frame": frame(4)},
        {"connection": 1, "frame": frame(4)},
        {"connection": 1, "frame": frame(1, "trade", "X_SPOT_Y_Z", uuid="u", price=1.5)},
        {"connection": 1, "frame": frame(2, "trade", "X_SPOT_Y_Z", uuid="u", price=2.50)},
        {"connection": 1, "frame": '{"type":"hearbeat"}'},
        {"connection": 1, "frame": "nonsense"},
        {"event": "Dropped", "count": 7, "first_ns": TIME_NS},
        {"event": "Disconnected", "connection": 1, "detail": "the wire broke"},
        {"event": "Connected", "connection": 2},
        {"connection": 2, "frame": frame(1)},
        {"connection": 2, "frame": frame(1)},
    ]
    lines = [json.dumps({"received_ns": TIME_NS + n * 10_000_000, **entry}) for n, entry in enumerate(entries)]
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


def told(run, *paths: Path) -> dict[str, Any]:
    result = run("inspect", *paths, "--format", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_replay_prints_as_stream_does_with_the_recorded_latency(run, path: Path) -> None:
    result = run("replay", path)
    assert result.code == 0
    assert [line.split()[1:4] for line in result.lines] == [
        ["book", "A_SPOT_B_C", "20ms"],
        ["GAP", "A_SPOT_B_C", "-"],
        ["book", "A_SPOT_B_C", "30ms"],
        ["GAP", "A_SPOT_B_C", "-"],
        ["book", "A_SPOT_B_C", "40ms"],
        ["trade", "X_SPOT_Y_Z", "50ms"],
        ["trade", "X_SPOT_Y_Z", "60ms"],
        ["INVALID", "-", "-"],
        ["GAP", "-", "-"],
        ["GAP", "-", "-"],
        ["book", "A_SPOT_B_C", "120ms"],
        ["book", "A_SPOT_B_C", "130ms"],
    ]
    assert "the wire broke" in result.out
    assert result.err.startswith("coinapi-ws: 7 messages in ")


def test_replay_in_json_is_the_servers_own_text(run, path: Path) -> None:
    result = run("replay", path, "--format", "json", "--type", "trade")
    first, second = (frame(n, "trade", "X_SPOT_Y_Z", uuid="u", price=price) for n, price in ((1, 1.5), (2, 2.5)))
    assert result.lines == [first, second]
    assert run("replay", path, "--format", "raw").lines[4:7] == [second, '{"type":"hearbeat"}', "nonsense"]


@pytest.mark.parametrize(
    ("options", "symbols"),
    [
        (["--symbol", "X_"], {"X_SPOT_Y_Z"}),
        (["--symbol", "A_SPOT_B_C$"], {"A_SPOT_B_C"}),
        (["--symbol", "A_SPOT_B$"], set()),
        (["--exchange", "A", "--symbol", "X_SPOT"], {"A_SPOT_B_C", "X_SPOT_Y_Z"}),
        (["--exchange", "A", "--type", "trade"], set()),
        (["--type", "trade", "--type", "book"], {"A_SPOT_B_C", "X_SPOT_Y_Z"}),
    ],
)
def test_replay_filters_messages_and_their_gaps(run, path: Path, options: list[str], symbols: set[str]) -> None:
    result = run("replay", path, *options)
    assert {line.split()[2] for line in result.lines} - {"-"} == symbols
    # What is of no symbol is told whatever is asked for.
    assert [line.split()[1] for line in result.lines if line.split()[2] == "-"] == ["INVALID", "GAP", "GAP"]


def test_replay_ends_after_a_count(run, path: Path) -> None:
    assert len(run("replay", path, "--count", "2", "--format", "json").lines) == 2


def test_replay_takes_its_time_on_demand(run, path: Path) -> None:
    result = run("replay", path, "--speed", "2")
    assert float(result.err.partition(" in ")[2].split()[0]) >= 0.06


def test_replay_takes_several_files_in_the_order_of_their_times(run, tmp_path: Path, path: Path) -> None:
    earlier = tmp_path / "z.jsonl"
    earlier.write_text(json.dumps({"received_ns": 5, "frame": frame(1, "quote")}) + "\n")
    assert run("replay", path, earlier).lines[0].split()[1] == "quote"


def test_inspect_counts_everything(run, path: Path) -> None:
    seen = told(run, path)
    assert seen["files"] == [str(path)]
    assert seen["file_bytes"] == path.stat().st_size
    assert (seen["first_ns"], seen["last_ns"], seen["seconds"]) == (TIME_NS + 10_000_000, TIME_NS + 120_000_000, 0.11)
    assert seen["messages"] == 8
    assert seen["rate"] == pytest.approx(8 / 0.11)
    assert seen["most_in_a_second"] == 9  # frames, of which one is no message
    assert seen["types"] == {"book": 5, "trade": 2, "heartbeat": 1}
    assert (seen["connections"], seen["connection_gaps"]) == (2, 1)
    counts = [seen[name] for name in ("sequence_gaps", "missing", "repeated", "restarts", "repeated_trades")]
    assert counts == [1, 2, 1, 1, 1]
    assert (seen["dropped_by_the_recorder"], seen["undecodable"]) == (7, 1)
    assert seen["coinapi_to_here_ns"] == {"p50": 5e7, "p90": 1.3e8, "p99": 1.3e8, "max": 1.3e8}
    assert set(seen["exchange_to_coinapi_ns"].values()) == {1e7}
    assert seen["symbols"][0] == {
        "type": "book",
        "symbol": "A_SPOT_B_C",
        "messages": 5,
        "sequence_gaps": 1,
        "missing": 2,
        "repeated": 1,
    }
    assert (seen["cut_ends"], seen["unsound"]) == ([], None)


def test_inspect_says_it_to_people(run, path: Path) -> None:
    lines = run("inspect", path).lines
    shown = dict(line.split(maxsplit=1) for line in lines[:11] if line)
    assert shown["time"] == "2023-11-14T22:13:20.010Z to 2023-11-14T22:13:20.120Z, 0.110 s"
    assert shown["types"] == "book 5, trade 2, heartbeat 1"
    assert shown["sequences"] == "1 gaps, 2 missing, 1 repeated, 1 restarts"
    assert "latency      p50 50ms, p90 130ms, p99 130ms, max 130ms" in lines
    assert lines[-3].split() == ["book", "A_SPOT_B_C", "5", "1", "2", "1"]


def test_inspect_counts_up_to_where_a_file_is_sound(run, tmp_path: Path, path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"received_ns": 5, "frame": frame(1)}) + "\nnonsense\n" + "{}\n")
    result = run("inspect", bad, path, "--format", "json")
    assert result.code == 1
    seen = json.loads(result.out)
    assert seen["messages"] == 1
    assert seen["unsound"].startswith(f"{bad}, line 2: not JSON")
    assert f"unsound      {bad}, line 2" in run("inspect", bad).out


def test_inspect_counts_up_to_a_file_that_is_unsound_from_its_beginning(run, tmp_path: Path, path: Path) -> None:
    bad = tmp_path / "bad.jsonl.gz"
    bad.write_bytes(bytes(100))
    result = run("inspect", path, bad, "--format", "json")
    assert result.code == 1
    seen = json.loads(result.out)
    assert seen["messages"] == 8
    assert seen["unsound"].startswith(f"{bad}, line 1: not a sound gzip file")


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="no such name here")
@pytest.mark.parametrize("command", ["replay", "inspect"])
def test_a_pipe_is_read_once(run, tmp_path: Path, path: Path, command: str) -> None:
    def piped(*paths: str) -> subprocess.CompletedProcess[bytes]:
        words = [sys.executable, "-m", "coinapi_ws", command, *paths]
        return subprocess.run(words, input=text, capture_output=True, timeout=60, check=False)

    text, plain = gzip.decompress(path.read_bytes()), tmp_path / "plain.jsonl"
    plain.write_bytes(text)
    read = run(command, plain).lines
    assert piped("/dev/stdin").stdout.decode().splitlines()[1:] == read[1:]
    assert len(read) > 2
    beside = piped(str(path), "/dev/stdin")
    assert beside.returncode == 2
    assert b"cannot read /dev/stdin: a pipe is read alone" in beside.stderr


def test_inspect_names_cut_ends(run, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])
    result = run("inspect", path, "--format", "json")
    assert result.code == 0
    seen = json.loads(result.out)
    assert seen["messages"] == 8
    assert "ends in the middle" in seen["cut_ends"][0]
    assert "unsound" in run("inspect", path).out


def test_inspect_of_nothing(run, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    seen = told(run, tmp_path / "empty.jsonl")
    assert (seen["messages"], seen["first_ns"], seen["rate"], seen["symbols"]) == (0, None, None, [])
    assert run("inspect", tmp_path / "empty.jsonl").code == 0


def test_times_beyond_the_calendar_are_numbers(run, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"received_ns": {10**30}, "frame": ""}}\n')
    assert f"{10**30} to {10**30}" in run("inspect", tmp_path / "a.jsonl").out


def test_inspect_of_the_shared_recording(run, shared: Path) -> None:
    seen = told(run, shared / "recordings" / "coinbase_2021-04-17.jsonl.gz")
    assert seen["types"] == {"book": 9729, "quote": 107, "trade": 107}
    assert seen["messages"] == 9943
    problems = ("sequence_gaps", "missing", "repeated", "restarts", "undecodable", "unsound")
    assert not any(seen[name] for name in problems)
    assert sum(symbol["messages"] for symbol in seen["symbols"]) == 9943


@pytest.mark.parametrize("command", ["replay", "inspect"])
def test_a_file_that_is_not_there_is_wrong_usage(run, command: str) -> None:
    result = run(command, "no/such.jsonl")
    assert result.code == 2
    assert "cannot read no/such.jsonl: No such file" in result.err


def test_replay_of_what_is_no_recording_is_wrong_usage(run, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("nonsense\n")
    result = run("replay", tmp_path / "a.jsonl")
    assert result.code == 2
    assert "a.jsonl, line 1: not JSON" in result.err
