"""Text frames on their way through a session, and how the type of one is told by its end, pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from ..events import Event, Undecodable
from ..messages import Message
from ..quick import Reader

Item: TypeAlias = "Message | Event"

#: The last characters of a frame that tell its type, where the name is no longer than this: the comma before the member
#: is among them, since a quote after anything else may be inside of another name.
TAIL: Final = 18
LONGEST_NAME_IN_TAIL: Final = 7  # ,"type":"book_l3"}


@dataclass(slots=True, eq=False)
class FrameType:
    """What one session knows of the frames of one type.

    ``quick`` decodes those that look as they always do. ``following`` holds the sequence that comes next, by symbol,
    and ``wanted`` the symbols that are known to be in scope; None where neither is to be looked at. Of ``is_delta``
    the snapshots are to be noted.
    """

    name: str
    quick: Reader | None
    following: dict[str, int] | None
    is_delta: bool
    wanted: set[str] | None


class Frame(NamedTuple):
    """A text frame that the session has read, since it concerns it, or since its end does not show its type.

    The payload of an ``error`` has the key redacted.
    """

    payload: str
    received_ns: int
    decoded: Message | Undecodable

    @property
    def type(self) -> str:
        """The message's type, and "" where it is none."""
        return "" if isinstance(self.decoded, Undecodable) else self.decoded.type


class Frames(NamedTuple):
    """Text frames that came one after the other, and were not read yet: the type of each, and its text.

    Two lists, since the garbage collector would look at each of as many pairs.
    """

    received_ns: int
    types: list[FrameType]
    payloads: list[str]


def type_at_end(payload: str) -> str | None:
    """Return the type where it is the last member of the object, as the live service sends it, else None.

    In valid JSON the closing brace ends the outermost object and no quote of the member can be inside a text, so
    this is the type that a parser finds; in invalid JSON it does not matter.
    """
    start = payload.rfind('"type":"', -64)
    if start < 1 or payload[start - 1] not in ",{" or not payload.endswith('"}'):
        return None
    type_name = payload[start + 8 : -2]
    return type_name if type_name.isidentifier() else None
