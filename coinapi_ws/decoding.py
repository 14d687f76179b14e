"""From the text of a frame to a message, pure.

Whatever comes, :meth:`Decoder.decode` returns a message or an :class:`~coinapi_ws.Undecodable` that holds the
frame; it never raises. The kind of each number comes from the declaration of its field, not from its token:
with ``numbers="float"`` a price is a float also where the wire says ``3252``, with ``numbers="decimal"`` it is a
Decimal with the wire's digits; counts and sequences are int in both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import InvalidOperation
from json import JSONDecodeError
from sys import intern
from types import MappingProxyType
from typing import Any, Final

from .converting import MAX_DEPTH, Refused, check_text, converters, json_of, scanner
from .events import Undecodable
from .exceptions import ConfigurationError
from .kinds import LEVEL_TYPES, level_kinds
from .messages import MESSAGE_TYPES, WHOLE_BOOK_TYPES, Message, UnknownMessage, storage
from .quick import HOT_TYPES, Reader, quick_reader
from .quick import UNUSUAL as UNUSUAL

NUMBERS: Final = ("float", "decimal")
#: What the JSON parser and the conversions raise; :func:`reason_of` says what it means.
UNREADABLE: Final = (ValueError, RecursionError, StopIteration, InvalidOperation)

_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_LEVEL_KINDS: Final = {kind: level_kinds(kind) for kind in LEVEL_TYPES}


def reason_of(error: BaseException) -> str:
    """Return what is wrong with a text, by what reading it has raised: one of ``UNREADABLE``."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH} levels"
    if isinstance(error, (JSONDecodeError, StopIteration)):  # the latter is how the scanner says: no value
        return "not valid JSON"
    return "a number that cannot be represented"  # a ValueError is how int() refuses more than 4,300 digits


class Decoder:
    """Decode frames; one object serves any number of threads."""

    def __init__(self, numbers: str = "float", *, keep_raw: bool = False) -> None:
        if numbers not in NUMBERS:
            raise ConfigurationError(f'numbers={numbers!r} is not possible; write "float" or "decimal"')
        self._decimal = numbers == "decimal"
        self._keep_raw = keep_raw
        #: The parser of one JSON value: from a text and where it begins to the value and where it ends.
        self.scan: Callable[[str, int], tuple[Any, int]] = scanner(decimal=self._decimal)
        self._converters = converters(decimal=self._decimal)

    def quick(self, type_name: str) -> Reader | None:
        """Return what decodes frames of this type that are as they mostly are; None for types that are rare.

        It takes the text of a frame, which is ASCII, and returns what :meth:`decode` would. Where a frame is unusual it
        raises one of ``UNUSUAL``; then :meth:`decode` says what it is.
        """
        if self._keep_raw or type_name not in HOT_TYPES:
            return None
        return quick_reader(type_name, decimal=self._decimal)

    def decode(self, payload: str | bytes, received_ns: int = 0) -> Message | Undecodable:
        """Return the message in a text frame, or an ``Undecodable``. Bytes stand for a binary frame."""
        if not isinstance(payload, str):
            return Undecodable(reason="a binary frame", received_ns=received_ns, payload=payload)
        try:
            fields = self._parse(payload)
            name = fields.pop("type", None)
            if type(name) is not str:
                raise Refused('no "type" that is a text')
            return self._message(name, fields, payload, received_ns)
        except UNREADABLE as error:
            return Undecodable(reason=reason_of(error), received_ns=received_ns, payload=payload)

    def decode_fields(
        self, type_name: str, fields: dict[str, Any], text: str, received_ns: int = 0
    ) -> Message | Undecodable:
        """Return the message of an object that does not say its type: its fields as ``scan`` gives them, its text."""
        try:
            _check_texts(fields, text)
            return self._message(type_name, fields, text, received_ns)
        except UNREADABLE as error:
            return Undecodable(reason=reason_of(error), received_ns=received_ns, payload=text)

    def _parse(self, text: str) -> dict[str, Any]:
        start = 0 if text.startswith("{") else len(text) - len(text.lstrip(" \t\n\r"))
        fields, end = self.scan(text, start)
        if end != len(text) and text[end:].strip(" \t\n\r"):
            raise Refused("not valid JSON: something follows the object")
        if type(fields) is not dict:
            raise Refused("not a JSON object")
        _check_texts(fields, text)
        return fields

    def _message(self, name: str, fields: dict[str, Any], text: str, received_ns: int) -> Message:
        message_class = MESSAGE_TYPES.get(name, UnknownMessage)
        kinds = message_class.kinds
        known: dict[str, Any] = {"type": "heartbeat" if name == "hearbeat" else name, "received_ns": received_ns}
        extra: dict[str, Any] = {}
        for field, value in fields.items():
            kind = kinds.get(field)
            if kind is None:
                extra[field] = json_of(value)
            elif value is None:
                continue
            elif convert := self._converters.get(kind):
                try:
                    # The parser makes each name anew, and messages may be kept.
                    known[intern(field)] = convert(value)
                except Refused as refusal:
                    raise Refused(f"{field}: {refusal}") from None
            else:
                known[field] = self._levels(field, value, _LEVEL_KINDS[kind], extra)
        if name in WHOLE_BOOK_TYPES:
            known["is_snapshot"] = True
        if extra:
            known["extra"] = MappingProxyType(extra)
        if self._keep_raw:
            known["raw"] = text
        return storage.make(message_class, known)

    def _levels(self, side: str, levels: Any, kinds: dict[str, str], extra: dict[str, Any]) -> list[dict[str, Any]]:
        """Check, convert and complete the levels of one side in place; what is not declared goes to ``extra[side]``."""
        if type(levels) is not list:
            raise Refused(f"{side}: not a list")
        converts = [(name, self._converters[kind]) for name, kind in kinds.items()]
        undeclared: dict[int, dict[str, Any]] = {}
        for position, level in enumerate(levels):
            if type(level) is not dict:
                raise Refused(f"{side}: a level that is not an object")
            try:
                for name, convert in converts:
                    value = level.get(name)
                    level[name] = None if value is None else convert(value)
            except Refused as refusal:
                raise Refused(f"{side}: {refusal}") from None
            if len(level) > len(kinds):
                undeclared[position] = {name: json_of(value) for name, value in level.items() if name not in kinds}
        if undeclared:
            extra[side] = undeclared
        return levels


def _check_texts(fields: dict[str, Any], text: str) -> None:
    if not text.isascii() or ("\\u" in text and _SURROGATE_ESCAPE.search(text)):
        check_text(fields)
