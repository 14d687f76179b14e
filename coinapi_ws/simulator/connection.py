"""The server's end of one WebSocket connection, without I/O: bytes in, bytes out, time as a parameter.

wsproto does the handshake, everything inbound, and control frames; text frames are built by
`wire.text_frame`. Times are nanoseconds on the simulator's monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from http import HTTPStatus
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

from .behaviour import SOUND
from .gate import ACCEPTED, Answer
from .keys import presented_keys, shown_request
from .outgoing import Outgoing
from .rest import RestRequest, request_of
from .statistics import Statistics
from .wire import NEVER_NS, NS_PER_SECOND, fragments, text_frame

MAX_HEAD_BYTES: Final = 16 * 1024
#: No hello is that long; without a limit a client could fill the memory (hazard W8).
MAX_MESSAGE_BYTES: Final = 1024 * 1024
UPGRADE_TIMEOUT_NS: Final = 10 * NS_PER_SECOND
#: A Ping is not answered at once while that much waits for the client, or its answers would fill the memory.
_MUCH_BYTES: Final = 256 * 1024


class ServerConnection:
    """One WebSocket connection as the server sees it.

    Feed it with `receive` and `receive_eof`, call `handle_timeout` at `next_timeout`, send what `take`
    returns, and close the socket once `is_finished` and nothing is left in ``outgoing``. ``receive`` returns the text
    messages that arrived. ``admit`` is asked for the answer to the upgrade request, ``list_metadata`` for the one to a
    request of REST in its place, which ends the connection.
    """

    def __init__(
        self,
        statistics: Statistics,
        address: str,
        admit: Callable[[ServerConnection, int], Answer],
        list_metadata: Callable[[ServerConnection, RestRequest, int], Answer],
        *,
        now_ns: int,
        ping_interval_ns: int,
        pong_timeout_ns: int,
    ) -> None:
        self.address = address
        #: Hashes of the API keys that came with the upgrade request.
        self.keys: list[bytes] = []
        self.behaviour = SOUND
        self.outgoing = Outgoing()
        self._statistics = statistics
        self._admit = admit
        self._list_metadata = list_metadata
        self._ws = WSConnection(ConnectionType.SERVER)
        self._head = b""
        self._parts: list[str] = []
        self._part_bytes = 0
        self._ping_interval_ns = ping_interval_ns
        self._pong_timeout_ns = pong_timeout_ns
        self._next_ping_ns = NEVER_NS
        self._pings_sent = 0
        #: The Pings without an answer, and when the client is closed for each.
        self._awaited: deque[tuple[bytes, int]] = deque()
        #: The newest Ping of the client that was not answered yet.
        self._owed: Ping | None = None
        self._upgrade_deadline_ns = now_ns + UPGRADE_TIMEOUT_NS
        self._finished = False

    @property
    def is_open(self) -> bool:
        """True while market data may be sent: from the upgrade to the first Close, sent or received."""
        if self._finished:
            return False
        goes_on = self.behaviour.sends_after_close and self._ws.state is ConnectionState.REMOTE_CLOSING
        return goes_on or self._ws.state is ConnectionState.OPEN

    @property
    def is_over(self) -> bool:
        """True from the first Close, sent or received, or the end of TCP."""
        return self._finished or self._ws.state not in (ConnectionState.CONNECTING, ConnectionState.OPEN)

    @property
    def is_ending(self) -> bool:
        """True once the end was begun here, or answered: what is said must get through, and then TCP ends."""
        return self._finished or self._ws.state is ConnectionState.LOCAL_CLOSING

    @property
    def is_finished(self) -> bool:
        """True when nothing more will be exchanged, but for what `take` still has."""
        return self._finished

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
        self.outgoing.clear()
        self._stop_pings()

    def send(self, frames: bytes, now_ns: int, messages: int = 1) -> None:
        """Queue whole text frames that the caller built."""
        if self.behaviour.fragment_bytes:
            frames = fragments(frames, self.behaviour.fragment_bytes)
        self.outgoing.add(frames, messages, now_ns)

    def send_raw(self, pieces: Sequence[bytes], now_ns: int) -> None:
        """Queue one message of bytes of any kind, in pieces."""
        *others, last = filter(None, pieces)
        for piece in others:
            self.outgoing.add(piece, 0, now_ns, goes_on=True)
        self.outgoing.add(last, 1, now_ns)

    def close(self, now_ns: int, code: int, reason: str = "", *, last_text: str | None = None) -> None:
        """Start the closing handshake after what is queued, and after one more text; before the upgrade, just end."""
        if self.is_over:
            return
        if self._ws.state is ConnectionState.CONNECTING:
            self.receive_eof()
            return
        if last_text is not None:
            self.send(text_frame(last_text.encode()), now_ns)
        self._say(CloseConnection(code=code, reason=reason), now_ns)
        self._stop_pings()

    def next_timeout(self) -> int:
        """Return when `handle_timeout` is due."""
        return min(self._next_ping_ns, self._pong_deadline_ns, self._upgrade_deadline_ns)

    def handle_timeout(self, now_ns: int) -> None:
        """Do what became due."""
        if now_ns >= self._upgrade_deadline_ns:
            self._upgrade_deadline_ns = NEVER_NS
            self.receive_eof()
        elif now_ns >= self._pong_deadline_ns:
            self.close(now_ns, CloseReason.INTERNAL_ERROR, "no Pong received")
        elif now_ns >= self._next_ping_ns:
            self._next_ping_ns += self._ping_interval_ns
            self._pings_sent += 1
            self._statistics.pings_sent += 1
            payload = self._pings_sent.to_bytes(4, "big")
            self._awaited.append((payload, NEVER_NS))
            self._say(Ping(payload=payload), now_ns)

    def owes_pong(self, by_ns: int) -> bool:
        """Tell whether the client will be closed at that time, unless it sends a Pong."""
        return self._pong_deadline_ns <= by_ns

    def caught_up(self, now_ns: int) -> None:
        """Take note that the simulator has nothing overdue: from now on the client can answer its Pings.

        A virtual clock may jump over many Pings at once, which no client could have answered in between.
        """
        if self._awaited and self._awaited[-1][1] == NEVER_NS:
            deadline_ns = now_ns + self._pong_timeout_ns
            self._awaited = deque((payload, min(due_ns, deadline_ns)) for payload, due_ns in self._awaited)

    def take(self, now_ns: int, limit_bytes: int) -> bytes:
        """Return bytes to send now, up to about the limit; none where nothing is due."""
        if self._owed is not None and self.outgoing.bytes < _MUCH_BYTES:
            self._answer_ping(self._owed, now_ns)
        return self.outgoing.take(now_ns, limit_bytes, self.behaviour)

    @property
    def _pong_deadline_ns(self) -> int:
        return self._awaited[0][1] if self._awaited else NEVER_NS

    def _say(self, event: Ping | Pong | CloseConnection | AcceptConnection, now_ns: int) -> None:
        self.outgoing.add(self._ws.send(event), 0, now_ns)

    def _receive_head(self, received: bytes, now_ns: int) -> bytes:
        """Collect the request and answer it; return what follows one for an upgrade."""
        self._head += received
        if not b"GET ".startswith(self._head[:4]):
            # Most often a TLS handshake, whose client would wait for an answer until its patience ends.
            self._respond(Answer(400), now_ns)
            return b""
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(self._head) > MAX_HEAD_BYTES:
                self._respond(Answer(431), now_ns)
            return b""
        head, rest = self._head[:end], self._head[end:]
        self._head = b""
        if (request := request_of(head)) is not None:
            self.keys = presented_keys(request.target, request.headers)
            self._respond(self._list_metadata(self, request, now_ns), now_ns)
            return b""
        # A host name that is none raises UnicodeError, a ValueError (hazard W2).
        try:
            self._ws.receive_data(head)
            event = next(iter(self._ws.events()))
        except RemoteProtocolError as error:
            hint = error.event_hint
            answer = Answer(400)
            if isinstance(hint, RejectConnection):
                # RFC 9110, 15.5.22: what it would take.
                answer = Answer(hint.status_code, ((b"Upgrade", b"websocket"), *hint.headers))
            self._respond(answer, now_ns)
            return b""
        except (ValueError, StopIteration):
            self._respond(Answer(400), now_ns)
            return b""
        assert isinstance(event, Request)
        return self._answer(event, rest, now_ns)

    def _answer(self, request: Request, rest: bytes, now_ns: int) -> bytes:
        self.keys = presented_keys(request.target, request.extra_headers)
        shown = shown_request(request.target, [(b"host", request.host.encode()), *request.extra_headers])
        answer = self._admit(self, now_ns)
        self._upgrade_deadline_ns = NEVER_NS
        self.outgoing.add(answer.preface, 0, now_ns)
        if answer.status == ACCEPTED:
            self._statistics.requests.append(shown)
            self._say(AcceptConnection(extra_headers=list(answer.headers)), now_ns)
            self._next_ping_ns = now_ns + self._ping_interval_ns
            return rest
        self._statistics.requests_refused.append(shown)
        if answer.status:
            self._respond(answer, now_ns)
        self._finished = True
        return b""

    def _respond(self, answer: Answer, now_ns: int) -> None:
        head = (
            b"HTTP/1.1 %d %s\r\n" % (answer.status, _phrase(answer.status))
            + b"".join(name + b": " + value + b"\r\n" for name, value in answer.headers)
            + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % sum(map(len, answer.body))
        )
        self.send_raw([head, *answer.body], now_ns)
        self._upgrade_deadline_ns = NEVER_NS
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
                # RFC 6455, 5.5.3: of several Pings the newest may be answered alone.
                if self.outgoing.bytes < _MUCH_BYTES:
                    self._answer_ping(event, now_ns)
                else:
                    self._owed = event
            elif isinstance(event, Pong):
                self._statistics.pongs_received += 1
                self._take_pong(bytes(event.payload))
            elif isinstance(event, BytesMessage):
                self._fail(now_ns, CloseReason.UNSUPPORTED_DATA, "text expected")
                break
            elif isinstance(event, CloseConnection):
                self._receive_close(event, now_ns)
                break
        return texts

    def _answer_ping(self, ping: Ping, now_ns: int) -> None:
        self._owed = None
        # RFC 6455 lets us answer after our Close, wsproto does not (hazard W6).
        if self._ws.state is ConnectionState.OPEN:
            self._say(ping.response(), now_ns)

    def _take_pong(self, payload: bytes) -> None:
        # A Pong answers the Pings before it as well; any other is unsolicited and proves nothing (RFC 6455, 5.5.3).
        if any(payload == awaited for awaited, _ in self._awaited):
            while self._awaited.popleft()[0] != payload:
                pass

    def _receive_close(self, event: CloseConnection, now_ns: int) -> None:
        if self._ws.state is ConnectionState.OPEN:
            # wsproto reports a broken frame this way (hazard W3); nothing after it can be understood.
            self._fail(now_ns, event.code, event.reason or "")
            return
        if self._ws.state is not ConnectionState.LOCAL_CLOSING:
            self._statistics.closes.append((int(event.code), event.reason or ""))
        self._stop_pings()
        if self._ws.state is ConnectionState.REMOTE_CLOSING:
            if not self.behaviour.answers_close:
                return
            # The client asked for the end: what still waits for it is of no use any more.
            self.outgoing.discard()
            self._say(event.response(), now_ns)
        self._finished = True

    def _fail(self, now_ns: int, code: int, reason: str) -> None:
        self.close(now_ns, code, reason)
        self._stop_pings()
        self._finished = True

    def _stop_pings(self) -> None:
        self._next_ping_ns = NEVER_NS
        self._awaited.clear()
        self._owed = None


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Refused"
