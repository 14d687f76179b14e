"""The API's side of one connection: hello and its checks, scope, heartbeats, frames. Without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from wsproto.frame_protocol import CloseReason

from . import scope as requests
from .connection import ServerConnection
from .feeds import Feed
from .gate import Gate
from .keys import NO_KEY, digest, shown_text
from .market import Publication
from .scope import Product, Refused, Scope
from .statistics import Statistics
from .wire import HEARTBEAT, NEVER_NS, error_text, text_frame

#: A recording without pace is kept back while that much waits for the client.
HIGH_WATER_BYTES: Final = 256 * 1024
_OVERFLOW: Final = "Reached maximum allowed buffered messages for this connection."


@dataclass(frozen=True)
class ConversationSettings:
    """What holds for every connection of a simulator."""

    product: Product
    heartbeat_interval_ns: int
    #: More messages than that waiting for a slow client end its connection.
    buffer_limit: int


class Conversation:
    """One client's conversation over a `ServerConnection`, fed by a `Feed`. Times are in ns, monotonic."""

    def __init__(
        self,
        connection: ServerConnection,
        feed: Feed,
        gate: Gate,
        settings: ConversationSettings,
        statistics: Statistics,
    ) -> None:
        self.connection = connection
        self.feed = feed
        self._gate = gate
        self._settings = settings
        self._statistics = statistics
        self._scope = Scope()
        self._is_greeted = False
        self._key = NO_KEY
        self._heartbeat = False
        self._sent_ns = 0
        self._heartbeat_due_ns = NEVER_NS
        self._goodbye_ns = NEVER_NS

    def receive(self, received: bytes, now_ns: int) -> None:
        """Take bytes from the client."""
        for text in self.connection.receive(received, now_ns):
            self._statistics.received.append(shown_text(text))
            if self.connection.is_over:
                return
            try:
                self._message(text, now_ns)
            except Refused as error:
                self.refuse(str(error), now_ns)
        if not self.connection.is_open:
            self._heartbeat_due_ns = NEVER_NS

    def publish(self, publications: Iterable[Publication], now_ns: int) -> None:
        """Send what the market published and this client wants."""
        if self.connection.is_open:
            self._send(self.feed.deliver(publications, now_ns), now_ns)

    def say(self, text: str, kind: str, now_ns: int) -> None:
        """Send a text that is no market data, counted as of this type."""
        if self.connection.is_open:
            self._statistics.frames_sent[kind] += 1
            self._send([text_frame(text.encode("utf-8", "surrogatepass"))], now_ns)

    def send_raw(self, pieces: Sequence[bytes], now_ns: int) -> None:
        """Send one message that no sound server would."""
        if self.connection.is_open:
            self.connection.send_raw(pieces, now_ns)
            self._check_buffer(now_ns)

    def refuse(self, message: str, now_ns: int) -> None:
        """Send an error, and close."""
        if self.connection.is_over:
            return
        self._statistics.frames_sent["error"] += 1
        self.connection.close(now_ns, CloseReason.POLICY_VIOLATION, last_text=error_text(message))
        self._heartbeat_due_ns = NEVER_NS

    def leave_at(self, due_ns: int) -> None:
        """Close as a server that was taken out of service, at that time."""
        self._goodbye_ns = due_ns

    def next_timeout(self) -> int:
        """Return when `handle_timeout` is due."""
        return min(self.connection.next_timeout(), self._heartbeat_due_ns, self._feed_due_ns(), self._goodbye_ns)

    def handle_timeout(self, now_ns: int) -> None:
        """Do what became due."""
        if self.connection.next_timeout() <= now_ns:
            self.connection.handle_timeout(now_ns)
        if self._feed_due_ns() <= now_ns:
            self._feed(now_ns)
        if self._heartbeat_due_ns <= now_ns:
            if self._sent_ns + self._settings.heartbeat_interval_ns <= now_ns:
                self.say(HEARTBEAT, "hearbeat", now_ns)
            self._set_heartbeat()
        if self._goodbye_ns <= now_ns:
            self._goodbye_ns = NEVER_NS
            self.connection.close(now_ns, CloseReason.GOING_AWAY, "reconnect")

    @property
    def can_refill(self) -> bool:
        """True when `refill` has more for the client to take: a recording without a pace has no time of its own."""
        if not self.feed.waits_for_client or not self._may_feed():
            return False
        return self.feed.next_due_ns is not None and self.connection.outgoing.bytes < HIGH_WATER_BYTES

    def refill(self, now_ns: int) -> None:
        """Queue more of a recording without a pace, where the client has taken what there was."""
        if self.can_refill:
            self._feed(now_ns)

    def _may_feed(self) -> bool:
        return self.connection.is_open and not self.connection.behaviour.is_mute

    def _feed_due_ns(self) -> int:
        due_ns = self.feed.next_due_ns
        is_timed = due_ns is not None and not self.feed.waits_for_client and self._may_feed()
        return due_ns if is_timed and due_ns is not None else NEVER_NS

    def _feed(self, now_ns: int) -> None:
        frames, count = self.feed.take(now_ns, HIGH_WATER_BYTES)
        if count:
            self._send([frames], now_ns, count)
        if self.feed.is_finished:
            self.connection.close(now_ns, CloseReason.NORMAL_CLOSURE)

    def _message(self, text: str, now_ns: int) -> None:
        self._gate.hear(self.connection, now_ns)
        value = requests.decode(text)
        kind = requests.check_type(value, is_first=not self._is_greeted)
        if not self._is_greeted:
            in_hello = value.get("apikey")
            keys = [digest(in_hello)] if isinstance(in_hello, str) and in_hello else []
            self._key = self._gate.check_key(self.connection, keys)
        message = requests.check(kind, value, self._settings.product)
        if kind != "unsubscribe":
            self._gate.check_privileges(self._key, message.data_types)
        self._is_greeted = True
        self._scope = self._scope.after(message)
        if kind == "hello" or message.heartbeat is not None:
            self._heartbeat = bool(message.heartbeat)
        if self._heartbeat and self._heartbeat_due_ns == NEVER_NS:
            self._sent_ns = now_ns
        for symbol_id in self._settings.product.unknown_symbols(message):
            self.say(error_text(f"Symbol '{symbol_id[:80]}' is unknown"), "error", now_ns)
        self._send(self.feed.change_scope(self._scope, now_ns), now_ns)
        self._set_heartbeat()

    def _send(self, frames: list[bytes], now_ns: int, messages: int = 1) -> None:
        """Queue frames, each of so many messages."""
        if not frames:
            return
        self._sent_ns = now_ns
        for frame in frames:
            self.connection.send(frame, now_ns, messages)
        self._check_buffer(now_ns)

    def _check_buffer(self, now_ns: int) -> None:
        if self.connection.outgoing.messages > self._settings.buffer_limit:
            self.connection.outgoing.discard()
            self.refuse(_OVERFLOW, now_ns)

    def _set_heartbeat(self) -> None:
        is_on = self._heartbeat and self.connection.is_open
        self._heartbeat_due_ns = self._sent_ns + self._settings.heartbeat_interval_ns if is_on else NEVER_NS
