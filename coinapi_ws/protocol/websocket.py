"""A WebSocket client (RFC 6455) as pure state transitions: bytes in, events out, bytes out.

wsproto does the handshake, framing, masking, fragmentation and closing, behind this module alone. What is added are
limits on everything, events that hold whole messages, one clear end, errors that show no payload, and a fast lane
(``fastlane.py``) past wsproto for the one kind of frame that market data is made of. Usable without the rest of the
package, for any path, with text and binary messages.

Not thread-safe; it never blocks. The rows W1 to W14 are explained in the project's hazard tests.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from io import BytesIO, StringIO
from typing import Final, TypeAlias

import h11
import wsproto.events
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.extensions import Extension
from wsproto.utilities import ProtocolError as WsprotoError

from ..auth import HiddenBytes
from ..exceptions import ConfigurationError, UsageError
from ..options import DEFAULT_MAX_MESSAGE_BYTES
from .deflate import BoundedDeflate
from .fastlane import FrameInput

#: Kept of a refused upgrade's body: enough for a reason, bounded (W8).
MAX_REJECT_BODY_BYTES: Final = 4096
#: All that may come before the upgrade is decided; h11 caps a single head at 16 KiB, not their number.
MAX_HANDSHAKE_BYTES: Final = 64 * 1024
#: Pongs are answered one by one up to this much unsent output, then only the latest Ping is (RFC 6455, 5.5.3).
MAX_UNSENT_PONG_BYTES: Final = 64 * 1024
MAX_CONTROL_PAYLOAD_BYTES: Final = 125  # RFC 6455, section 5.5

_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]+")
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_TARGET: Final = re.compile(r"/[\x21-\x7e]*")

ABNORMAL_CLOSURE: Final = 1006
NORMAL_CLOSURE: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
MESSAGE_TOO_BIG: Final = 1009


class WebSocketState(Enum):
    """Where a connection stands."""

    IDLE = "idle"  #: nothing sent yet
    CONNECTING = "connecting"  #: the upgrade was asked for
    OPEN = "open"
    CLOSING = "closing"  #: we sent a Close frame
    CLOSED = "closed"  #: nothing more comes or goes


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The server answered 101; header names are in lower case."""

    headers: tuple[tuple[str, str], ...] = field(repr=False)
    compression: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The server answered something else; ``body`` is its beginning. The connection is CLOSED."""

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TextReceived:
    """Whole text messages, at least one, that came one after the other; what came together depends on the reads."""

    payloads: list[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class BinaryReceived:
    """A whole binary message."""

    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PingReceived:
    """A Ping, which has been answered already."""

    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PongReceived:
    """A Pong."""

    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Closed:
    """The end, exactly once, unless there was a :class:`Rejected`.

    ``clean`` is True after a close handshake. ``violation`` says what the peer did wrong, where it did.
    ``by_peer`` is True where the peer's Close frame came first.
    """

    code: int
    reason: str = field(default="", repr=False)
    clean: bool = False
    by_peer: bool = False
    violation: str | None = None


WebSocketEvent: TypeAlias = "Upgraded | Rejected | TextReceived | BinaryReceived | PingReceived | PongReceived | Closed"


class WebSocket:
    """The client's end of one WebSocket connection.

    ``host`` is the Host header's value, ``target`` the request target. Give it bytes with :meth:`receive_data` and
    :meth:`receive_eof`, take :meth:`events` and :meth:`data_to_send` after each. ``fast_lane=False`` lets wsproto have
    every frame: slower, and the same. For one thread at a time; nothing blocks. Raises ``ConfigurationError`` where
    HTTP cannot carry host or target.
    """

    def __init__(
        self,
        host: str,
        target: str = "/",
        *,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        compression: bool = False,
        fast_lane: bool = True,
    ) -> None:
        if not (_is_sendable_host(host) and _TARGET.fullmatch(target)):
            # The target may hold the key: it is not repeated.
            raise ConfigurationError("host is host[:port], target begins with /, both in ASCII and without spaces")
        self._host = host
        self._target = target
        self._max_message_bytes = max_message_bytes
        deflate = BoundedDeflate(max_message_bytes) if compression else None
        self._extensions: list[Extension] = [] if deflate is None else [deflate]
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._input = FrameInput(max_message_bytes, deflate, fast_lane=fast_lane)
        self._state = WebSocketState.IDLE
        self._events: deque[WebSocketEvent] = deque()
        self._ending: Closed | None = None  # what ends it once all bytes are read
        self._output: list[bytes] = []
        self._unsent_pong_bytes = 0
        self._latest_ping: bytes | None = None
        self._has_unread = False  # wsproto, of what it was given
        self._handshake_bytes = 0
        self._head_tail = b""
        self._rejection: tuple[int, tuple[tuple[str, str], ...]] | None = None
        self._reject_body = b""
        self._text: StringIO | None = None
        self._binary: BytesIO | None = None
        self._message_bytes = 0

    @property
    def state(self) -> WebSocketState:
        """Where the connection stands."""
        return self._state

    def start(self, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Queue the upgrade request, with further headers. Raises ``ConfigurationError`` for one that HTTP forbids."""
        if self._state is not WebSocketState.IDLE:
            raise UsageError("start() was called before")
        request = wsproto.events.Request(
            host=self._host,
            target=self._target,
            extensions=list(self._extensions),
            extra_headers=list(headers),
        )
        try:
            self._output.append(HiddenBytes(self._connection.send(request)))  # with the key in it
        except h11.LocalProtocolError:
            raise ConfigurationError("a header has a character that HTTP does not allow") from None  # its text has all
        self._state = WebSocketState.CONNECTING

    def receive_data(self, data: bytes) -> None:
        """Take bytes that came from the peer, cut in any way; :meth:`events` reads them. Ignored after the end."""
        if not data or self._ending is not None or self._state in (WebSocketState.IDLE, WebSocketState.CLOSED):
            return
        if self._connection.connection is None:
            data = self._receive_handshake(data)
        self._input.feed(data)

    def receive_eof(self) -> None:
        """Take note that the peer will send nothing more. Without a Close frame that is abnormal."""
        if self._state is not WebSocketState.IDLE:
            self._ending = self._ending or Closed(ABNORMAL_CLOSURE)

    def events(self) -> Iterator[WebSocketEvent]:
        """Read the bytes and yield what happened, one by one; what is not asked for waits for the next call.

        Bytes are read as the iteration goes on, so between two events the caller may speak or close, and how the
        bytes were cut makes no difference. Pings are answered, and ``state`` changes, as they are read.
        """
        while self._events:
            yield self._events.popleft()
        if self._has_unread:
            yield from self._read()
        while self._input.has_more and self._state is not WebSocketState.CLOSED:
            if self._state is WebSocketState.OPEN and (payloads := self._input.cut()):
                yield TextReceived(payloads)
                continue  # the state may be another now
            if self._input.refusal is not None:
                self._fail_for(self._input.refusal)
                break
            is_whole = self._ending is None and self._state is WebSocketState.OPEN
            # Only the last of so many bytes can pass the limit, also where wsproto holds back a part of a character. So
            # what is wrong with a message first is what is told, however the bytes were cut.
            most = max(1, self._max_message_bytes - self._message_bytes - 2)
            frame = self._input.next_frame(most) if is_whole else self._input.rest(most)
            if not frame:
                break
            self._connection.receive_data(frame)
            self._has_unread = True
            yield from self._read()
        if self._ending is not None:
            self._give_up(self._ending)
        while self._events:
            yield self._events.popleft()

    def _read(self) -> Iterator[WebSocketEvent]:
        """Take what wsproto makes of its bytes."""
        for event in self._connection.events():
            if self._state is WebSocketState.CLOSED:
                return  # nothing is read once an end was seen (W5)
            self._take(event)
            while self._events:
                yield self._events.popleft()
        self._has_unread = False

    def data_to_send(self) -> bytes:
        """Return the bytes to send since the last call."""
        if not self._output and self._latest_ping is None:
            return b""
        output, self._output = self._output, []
        self._unsent_pong_bytes = 0
        if self._latest_ping is not None:
            output.append(self._pong(self._latest_ping))
            self._latest_ping = None
        return output[0] if len(output) == 1 else b"".join(output)  # alone, as the request is, it stays hidden

    def send(self, payload: str | bytes) -> None:
        """Queue a message: text for str, binary for bytes."""
        self._check_open("send()")
        if isinstance(payload, str):
            _encoded(payload)
            self._output.append(self._connection.send(wsproto.events.TextMessage(data=payload)))
        else:
            self._output.append(self._connection.send(wsproto.events.BytesMessage(data=bytes(payload))))

    def ping(self, payload: bytes = b"") -> None:
        """Queue a Ping with at most 125 bytes."""
        self._check_open("ping()")
        if len(payload) > MAX_CONTROL_PAYLOAD_BYTES:
            raise UsageError(f"a Ping has at most {MAX_CONTROL_PAYLOAD_BYTES} bytes, not {len(payload)}")
        self._output.append(self._connection.send(wsproto.events.Ping(payload=payload)))

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Queue a Close frame; messages go on to arrive until the peer's own. Before OPEN it just ends."""
        if not _is_sendable_code(code):
            raise UsageError(f"{code} is no close code that may be sent; write 1000 or one of 3000 to 4999")
        if len(_encoded(reason)) > MAX_CONTROL_PAYLOAD_BYTES - 2:
            raise UsageError("a close reason has at most 123 bytes of UTF-8")
        if self._state in (WebSocketState.IDLE, WebSocketState.CONNECTING):
            self._end(Closed(ABNORMAL_CLOSURE))
        elif self._state is WebSocketState.OPEN:
            self._send_close(code, reason)
            self._state = WebSocketState.CLOSING

    def fail(self, code: int, violation: str) -> None:
        """End the connection now, with a Close frame where one can still be sent (RFC 6455, 7.1.7).

        Where the body of a refusal had not ended, the end is that ``Rejected``.
        """
        if self._state is WebSocketState.OPEN:
            self._send_close(code, "")
        self._give_up(Closed(code, violation=violation))

    def _check_open(self, call: str) -> None:
        # wsproto would raise with the whole payload in its text (W1).
        if self._state is not WebSocketState.OPEN:
            raise UsageError(f"{call} is not possible while the connection is {self._state.value}")

    def _send_close(self, code: int, reason: str) -> None:
        self._latest_ping = None  # nothing may follow a Close frame
        self._output.append(self._connection.send(wsproto.events.CloseConnection(code=code, reason=reason or None)))

    def _pong(self, payload: bytes) -> bytes:
        return self._connection.send(wsproto.events.Pong(payload=payload))

    def _receive_handshake(self, data: bytes) -> bytes:
        """Give wsproto the answer to the upgrade, head by head; return what came after it."""
        head, unread = 0, len(self._head_tail)
        data = self._head_tail + data
        try:
            while unread < len(data):
                blank_line = _BLANK_LINE.search(data, head)  # h11 takes bare newlines too
                end = len(data) if blank_line is None else blank_line.end()
                self._handshake_bytes += end - unread
                self._has_unread = True  # also of what it took before it raises
                self._connection.receive_data(data[unread:end])
                if self._connection.connection is not None:
                    return data[end:]
                if self._handshake_bytes > MAX_HANDSHAKE_BYTES:
                    self._ending = Closed(PROTOCOL_ERROR, violation=_TOO_LONG_ANSWER)
                    break
                self._head_tail = data[head:][-2:] if blank_line is None else b""
                head = unread = end
        except (WsprotoError, ValueError, IndexError) as error:
            # A hostile response raises more than protocol errors (W2). Its text may quote the peer: name the type.
            violation = f"not a valid answer to the upgrade ({type(error).__name__})"
            self._ending = Closed(PROTOCOL_ERROR, violation=violation)
        return b""

    def _take(self, event: wsproto.events.Event) -> None:
        if isinstance(event, wsproto.events.TextMessage):
            self._take_text(event.data, event.message_finished)
        elif isinstance(event, wsproto.events.BytesMessage):
            self._take_binary(bytes(event.data), event.message_finished)
        elif isinstance(event, wsproto.events.Ping):
            self._answer(bytes(event.payload))
        elif isinstance(event, wsproto.events.Pong):
            self._events.append(PongReceived(bytes(event.payload)))
        elif isinstance(event, wsproto.events.CloseConnection):
            self._take_close(event)
        elif isinstance(event, wsproto.events.AcceptConnection):
            self._state = WebSocketState.OPEN
            self._events.append(Upgraded(_as_text(event.extra_headers), bool(event.extensions)))
        elif isinstance(event, wsproto.events.RejectConnection):
            # An interim response says nothing yet, though wsproto calls it a rejection (W12).
            if event.status_code >= 200:
                self._rejection = (event.status_code, _as_text(event.headers))
        else:
            assert isinstance(event, wsproto.events.RejectData)  # there are no other events
            self._reject_body = (self._reject_body + bytes(event.data))[:MAX_REJECT_BODY_BYTES]
            if event.body_finished or len(self._reject_body) == MAX_REJECT_BODY_BYTES:
                self._reject()

    def _take_text(self, data: str, finished: bool) -> None:
        if not self._fits(len(data) if data.isascii() else len(data.encode())):
            return
        if finished and self._text is None:
            self._events.append(TextReceived([data]))
        else:
            self._text = self._text or StringIO()
            self._text.write(data)
            if finished:
                self._events.append(TextReceived([self._text.getvalue()]))
        if finished:
            self._text, self._message_bytes = None, 0

    def _take_binary(self, data: bytes, finished: bool) -> None:
        if not self._fits(len(data)):
            return
        if finished and self._binary is None:
            self._events.append(BinaryReceived(data))
        else:
            self._binary = self._binary or BytesIO()
            self._binary.write(data)
            if finished:
                self._events.append(BinaryReceived(self._binary.getvalue()))
        if finished:
            self._binary, self._message_bytes = None, 0

    def _fits(self, more_bytes: int) -> bool:
        self._message_bytes += more_bytes
        if self._message_bytes <= self._max_message_bytes:
            return True
        self.fail(MESSAGE_TOO_BIG, f"a message of more than {self._max_message_bytes} bytes")
        return False

    def _answer(self, payload: bytes) -> None:
        self._events.append(PingReceived(payload))
        if self._state is not WebSocketState.OPEN:
            return  # wsproto cannot send a Pong after our Close (W6)
        if self._unsent_pong_bytes < MAX_UNSENT_PONG_BYTES:
            pong = self._pong(payload)
            self._unsent_pong_bytes += len(pong)
            self._output.append(pong)
        else:
            self._latest_ping = payload

    def _take_close(self, event: wsproto.events.CloseConnection) -> None:
        code, reason = int(event.code), event.reason or ""
        if self._connection.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            # wsproto reports its own parse failure as if the peer had closed, and leaves its state (W3).
            self._fail_for(code)
        elif self._state is WebSocketState.CLOSING:
            self._end(Closed(code, reason, clean=True))
        else:
            self._output.append(self._connection.send(event.response()))
            self._end(Closed(code, reason, clean=True, by_peer=True))

    def _fail_for(self, code: int) -> None:
        self.fail(code, f"the peer broke the protocol: {_VIOLATIONS.get(code, 'a frame that is not valid')}")

    def _give_up(self, closed: Closed) -> None:
        if self._state is WebSocketState.CLOSED:
            return
        if self._rejection is None:
            self._end(closed)
        else:
            self._reject()  # the status says more than how its body broke off

    def _reject(self) -> None:
        assert self._rejection is not None
        status, headers = self._rejection
        self._state = WebSocketState.CLOSED
        self._events.append(Rejected(status, headers, self._reject_body))

    def _end(self, closed: Closed) -> None:
        self._state = WebSocketState.CLOSED
        self._latest_ping = None
        self._text = self._binary = None
        self._events.append(closed)


_TOO_LONG_ANSWER: Final = f"more than {MAX_HANDSHAKE_BYTES} bytes before the upgrade"
_VIOLATIONS: Final = {
    1002: "a frame that RFC 6455 does not allow",
    1007: "a text that is not UTF-8, or a compressed message that does not inflate",
    1009: "a compressed message that inflates beyond the limit",
}


def _is_sendable_code(code: int) -> bool:
    # RFC 6455, section 7.4; wsproto would send 999 and crash on 70000 (W11).
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _is_sendable_host(host: str) -> bool:
    # wsproto puts it through the idna codec, which refuses long and empty labels (W10).
    if not _HOST.fullmatch(host):
        return False
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError("the text has a lone surrogate, which UTF-8 cannot hold") from None


def _as_text(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1")) for name, value in headers)
