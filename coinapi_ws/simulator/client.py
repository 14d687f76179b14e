"""One accepted connection: its socket, its conversation, and how its bytes are sent."""

from __future__ import annotations

import selectors
from typing import Final

from .behaviour import SOUND, Behaviour
from .conversation import Conversation
from .transport import Transport
from .wire import NEVER_NS, NS_PER_SECOND

#: How long a client that is to end may take nothing and say nothing.
CLOSE_TIMEOUT_NS: Final = 10 * NS_PER_SECOND
_CHUNK_BYTES: Final = 256 * 1024
#: How much one client is sent before the others have their turn.
_PIECES_A_TURN: Final = 256
_BYTES_A_TURN: Final = 4 * 1024 * 1024


class Client:
    """A client as the simulator's loop sees it. Times are nanoseconds on the simulator's monotonic clock.

    ``number`` counts the connections from 1. Until ``served_ns`` the client finds nobody listening.
    """

    def __init__(self, number: int, transport: Transport, conversation: Conversation, *, served_ns: int) -> None:
        self.number = number
        self.conversation = conversation
        #: True once there is nothing left to do but to forget it.
        self.is_gone = False
        #: What the loop's selector watches for; 0 is nothing.
        self.watched = 0
        self._transport = transport
        self._behaviour = SOUND
        self._served_ns = served_ns
        #: When it last took something, or its end began; until then it is not watched.
        self._progress_ns = NEVER_NS
        self._sent_bytes = 0
        self._has_ended_writing = False

    @property
    def behaviour(self) -> Behaviour:
        """How this connection misbehaves."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.conversation.connection.behaviour = behaviour
        self.conversation.feed.tampering.behaviour = behaviour

    @property
    def has_buffered_input(self) -> bool:
        """True when bytes wait that no selector shows, and may be read."""
        return not self._behaviour.is_cut and self._transport.has_buffered_input

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._transport.fileno()

    def owes_pong(self, by_ns: int) -> bool:
        """Tell whether the client will be closed at that time, unless it sends a Pong."""
        return not self._behaviour.is_cut and self.conversation.connection.owes_pong(by_ns)

    def interest(self, now_ns: int) -> int:
        """Return what the selector is to watch for; 0 for nothing."""
        if self._behaviour.is_cut or now_ns < self._served_ns:
            return 0
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._transport.wants_write else 0)

    def next_timeout(self) -> int:
        """Return when `handle_timeout` is due."""
        if self._behaviour.is_cut:
            return NEVER_NS
        return min(self.conversation.next_timeout(), self._end_due_ns())

    def next_turn(self, now_ns: int) -> int:
        """Return when there is something to do, at the latest."""
        if self._behaviour.is_cut:
            return NEVER_NS
        due_ns = self.next_timeout()
        if now_ns < self._served_ns:
            return min(due_ns, self._served_ns)
        if self._transport.has_unsent:
            return due_ns
        if self.conversation.can_refill:
            return now_ns
        return min(due_ns, self.conversation.connection.outgoing.due_ns(self._behaviour))

    def handle_timeout(self, now_ns: int) -> None:
        """Do what became due."""
        if now_ns < self._end_due_ns():
            self.conversation.handle_timeout(now_ns)
            return
        self.flush(now_ns)  # a far jump of the clock has not yet sent what was due in it
        if now_ns < self._end_due_ns():
            return
        if self._has_ended_writing or self._transport.has_unsent:
            self.is_gone = True
        else:
            # Our Close was taken and not answered.
            self._progress_ns = now_ns
            self.conversation.connection.receive_eof()

    def serve(self) -> None:
        """Wait no longer with the handshake."""
        self._served_ns = -NEVER_NS

    def read(self, now_ns: int) -> None:
        """Take what the client sent."""
        if self._behaviour.is_cut:
            return
        try:
            received, is_eof = self._transport.read()
        except OSError:
            received, is_eof = b"", True
        # What comes after the end of the conversation is thrown away, so that closing does not reset the
        # connection.
        if received and not self.conversation.connection.is_finished:
            self.conversation.receive(received, now_ns)
        if is_eof:
            self.conversation.connection.receive_eof()
            self.flush(now_ns)
            self.is_gone = True

    def flush(self, now_ns: int) -> None:
        """Send what is due, as far as the socket takes it and this turn allows."""
        if self.is_gone or self._behaviour.is_cut or now_ns < self._served_ns:
            return
        connection, transport = self.conversation.connection, self._transport
        try:
            if transport.has_unsent or transport.wants_write:
                transport.write()
            self._send(now_ns)
            is_all_said = not (connection.outgoing or transport.has_unsent)
            if connection.is_finished and is_all_said and not self._has_ended_writing:
                self._has_ended_writing = True
                self._progress_ns = now_ns
                transport.end_writing()
        except OSError:
            connection.receive_eof()
            self.is_gone = True
        if transport.sent_bytes != self._sent_bytes or (connection.is_ending and self._progress_ns == NEVER_NS):
            self._sent_bytes = transport.sent_bytes
            self._progress_ns = now_ns if connection.is_ending else NEVER_NS

    def drop(self, now_ns: int, *, reset: bool) -> None:
        """End TCP here and now, without a Close; what was not sent yet is lost."""
        # The client's own end is awaited, also where nothing of it was read so far.
        self.behaviour = SOUND
        self.conversation.connection.receive_eof()
        if reset:
            self._transport.reset()
            self.is_gone = True
            return
        try:
            self._has_ended_writing = True
            self._progress_ns = now_ns
            self._transport.cut()
        except OSError:
            self.is_gone = True

    def close(self) -> None:
        """Close the socket."""
        self._transport.close()

    def _send(self, now_ns: int) -> None:
        connection, transport, left = self.conversation.connection, self._transport, _BYTES_A_TURN
        for _ in range(_PIECES_A_TURN):
            if transport.has_unsent or left <= 0:
                return
            self.conversation.refill(now_ns)
            piece = connection.take(now_ns, _CHUNK_BYTES)
            if not piece:
                return
            left -= len(piece)
            transport.write(piece)

    def _end_due_ns(self) -> int:
        """Return when the client is given up: what it is still to be told must be due, and not taken."""
        if self._progress_ns == NEVER_NS:
            return NEVER_NS
        outgoing = self.conversation.connection.outgoing
        said_ns = outgoing.due_ns(self._behaviour) if outgoing else self._progress_ns
        return max(self._progress_ns, said_ns) + CLOSE_TIMEOUT_NS
