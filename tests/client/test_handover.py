"""One stream out of two connections while the second takes over, step by step; any lag is in the properties' file."""

from __future__ import annotations

from typing import Any

import pytest
from builders import ADA, BTC, asset, at, book, book5, book_l3, candle, heartbeat, ns, quote, rate, trade

from coinapi_ws import (
    Book,
    Connected,
    Disconnected,
    ErrorMessage,
    Live,
    Message,
    Quote,
    ReconnectNotice,
    SequenceGap,
    Trade,
    Undecodable,
)
from coinapi_ws.client.handover import Delivered, Handover
from coinapi_ws.events import Cause


def gap(expected: int, received: int, symbol_id: str = BTC, *, type: str = "book") -> SequenceGap:
    return SequenceGap(type=type, symbol_id=symbol_id, expected=expected, received=received)


def handover(*delivered: Any) -> Handover:
    """A handover after these were delivered."""
    watched = Delivered()
    watched.watch(list(delivered))
    return Handover(watched)


# What was delivered


def test_what_was_delivered_last_is_remembered_by_what_it_is_about() -> None:
    delivered = Delivered()
    delivered.watch([quote(5), heartbeat(), Live(received_ns=0), candle(5, start=0), rate(5)])
    for message in (quote(5), candle(5, start=0), rate(5)):
        assert not delivered.is_later(message)
        assert delivered.is_later(message, or_equal=True)
    assert not delivered.is_later(quote(4), or_equal=True)
    for message in (quote(6), quote(1, ADA), candle(1, start=0, period_id="1HRS"), rate(1, "ADA"), book5(1)):
        assert delivered.is_later(message)


def test_times_are_compared_as_times_and_not_as_texts() -> None:
    delivered = Delivered()
    delivered.watch([Quote(symbol_id=BTC, time_coinapi="2026-01-01T00:00:00.10Z")])
    assert not delivered.is_later(Quote(symbol_id=BTC, time_coinapi="2026-01-01T00:00:00.1000000Z"))
    assert not delivered.is_later(Quote(symbol_id=BTC, time_coinapi="2026-01-01T00:00:00.0999999Z"))
    assert delivered.is_later(Quote(symbol_id=BTC, time_coinapi="2026-01-01T00:00:00.1000001Z"))


@pytest.mark.parametrize(("last", "new"), [("soon", at(1)), (at(1), "soon"), (at(1), None)])
def test_what_has_no_time_that_can_be_read_is_as_good_as_later(last: str, new: str | None) -> None:
    delivered = Delivered()
    delivered.watch([Quote(symbol_id=BTC, time_coinapi=last)])
    assert delivered.is_later(Quote(symbol_id=BTC, time_coinapi=new))


def test_trades_are_remembered_but_not_for_ever() -> None:
    delivered = Delivered()
    delivered.watch([trade(number, uuid=str(number)) for number in range(100_010)])
    assert delivered.has_trade("100009")
    assert delivered.has_trade("10")
    assert not delivered.has_trade("9")
    delivered.watch([trade(10, uuid="10")])  # once more, and no less remembered for it
    assert delivered.has_trade("10")
    assert len(delivered._uuids) == 100_000


# Trades


def test_a_trade_comes_once_whichever_brings_it_first() -> None:
    both = handover(trade(1, uuid="before"))
    assert both.take_second([trade(1, uuid="before"), trade(2, uuid="a")]) == [trade(2, uuid="a")]
    assert both.take_first([trade(2, uuid="a"), trade(3, uuid="b")]) == [trade(3, uuid="b")]
    assert both.take_second([trade(3, uuid="b"), trade(3, uuid="c")]) == [trade(3, uuid="c")]
    assert both.duplicates == 3


def test_a_late_trade_is_no_old_one() -> None:
    both = handover(trade(9, uuid="a"))
    assert both.take_second([trade(5, uuid="b")]) == [trade(5, uuid="b")]


def test_without_a_uuid_a_trade_is_told_apart_by_its_time() -> None:
    both = handover(trade(5))
    assert both.take_second([trade(5), trade(6)]) == [trade(6)]
    assert both.take_first([trade(6), trade(7)]) == [trade(7)]


# Everything that is no book


