"""From when to when nothing came: exactly one ConnectionGap for each cut."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from client_harness import HEARTBEAT, Life, at, trade
from peers import QUOTES, TRADES, Listener, ServerSide, url_of

from coinapi_ws import Cause, ClientState, ConnectionGap, Disconnected, Quote, Scope, Trade

LiveIt = Callable[..., Life]


def say(life: Life, server: ServerSide, *texts: str) -> None:
    for text in texts:
        server.text(text)
    life.until(Trade, len(texts))


def gaps(life: Life) -> list[tuple[int | None, int | None]]:
    return [(gap.from_ns, gap.to_ns) for gap in life.of(ConnectionGap)]


def test_a_cut_is_one_gap_from_the_last_message_to_the_next_one(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    say(life, server, trade(1), trade(2))
    ended = life.cut(server)
    life.retry()
    server = life.live(listener)
    assert gaps(life) == []  # a heartbeat says nothing of the market
    say(life, server, trade(8), trade(9))
    [gap] = life.of(ConnectionGap)
    assert (gap.from_ns, gap.to_ns) == (at(2), at(8))
    assert (gap.reason, gap.scope) == (ended.summary(), Scope(TRADES))
    after = life.items.index(gap) + 1
    assert (life.items[after].time_coinapi_ns, life.items[after + 1].time_coinapi_ns) == (at(8), at(9))
    assert life.statistics.gaps == {"ConnectionGap": 1}


def test_every_cut_has_its_own(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    for second in (1, 2, 3):
        server = life.live(listener)
        say(life, server, trade(second))
        life.cut(server)
        life.retry()
    say(life, life.live(listener), trade(4))
    assert gaps(life) == [(at(1), at(2)), (at(2), at(3)), (at(3), at(4))]


def test_attempts_that_fail_meanwhile_make_no_more_of_it(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    say(life, server, trade(1))
    first = life.cut(server)
    life.retry()
    life.cut(life.meet(listener))  # before the upgrade
    life.retry()
    life.cut(life.open(listener))  # after the hello
    life.retry()
    life.cut(life.live(listener))  # live, but without any data
    life.retry()
    say(life, life.live(listener), trade(7))
    assert gaps(life) == [(at(1), at(7))]
    assert life.of(ConnectionGap)[0].reason == first.summary()


def test_without_a_message_before_it_begins_at_none(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    life.cut(life.open(listener))
    life.retry()
    say(life, life.live(listener), trade(3))
    assert gaps(life) == [(None, at(3))]


def test_where_no_hello_was_sent_nothing_is_missing(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    life.cut(life.meet(listener))
    life.retry()
    say(life, life.live(listener), trade(3))
    assert gaps(life) == []


def test_a_close_in_order_is_a_cut_as_well(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    say(life, server, trade(1))
    life.hang_up(server, 1001)
    life.retry()
    say(life, life.live(listener), trade(2))
    assert gaps(life) == [(at(1), at(2))]


@pytest.mark.parametrize("when", ["waiting", "connecting", "live"])
def test_closed_before_anything_came_again_it_ends_at_none(live_it: LiveIt, listener: Listener, when: str) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    say(life, server, trade(1))
    life.cut(server)
    if when != "waiting":
        life.retry()
    if when == "live":
        server = life.live(listener)
    life.supervisor.close()
    if when == "live":
        life.answer_close(server)
    assert life.state is ClientState.CLOSED
    assert gaps(life) == [(at(1), None)]


def test_given_up_it_ends_at_none(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), max_attempts=1).start()
    server = life.live(listener)
    say(life, server, trade(1))
    life.cut(server)
    life.retry()
    life.cut(life.meet(listener))
    assert life.state is ClientState.CLOSED
    assert gaps(life) == [(at(1), None)]


def test_a_refusal_is_no_cut_but_ends_none_either(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    say(life, server, trade(1))
    assert life.refuse(server, "Invalid API key").cause is Cause.CREDENTIALS
    assert gaps(life) == [(at(1), None)]  # what was live is cut by that too
    life = live_it(url_of(listener)).start()
    assert life.refuse(life.open(listener), "Invalid API key").cause is Cause.CREDENTIALS
    assert gaps(life) == []
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    say(life, server, trade(1))
    life.cut(server)
    life.retry()
    life.refuse(life.open(listener), "Invalid data type")
    assert gaps(life) == [(at(1), None)]


def test_closing_without_a_cut_leaves_no_gap(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    say(life, server, trade(1))
    life.supervisor.close()
    life.answer_close(server)
    assert gaps(life) == []
    assert isinstance(life.items[-1], Disconnected)


def test_what_comes_with_the_close_is_before_the_gap(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    server.text(trade(5))
    server.socket.close()
    life.ended()
    life.retry()
    say(life, life.live(listener), trade(6))
    assert gaps(life) == [(at(5), at(6))]


def test_it_counts_all_types_together(live_it: LiveIt, listener: Listener) -> None:
    """The scope is one; what each symbol missed lies within."""
    life = live_it(url_of(listener), scope=Scope(TRADES, QUOTES)).start()
    server = life.live(listener)
    say(life, server, trade(1))
    life.cut(server)
    life.supervisor.set_scope(Scope(QUOTES))
    life.retry()
    server = life.live(listener)
    server.text(HEARTBEAT)
    server.text(json.dumps({"symbol_id": "X", "time_coinapi": "2026-01-01T00:00:04.0000000Z", "type": "quote"}))
    life.until(Quote)
    assert gaps(life) == [(at(1), at(4))]
    # What was asked for when it was cut.
    assert life.of(ConnectionGap)[0].scope == Scope(TRADES, QUOTES)
    assert [type(item) for item in life.items[-2:]] == [ConnectionGap, Quote]
