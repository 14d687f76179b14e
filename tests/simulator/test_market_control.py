"""The synthetic market does what a test tells it: jumps, halts, hurries. Who tells it nothing gets it as before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from coinapi_ws import Subscription, Trade, connect
from coinapi_ws.simulator import Simulator, VirtualClock

BTC = "COINBASE_SPOT_BTC_USD"
ETH = "COINBASE_SPOT_ETH_USD"
BTC_USD = {BTC, "BITSTAMP_SPOT_BTC_USD", "KRAKEN_SPOT_BTC_USD"}

Dial = Callable[..., Any]
Message = dict[str, Any]


def texts(simulator: Simulator, peer: Any) -> list[str]:
    """All texts that the simulator has sent this one client so far."""
    simulator.settle()
    assert peer.websocket.ping().wait(10)
    received = []
    while True:
        try:
            received.append(peer.websocket.recv(timeout=0))
        except TimeoutError:
            return received


def drain(simulator: Simulator, peer: Any) -> list[Message]:
    return [json.loads(text, parse_float=Decimal) for text in texts(simulator, peer)]


def mids(messages: list[Message]) -> dict[str, Decimal]:
    """The last middle of each symbol's quotes."""
    return {m["symbol_id"]: (m["ask_price"] + m["bid_price"]) / 2 for m in messages if m["type"] == "quote"}


@pytest.mark.parametrize("percent", [-10, 7.5])
def test_the_books_of_an_asset_follow_its_jump_trade_by_trade(
    simulator: Simulator, clock: VirtualClock, dial: Dial, percent: float
) -> None:
    peer = dial(simulator.url)
    peer.hello("quote", "trade", "exrate", asset_id=["BTC/USD", "BTC/USDT", "ETH/USD"])
    clock.advance(5)
    before = drain(simulator, peer)
    simulator.move_price("BTC", percent)
    clock.advance(60)
    messages = drain(simulator, peer)
    was, became = mids(before), mids(messages)
    factor = Decimal(str(1 + percent / 100))
    for symbol_id in was:
        expected = was[symbol_id] * (factor if "_BTC_" in symbol_id else 1)
        assert abs(became[symbol_id] / expected - 1) < Decimal("0.005"), symbol_id
    for symbol_id in BTC_USD:
        # Downwards the bids are taken, one by one; nothing is jumped over.
        trades = [m for m in messages if (m["type"], m.get("symbol_id")) == ("trade", symbol_id)]
        sides = Counter(m["taker_side"] for m in trades)
        assert (sides["SELL"] > sides["BUY"]) == (percent < 0)
        prices = [trade["price"] for trade in trades]
        assert len(trades) > 50
        assert min(prices) < was[symbol_id] * max(1, factor)
        assert max(prices) > was[symbol_id] * min(1, factor)
    rate = [m["rate"] for m in messages if (m["type"], m.get("asset_id_base")) == ("exrate", "BTC")][-1]
    assert abs(rate / (was[BTC] * factor) - 1) < Decimal("0.005")


