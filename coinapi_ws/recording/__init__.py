"""Record what a server sends to files, and read them back.

A recording is JSON Lines in UTF-8, one object a line, in the order of arrival::

    {"received_ns": 1618677817077736000, "connection": 1, "frame": "..."}

- ``received_ns`` is the wall clock in nanoseconds since the epoch.
- ``frame`` is the text of one WebSocket message, unchanged but for the API key, which is nowhere in a recording.
- ``connection`` counts the connections of a `Recorder` from 1. It may be missing, and then is 0.

In the place of ``frame`` a line may have an ``event``, which `read_recording` passes over and `replay` knows:
``Connected`` and ``Disconnected`` (``detail`` says how it ended), ``Dropped`` (``count`` messages since ``first_ns``
are missing, for which the disk was too slow), ``Undecodable`` (``detail`` says what came that is no text). Other events
and members may come to be.

A file whose name ends in ``.gz`` is compressed with gzip, one in ``.zst`` with zstd (the extra ``coinapi-ws[zstd]``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from .lines import RecordedFrame, RecordingError, RecordingWarning
from .reading import read_recording
from .writing import RecordingWriter

if TYPE_CHECKING:
    from .recorder import Recorder
    from .replaying import replay

__all__ = [
    "RecordedFrame",
    "Recorder",
    "RecordingError",
    "RecordingWarning",
    "RecordingWriter",
    "read_recording",
    "replay",
]

#: From what needs the client's side to its home; the simulator asks for none of it, and so does not load that.
_LATER: Final = {"Recorder": "recorder", "replay": "replaying"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
