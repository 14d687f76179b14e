"""Recordings are written in whole lines, read back unchanged, and say where they are unsound."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import random
import re
import subprocess
import sys
import zlib
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
from coinapi_ws.recording.compression import read_text

FRAMES = [RecordedFrame(1, '{"type":"trade"}'), RecordedFrame(2, 'ä\u2028"\\\n'), RecordedFrame(1, "")]


def write(path: Path, frames: list[RecordedFrame]) -> None:
    with RecordingWriter(path) as writer:
        for received_ns, frame in frames:
            writer.write(frame, received_ns)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
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


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_compressed_recording_can_be_read_before_it_is_closed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with RecordingWriter(path) as writer:
        for number in range(1000):
            writer.write("x" * 100, number)
        with pytest.warns(RecordingWarning, match=rf"{name}, line \d+"):
            frames = list(read_recording(path))
        writer.flush()
        with pytest.warns(RecordingWarning, match=rf"{name}, line 1001"):
            assert len(list(read_recording(path))) == 1000
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


def test_spaces_behind_the_last_line_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, FRAMES)
    path.write_bytes(path.read_bytes() + b" \r\n \t")
    assert list(read_recording(path)) == FRAMES


def test_a_line_may_be_of_any_length(tmp_path: Path) -> None:
    frames = [RecordedFrame(1, "x" * 1_000_000), RecordedFrame(2, "y" * 300_000)]
    for name in ("a.jsonl", "a.jsonl.gz"):
        write(tmp_path / name, frames)
        assert list(read_recording(tmp_path / name)) == frames


def test_events_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"received_ns": 1, "event": "Connected", "connection": 1}\n'
        '{"received_ns": 2, "connection": 1, "frame": "{}", "more": [1]}\n'
        '{"received_ns": 3, "event": "of another version"}\n'
    )
    assert list(read_recording(path)) == [(2, "{}")]


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_compressed_file_that_is_none_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"bad.jsonl.{'gz' if kind == 'gzip' else 'zst'}"
    path.write_bytes(b"plain text")
    with pytest.raises(
        RecordingError, match=rf"{path.name}, line 1: not a sound {kind} file \(.*, at byte 0 to 10 of 10"
    ):
        list(read_recording(path))


def read_to_the_damage(path: Path) -> tuple[list[RecordedFrame], str]:
    frames: list[RecordedFrame] = []
    with pytest.raises(RecordingError) as failure:
        frames.extend(read_recording(path))
    return frames, str(failure.value)


def noise(count: int) -> list[RecordedFrame]:
    """Frames that do not compress well."""
    chance = random.Random(1)
    return [RecordedFrame(number, chance.randbytes(100).hex()) for number in range(count)]


def test_all_whole_lines_before_the_damage_of_a_gzip_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    written = noise(600)
    write(path, written)
    whole = path.read_bytes()
    for place in range(1000, len(whole) - 1000, len(whole) // 6):
        path.write_bytes(whole[:place] + b"\xff" * 100 + whole[place + 100 :])
        decompressor, sound = zlib.decompressobj(zlib.MAX_WBITS | 16), b""
        with contextlib.suppress(zlib.error):
            for byte in path.read_bytes():
                sound += decompressor.decompress(bytes([byte]))
        frames, error = read_to_the_damage(path)
        # Damage that looks like text may be met in a line that is none.
        assert len(frames) == sound.count(b"\n") or "not JSON" in error
        assert frames[:-1] == written[: len(frames) - 1]
        assert len(frames) > 1
        if "not JSON" not in error:
            start, end, size = (
                int(number.replace(",", "")) for number in re.findall(r"[\d,]+(?= to|\)| of)", error)[-3:]
            )
            assert start - 16384 <= place <= end + 16384 <= size + 16384


def test_lines_before_the_damage_of_a_zstd_file_are_read_but_for_its_block(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    write(path, noise(5000))
    whole = path.read_bytes()
    place = len(whole) // 2
    path.write_bytes(whole[:place] + b"\xff" * 100 + whole[place + 100 :])
    frames, error = read_to_the_damage(path)
    assert len(frames) > 2500 - 2 * 131_072 / 250
    assert frames[:-1] == noise(5000)[: len(frames) - 1]
    assert error.startswith(f"{path}, line {len(frames) + 1}: not")


def test_a_gzip_file_may_have_several_members_and_be_filled_up(tmp_path: Path) -> None:
    parts = [tmp_path / "1.jsonl.gz", tmp_path / "2.jsonl.gz"]
    for path in parts:
        write(path, FRAMES)
    (tmp_path / "both.jsonl.gz").write_bytes(b"".join(path.read_bytes() for path in parts) + bytes(100_000))
    assert list(read_recording(tmp_path / "both.jsonl.gz")) == FRAMES * 2


def test_a_decompression_bomb_is_read_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    line = b'{"received_ns": 1, "frame": ""}' + b" " * 10_000_000 + b"\n"
    path.write_bytes(gzip.compress(line, 9))
    assert len(path.read_bytes()) < 16_384
    assert max(map(len, read_text(str(path)))) == 65_536
    assert list(read_recording(path)) == [(1, "")]


def test_without_the_extra_zstd_is_refused_with_what_to_install(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["compression"] = sys.modules["backports"] = None
from coinapi_ws.recording import Recorder, RecordingWriter, read_recording
for attempt in (Recorder, RecordingWriter, lambda path: next(read_recording(path))):
    try:
        attempt(sys.argv[1 + (attempt is not Recorder and attempt is not RecordingWriter)])
    except ValueError as error:
        print(type(error).__name__, error)
"""
    there = tmp_path / "there.zst"
    write(there, FRAMES)
    command = [sys.executable, "-c", program, str(tmp_path / "new.zst"), str(there)]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    assert printed == ['ConfigurationError a name in .zst needs the extra: pip install "coinapi-ws[zstd]"'] * 3
    assert not (tmp_path / "new.zst").exists()


def test_the_shared_recording_is_read(shared: Path) -> None:
    frames = list(read_recording(shared / "recordings" / "coinbase_2021-04-17.jsonl.gz"))
    assert len(frames) == 9943
    assert all(a.received_ns <= b.received_ns for a, b in itertools.pairwise(frames))


def test_frames_without_a_time_are_no_recording(shared: Path) -> None:
    with pytest.raises(RecordingError, match=r"line 1: 'received_ns'"):
        list(read_recording(shared / "recordings" / "sample_frames.jsonl"))
