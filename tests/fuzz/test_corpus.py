"""Each target passes over its corpus, and the corpus reaches what it is for: fuzzing begins from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from coinapi_ws.events import Undecodable
from coinapi_ws.messages import MESSAGE_TYPES, Message
from coinapi_ws.protocol.states import SessionState
from fuzz import decoder, recording, seeds, session

TARGETS: Final = {"session": session, "decoder": decoder, "recording": recording}
FILES: Final = sorted(path for name in TARGETS for path in (seeds.CORPUS / name).iterdir())


def corpus(name: str) -> list[bytes]:
    return [path.read_bytes() for path in FILES if path.parent.name == name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_corpus(path: Path) -> None:
    TARGETS[path.parent.name].check(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff", b"\x00\x00", b"\xff\xff\xff"])
def test_inputs_of_hardly_anything(name: str, data: bytes) -> None:
    TARGETS[name].check(data)


def test_the_corpus_is_what_the_script_writes() -> None:
    written = {"session": seeds.sessions(), "decoder": seeds.decoded(), "recording": seeds.recordings()}
    assert [path.relative_to(seeds.CORPUS) for path in FILES] == sorted(
        Path(target, name) for target, seeds in written.items() for name in seeds
    )


def test_the_sessions_of_the_corpus_meet_everything() -> None:
    items: set[str] = set()
    states = set()
    for data in corpus("session"):
        for told in session.told(data[0], data[2:], len(data), fast_lane=True):
            if isinstance(told, str):
                items.add(told.partition("(")[0])
            else:
                items |= {item[0] if isinstance(item, tuple) else type(item).__name__ for item in told[0]}
                states.add(told[2])
    messages = {"Heartbeat", "Trade", "Quote", "Book", "ErrorMessage", "ReconnectNotice"}
    assert items == messages | {"Connected", "Live", "SequenceGap", "Undecodable", "Disconnected", "UsageError"}
    assert states == set(SessionState)


def test_the_frames_of_the_corpus_are_of_every_type_and_of_none() -> None:
    decoded: list[Any] = [decoder.DECODERS["float"].decode(data.decode()) for data in corpus("decoder")]
    assert {item.type for item in decoded if isinstance(item, Message)} >= {*MESSAGE_TYPES} - {"hearbeat"}
    refusals = {item.reason for item in decoded if isinstance(item, Undecodable)}
    assert refusals >= {
        "not valid JSON",
        "NaN is no number in JSON",
        "a lone surrogate in a text",
        "a number that cannot be represented",
        "price: a number that cannot be represented",
        "sequence: not an integer of 64 bits",
        "nested deeper than 64 levels",
    }


def test_the_recordings_of_the_corpus_end_in_every_way(tmp_path: Path) -> None:
    ends = set()
    for data in corpus("recording"):
        ends_of_names = {"raw gzip": ".gz", "raw zstd": ".zst"}
        path = tmp_path / f"a.jsonl{ends_of_names.get(recording.FORMS[data[0]], '')}"
        path.write_bytes(data[2:])
        told = recording.told(path)
        ends.add("warned" if told.warned else "refused" if told.error else "whole")
    assert ends == {"whole", "refused", "warned"}
