"""Each candle once when it closed, the running one apart, and late corrections."""

from __future__ import annotations

from typing import Any

import pytest
from book_messages import SECOND_NS, START_NS, market_messages
from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws import Ohlcv
from coinapi_ws.books import CandleClosed, CandleCorrected, CandleResult, CandleRunning, Candles
from coinapi_ws.exceptions import ConfigurationError
from coinapi_ws.timestamps import format_ns


def candle(start: float, close: float = 1.0, *, symbol_id: str = "X", seconds: int = 60, **fields: Any) -> Ohlcv:
    """The candle of a minute that starts so many seconds after the epoch."""
    times = {"time_period_start": format_ns(int(start * SECOND_NS))}
    times["time_period_end"] = format_ns(int((start + seconds) * SECOND_NS))
    return Ohlcv(**{"symbol_id": symbol_id, "period_id": "1MIN", "price_close": close, **times, **fields})


def running(message: Ohlcv) -> CandleRunning:
    return CandleRunning(candle=message)


def closed(message: Ohlcv, *, is_certain: bool = True) -> CandleClosed:
    return CandleClosed(candle=message, is_certain=is_certain)


def test_a_period_closes_when_the_next_one_comes() -> None:
    candles = Candles()
    first, second, third = candle(0, 1.0), candle(0, 2.0), candle(60, 3.0)
    assert candles.feed(first) == [running(first)]
    assert candles.feed(second) == [running(second)]
    assert candles.feed(third) == [closed(second), running(third)]


def test_a_period_without_trades_between_leaves_no_candle() -> None:
    candles = Candles()
    candles.feed(candle(0))
    assert candles.feed(candle(600)) == [closed(candle(0)), running(candle(600))]


def test_a_period_closes_by_the_timer_once_its_grace_is_over() -> None:
    candles = Candles(grace=2.5)
    assert candles.next_timeout() is None
    candles.feed(candle(0))
    due_ns = candles.next_timeout()
    assert due_ns == 62_500_000_000
    assert candles.handle_timeout(due_ns - 1) == []
    assert candles.handle_timeout(due_ns) == [closed(candle(0))]
    assert candles.handle_timeout(due_ns + SECOND_NS) == []
    assert candles.next_timeout() is None
    assert candles.feed(candle(60)) == [running(candle(60))]


def test_what_comes_within_the_grace_belongs_to_the_candle() -> None:
    candles = Candles(grace=2.5)
    candles.feed(candle(0))
    assert candles.handle_timeout(61 * SECOND_NS) == []
    assert candles.feed(candle(0, 2.0)) == [running(candle(0, 2.0))]
    assert candles.handle_timeout(63 * SECOND_NS) == [closed(candle(0, 2.0))]


def test_symbols_and_periods_have_nothing_to_do_with_each_other() -> None:
    candles = Candles()
    others = [candle(0, period_id="5MIN", seconds=300), candle(0, symbol_id="Y"), candle(0)]
    assert [candles.feed(other) for other in others] == [[running(other)] for other in others]
    assert candles.feed(candle(60, symbol_id="Y")) == [closed(others[1]), running(candle(60, symbol_id="Y"))]
    # The one that ended first comes first.
    assert candles.handle_timeout(10_000 * SECOND_NS) == [
        closed(others[2]),
        closed(candle(60, symbol_id="Y")),
        closed(others[0]),
    ]


def test_without_a_period_id_the_length_tells_the_periods_apart() -> None:
    candles = Candles()
    minute, hour = candle(0, period_id=None), candle(0, period_id=None, seconds=3600)
    assert candles.feed(minute) == [running(minute)]
    assert candles.feed(hour) == [running(hour)]
    assert candles.feed(candle(60, period_id=None))[0] == closed(minute)


def test_a_late_repetition_says_nothing() -> None:
    candles = Candles()
    candles.feed(candle(0, sequence=1))
    candles.feed(candle(60, sequence=2))
    assert candles.feed(candle(0, sequence=3)) == []
    candles.handle_timeout(1000 * SECOND_NS)
    assert candles.feed(candle(60, sequence=4)) == []


@pytest.mark.parametrize("field", ["price_close", "volume_traded", "trades_count", "time_close"])
def test_a_late_correction_is_told_with_what_it_corrects(field: str) -> None:
    candles = Candles()
    before, after = candle(0), candle(0, **{field: "late" if field == "time_close" else 7})
    candles.feed(before)
    candles.feed(candle(60))
    assert candles.feed(after) == [CandleCorrected(candle=after, before=before)]
    assert candles.feed(after) == []
    assert candles.feed(before) == [CandleCorrected(candle=before, before=after)]


def test_after_the_timer_the_same_period_is_corrected_and_does_not_run_again() -> None:
    candles = Candles()
    candles.feed(candle(0))
    candles.handle_timeout(1000 * SECOND_NS)
    assert candles.feed(candle(0, 2.0)) == [CandleCorrected(candle=candle(0, 2.0), before=candle(0))]
    assert candles.next_timeout() is None


def test_an_older_period_that_was_never_there_has_closed_already() -> None:
    candles = Candles()
    candles.feed(candle(60))
    assert candles.feed(candle(0)) == [closed(candle(0))]
    assert candles.feed(candle(0, 2.0)) == [CandleCorrected(candle=candle(0, 2.0), before=candle(0))]
    candles.handle_timeout(1000 * SECOND_NS)
    assert candles.feed(candle(-60)) == [closed(candle(-60))]


