"""Recordings are written in whole lines, read back unchanged, and say where they are unsound."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinapi_ws.recording import (
    RecordedFrame,
    RecordingError,
    RecordingWarning,
    RecordingWriter,
    read_recording,
)

FRAMES = [RecordedFrame(1, '{"type":"trade"}'), RecordedFrame(2, 'ä\u2028"\\\n'), RecordedFrame(1, "")]


def write(path: Path, frames: list[RecordedFrame]) -> None:
    with RecordingWriter(path) as writer:
        for received_ns, frame in frames:
            writer.write(frame, received_ns)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, FRAMES)
    assert list(read_recording(tmp_path / name)) == FRAMES
    assert list(read_recording(str(tmp_path / name))) == FRAMES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2**63), st.text())))
def test_any_text_survives(tmp_path: Path, frames: list[tuple[int, str]]) -> None:
    path = tmp_path / "any.jsonl"
    path.unlink(missing_ok=True)
    write(path, [RecordedFrame(*frame) for frame in frames])
    assert list(read_recording(path)) == frames


def test_a_line_is_one_object_with_the_documented_fields(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", FRAMES)
    lines = (tmp_path / "a.jsonl").read_text(encoding="ascii").splitlines()
    assert [json.loads(line) for line in lines] == [frame._asdict() for frame in FRAMES]
    write(tmp_path / "a.jsonl.gz", FRAMES)
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).decode() == "\n".join([*lines, ""])


def test_a_plain_recording_is_complete_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with RecordingWriter(path) as writer:
        for count, frame in enumerate(FRAMES, start=1):
            writer.write(frame.frame, frame.received_ns)
            assert list(read_recording(path)) == FRAMES[:count]


def test_a_compressed_recording_can_be_read_before_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with RecordingWriter(path) as writer:
        for number in range(1000):
            writer.write("x" * 100, number)
        with pytest.warns(RecordingWarning, match=r"a\.jsonl\.gz, line \d+"):
            frames = list(read_recording(path))
    assert [frame.received_ns for frame in frames] == list(range(len(frames)))
    assert len(frames) > 400


def test_a_recording_is_not_overwritten_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, FRAMES)
    with pytest.raises(FileExistsError):
        RecordingWriter(path)
    assert list(read_recording(path)) == FRAMES
    with RecordingWriter(path, overwrite=True) as writer:
        writer.write("new", 5)
    assert list(read_recording(path)) == [(5, "new")]


@pytest.mark.parametrize("frame", [None, {"type": "trade"}, b"{}"])
def test_what_is_no_text_is_refused_and_not_written(tmp_path: Path, frame: object) -> None:
    path = tmp_path / "a.jsonl"
    with RecordingWriter(path) as writer, pytest.raises(TypeError, match="keep_raw=True"):
        writer.write(frame, 1)  # type: ignore[arg-type]
    assert path.read_bytes() == b""


def test_a_closed_writer_writes_no_more(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.jsonl")
    assert not writer.closed
    writer.close()
    writer.close()
    assert writer.closed
    assert "closed" in repr(writer)
    with pytest.raises(ValueError, match=r"a\.jsonl is closed"):
        writer.write("late", 1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("\xff", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"source": "somewhere", "frame": "{}"}', "'received_ns' is missing or not an integer"),
        ('{"received_ns": 1.5, "frame": "{}"}', "'received_ns' is missing or not an integer"),
        ('{"received_ns": true, "frame": "{}"}', "'received_ns' is missing or not an integer"),
        ('{"received_ns": 1}', "'frame' is missing or not a string"),
        ('{"received_ns": 1, "frame": {}}', "'frame' is missing or not a string"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "bad.jsonl"
    good = json.dumps(FRAMES[0]._asdict())
    path.write_bytes(f"{good}\n\n{line}\n{good}\n".encode("latin-1"))
    frames = read_recording(path)
    assert next(frames) == FRAMES[0]
    with pytest.raises(RecordingError) as failure:
        next(frames)
    assert str(failure.value).startswith(f"{path}, line 3: {reason}")


def test_a_last_line_that_was_cut_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    write(path, FRAMES)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.warns(RecordingWarning, match=r"cut\.jsonl, line 3"):
        assert list(read_recording(path)) == FRAMES[:2]


def test_a_last_line_without_its_newline_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, FRAMES)
    path.write_bytes(path.read_bytes()[:-1])
    assert list(read_recording(path)) == FRAMES


def test_a_gzip_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl.gz"
    path.write_bytes(b"plain text")
    with pytest.raises(RecordingError, match=r"bad\.jsonl\.gz, line 1: not a sound gzip file"):
        list(read_recording(path))


def test_the_shared_recording_is_read(shared: Path) -> None:
    frames = list(read_recording(shared / "recordings" / "coinbase_2021-04-17.jsonl.gz"))
    assert len(frames) == 9943
    assert all(a.received_ns <= b.received_ns for a, b in itertools.pairwise(frames))


def test_frames_without_a_time_are_no_recording(shared: Path) -> None:
    with pytest.raises(RecordingError, match=r"line 1: 'received_ns'"):
        list(read_recording(shared / "recordings" / "sample_frames.jsonl"))