def test_an_update_comes_once_and_never_after_a_later_one() -> None:
    both = handover(quote(5))
    assert both.take_second([quote(4), quote(5), quote(6)]) == [quote(6)]
    assert both.take_first([quote(6), quote(7), quote(8)]) == [quote(7), quote(8)]
    assert both.take_second([quote(7), quote(8), quote(9)]) == [quote(9)]
    assert both.duplicates == 5


def test_updates_of_one_time_all_come_where_one_connection_brings_them() -> None:
    one, two = quote(5, ask_size=1.0), quote(5, ask_size=2.0)
    both = handover(quote(4))
    assert both.take_first([one, two]) == [one, two]
    assert both.take_second([one, two]) == []
    both = handover(quote(4))
    assert both.take_first([one]) == [one]
    assert both.take_second([one, two]) == []
    assert both.take_first([two]) == [two]


def test_candles_of_different_periods_do_not_hold_each_other_back() -> None:
    both = handover(candle(9, start=0))
    assert both.take_second([candle(5, start=0, period_id="1HRS")]) == [candle(5, start=0, period_id="1HRS")]


def test_what_has_no_time_comes_from_the_first_while_it_is_there() -> None:
    both = handover()
    assert both.take_first([asset()]) == [asset()]
    assert both.take_second([asset()]) == []
    assert both.duplicates == 1
    both.end_first()
    assert both.take_second([asset("NEW")]) == [asset("NEW")]


def test_heartbeats_are_those_of_the_first_while_it_is_there() -> None:
    both = handover()
    assert both.take_first([heartbeat()]) == [heartbeat()]
    assert both.take_second([heartbeat()]) == []
    both.end_first()
    assert both.take_second([heartbeat()]) == [heartbeat()]
    assert both.duplicates == 0


def test_events_and_the_conversations_own_messages_pass_from_both() -> None:
    items = [
        Connected(),
        Live(received_ns=0),
        ErrorMessage(message="x"),
        ReconnectNotice(),
        Undecodable(reason="", received_ns=0, payload=""),
        Disconnected(cause=Cause.NETWORK, initiator="network", detail=""),
    ]
    both = handover()
    assert both.take_first(items) == both.take_second(items) == items


def test_a_gap_before_a_repetition_is_none() -> None:
    """With all_sequence_gaps: what the repetition shows to be missing has been delivered before it."""
    lost = gap(3, 5, type="quote")
    both = handover(quote(5))
    assert both.take_second([lost, quote(5), quote(6)]) == [quote(6)]
    assert both.take_first([lost, quote(6), quote(7)]) == [quote(7)]
    traded = gap(1, 3, type="trade")
    assert both.take_second([traded, trade(8, uuid="a")]) == [traded, trade(8, uuid="a")]
    assert both.take_first([traded, trade(8, uuid="a")]) == []


def test_a_gap_before_news_comes_with_it() -> None:
    lost = gap(3, 5, type="quote")
    both = handover(quote(5))
    assert both.take_first([lost, quote(6)]) == [lost, quote(6)]
    assert both.take_second([lost, quote(7), quote(8)]) == [lost, quote(7), quote(8)]
    assert both.take_second([lost, quote(1, ADA), heartbeat()]) == [lost, quote(1, ADA)]


# Books


def test_a_book_switches_at_the_snapshot_that_is_not_older() -> None:
    both = handover(book(5, (1.0, 1.0), is_snapshot=True))
    assert not both.has_switched
    snapshot = book(5, (1.0, 1.0), is_snapshot=True)
    assert both.take_second([snapshot]) == [snapshot]
    assert both.has_switched
    assert both.take_first([book(6, (2.0, 1.0)), gap(1, 2), book(8, (2.0, 1.0))]) == []
    assert both.take_second([book(6, (2.0, 1.0)), book(6, (3.0, 1.0))]) == [book(6, (2.0, 1.0)), book(6, (3.0, 1.0))]


def test_a_snapshot_that_is_behind_waits_until_its_changes_have_caught_up() -> None:
    both = handover(book(5, (1.0, 1.0), is_snapshot=True))
    assert both.take_second([book(3, (1.0, 9.0), is_snapshot=True), book(4, (2.0, 2.0))]) == []
    assert both.take_first([book(6, (1.0, 3.0))]) == [book(6, (1.0, 3.0))]
    assert both.take_second([book(5, (1.0, 0.0))]) == []
    assert both.duplicates == 3
    [snapshot] = both.take_second([book(6, (3.0, 3.0), sequence=9)])
    assert snapshot == book(6, (2.0, 2.0), (3.0, 3.0), is_snapshot=True, sequence=9)
    assert both.take_second([book(7)]) == [book(7)]
    assert both.finish() == []


