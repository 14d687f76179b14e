"""From text to messages: every documented frame digit for digit, and whatever else may come."""

from __future__ import annotations

import decimal
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws.decoding import MAX_DEPTH, NUMBERS, Decoder
from coinapi_ws.events import Undecodable
from coinapi_ws.exceptions import ConfigurationError
from coinapi_ws.messages import MESSAGE_TYPES, Message, Trade, UnknownMessage

DECODERS: Final = {numbers: Decoder(numbers) for numbers in NUMBERS}
BOTH: Final = pytest.mark.parametrize("numbers", NUMBERS)

LEVEL_FIELDS: Final = {"Levels": ("price", "size"), "LevelsL3": ("price", "size", "id", "update_type")}


def decoded(text: str, numbers: str = "float") -> Any:
    message = DECODERS[numbers].decode(text, 5)
    assert isinstance(message, Message), message
    assert message.received_ns == 5
    return message


def refused(payload: Any, numbers: str = "float") -> str:
    """Return why a payload is no message."""
    event = DECODERS[numbers].decode(payload, 5)
    assert isinstance(event, Undecodable), event
    assert event.payload is payload
    assert event.received_ns == 5
    return event.reason


def exact(value: Any) -> Any:
    """Return a value in which numbers differ where their digits differ."""
    if isinstance(value, Decimal):
        return value.as_tuple()
    if isinstance(value, (list, tuple)):
        return [exact(item) for item in value]
    return {name: exact(item) for name, item in value.items()} if isinstance(value, dict) else value


