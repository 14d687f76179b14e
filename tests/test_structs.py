"""With msgspec and without: the same messages, and each reads what the other pickled."""

from __future__ import annotations

import copyreg
import gc
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from quick_frames import usual_frame

from coinapi_ws.decoding import Decoder
from coinapi_ws.messages import Book, Level, Message, Trade, storage
from coinapi_ws.quick import HOT_TYPES, parsing_reader, storage_reader

HAS_STRUCTS: Final = storage.__name__ == "coinapi_ws.structs"
WITH_MSGSPEC: Final = pytest.mark.skipif(not HAS_STRUCTS, reason="the extra `speed` is not installed")

#: Decodes the frames of the first line of its input, reads the pickles of the second, and tells what it found.
PROGRAM: Final = """
import base64, copy, json, pickle, sys
if sys.argv[1] == "without":
    sys.modules["msgspec"] = None
from coinapi_ws.decoding import UNUSUAL, Decoder
from coinapi_ws.messages import Message, set_field, storage
from coinapi_ws.quick import HOT_TYPES

def told(message):
    fields = [getattr(message, name) for name in message.kinds] if isinstance(message, Message) else None
    return repr([message, fields, message.received_ns, getattr(message, "raw", None), getattr(message, "extra", None)])

frames, pickles = json.loads(input()), json.loads(input())
messages = []
for numbers in ("float", "decimal"):
    for decoder in (Decoder(numbers), Decoder(numbers, keep_raw=True)):
        messages += [decoder.decode(frame, 5) for frame in frames]
        for name in sorted(HOT_TYPES):
            quick = decoder.quick(name)
            for frame in frames if quick else ():
                try:
                    message = quick(frame, 0)
                    set_field(message, "received_ns", 6)
                except UNUSUAL:
                    message = decoder.decode(frame, 6)
                messages.append(message)
pickles = [pickle.loads(base64.b64decode(each)) for each in pickles]
assert not pickles or pickles == messages
print(json.dumps({
    "storage": storage.__name__,
    "told": [told(message) for message in messages],
    "read": [told(message) for message in pickles],
    "copied": [told(each) for message in messages for each in (copy.copy(message), copy.deepcopy(message))],
    "pickles": [base64.b64encode(pickle.dumps(message)).decode() for message in messages],
}))
"""

ODD_FRAMES: Final = [
    '{"type":"trade","price":null,"sequence":7.0,"new":[1.0,{"a":null}],"received_ns":1,"raw":"x","extra":{}}',
    '{"type":"book","asks":[{"price":1},{"size":2,"orders":3}],"bids":null,"is_snapshot":"true"}',
    '{"type":"book5","is_snapshot":false}',
    '{"type":"book_l3","asks":[{"id":5,"price":-0,"size":-0.0}],"sequence":-9223372036854775807}',
    '{"type":"connectivity_status","status":"up"}',
    '{"type":"trade","price":1e999}',
    '{"type":"trade","price":123456789012345678901234567890}',
    '{"type":"trade"',
]


def run(how: str, frames: list[str], pickles: list[str]) -> dict[str, Any]:
    given = f"{json.dumps(frames)}\n{json.dumps(pickles)}\n"
    command = [sys.executable, "-W", "error", "-c", PROGRAM, how]
    finished = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    told: dict[str, Any] = json.loads(finished.stdout)
    return told


def test_without_msgspec_messages_are_kept_in_dicts() -> None:
    assert run("without", [], [])["storage"] == "coinapi_ws.records"


@WITH_MSGSPEC
def test_with_msgspec_and_without_all_is_alike(shared: Path) -> None:
    lines = (shared / "recordings" / "sample_frames.jsonl").read_text(encoding="utf-8").splitlines()
    frames = [json.loads(line)["frame"] for line in lines] + [usual_frame(name) for name in HOT_TYPES] + ODD_FRAMES
    plain = run("without", frames, [])
    structs = run("with", frames, plain["pickles"])
    assert (plain["storage"], structs["storage"]) == ("coinapi_ws.records", "coinapi_ws.structs")
    assert structs["told"] == plain["told"]
    assert structs["copied"] == plain["copied"]
    assert structs["read"] == plain["told"]
    assert run("without", frames, structs["pickles"])["read"] == plain["told"]


@pytest.mark.parametrize("protocol", [0, 1])
@pytest.mark.parametrize(
    ("kind", "state", "expected"),
    [
        (Trade, {"type": "trade", "price": 1.5, "extra": {"new": 1}}, Trade(price=1.5, extra={"new": 1})),
        (Trade, {}, Trade()),
        (Book, {"type": "book5", "asks": (Level(1.5, 2.5),)}, Book(type="book5", asks=[Level(1.5, 2.5)])),
    ],
)
def test_what_version_0_1_pickled_can_be_read(
    kind: type[Message], state: dict[str, Any], expected: Message, protocol: int
) -> None:
    class Written:
        def __reduce__(self) -> tuple[Any, ...]:
            return copyreg.__newobj__, (kind,), {**state, "received_ns": 5}  # type: ignore[attr-defined]

    message = pickle.loads(pickle.dumps(Written(), protocol))
    assert message == expected
    assert repr(message) == repr(expected)
    assert message.received_ns == 5


@WITH_MSGSPEC
@pytest.mark.parametrize("type_name", sorted(HOT_TYPES))
def test_msgspec_reads_floats_and_the_standard_library_decimals(type_name: str) -> None:
    by_storage = storage_reader(type_name)
    assert by_storage is not None
    assert type(Decoder().quick(type_name)) is type(by_storage)
    assert Decoder("decimal").quick(type_name).__name__ == parsing_reader(type_name, decimal=True).__name__  # type: ignore[union-attr]
    message = by_storage(usual_frame(type_name), 1)
    assert not gc.is_tracked(message), "a stream of messages is no work for the collector"
