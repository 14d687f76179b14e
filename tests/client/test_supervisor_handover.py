"""A second connection takes over from one that the server announced to close: what can go wrong on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from client_harness import BTC, NOTICE, Life, at, trade
from peers import Listener, ServerSide, url_of

from coinapi_ws import (
    Book,
    ClientState,
    ConnectionGap,
    HandedOver,
    HandoverFailed,
    Live,
    Reconnecting,
    ReconnectNotice,
    Scope,
    SequenceGap,
    SessionState,
    Subscription,
    Trade,
)

LiveIt = Callable[..., Life]


def test_the_first_is_cut_before_the_second_is_live(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(trade(1, uuid="1"))
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.open(listener)
    first.socket.close()
    life.ended()
    assert life.state is ClientState.CONNECTING
    second.text(trade(5, uuid="5"))
    life.until(Trade)
    assert life.state is ClientState.LIVE
    assert [(gap.from_ns, gap.to_ns) for gap in life.of(ConnectionGap)] == [(at(1), at(5))]
    assert life.of(HandedOver) == life.of(HandoverFailed) == []
    assert [(event.attempt, event.delay) for event in life.of(Reconnecting)] == [(1, 0.0)]
    life.cut(second)
    assert [event.attempt for event in life.of(Reconnecting)] == [1, 2]


def test_what_the_first_said_before_it_was_cut_is_not_repeated_by_the_second(
    live_it: LiveIt, listener: Listener
) -> None:
    """The second server may be behind the first one; it was not live yet when the first was cut."""
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    first.text(trade(1, uuid="1"))
    first.text(trade(5, uuid="5"))
    while len(life.of(Trade)) < 2:
        life.until(Trade)
    second = life.open(listener)
    life.cut(first)
    for moment in (4, 5, 9):
        second.text(trade(moment, uuid=str(moment)))
    while len(life.of(Trade)) < 4:
        life.until(Trade)
    assert [told.uuid for told in life.of(Trade)] == ["1", "5", "4", "9"]
    assert len(life.of(ConnectionGap)) == 1
    assert life.of(HandedOver) == []
    assert life.state is ClientState.LIVE


def test_both_are_cut_before_the_second_is_live(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(trade(1, uuid="1"))
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.meet(listener)
    life.cut(first)
    life.cut(second)
    assert life.state is ClientState.WAITING
    life.retry()
    third = life.live(listener)
    third.text(trade(9, uuid="9"))
    life.until(Trade)
    assert [(gap.from_ns, gap.to_ns) for gap in life.of(ConnectionGap)] == [(at(1), at(9))]


def test_the_second_is_cut_and_the_first_goes_on(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    life.cut(life.live(listener))
    assert len(life.of(HandoverFailed)) == 1
    first.text(trade(1))
    life.until(Trade)
    assert life.state is ClientState.LIVE
    assert len(life.supervisor.connections()) == 1
    assert life.of(Reconnecting) == []


def test_a_notice_to_the_second_meanwhile_is_heeded_afterwards(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.live(listener)
    second.text(NOTICE)
    life.until(ReconnectNotice)
    assert len(life.made) == 2
    life.hang_up(first, 1001)
    assert len(life.of(HandedOver)) == 1
    # One so soon after the other is paced as all attempts are (F5).
    life.advance(0.9)
    assert len(life.made) == 2
    life.advance(0.1)
    assert len(life.made) == 3
    life.live(listener)
    life.hang_up(second, 1001)
    assert len(life.of(HandedOver)) == 2
    assert life.of(ConnectionGap) == []
    assert len(life.supervisor.connections()) == 1


def test_another_notice_to_the_first_changes_nothing(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    life.hang_up(first, 1001)
    assert len(life.made) == 2
    assert len(life.of(HandedOver)) == 1


@pytest.mark.parametrize("how", ["close", "park"])
def test_closing_and_parking_end_both(live_it: LiveIt, listener: Listener, how: str) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.live(listener)
    if how == "close":
        life.supervisor.close()
    else:
        life.supervisor.set_scope(Scope())
    for server in (second, first) if how == "close" else (first, second):
        assert life.answer_close(server).code == 1000
    assert life.state is (ClientState.CLOSED if how == "close" else ClientState.PARKED)
    assert life.supervisor.connections() == []
    assert life.of(ConnectionGap) == life.of(Reconnecting) == []


@pytest.mark.parametrize("is_first_first", [True, False])
def test_reconnecting_in_the_middle_ends_both_and_is_no_handover(
    live_it: LiveIt, listener: Listener, is_first_first: bool
) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(trade(1, uuid="1"))
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.live(listener)
    life.supervisor.reconnect()
    for server in (first, second) if is_first_first else (second, first):
        assert life.answer_close(server).code == 1000
    assert life.of(HandedOver) == life.of(HandoverFailed) == []
    life.retry()
    life.live(listener).text(trade(9, uuid="9"))
    life.until(Trade)
    assert [(gap.from_ns, gap.to_ns) for gap in life.of(ConnectionGap)] == [(at(1), at(9))]
    assert len(life.of(Reconnecting)) == 1


def test_reconnecting_before_the_second_is_live_leaves_it_to_the_second(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.open(listener)
    life.supervisor.reconnect()
    life.answer_close(first)
    second.text(trade(5, uuid="5"))
    life.until(Trade)
    assert life.state is ClientState.LIVE
    assert life.of(HandedOver) == []
    assert len(life.made) == 2


def test_a_first_connection_that_stays_is_closed(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover", options={"silence_timeout": None}).start()
    first = life.live(listener)
    first.text(NOTICE)  # within 10 s
    life.until(ReconnectNotice)
    life.live(listener)
    life.advance(19)
    assert len(life.supervisor.connections()) == 2
    life.advance(1)
    assert life.answer_close(first).code == 1000
    assert len(life.of(HandedOver)) == 1
    assert life.of(ConnectionGap) == []
    assert life.state is ClientState.LIVE


def test_it_is_not_closed_before_the_second_is_live(live_it: LiveIt, listener: Listener) -> None:
    patient = {"silence_timeout": None, "live_timeout": None}
    life = live_it(url_of(listener), on_reconnect_notice="handover", options=patient).start()
    first = life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.open(listener)
    life.advance(20)
    assert [connection.state for connection in life.made] == [SessionState.LIVE, SessionState.OPEN]
    first.text(trade(1, uuid="1"))
    life.until(Trade)
    second.text(trade(1, uuid="1"))
    life.until(Live)
    life.advance(10)
    life.answer_close(first)
    assert len(life.of(HandedOver)) == 1
    assert len(life.of(Trade)) == 1


def test_a_book_that_never_caught_up_is_told_in_the_end(live_it: LiveIt, listener: Listener) -> None:
    """Changes that come later build on it."""
    scope = Scope(Subscription(["book"], symbol_ids=[f"{BTC}$"]))
    patient = {"silence_timeout": None}
    life = live_it(url_of(listener), scope=scope, on_reconnect_notice="handover", options=patient).start()
    first = life.live(listener)
    first.text(book(9, 1, 100, snapshot=True))
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.live(listener)
    second.text(book(5, 1, 100, snapshot=True))
    second.text(book(6, 2, 101))
    life.hang_up(first, 1001)
    while life.turn(0):
        pass
    assert [told.time_coinapi_ns for told in life.of(Book)] == [at(9)]
    life.advance(29.9)
    assert len(life.of(Book)) == 1
    life.advance(0.1)
    last = life.of(Book)[-1]
    assert (last.time_coinapi_ns, last.is_snapshot, len(last.asks)) == (at(6), True, 2)
    second.text(book(7, 3, 102))
    life.until(Book)
    assert [told.sequence for told in life.of(Book)] == [1, 2, 3]
    assert life.of(SequenceGap) == []


@pytest.mark.parametrize("is_snapshot", [True, False])
def test_a_book_that_never_caught_up_is_forgotten_with_the_second(
    live_it: LiveIt, listener: Listener, is_snapshot: bool
) -> None:
    """The first goes on, and its changes build on its own book, which may not go back in time."""
    scope = Scope(Subscription(["book"], symbol_ids=[f"{BTC}$"]))
    patient = {"silence_timeout": None}
    life = live_it(url_of(listener), scope=scope, on_reconnect_notice="handover", options=patient).start()
    first = life.live(listener)
    first.text(book(9, 1, 100, snapshot=True))
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.live(listener)
    second.text(book(5, 1, 100, snapshot=is_snapshot))
    life.cut(second)
    life.advance(30)
    first.text(book(10, 2, 101))
    while len(life.of(Book)) < 2:
        life.until(Book)
    assert [told.sequence for told in life.of(Book)] == [1, 2]
    assert [told.time_coinapi_ns for told in life.of(Book)] == [at(9), at(10)]
    assert life.of(SequenceGap) == []


def book(second: int, sequence: int, price: int, *, snapshot: bool = False) -> str:
    """A book's frame with one ask."""
    asks = [{"price": price, "size": 1}]
    return trade(second, sequence=sequence, is_snapshot=snapshot, asks=asks, bids=[]).replace('"trade"', '"book"')