def test_a_book_that_was_not_there_yet_switches_at_once() -> None:
    both = handover(book(5, is_snapshot=True, symbol_id=ADA))
    snapshot = book(1, is_snapshot=True)
    assert both.take_second([snapshot]) == [snapshot]
    assert both.take_first([book(6, symbol_id=ADA)]) == [book(6, symbol_id=ADA)]


def test_l3_books_switch_by_themselves() -> None:
    both = handover(book(5), book_l3(5))
    snapshot = book_l3(5, (1.0, 1.0, "a", None), is_snapshot=True)
    assert both.take_second([book(4, is_snapshot=True), snapshot]) == [snapshot]
    assert both.take_first([book(6), book_l3(6)]) == [book(6)]


def test_whole_books_are_updates_as_others_are() -> None:
    both = handover(book5(5))
    assert both.take_second([book5(5), book5(6)]) == [book5(6)]
    assert not both.has_switched
    assert both.take_first([book5(7)]) == [book5(7)]


def test_gaps_of_the_first_pass_until_the_switch() -> None:
    both = handover(book(5))
    assert both.take_first([gap(1, 3)]) == [gap(1, 3)]
    both.take_second([book(9, is_snapshot=True)])
    assert both.take_first([gap(4, 6), gap(4, 6, ADA)]) == [gap(4, 6, ADA)]


def test_a_gap_of_the_second_passes_after_the_switch() -> None:
    both = handover()
    both.take_second([book(1, is_snapshot=True)])
    assert both.take_second([gap(2, 4), book(2)]) == [gap(2, 4), book(2)]


def test_a_gap_before_the_switch_is_made_good_by_another_snapshot() -> None:
    both = handover(book(5))
    assert both.take_second([book(3, is_snapshot=True), gap(2, 4), book(6, sequence=4)]) == []
    snapshot = book(7, (1.0, 1.0), is_snapshot=True)
    assert both.take_second([snapshot]) == [snapshot]
    assert both.finish() == []


def test_a_gap_that_was_not_made_good_is_told_when_the_first_ends() -> None:
    """Who keeps the book must not believe that nothing happens."""
    both = handover(book(5))
    both.take_second([book(3, is_snapshot=True, sequence=1), gap(2, 4), book(6, sequence=4), book(7, sequence=5)])
    both.end_first()
    assert both.lacking() == [gap(2, 6)]  # 2 to 5 were not delivered
    assert both.lacking() == []
    assert both.take_second([book(8, sequence=6)]) == [book(8, sequence=6)]


def test_a_gap_after_the_first_has_ended_is_told_at_once() -> None:
    both = handover(book(9))
    both.end_first()
    both.take_second([book(3, is_snapshot=True, sequence=1)])
    late = book(4, sequence=4)
    assert both.take_second([gap(2, 4), late]) == [gap(2, 4), late]
    both = handover(book(9))
    both.end_first()
    assert both.take_second([late]) == [gap(4, 5), late]
    assert both.finish() == []


def test_a_book_that_has_not_caught_up_is_told_at_the_end() -> None:
    both = handover(book(9), book(9, symbol_id=ADA))
    both.take_second([book(3, (1.0, 1.0), is_snapshot=True), book(4, (2.0, 1.0))])
    both.take_second([book(3, is_snapshot=True, symbol_id=ADA)])
    both.end_first()
    assert both.finish() == [
        book(4, (1.0, 1.0), (2.0, 1.0), is_snapshot=True),
        book(3, is_snapshot=True, symbol_id=ADA),
    ]


def test_what_cannot_be_understood_before_the_switch_is_as_good_as_lost() -> None:
    both = handover(book(9))
    assert both.take_second([book(3, is_snapshot=True), book(4, (None, 1.0), sequence=2), book(10, sequence=3)]) == []
    assert not both.has_switched
    assert both.lacking() == [gap(2, 4)]
    both = handover(book(5))
    assert both.take_second([book(6, (None, 1.0), is_snapshot=True, sequence=1)]) == []
    snapshot = book(7, (1.0, 1.0), is_snapshot=True)
    assert both.take_second([snapshot]) == [snapshot]
    assert both.finish() == []


