"""One conversation with the API, as pure state transitions: upgrade, hello, data, notices, errors, the end.

Time is a parameter: ``now`` is in seconds on the caller's monotonic clock, ``received_ns`` the wall clock in
nanoseconds when bytes were read. Not thread-safe; never blocks. Whatever bytes arrive, only errors of this
package come out, exactly one ``Disconnected`` is the last item, and memory is bounded by the limits in the options, but
for a few words for each (type, symbol_id) whose sequence is watched.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from ..auth import HiddenText, Secret, authorization_headers, authorized_target, redact_json
from ..events import Cause, Connected, Disconnected, Event, Live, Undecodable
from ..exceptions import CoinAPIError, RateLimited, UsageError
from ..messages import ErrorMessage, Message, ReconnectNotice
from ..options import Options
from ..scope import Scope, ScopeFrame, check_scope, frames_between, kept_by
from . import endings
from .deadlines import Deadlines
from .frames import Frame, Frames, FrameType, Item
from .pacing import HELLO, LIMIT_HEADER_PREFIXES, UPGRADE, Pacer, can_wait
from .reading import Reader
from .reconnect import Verdict, classify_error
from .states import TRANSITIONS, SessionState, Step
from .websocket import (
    ABNORMAL_CLOSURE,
    GOING_AWAY,
    NORMAL_CLOSURE,
    BinaryReceived,
    Closed,
    PongReceived,
    Rejected,
    TextReceived,
    Upgraded,
    WebSocket,
    WebSocketState,
)

_MAX_SERVER_TEXT: Final = 500
_MAX_LIMIT_HEADER_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class SessionStats:
    """Counts of one session.

    ``messages`` and ``bytes`` as received; ``surplus``: messages dropped since a merged hello brought more than the
    scope asks for; ``jumps`` of sequences by (type, symbol_id).
    """

    messages: int
    bytes: int
    surplus: int
    jumps: dict[tuple[str, str], int]


class Session:
    """The API's conversation over one WebSocket: bytes and times in, messages, events and bytes out.

    Connect, call :meth:`start`, and send what :meth:`data_to_send` has. Then give it what comes by
    :meth:`receive_data` and :meth:`receive_eof`, and the time by :meth:`handle_timeout` once that of
    :meth:`next_timeout` has passed; after each take :meth:`events` and :meth:`data_to_send`. ``Disconnected`` is the
    last event, exactly once; then the object is dead.

    ``now`` is everywhere in seconds on one monotonic clock of the caller's, ``received_ns`` the wall clock in
    nanoseconds since the epoch. ``pacer`` knows when the server's limits allow a hello; share one between all sessions
    of a process. Nothing blocks; an object belongs to one thread at a time.

    Raises ``ConfigurationError`` where the scope cannot be asked for in this way or at this endpoint, ``UsageError``
    for an empty one.
    """

    def __init__(self, options: Options, scope: Scope, *, pacer: Pacer) -> None:
        check_scope(scope, options.endpoint)
        self._options = options
        self._pacer = pacer
        self._jwt: Secret | None = None
        self._scope = scope
        self._unsent: deque[ScopeFrame] = deque(frames_between(Scope(), scope, wire=options.wire))
        self._to_renew: set[str] = set()  # symbols that are to begin anew
        self._state = SessionState.CONNECTING
        self._stage = "connect"
        self._websocket = WebSocket(
            options.endpoint.authority,
            self._target(),
            max_message_bytes=options.max_message_bytes,
            compression=options.compression,
            fast_lane=options.fast_lane,
        )
        self._reader = Reader(options, scope)
        self._items: list[Event | Frame | Frames] = []
        self._deadlines = Deadlines()
        self._pings: dict[bytes, float] = {}
        self._ping_count = 0
        self._connected: Connected | None = None
        self._hello_sent = False
        self._limits: tuple[tuple[str, str], ...] = ()
        self._last_error = ""
        self._verdict: Verdict | None = None  # of the error that stands, where nothing came after it
        self._notified = False
        self._last_bytes: float | None = None
        self._bytes = 0
        self._messages = 0

    @property
    def state(self) -> SessionState:
        """Where the session stands."""
        return self._state

    @property
    def scope(self) -> Scope:
        """What is wanted now."""
        return self._scope

    def start(self, now: float, *, deadline: float | None = None, jwt: Secret | None = None) -> None:
        """Queue the upgrade request, which the driver has taken from the pacer before it connected.

        ``deadline`` is for the upgrade; else it is ``open_timeout`` from now. ``jwt`` is the token that the driver
        asked of ``options.jwt``. Raises ``UsageError`` the second time, and after the end.
        """
        if self._stage != "connect" or self._state is SessionState.CLOSED:
            raise UsageError("a session is started once; make a new one")
        self._jwt = jwt
        self._websocket.start(self._headers())
        self._stage = "upgrade"
        self._set_deadline("upgrade", now, self._options.open_timeout)
        if deadline is not None:
            self._deadlines.set("upgrade", deadline)

    def receive_data(self, data: bytes, now: float, received_ns: int) -> None:
        """Take bytes from the server, cut in any way. A Ping is answered by the next ``data_to_send``."""
        if self._state is SessionState.CLOSED or not data:
            return
        self._bytes += len(data)
        self._last_bytes = now
        self._websocket.receive_data(data)
        self._take_websocket_events(now, received_ns)

    def receive_eof(self, now: float) -> None:
        """Take note that the server will send nothing more."""
        if self._state is SessionState.CLOSED:
            return
        self._websocket.receive_eof()
        self._take_websocket_events(now, 0)

    def lose(
        self, now: float, detail: str, *, error_type: type[CoinAPIError], retry_after: float | None = None
    ) -> None:
        """End the session because its connection could not be had, or broke; ``detail`` names no secret.

        ``retry_after`` is for a connection that the server's limits do not allow yet, in seconds.
        """
        if self._state is SessionState.CLOSED:
            return
        self._websocket.receive_eof()
        if self._take_unended_rejection(now):
            return
        if self._verdict is not None or self._state is SessionState.CLOSING:
            self._take_close(Closed(ABNORMAL_CLOSURE), now)
        else:
            ending = endings.lost(detail, error_type, notified=self._notified, retry_after=retry_after)
            self._end(now, ending)

    def frames(self) -> list[Event | Frame | Frames]:
        """Return what came since the last call: events, and text frames that are mostly not decoded yet.

        Give all of it to :meth:`decode`, in order.
        """
        items, self._items = self._items, []
        return items

    def events(self) -> list[Item]:
        """Return what came since the last call: messages and events, decoded and checked for gaps."""
        return list(self.decode(self.frames()))

    def decode(self, items: Iterable[Event | Frame | Frames]) -> Iterator[Item]:
        """Decode frames, put gaps before the messages that show them, drop and count the surplus."""
        return self._reader.decode(items)

    def decode_frames(self, frames: Iterable[tuple[FrameType, str]], received_ns: int) -> Iterator[Item]:
        """Do the same with the frames of one :class:`Frames`, each whenever it is asked for."""
        return self._reader.decode_frames(frames, received_ns)

    def data_to_send(self) -> bytes:
        """Return the bytes to send since the last call."""
        return self._websocket.data_to_send()

    def set_scope(self, scope: Scope, now: float) -> None:
        """Ask the server for another scope; frames leave as the hello budget allows.

        Raises ``UsageError`` for an empty scope or after the end, ``ConfigurationError`` where it cannot be sent.
        """
        if self._state in (SessionState.CLOSING, SessionState.CLOSED):
            raise UsageError("the connection is closed; its scope cannot be changed")
        check_scope(scope, self._options.endpoint)
        wire = self._options.wire
        anew = frames_between(Scope(), scope, wire=wire)
        frames = frames_between(self._scope, scope, wire=wire) if self._hello_sent else anew
        if self._unsent and len(self._unsent) + len(frames) > len(anew):
            frames = anew  # so no more frames wait than a new beginning takes
        if frames and frames[0].type == "hello":
            self._unsent.clear()  # it replaces whatever they would have asked for
        self._unsent.extend(frames)
        self._scope = scope
        # A hello that begins anew, or an unsubscribe, ends what a subscribe then brings back.
        self._reader.scope_changed(kept_by(frames, scope), scope)
        self._send_scope_frames(now)

    def resubscribe(self, symbol_ids: Iterable[str], now: float) -> None:
        """Have the server begin anew with these symbols: snapshots, and sequences from 1.

        They are taken out of the scope and put back, by frames that leave together, once the hello budget allows all
        of them; what is asked for until then goes with them. Nothing where the scope does not let them be taken out
        (:meth:`Scope.without_symbols`), nor before the hello, which begins anew itself, nor after the end.
        """
        if self._hello_sent and self._state not in (SessionState.CLOSING, SessionState.CLOSED):
            self._to_renew.update(symbol_ids)
            self._send_scope_frames(now)

    def close(self, now: float, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Begin to close; data goes on to arrive until the server's Close frame. Idempotent."""
        if self._state in (SessionState.CLOSING, SessionState.CLOSED):
            return
        self.resume(now)
        self._websocket.close(code, reason)
        if self._websocket.state is WebSocketState.CLOSING:
            self._move(Step.CLOSE)
            self._deadlines.clear()
            self._deadlines.set("close", now + self._options.close_timeout)
            self._pings.clear()  # an answer must not revive the watch for the others
        else:
            detail = "closed before the connection was up"
            self._end(now, Disconnected(cause=Cause.LOCAL, initiator="client", detail=detail))

    def pause(self, now: float) -> None:
        """Take note that nothing is read from now on, so that no silence counts against the server. Idempotent."""
        self._deadlines.pause(now)

    def resume(self, now: float) -> None:
        """Take note that reading goes on. Idempotent."""
        paused_for = self._deadlines.resume(now)
        for payload in self._pings:
            self._pings[payload] += paused_for

    def next_timeout(self) -> float | None:
        """Return when to call ``handle_timeout``, on the caller's clock; None where nothing is due."""
        return self._deadlines.next()

    def handle_timeout(self, now: float) -> None:
        """Do what has become due; harmless where nothing has."""
        for name in self._deadlines.due(now):
            if self._state is SessionState.CLOSED:
                return
            self._deadlines.drop(name)
            if name == "scope":
                self._send_scope_frames(now)
            elif name == "ping":
                self._send_ping(now)
            else:
                self._expire(name, now)

    def stats(self) -> SessionStats:
        """Return the counts so far."""
        return SessionStats(self._messages, self._bytes, self._reader.surplus, self._reader.jumps)

    def redact(self, text: str) -> str:
        """Return a text of the server without the API key and the token, which it may quote. Any thread may call it."""
        for secret in (self._options.api_key, self._jwt):
            if secret is not None:
                text = secret.redact(text)
        return text

    @property
    def _host(self) -> str:
        return self._options.endpoint.authority

    def _target(self) -> str:
        key, target = self._options.api_key, self._options.endpoint.target
        return target if key is None else authorized_target(target, self._options.auth, key)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        key = self._options.api_key
        authorization = () if key is None else authorization_headers(self._options.auth, key, self._jwt)
        return [(b"User-Agent", self._options.user_agent.encode("ascii")), *authorization]

    def _move(self, step: Step) -> None:
        self._state = TRANSITIONS[self._state, step]

    def _set_deadline(self, name: str, now: float, seconds: float | None) -> None:
        if seconds is not None:
            self._deadlines.set(name, now + seconds)

    # What comes in

    def _take_websocket_events(self, now: float, received_ns: int) -> None:
        messages = self._messages
        for event in self._websocket.events():
            if self._state is SessionState.CLOSED:
                break
            if isinstance(event, TextReceived):
                self._take_texts(event.payloads, now, received_ns)
            elif isinstance(event, BinaryReceived):
                self._messages += 1
                self._items.append(Undecodable(reason="a binary frame", received_ns=received_ns, payload=event.payload))
            elif isinstance(event, PongReceived):
                self._take_pong(event.payload)
            elif isinstance(event, Upgraded):
                self._take_upgrade(event, now)
            elif isinstance(event, Rejected):
                self._take_rejection(event, now)
            elif isinstance(event, Closed):
                self._take_close(event, now)
        if self._messages != messages:
            self._deadlines.move("silence", now + (self._options.silence_timeout or 0.0))

    def _take_upgrade(self, upgraded: Upgraded, now: float) -> None:
        self._move(Step.UPGRADED)
        self._stage = "hello"
        self._deadlines.drop("upgrade")
        self._learn_limits(upgraded.headers, now)
        self._connected = Connected(limits=self._limits, compression=upgraded.compression)
        self._set_deadline("ping", now, self._options.ping_interval)
        self._send_scope_frames(now)

    def _take_texts(self, payloads: list[str], now: float, received_ns: int) -> None:
        self._messages += len(payloads)
        types = self._reader.types_of(payloads)
        if types and None not in types:
            self._take_run(Frames(received_ns, types, payloads), now)  # type: ignore[arg-type]
            return
        for is_known, run in groupby(zip(types, payloads, strict=True), key=lambda pair: pair[0] is not None):
            if is_known:
                known, texts = map(list, zip(*run, strict=True))
                self._take_run(Frames(received_ns, known, texts), now)
            else:
                for _, payload in run:
                    self._take_text(payload, now, received_ns)

    def _take_run(self, frames: Frames, now: float) -> None:
        """Take texts that the session need not read."""
        self._prove_live(now, frames.received_ns)
        self._items.append(frames)

    def _take_text(self, payload: str, now: float, received_ns: int) -> None:
        """Take a text that the session has to read."""
        message = self._reader.read(payload, received_ns)
        if isinstance(message, ErrorMessage):
            self._verdict = classify_error(message.message or "")
            payload = redact_json(payload, self.redact)  # the server may quote the key
            message = self._reader.read(payload, received_ns)
            assert isinstance(message, ErrorMessage)
            self._last_error = (message.message or "")[:_MAX_SERVER_TEXT]
        elif isinstance(message, ReconnectNotice):
            self._notified = True
        elif isinstance(message, Message):
            self._prove_live(now, received_ns)
        self._items.append(Frame(payload, received_ns, message))

    def _prove_live(self, now: float, received_ns: int) -> None:
        self._verdict = None  # an error that ends the connection is the last that comes
        if self._state is not SessionState.OPEN or not self._hello_sent:
            return
        self._move(Step.PROVEN)
        self._stage = "live"
        self._deadlines.drop("live")
        if self._options.request_heartbeats:
            self._set_deadline("silence", now, self._options.silence_timeout)
        self._items.append(Live(received_ns=received_ns))

    def _take_pong(self, payload: bytes) -> None:
        while payload in self._pings:
            # A Pong answers the Pings before it as well (RFC 6455, 5.5.3).
            del self._pings[next(iter(self._pings))]
        self._watch_pongs()

    def _watch_pongs(self) -> None:
        self._deadlines.drop("pong")
        if self._pings:
            self._deadlines.set("pong", min(self._pings.values()))

    # What goes out

    def _send_scope_frames(self, now: float, taken: int = 0) -> None:
        """Send what waits, as the budget allows, of which so many have been taken already."""
        is_vendor = self._options.endpoint.is_vendor
        while self._unsent and self._connected is not None:
            allowed = now if taken > 0 else self._pacer.take(self._host, HELLO, now, is_vendor=is_vendor)
            if allowed > now:
                self._wait_for_budget(now, allowed)
                return
            taken -= 1
            self._websocket.send(self._hello_text(self._unsent.popleft()))
            if not self._hello_sent:
                self._hello_sent = True
                self._items.append(self._connected)
                if self._options.request_heartbeats:
                    self._set_deadline("live", now, self._options.live_timeout)
        self._deadlines.drop("scope")
        if self._to_renew and not self._unsent:
            self._renew(now)

    def _renew(self, now: float) -> None:
        wire = self._options.wire
        renewed = self._scope.most_that_can_leave(self._to_renew, wire=wire)
        without = self._scope.without_symbols(renewed, wire=wire)
        if without is None:
            self._to_renew.clear()
            return
        put_back = frames_between(without, self._scope, wire=wire)
        frames = (*frames_between(self._scope, without, wire=wire), *put_back)
        is_vendor = self._options.endpoint.is_vendor
        taken = self._pacer.together(self._host, HELLO, len(frames), is_vendor=is_vendor)
        allowed = self._pacer.take(self._host, HELLO, now, is_vendor=is_vendor, count=taken)
        if allowed > now:
            self._deadlines.set("scope", allowed)  # nothing is out of the scope while the budget is waited for
            return
        self._to_renew -= renewed  # where not all could leave at once, the others follow
        self._unsent.extend(frames)
        self._reader.scope_changed(kept_by(frames, without))
        self._send_scope_frames(now, taken)

    def _wait_for_budget(self, now: float, allowed: float) -> None:
        """Wait with what is to be sent, but with the first hello no longer than the opening may take."""
        wait = allowed - now
        if self._hello_sent or can_wait(wait, self._options.open_timeout):
            self._deadlines.set("scope", allowed)
            return
        detail = f"the server's limits allow the next hello in {wait:.0f} s"
        self._websocket.fail(GOING_AWAY, detail)
        self._end(now, endings.lost(detail, RateLimited, notified=self._notified, retry_after=wait))

    def _hello_text(self, frame: ScopeFrame) -> str:
        fields: dict[str, object] = {"type": frame.type}
        if frame.type == "hello":
            fields["heartbeat"] = self._options.request_heartbeats
            if self._options.auth == "hello" and self._options.api_key is not None:
                fields["apikey"] = HiddenText(self._options.api_key.reveal())
        fields |= frame.subscription.wire_fields(self._options.endpoint.product)
        return HiddenText(json.dumps(fields, separators=(",", ":")))

    def _send_ping(self, now: float) -> None:
        self._ping_count += 1
        payload = self._ping_count.to_bytes(8, "big")
        self._websocket.ping(payload)
        if self._options.ping_timeout is not None:
            self._pings[payload] = now + self._options.ping_timeout
            self._watch_pongs()
        self._set_deadline("ping", now, self._options.ping_interval)

    # The end

    def _expire(self, name: str, now: float) -> None:
        ending = endings.expired(name, self._options, self._verdict)
        if name != "close":
            self._websocket.fail(GOING_AWAY, ending.detail)
            if self._take_unended_rejection(now):
                return
        self._end(now, ending)

    def _take_unended_rejection(self, now: float) -> bool:
        """End with the refusal whose status came, where only the end of its body did not (W13)."""
        rejections = [event for event in self._websocket.events() if isinstance(event, Rejected)]
        for rejected in rejections:
            self._take_rejection(rejected, now)
        return bool(rejections)

    def _take_rejection(self, rejected: Rejected, now: float) -> None:
        self._learn_limits(rejected.headers, now)
        ending = endings.rejected(rejected)
        if ending.retry_after is not None:
            self._pacer.block(self._host, UPGRADE, now + ending.retry_after)
        self._end(now, ending)

    def _take_close(self, closed: Closed, now: float) -> None:
        ending = endings.closed(
            closed, self._state, upgraded=self._connected is not None, verdict=self._verdict, notified=self._notified
        )
        self._end(now, ending)

    def _end(self, now: float, ending: Disconnected) -> None:
        self._move(Step.END)
        self._deadlines.clear()
        self._items.append(
            replace(
                ending,
                stage=self._stage,
                reason=self.redact(ending.reason),
                server_text=self.redact(ending.server_text or "")[:_MAX_SERVER_TEXT].strip()
                or self._last_error
                or None,
                limits=self._limits,
                silent_for=None if self._last_bytes is None else now - self._last_bytes,
                bytes_received=self._bytes,
                messages_received=self._messages,
                host=self._host,
            )
        )

    def _learn_limits(self, headers: tuple[tuple[str, str], ...], now: float) -> None:
        self._pacer.observe(self._host, headers, now)
        self._limits = tuple(
            (name, self.redact(value)[:_MAX_LIMIT_HEADER_LENGTH])
            for name, value in headers
            if name.startswith(LIMIT_HEADER_PREFIXES) and value.isprintable()
        )
