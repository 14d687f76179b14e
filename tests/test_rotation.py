"""Files that follow each other: their names sort in the order of time, and none takes another's place."""

from __future__ import annotations

from pathlib import Path

import pytest

from coinapi_ws.recording.rotation import RotatingFile, name_at

NOON_NS = 1_767_268_800_000_000_000
LINE = b'{"received_ns": 1, "frame": ""}\n'


class Clocks:
    """Time by hand: monotonic seconds, and nanoseconds since the epoch."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.now_ns = NOON_NS

    def clock(self) -> float:
        return self.seconds

    def wall_clock_ns(self) -> int:
        return self.now_ns


def rotating(path: Path, clocks: Clocks, **limits: float) -> RotatingFile:
    return RotatingFile(str(path), clock=clocks.clock, wall_clock_ns=clocks.wall_clock_ns, **limits)  # type: ignore[arg-type]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    ("name", "at_noon"),
    [
        ("market.jsonl.gz", "market-20260101T120000.000000Z.jsonl.gz"),
        ("my.market.jsonl.zst", "my.market-20260101T120000.000000Z.jsonl.zst"),
        ("market.jsonl", "market-20260101T120000.000000Z.jsonl"),
        ("market", "market-20260101T120000.000000Z"),
        ("in.a.place/market.gz", "in.a.place/market-20260101T120000.000000Z.gz"),
    ],
)
def test_the_time_stands_before_the_ends_of_the_name(name: str, at_noon: str) -> None:
    assert name_at(name, NOON_NS) == at_noon


def test_without_a_limit_it_is_the_one_file(tmp_path: Path) -> None:
    file = rotating(tmp_path / "a.jsonl", Clocks())
    file.write(LINE)
    file.sync()
    file.close()
    assert names(tmp_path) == ["a.jsonl"]
    assert file.path == str(tmp_path / "a.jsonl")
    with pytest.raises(FileExistsError):
        rotating(tmp_path / "a.jsonl", Clocks())


def test_a_full_file_is_followed_by_another(tmp_path: Path) -> None:
    clocks = Clocks()
    file = rotating(tmp_path / "a.jsonl", clocks, max_bytes=2 * len(LINE))
    for _ in range(5):
        clocks.now_ns += 1_000_000
        file.write(LINE)
        file.sync()
    file.close()
    assert [(tmp_path / name).read_bytes().count(b"\n") for name in names(tmp_path)] == [2, 2, 1]
    assert names(tmp_path)[1] == "a-20260101T120000.003000Z.jsonl"
    assert file.path == str(tmp_path / names(tmp_path)[-1])


def test_a_file_whose_time_is_over_is_finished_and_the_next_begins_with_something_to_write(tmp_path: Path) -> None:
    clocks = Clocks()
    file = rotating(tmp_path / "a.jsonl.gz", clocks, max_seconds=3600.0)
    clocks.seconds += 4000
    file.sync()
    file.write(LINE)  # the first one was empty, and goes on
    file.sync()
    assert len(names(tmp_path)) == 1
    clocks.now_ns += 3_600_000_000_000
    file.sync()
    assert len(names(tmp_path)) == 1
    clocks.seconds += 1
    file.write(LINE)
    file.sync()
    file.close()
    assert names(tmp_path) == ["a-20260101T120000.000000Z.jsonl.gz", "a-20260101T130000.000000Z.jsonl.gz"]


def test_names_go_up_though_the_clock_was_set_back(tmp_path: Path) -> None:
    clocks = Clocks()
    file = rotating(tmp_path / "a.jsonl", clocks, max_bytes=1)
    for number in range(4):
        file.write(b"%d\n" % number)
        file.sync()
        clocks.now_ns -= 1_000_000_000
    file.close()
    assert [(tmp_path / name).read_bytes() for name in names(tmp_path)] == [b"0\n", b"1\n", b"2\n", b"3\n"]


def test_no_file_of_another_one_is_overwritten(tmp_path: Path) -> None:
    there = tmp_path / "a-20260101T120000.000000Z.jsonl"
    there.write_text("precious")
    file = rotating(tmp_path / "a.jsonl", Clocks(), max_bytes=1)
    file.write(LINE)
    file.close()
    assert there.read_text() == "precious"
    assert (tmp_path / "a-20260101T120000.000001Z.jsonl").read_bytes() == LINE


def test_close_is_idempotent(tmp_path: Path) -> None:
    file = rotating(tmp_path / "a.jsonl", Clocks(), max_bytes=1)
    file.close()
    file.close()
    file.sync()
    assert len(names(tmp_path)) == 1