def test_a_jump_comes_also_before_the_market_began(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    with Simulator(seed=1, clock=clock) as other:
        simulator.move_price("ADA", 50)
        received = []
        for each in (simulator, other):
            peer = dial(each.url)
            peer.hello("asset", asset_id=["ADA"])
            received.append(drain(each, peer)[0]["price_usd"])
        assert received[0] == received[1] * Decimal("1.5")


def test_a_price_stays_within_a_quarter_and_four_times_of_where_it_began(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    def price() -> Decimal:
        peer = dial(simulator.url)
        peer.hello("asset", asset_id=["ADA"])
        found: Decimal = drain(simulator, peer)[0]["price_usd"]
        return found

    began = price()
    simulator.move_price("ADA", -99.9)
    assert price() == began / 4
    simulator.move_price("ADA", 10_000)
    assert price() == began * 4
    # The market lives with it.
    clock.advance(30)
    assert began * 3 < price() <= began * 4


def test_in_a_halted_symbol_nothing_happens_until_it_is_resumed(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("trade", "quote", "book", "book5", "book20", "book_l3", symbol_id=[BTC + "$", ETH + "$"])
    clock.advance(3)
    drain(simulator, peer)
    simulator.halt_trading([BTC])
    clock.advance(10)
    halted = drain(simulator, peer)
    kinds = {symbol_id: {m["type"] for m in halted if m["symbol_id"] == symbol_id} for symbol_id in (BTC, ETH)}
    # The book is published each second, the same each time.
    assert kinds == {BTC: {"book20"}, ETH: {"trade", "quote", "book", "book5", "book20", "book_l3"}}
    books = [m for m in halted if m["symbol_id"] == BTC]
    assert len(books) == 10
    assert len({(str(m["asks"]), str(m["bids"]), m["time_exchange"]) for m in books}) == 1
    simulator.resume_trading([BTC])
    clock.advance(3)
    resumed = [m for m in drain(simulator, peer) if (m["type"], m["symbol_id"]) == ("book", BTC)]
    # What a client has of the book is still true: no snapshot, and the numbers run on.
    assert len(resumed) > 5
    assert not any(m["is_snapshot"] for m in resumed)
    numbers = [m["sequence"] for m in resumed]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_halt_may_name_one_symbol_or_several_and_may_be_said_twice(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("quote", exchange_id=["COINBASE"])
    simulator.halt_trading([BTC])
    simulator.halt_trading((BTC, ETH))
    clock.advance(5)
    assert {m["symbol_id"] for m in drain(simulator, peer)} == {"COINBASE_SPOT_ADA_USD"}
    simulator.resume_trading({BTC})
    simulator.resume_trading({BTC})
    clock.advance(5)
    assert {m["symbol_id"] for m in drain(simulator, peer)} == {"COINBASE_SPOT_ADA_USD", BTC}


@pytest.mark.parametrize("factor", [10, 0.1])
def test_activity_makes_the_market_so_many_times_as_busy_and_leaves_periods_alone(dial: Dial, factor: float) -> None:
    counts = []
    for activity in (1, factor):
        clock = VirtualClock()
        with Simulator(seed=1, clock=clock) as simulator:
            peer = dial(simulator.url)
            peer.hello("book", "exrate", "book20", asset_id=["BTC/USD"])
            simulator.settle()
            simulator.set_activity(activity)
            clock.advance(60)
            counts.append(Counter(m["type"] for m in drain(simulator, peer)))
    usual, changed = counts
    assert 0.8 < changed["book"] / usual["book"] / factor < 1.2
    assert changed["exrate"] == usual["exrate"] == 600
    assert changed["book20"] == usual["book20"]


@pytest.mark.parametrize("activity", [5, 0.5])
def test_the_option_activity_is_that_of_the_method_from_the_beginning(
    dial: Dial, tmp_path: Path, activity: float
) -> None:
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps({"scenario": 1, "simulator": {"seed": 1, "activity": activity}}))

    def told(clock: VirtualClock) -> Simulator:
        simulator = Simulator(seed=1, clock=clock)
        simulator.set_activity(activity)
        return simulator

    makers: list[Callable[[VirtualClock], Simulator]] = [
        told,
        lambda clock: Simulator(seed=1, clock=clock, activity=activity),
        lambda clock: Simulator.from_scenario(path, clock=clock),
        lambda clock: Simulator(seed=1, clock=clock),
        lambda clock: Simulator.from_scenario(path, clock=clock, activity=1),
    ]
    received = []
    for make in makers:
        clock = VirtualClock()
        with make(clock) as simulator:
            peer = dial(simulator.url)
            peer.hello("trade", "book", symbol_id=[BTC + "$"])
            clock.advance(20)
            received.append(texts(simulator, peer))
    changed, usual = received[0], received[3]
    assert received == [changed, changed, changed, usual, usual]
    assert 0.7 < len(changed) / len(usual) / activity < 1.3


def test_a_market_that_had_almost_stopped_is_back_at_once(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("trade", "quote", asset_id=["BTC/USD"])
    simulator.settle()
    simulator.set_activity(0.001)
    clock.advance(30)
    assert len(drain(simulator, peer)) < 10
    simulator.set_activity(1)
    clock.advance(2)
    assert {m["symbol_id"] for m in drain(simulator, peer)} == BTC_USD


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda s: s.move_price("XBT", 1), "there is no asset 'XBT'; there are BTC, ETH, ADA, USD, USDT"),
        (lambda s: s.move_price("BTC", -100), "percent must be above -100"),
        (lambda s: s.move_price("BTC", float("nan")), "percent must be above -100"),
        (lambda s: s.move_price("BTC", float("inf")), "percent must be above -100"),
        (lambda s: s.move_price("BTC", 10_001), "percent must be above -100, and 10000 at most"),
        (lambda s: s.halt_trading(["BTC"]), "unknown symbols: BTC; there are BITSTAMP_SPOT_BTC_USD, "),
        (lambda s: s.halt_trading(["COINBASE_"]), "unknown symbols: COINBASE_; there are"),
        (lambda s: s.halt_trading([BTC + "$"]), rf"unknown symbols: {BTC}\$; there are"),
        (lambda s: s.resume_trading([BTC, "NOBODY"]), "unknown symbols: NOBODY; there are"),
        (lambda s: s.set_activity(0), "factor must be between 0.001 and 1000"),
        (lambda s: s.set_activity(1001), "factor must be between 0.001 and 1000"),
        (lambda s: s.set_activity(float("nan")), "factor must be between 0.001 and 1000"),
    ],
)
def test_what_the_market_does_not_have_is_refused_and_nothing_breaks(
    simulator: Simulator, clock: VirtualClock, dial: Dial, act: Callable[[Simulator], None], match: str
) -> None:
    peer = dial(simulator.url)
    peer.hello("trade", symbol_id=[BTC + "$"])
    simulator.settle()
    with pytest.raises(ValueError, match=match):
        act(simulator)
    clock.advance(5)
    assert drain(simulator, peer) != []


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.move_price("BTC", 1),
        lambda s: s.halt_trading([BTC]),
        lambda s: s.resume_trading([BTC]),
        lambda s: s.set_activity(2),
    ],
)
def test_a_closed_simulator_says_so(act: Callable[[Simulator], None]) -> None:
    with Simulator() as simulator:
        pass
    with pytest.raises(RuntimeError, match="the simulator is closed"):
        act(simulator)


