"""The API's side of one connection: hello and its checks, scope, heartbeats, frames. Without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wsproto.frame_protocol import CloseReason

from . import scope as requests
from .connection import NEVER_NS, ServerConnection
from .feeds import Feed
from .keys import AcceptedKeys, digest, shown_text
from .market import Publication
from .scope import Refused, Scope
from .statistics import Statistics
from .wire import HEARTBEAT, error_text, text_frame

#: [D] More than that waiting for a slow client ends its connection.
MAX_BUFFERED_MESSAGES: Final = 131_072
#: A recording is kept back while that much waits for the client.
HIGH_WATER_BYTES: Final = 256 * 1024
_OVERFLOW: Final = "Reached maximum allowed buffered messages for this connection."


@dataclass(frozen=True)
class ConversationSettings:
    """What holds for every connection of a simulator."""

    keys: AcceptedKeys
    heartbeat_interval_ns: int


class Conversation:
    """One client's conversation over a `ServerConnection`, fed by a `Feed`. Times are in ns, monotonic."""

    def __init__(
        self, connection: ServerConnection, feed: Feed, settings: ConversationSettings, statistics: Statistics
    ) -> None:
        self.connection = connection
        self.feed = feed
        self._settings = settings
        self._statistics = statistics
        self._scope = Scope()
        self._is_greeted = False
        self._heartbeat = False
        self._sent_ns = 0
        self._heartbeat_due_ns = NEVER_NS

    def receive(self, received: bytes, now_ns: int) -> None:
        """Take bytes from the client."""
        for text in self.connection.receive(received, now_ns):
            self._statistics.received.append(shown_text(text))
            if not self.connection.is_open:
                return
            try:
                self._message(text, now_ns)
            except Refused as error:
                self._refuse(str(error), now_ns)
        if not self.connection.is_open:
            self._heartbeat_due_ns = NEVER_NS

    def publish(self, publications: Iterable[Publication], now_ns: int) -> None:
        """Send what the market published and this client wants."""
        if not self.connection.is_open:
            return
        self._send(self.feed.deliver(publications, now_ns), now_ns)
        if self.connection.queued_frames > MAX_BUFFERED_MESSAGES:
            self.connection.discard()
            self._refuse(_OVERFLOW, now_ns)

    def next_timeout(self) -> int:
        """Return when `handle_timeout` is due."""
        return min(self.connection.next_timeout(), self._heartbeat_due_ns, self._feed_due_ns())

    def handle_timeout(self, now_ns: int) -> None:
        """Do what became due."""
        if self.connection.next_timeout() <= now_ns:
            self.connection.handle_timeout(now_ns)
        if self._feed_due_ns() <= now_ns:
            frames = self.feed.take(now_ns, HIGH_WATER_BYTES)
            if frames:
                self._send([frames], now_ns)
            if self.feed.is_finished:
                self.connection.close(now_ns, CloseReason.NORMAL_CLOSURE)
        if self._heartbeat_due_ns <= now_ns:
            due_ns = self._sent_ns + self._settings.heartbeat_interval_ns
            if due_ns <= now_ns and self.connection.is_open:
                self._statistics.frames_sent["hearbeat"] += 1
                self._send([text_frame(HEARTBEAT.encode())], now_ns)
            self._set_heartbeat()

    def _feed_due_ns(self) -> int:
        if not self.connection.is_open or self.connection.queued_bytes >= HIGH_WATER_BYTES:
            return NEVER_NS
        due_ns = self.feed.next_due_ns
        return NEVER_NS if due_ns is None else due_ns

    def _message(self, text: str, now_ns: int) -> None:
        value = requests.decode(text)
        kind = requests.check_type(value, is_first=not self._is_greeted)
        if not self._is_greeted:
            in_hello = value.get("apikey")
            keys = [digest(in_hello)] if isinstance(in_hello, str) and in_hello else []
            if not self._settings.keys.accept([*self.connection.keys, *keys]):
                raise Refused("Invalid API key")
        message = requests.check(kind, value)
        self._is_greeted = True
        self._scope = self._scope.after(message)
        if kind == "hello" or message.heartbeat is not None:
            self._heartbeat = bool(message.heartbeat)
        if self._heartbeat and self._heartbeat_due_ns == NEVER_NS:
            self._sent_ns = now_ns
        self._send(self.feed.change_scope(self._scope, now_ns), now_ns)
        self._set_heartbeat()

    def _refuse(self, message: str, now_ns: int) -> None:
        self._statistics.frames_sent["error"] += 1
        self.connection.close(now_ns, CloseReason.POLICY_VIOLATION, last_text=error_text(message))
        self._heartbeat_due_ns = NEVER_NS

    def _send(self, frames: list[bytes], now_ns: int) -> None:
        if frames:
            self._sent_ns = now_ns
            for frame in frames:
                self.connection.send(frame)

    def _set_heartbeat(self) -> None:
        is_on = self._heartbeat and self.connection.is_open
        self._heartbeat_due_ns = self._sent_ns + self._settings.heartbeat_interval_ns if is_on else NEVER_NS