def test_changes_without_a_snapshot_are_told_when_the_first_ends() -> None:
    both = handover(book(5))
    assert both.take_second([book(6, sequence=7), book(7, sequence=8)]) == []
    assert both.duplicates == 2
    assert both.lacking() == [gap(7, 9)]
    both = handover(Book(time_coinapi=at(1)))
    both.take_second([Book(time_coinapi=at(2))])
    assert both.lacking() == [gap(0, 1, symbol_id="")]


def test_a_book_that_has_no_time_switches_at_its_snapshot() -> None:
    both = handover(book(5))
    snapshot = Book(symbol_id=BTC, is_snapshot=True)
    assert both.take_second([snapshot]) == [snapshot]
    assert both.take_second([Book(symbol_id=BTC)]) == [Book(symbol_id=BTC)]


def test_the_next_handover_knows_what_this_one_delivered() -> None:
    delivered = Delivered()
    Handover(delivered).take_second([book(9, is_snapshot=True), quote(9), trade(9, uuid="a")])
    following = Handover(delivered)
    assert following.take_second([book(7, is_snapshot=True), quote(8), trade(9, uuid="a")]) == []
    assert following.take_second([book(9)]) == [book(9, is_snapshot=True)]


# The end of the first


def test_what_the_second_has_not_shown_is_counted() -> None:
    both = handover(quote(5), quote(5, ADA), book(5), trade(5, uuid="a"))
    both.take_second([quote(6), book(5, is_snapshot=True)])
    assert both.end_first() == 2


def test_what_only_the_second_has_is_not_left() -> None:
    both = handover()
    both.take_second([quote(5), trade(5, uuid="a")])
    assert both.end_first() == 0


def test_after_the_end_of_the_first_repetitions_are_still_looked_for() -> None:
    both = handover(quote(5), trade(5, uuid="a"), book(5, is_snapshot=True))
    both.end_first()
    late: list[Message] = [quote(4), trade(5, uuid="a"), book(4, is_snapshot=True), quote(5)]
    assert both.take_second(late) == []
    assert both.take_second([quote(6), Trade(uuid="b")]) == [quote(6), Trade(uuid="b")]


def test_where_the_connections_meet_is_known() -> None:
    both = handover()
    assert both.seam(is_whole=False) == both.seam(is_whole=True) == (None, None)
    both = handover(trade(3))
    assert both.seam(is_whole=False) == (ns(3), None)
    both.take_second([heartbeat()])
    both.take_second([quote(7)])
    # Where the first ended in order, a quote may have come since the connection was new; a trade tells.
    assert both.seam(is_whole=True) == (ns(3), None)
    both.take_second([trade(8)])
    both.take_second([trade(1)])
    assert both.seam(is_whole=False) == (ns(3), ns(7))
    assert both.seam(is_whole=True) == (ns(3), ns(8))
    both.take_first([quote(4), trade(5), heartbeat()])
    both.take_first([heartbeat()])
    assert both.seam(is_whole=False) == (ns(5), ns(7))
    both = handover(trade(3))
    both.end_first()
    both.take_second([quote(7), trade(8)])
    assert both.seam(is_whole=False) == both.seam(is_whole=True) == (ns(3), None)


def test_once_the_second_is_lost_nothing_is_told_of_what_it_held_back() -> None:
    both = handover(book(9), book(9, symbol_id=ADA))
    both.take_second([book(3, is_snapshot=True), book(8, symbol_id=ADA)])
    both.lose_second()
    assert both.finish() == both.lacking() == []


def test_once_the_second_is_lost_its_books_are_told_to_lack_something() -> None:
    both = handover(book(5))
    both.take_second([book(6, is_snapshot=True, sequence=3), book(7, sequence=4)])
    both.lose_second()
    assert both.lacking() == [gap(5, 6)]
    assert both.take_first([book(8, sequence=9)]) == []


def test_what_the_second_has_brought_is_not_behind() -> None:
    both = handover(quote(5), quote(5, ADA), book(5), book_l3(5))
    both.take_second([quote(6), quote(5, ADA), book(5, is_snapshot=True)])
    assert both.not_from_second() == {("quote", ADA), ("book_l3", BTC)}