def test_the_health_of_the_second_is_its_own(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover", options={"silence_timeout": None}).start()
    for _ in range(2):
        life.cut(life.live(listener))
        life.retry()
    first = life.live(listener)
    life.advance(100)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.live(listener)
    life.hang_up(first, 1001)
    life.cut(second)
    # Its first one was healthy, so handing over was the first attempt anew; the second one was not.
    assert [event.attempt for event in life.of(Reconnecting)] == [1, 2, 2]


def test_an_end_in_here_drops_both_f11(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    life.live(listener).text(NOTICE)
    life.until(ReconnectNotice)
    life.live(listener)
    life.supervisor.abort(RuntimeError("a bug"))
    assert [connection.fileno() for connection in life.made] == [-1, -1]
    assert life.supervisor.connections() == []


def test_a_planned_handover_does_not_keep_from_parking(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.live(listener)
    life.hang_up(first, 1001)
    second.text(NOTICE)  # soon after the other, so it is waited with
    life.until(ReconnectNotice)
    life.supervisor.set_scope(Scope())
    life.advance(2)
    assert len(life.made) == 2
    life.answer_close(second)
    assert life.state is ClientState.PARKED
    life.advance(100)
    assert life.state is ClientState.PARKED
    assert len(life.made) == 2


def book_handover(live_it: LiveIt, listener: Listener) -> tuple[Life, ServerSide, ServerSide]:
    """A client with a book of the first connection, and a second one beside it."""
    scope = Scope(Subscription(["book"], symbol_ids=[f"{BTC}$"]))
    life = live_it(url_of(listener), scope=scope, on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(book(9, 1, 100, snapshot=True))
    first.text(NOTICE)
    life.until(ReconnectNotice)
    return life, first, life.live(listener)


def test_what_a_book_of_the_second_lacks_is_told_when_the_first_ends(live_it: LiveIt, listener: Listener) -> None:
    """Else whoever keeps the book would believe that nothing happens."""
    life, first, second = book_handover(live_it, listener)
    second.text(book(10, 5, 101))  # a change, and no snapshot before it
    while life.turn(0.2):
        pass
    assert life.of(SequenceGap) == []
    life.hang_up(first, 1001)
    assert [(gap.expected, gap.received) for gap in life.of(SequenceGap)] == [(5, 6)]
    assert [type(item) for item in life.items[-2:]] == [SequenceGap, HandedOver]


def test_books_that_came_from_a_second_that_is_lost_are_told_to_lack_something(
    live_it: LiveIt, listener: Listener
) -> None:
    """The first one's changes do not go on from there, and its end may take a while."""
    life, _, second = book_handover(live_it, listener)
    second.text(book(10, 5, 101, snapshot=True))
    life.until(Book)
    life.cut(second)
    assert [(gap.expected, gap.received) for gap in life.of(SequenceGap)] == [(6, 7)]
    assert [connection.state for connection in life.supervisor.connections()] == [SessionState.CLOSING]