def read_independently(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    return fields


# Documented and captured frames


@pytest.fixture(scope="module")
def frames(shared: Path) -> list[str]:
    lines = (shared / "recordings" / "sample_frames.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["frame"] for line in lines]


def test_samples_are_of_every_type(frames: list[str]) -> None:
    types = {read_independently(frame)["type"] for frame in frames}
    assert types == set(MESSAGE_TYPES) - {"heartbeat"}


def test_samples_digit_for_digit(frames: list[str]) -> None:
    for frame in frames:
        message, fields = decoded(frame, "decimal"), read_independently(frame)
        name = fields.pop("type")
        assert type(message) is MESSAGE_TYPES[name]
        assert message.type == ("heartbeat" if name == "hearbeat" else name)
        assert message.extra == {}
        for field, value in fields.items():
            assert exact_field(message, field) == exact(value), (name, field)
        for field in message.kinds.keys() - fields.keys() - {"is_snapshot"}:
            assert getattr(message, field) in (None, ()), (name, field)


def exact_field(message: Message, field: str) -> Any:
    value, kind = getattr(message, field), message.kinds[field]
    if kind in LEVEL_FIELDS:
        return [exact({name: v for name, v in level._asdict().items() if v is not None}) for level in value]
    return exact(Decimal(value) if kind == "Count" else value)


def test_samples_as_floats(frames: list[str]) -> None:
    for frame in frames:
        message, exactly = decoded(frame), decoded(frame, "decimal")
        assert message.extra == {}
        for field, kind in message.kinds.items():
            value = getattr(message, field)
            if kind == "Number" and value is not None:
                assert type(value) is float
                assert value == float(getattr(exactly, field))
            elif kind == "Count" and value is not None:
                assert type(value) is int
                assert value == getattr(exactly, field)
            elif kind in LEVEL_FIELDS:
                assert {type(number) for level in value for number in level[:2]} <= {float}
                levels = [tuple(map(float, level[:2])) for level in getattr(exactly, field)]
                assert [level[:2] for level in value] == levels
            else:
                assert value == getattr(exactly, field)


@given(st.data())
def test_the_order_of_keys_makes_no_difference(frames: list[str], data: st.DataObject) -> None:
    """Captured frames put `type` last, the documentation first."""
    frame = data.draw(st.sampled_from(frames))
    keys = data.draw(st.permutations(list(json.loads(frame))))
    members = {key: frame_member(frame, key) for key in keys}
    for numbers in NUMBERS:
        assert decoded("{" + ",".join(members.values()) + "}", numbers) == decoded(frame, numbers)


def frame_member(frame: str, key: str) -> str:
    """Return the text of one member as the frame has it, so that no digit changes."""
    start = frame.index(f'"{key}":')
    _, end = json.JSONDecoder().raw_decode(frame, start + len(key) + 3)
    return frame[start:end]


# Numbers: by their field, not by their token


@pytest.mark.parametrize("token", ["3252", "12.770", "0", "-0.0", "1e3", "1E-8", "770.000000000", "-5", "0.00000000"])
def test_the_kind_of_a_number_is_its_fields(token: str) -> None:
    text = f'{{"type":"trade","price":{token}}}'
    assert (type(decoded(text).price), decoded(text).price) == (float, float(token))
    assert exact(decoded(text, "decimal").price) == Decimal(token).as_tuple()
    level = decoded(f'{{"type":"book","asks":[{{"price":{token},"size":{token}}}]}}', "decimal").asks[0]
    assert exact(level) == [Decimal(token).as_tuple()] * 2


@BOTH
@pytest.mark.parametrize(
    ("token", "count"),
    [("7", 7), ("-7", -7), ("0", 0), ("7.0", 7), ("7e0", 7), ("1e3", 1000), ("9223372036854775807", 2**63 - 1)],
)
def test_counts_are_int(token: str, count: int, numbers: str) -> None:
    sequence = decoded(f'{{"type":"trade","sequence":{token}}}', numbers).sequence
    assert (type(sequence), sequence) == (int, count)


@BOTH
@pytest.mark.parametrize(
    "token",
    [
        "7.5",
        "1e-3",
        "9223372036854775808",
        "-9223372036854775808",
        "1e19",
        "1e999",
        "1e999999",
        '"7"',
        "true",
        "[]",
        "{}",
    ],
)
def test_what_is_no_count(token: str, numbers: str) -> None:
    assert refused(f'{{"type":"trade","sequence":{token}}}', numbers) == "sequence: not an integer of 64 bits"


def test_28_decimals() -> None:
    text = '{"type":"asset","price_usd":0.0189885151556305438646080756}'
    assert str(decoded(text, "decimal").price_usd) == "0.0189885151556305438646080756"
    assert decoded(text).price_usd == 0.0189885151556305438646080756


#: PyPy's Decimal goes through an int.
TOO_LONG_FOR_PYPY = pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy refuses over 4,300 digits")


@pytest.mark.parametrize(
    "token",
    [
        "9" * 4_300,
        pytest.param("0." + "7" * 4_300, marks=TOO_LONG_FOR_PYPY),
        pytest.param("9" * 5_000, marks=TOO_LONG_FOR_PYPY),
        "1e999",
        "1e-999999",
        "1E+999999",
    ],
)
def test_decimal_keeps_every_digit(token: str) -> None:
    message = decoded(f'{{"type":"trade","price":{token},"new":{token}}}', "decimal")
    assert exact(message.price) == exact(message.extra["new"]) == Decimal(token).as_tuple()


def test_decimal_does_not_depend_on_the_callers_context() -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        for trap in context.traps:
            context.traps[trap] = False
        assert str(decoded('{"type":"trade","price":123456.789}', "decimal").price) == "123456.789"
        reason = "price: a number that cannot be represented"
        assert refused('{"type":"trade","price":1e9999999999999999999}', "decimal") == reason
        assert "cannot be represented" in refused('{"type":"trade","new":1e9999999999999999999}', "decimal")


PLACES: Final = {
    "a field": '{{"type":"trade","price":{}}}',
    "a level": '{{"type":"book","asks":[{{"price":1}},{{"size":{}}}]}}',
    "an L3 level": '{{"type":"book_l3","bids":[{{"price":{}}}]}}',
    "an order id": '{{"type":"book_l3","bids":[{{"id":{}}}]}}',
    "an unknown field": '{{"type":"trade","new":{}}}',
    "deep in an unknown field": '{{"type":"trade","new":[{{"a":[1,{}]}}]}}',
    "an unknown field of a level": '{{"type":"book","asks":[{{"new":{}}}]}}',
    "an unknown message": '{{"type":"new","price":{}}}',
    "a list": '{{"type":"asset","chain_addresses":[{}]}}',
    "any JSON": '{{"type":"symbol","raw_kvp":{{"a":{}}}}}',
}
EVERYWHERE: Final = pytest.mark.parametrize("place", PLACES)


@EVERYWHERE
@BOTH
@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_no_number_in_json(place: str, token: str, numbers: str) -> None:
    assert refused(PLACES[place].format(token), numbers) == f"{token} is no number in JSON"


@EVERYWHERE
@pytest.mark.parametrize("token", ["1e999", "-1e999"])
def test_beyond_a_float(place: str, token: str) -> None:
    assert "a number that cannot be represented" in refused(PLACES[place].format(token))


@pytest.mark.parametrize("token", ["9" * 400, "-" + "9" * 4_300])
def test_an_integer_beyond_a_float(token: str) -> None:
    assert refused(f'{{"type":"trade","price":{token}}}') == "price: a number that cannot be represented"


@EVERYWHERE
def test_an_integer_of_more_digits_than_int_takes(place: str) -> None:
    assert refused(PLACES[place].format("9" * 4_301)) == "a number that cannot be represented"


@EVERYWHERE
@pytest.mark.parametrize("token", ["1e9999999999999999999", "1e-9999999999999999999"])
def test_beyond_a_decimal(place: str, token: str) -> None:
    assert refused(PLACES[place].format(token), "decimal") == "a number that cannot be represented"


# Texts that no UTF-8 can hold


@EVERYWHERE
@BOTH
@pytest.mark.parametrize("half", ["\\ud800", "\\uDFFF", "\\udc00\\ud800", "\ud800"])
def test_lone_surrogates(place: str, half: str, numbers: str) -> None:
    reason = "a lone surrogate in a text"
    assert refused(PLACES[place].format(f'"x{half}y"'), numbers) == reason
    assert refused(PLACES[place].format(f'{{"x{half}y":1}}'), numbers) == reason


@BOTH
@pytest.mark.parametrize("text", ['{"type":"trade","\\ud800":1}', '{"type":"\\ud800"}', '{"\\udfff":1,"type":"book"}'])
def test_lone_surrogates_in_names(text: str, numbers: str) -> None:
    assert refused(text, numbers) == "a lone surrogate in a text"


@BOTH
def test_whole_characters_pass(numbers: str) -> None:
    text = '{"type":"error","message":"\\ud83d\\ude00 \\u0027 \\\\ud800 é 😀"}'
    assert decoded(text, numbers).message == "😀 ' \\ud800 é 😀"


# Nesting


@EVERYWHERE
@BOTH
@pytest.mark.parametrize("bomb", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000], ids=len)
def test_nesting_bombs(place: str, bomb: str, numbers: str) -> None:
    assert refused(PLACES[place].format(bomb), numbers) in ("not valid JSON", f"nested deeper than {MAX_DEPTH} levels")
    assert refused(bomb, numbers) in ("not valid JSON", "not a JSON object", f"nested deeper than {MAX_DEPTH} levels")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, 200])
