"""Frames of the hot types: as they mostly are, nearly so, and hostile; and what a message says, to the last digit."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import strategies as st

from coinapi_ws.events import Undecodable
from coinapi_ws.kinds import LEVEL_TYPES, level_kinds
from coinapi_ws.messages import MESSAGE_TYPES, Message

NUMBER_TOKENS: Final = """
0 -0 -0.0 0.00000000 770.000000000 1e3 1E-8 1e-400 0e999 -5 9007199254740993 9007199254740993.0 5e-324
1.7976931348623158e308 2.2250738585072011e-308 2.4703282292062328e-324 123456789012345678901234567890.5e-10
"""
COUNT_TOKENS: Final = """
7 -7 -0 7.0 1e3 1073741824 9223372036854775807 9223372036854775808 -9223372036854775807 -9223372036854775808
"""
#: What fits some kinds, or none.
ODD_TOKENS: Final = """
null true false "true" 0 1 "1" [] {} [null] [[1,2]] [[1,2,3]] ["ab"] [{"price":1}] [{"size":"1"}] {"id":"a","price":1.5}
NaN Infinity -Infinity 1e999 -1e999 1e9999999999999999999 1. 01 +1 7.5 'a' "\\ud800" "\\udc00\\ud800" "\\ud83d\\ude00"
"\\u0041" "\\x" "é"
"""
NAME_TOKENS: Final = """
new Type received_ns raw extra kinds __dict__ __class__ time_exchange_ns pric\\u0065 typ\\u0065 id \\ud800
"""
LONG: Final = ["0." + "7" * 400, "9" * 300]
HOSTILE: Final = ["9" * 400, "-" + "9" * 4400, "1." + "1" * 5000, "[" * 70 + "]" * 70, "[" * 3000, "", '"\n"']
DECLARED: Final = sorted({name for kind in MESSAGE_TYPES.values() for name in kind.kinds})

TEXTS: Final = st.sampled_from(['"COINBASE_SPOT_BTC_USD"', '"2024-04-21T13:26:34.6972320Z"', '"BUY"', '""', '"a\x7f~"'])
NUMBERS: Final = (
    st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.decimals(allow_nan=False, allow_infinity=False).map(str)
    | st.integers().map(str)
    | st.sampled_from([*NUMBER_TOKENS.split(), *LONG])
)
COUNTS: Final = st.integers(-(2**64), 2**64).map(str) | st.sampled_from(COUNT_TOKENS.split())
ODD_VALUES: Final = [*ODD_TOKENS.split(), *HOSTILE]
ODD: Final = st.sampled_from(ODD_VALUES)
NAMES: Final = st.sampled_from(["", *NAME_TOKENS.split()]) | st.sampled_from([*DECLARED, "type"])
SPACES: Final = st.sampled_from(["", "", " ", "\r\n\t", "\n"])
ENDS: Final = st.sampled_from(["", " ", "\n", "x", "{}", ",", "\x00", "\x0b"])

Member = tuple[str, str]


@st.composite
def tokens(draw: st.DrawFn, kind: str) -> str:
    """Draw the JSON of a value that is of this kind."""
    if kind in LEVEL_TYPES:
        levels = [draw(objects(level_kinds(kind))) for _ in range(draw(st.integers(0, 3)))]
        return "[" + ",".join(levels) + "]"
    if kind == "Number":
        return draw(NUMBERS)
    if kind == "Count":
        return draw(COUNTS)
    return draw(st.sampled_from(["true", "false"]) if kind == "Flag" else TEXTS)


@st.composite
def objects(draw: st.DrawFn, kinds: dict[str, str], type_name: str | None = None) -> str:
    """Draw an object with these members, of which some may be changed, absent, twice there or not declared."""
    members: list[Member] = [(name, draw(tokens(kind))) for name, kind in kinds.items()]
    if type_name is not None:
        members.append(("type", f'"{type_name}"'))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, len(members)))
        change = draw(st.sampled_from(["odd", "odd", "drop", "twice", "new", "move"]))
        if change == "new" or place == len(members):
            members.insert(place, (draw(NAMES), draw(ODD | NUMBERS)))
        elif change == "odd":
            members[place] = (members[place][0], draw(ODD))
        elif change == "drop":
            del members[place]
        elif change == "twice":
            members.insert(draw(st.integers(0, len(members))), (members[place][0], draw(ODD | TEXTS | NUMBERS)))
        else:
            members.append(members.pop(place))
    space = draw(SPACES)
    return "{" + ",".join(f'{space}"{name}":{space}{value}' for name, value in members) + "}"


@st.composite
def frames(draw: st.DrawFn, type_name: str) -> str:
    """Draw the text of a frame that ends in its type, unless something was changed."""
    kinds = dict(MESSAGE_TYPES[type_name].kinds)
    for name in draw(st.sets(st.sampled_from(sorted(kinds)), max_size=2)):
        del kinds[name]
    name = draw(st.sampled_from([type_name] * 9 + ["trade", "book", "book20", "new"]))
    text = draw(objects(kinds, name))
    return text if draw(st.booleans()) else draw(SPACES) + text + draw(ENDS)


def said(message: Message | Undecodable) -> Any:
    """Return all that a message says, in a form that differs where a type or a digit does."""
    if isinstance(message, Undecodable):
        return message.reason
    values = [(name, repr(getattr(message, name))) for name in ("type", "raw", "extra", *message.kinds)]
    return type(message), values, repr(message)


def usual_frame(type_name: str, **members: Any) -> str:
    """Return a frame of this type with a value for each field, as the live service writes them."""
    values: dict[str, Any] = {
        "Text": "text",
        "Time": "2024-04-21T13:26:34.6972320Z",
        "Number": 95.5,
        "Count": 7,
        "Flag": False,
    }
    values |= {"Items": ["text"], "Json": {"a": None}}
    levels = {"Levels": [{"price": 1.5, "size": 2.5}] * 2}
    levels["LevelsL3"] = [{"id": "a", **level, "update_type": "ADD"} for level in levels["Levels"]]
    fields = {name: (values | levels)[kind] for name, kind in MESSAGE_TYPES[type_name].kinds.items()}
    fields = {name: value for name, value in (fields | members).items() if value is not ...}
    return json.dumps({**fields, "type": type_name}, separators=(",", ":"))
