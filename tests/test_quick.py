"""The quick readers: the frames that they are for, and that they say the same as the exact way whatever comes."""

from __future__ import annotations

import decimal
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quick_frames import COUNT_TOKENS, NUMBER_TOKENS, ODD_VALUES, frames, said, usual_frame

from coinapi_ws.decoding import NUMBERS, UNUSUAL, Decoder
from coinapi_ws.kinds import level_kinds
from coinapi_ws.messages import MESSAGE_TYPES, Message, set_field
from coinapi_ws.quick import HOT_TYPES, Reader, parsing_reader, storage_reader

EXACT: Final = {numbers: Decoder(numbers) for numbers in NUMBERS}
EVERY_TYPE: Final = pytest.mark.parametrize("type_name", sorted(HOT_TYPES))


def readers(type_name: str) -> Iterator[tuple[Reader, Decoder]]:
    """Yield each reader of this type that there is here, and whom it has to agree with."""
    for numbers, exact in EXACT.items():
        yield parsing_reader(type_name, decimal=numbers == "decimal"), exact
    by_storage = storage_reader(type_name)
    if by_storage is not None:
        yield by_storage, EXACT["float"]


def is_quick(reader: Reader, exact: Decoder, text: str) -> bool:
    """Tell whether the reader takes a frame; if so, it says the same as the exact way."""
    try:
        message = reader(text, 0)
    except UNUSUAL:
        return False
    exactly = exact.decode(text)
    assert said(message) == said(exactly)
    assert message == exactly
    return True


def every_reader_takes(text: str) -> bool:
    taken = {is_quick(reader, exact, text) for reader, exact in readers(json.loads(text)["type"])}
    assert len(taken) == 1, text
    return taken.pop()


# Which frames are quick


def test_hot_types_alone_have_a_quick_reader() -> None:
    for numbers in NUMBERS:
        assert {name for name in [*MESSAGE_TYPES, "new"] if Decoder(numbers).quick(name) is not None} == HOT_TYPES
        assert [name for name in MESSAGE_TYPES if Decoder(numbers, keep_raw=True).quick(name) is not None] == []


@EVERY_TYPE
@pytest.mark.parametrize("numbers", NUMBERS)
def test_the_decoder_gives_a_reader_of_its_numbers(type_name: str, numbers: str) -> None:
    quick = Decoder(numbers).quick(type_name)
    assert quick is not None
    assert is_quick(quick, EXACT[numbers], usual_frame(type_name))


