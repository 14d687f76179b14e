"""What the tests of the keeper share: a client, its keeper, and the server's end by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from client_harness import HEARTBEAT, Heard
from peers import Listener, ServerSide, accept, listening, url_of
from wsproto.events import Message

from coinapi_ws import Client, Subscription, UnknownMessage
from coinapi_ws.books import BookEvent, BookKeeper, BookLive, BookStale, BookUpdated
from coinapi_ws.drivers.pacing import SharedPacer

ONE: Final = "X_SPOT_ONE_USD"
TWO: Final = "X_SPOT_TWO_USD"


def frame(
    sequence: int, symbol_id: str = ONE, *, snapshot: bool = False, ask: float = 10.0, size: float = 1.0, **fields: Any
) -> str:
    """A book's message with one ask."""
    asks = [{"price": ask, "size": size}]
    return json.dumps(
        {
            "symbol_id": symbol_id,
            "sequence": sequence,
            "is_snapshot": snapshot,
            "asks": asks,
            "bids": [],
            "type": "book",
            **fields,
        }
    )


class Desk:
    """A client with a keeper, and the server that it talks to."""

    def __init__(self, client: Client, listener: Listener, **options: Any) -> None:
        self.client = client
        self.keeper = BookKeeper(client, **options)
        self.told = self.keeper.on(BookEvent, Heard())
        self._listener = listener
        self.server: ServerSide

    def connect(self, *, beat: bool = True) -> ServerSide:
        """Meet the client's next connection, up to the hello or its first heartbeat."""
        self.server = self.meet()
        self.hello()
        if beat:
            self.server.text(HEARTBEAT)
        return self.server

    def meet(self, headers: list[tuple[bytes, bytes]] | None = None) -> ServerSide:
        """Meet the client's next connection, up to its upgrade."""
        server = ServerSide(accept(self._listener))
        server.upgrade(headers)
        return server

    def hello(self) -> dict[str, Any]:
        """Wait for the next hello."""
        event = self.server.event()
        assert isinstance(event, Message)
        hello: dict[str, Any] = json.loads(event.data)
        return hello

    def say(self, *frames: str) -> None:
        """Let the server say that, and wait until the keeper took it."""
        for text in frames:
            self.server.text(text)
        self.settle()

    def settle(self) -> None:
        """Wait until what was sent has been delivered."""
        heard = self.client.on(UnknownMessage, Heard())
        self.server.text('{"type":"marker"}')
        heard.wait(UnknownMessage)
        self.client.off(UnknownMessage, heard)

    def kinds(self) -> list[tuple[str, str]]:
        """What the keeper told so far, in short."""
        names = {BookUpdated: "updated", BookLive: "live", BookStale: "stale"}
        return [(names[type(event)], event.symbol_id) for event in self.told.copy()]


@pytest.fixture
def desk(canary_key: str) -> Iterator[Callable[..., Desk]]:
    """Open a desk, by default for the books of two symbols; its client has started."""
    clients: list[Client] = []
    with listening() as listener:

        def make(*subscriptions: Subscription, keep: dict[str, Any] | None = None, **options: Any) -> Desk:
            wanted = subscriptions or (Subscription(["book"], symbol_ids=[f"{ONE}$", f"{TWO}$"]),)
            client = Client(canary_key, *wanted, endpoint=url_of(listener), **{"pacer": SharedPacer(), **options})
            clients.append(client)
            desk = Desk(client, listener, **(keep or {}))
            client.start()
            desk.connect()
            return desk

        yield make
        for client in clients:
            listener.close()
            client.close()
