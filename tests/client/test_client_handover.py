"""A second connection takes over from one that the server announced to close: two simulators, one market."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from client_harness import BTC, START_NS, Life
from market_watch import Books, repeated, times, uuids
from peers import QUOTES, TRADES

from coinapi_ws import (
    Cause,
    ClientState,
    ConnectionGap,
    Disconnected,
    ExchangeRate,
    HandedOver,
    HandoverFailed,
    Live,
    Quote,
    Reconnecting,
    ReconnectNotice,
    Scope,
    SequenceGap,
    SessionState,
    Subscription,
    Trade,
)
from coinapi_ws.simulator import Simulator, VirtualClock

LiveIt = Callable[..., Life]

ETH = "COINBASE_SPOT_ETH_USD"
ALL = Scope(
    Subscription(
        ["trade", "quote", "book", "book_l3", "book5", "ohlcv"],
        symbol_ids=[f"{BTC}$", f"{ETH}$"],
        period_ids=["1SEC"],
    )
)
STEP_SECONDS = 0.25


class Pair:
    """Two simulators of one market, a client of the first, and a watcher of the second that sees it all."""

    def __init__(self, live_it: LiveIt, virtual: VirtualClock, first: Simulator, second: Simulator) -> None:
        self.virtual = virtual
        self.first = first
        self.second = second
        self._live_it = live_it
        self.watcher = live_it(second.url, scope=ALL, options={"numbers": "decimal"}).start()

    def client(self, **options: object) -> Life:
        settings = {"scope": ALL, "on_reconnect_notice": "handover", "options": {"numbers": "decimal"}, **options}
        self.life = self._live_it(self.first.url, **settings).start()
        self.settle()
        return self.life

    def settle(self) -> None:
        for simulator in (self.first, self.second):
            self.life.settle(simulator)
        self.watcher.settle(self.second)

    def go(self, seconds: float) -> None:
        """Let the market and the client live for so long."""
        for _ in range(round(seconds / STEP_SECONDS)):
            self.virtual.advance(STEP_SECONDS)
            self.watcher.advance(STEP_SECONDS)
            self.life.advance(STEP_SECONDS)
            self.settle()

    def until(self, kind: type, seconds: float = 90) -> None:
        wanted = len(self.life.of(kind)) + 1
        for _ in range(round(seconds / STEP_SECONDS)):
            self.go(STEP_SECONDS)
            if len(self.life.of(kind)) >= wanted:
                return
        raise AssertionError(f"no {kind.__name__} within {seconds} s")

    def compare(self) -> None:
        """What the client was told is what there was."""
        told, known = self.life.items, self.watcher.items
        # What is later may still be on its way to one of them.
        by_ns = self.virtual.time_ns() - 3_000_000_000
        begin = uuids(known).index(uuids(told)[0])
        assert sorted(uuids(told, by_ns)) == sorted(uuids(known, by_ns)[begin:])
        assert len(set(uuids(told))) == len(uuids(told))
        assert repeated(told, "quote", "book5") == []
        for data_type in ("quote", "book", "book_l3", "book5"):
            for moments in times(told, data_type).values():
                assert moments == sorted(moments)
        for data_type in ("book", "book_l3"):
            shown = Books(told, data_type)
            assert len(shown.moments[BTC]) > 20
            assert shown.are_as_in(Books(known, data_type))


@pytest.fixture
def pair(live_it: LiveIt, virtual: VirtualClock, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Market Data, or with the parameter what it says."""
    product: dict[str, Any] = getattr(request, "param", {})

    def same_market() -> Simulator:
        return Simulator(seed=7, clock=virtual, market_start_ns=START_NS, **product)

    with same_market() as first, same_market() as second:
        yield Pair(live_it, virtual, first, second)


@pytest.mark.parametrize(("first_lags", "second_lags"), [(0, 0), (0, 0.7), (0.7, 0), (0, 2.5)])
def test_nothing_is_missing_and_nothing_comes_twice(pair: Pair, first_lags: float, second_lags: float) -> None:
    pair.first.faults.delay(first_lags)
    life = pair.client()
    pair.second.faults.delay(second_lags)
    pair.go(5)
    pair.first.announce_reconnect(6, successor=pair.second)
    pair.until(HandedOver)
    pair.go(40)
    pair.compare()
    [handed_over] = life.of(HandedOver)
    assert handed_over.duplicates > 10
    assert life.of(ConnectionGap) == life.of(HandoverFailed) == life.of(Reconnecting) == []
    assert [gap for gap in life.of(SequenceGap) if gap.type in ("book", "book_l3")] == []
    assert life.state is ClientState.LIVE
    assert life.states == [ClientState.CONNECTING, ClientState.LIVE]
    assert [ended.cause for ended in life.of(Disconnected)] == [Cause.NOTICE]
    assert len(life.supervisor.connections()) == 1
    assert (pair.first.connections, pair.second.connections) == (0, 2)


@pytest.mark.parametrize("pair", [{"direct_source": "COINBASE"}], indirect=True)
def test_ws_ds_is_handed_over_as_any_other(pair: Pair) -> None:
    life = pair.client()
    pair.go(5)
    pair.first.announce_reconnect(6, successor=pair.second)
    pair.until(HandedOver)
    pair.go(20)
    pair.compare()
    assert life.of(ConnectionGap) == life.of(HandoverFailed) == []
    assert "$" not in "".join(pair.first.received)


