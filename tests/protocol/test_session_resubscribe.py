"""Symbols taken out of the scope and put back, so that the server begins anew with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from conversation import ADA, BTC, TRADES, Conversation

from coinapi_ws import Pacer
from coinapi_ws.events import SequenceGap
from coinapi_ws.messages import Book, Message
from coinapi_ws.scope import Scope
from coinapi_ws.subscription import Subscription

Converse = Callable[..., Conversation]

ETH = "COINBASE_SPOT_ETH_USD"
SCOPE = Scope(Subscription(["book", "trade"], symbol_ids=[f"{ADA}$", f"{BTC}$", f"{ETH}$"]))
LIMIT = ("x-wshelloperiplimit-limit: 3", "x-wshelloperiplimit-windowsizems: 10000")


def book(sequence: int, symbol_id: str = BTC, *, is_snapshot: bool = False) -> str:
    fields = {"symbol_id": symbol_id, "sequence": sequence, "is_snapshot": is_snapshot, "type": "book"}
    return json.dumps(fields, separators=(",", ":"))


def symbols(talk: Conversation) -> list[list[str]]:
    """The symbols of each hello so far."""
    return [[symbol[:-1] for symbol in hello["subscribe_filter_symbol_id"]] for hello in talk.hellos()]


def resubscribe(talk: Conversation, *symbol_ids: str) -> None:
    talk.session.resubscribe(symbol_ids, talk.now)
    talk.drain()


def test_a_symbol_goes_and_comes_back_in_two_hellos(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live()
    resubscribe(talk, BTC)
    assert symbols(talk) == [[ADA, BTC, ETH], [ADA, ETH], [ADA, BTC, ETH]]
    assert talk.session.scope == SCOPE
    assert {tuple(hello["subscribe_data_type"]) for hello in talk.hellos()} == {("book", "trade")}


def test_both_leave_in_the_same_bytes(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live()
    talk.session.resubscribe([BTC, ADA], talk.now)
    talk.reader.feed(talk.session.data_to_send())
    assert symbols(talk)[1:] == [[ETH], [ADA, BTC, ETH]]


def test_nothing_is_taken_out_before_the_budget_lets_it_come_back(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live(*LIMIT)
    talk.advance(1.0)
    resubscribe(talk, BTC)
    resubscribe(talk, ADA)
    talk.advance(10.4)  # the first hello's place is free
    assert len(symbols(talk)) == 3
    talk.advance(0.2)
    assert symbols(talk)[3:] == [[BTC, ETH], [ADA, BTC, ETH]]


def test_what_waits_for_the_budget_goes_together(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live(*LIMIT)
    resubscribe(talk, BTC)
    resubscribe(talk, ADA)
    talk.advance(5.0)
    resubscribe(talk, BTC)
    talk.advance(5.4)
    assert len(symbols(talk)) == 3
    talk.advance(0.1)
    assert symbols(talk)[3:] == [[ETH], [ADA, BTC, ETH]]
    talk.advance(60.0)
    assert len(symbols(talk)) == 5


def test_a_budget_of_one_lets_it_go_all_the_same(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live("x-wshelloperiplimit-limit: 1", "x-wshelloperiplimit-windowsizems: 1000")
    resubscribe(talk, BTC)
    talk.advance(1.5)
    assert symbols(talk)[1:] == [[ADA, ETH]]
    talk.advance(1.5)
    assert symbols(talk)[2:] == [[ADA, BTC, ETH]]


class Crowded(Pacer):
    """Another thread takes all that is left whenever it can."""

    is_crowded = False

    def take(self, host: str, kind: str, now: float, **how: Any) -> float:
        allowed = super().take(host, kind, now, **how)
        while self.is_crowded and super().take(host, kind, now, is_vendor=False) == now:
            pass
        return allowed


def test_nobody_else_takes_the_budget_of_the_second_hello(converse: Converse) -> None:
    pacer = Crowded()
    talk = converse(scope=SCOPE, pacer=pacer).live(*LIMIT)
    pacer.is_crowded = True
    resubscribe(talk, BTC)
    assert symbols(talk)[1:] == [[ADA, ETH], [ADA, BTC, ETH]]


def test_its_sequences_begin_again_and_no_others(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live()
    talk.say(book(7), book(40, ADA))
    resubscribe(talk, BTC)
    items = talk.say(book(8), book(41, ADA), book(1, is_snapshot=True), book(2), book(42, ADA))
    assert all(isinstance(item, Book) for item in items)
    [gap, _] = talk.say(book(1, ADA))
    assert gap == SequenceGap(type="book", symbol_id=ADA, expected=43, received=1)


def test_where_its_first_message_is_lost_that_is_a_gap(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live()
    talk.say(book(7))
    resubscribe(talk, BTC)
    [gap, _] = talk.say(book(2))
    assert gap == SequenceGap(type="book", symbol_id=BTC, expected=8, received=2)


@pytest.mark.parametrize("scope", [Scope(TRADES), Scope(Subscription(["book"], symbol_ids=["COINBASE_"]))])
def test_what_cannot_be_taken_out_stays(converse: Converse, scope: Scope) -> None:
    talk = converse(scope=scope).live()
    resubscribe(talk, BTC)
    talk.advance(1.0)
    assert len(talk.hellos()) == 1
    talk.set_scope(*SCOPE)
    assert len(talk.hellos()) == 2, "it was asked for before, and is forgotten"


def test_before_the_hello_and_after_the_end_there_is_nothing_to_begin_anew(converse: Converse) -> None:
    talk = converse(scope=SCOPE).start()
    resubscribe(talk, BTC)
    talk = converse(scope=SCOPE).live()
    talk.close()
    resubscribe(talk, BTC)
    talk.server_closes()
    resubscribe(talk, BTC)
    assert len(symbols(talk)) == 1


def test_another_scope_that_is_wanted_meanwhile_goes_first(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live(*LIMIT)
    resubscribe(talk, BTC)
    resubscribe(talk, BTC)
    talk.set_scope(*SCOPE, TRADES, Subscription(["book"], symbol_ids=["KRAKEN_SPOT_BTC_USD$"]))
    talk.advance(10.5)
    assert len(symbols(talk)[3]) == 4
    talk.advance(10.5)
    assert [len(asked) for asked in symbols(talk)[3:]] == [4, 3, 4]


def test_what_left_the_scope_meanwhile_is_not_asked_for(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live(*LIMIT)
    resubscribe(talk, ETH)
    resubscribe(talk, BTC)
    talk.set_scope(Subscription(["book", "trade"], symbol_ids=[f"{ADA}$", f"{ETH}$"]))
    talk.advance(60.0)
    assert symbols(talk)[3:] == [[ADA, ETH]]


def test_frame_by_frame_it_goes_and_comes_back_too(converse: Converse) -> None:
    kept = Subscription(["trade"], symbol_ids=[f"{ADA}$"])
    talk = converse(scope=Scope(*SCOPE, kept), wire="incremental").live()
    frames = len(talk.hellos())
    resubscribe(talk, BTC)
    changes = [(frame["type"], frame["subscribe_filter_symbol_id"]) for frame in talk.hellos()[frames:]]
    assert changes[0][0] in ("hello", "unsubscribe")
    assert changes[-1][0] in ("hello", "subscribe")
    assert talk.session.scope == Scope(*SCOPE, kept)
    items = talk.say(book(5), book(1, is_snapshot=True))
    assert all(isinstance(item, Message) for item in items)


def test_frame_by_frame_what_a_hello_keeps_goes_on_and_what_left_begins_again(converse: Converse) -> None:
    """Members that share a data type are all asked for again, so a hello begins anew with one of them."""
    kept = Subscription(["trade"], symbol_ids=["KRAKEN_SPOT_BTC_USD$"])
    talk = converse(scope=Scope(*SCOPE, kept), wire="incremental").live()
    talk.say(book(7), book(40, ADA))
    resubscribe(talk, BTC)
    assert [frame["type"] for frame in talk.hellos()[2:]] == ["hello", "subscribe", "hello", "subscribe"]
    items = talk.say(book(8), book(41, ADA), book(1, is_snapshot=True), book(2))
    assert all(isinstance(item, Book) for item in items)
    [gap, _] = talk.say(book(1, ADA, is_snapshot=True))
    assert gap == SequenceGap(type="book", symbol_id=ADA, expected=42, received=1)


def test_frame_by_frame_all_of_a_member_that_is_subscribed_again_begins_again(converse: Converse) -> None:
    books = Subscription(["book"], symbol_ids=[f"{ADA}$", f"{BTC}$"])
    trades = Subscription(["quote"], symbol_ids=[f"{ETH}$"])
    talk = converse(scope=Scope(books, trades), wire="incremental", all_sequence_gaps=True).live()
    quote = '{"symbol_id":"COINBASE_SPOT_ETH_USD","sequence":%d,"type":"quote"}'
    talk.say(book(7), book(40, ADA), quote % 3)
    resubscribe(talk, BTC)
    assert [frame["type"] for frame in talk.hellos()[2:]] == ["unsubscribe", "subscribe"] * 2
    items = talk.say(book(8), book(1, ADA, is_snapshot=True), book(1, is_snapshot=True), book(2, ADA), book(2))
    assert all(isinstance(item, Book) for item in items)
    [gap, _] = talk.say(quote % 1)
    assert gap == SequenceGap(type="quote", symbol_id=ETH, expected=4, received=1)


def test_where_not_all_can_leave_at_once_the_others_follow(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live()
    resubscribe(talk, ADA, BTC, ETH)
    everything = [ADA, BTC, ETH]
    assert symbols(talk)[1:] == [[ETH], everything, [ADA, BTC], everything]


def test_who_asks_for_the_last_one_cancels_nobody(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live(*LIMIT)
    resubscribe(talk, BTC)  # takes what is left of the budget
    resubscribe(talk, ADA, BTC)
    resubscribe(talk, ETH)
    assert len(symbols(talk)) == 3
    talk.advance(21.0)
    everything = [ADA, BTC, ETH]
    assert symbols(talk)[3:] == [[ETH], everything, [ADA, BTC], everything]


def test_what_can_never_leave_keeps_nobody(converse: Converse) -> None:
    talk = converse(scope=SCOPE).live()
    resubscribe(talk, BTC, "KRAKEN_SPOT_BTC_USD")
    assert symbols(talk)[1:] == [[ADA, ETH], [ADA, BTC, ETH]]
