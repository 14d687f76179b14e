"""The scope in every state; without one the client is parked."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from client_harness import Life, at, trade
from peers import QUOTES, TRADES, Listener, ServerSide, url_of

from coinapi_ws import (
    ClientState,
    Connected,
    ConnectionGap,
    Reconnecting,
    Scope,
    Trade,
)

LiveIt = Callable[..., Life]
EMPTY = Scope()


def asked(server: ServerSide) -> list[str]:
    """The data types of the next hello."""
    types: list[str] = json.loads(server.event().data)["subscribe_data_type"]
    return types


def test_without_a_scope_there_is_no_connection(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), scope=EMPTY).start()
    assert life.states == [ClientState.PARKED]
    assert life.supervisor.connections() == []
    assert life.supervisor.next_timeout() is None
    life.supervisor.set_scope(Scope(TRADES))
    assert life.state is ClientState.CONNECTING
    assert life.due_in() == 0
    life.advance(0)
    life.live(listener)


def test_an_emptied_scope_closes_and_parks(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    server.text(trade(1))
    life.until(Trade)
    life.supervisor.set_scope(EMPTY)
    closing = life.answer_close(server)
    assert closing.code == 1000
    assert life.state is ClientState.PARKED
    assert life.supervisor.next_timeout() is None
    assert life.of(Reconnecting) == []
    life.clock.now += 300
    life.supervisor.set_scope(Scope(QUOTES))
    life.advance(0)
    assert len(life.made) == 2
    server = life.live(listener)
    server.text(trade(9))
    life.until(Trade)
    # It was asked for, so nothing is missing.
    assert life.of(ConnectionGap) == []
    assert life.states[2:] == [ClientState.PARKED, ClientState.CONNECTING, ClientState.LIVE]


def test_parking_in_the_middle_of_connecting(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    life.supervisor.set_scope(EMPTY)
    assert life.states == [ClientState.CONNECTING, ClientState.PARKED]
    assert life.supervisor.connections() == []
    assert life.of(Reconnecting) == []


def test_parking_before_any_sign_of_life(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.open(listener)
    life.supervisor.set_scope(EMPTY)
    assert life.answer_close(server).code == 1000
    assert life.state is ClientState.PARKED


def test_parking_does_not_shorten_a_wait(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    for _ in range(3):
        life.cut(life.live(listener))
        life.retry()
    life.cut(life.live(listener))
    assert life.due_in() == 4
    life.supervisor.set_scope(EMPTY)
    assert life.state is ClientState.PARKED
    assert life.supervisor.next_timeout() is None
    life.advance(1)
    life.supervisor.set_scope(Scope(QUOTES))
    assert life.state is ClientState.WAITING
    assert life.due_in() == 3
    life.supervisor.set_scope(EMPTY)
    life.advance(10)
    assert len(life.made) == 4
    life.supervisor.set_scope(Scope(QUOTES))
    assert life.state is ClientState.CONNECTING
    life.advance(0)
    life.cut(life.live(listener))
    # Attempts count on.
    assert life.of(Reconnecting)[-1].delay == 8


def test_a_cut_before_parking_is_a_gap_that_nothing_ends(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    server.text(trade(1))
    life.until(Trade)
    life.cut(server)
    life.retry()
    server = life.live(listener)
    life.supervisor.set_scope(EMPTY)
    life.answer_close(server)
    assert [(gap.from_ns, gap.to_ns) for gap in life.of(ConnectionGap)] == [(at(1), None)]
    life.supervisor.set_scope(Scope(TRADES))
    life.advance(0)
    life.cut(life.live(listener))
    life.retry()
    server = life.live(listener)
    server.text(trade(9))
    life.until(Trade)
    # What came before the parking is forgotten.
    assert [(gap.from_ns, gap.to_ns) for gap in life.of(ConnectionGap)][1:] == [(None, at(9))]


def test_subscribing_again_before_the_close_is_answered(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    life.supervisor.set_scope(EMPTY)
    life.supervisor.set_scope(Scope(QUOTES))
    life.answer_close(server)
    assert life.state is ClientState.WAITING
    life.retry()
    server = life.meet(listener)
    server.upgrade()
    life.until(Connected)
    assert asked(server) == ["quote"]


# A scope that changes


def test_while_connecting_the_hello_asks_for_the_new_one(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    life.supervisor.set_scope(Scope(QUOTES))
    server = life.meet(listener)
    server.upgrade()
    life.until(Connected)
    assert asked(server) == ["quote"]


@pytest.mark.parametrize("is_live", [False, True], ids=["open", "live"])
def test_on_a_connection_that_is_up(live_it: LiveIt, listener: Listener, is_live: bool) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener) if is_live else life.open(listener)
    life.supervisor.set_scope(Scope(TRADES, QUOTES))
    assert asked(server) == ["quote", "trade"]
    life.supervisor.set_scope(Scope(TRADES, QUOTES))  # the same: nothing is said
    life.supervisor.set_scope(Scope(QUOTES))
    assert asked(server) == ["quote"]
    assert len(life.made) == 1


def test_while_waiting_the_next_connection_asks(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    life.cut(life.live(listener))
    wait = life.due_in()
    life.supervisor.set_scope(Scope(QUOTES))
    assert (life.state, life.due_in()) == (ClientState.WAITING, wait)
    life.retry()
    server = life.meet(listener)
    server.upgrade()
    life.until(Connected)
    assert asked(server) == ["quote"]


def test_once_closed_no_scope_matters(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    life.supervisor.close()
    life.supervisor.set_scope(Scope(QUOTES))
    assert life.state is ClientState.CLOSING
    life.answer_close(server)
    life.supervisor.set_scope(EMPTY)
    assert life.state is ClientState.CLOSED
    assert life.states == [ClientState.CONNECTING, ClientState.LIVE, ClientState.CLOSING, ClientState.CLOSED]
