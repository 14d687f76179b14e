"""A keeper of books on a client: what it keeps, what it tells, and what others read meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from client_harness import Heard, eventually
from peers import PATIENCE_SECONDS

from coinapi_ws import (
    Book,
    CallbackFailed,
    Client,
    ClientState,
    Disconnected,
    Dropped,
    Heartbeat,
    Level,
    SequenceGap,
    Subscription,
    Trade,
)
from coinapi_ws.books import (
    BookEvent,
    BookKeeper,
    BookLive,
    BookStale,
    BookState,
    BookUpdated,
    L2Book,
    L3Book,
    L3Snapshot,
)
from coinapi_ws.exceptions import ConfigurationError, UsageError
from coinapi_ws.sides import L2Side

from .conftest import ONE, TWO, Desk, frame

OpenDesk = Callable[..., Desk]

EMPTY, LIVE, STALE = BookState.EMPTY, BookState.LIVE, BookState.STALE


def test_a_book_is_kept_from_its_first_snapshot_on(desk: OpenDesk) -> None:
    it = desk(keep={"resync": "none"})
    assert (it.keeper.state(ONE), it.keeper.snapshot(ONE).asks, it.keeper.states()) == (EMPTY, (), {})
    it.say(frame(1, snapshot=True, ask=10.0), frame(2, ask=11.0, size=2.0))
    assert it.kinds() == [("live", ONE), ("updated", ONE), ("updated", ONE)]
    assert [event.message.sequence for event in it.told.of(BookUpdated)] == [1, 2]
    snapshot = it.keeper.snapshot(ONE)
    assert (snapshot.state, snapshot.sequence, snapshot.asks) == (LIVE, 2, (Level(10.0, 1.0), Level(11.0, 2.0)))
    assert it.keeper.snapshot(ONE, 1).asks == (Level(10.0, 1.0),)
    assert it.keeper.states() == {("book", ONE): LIVE}


def test_a_book_is_found_by_the_id_as_it_was_subscribed_to(desk: OpenDesk) -> None:
    it = desk(keep={"resync": "none"})
    it.say(frame(1, snapshot=True))
    assert (it.keeper.state(f"{ONE}$"), it.keeper.snapshot(f"{ONE}$")) == (LIVE, it.keeper.snapshot(ONE))
    with it.keeper.reading(f"{ONE}$") as book:
        assert book.symbol_id == ONE
    assert it.keeper.snapshot(f"{TWO}$").symbol_id == TWO


def test_changes_before_the_snapshot_are_held_back_and_counted(desk: OpenDesk) -> None:
    it = desk(keep={"resync": "none"})
    it.say(frame(1), frame(2))
    assert (it.kinds(), it.keeper.state(ONE), it.keeper.stats().held_back) == ([], EMPTY, 2)
    it.say(frame(3, snapshot=True), frame(4))
    assert it.kinds() == [("live", ONE), ("updated", ONE), ("updated", ONE)]
    assert it.keeper.stats().held_back == 2


def test_a_gap_makes_that_book_stale_and_no_other(desk: OpenDesk) -> None:
    it = desk(keep={"resync": "none"})
    it.say(frame(1, snapshot=True), frame(1, TWO, snapshot=True))
    it.say(frame(3), frame(2, TWO), frame(4))
    assert it.kinds()[4:] == [("stale", ONE), ("updated", TWO)]
    [stale] = it.told.of(BookStale)
    assert stale == BookStale(type="book", symbol_id=ONE, reason="sequence 3 came where 2 was expected")
    assert (it.keeper.state(ONE), it.keeper.state(TWO), it.keeper.stale()) == (STALE, LIVE, [("book", ONE)])
    assert (it.keeper.stats().live, it.keeper.stats().not_live, it.keeper.stats().held_back) == (1, 1, 2)
    it.say(frame(5, snapshot=True))
    assert it.kinds()[6:] == [("live", ONE), ("updated", ONE)]
    assert it.keeper.stale() == []


def test_each_type_of_book_is_kept_apart(desk: OpenDesk) -> None:
    it = desk(Subscription(["book", "book5", "book_l3"], symbol_ids=[f"{ONE}$"]), keep={"resync": "none"})
    order = [{"price": 9.0, "size": 1.0, "id": "a"}]
    it.say(frame(1, snapshot=True), frame(1, type="book5", ask=11.0), frame(7, type="book5", ask=12.0))
    it.say(frame(1, snapshot=True, type="book_l3", asks=order), frame(3, type="book_l3", asks=order))
    assert it.keeper.states() == {("book", ONE): LIVE, ("book5", ONE): LIVE, ("book_l3", ONE): STALE}
    assert it.keeper.snapshot(ONE, type="book5").asks == (Level(12.0, 1.0),)
    l3 = it.keeper.snapshot(ONE, type="book_l3")
    assert isinstance(l3, L3Snapshot)
    assert [(entry.id, entry.price) for entry in l3.ask_orders] == [("a", 9.0)]
    assert isinstance(it.keeper.snapshot(TWO, type="book_l3"), L3Snapshot)


def test_what_the_queue_dropped_makes_its_book_stale(desk: OpenDesk) -> None:
    it = desk(
        Subscription(["book", "trade"], symbol_ids=[f"{ONE}$", f"{TWO}$"]),
        keep={"resync": "none"},
        when_full="drop_oldest",
        max_queued_messages=5,
    )
    it.say(frame(1, snapshot=True), frame(1, TWO, snapshot=True))
    gate, entered = threading.Event(), threading.Event()

    def block(_: Trade) -> None:
        entered.set()
        assert gate.wait(PATIENCE_SECONDS)

    it.client.on(Trade, block)
    it.server.text('{"type":"trade","symbol_id":"X"}')
    assert entered.wait(PATIENCE_SECONDS)
    for sequence in range(2, 5):
        it.server.text(frame(sequence))
    for sequence in range(2, 7):
        it.server.text(frame(sequence, TWO))
    eventually(lambda: it.client.stats().dropped == 3)
    gate.set()
    eventually(lambda: it.client.stats().queued == 0)
    it.settle()
    assert it.keeper.states() == {("book", ONE): STALE, ("book", TWO): LIVE}
    assert it.told.of(BookStale)[0].reason == "3 messages were not delivered"


def test_what_whole_books_lack_makes_none_stale(desk: OpenDesk) -> None:
    """The next message is all of it."""
    it = desk(Subscription(["book5"], symbol_ids=[f"{ONE}$"]), all_sequence_gaps=True)
    gaps = it.client.on(SequenceGap, Heard())
    it.say(frame(1, type="book5"), frame(3, type="book5"))
    assert len(gaps) == 1
    assert it.kinds() == [("live", ONE), ("updated", ONE), ("updated", ONE)]


def test_what_the_queue_dropped_of_whole_books_makes_none_stale(desk: OpenDesk) -> None:
    it = desk(Subscription(["book5", "trade"], symbol_ids=[f"{ONE}$"]), when_full="drop_oldest", max_queued_messages=2)
    it.say(frame(1, type="book5"))
    gate, entered = threading.Event(), threading.Event()

    def block(_: Trade) -> None:
        entered.set()
        assert gate.wait(PATIENCE_SECONDS)

    it.client.on(Trade, block)
    dropped = it.client.on(Dropped, Heard())
    it.server.text('{"type":"trade","symbol_id":"X"}')
    assert entered.wait(PATIENCE_SECONDS)
    for sequence in range(2, 6):
        it.server.text(frame(sequence, type="book5"))
    eventually(lambda: it.client.stats().dropped == 2)
    gate.set()
    dropped.wait(Dropped)
    it.settle()
    assert [event.type for event in dropped] == ["book5"]
    assert it.told.of(BookStale) == []


def test_what_is_not_subscribed_to_any_more_is_not_kept(desk: OpenDesk) -> None:
    it = desk(keep={"resync": "none"})
    it.say(frame(1, snapshot=True), frame(1, TWO, snapshot=True), frame(3))
    it.client.replace(Subscription(["book"], symbol_ids=[f"{TWO}$"]))
    it.hello()
    it.say(frame(2, TWO), frame(4))
    assert it.keeper.states() == {("book", TWO): LIVE}
    assert it.keeper.stats().held_back == 1
    it.client.replace(Subscription(["book"], symbol_ids=["Z_"]))
    it.hello()
    it.say('{"type":"hearbeat"}')
    assert it.keeper.states() == {}
    assert it.told.of(BookStale)[-1] == BookStale(type="book", symbol_id=TWO, reason="it is not subscribed to any more")


def test_what_cannot_be_applied_whole_is_told_and_empties_the_book(
    desk: OpenDesk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    it = desk(keep={"resync": "none"})
    it.say(frame(1, snapshot=True))

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR, "coinapi_ws"):
        patched.setattr(L2Side, "_change", fail)
        it.say(frame(2))
    assert it.told.of(BookStale) == [BookStale(type="book", symbol_id=ONE, reason="a message was applied in part")]
    assert it.keeper.state(ONE) is EMPTY
    assert it.client.stats().callback_failures == 1
    it.say(frame(3), frame(1, snapshot=True))
    assert it.keeper.state(ONE) is LIVE


def test_late_messages_of_what_left_the_scope_are_not_kept(desk: OpenDesk) -> None:
    it = desk(keep={"resync": "none"}, deliver_surplus=True)
    it.client.replace(Subscription(["book"], symbol_ids=[f"{TWO}$"]))
    it.hello()
    it.say(frame(1, snapshot=True), frame(1, TWO, snapshot=True))
    assert it.keeper.states() == {("book", TWO): LIVE}


def test_callbacks_find_the_books_up_to_date(desk: OpenDesk) -> None:
    it, seen = desk(keep={"resync": "none"}), []
    it.client.on(Book, lambda book: seen.append(("client", book.sequence, it.keeper.snapshot(ONE).sequence)))
    it.keeper.on(
        BookUpdated, lambda told: seen.append(("keeper", told.message.sequence, it.keeper.snapshot(ONE).sequence))
    )
    it.say(frame(1, snapshot=True), frame(2))
    assert seen == [("keeper", 1, 1), ("client", 1, 1), ("keeper", 2, 2), ("client", 2, 2)]


def test_events_can_be_narrowed_and_taken_back(desk: OpenDesk) -> None:
    it, of_two = desk(keep={"resync": "none"}), Heard()

    @it.keeper.on(BookLive, symbol_id=TWO)
    def live(event: BookLive) -> None:
        of_two(event)

    updated = it.keeper.on(BookUpdated, Heard())
    it.say(frame(1, snapshot=True), frame(1, TWO, snapshot=True))
    it.keeper.off(BookUpdated, updated)
    it.keeper.off(BookLive, live, symbol_id=TWO)
    it.say(frame(2), frame(2, TWO))
    assert [event.symbol_id for event in of_two] == [TWO]
    assert len(updated) == 2
    with pytest.raises(UsageError):
        it.keeper.off(BookUpdated, updated)


def test_a_callback_that_fails_stops_no_other(desk: OpenDesk, caplog: pytest.LogCaptureFixture) -> None:
    it = desk(keep={"resync": "none"})
    failed = it.client.on(CallbackFailed, Heard())

    def fail(_: BookEvent) -> None:
        raise ValueError("no")

    it.keeper.on(BookLive, fail)
    after = it.keeper.on(BookLive, Heard())
    with caplog.at_level(logging.ERROR, "coinapi_ws"):
        it.say(frame(1, snapshot=True), frame(2))
    assert len(after) == 1
    assert it.keeper.snapshot(ONE).sequence == 2
    [told] = failed
    assert (told.callback, told.argument) == (fail, BookLive(type="book", symbol_id=ONE))
    assert it.client.stats().callback_failures == 1


def test_a_callback_may_close_the_client(desk: OpenDesk) -> None:
    it = desk(keep={"resync": "none"})
    it.keeper.on(BookLive, lambda _: it.client.close())
    late = it.keeper.on(BookLive, Heard())
    it.server.text(frame(1, snapshot=True))
    closing = it.server.until_closed()
    # The connection is still there, but nothing is delivered any more.
    eventually(lambda: it.client._is_discarding)
    assert it.client.state is not ClientState.CLOSED
    assert it.keeper.state(ONE) is STALE
    it.server.send(closing.response())
    it.server.socket.close()
    assert it.client.join(PATIENCE_SECONDS)
    assert late == []
    assert it.client.state is ClientState.CLOSED
    # That the connection ended was not delivered any more.
    assert it.keeper.state(ONE) is it.keeper.snapshot(ONE).state is STALE
    assert (it.keeper.states(), it.keeper.stats().live) == ({("book", ONE): STALE}, 0)
    with it.keeper.reading(ONE) as book:
        assert (book.state, book.stale_reason) == (STALE, "the client was closed, and delivers no more")
        assert book.asks.best == Level(10.0, 1.0)


def test_other_threads_see_whole_books(desk: OpenDesk) -> None:
    """Each message moves both of its levels, so half of one would show levels of two."""
    it, torn, stop = desk(keep={"resync": "none"}), [], threading.Event()
    reads = [0, 0]

    def read(number: int) -> None:
        while not stop.is_set():
            snapshot = it.keeper.snapshot(ONE)
            reads[number] += 1
            if snapshot.asks and {level.size for level in (*snapshot.asks, *snapshot.bids)} != {snapshot.sequence}:
                torn.append(snapshot)

    def both(sequence: int, snapshot: bool = False) -> str:
        levels = [{"price": float(price), "size": sequence} for price in range(50)]
        return frame(sequence, snapshot=snapshot, asks=levels, bids=levels)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for reader in readers:
        reader.start()
    try:
        it.say(both(1, snapshot=True))
        it.say(*(both(sequence) for sequence in range(2, 400)))
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert torn == []
    assert min(reads) > 0
    assert it.keeper.snapshot(ONE).sequence == 399


def test_a_book_can_be_held_still(desk: OpenDesk) -> None:
    it = desk(keep={"resync": "none"})
    with pytest.raises(UsageError, match="subscribed"), it.keeper.reading(ONE):
        pass
    it.say(frame(1, snapshot=True))
    heard = it.client.on(Heartbeat, Heard())
    with it.keeper.reading(ONE) as book:
        assert isinstance(book, L2Book)
        it.server.text(frame(2, ask=9.0))
        it.server.text('{"type":"hearbeat"}')
        eventually(lambda: it.client.stats().messages.get("book") == 2)
        assert (book.sequence, book.asks.best, it.keeper.snapshot(ONE).sequence, heard) == (1, Level(10.0, 1.0), 1, [])
    heard.wait(Heartbeat)
    assert it.keeper.snapshot(ONE).sequence == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resync": "maybe"}, "resubscribe"),
        ({"resync_interval": 0}, "positive number of seconds"),
        ({"resync_interval": True}, "positive number of seconds"),
        ({"reconnect_interval": float("inf")}, "positive number of seconds"),
        ({"level_delete": "ask"}, "subtract"),
    ],
)
def test_wrong_options_are_refused(canary_key: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        BookKeeper(Client(canary_key), **options)


def test_what_is_no_client_and_what_is_no_event_of_its_own_is_refused(canary_key: str) -> None:
    with pytest.raises(ConfigurationError, match="L2Book"):
        BookKeeper(object())  # type: ignore[arg-type]
    keeper = BookKeeper(Client(canary_key))
    for kind in (Disconnected, Book, "book"):
        with pytest.raises(ConfigurationError, match="BookUpdated"):
            keeper.on(kind, print)  # type: ignore[type-var,call-overload]
    assert repr(keeper).startswith("<BookKeeper of <Client ")


def test_an_l3_book_deletes_levels_as_it_was_told(desk: OpenDesk) -> None:
    wanted = Subscription(["book_l3"], symbol_ids=[f"{ONE}$"])
    it = desk(wanted, keep={"resync": "none", "level_delete": "subtract"})
    it.say(frame(1, snapshot=True, type="book_l3", asks=[{"price": 9.0, "size": 3.0}]))
    it.say(frame(2, type="book_l3", asks=[{"price": 9.0, "size": 1.0, "update_type": "DELETE"}]))
    with it.keeper.reading(ONE, type="book_l3") as book:
        assert isinstance(book, L3Book)
        assert book.asks.best == Level(9.0, 2.0)
