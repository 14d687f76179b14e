"""The lines of a recording: from a frame or an event to its line, and back. Pure."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any, Final, NamedTuple

_NOTHING: Final = MappingProxyType[str, Any]({})
_text_of: Final = json.JSONEncoder().encode


class RecordedFrame(NamedTuple):
    """One recorded text frame and the wall clock (nanoseconds since the epoch) when it was received."""

    received_ns: int
    frame: str


class RecordingError(ValueError):
    """A recording cannot be read; the text names the file and the line."""


class RecordingWarning(UserWarning):
    """A recording ends in the middle of a line; the frames before that line were read."""


class Entry(NamedTuple):
    """What a line says: a frame, or where that is None an event with its other members."""

    received_ns: int
    connection: int
    frame: str | None
    event: str = ""
    more: MappingProxyType[str, Any] = _NOTHING


def frame_line(frame: str, received_ns: int) -> str:
    """Return the line of a frame that is of no connection."""
    return f'{{"received_ns": {received_ns}, "frame": {_text_of(frame)}}}\n'


def frame_lines(frames: list[str], received_ns: int, connection: int) -> list[str]:
    """Return the lines of frames that one connection brought at once."""
    start = f'{{"received_ns": {received_ns}, "connection": {connection}, "frame": '
    return [f"{start}{_text_of(frame)}}}\n" for frame in frames]


def event_line(event: str, received_ns: int, **more: Any) -> str:
    """Return the line of an event."""
    return json.dumps({"received_ns": received_ns, "event": event, **more}) + "\n"


def parse_line(line: bytes, name: str, number: int) -> Entry:
    """Return what a line says. Raises ``RecordingError`` with the file's name and the line's number."""
    # The message of a JSON error names the place, never the line itself.
    try:
        members = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise RecordingError(f"{name}, line {number}: not JSON ({reason})") from None
    if not isinstance(members, dict):
        raise RecordingError(f"{name}, line {number}: not a JSON object")
    received_ns, frame, event = members.get("received_ns"), members.get("frame"), members.get("event")
    if not isinstance(received_ns, int) or isinstance(received_ns, bool):
        raise RecordingError(f"{name}, line {number}: 'received_ns' is missing or not an integer")
    connection = members.get("connection")
    if type(connection) is not int:
        connection = 0
    if isinstance(frame, str):
        return Entry(received_ns, connection, frame)
    if not isinstance(event, str) or "frame" in members:
        raise RecordingError(f"{name}, line {number}: 'frame' is missing or not a string")
    return Entry(received_ns, connection, None, event, MappingProxyType(members))
