"""The server's end of one WebSocket connection, without I/O: bytes in, bytes out, time as a parameter.

wsproto does the handshake, everything inbound, and control frames; text frames are built by
`wire.text_frame`. Times are nanoseconds on the simulator's monotonic clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

from .keys import presented_keys, shown_request
from .statistics import Statistics
from .wire import NS_PER_SECOND, text_frame

NEVER_NS: Final = 1 << 100
MAX_HEAD_BYTES: Final = 16 * 1024
#: No hello is that long; without a limit a client could fill the memory (hazard W8).
MAX_MESSAGE_BYTES: Final = 1024 * 1024
UPGRADE_TIMEOUT_NS: Final = 10 * NS_PER_SECOND
CLOSE_TIMEOUT_NS: Final = 10 * NS_PER_SECOND


class ServerConnection:
    """One WebSocket connection as the server sees it.

    Feed it with `receive` and `receive_eof`, call `handle_timeout` at `next_timeout`, send what `take`
    returns, and close the socket once `is_finished` and nothing is left to take. ``receive`` returns the text
    messages that arrived.
    """

    def __init__(self, statistics: Statistics, *, now_ns: int, ping_interval_ns: int, pong_timeout_ns: int) -> None:
        #: Hashes of the API keys that came with the upgrade request.
        self.keys: list[bytes] = []
        self.queued_bytes = 0
        self._statistics = statistics
        self._pings_sent = 0
        self._ws = WSConnection(ConnectionType.SERVER)
        self._head = b""
        self._parts: list[str] = []
        self._part_bytes = 0
        self._queue: deque[bytes] = deque()
        self._ping_interval_ns = ping_interval_ns
        self._pong_timeout_ns = pong_timeout_ns
        self._next_ping_ns = NEVER_NS
        self._pong_is_awaited = False
        self._pong_deadline_ns = NEVER_NS
        self._end_deadline_ns = now_ns + UPGRADE_TIMEOUT_NS
        self._finished = False

    @property
    def is_open(self) -> bool:
        """True from the upgrade to the first Close, sent or received."""
        return self._ws.state is ConnectionState.OPEN and not self._finished

    @property
    def is_finished(self) -> bool:
        """True when nothing more will be exchanged, but for what `take` still has."""
        return self._finished

    @property
    def queued_frames(self) -> int:
        """How many pieces wait for `take`."""
        return len(self._queue)

    def receive(self, received: bytes, now_ns: int) -> list[str]:
        """Take bytes from the client and return the whole text messages in them."""
        if self._finished:
            return []
        if self._ws.connection is None:
            received = self._receive_head(received, now_ns)
        return self._receive_frames(received, now_ns) if received else []

    def receive_eof(self) -> None:
        """Take note that the client closed or lost its TCP connection."""
        self._finished = True
        self.discard()
        self._stop_pings()

    def send(self, frame: bytes) -> None:
        """Queue whole frames that the caller built."""
        self._queue.append(frame)
        self.queued_bytes += len(frame)

    def discard(self) -> None:
        """Forget what is queued."""
        self._queue.clear()
        self.queued_bytes = 0

    def close(self, now_ns: int, code: int, reason: str = "", *, last_text: str | None = None) -> None:
        """Start the closing handshake after what is queued, and after one more text."""
        if not self.is_open:
            return
        if last_text is not None:
            self.send(text_frame(last_text.encode()))
        self.send(self._ws.send(CloseConnection(code=code, reason=reason)))
        self._stop_pings()
        self._end_deadline_ns = now_ns + CLOSE_TIMEOUT_NS

    def next_timeout(self) -> int:
        """Return when `handle_timeout` is due."""
        return min(self._next_ping_ns, self._pong_deadline_ns, self._end_deadline_ns)

    def handle_timeout(self, now_ns: int) -> None:
        """Do what became due."""
        if now_ns >= self._end_deadline_ns:
            self.receive_eof()
            self._end_deadline_ns = NEVER_NS
        elif now_ns >= self._pong_deadline_ns:
            self.close(now_ns, CloseReason.INTERNAL_ERROR, "no Pong received")
        elif now_ns >= self._next_ping_ns:
            self._next_ping_ns += self._ping_interval_ns
            self._pings_sent += 1
            self._statistics.pings_sent += 1
            self._pong_is_awaited = True
            self.send(self._ws.send(Ping(payload=self._pings_sent.to_bytes(4, "big"))))

    def caught_up(self, now_ns: int) -> None:
        """Take note that the simulator has nothing overdue: from now on the client can answer a Ping.

        A virtual clock may jump over many Pings at once, which no client could have answered in between.
        """
        if self._pong_is_awaited and self._pong_deadline_ns == NEVER_NS:
            self._pong_deadline_ns = now_ns + self._pong_timeout_ns

    def take(self, limit_bytes: int) -> bytes:
        """Return queued bytes to send, whole frames and at least one, up to about the limit."""
        queue = self._queue
        if len(queue) == 1:
            self.queued_bytes = 0
            return queue.popleft()
        frames: list[bytes] = []
        size = 0
        while queue and (not frames or size + len(queue[0]) <= limit_bytes):
            frame = queue.popleft()
            size += len(frame)
            frames.append(frame)
        self.queued_bytes -= size
        return b"".join(frames)

    def _receive_head(self, received: bytes, now_ns: int) -> bytes:
        """Collect the upgrade request and answer it; return what follows it."""
        self._head += received
        if not b"GET ".startswith(self._head[:4]):
            # Most often a TLS handshake, whose client would wait for an answer until its patience ends.
            self._reject(RejectConnection(status_code=400))
            return b""
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(self._head) > MAX_HEAD_BYTES:
                self._reject(RejectConnection(status_code=431))
            return b""
        head, rest = self._head[:end], self._head[end:]
        self._head = b""
        # A host name that is none raises UnicodeError, a ValueError (hazard W2).
        try:
            self._ws.receive_data(head)
            event = next(iter(self._ws.events()))
        except RemoteProtocolError as error:
            hint = error.event_hint
            self._reject(hint if isinstance(hint, RejectConnection) else RejectConnection(status_code=400))
            return b""
        except (ValueError, StopIteration):
            self._reject(RejectConnection(status_code=400))
            return b""
        assert isinstance(event, Request)
        self.keys = presented_keys(event.target, event.extra_headers)
        self._statistics.requests.append(
            shown_request(event.target, [(b"host", event.host.encode()), *event.extra_headers])
        )
        self.send(self._ws.send(AcceptConnection()))
        self._end_deadline_ns = NEVER_NS
        self._next_ping_ns = now_ns + self._ping_interval_ns
        return rest

    def _reject(self, event: RejectConnection) -> None:
        headers = b"".join(name + b": " + value + b"\r\n" for name, value in event.headers)
        self.send(b"HTTP/1.1 %d \r\n%scontent-length: 0\r\nconnection: close\r\n\r\n" % (event.status_code, headers))
        self._finished = True

    def _receive_frames(self, received: bytes, now_ns: int) -> list[str]:
        texts: list[str] = []
        self._ws.receive_data(received)
        for event in self._ws.events():
            if isinstance(event, TextMessage):
                self._parts.append(event.data)
                self._part_bytes += len(event.data)
                if self._part_bytes > MAX_MESSAGE_BYTES:
                    self._fail(now_ns, CloseReason.MESSAGE_TOO_BIG, "message too big")
                    break
                if event.message_finished:
                    texts.append("".join(self._parts))
                    self._parts, self._part_bytes = [], 0
            elif isinstance(event, Ping):
                # RFC 6455 lets us answer after our Close, wsproto does not (hazard W6).
                if self.is_open:
                    self.send(self._ws.send(event.response()))
            elif isinstance(event, Pong):
                self._statistics.pongs_received += 1
                self._pong_is_awaited = False
                self._pong_deadline_ns = NEVER_NS
            elif isinstance(event, BytesMessage):
                self._fail(now_ns, CloseReason.UNSUPPORTED_DATA, "text expected")
                break
            elif isinstance(event, CloseConnection):
                self._receive_close(event, now_ns)
                break
        return texts

    def _receive_close(self, event: CloseConnection, now_ns: int) -> None:
        if self._ws.state is ConnectionState.OPEN:
            # wsproto reports a broken frame this way (hazard W3); nothing after it can be understood.
            self._fail(now_ns, event.code, event.reason or "")
            return
        if self._ws.state is not ConnectionState.LOCAL_CLOSING:
            self._statistics.closes.append((int(event.code), event.reason or ""))
        if self._ws.state is ConnectionState.REMOTE_CLOSING:
            # The client asked for the end: what still waits for it is of no use any more.
            self.discard()
            self.send(self._ws.send(event.response()))
        self._stop_pings()
        self._finished = True

    def _fail(self, now_ns: int, code: int, reason: str) -> None:
        self.close(now_ns, code, reason)
        self._stop_pings()
        self._finished = True

    def _stop_pings(self) -> None:
        self._next_ping_ns = self._pong_deadline_ns = NEVER_NS
        self._pong_is_awaited = False
