"""Deltas are lost at random: no book that says that it is true is wrong, and each comes back, within the hello limit.

What the server's own books were is told by a second client, which loses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from client_harness import Heard, eventually
from market_watch import Books

from coinapi_ws import Backoff, Book, BookL3, Client, Disconnected, Gap, Message, Subscription
from coinapi_ws.books import BookKeeper, BookLive, BookSnapshot, BookStale, BookState, L3Snapshot
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator

SYMBOLS: Final = ("COINBASE_SPOT_BTC_USD", "COINBASE_SPOT_ETH_USD", "KRAKEN_SPOT_BTC_USD", "BITSTAMP_SPOT_BTC_USD")
NAMED: Final = [f"{symbol_id}$" for symbol_id in SYMBOLS]
SECONDS: Final = 3.0
#: Longer than any window of hellos and any retry here.
PATIENCE: Final = 30.0

MakeClient = Callable[..., Client]


@pytest.fixture
def make_client(canary_key: str) -> Iterator[MakeClient]:
    clients: list[Client] = []
    pacer = SharedPacer()  # the server counts the hellos of both, which come from one address

    def make(simulator: Simulator, subscription: Subscription, **options: Any) -> Client:
        options = {"numbers": "decimal", "pacer": pacer, **options}
        clients.append(Client(canary_key, subscription, endpoint=simulator.url, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


class Witness:
    """Notes, whenever a message of a book has arrived, what the keeper says of that book."""

    def __init__(self, client: Client, keeper: BookKeeper, data_type: Any) -> None:
        self.notes: list[tuple[Message, BookSnapshot]] = []
        self._keeper = keeper
        self._type = data_type
        client.on(data_type, self.note)

    def note(self, message: Book | BookL3) -> None:
        self.notes.append((message, self._keeper.snapshot(str(message.symbol_id), type=self._type)))

    def has_been_live(self, symbol_id: str) -> bool:
        """For some messages, so that there is something to compare."""
        notes = self.notes.copy()
        return sum(book.symbol_id == symbol_id and book.state is BookState.LIVE for _, book in notes) > 10

    def wait_for(self, told: Heard) -> None:
        """Wait until the other client, for which the market goes on, has heard of all that is noted here."""
        last = max(message.time_coinapi_ns for message, _ in self.notes)  # type: ignore[attr-defined]
        eventually(lambda: told.copy()[-1].time_coinapi_ns >= last, PATIENCE)

    def compare(self, server: Books) -> None:
        """Each book that says that it is LIVE has taken the message that came, and is the server's own."""
        for message, book in self.notes:
            if book.state is BookState.LIVE:
                moment: int = message.time_coinapi_ns  # type: ignore[attr-defined]
                assert book.updated_ns == moment
                assert sides(book) == server.at(book.symbol_id, moment)


def sides(book: BookSnapshot) -> tuple[dict[Any, Any], dict[Any, Any]]:
    if isinstance(book, L3Snapshot):
        asks, bids = (
            {order.id or order.price: order.size for order in side} for side in (book.ask_orders, book.bid_orders)
        )
        return asks, bids
    return dict(book.asks), dict(book.bids)  # type: ignore[arg-type]


def wait_for_all(keeper: BookKeeper, data_type: str, symbols: tuple[str, ...] = SYMBOLS) -> None:
    def are_live() -> bool:
        return all(keeper.state(symbol_id, type=data_type) is BookState.LIVE for symbol_id in symbols)

    eventually(are_live, PATIENCE)


@pytest.mark.parametrize(
    ("limit", "interval", "data_type"),
    [((10, 10.0), 2.5, "book"), ((6, 2.0), 0.1, "book"), ((6, 2.0), 0.1, "book_l3")],
    ids=["the vendor's limit", "asked for more often than the limit lets", "orders"],
)
def test_no_live_book_is_wrong_and_each_recovers(
    make_client: MakeClient, limit: tuple[int, float], interval: float, data_type: str
) -> None:
    symbols = SYMBOLS if data_type == "book" else SYMBOLS[:2]
    with Simulator(seed=11, activity=10, hello_limit=limit) as simulator:
        wanted = Subscription([data_type, "trade"], symbol_ids=[f"{symbol_id}$" for symbol_id in symbols])
        server = make_client(simulator, wanted)
        told = server.on(data_type, Heard())
        server.start()
        eventually(lambda: len(told) >= len(symbols))
        client = make_client(simulator, wanted)
        keeper = BookKeeper(client, resync_interval=interval)
        witness = Witness(client, keeper, data_type)
        ended = client.on(Disconnected, Heard())
        came = keeper.on(BookLive, Heard())
        client.start()
        wait_for_all(keeper, data_type, symbols)
        simulator.faults.lose(rate=0.01, types=[data_type], connection=2)
        time.sleep(SECONDS)
        simulator.faults.lose(rate=0, connection=2)
        wait_for_all(keeper, data_type, symbols)
        assert len(came) > len(symbols)
        eventually(lambda: all(witness.has_been_live(symbol_id) for symbol_id in symbols), PATIENCE)
        simulator.settle()
        assert simulator.frames_lost[data_type] > 0
        # One hello too many would have ended the connection.
        assert ended == []
        assert keeper.stats().resubscribed > 0
        assert keeper.stats().reconnected == 0
        # Two for each time, and the first of both; what was asked for while the budget was waited for went together.
        assert len(simulator.received) <= 2 + 2 * keeper.stats().resubscribed
        assert client.close()
        witness.wait_for(told)
        server.close()
    witness.compare(Books(told, data_type))
    assert any(book.state is not BookState.LIVE for _, book in witness.notes)


def test_by_reconnecting_too(make_client: MakeClient) -> None:
    with Simulator(seed=12, activity=10) as simulator:
        server = make_client(simulator, Subscription(["book"], symbol_ids=["COINBASE_"]))
        told = server.on("book", Heard())
        gaps = server.on(Gap, Heard())
        server.start()
        eventually(lambda: len(told) >= 2)
        client = make_client(simulator, Subscription(["book"], symbol_ids=["COINBASE_"]), backoff=Backoff(initial=0.05))
        keeper = BookKeeper(client, resync_interval=0.1, reconnect_interval=0.5)
        witness = Witness(client, keeper, "book")
        stale = keeper.on(BookStale, Heard())
        client.start()
        wait_for_all(keeper, "book", SYMBOLS[:2])
        simulator.faults.lose(rate=0.01, types=["book"])
        simulator.faults.lose(rate=0, connection=1)
        eventually(lambda: keeper.stats().reconnected >= 2, PATIENCE)
        simulator.faults.lose(rate=0)
        wait_for_all(keeper, "book", SYMBOLS[:2])
        assert any("connection ended" in event.reason for event in stale.copy())
        assert client.close()
        witness.wait_for(told)
        server.close()
    assert gaps == []
    witness.compare(Books(told, "book"))
    assert keeper.stats().resubscribed == 0
