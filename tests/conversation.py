"""A session under a fake clock, and the server it talks to, for tests of the pure core."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from websocket_peer import CLOSE, PING, PONG, TEXT, ClientReader, accept, close, frame, text

from coinapi_ws import Pacer, Session, SessionState
from coinapi_ws.auth import Secret
from coinapi_ws.endpoints import endpoint_from
from coinapi_ws.events import Connected, Disconnected, Event, Live
from coinapi_ws.messages import Message
from coinapi_ws.options import Options
from coinapi_ws.scope import Scope
from coinapi_ws.subscription import Subscription

RECEIVED_NS: Final = 1_700_000_000_000_000_000
ADA: Final = "COINBASE_SPOT_ADA_USD"
BTC: Final = "COINBASE_SPOT_BTC_USD"
TRADES: Final = Subscription(["trade"], symbol_ids=[f"{BTC}$"])
QUOTES: Final = Subscription(["quote"], symbol_ids=[f"{ADA}$"])
BOOKS: Final = Subscription(["book"], symbol_ids=[f"{BTC}$"])


def trade(symbol_id: str = BTC, **fields: Any) -> str:
    """A trade's frame, its type last as the live service sends it."""
    return json.dumps({"symbol_id": symbol_id, "price": 1.5, **fields, "type": "trade"}, separators=(",", ":"))


def error(message: str, **fields: Any) -> str:
    return json.dumps({"type": "error", "message": message, **fields})


HEARTBEAT: Final = '{"type":"hearbeat"}'


class Conversation:
    """A `Session` and what passed: `items` that came out, `reader.frames` that were sent.

    `now` is the clock; it moves by `advance` alone.
    """

    def __init__(
        self,
        api_key: str | None,
        *,
        scope: Scope | None = None,
        url: str = "wss://example.test/v1/",
        pacer: Pacer | None = None,
        **options: Any,
    ) -> None:
        key = None if api_key is None else Secret(api_key)
        self.now = 1000.0
        self.pacer = pacer or Pacer()
        self.options = Options(endpoint=endpoint_from(url), api_key=key, **options)
        self.session = Session(self.options, Scope(TRADES) if scope is None else scope, pacer=self.pacer)
        self.items: list[Message | Event] = []
        self.reader = ClientReader()
        self.request = b""

    def start(self, **how: Any) -> Conversation:
        self.session.start(self.now, **how)
        self.request = self.session.data_to_send()
        return self

    def upgrade(self, *headers: str, then: bytes = b"") -> Conversation:
        """Start, and answer 101; `then` comes in the same bytes."""
        self.start()
        self.receive(accept(self.request, *headers) + then)
        return self

    def live(self, *headers: str) -> Conversation:
        self.upgrade(*headers)
        self.say(HEARTBEAT)
        assert self.session.state is SessionState.LIVE
        return self

    def receive(self, received: bytes) -> list[Message | Event]:
        self.session.receive_data(received, self.now, RECEIVED_NS)
        return self.drain()

    def say(self, *payloads: str) -> list[Message | Event]:
        """Let the server send texts; return what comes of it."""
        return self.receive(b"".join(map(text, payloads)))

    def server_closes(self, code: int | None = 1000, reason: str = "") -> Disconnected:
        self.receive(close(code, reason))
        return self.disconnected

    def pong(self, payload: bytes) -> None:
        self.receive(frame(PONG, payload))

    def eof(self) -> Disconnected:
        self.session.receive_eof(self.now)
        self.drain()
        return self.disconnected

    def close(self, *how: Any) -> None:
        self.session.close(self.now, *how)
        self.drain()

    def set_scope(self, *members: Subscription) -> None:
        self.session.set_scope(Scope(*members), self.now)
        self.drain()

    def advance(self, seconds: float) -> None:
        """Let time pass, and call `handle_timeout` whenever the session asks for it."""
        end = self.now + seconds
        while (due := self.session.next_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.session.handle_timeout(self.now)
            self.drain()
        self.now = end

    def drain(self) -> list[Message | Event]:
        items = self.session.events()
        self.items += items
        self.reader.feed(self.session.data_to_send())
        return items

    def hellos(self) -> list[dict[str, Any]]:
        """The hello, subscribe and unsubscribe frames that were sent."""
        return [json.loads(payload) for opcode, payload in self.reader.frames if opcode == TEXT]

    def sent(self, opcode: int) -> list[bytes]:
        return [payload for sent, payload in self.reader.frames if sent == opcode]

    @property
    def pings(self) -> list[bytes]:
        return self.sent(PING)

    @property
    def closes(self) -> list[bytes]:
        return self.sent(CLOSE)

    @property
    def messages(self) -> list[Message]:
        return [item for item in self.items if isinstance(item, Message)]

    @property
    def kinds(self) -> list[str]:
        """What came out, by name: types of messages, class names of events."""
        return [item.type if isinstance(item, Message) else type(item).__name__ for item in self.items]

    @property
    def connected(self) -> Connected:
        [event] = [item for item in self.items if isinstance(item, Connected)]
        return event

    @property
    def is_live(self) -> bool:
        return any(isinstance(item, Live) for item in self.items)

    @property
    def disconnected(self) -> Disconnected:
        """The one `Disconnected`, which is last; after it the session has nothing more to do."""
        return only_ending(self.items, self.session)


def only_ending(items: Sequence[Message | Event], session: Session) -> Disconnected:
    endings = [item for item in items if isinstance(item, Disconnected)]
    assert len(endings) == 1
    assert items[-1] is endings[0]
    assert session.state is SessionState.CLOSED
    assert session.next_timeout() is None
    return endings[0]
