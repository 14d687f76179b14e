"""The kinds of fields, by the name of their annotation, and the levels of books, whose fields have kinds as well."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

Text: TypeAlias = "str | None"
Number: TypeAlias = "float | Decimal | None"  # float or Decimal, as the `numbers` option says
Count: TypeAlias = "int | None"
Flag: TypeAlias = "bool | None"
Time: TypeAlias = "str | None"  # the wire's text; see the `_ns` and `_datetime` companions
OrderId: TypeAlias = "str | None"  # a text, also where the wire has a number
Items: TypeAlias = "tuple[Any, ...]"  # any JSON list
Json: TypeAlias = "Any"  # any JSON value
Levels: TypeAlias = "tuple[Level, ...]"  # one side of a book
LevelsL3: TypeAlias = "tuple[LevelL3, ...]"

#: Counts and sequences stay within 64 bits, as every decoder can represent them.
MAX_COUNT: Final = 2**63 - 1


class Level(NamedTuple):
    """One price level of an L2 book; size 0 in a delta means that the level is gone."""

    price: Number
    size: Number


class LevelL3(NamedTuple):
    """One order of an L3 book, or an aggregated level where ``id`` is None.

    ``update_type`` is ADD, UPDATE, SUBTRACT, DELETE or MATCH, with SET and SUB as aliases in flat files,
    and None in snapshots.
    """

    price: Number
    size: Number
    id: OrderId
    update_type: Text


#: From the kind of a side to the class of its levels.
LEVEL_TYPES: Final[dict[str, type[Any]]] = {"Levels": Level, "LevelsL3": LevelL3}


def level_kinds(kind: str) -> dict[str, str]:
    """From each field of the levels of a side of this kind to its kind."""
    return {name: hint.__forward_arg__ for name, hint in LEVEL_TYPES[kind].__annotations__.items()}
