"""How a message keeps its fields where msgspec is installed: in a Struct, which msgspec fills from JSON by itself.

The names, and what they do, are those of :mod:`coinapi_ws.records`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError
from functools import partial
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

from msgspec import Meta, MsgspecError, Struct, StructMeta, defstruct
from msgspec.json import Decoder
from msgspec.structs import force_setattr

from .kinds import LEVEL_TYPES, MAX_COUNT, level_kinds


class _NotOnTheWire:
    """The type of a field that nothing on the wire can fill, since nothing is of this type, null included."""


_WIRE_TYPES: Final[dict[str, Any]] = {
    "Text": str | None,
    "Time": str | None,
    "Number": float | None,
    "Count": Annotated[int, Meta(ge=-MAX_COUNT, le=MAX_COUNT)] | None,
    "Flag": bool | None,
    "OrderId": str | None,
}
for _kind in LEVEL_TYPES:
    _fields = [(name, _WIRE_TYPES[kind], None) for name, kind in level_kinds(_kind).items()]
    _WIRE_TYPES[_kind] = list[defstruct(_kind, _fields, forbid_unknown_fields=True, gc=False)] | None  # type: ignore[misc]


class MessageType(StructMeta):
    """Turns the kinds of a declaration into what msgspec is to read, and checks keywords before it makes a message.

    Undeclared members make msgspec refuse, so that nothing is lost: the exact way keeps them. Messages hold no
    cycle, so the garbage collector need not look at them.
    """

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, wire: tuple[str, ...] = ()
    ) -> MessageType:
        declared = namespace.get("__annotations__", {})
        types = {
            field: _WIRE_TYPES.get(kind, _NotOnTheWire)
            for field, kind in declared.items()
            if not kind.startswith("ClassVar")
        }
        if wire:
            types["type"] = Literal[wire]
        config: dict[str, Any] = {"kw_only": True, "eq": False, "gc": False, "forbid_unknown_fields": True}
        cls: Any = super().__new__(mcs, name, bases, {**namespace, "__annotations__": types}, **config)
        cls._declare(declared, wire)
        return cls

    def __call__(cls: Any, **fields: Any) -> Any:  # noqa: N805  it is a class
        return StructMeta.__call__(cls, **cls._given(fields))


class Record(Struct, metaclass=MessageType):
    """Base of messages; a subclass names, checks and registers its fields in ``_declare`` and ``_given``."""

    __ne__ = object.__ne__  # what ``__eq__`` says; that of a Struct says that two are one

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a message that was pickled by version 0.1."""
        for name, value in self._given(state).items():
            member = getattr(type(self), name)
            getattr(member, "kept", member).__set__(self, value)

    @classmethod
    def _declare(cls, annotations: dict[str, str], wire: tuple[str, ...]) -> None: ...

    @classmethod
    def _given(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return fields


R = TypeVar("R", bound=Record)


def _new(cls: type[R]) -> R:
    """Begin a message as pickle does where version 0.1 wrote it; msgspec lets no class body define this."""
    return cls()


Record.__new__ = _new  # type: ignore[assignment, method-assign]

new: Final = StructMeta.__call__
adopt: Final = None
set_field: Final = force_setattr
WIRE_ERRORS: Final = (MsgspecError,)

RETURN_MESSAGE: Final = """
    return new(cls, **fields)
"""


def make(cls: type[R], fields: dict[str, Any]) -> R:
    """Return a message of these fields, which are as ``Record._given`` returns them or as decoded."""
    message: R = new(cls, **fields)
    return message


def wire_reader(cls: type[R]) -> Callable[[str], R] | None:
    """Return what makes such a message of JSON by itself."""
    return Decoder(cls).decode


class Side:
    """One side of a book, kept as it was decoded and built into a tuple of levels when it is first read.

    ``kept`` is what the class had in its place: here the member in which msgspec keeps the levels.
    """

    def __init__(self, name: str, level: type[Any], kept: Any) -> None:
        self._name = name
        self.kept = kept
        self._make_level = partial(tuple.__new__, level)
        self._fields_of_dict = itemgetter(*level._fields)
        self._fields_of_struct = attrgetter(*level._fields)

    def __get__(self, message: Record | None, owner: type | None = None) -> Any:
        if message is None:
            return self
        levels = self.kept.__get__(message)
        if type(levels) is not tuple:
            # Two threads may both build it; they store equal values.
            levels = self._built(levels or ())
            self.kept.__set__(message, levels)
        return levels

    def __set__(self, message: Record, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {self._name!r}")

    def _built(self, levels: Sequence[Any]) -> tuple[Any, ...]:
        is_parsed = bool(levels) and type(levels[0]) is dict
        fields_of = self._fields_of_dict if is_parsed else self._fields_of_struct
        return tuple(map(self._make_level, map(fields_of, levels)))
