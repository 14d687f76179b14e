"""What stands in a stream of a relay, and what readers make of it, pure.

A stream holds texts in the order in which they were published: frames as the server sent them, and gaps, as JSON. All
messages of a symbol are in one stream, and which one follows from its id and the number of streams alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, Protocol

from ..endpoints import endpoint_from
from ..events import ConnectionGap, Dropped, Gap, Undecodable
from ..exceptions import CoinAPIError
from ..options import Options
from ..protocol.frames import Item
from ..protocol.reading import Reader, begins_anew
from ..scope import Scope
from ..subscription import fields_of, subscription_of

DEFAULT_STREAMS: Final = 16
DEFAULT_PREFIX: Final = "coinapi"
#: Connections whose sequences are followed. Those of relays that have ended are forgotten.
_MAX_CONNECTIONS: Final = 1000

_GAPS: Final[dict[str, type[ConnectionGap] | type[Dropped]]] = {"ConnectionGap": ConnectionGap, "Dropped": Dropped}


class RelayError(CoinAPIError):
    """Messages could not be published, or read; the text says why, and names no password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed(Gap):
    """``count`` entries of a stream were gone before this group could read them: trimmed, or lost with the server.

    ``count`` is None where the server forgot the whole stream, so that nobody knows. Any symbol of the stream may be
    concerned. ``after_ms`` and ``before_ms`` are when, by the server's clock in milliseconds since the epoch, the
    entries around them were published.
    """

    stream: int
    count: int | None
    after_ms: int
    before_ms: int


class Entry(NamedTuple):
    """A frame's text as it came, and when it was received (nanoseconds since the epoch); a gap's, and None."""

    received_ns: int | None
    text: str


class Batch(NamedTuple):
    """Entries to append to one stream, in order; all of one connection to the server, which has a name of its own."""

    stream: int
    connection: str
    entries: list[Entry]


class Publisher(Protocol):
    """Where a relay puts its entries. It has so many ``streams``, numbered from 0."""

    @property
    def streams(self) -> int:
        """How many streams there are."""

    def publish(self, batches: Sequence[Batch]) -> None:
        """Append all of these, each once, and return when they are there. Of a stream there is one at most.

        Called by one thread, one call after the other. Blocks as long as it takes. Raises ``RelayError`` where it
        cannot be done.
        """


class EntryDecoder:
    """Makes the messages and events of a client out of entries; for one thread at a time.

    Options are those of :class:`~coinapi_ws.Options`. A sequence that jumps within one connection gives a
    ``SequenceGap``, as it would in the client; one that is at 1 again begins anew, since no entry tells of changes of
    the scope.
    """

    def __init__(self, numbers: str = "float", *, keep_raw: bool = False, all_sequence_gaps: bool = False) -> None:
        self._options = Options(
            endpoint=endpoint_from("ws://localhost"),
            numbers=numbers,
            keep_raw=keep_raw,
            all_sequence_gaps=all_sequence_gaps,
            deliver_surplus=True,
        )
        self._readers: dict[str, Reader] = {}

    def decode(self, connection: str, entry: Entry) -> list[Item]:
        """Return what an entry says, in order; ``Undecodable`` for one that only a newer version understands."""
        received_ns, text = entry
        if received_ns is None:
            return [gap_of(text)]
        reader = self._readers.get(connection)
        if reader is None:
            if len(self._readers) >= _MAX_CONNECTIONS:
                del self._readers[next(iter(self._readers))]
            reader = self._readers[connection] = Reader(self._options, Scope())
        return [item for item in reader.decode_text(text, received_ns) if not begins_anew(item)]


def gap_text(gap: ConnectionGap | Dropped) -> str:
    """Return the JSON of a gap."""
    values: dict[str, Any] = {field.name: getattr(gap, field.name) for field in fields(gap)}
    if isinstance(gap, ConnectionGap):
        values["scope"] = [fields_of(member) for member in gap.scope]
    return json.dumps({"gap": type(gap).__name__, **values})


def gap_of(text: str) -> ConnectionGap | Dropped | Undecodable:
    """Return the gap of such a JSON."""
    try:
        values = json.loads(text)
        kind = _GAPS[values.pop("gap")]
        if kind is ConnectionGap:
            values["scope"] = Scope(*map(subscription_of, values["scope"]))
        return kind(**values)
    except (AttributeError, KeyError, TypeError, ValueError):
        return Undecodable(reason="a gap of a kind that is unknown here", received_ns=0, payload=text)
