"""From what the JSON parser gives to the values of fields, and what is refused, pure."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from json import JSONDecoder
from json.scanner import make_scanner
from math import isfinite
from typing import Any, Final

from .kinds import MAX_COUNT

#: Nesting deeper than this is refused, whatever the JSON parser could bear.
MAX_DEPTH: Final = 64

_TRUTHS: Final = {"true": True, "false": False, "1": True, "0": False}

Convert = Callable[[Any], Any]


class Refused(ValueError):
    """What is wrong with a value; caught where frames are decoded."""


@cache
def scanner(*, decimal: bool) -> Callable[[str, int], tuple[Any, int]]:
    """Return the parser of one JSON value: from a text and where it begins to the value and where it ends."""
    parser = JSONDecoder(
        parse_float=Decimal if decimal else None,
        parse_int=Decimal if decimal else None,
        parse_constant=_refuse_constant,
    )
    return make_scanner(parser)  # type: ignore[arg-type]


@cache
def converters(*, decimal: bool) -> dict[str, Convert]:
    """From the kind of a field, levels excepted, to what checks and converts its value."""
    return {
        "Text": text_of,
        "Time": text_of,
        "Number": decimal_of if decimal else float_of,
        "Count": count_of,
        "Flag": flag_of,
        "OrderId": order_id_of,
        "Items": items_of,
        "Json": json_of,
    }


def _refuse_constant(name: str) -> None:
    raise Refused(f"{name} is no number in JSON")


def text_of(value: Any) -> str:
    if type(value) is not str:
        raise Refused("not a text")
    return value


def float_of(value: Any) -> float:
    if type(value) is not float:
        if type(value) is not int:
            raise Refused("not a number")
        try:
            return float(value)
        except OverflowError:
            raise Refused("a number that cannot be represented") from None
    if not isfinite(value):
        raise Refused("a number that cannot be represented")
    return value


def decimal_of(value: Any) -> Decimal:
    if type(value) is not Decimal:
        raise Refused("not a number")
    if not value.is_finite():  # a context that traps nothing makes a NaN of what it cannot represent
        raise Refused("a number that cannot be represented")
    return value


def count_of(value: Any) -> int:
    is_integral = (
        type(value) is int
        or (type(value) is float and value.is_integer())
        # adjusted() first: to_integral_value() of 1e999999999 would fill memory.
        or (type(value) is Decimal and value.adjusted() < 20 and value == value.to_integral_value())
    )
    if not is_integral or not -MAX_COUNT <= value <= MAX_COUNT:
        raise Refused("not an integer of 64 bits")
    return int(value)


def flag_of(value: Any) -> bool:
    truth = value if type(value) is bool else _TRUTHS.get(str(value).lower())
    if truth is None:
        raise Refused("neither true nor false")
    return truth


def items_of(value: Any) -> tuple[Any, ...]:
    if type(value) is not list:
        raise Refused("not a list")
    return tuple(json_of(value))


def order_id_of(value: Any) -> str | None:
    """Order ids are opaque: a number becomes a text (a float the shortest that reads back), null stays None."""
    if value is None or type(value) is str:
        return value
    if type(value) in (int, float, Decimal):
        return str(json_of(value))
    raise Refused("id: neither a text nor a number")


def json_of(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return the value, once all in it is representable and not nested too deep."""
    if depth == 0:
        raise Refused(f"nested deeper than {MAX_DEPTH} levels")
    if (type(value) is float and not isfinite(value)) or (type(value) is Decimal and not value.is_finite()):
        raise Refused("a number that cannot be represented")
    if type(value) is list:
        for item in value:
            json_of(item, depth - 1)
    elif type(value) is dict:
        for item in value.values():
            json_of(item, depth - 1)
    return value


def check_text(value: Any) -> None:
    """Refuse lone surrogates, which no UTF-8 text can hold."""
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused("a lone surrogate in a text") from None
    elif type(value) is list:
        for item in value:
            check_text(item)
    elif type(value) is dict:
        for name, item in value.items():
            check_text(name)
            check_text(item)