def test_what_is_forgotten_is_corrected_without_a_before() -> None:
    candles = Candles(remembered=2)
    for start in range(0, 300, 60):
        candles.feed(candle(start))
    # 240 runs, 180 and 120 are remembered.
    for start in (0, 60):
        assert candles.feed(candle(start)) == [CandleCorrected(candle=candle(start), before=None)]
    assert candles.feed(candle(120)) == []
    assert candles.feed(candle(180, 2.0)) == [CandleCorrected(candle=candle(180, 2.0), before=candle(180))]


def test_a_candle_that_ran_while_the_connection_was_lost_is_not_certain_until_it_comes_again() -> None:
    candles = Candles()
    for symbol_id in "XY":
        candles.feed(candle(0, symbol_id=symbol_id))
    candles.disconnected()
    candles.feed(candle(0, 2.0, symbol_id="Y"))
    assert candles.handle_timeout(1000 * SECOND_NS) == [
        closed(candle(0), is_certain=False),
        closed(candle(0, 2.0, symbol_id="Y")),
    ]
    candles.feed(candle(60))
    assert candles.feed(candle(120))[0] == closed(candle(60))


@pytest.mark.parametrize("field", ["symbol_id", "time_period_start", "time_period_end"])
def test_what_has_no_place_is_counted(field: str) -> None:
    candles = Candles()
    assert candles.feed(candle(0, **{field: None})) == []
    assert candles.feed(candle(0, **{field: None if field == "symbol_id" else "yesterday"})) == []
    assert (candles.unplaced, candles.next_timeout()) == (2, None)


DAY = 24 * 3600


def received(start: int, at: int) -> Ohlcv:
    """The candle of the minute at ``start`` that came ``at`` so many seconds after the epoch."""
    return candle(start, received_ns=at * SECOND_NS)


def test_a_start_that_cannot_have_come_yet_moves_nothing() -> None:
    candles = Candles()
    first, wrong, second = received(0, 10), received(DAY + 121, 120), received(60, 121)
    assert [candles.feed(first), candles.feed(wrong), candles.feed(second)] == [
        [running(first)],
        [],
        [closed(first), running(second)],
    ]
    assert candles.unplaced == 1
    assert candles.next_timeout() == 125 * SECOND_NS


@pytest.mark.parametrize(
    ("start", "at"),
    [(10 * DAY, 10 * DAY + 1), (DAY + 60, 1), (10 * DAY, 0)],
    ids=["a market that was closed", "clocks that differ", "nobody knows when it came"],
)
def test_a_start_that_may_be_true_is_taken(start: int, at: int) -> None:
    candles = Candles()
    candles.feed(received(0, at))
    assert candles.feed(received(start, at)) == [closed(candle(0)), running(candle(start))]
    assert candles.unplaced == 0


def test_a_market_of_the_future_is_taken_by_its_own_time() -> None:
    candles = Candles()
    for start in range(1000 * DAY, 1000 * DAY + 600, 60):
        assert running(candle(start)) in candles.feed(received(start, 1))


@pytest.mark.parametrize("options", [{"grace": -1}, {"grace": float("nan")}, {"remembered": 0}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Candles(**options)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2), st.integers(0, 2000)), max_size=60))
def test_each_period_is_delivered_once(feed: list[tuple[int, int, int]]) -> None:
    """Whatever comes whenever: what is closed does not close again, nor run, and the last word is told."""
    candles, last_closed, said = Candles(remembered=4), dict[str, Ohlcv](), dict[str, Ohlcv]()
    for start, close, now in feed:
        message = candle(start * 60, float(close))
        assert message.time_period_start is not None
        said[message.time_period_start] = message
        for result in [*candles.feed(message), *candles.handle_timeout(now * SECOND_NS)]:
            told = str(result.candle.time_period_start)
            if not isinstance(result, CandleCorrected):
                assert told not in last_closed
            elif result.before is not None:
                assert result.before == last_closed[told]
            if not isinstance(result, CandleRunning):
                last_closed[told] = result.candle
    for result in candles.handle_timeout(10**6 * SECOND_NS):
        assert str(result.candle.time_period_start) not in last_closed
        last_closed[str(result.candle.time_period_start)] = result.candle
    assert last_closed == said


def test_the_candles_of_the_synthetic_market() -> None:
    """Per symbol and period one closed candle for each one that was sent, as it was sent last, and no correction."""
    candles, results, last = Candles(), list[CandleResult](), dict[tuple[Any, ...], Ohlcv]()
    for message in market_messages({"ohlcv"}, 125):
        assert isinstance(message, Ohlcv)
        last[message.symbol_id, message.period_id, message.time_period_start] = message
        results += candles.feed(message)
    results += candles.handle_timeout(START_NS + 10**6 * SECOND_NS)
    delivered = [result.candle for result in results if isinstance(result, CandleClosed)]
    assert {(c.symbol_id, c.period_id, c.time_period_start): c for c in delivered} == last
    assert len(delivered) == len(last) > 500
    assert not any(isinstance(result, CandleCorrected) for result in results)
