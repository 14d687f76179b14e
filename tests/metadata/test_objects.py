"""The objects of a JSON array, from its text in any pieces."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws.converting import Refused, scanner
from coinapi_ws.metadata.objects import MAX_OBJECT_CHARACTERS, SharedTexts, objects_of

TEXTS = st.text(max_size=6)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.none() | st.booleans() | NUMBERS | TEXTS | st.lists(NUMBERS | TEXTS, max_size=2) | st.just({"{": ["}"]})
ARRAYS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=2), max_size=4)
BLANKS = st.sampled_from(["", " ", "\n", "\t\r\n  "])


def read(pieces: Iterable[str]) -> list[tuple[dict[str, Any], str]]:
    return list(objects_of(pieces, scanner(decimal=False)))


def cut(text: str, sizes: list[int]) -> Iterator[str]:
    """The text in pieces of these sizes, some perhaps empty, and the rest."""
    for size in sizes:
        yield text[:size]
        text = text[size:]
    yield text


@given(ARRAYS, st.sampled_from([None, (",", ":"), (" ,\n", " : ")]), BLANKS, st.lists(st.integers(0, 9)), st.booleans())
def test_any_pieces_give_what_the_whole_gives(
    array: list[Any], separators: tuple[str, str] | None, blanks: str, sizes: list[int], ascii_only: bool
) -> None:
    text = f"{blanks}{json.dumps(array, separators=separators, ensure_ascii=ascii_only)}{blanks}"
    found = read(cut(text, sizes))
    assert [fields for fields, _ in found] == json.loads(text) == [json.loads(each) for _, each in found]
    assert read(text) == found  # character for character


@given(ARRAYS, st.data())
def test_what_is_cut_off_is_never_a_shorter_list(array: list[Any], data: st.DataObject) -> None:
    text = json.dumps(array)
    end = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(Refused):
        read([text[:end]])


@given(ARRAYS, st.text(min_size=1), st.data())
def test_what_the_standard_library_refuses_is_refused(array: list[Any], noise: str, data: st.DataObject) -> None:
    text = json.dumps(array)
    position = data.draw(st.integers(0, len(text)))
    text = text[:position] + noise + text[position:]
    try:
        found = [fields for fields, _ in read(text)]
    except Refused:
        return
    assert found == json.loads(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "[ was expected, and nothing came"),
        ("  ", "[ was expected, and nothing came"),
        ("<html>", "[ was expected, not '<'"),
        ('{"error": "none"}', "[ was expected, not '{'"),
        ("[", "{ or ] was expected, and nothing came"),
        ("[1]", "{ or ] was expected, not '1'"),
        ("[{}", ", or ] was expected, and nothing came"),
        ("[{},", "{ was expected, and nothing came"),
        ("[{},]", "{ was expected, not ']'"),
        ("[{} {}]", ", or ] was expected, not '{'"),
        ("[{}]]", "the end was expected, not ']'"),
        ('[{"a": 1', "the last object is cut off, or no JSON"),
        ("[{a: 1}]", "the last object is cut off, or no JSON"),
        ('[{"a": NaN}]', "NaN is no number in JSON"),
        ('[{"a": ' + "[" * 100_000, "nested deeper than 64 levels"),
    ],
)
def test_it_says_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        read([text])
    assert str(caught.value) == reason


def test_an_object_has_a_bound() -> None:
    long = f'[{{"a": "{"x" * (MAX_OBJECT_CHARACTERS - 10)}"}}]'
    assert len(read([long[:-9], long[-9:]])) == 1
    with pytest.raises(Refused, match=f"more than {MAX_OBJECT_CHARACTERS} characters"):
        read(['[{"a": "', *("x" * 1024 for _ in range(2 * MAX_OBJECT_CHARACTERS // 1024))])


def test_a_long_object_that_drips_in_is_not_read_again_for_each_piece() -> None:
    read_times = 0
    scan = scanner(decimal=False)

    def counting(text: str, position: int) -> tuple[Any, int]:
        nonlocal read_times
        read_times += 1
        return scan(text, position)

    text = json.dumps([{"a": "}" * 100_000}])
    assert len(list(objects_of(text, counting))) == 1  # in pieces of one character
    assert read_times < 100


def test_memory_is_that_of_an_object_not_of_the_list() -> None:
    def pieces() -> Iterator[str]:
        yield "["
        for number in range(5_000):
            yield json.dumps({"symbol_id": f"EXCHANGE_SPOT_{number}_USD", "price": number}) + ","
        yield "{}]"

    tracemalloc.start()
    try:
        assert sum(1 for _ in objects_of(pieces(), scanner(decimal=False))) == 5_001
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_equal_short_texts_are_one() -> None:
    texts = SharedTexts()
    objects = [json.loads('{"a": "COINBASE", "b": "COINBASE", "c": "a text that is long", "d": 1}') for _ in range(2)]
    before = [dict(fields) for fields in objects]
    for fields in objects:
        texts.share(fields)
    assert objects == before
    first, second = objects
    assert first["a"] is first["b"] is second["a"] is second["b"]
    assert first["c"] is not second["c"]