@pytest.mark.parametrize("place", ["an unknown field", "an unknown message", "an unknown field of a level"])
@BOTH
def test_depth(opening: str, depth: int, place: str, numbers: str) -> None:
    nested = opening * depth + "1" + ("]" if opening == "[" else "}") * depth
    text = PLACES[place].format(nested)
    if depth < MAX_DEPTH:
        assert nested.count(opening) == depth
        assert decoded(text, numbers).extra
    else:
        assert refused(text, numbers) == "nested deeper than 64 levels"


# What is no message


@BOTH
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        (" ", "not valid JSON"),
        ("{", "not valid JSON"),
        ('{"type":"trade"', "not valid JSON"),
        ('{"type":"trade",}', "not valid JSON"),
        ("{'type':'trade'}", "not valid JSON"),
        ('\ufeff{"type":"trade"}', "not valid JSON"),
        ('\x0b{"type":"trade"}', "not valid JSON"),
        ('\xa0{"type":"trade"}', "not valid JSON"),
        ('{"type":"tr\nade"}', "not valid JSON"),
        ('{"type":"trade","price":01}', "not valid JSON"),
        ('{"type":"trade","price":+1}', "not valid JSON"),
        ('{"type":"trade","price":.5}', "not valid JSON"),
        ('{"type":"trade","price":1.}', "not valid JSON"),
        ('{"type":"trade"}x', "not valid JSON: something follows the object"),
        ('{"type":"trade"}{}', "not valid JSON: something follows the object"),
        ('{"type":"trade"}\x00', "not valid JSON: something follows the object"),
        ('{"type":"trade"}\xa0', "not valid JSON: something follows the object"),
        ("[]", "not a JSON object"),
        ('[{"type":"trade"}]', "not a JSON object"),
        ('"trade"', "not a JSON object"),
        ("1", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", 'no "type" that is a text'),
        ('{"Type":"trade"}', 'no "type" that is a text'),
        ('{"type":null}', 'no "type" that is a text'),
        ('{"type":1}', 'no "type" that is a text'),
        ('{"type":["trade"]}', 'no "type" that is a text'),
        ('{"type":{"a":1}}', 'no "type" that is a text'),
        ('{"type":"trade","price":"1.5"}', "price: not a number"),
        ('{"type":"trade","price":true}', "price: not a number"),
        ('{"type":"trade","price":[]}', "price: not a number"),
        ('{"type":"trade","uuid":1}', "uuid: not a text"),
        ('{"type":"trade","time_exchange":1.5}', "time_exchange: not a text"),
        ('{"type":"book","is_snapshot":"yes"}', "is_snapshot: neither true nor false"),
        ('{"type":"book","is_snapshot":2}', "is_snapshot: neither true nor false"),
        ('{"type":"book","is_snapshot":[]}', "is_snapshot: neither true nor false"),
        ('{"type":"book","asks":{}}', "asks: not a list"),
        ('{"type":"book","bids":"1"}', "bids: not a list"),
        ('{"type":"book","bids":[[1,2]]}', "bids: a level that is not an object"),
        ('{"type":"book","bids":[null]}', "bids: a level that is not an object"),
        ('{"type":"book","bids":[{"price":"1"}]}', "bids: not a number"),
        ('{"type":"book_l3","asks":[{"id":true}]}', "asks: id: neither a text nor a number"),
        ('{"type":"book_l3","asks":[{"id":[]}]}', "asks: id: neither a text nor a number"),
        ('{"type":"book_l3","asks":[{"update_type":1}]}', "asks: not a text"),
        ('{"type":"exchange","icons":{}}', "icons: not a list"),
    ],
)
def test_what_is_no_message(text: str, reason: str, numbers: str) -> None:
    assert refused(text, numbers) == reason


