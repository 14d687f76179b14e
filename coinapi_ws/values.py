"""Frozen dataclasses, made in less than a third of the time that :mod:`dataclasses` takes, with the same behaviour.

It compiles six functions for each class, which was most of what importing this package cost beyond what it imports
itself. Here ``__init__`` alone is compiled, and what is alike in all classes is written once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool, slots: bool, kw_only: bool = False, init: bool = True) -> Callable[[type], type]:
        """Return what makes a frozen dataclass with slots of a declaration. Of ``field`` it knows default and repr."""

        def made(cls: type) -> type:
            if hasattr(cls, "__dataclass_fields__"):  # of a base, which is frozen
                return dataclasses.dataclass(frozen=frozen, slots=slots, kw_only=kw_only, init=init)(cls)
            cls = dataclasses.dataclass(slots=slots, kw_only=kw_only, init=False, repr=False, eq=False)(cls)
            cls.__dataclass_params__.frozen = frozen  # for who derives from it
            if init:
                cls.__init__ = _initializer(cls)
            for name, function in _SHARED.items():
                if name not in vars(cls):
                    setattr(cls, name, function)
            return cls

        return made


def _initializer(cls: type[Any]) -> Callable[..., None]:
    """Compile the function that sets the fields, past ``__setattr__``."""
    names: dict[str, Any] = {"__name__": cls.__module__}
    parameters = ["self"]
    lines = []
    for field in fields(cls):
        if field.kw_only and "*" not in parameters:
            parameters.append("*")
        parameter = field.name
        if field.default is not dataclasses.MISSING:
            names[f"default_{field.name}"] = field.default
            parameter += f"=default_{field.name}"
        parameters.append(parameter)
        names[f"set_{field.name}"] = vars(cls)[field.name].__set__
        lines.append(f"    set_{field.name}(self, {field.name})")
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    exec("\n".join([f"def __init__({', '.join(parameters)}):", *lines]), names)
    initializer: Callable[..., None] = names["__init__"]
    initializer.__qualname__ = f"{cls.__qualname__}.__init__"
    initializer.__annotations__ = {**{field.name: field.type for field in fields(cls)}, "return": None}
    return initializer


def _content(value: Any) -> tuple[Any, ...]:
    return tuple([getattr(value, field.name) for field in fields(value)])


@recursive_repr("...")
def _repr(self: Any) -> str:
    shown = ", ".join([f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr])
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: object) -> bool:
    return _content(self) == _content(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_content(self))


def _setattr(self: Any, name: str, value: object) -> None:
    if _is_frozen(self, name):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _delattr(self: Any, name: str) -> None:
    if _is_frozen(self, name):
        raise FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(self, name)


def _is_frozen(value: Any, name: str) -> bool:
    """Return whether it is a field, or the class is a dataclass and no plain one derived from it."""
    return name in value.__dataclass_fields__ or "__dataclass_fields__" in vars(type(value))


def _getstate(self: Any) -> list[Any]:
    return list(_content(self))


def _setstate(self: Any, state: list[Any]) -> None:
    for field, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_SHARED: Final = {
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
