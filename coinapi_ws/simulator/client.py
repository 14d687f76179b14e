"""One accepted connection: its socket, its conversation, and how its bytes are sent."""

from __future__ import annotations

import selectors
from collections import deque
from typing import Final

from .behaviour import SOUND, Behaviour
from .connection import CLOSE_TIMEOUT_NS, NEVER_NS
from .conversation import Conversation
from .transport import Transport

_CHUNK_BYTES: Final = 256 * 1024


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
        #: Set once all is said: until then the client may take it, and close TCP itself.
        self._linger_deadline_ns = NEVER_NS
        self._has_ended_writing = False
        #: What is sent later, or in pieces: when it was queued, and the bytes.
        self._line: deque[tuple[int, memoryview]] = deque()
        #: When the last of it was due.
        self._last_due_ns = -NEVER_NS

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
        return min(self.conversation.next_timeout(), self._linger_deadline_ns)

    def next_turn(self, now_ns: int) -> int:
        """Return when there is something to do, at the latest."""
        due_ns = self.next_timeout()
        if now_ns < self._served_ns:
            due_ns = min(due_ns, self._served_ns)
        if self._line and not self._behaviour.is_cut and not self._transport.has_unsent:
            due_ns = min(due_ns, self._line_due_ns())
        return due_ns

    def handle_timeout(self, now_ns: int) -> None:
        """Do what became due."""
        if now_ns >= self._linger_deadline_ns:
            self.is_gone = True
        else:
            self.conversation.handle_timeout(now_ns)

    def read(self, now_ns: int) -> None:
        """Take what the client sent."""
        try:
            received, is_eof = self._transport.read()
        except OSError:
            received, is_eof = b"", True
        # What comes after the end of the conversation is thrown away, so that closing does not reset the
        # connection.
        if received and self._linger_deadline_ns == NEVER_NS:
            self.conversation.receive(received, now_ns)
        if is_eof:
            self.conversation.connection.receive_eof()
            self.flush(now_ns)
            self.is_gone = True

    def flush(self, now_ns: int) -> None:
        """Send what is due, as far as the socket takes it."""
        if self.is_gone or self._behaviour.is_cut or now_ns < self._served_ns:
            return
        connection, transport = self.conversation.connection, self._transport
        try:
            if transport.has_unsent or transport.wants_write:
                transport.write()
            if self._line or self._behaviour.shapes_bytes:
                self._flush_line(now_ns)
            else:
                while connection.has_queued and not transport.has_unsent:
                    transport.write(connection.take(_CHUNK_BYTES))
            if connection.is_finished:
                self._finish(now_ns)
        except OSError:
            connection.receive_eof()
            self.is_gone = True

    def drop(self, now_ns: int, *, reset: bool) -> None:
        """End TCP here and now, without a Close; what was not sent yet is lost."""
        # The client's own end is awaited, also where nothing of it was read so far.
        self.behaviour = SOUND
        self.conversation.connection.receive_eof()
        self._line.clear()
        if reset:
            self._transport.reset()
            self.is_gone = True
            return
        try:
            self._transport.cut()
            self._has_ended_writing = True
            self._linger_deadline_ns = now_ns + CLOSE_TIMEOUT_NS
        except OSError:
            self.is_gone = True

    def close(self) -> None:
        """Close the socket."""
        self._transport.close()

    def line_up(self, now_ns: int) -> None:
        """Let what was queued wait for its time, where everything is sent later."""
        connection, is_on_its_way = self.conversation.connection, self._behaviour.delay_ns > 0
        # Otherwise no more is taken than is being sent, so that what waits for the client is counted as waiting.
        while connection.has_queued and (not self._line or (is_on_its_way and not self._transport.has_unsent)):
            self._line.append((now_ns, memoryview(connection.take(_CHUNK_BYTES))))

    def _finish(self, now_ns: int) -> None:
        """End TCP behind the last byte, and wait for the client to take it and to do the same, but not for ever."""
        is_stuck = self._transport.has_unsent
        if not (is_stuck or self.conversation.connection.has_queued or self._line or self._has_ended_writing):
            self._transport.end_writing()
            self._has_ended_writing = True
        if (is_stuck or self._has_ended_writing) and self._linger_deadline_ns == NEVER_NS:
            self._linger_deadline_ns = now_ns + CLOSE_TIMEOUT_NS

    def _line_due_ns(self) -> int:
        """Return when the first bytes of the line are due, by how the connection behaves now."""
        delayed_ns = self._line[0][0] + self._behaviour.delay_ns
        return max(delayed_ns, self._last_due_ns + self._behaviour.chunk_interval_ns)

    def _flush_line(self, now_ns: int) -> None:
        """Send through a line in which bytes wait for their time, a limited number at a time."""
        transport, behaviour = self._transport, self._behaviour
        while True:
            self.line_up(now_ns)
            if not self._line or transport.has_unsent or self._line_due_ns() > now_ns:
                return
            self._last_due_ns = self._line_due_ns()
            queued_ns, rest = self._line.popleft()
            size = behaviour.chunk_bytes or len(rest)
            if len(rest) > size:
                self._line.appendleft((queued_ns, rest[size:]))
            transport.write(bytes(rest[:size]))
