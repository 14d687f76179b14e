"""Adds to the docstring of each message its fields, from the declaration that decoding reads."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from sphinx.application import Sphinx

from coinapi_ws import Message

#: What a kind of field reads as.
KINDS = {
    "Text": "str",
    "Number": 'float, or Decimal with ``numbers="decimal"``',
    "Count": "int",
    "Flag": "bool",
    "Time": "time: the wire's text; nanoseconds (int) with ``_ns``, a datetime with ``_datetime`` behind the name",
    "Items": "tuple of what JSON holds",
    "Json": "any JSON value",
    "Levels": "tuple of :class:`~coinapi_ws.Level`",
    "LevelsL3": "tuple of :class:`~coinapi_ws.LevelL3`",
}


def add_fields(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Add a list of the fields, by kind, in the order of the declaration."""
    if not (isinstance(obj, type) and issubclass(obj, Message)) or obj is Message:
        return
    names = ", ".join(f"``{wire}``" for wire in obj.wire_names)
    if names:
        lines += ["", f"On the wire: {names}."]
    ordered = sorted(obj.kinds.items(), key=lambda field: list(KINDS).index(field[1]))
    lines += [""]
    for kind, fields in groupby(ordered, key=lambda field: field[1]):
        lines.append(f"- {', '.join(f'``{field}``' for field, _ in fields)}: {KINDS[kind]}")
    lines += [""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the hook."""
    app.connect("autodoc-process-docstring", add_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
