"""From a client to streams: every message is published as it came, without being decoded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Final

from ..client.client import Client
from ..client.dispatch import LOGGER
from ..client.keys import is_market_data, time_ns_of
from ..decoding import Decoder
from ..events import Connected, ConnectionGap, Dropped, Event, Undecodable
from ..protocol.frames import Frame, Frames
from ..sharding import shard_of
from .entries import Batch, Entry, Publisher, gap_text

#: How a frame with a sequence ends. No brace but the last follows the symbol, so it is the outermost object's.
_END: Final = re.compile(r'"symbol_id":"([^"\\]*)","sequence":\d+,"type":"\w+"\}')
_SYMBOL_KEY: Final = '"symbol_id"'
#: A server may invent any number of symbols.
_MAX_NAMES: Final = 100_000
_DECODER: Final = Decoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayStats:
    """Counts of one relay: messages that are published, their bytes (any character counts as one), and gaps.

    ``unpublished`` messages were taken from the client and are not known to be there: they are on their way, or were
    given up when the publisher raised an error.
    """

    published: int
    bytes: int
    gaps: int
    unpublished: int


class Relay:
    """Publishes what a client receives; make it before the client starts.

    It works on the client's dispatcher thread and has none of its own: start and close the client, and close the
    publisher after it. While the publisher waits, the client's queue fills, and then reading pauses; so
    ``slow_consumer_timeout=None`` lets the server cut the connection, and the client make another, where
    the pause is long. The client has to be made with ``keep_raw=True``, ``dispatch="thread"``, ``when_full="pause"``,
    and without a handover. Its callbacks hear events, heartbeats, errors and notices; messages go to the publisher
    alone, those included that one merged hello brings beyond the scope. A binary frame is no message, and is told to
    callbacks as ``Undecodable``.

    A gap of the client is published before the first message after it, in each stream that has one; several without a
    message between them are one, from where the first began. So is a ``ConnectionGap`` where a relay begins, since what
    came before it may be missing. What the publisher raises ends the client, whose ``join`` raises it. Raises
    ``ConfigurationError`` and ``UsageError`` for a client that cannot do this.
    """

    def __init__(self, client: Client, publisher: Publisher) -> None:
        self._client = client
        self._publisher = publisher
        self._name = token_hex(8)
        self._connections = 0
        self._gap: ConnectionGap | None = None
        #: The streams that were told of it.
        self._told: set[int] = set()
        #: Since when something is missing in those that were not told of the gaps before, having had no message since.
        self._untold: dict[int, int | None] = {}
        self._batches: dict[int, Batch] = {}
        self._stream_of_name: dict[str, int] = {}
        self._published = self._bytes = self._gaps = self._taken = 0
        client._give_undecoded(self._take)

    def stats(self) -> RelayStats:
        """Return the counts so far; from any thread."""
        published = self._published
        return RelayStats(published=published, bytes=self._bytes, gaps=self._gaps, unpublished=self._taken - published)

    def _take(self, items: Sequence[Event | Frame | Frames]) -> None:
        for item in items:
            if isinstance(item, Frames):
                for frame_type, payload in zip(item.types, item.payloads, strict=True):
                    self._add(frame_type.name, payload, item.received_ns)
            elif isinstance(item, Frame):
                if isinstance(item.decoded, Undecodable) or is_market_data(item.decoded):
                    self._add(item.type, item.payload, item.received_ns)
            elif isinstance(item, Connected):
                self._publish()
                self._connections += 1
                self._forget_gap()
            elif isinstance(item, ConnectionGap):
                self._gap = item
            elif isinstance(item, Dropped):
                self._add_gap(self._stream(item.symbol_id or item.type), item)
        self._publish()

    def _add(self, type_name: str, payload: str, received_ns: int) -> None:
        stream = self._stream(symbol_of(payload) or type_name)
        if stream not in self._told:
            if self._gap is None:
                self._gap = self._beginning(payload, received_ns)
            self._told.add(stream)
            self._add_gap(stream, replace(self._gap, from_ns=self._untold.pop(stream, self._gap.from_ns)))
        self._batch(stream).entries.append(Entry(received_ns, payload))
        self._taken += 1

    def _add_gap(self, stream: int, gap: ConnectionGap | Dropped) -> None:
        self._batch(stream).entries.append(Entry(None, gap_text(gap)))

    def _forget_gap(self) -> None:
        if self._gap is not None:
            for stream in set(range(self._publisher.streams)) - self._told:
                self._untold.setdefault(stream, self._gap.from_ns)
        self._gap = None
        self._told.clear()

    def _beginning(self, payload: str, received_ns: int) -> ConnectionGap:
        first = _DECODER.decode(payload, received_ns)
        to_ns = received_ns if isinstance(first, Undecodable) else time_ns_of(first)
        reason = "nothing was asked for meanwhile" if self._taken else "a relay began"
        return ConnectionGap(from_ns=None, to_ns=to_ns, reason=reason, scope=self._client.scope)

    def _stream(self, name: str) -> int:
        stream = self._stream_of_name.get(name)
        if stream is None:
            if len(self._stream_of_name) >= _MAX_NAMES:
                self._stream_of_name.clear()
            stream = self._stream_of_name[name] = shard_of(name, self._publisher.streams)
        return stream

    def _batch(self, stream: int) -> Batch:
        batch = self._batches.get(stream)
        if batch is None:
            batch = self._batches[stream] = Batch(stream, f"{self._name}.{self._connections}", [])
        return batch

    def _publish(self) -> None:
        if not self._batches:
            return
        batches = list(self._batches.values())
        self._batches = {}
        try:
            self._publisher.publish(batches)
        except BaseException as error:
            LOGGER.error("the relay ends, with %d messages unpublished: %s", self.stats().unpublished, error)
            raise
        for batch in batches:
            for received_ns, text in batch.entries:
                if received_ns is None:
                    self._gaps += 1
                else:
                    self._published += 1
                    self._bytes += len(text)


def symbol_of(payload: str) -> str | None:
    """Return the symbol of a frame, None where it has none; decoded where the end does not show it."""
    start = payload.rfind(_SYMBOL_KEY)
    if start < 0:
        return None
    found = _END.fullmatch(payload, start)
    if found is not None and payload[start - 1] in ",{":
        return found[1]
    return getattr(_DECODER.decode(payload), "symbol_id", None)
