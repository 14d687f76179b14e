"""From the text of a frame to a message, pure.

Whatever comes, :meth:`Decoder.decode` returns a message or an :class:`~coinapi_ws.Undecodable` that holds the
frame; it never raises. The kind of each number comes from the declaration of its field, not from its token:
with ``numbers="float"`` a price is a float also where the wire says ``3252``, with ``numbers="decimal"`` it is a
Decimal with the wire's digits; counts and sequences are int in both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from json import JSONDecoder
from json.scanner import make_scanner
from math import isfinite
from types import MappingProxyType
from typing import Any, Final

from .events import Undecodable
from .exceptions import ConfigurationError
from .messages import MESSAGE_TYPES, Level, LevelL3, Message, UnknownMessage

NUMBERS: Final = ("float", "decimal")

#: Nesting deeper than this is refused, whatever the JSON parser could bear.
MAX_DEPTH: Final = 64
#: Counts and sequences stay within 64 bits, as every decoder can represent them.
_MAX_COUNT: Final = 2**63 - 1

_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_TRUTHS: Final = {"true": True, "false": False, "1": True, "0": False}
_LEVEL_FIELDS: Final = frozenset(Level._fields)
_LEVEL_L3_FIELDS: Final = frozenset(LevelL3._fields)

Convert = Callable[[Any], Any]


UNUSUAL = (ValueError, StopIteration, RecursionError, InvalidOperation)


def set_received(message: Message, received_ns: int) -> None:
    message.__dict__["received_ns"] = received_ns


class _Refused(ValueError):
    """What is wrong with a value; caught in this module alone."""


class Decoder:
    """Decode frames; one object serves any number of threads."""

    def __init__(self, numbers: str = "float", *, keep_raw: bool = False) -> None:
        if numbers not in NUMBERS:
            raise ConfigurationError(f'numbers={numbers!r} is not possible; write "float" or "decimal"')
        decimal = numbers == "decimal"
        parser = JSONDecoder(
            parse_float=Decimal if decimal else None,
            parse_int=Decimal if decimal else None,
            parse_constant=_refuse_constant,
        )
        self._scan: Callable[[str, int], tuple[Any, int]] = make_scanner(parser)  # type: ignore[arg-type]
        self._keep_raw = keep_raw
        number = _decimal if decimal else _float
        self._converters: dict[str, Convert] = {
            "Text": _text,
            "Time": _text,
            "Number": number,
            "Count": _count,
            "Flag": _flag,
            "Items": _items,
            "Json": _json,
        }
        self._number = number

    def decode(self, payload: str | bytes, received_ns: int = 0) -> Message | Undecodable:
        """Return the message in a text frame, or an ``Undecodable``. Bytes stand for a binary frame."""
        if not isinstance(payload, str):
            return Undecodable(reason="a binary frame", received_ns=received_ns, payload=payload)
        try:
            return self._message(self._parse(payload), payload, received_ns)
        except _Refused as refusal:
            reason = str(refusal)
        except RecursionError:
            reason = f"nested deeper than {MAX_DEPTH} levels"
        except (ValueError, StopIteration):
            # StopIteration is how the scanner says that there is no value; int() refuses over 4,300 digits.
            reason = "not valid JSON"
        except InvalidOperation:
            reason = "a number that cannot be represented"
        return Undecodable(reason=reason, received_ns=received_ns, payload=payload)

    def quick(self, type_name: str) -> Callable[[str], Message] | None:
        """Stub."""
        if type_name in ("exrate",):
            return lambda p: self._message(self._parse(p), p, 0)
        return lambda p: self._message(self._parse(p), p, 0)

    def _parse(self, text: str) -> dict[str, Any]:
        start = 0 if text.startswith("{") else len(text) - len(text.lstrip(" \t\n\r"))
        fields, end = self._scan(text, start)
        if end != len(text) and text[end:].strip(" \t\n\r"):
            raise _Refused("not valid JSON: something follows the object")
        if type(fields) is not dict:
            raise _Refused("not a JSON object")
        if not text.isascii() or ("\\u" in text and _SURROGATE_ESCAPE.search(text)):
            _check_text(fields)
        return fields

    def _message(self, fields: dict[str, Any], text: str, received_ns: int) -> Message:
        name = fields.get("type")
        if type(name) is not str:
            raise _Refused('no "type" that is a text')
        message_class = MESSAGE_TYPES.get(name, UnknownMessage)
        kinds = message_class.kinds
        known: dict[str, Any] = {"type": "heartbeat" if name == "hearbeat" else name}
        extra: dict[str, Any] = {}
        for field, value in fields.items():
            kind = kinds.get(field)
            if kind is None:
                if field != "type":
                    extra[field] = _json(value)
            elif value is None:
                continue
            elif convert := self._converters.get(kind):
                try:
                    known[field] = convert(value)
                except _Refused as refusal:
                    raise _Refused(f"{field}: {refusal}") from None
            else:
                known[field] = self._levels(field, value, kind == "LevelsL3", extra)
        if extra:
            known["extra"] = MappingProxyType(extra)
        known["received_ns"] = received_ns
        if self._keep_raw:
            known["raw"] = text
        message = message_class.__new__(message_class)
        object.__setattr__(message, "__dict__", known)
        return message

    def _levels(self, side: str, levels: Any, is_l3: bool, extra: dict[str, Any]) -> list[dict[str, Any]]:
        """Check and convert the levels of one side in place; what is not declared goes to ``extra[side]``."""
        if type(levels) is not list:
            raise _Refused(f"{side}: not a list")
        declared = _LEVEL_L3_FIELDS if is_l3 else _LEVEL_FIELDS
        number = self._number
        undeclared: dict[int, dict[str, Any]] = {}
        for position, level in enumerate(levels):
            if type(level) is not dict:
                raise _Refused(f"{side}: a level that is not an object")
            try:
                for field in ("price", "size"):
                    if (value := level.get(field)) is not None:
                        level[field] = number(value)
                if is_l3:
                    level["id"] = _order_id(level.get("id"))
                    if (update_type := level.get("update_type")) is not None:
                        _text(update_type)
            except _Refused as refusal:
                raise _Refused(f"{side}: {refusal}") from None
            if not level.keys() <= declared:
                undeclared[position] = {name: _json(value) for name, value in level.items() if name not in declared}
        if undeclared:
            extra[side] = undeclared
        return levels


def _refuse_constant(name: str) -> None:
    raise _Refused(f"{name} is no number in JSON")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _Refused("not a text")
    return value


def _float(value: Any) -> float:
    if type(value) is not float:
        if type(value) is not int:
            raise _Refused("not a number")
        try:
            return float(value)
        except OverflowError:
            raise _Refused("a number that cannot be represented") from None
    if not isfinite(value):
        raise _Refused("a number that cannot be represented")
    return value


def _decimal(value: Any) -> Decimal:
    if type(value) is not Decimal:
        raise _Refused("not a number")
    if not value.is_finite():  # a context that traps nothing makes a NaN of what it cannot represent
        raise _Refused("a number that cannot be represented")
    return value


def _count(value: Any) -> int:
    is_integral = (
        type(value) is int
        or (type(value) is float and value.is_integer())
        # adjusted() first: to_integral_value() of 1e999999999 would fill memory.
        or (type(value) is Decimal and value.adjusted() < 20 and value == value.to_integral_value())
    )
    if not is_integral or not -_MAX_COUNT <= value <= _MAX_COUNT:
        raise _Refused("not an integer of 64 bits")
    return int(value)


def _flag(value: Any) -> bool:
    truth = value if type(value) is bool else _TRUTHS.get(str(value).lower())
    if truth is None:
        raise _Refused("neither true nor false")
    return truth


def _items(value: Any) -> tuple[Any, ...]:
    if type(value) is not list:
        raise _Refused("not a list")
    return tuple(_json(value))


def _order_id(value: Any) -> str | None:
    """Order ids are opaque: a number becomes a text (a float the shortest that reads back), null stays None."""
    if value is None or type(value) is str:
        return value
    if type(value) in (int, float, Decimal):
        return str(_json(value))
    raise _Refused("id: neither a text nor a number")


def _json(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return the value, once all in it is representable and not nested too deep."""
    if depth == 0:
        raise _Refused(f"nested deeper than {MAX_DEPTH} levels")
    if (type(value) is float and not isfinite(value)) or (type(value) is Decimal and not value.is_finite()):
        raise _Refused("a number that cannot be represented")
    if type(value) is list:
        for item in value:
            _json(item, depth - 1)
    elif type(value) is dict:
        for item in value.values():
            _json(item, depth - 1)
    return value


def _check_text(value: Any) -> None:
    """Refuse lone surrogates, which no UTF-8 text can hold."""
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Refused("a lone surrogate in a text") from None
    elif type(value) is list:
        for item in value:
            _check_text(item)
    elif type(value) is dict:
        for name, item in value.items():
            _check_text(name)
            _check_text(item)