@BOTH
@pytest.mark.parametrize("payload", [b"", b'{"type":"trade"}', b"\xff"])
def test_binary_frames(payload: bytes, numbers: str) -> None:
    assert refused(payload, numbers) == "a binary frame"


@BOTH
@pytest.mark.parametrize(("before", "after"), [(" ", ""), ("", " "), ("\r\n\t ", "\t\r\n "), ("", "\n")])
def test_whitespace_around_is_allowed(before: str, after: str, numbers: str) -> None:
    assert decoded(f'{before}{{ "type" :\t"trade" }}{after}', numbers) == Trade()


def test_raw_is_kept_on_request() -> None:
    text = ' {"type":"trade"}'
    message = Decoder(keep_raw=True).decode(text)
    assert isinstance(message, Trade)
    assert message.raw is text
    assert decoded(text).raw is None


@pytest.mark.parametrize("numbers", ["int", "", None, ["float"]])
def test_numbers_are_of_two_kinds(numbers: Any) -> None:
    with pytest.raises(ConfigurationError, match='write "float" or "decimal"'):
        Decoder(numbers)


def test_an_unknown_type_is_kept() -> None:
    message = decoded('{"type":"connectivity_status","status":"up","price":3252}')
    assert type(message) is UnknownMessage
    assert (message.type, message.extra) == ("connectivity_status", {"status": "up", "price": 3252})
