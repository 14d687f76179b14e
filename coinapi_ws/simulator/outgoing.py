"""What waits to be sent to one client: in its order, each piece for its time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from .behaviour import Behaviour
from .wire import NEVER_NS


class _Piece(NamedTuple):
    queued_ns: int
    content: bytes
    #: How many messages end with it.
    messages: int
    #: True where the message goes on with the next piece.
    goes_on: bool


class Outgoing:
    """A queue of pieces. Times are nanoseconds on the simulator's monotonic clock.

    ``bytes`` and ``messages`` are what waits, on its way late included.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.messages = 0
        self._pieces: deque[_Piece] = deque()
        #: How much of the first piece was taken.
        self._offset = 0
        #: True while a message was taken in part.
        self._is_within = False
        #: When what was taken last was due.
        self._last_due_ns = -NEVER_NS

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, content: bytes, messages: int, now_ns: int, *, goes_on: bool = False) -> None:
        """Append a piece; the next one is of the same message where it ``goes_on``."""
        if content:
            self._pieces.append(_Piece(now_ns, content, messages, goes_on))
            self.bytes += len(content)
            self.messages += messages

    def discard(self) -> None:
        """Forget what waits, but for the rest of a message that was begun: the client would take the next for it."""
        kept: list[_Piece] = []
        if self._is_within:
            for piece in self._pieces:
                kept.append(piece)
                if not piece.goes_on:
                    break
        self._replace(kept)

    def clear(self) -> None:
        """Forget all."""
        self._offset = 0
        self._is_within = False
        self._replace(())

    def due_ns(self, behaviour: Behaviour) -> int:
        """Return when `take` has something."""
        if not self._pieces:
            return NEVER_NS
        delayed_ns = self._pieces[0].queued_ns + behaviour.delay_ns
        return max(delayed_ns, self._last_due_ns + behaviour.chunk_interval_ns)

    def take(self, now_ns: int, limit_bytes: int, behaviour: Behaviour) -> bytes:
        """Return bytes that are due: whole pieces and at least one, up to about the limit, or as behaviour says."""
        if behaviour.shapes_bytes or self._offset:
            due_ns = self.due_ns(behaviour)
            if due_ns > now_ns:
                return b""
            self._last_due_ns = due_ns
            return self._take_from_first(behaviour.chunk_bytes or limit_bytes)
        pieces: list[bytes] = []
        size = messages = 0
        queue = self._pieces
        while queue and (not pieces or size + len(queue[0].content) <= limit_bytes):
            piece = queue.popleft()
            pieces.append(piece.content)
            size += len(piece.content)
            messages += piece.messages
            self._is_within = piece.goes_on
        self.bytes -= size
        self.messages -= messages
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take_from_first(self, most: int) -> bytes:
        piece = self._pieces[0]
        taken = piece.content[self._offset : self._offset + most]
        self._offset += len(taken)
        self._is_within = True
        self.bytes -= len(taken)
        if self._offset == len(piece.content):
            self._pieces.popleft()
            self._offset = 0
            self._is_within = piece.goes_on
            self.messages -= piece.messages
        return taken

    def _replace(self, pieces: Iterable[_Piece]) -> None:
        self._pieces = deque(pieces)
        self.bytes = sum(len(piece.content) for piece in self._pieces) - self._offset
        self.messages = sum(piece.messages for piece in self._pieces)
