"""What comes out of a session, and how the type of a frame is told by its end, pure."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from ..events import Event, Undecodable
from ..messages import Message


class Frame(NamedTuple):
    """A text frame: ``type`` as its end shows it; ``decoded`` where the session had to read the whole of it.

    That is so for ``error`` (whose ``payload`` has the key redacted), ``reconnect``, heartbeats, and frames that do not
    end in their type.
    """

    payload: str
    received_ns: int
    type: str
    decoded: Message | Undecodable | None = None


Item: TypeAlias = "Message | Event"


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
