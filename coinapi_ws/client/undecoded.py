"""Frames on their way to the thread that delivers them, and decodes them there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final

from ..decoding import Decoder
from ..drivers.selector import SelectorConnection
from ..events import Event, Undecodable
from ..messages import Message
from ..protocol.frames import Frame, Frames, Item

#: Decoded at once. Few enough that they are gone before the garbage collector, or the processor's cache, minds them.
_PIECE: Final = 32


class Undecoded:
    """What one read of a connection brought: ``count`` messages, and events.

    Iterated once, in the order of the reads, by whichever thread delivers; ``lock`` is held while a piece of it is
    decoded, and by whoever changes what decoding depends on. ``look`` is called with the connection and each piece,
    once it is delivered.
    """

    def __init__(
        self,
        connection: SelectorConnection,
        items: Sequence[Event | Frame | Frames],
        count: int,
        *,
        lock: AbstractContextManager[object],
        look: Callable[[SelectorConnection, list[Item]], object],
    ) -> None:
        self.count = count
        self._connection = connection
        self._items = items
        self._decoded = connection.decode(items)
        self._lock = lock
        self._look = look

    def __iter__(self) -> Iterator[list[Item]]:
        while True:
            with self._lock:
                piece = list(islice(self._decoded, _PIECE))
            if piece:
                yield piece
                self._look(self._connection, piece)
            if len(piece) < _PIECE:
                return

    def as_it_came(self) -> Sequence[Event | Frame | Frames]:
        """Return all as it came, for who takes it in place of the iteration."""
        self._look(self._connection, [item for item in self._items if isinstance(item, Event)])
        return self._items

    def without_order(self) -> list[Item]:
        """Decode all, without a look at what came before: for what is told of, but not delivered.

        The iteration is left as it is.
        """
        return list(decoded_alone(self._items))


def frames_and_events(items: Iterable[Item | Undecoded]) -> Iterator[Event | Frame | Frames]:
    """Return all as it came; messages that were decoded already have to have kept their text."""
    for item in items:
        if isinstance(item, Undecoded):
            yield from item.as_it_came()
        elif isinstance(item, Message):
            assert item.raw is not None
            yield Frame(item.raw, item.received_ns, item)
        elif isinstance(item, Undecodable) and isinstance(item.payload, str):
            yield Frame(item.payload, item.received_ns, item)
        else:
            yield item


def decoded_alone(items: Sequence[Event | Frame | Frames]) -> Iterator[Item]:
    """Decode frames by themselves: no gaps, no surplus."""
    decode = Decoder().decode
    for item in items:
        if isinstance(item, Frames):
            for payload in item.payloads:
                yield decode(payload, item.received_ns)
        else:
            yield item.decoded if isinstance(item, Frame) else item
