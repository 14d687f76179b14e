"""How a message keeps its fields where msgspec is not installed: in a dict, which may be the one that the parser made.

:mod:`coinapi_ws.structs` has the same names for where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError
from functools import partial
from operator import itemgetter
from typing import Any, Final, NoReturn, TypeVar


class Record:
    """Base of messages; a subclass names, checks and registers its fields in ``_declare`` and ``_given``."""

    def __init_subclass__(cls, *, wire: tuple[str, ...] = ()) -> None:
        cls._declare(vars(cls).get("__annotations__", {}), wire)

    def __init__(self, **fields: Any) -> None:
        adopt(self, self._given(fields))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a message that was pickled by version 0.1."""
        adopt(self, self._given(state))

    @classmethod
    def _declare(cls, annotations: dict[str, str], wire: tuple[str, ...]) -> None: ...

    @classmethod
    def _given(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return fields


R = TypeVar("R", bound=Record)

new: Final[Callable[[type[R]], R]] = object.__new__
adopt: Final[Callable[[Record, dict[str, Any]], None]] = vars(Record)["__dict__"].__set__

#: The end of a function that has the ``fields`` of a message of the class ``cls``, where a call would cost too much.
RETURN_MESSAGE: Final = """
    message = new(cls)
    adopt(message, fields)
    return message
"""


#: What ``wire_reader`` raises beside ValueError.
WIRE_ERRORS: Final[tuple[type[Exception], ...]] = ()


def make(cls: type[R], fields: dict[str, Any]) -> R:
    """Return a message of these fields, which are as ``Record._given`` returns them or as decoded."""
    message = new(cls)
    adopt(message, fields)
    return message


def set_field(message: Record, name: str, value: object) -> None:
    """Set a field of a message that was not published yet."""
    message.__dict__[name] = value


def wire_reader(cls: type[R]) -> Callable[[str], R] | None:  # noqa: ARG001  as in structs
    """Return what makes such a message of JSON by itself, where there is such a thing."""
    return None


class Side:
    """One side of a book, kept as it was decoded and built into a tuple of levels when it is first read.

    ``kept`` is what the class had in its place: here what an absent side reads as.
    """

    def __init__(self, name: str, level: type[Any], kept: Any) -> None:
        self._name = name
        self._kept = kept
        self._make_level = partial(tuple.__new__, level)
        self._fields_of = itemgetter(*level._fields)

    def __get__(self, message: Record | None, owner: type | None = None) -> Any:
        if message is None:
            return self
        levels = message.__dict__.get(self._name, self._kept)
        if type(levels) is not tuple:
            # Two threads may both build it; they store equal values.
            levels = message.__dict__[self._name] = self._built(levels)
        return levels

    def __set__(self, message: Record, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {self._name!r}")

    def _built(self, levels: Sequence[dict[str, Any]] | None) -> tuple[Any, ...]:
        return tuple(map(self._make_level, map(self._fields_of, levels or ())))