def test_rates_are_handed_over_and_come_once(live_it: LiveIt, virtual: VirtualClock) -> None:
    options: dict[str, Any] = {"seed": 7, "clock": virtual, "market_start_ns": START_NS, "exchange_rates": True}
    with Simulator(**options) as first, Simulator(**options) as second:
        life = live_it(
            first.endpoint, scope=Scope(Subscription((), asset_ids=["BTC/USD"])), on_reconnect_notice="handover"
        ).start()

        def go(seconds: float) -> None:
            for _ in range(round(seconds / STEP_SECONDS)):
                virtual.advance(STEP_SECONDS)
                life.advance(STEP_SECONDS)
                life.settle(first)
                life.settle(second)

        life.settle(first)
        go(5)
        first.announce_reconnect(6, successor=second)
        go(20)
        assert len(life.of(HandedOver)) == 1
        moments = [rate.time_ns for rate in life.of(ExchangeRate)]
    assert moments == sorted(set(moments))
    assert max(after - before for before, after in pairwise(moments)) < 1_500_000_000
    assert life.of(ConnectionGap) == life.of(HandoverFailed) == []


def test_it_is_told_in_order(pair: Pair) -> None:
    life = pair.client()
    pair.go(5)
    pair.first.announce_reconnect(6, successor=pair.second)
    pair.go(2)
    assert [connection.state for connection in life.supervisor.connections()] == [SessionState.LIVE] * 2
    pair.until(HandedOver)
    of_interest = (ReconnectNotice, Live, Disconnected, HandedOver)
    assert [type(item) for item in life.items if isinstance(item, of_interest)] == [
        Live,
        ReconnectNotice,
        Live,
        Disconnected,
        HandedOver,
    ]
    assert life.of(HandedOver)[0].pairs_left == 0


def test_what_the_second_has_not_shown_is_told(pair: Pair) -> None:
    life = pair.client(scope=Scope(TRADES, QUOTES))
    pair.go(5)
    for simulator in (pair.first, pair.second):
        simulator.halt_trading([BTC])
    pair.first.announce_reconnect(3, successor=pair.second)
    pair.until(HandedOver)
    assert life.of(HandedOver)[0].pairs_left == 2


def test_each_notice_is_an_occasion(pair: Pair) -> None:
    life = pair.client()
    pair.go(2)
    pair.first.announce_reconnect(3, successor=pair.second)
    pair.until(HandedOver)
    pair.go(2)
    # The next one while the repetitions of the last are still looked for.
    pair.second.announce_reconnect(3)
    pair.until(HandedOver)
    pair.go(40)
    assert len(life.of(HandedOver)) == 2
    assert life.of(ConnectionGap) == []
    assert len(set(uuids(life.items))) == len(uuids(life.items))


def test_a_successor_that_is_refused(live_it: LiveIt, virtual: VirtualClock) -> None:
    with Simulator(seed=7, clock=virtual, connection_limit=1) as only:
        life = live_it(only.url, on_reconnect_notice="handover").start()
        life.settle(only)
        virtual.advance(2)
        life.settle(only)
        assert life.state is ClientState.LIVE
        only.announce_reconnect(5)
        life.until(HandoverFailed)
        assert "429" in life.of(HandoverFailed)[0].reason
        # The announced close is waited for, as with "wait".
        assert life.state is ClientState.LIVE
        assert len(life.supervisor.connections()) == 1
        virtual.advance(5)
        life.until(Reconnecting)
        assert life.of(Reconnecting)[0].cause is Cause.NOTICE
        life.retry()
        life.advance(1)  # as the refusal had asked for
        life.settle(only)
        virtual.advance(2)
        life.until(Live)
        assert len(life.of(ConnectionGap)) == 1
        assert life.of(HandedOver) == []


def test_the_second_is_cut_after_books_came_from_it(pair: Pair) -> None:
    """Some books build on the second by then, so only a new beginning makes them whole."""
    life = pair.client()
    pair.go(3)
    pair.first.announce_reconnect(20, successor=pair.second)
    pair.go(4)
    assert pair.second.faults.drop(connection=2) == 1
    pair.until(HandoverFailed)
    pair.until(Live)
    pair.go(5)
    assert [event.cause for event in life.of(Reconnecting)] == [Cause.LOCAL]
    assert len(life.of(ConnectionGap)) == 1
    again = max(position for position, item in enumerate(life.items) if isinstance(item, Live))
    shown = Books(life.items[again:], "book")
    assert len(shown.moments[BTC]) > 10
    assert shown.are_as_in(Books(pair.watcher.items, "book"))


def test_a_change_of_the_scope_goes_to_both(pair: Pair) -> None:
    life = pair.client(scope=Scope(TRADES))
    pair.go(2)
    pair.first.announce_reconnect(6, successor=pair.second)
    pair.go(2)
    before = len(pair.first.received), len(pair.second.received)
    life.supervisor.set_scope(Scope(TRADES, QUOTES))
    pair.go(2)
    assert (len(pair.first.received), len(pair.second.received)) == (before[0] + 1, before[1] + 1)
    assert life.of(Quote)
    pair.until(HandedOver)
    pair.go(5)
    assert repeated(life.items, "quote") == []
    assert len(set(uuids(life.items))) == len(uuids(life.items))
    assert len(life.of(Quote)) > 10


@pytest.mark.parametrize("policy", ["wait", "now"])
def test_nobody_takes_over_unless_it_is_asked_for(pair: Pair, policy: str) -> None:
    life = pair.client(on_reconnect_notice=policy)
    pair.go(2)
    pair.first.announce_reconnect(3, successor=pair.second)
    pair.go(2)
    assert len(life.supervisor.connections()) <= 1
    pair.until(Trade)
    assert life.of(HandedOver) == []
