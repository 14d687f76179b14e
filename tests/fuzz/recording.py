"""Any file is read to its frames, a warning, or a ``RecordingError``; what was read can be written and read again.

So is what it holds: a replay of it raises nothing else.

An input: a byte that says how the file is made of the rest (`FORMS`), a byte that says how much of its end is cut off,
and the rest.
"""

from __future__ import annotations

import atexit
import gzip
import json
import tempfile
import warnings
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from coinapi_ws.cli.inspecting import Inspection, text_lines
from coinapi_ws.recording import RecordedFrame, RecordingError, RecordingWarning, RecordingWriter, read_recording
from coinapi_ws.recording.reading import read_entries

#: A plain file, one that is compressed, and ones that only their names say are.
FORMS: Final = ("plain", "zipped", "raw gzip", "raw zstd")
NO_PROBLEMS: Final = {"cut_ends": [], "unsound": None}


class Told(NamedTuple):
    """What reading a file came to; file names are no part of it."""

    frames: list[RecordedFrame]
    error: str | None
    warned: list[str]


def check(data: bytes) -> None:
    """Raise where a file is not read as it should be, or anything but the documented errors comes out."""
    if len(data) < 2:
        return
    form, cut, content = FORMS[data[0] % len(FORMS)], data[1], data[2:]
    plain, zipped = directory() / "a.jsonl", directory() / ("a.jsonl.zst" if form == "raw zstd" else "a.jsonl.gz")
    if form.startswith("raw"):
        zipped.write_bytes(content)
        whole = told(zipped)
        zipped.write_bytes(content[: max(len(content) - cut, 0)])
        begins(told(zipped), whole)
    else:
        plain.write_bytes(content if form == "zipped" else content[: max(len(content) - cut, 0)])
        whole = told(plain)
        said = whole.frames, whole.error is None
        assert said == expected(plain.read_bytes(), is_cut=bool(whole.warned)), whole
        compressed = gzip.compress(plain.read_bytes(), 1, mtime=0)
        zipped.write_bytes(compressed)
        assert told(zipped) == whole
        if form == "zipped":
            zipped.write_bytes(compressed[: -1 - cut])
            there = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(compressed[: -1 - cut])
            begins(told(zipped), whole)
            assert told(zipped).frames == expected(there[: there.rfind(b"\n") + 1])[0]
    replayed(plain if form == "plain" else zipped)
    written_again(whole.frames, plain)


@cache
def directory() -> Path:
    """A directory for all inputs: to make one for each takes longer than the rest."""
    made = tempfile.TemporaryDirectory(prefix="coinapi-ws-fuzz-")
    atexit.register(made.cleanup)
    return Path(made.name)


def told(path: Path) -> Told:
    frames: list[RecordedFrame] = []
    error = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for frame in read_recording(path):
                frames.append(frame)
        except RecordingError as failure:
            error = without(path, str(failure))
    assert all(warning.category is RecordingWarning for warning in caught), caught
    assert len(caught) <= (error is None)
    return Told(frames, error, [without(path, str(warning.message)) for warning in caught])


def without(path: Path, text: str) -> str:
    """Take the name of the file from the beginning, where it has to be, with a line."""
    name, _, rest = text.partition(", line ")
    assert name == str(path)
    assert rest[0].isdigit()
    return rest


def expected(content: bytes, *, is_cut: bool = False) -> tuple[list[Any], bool]:
    """The frames up to the first line that is none, as the documentation tells the format; whether there is no such."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    frames: list[Any] = []
    for line in lines[: len(lines) - is_cut]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return frames, False
        if type(entry) is not dict or type(entry.get("received_ns")) is not int:
            return frames, False
        if type(entry.get("frame")) is str:
            frames.append((entry["received_ns"], entry["frame"]))
        elif "frame" in entry or type(entry.get("event")) is not str:
            return frames, False
    return frames, True


def written_again(frames: list[RecordedFrame], path: Path) -> None:
    with RecordingWriter(path, overwrite=True) as writer:
        for received_ns, frame in frames:
            writer.write(frame, received_ns)
    assert told(path) == Told(frames, None, [])


def replayed(path: Path) -> None:
    """Decode all of it, and count it as ``coinapi-ws inspect`` does."""
    seen = Inspection()
    with warnings.catch_warnings(), suppress(RecordingError):
        warnings.simplefilter("ignore")
        for entry in read_entries(path):
            seen.add(entry)
    assert all("\n" not in line for line in text_lines({"files": ["a"], "file_bytes": 1, **seen.told(), **NO_PROBLEMS}))


def begins(cut: Told, whole: Told) -> None:
    """Raise unless what lost its end reads as its beginning; what is left of a line may be another line.

    What is before the damage in a gzip file may be lost with it.
    """
    certain = max(len(cut.frames) - 1, 0)
    if whole.error is not None:
        certain = min(certain, len(whole.frames))
    assert cut.frames[:certain] == whole.frames[:certain], (cut, whole)