# Who does nothing gets the market of the seed.


def nothing(simulator: Simulator) -> None:
    pass


def what_changes_nothing(simulator: Simulator) -> None:
    simulator.move_price("BTC", 0)
    simulator.set_activity(1)
    simulator.resume_trading([BTC])
    simulator.halt_trading([])


def faults_without_effect_here(simulator: Simulator) -> None:
    faults = simulator.faults
    faults.skip_sequence(connection=99)
    faults.lose(1.0, connection=99)
    faults.lose(0.5, types=["book5"], symbol_ids=[BTC])
    faults.lose(0.5, types=["trade"], symbol_ids=[])
    faults.stale_frames(3)
    faults.deltas_first(0)
    faults.refuse_upgrades()
    faults.clear()


def market_texts(dial: Dial, act: Callable[[Simulator], None], crowd: int = 0, **options: Any) -> list[str]:
    clock = VirtualClock()
    with Simulator(seed=9, clock=clock, **options) as simulator:
        peer = dial(simulator.url)
        simulator.settle()
        act(simulator)
        peer.hello("trade", "quote", "book", "book_l3", "ohlcv", "symbol", asset_id=["BTC", "ETH", "ADA"])
        for _ in range(crowd):
            other = dial(simulator.url)
            other.hello("book5", "exrate", asset_id=["ETH"])
        simulator.settle()
        clock.advance(5)
        act(simulator)
        clock.advance(5)
        received = texts(simulator, peer)
    assert len(received) > 500
    return received


@pytest.mark.parametrize(
    ("act", "options"),
    [
        (what_changes_nothing, {}),
        (faults_without_effect_here, {}),
        (nothing, {"crowd": 2}),
        (nothing, {"market_start_ns": VirtualClock().time_ns()}),
        (nothing, {"start_time_ns": VirtualClock().time_ns()}),
        (nothing, {"hello_limit": (5, 5.0), "upgrade_limit": (5, 5.0), "connection_limit": 5, "buffer_limit": 99_999}),
        (nothing, {"timeline": [{"at": 3, "do": "move_price", "asset_id": "BTC", "percent": 0}]}),
        (nothing, {"timeline": [{"at": 3, "do": "lose", "rate": 0.5, "connection": 2}]}),
    ],
)
def test_a_market_in_which_nothing_was_changed_is_that_of_its_seed(
    dial: Dial, act: Callable[[Simulator], None], options: dict[str, Any]
) -> None:
    assert market_texts(dial, act, **options) == market_texts(dial, nothing)


def test_the_same_changes_at_the_same_time_give_the_same_market(dial: Dial) -> None:
    def act(simulator: Simulator) -> None:
        simulator.move_price("BTC", -3)
        simulator.halt_trading([ETH])
        simulator.set_activity(2)

    changed = market_texts(dial, act)
    assert changed == market_texts(dial, act) != market_texts(dial, nothing)


def test_our_client_sees_a_crash_and_reports_nothing_wrong(
    simulator: Simulator, clock: VirtualClock, canary_key: str
) -> None:
    trades = Subscription(["trade"], symbol_ids=[BTC + "$"])
    with connect(canary_key, trades, endpoint=simulator.url, request_heartbeats=False) as stream:
        clock.advance(1)
        simulator.move_price("BTC", -20)
        clock.advance(60)
        simulator.faults.close(1000)
        items = list(stream)
        assert all(isinstance(item, Trade) for item in items)
        assert items[-1].price < items[0].price * 0.82
        assert stream.stats().jumps == {}
