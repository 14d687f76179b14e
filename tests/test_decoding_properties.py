"""Decoding, whatever comes: never an exception, nothing lost, the same in both kinds of numbers."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any, Final

from hypothesis import example, given
from hypothesis import strategies as st

from coinapi_ws.decoding import NUMBERS, Decoder
from coinapi_ws.events import Undecodable
from coinapi_ws.messages import MESSAGE_TYPES, Message

DECODERS: Final = {numbers: Decoder(numbers) for numbers in NUMBERS}
LEVEL_KINDS: Final = ("Levels", "LevelsL3")

TYPES: Final = [*MESSAGE_TYPES, "connectivity_status"]
NAMES: Final = sorted({name for kind in MESSAGE_TYPES.values() for name in kind.kinds} | {"type", "id", "update_type"})

scalars: Final = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["1", "BUY"])
anything: Final = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=4),
    max_leaves=12,
)
objects: Final = st.dictionaries(st.sampled_from(NAMES) | st.text(), anything, max_size=6)


@given(st.text() | st.text(alphabet='{}[]",:\\ue0123dD8tye-.NaIf \ud800'))
@example("\ud800")
@example('{"type":"trade","a":"\\u')
def test_any_text_is_decoded_or_refused(text: str) -> None:
    for decoder in DECODERS.values():
        result = decoder.decode(text)
        assert isinstance(result, Message) or result.payload is text


@given(objects, st.sampled_from(TYPES) | anything)
def test_any_object_is_decoded_or_refused(fields: dict[str, Any], name: Any) -> None:
    text = json.dumps({**fields, "type": name})
    for decoder in DECODERS.values():
        result = decoder.decode(text)
        if isinstance(result, Message):
            assert result.type == ("heartbeat" if name == "hearbeat" else name)
            assert repr(result).isprintable()
        else:
            assert result.payload is text


numbers_: Final = st.decimals(allow_nan=False, allow_infinity=False).map(str)
levels: Final = st.fixed_dictionaries({}, optional={"price": numbers_, "size": numbers_, "new": numbers_})
levels_l3: Final = st.fixed_dictionaries(
    {},
    optional={
        "price": numbers_,
        "size": numbers_,
        "id": st.text().map(json.dumps),
        "update_type": st.sampled_from(['"ADD"', '"SET"']),
        "new": st.text().map(json.dumps),
    },
)


def as_json(levels: list[dict[str, str]]) -> str:
    return "[" + ",".join("{" + ",".join(f'"{k}":{v}' for k, v in level.items()) + "}" for level in levels) + "]"


TOKENS: Final = {
    "Text": st.text().map(json.dumps),
    "Time": st.text().map(json.dumps),
    "Number": numbers_,
    "Count": st.integers(-(2**63) + 1, 2**63 - 1).map(str),
    "Flag": st.sampled_from(["true", "false"]),
    "Items": st.lists(st.text() | st.booleans()).map(json.dumps),
    "Json": st.dictionaries(st.text(), st.text() | st.none()).map(json.dumps),
    "Levels": st.lists(levels, max_size=3).map(as_json),
    "LevelsL3": st.lists(levels_l3, max_size=3).map(as_json),
}


@st.composite
def valid_frames(draw: st.DrawFn) -> str:
    """Draw the text of a known message whose fields have the right kinds, some null, and unknown fields."""
    name = draw(st.sampled_from(TYPES))
    kinds = MESSAGE_TYPES[name].kinds if name in MESSAGE_TYPES else {}
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), unique=True, max_size=8)) if kinds else []
    members = {field: draw(st.just("null") | TOKENS[kinds[field]]) for field in chosen}
    unknown = draw(
        st.dictionaries(st.sampled_from(NAMES) | st.text(), st.text().map(json.dumps) | numbers_, max_size=3)
    )
    members |= {field: value for field, value in unknown.items() if field not in kinds and field != "type"}
    members["type"] = json.dumps(name)
    order = draw(st.permutations(list(members)))
    return "{" + ",".join(f"{json.dumps(field)}:{members[field]}" for field in order) + "}"


def exact(value: Any) -> Any:
    """Return a value in which numbers differ where their digits differ."""
    if isinstance(value, Decimal):
        return value.as_tuple()
    if isinstance(value, (list, tuple)):
        return [exact(item) for item in value]
    return {name: exact(item) for name, item in value.items()} if isinstance(value, dict) else value


@given(valid_frames())
def test_nothing_is_lost(frame: str) -> None:
    """Fields and extra together hold all that the frame says."""
    message = DECODERS["decimal"].decode(frame)
    assert isinstance(message, Message), message
    fields: dict[str, Any] = json.loads(frame, parse_float=Decimal, parse_int=Decimal)
    held: dict[str, Any] = {"type": fields["type"]}
    for field, kind in message.kinds.items():
        if kind in LEVEL_KINDS:
            extra = message.extra.get(field, {})
            held[field] = [
                {k: v for k, v in level._asdict().items() if v is not None} | extra.get(position, {})
                for position, level in enumerate(getattr(message, field))
            ]
        else:
            value = getattr(message, field)
            held[field] = Decimal(value) if kind == "Count" and value is not None else value
    held |= {field: value for field, value in message.extra.items() if message.kinds.get(field) not in LEVEL_KINDS}
    said = {field: value for field, value in fields.items() if value is not None and field not in forced(message)}
    assert {field: exact(held[field]) for field in said} == {field: exact(value) for field, value in said.items()}
    assert all(held[field] in (None, (), []) for field in held.keys() - said.keys() - forced(message))


def forced(message: Message) -> set[str]:
    """Return what the type of a message says whatever the frame says."""
    return {"is_snapshot"} if message.type in ("book5", "book20", "book50") else set()


@given(valid_frames())
def test_float_and_decimal_read_the_same(frame: str) -> None:
    exactly, message = DECODERS["decimal"].decode(frame), DECODERS["float"].decode(frame)
    if isinstance(message, Undecodable):
        assert "cannot be represented" in message.reason or message.reason == "not valid JSON"
        return
    assert type(message) is type(exactly)
    for field, kind in message.kinds.items():
        value, other = getattr(message, field), getattr(exactly, field)
        if kind == "Number" and value is not None:
            assert math.isfinite(value)
            assert value == float(other)
        elif kind not in LEVEL_KINDS:
            assert value == other
    assert message.extra.keys() == exactly.extra.keys()
