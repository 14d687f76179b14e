"""From frames as they mostly are to messages: what :class:`coinapi_ws.decoding.Decoder` finds, in far less time.

Whatever a quick reader does not know for plain it gives up, by an exception of ``UNUSUAL``, and the frame is decoded
exactly. What it returns is what the exact way returns. There are two kinds: msgspec fills the message by itself, where
it is installed and numbers are floats; else the standard library parses, and a function made from the declaration of
the message checks what it found, without a loop over the fields.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, Final

from .converting import Convert, converters, scanner
from .kinds import LEVEL_TYPES, level_kinds
from .messages import MESSAGE_TYPES, WHOLE_BOOK_TYPES, Message, set_field, storage

#: Frames of these come in numbers.
HOT_TYPES: Final = frozenset({"trade", "quote", "book", "book5", "book20", "book50", "book_l3", "ohlcv", "exrate"})

#: How a quick reader says that a frame is to be decoded exactly.
UNUSUAL: Final[tuple[type[Exception], ...]] = (
    ArithmeticError,
    KeyError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
    *storage.WIRE_ERRORS,
)

#: Takes a frame and the time that it was received.
Reader = Callable[[str, int], Message]


class _Unusual(ValueError):
    """A frame that is not of the usual shape; what it is, the exact way finds out."""


@cache
def quick_reader(type_name: str, *, decimal: bool) -> Reader:
    """Return the fastest reader there is for frames of this type."""
    by_storage = None if decimal else storage_reader(type_name)
    return by_storage or parsing_reader(type_name, decimal=decimal)


def storage_reader(type_name: str) -> Reader | None:
    """Return the reader that fills messages from JSON, where there is one."""
    message_class = MESSAGE_TYPES[type_name]
    decode = storage.wire_reader(message_class)
    if decode is None:
        return None

    def of_the_only_type(text: str, received_ns: int) -> Message:
        message = decode(text)
        set_field(message, "received_ns", received_ns)
        return message

    def of_this_type(text: str, received_ns: int) -> Message:
        message = decode(text)
        if message.type != type_name:
            raise _Unusual
        set_field(message, "received_ns", received_ns)
        return message

    def whole_book(text: str, received_ns: int) -> Message:
        message = of_this_type(text, received_ns)
        set_field(message, "is_snapshot", True)
        return message

    if len(message_class.wire_names) == 1:
        return of_the_only_type
    return whole_book if type_name in WHOLE_BOOK_TYPES else of_this_type


def parsing_reader(type_name: str, *, decimal: bool) -> Reader:
    """Return the reader that parses with the standard library and checks what it found."""
    message_class = MESSAGE_TYPES[type_name]
    convert = converters(decimal=decimal)
    names: dict[str, Any] = {
        "scan": scanner(decimal=decimal),
        "Decimal": Decimal,
        "Unusual": _Unusual,
        "complete": _complete,
        "odd": _odd,
        "cls": message_class,
        "declared": ("type", *message_class.kinds),
        "new": storage.new,
        "adopt": storage.adopt,
        **{f"to_{kind}": function for kind, function in convert.items()},
        **{f"declared_{kind}": tuple(level_kinds(kind)) for kind in LEVEL_TYPES},
    }
    source = _reader_source(type_name, message_class.kinds, decimal=decimal)
    exec(compile(source, f"<reader of {type_name}>", "exec"), names)
    reader: Reader = names["read"]
    return reader


_BEGIN: Final = """
def read(text, received_ns):
    fields, end = scan(text, 0)
    if fields["type"] != {type_name!r} or end != len(text) or "\\\\" in text:
        raise Unusual
"""
_RECEIVED: Final = """
    fields["received_ns"] = received_ns
"""
_WHOLE_BOOK: Final = """
    if "is_snapshot" in fields:
        odd(fields, "is_snapshot", to_Flag)
    fields["is_snapshot"] = True
"""
_COMPLETE: Final = """
    if len(fields) != {count}:
        complete(fields, declared)
"""
_SIDE: Final = """
    side = fields[{name!r}]
    if side is not None:
        if type(side) is not list:
            raise Unusual
        total = 0.0
        for level in side:
            if len(level) != {count}:
                complete(level, declared_{kind})
{values}
        if total - total != 0.0:
            raise Unusual
"""
_TEXT_OR_FLAG: Final = """
{indent}if type({holder}[{name!r}]) is not {usual}:
{indent}    odd({holder}, {name!r}, to_{kind})
"""
_NUMBER: Final = """
{indent}{variable} = {holder}[{name!r}]
{indent}if {is_odd}:
{indent}    {variable} = odd({holder}, {name!r}, to_{kind})
"""
#: Infinity and NaN show in the sum of the numbers, at less cost than in each of them.
_SUM: Final = """
    total = {total}
    if total - total != 0.0:
        raise Unusual
"""


def _reader_source(type_name: str, kinds: dict[str, str], *, decimal: bool) -> str:
    """Return the text of a function that reads frames of one type: a few lines for each field."""
    parts = [_BEGIN.format(type_name=type_name)]
    if type_name in WHOLE_BOOK_TYPES:
        parts.append(_WHOLE_BOOK)
    parts.append(_COMPLETE.format(count=len(kinds) + 1))
    for name, kind in kinds.items():
        if kind in LEVEL_TYPES:
            fields = level_kinds(kind)
            values = [_value_source("level", field, fields[field], decimal=decimal) for field in fields]
            total = "" if decimal else f"            total += {_sum_source(fields)}"
            values_source = "\n".join([*values, total])
            parts.append(_SIDE.format(name=name, kind=kind, count=len(fields), values=values_source))
        else:
            parts.append(_value_source("fields", name, kind, decimal=decimal))
    if "Number" in kinds.values() and not decimal:
        parts.append(_SUM.format(total=_sum_source(kinds)))
    lines = "\n".join([*parts, _RECEIVED, storage.RETURN_MESSAGE]).splitlines()
    return "\n".join(line for line in lines if line)


def _value_source(holder: str, name: str, kind: str, *, decimal: bool) -> str:
    indent = " " * (12 if holder == "level" else 4)
    if kind in ("Number", "Count"):
        variable = f"_{name}"
        if kind == "Count":
            # Most fit in one digit of CPython's, which makes this cheap.
            is_odd = f"type({variable}) is not int or not 0 <= {variable} < {2**30}"
        elif decimal:
            is_odd = f"type({variable}) is not Decimal or not {variable}.is_finite()"
        else:
            is_odd = f"type({variable}) is not float"
        return _NUMBER.format(indent=indent, holder=holder, name=name, kind=kind, variable=variable, is_odd=is_odd)
    usual = "bool" if kind == "Flag" else "str"
    return _TEXT_OR_FLAG.format(indent=indent, holder=holder, name=name, kind=kind, usual=usual)


def _sum_source(kinds: dict[str, str]) -> str:
    return " + ".join(f"_{name}" for name, kind in kinds.items() if kind == "Number")


def _odd(fields: dict[str, Any], name: str, convert: Convert) -> Any:
    """Convert a value as the exact way does; return what stands for it in a sum of numbers."""
    value = fields[name]
    if value is None:
        return 0.0
    fields[name] = value = convert(value)
    return value


def _complete(fields: Any, declared: tuple[str, ...]) -> None:
    """Put None where a declared member is absent; what is not declared is unusual."""
    if type(fields) is not dict:
        raise _Unusual
    for name in declared:
        fields.setdefault(name)
    if len(fields) != len(declared):
        raise _Unusual
