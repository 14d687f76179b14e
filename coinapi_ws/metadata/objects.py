"""From the pieces of a text to the objects of the JSON array in it, pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from json import JSONDecodeError
from typing import Any, Final

from ..converting import Refused
from ..decoding import UNREADABLE, reason_of

#: An object of the vendor has about a thousand characters.
MAX_OBJECT_CHARACTERS: Final = 1024 * 1024

_SHORT: Final = 16
_MOST_TEXTS: Final = 65_536

_NO_BLANK: Final = re.compile(r"[^ \t\n\r]")
#: From a character to those that may come next, blanks aside.
_NEXT: Final = {"[": "{]", "{": ",]", ",": "{", "]": ""}


class CutOff(Refused):
    """The text ended before the array."""


def objects_of(
    pieces: Iterable[str], scan: Callable[[str, int], tuple[Any, int]]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each object as ``scan``, a scanner of :mod:`json`, reads it, and its text, once it is whole.

    The pieces may have any sizes; what is kept is one object and one piece, however long the array is. Raises
    ``Refused`` for what is no JSON array of objects, and for an object of more than `MAX_OBJECT_CHARACTERS`; of these
    ``CutOff`` where the array has no end.
    """
    expected = "["
    unread: list[str] = []
    length = enough = 0
    for piece in chain(pieces, (None,)):
        unread.append(piece or "")
        length += len(unread[-1])
        # Tried again for each byte that drips in, a long object would cost the square of its length.
        if length < enough and piece is not None:
            continue
        text, position = "".join(unread), 0
        while found := _NO_BLANK.search(text, position):
            position, character = found.start(), found[0]
            if character not in expected:
                raise Refused(f"{_wanted(expected)} was expected, not {character!r}")
            if character == "{":
                try:
                    fields, end = scan(text, position)
                except (JSONDecodeError, StopIteration):
                    break  # not whole, or no JSON, which the end will tell
                except UNREADABLE as error:
                    raise Refused(reason_of(error)) from None
                yield fields, text[position:end]
                position = end
            else:
                position += 1
            expected = _NEXT[character]
        else:
            position = len(text)
        unread, length = [text[position:]], len(text) - position
        enough = length * 5 // 4
        if length > MAX_OBJECT_CHARACTERS:
            raise Refused(f"an object has more than {MAX_OBJECT_CHARACTERS} characters, or is no JSON")
    if length:
        raise CutOff("the last object is cut off, or no JSON")
    if expected:
        raise CutOff(f"{_wanted(expected)} was expected, and nothing came")


class SharedTexts:
    """Lets objects that are kept share their short texts, such as ids of assets and dates: a fifth of their memory."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def share(self, fields: dict[str, Any]) -> None:
        """Replace short texts among the values by equal ones that were there before."""
        texts = self._texts
        for name, value in fields.items():
            if type(value) is str and len(value) <= _SHORT:
                fields[name] = texts.setdefault(value, value)
        if len(texts) > _MOST_TEXTS:
            texts.clear()


def _wanted(expected: str) -> str:
    return " or ".join(expected) or "the end"