def test_documented_and_captured_frames_are_quick(shared: Path) -> None:
    lines = (shared / "recordings" / "sample_frames.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["frame"] for line in lines]
    hot = [text for text in texts if json.loads(text)["type"] in HOT_TYPES]
    assert {json.loads(text)["type"] for text in hot} == HOT_TYPES
    assert [text for text in hot if not every_reader_takes(text)] == []


def test_recorded_frames_are_quick(shared: Path) -> None:
    with gzip.open(shared / "recordings" / "coinbase_2021-04-17.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["frame"] for line, _ in zip(lines, range(400), strict=False)]
    assert [text for text in texts if not every_reader_takes(text)] == []


@EVERY_TYPE
@pytest.mark.parametrize("value", [..., None])
def test_what_is_absent_or_null_is_quick(type_name: str, value: Any) -> None:
    assert every_reader_takes(usual_frame(type_name))
    for name in MESSAGE_TYPES[type_name].kinds:
        assert every_reader_takes(usual_frame(type_name, **{name: value}))


@EVERY_TYPE
def test_integers_are_quick(type_name: str) -> None:
    text = usual_frame(type_name)
    assert every_reader_takes(text.replace("95.5", "3252").replace("1.5", "0").replace("2.5", "12345678901234567890"))


@pytest.mark.parametrize("side", ["asks", "bids"])
def test_levels_of_a_snapshot_without_update_type_are_quick(side: str) -> None:
    assert every_reader_takes(usual_frame("book_l3", **{side: [{"id": "a", "price": 1.5, "size": 2}]}))


@EVERY_TYPE
def test_what_is_not_declared_is_not_quick(type_name: str) -> None:
    for name in ("new", "received_ns", "raw", "extra", "__dict__", "kinds"):
        for value in (1, None, {}, "x"):
            assert not every_reader_takes(usual_frame(type_name, **{name: value}))


@pytest.mark.parametrize("type_name", ["book", "book5", "book_l3"])
def test_what_is_not_declared_in_a_level_is_not_quick(type_name: str) -> None:
    assert not every_reader_takes(usual_frame(type_name, asks=[{"price": 1.5, "size": 2.5, "id": "a", "orders": 3}]))


@EVERY_TYPE
def test_a_frame_of_another_type_is_not_quick(type_name: str) -> None:
    for name in HOT_TYPES - {type_name}:
        for reader, exact in readers(type_name):
            assert not is_quick(reader, exact, usual_frame(type_name).replace(f'"{type_name}"', f'"{name}"'))


@pytest.mark.parametrize("type_name", ["book5", "book20", "book50"])
@pytest.mark.parametrize("said_so", ["true", "false", "null", '"yes"'])
def test_a_whole_book_is_a_snapshot_whatever_it_says(type_name: str, said_so: str) -> None:
    text = usual_frame(type_name, is_snapshot=...).replace("{", f'{{"is_snapshot":{said_so},', 1)
    for reader, exact in readers(type_name):
        assert is_quick(reader, exact, text) is (said_so != '"yes"')


# Whatever comes


@EVERY_TYPE
@given(st.data())
def test_a_quick_reader_says_what_the_exact_way_says(type_name: str, data: st.DataObject) -> None:
    text = data.draw(frames(type_name))
    for reader, exact in readers(type_name):
        is_quick(reader, exact, text)


VALUES: Final = [*ODD_VALUES, *NUMBER_TOKENS.split(), *COUNT_TOKENS.split()]


@EVERY_TYPE
def test_any_value_of_any_field(type_name: str) -> None:
    for name in [*MESSAGE_TYPES[type_name].kinds, "type"]:
        for value in VALUES:
            text = usual_frame(type_name, **{name: "value"}).replace('"value"', value)
            twice = text.replace("{", f'{{"{name}":{value},', 1)
            for reader, exact in readers(type_name):
                is_quick(reader, exact, text)
                is_quick(reader, exact, twice)


@pytest.mark.parametrize("type_name", ["book", "book50", "book_l3"])
def test_any_value_of_any_field_of_a_level(type_name: str) -> None:
    for name in level_kinds(MESSAGE_TYPES[type_name].kinds["asks"]):
        for value in VALUES:
            level = {"id": "a", "price": 1.5, "size": 2.5} if type_name == "book_l3" else {"price": 1.5, "size": 2.5}
            text = usual_frame(type_name, asks=[level, level | {name: "value"}]).replace('"value"', value)
            for reader, exact in readers(type_name):
                is_quick(reader, exact, text)


@EVERY_TYPE
def test_decimals_do_not_depend_on_the_callers_context(type_name: str) -> None:
    reader = parsing_reader(type_name, decimal=True)
    with decimal.localcontext() as context:
        for trap in context.traps:
            context.traps[trap] = False
        for usual in ("95.5", "1.5", "2.5"):
            text = usual_frame(type_name).replace(usual, "1e9999999999999999999")
            assert is_quick(reader, EXACT["decimal"], text) is (text == usual_frame(type_name))


@EVERY_TYPE
@given(
    st.text(alphabet='{}[]",:\\ue0123dD8tye-.NaIf é') | st.sampled_from(["", "null", "1", '"a"', "[]", "[[]]", "{}"])
)
def test_any_text(type_name: str, text: str) -> None:
    for reader, exact in readers(type_name):
        assert not is_quick(reader, exact, text)


@pytest.mark.parametrize("token", ["[" * 100_000, '{"a":' * 100_000, "[" * 5_000 + "]" * 5_000])
@EVERY_TYPE
def test_nesting_bombs(type_name: str, token: str) -> None:
    for name in MESSAGE_TYPES[type_name].kinds:
        text = usual_frame(type_name, **{name: "bomb"}).replace('"bomb"', token)
        for reader, exact in readers(type_name):
            assert not is_quick(reader, exact, text)


# What was read


@EVERY_TYPE
def test_what_is_set_before_a_message_is_published(type_name: str) -> None:
    for reader, _ in readers(type_name):
        message: Any = reader(usual_frame(type_name), 0)
        assert message.received_ns == 0
        set_field(message, "received_ns", 5)
        assert message.received_ns == 5
        if "is_snapshot" in message.kinds:
            set_field(message, "is_snapshot", None)
            assert message.is_snapshot is None


@EVERY_TYPE
def test_the_readers_share_nothing(type_name: str) -> None:
    for reader, _ in readers(type_name):
        one, other = reader(usual_frame(type_name), 0), reader(usual_frame(type_name), 0)
        set_field(one, "received_ns", 5)
        assert (one == other, other.received_ns) == (True, 0)
        assert isinstance(one, Message)
