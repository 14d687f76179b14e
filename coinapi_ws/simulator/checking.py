"""Arguments checked against their annotations, so that a wrong one is told to whoever gave it.

Most of what a user says takes effect on the simulator's thread; found there, it would be the end of it.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")

#: Numbers have at most 64 bits: with those, everything can be reckoned.
_TOO_LARGE: Final = 2**63
_SAID: Final = {
    bool: "true or false",
    int: "a whole number (of 64 bits)",
    float: "a number (of 64 bits)",
    str: "text",
    bytes: "bytes",
    os.PathLike: "text",
    Any: "anything",
    type(None): "null",
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function raise TypeError for an argument that is not of its annotated type."""
    signature = inspect.signature(function)

    @functools.cache
    def hints() -> dict[str, Any]:
        return get_type_hints(function)  # at the first call, when all modules are there

    @functools.wraps(function)
    def check_and_call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in hints() and not fits(value, hints()[name]):
                raise TypeError(f"{name} must be {said(hints()[name])}")
        return function(*args, **kwargs)

    return check_and_call


def checked_methods(kind: type[R]) -> type[R]:
    """Let all public methods of a class check their arguments."""
    for name, function in tuple(vars(kind).items()):
        if inspect.isfunction(function) and not name.startswith("_"):
            setattr(kind, name, checked(function))
    return kind


def said(hint: Any) -> str:
    """Say what a value of this type looks like."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(said, arguments)))
    if origin is tuple:
        return f"[{', '.join(map(said, arguments))}]"
    if _is_kind_of(origin, Mapping):
        return f"an object ({said(arguments[0])}: {said(arguments[1])})"
    if _is_kind_of(origin, Iterable):
        return f"a list of {said(arguments[0])}"
    return _SAID.get(origin or hint, f"a {getattr(hint, '__name__', hint)}")


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of an annotated type; what an iterator would yield is not looked at."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if hint is Any:
        return True
    if hint in (int, float):
        kinds = int if hint is int else (int, float)
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        return is_number and not _TOO_LARGE <= abs(value) < math.inf
    if origin is tuple:
        is_list = isinstance(value, (list, tuple))
        return is_list and len(value) == len(arguments) and all(map(fits, value, arguments))
    if _is_kind_of(origin, Mapping):
        pairs = value.items() if isinstance(value, Mapping) else ()
        return isinstance(value, Mapping) and all(fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in pairs)
    if _is_kind_of(origin, Iterable):
        is_many = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))
        is_known = isinstance(value, (list, tuple, set, frozenset))
        return is_many and (not is_known or all(fits(v, arguments[0]) for v in value))
    # A class where an object belongs is a forgotten pair of parentheses.
    return not isinstance(value, type) and isinstance(value, origin or hint)


def _is_kind_of(origin: Any, kind: type) -> bool:
    return origin is not None and issubclass(origin, kind)
