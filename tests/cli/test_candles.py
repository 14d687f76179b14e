from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from coinapi_ws import ConnectionGap, Ohlcv, Scope, Secret, Subscription
from coinapi_ws.books import CandleClosed, CandleCorrected, CandleRunning
from coinapi_ws.cli.candles import HEADER, CandleFeed, candle_json, candle_line, candle_state
from coinapi_ws.simulator import Simulator, VirtualClock
from coinapi_ws.timestamps import format_ns

START_NS = 1_767_225_600_000_000_000
MINUTE_NS = 60 * 10**9
SYMBOL = "X_SPOT_A_B"


def ohlcv(period: int = 0, close: str = "1.50", *, at: float = 0.0, **fields: Any) -> Ohlcv:
    """The candle of a minute, whose last trade was so many seconds after its start."""
    start_ns = START_NS + period * MINUTE_NS
    known = {
        "symbol_id": SYMBOL,
        "period_id": "1MIN",
        "time_period_start": format_ns(start_ns),
        "time_period_end": format_ns(start_ns + MINUTE_NS),
        "time_close": format_ns(start_ns + round(at * 10**9)),
        "price_open": Decimal("1.00"),
        "price_high": Decimal("2"),
        "price_low": Decimal("0.5"),
        "price_close": Decimal(close),
        "volume_traded": Decimal("1E-8"),
        "trades_count": 5,
    }
    return Ohlcv(**{**known, **fields})


def frame(period: int, close: str) -> str:
    start_ns = START_NS + period * MINUTE_NS
    return (
        f'{{"type":"ohlcv","symbol_id":"{SYMBOL}","period_id":"1MIN","time_period_start":"{format_ns(start_ns)}",'
        f'"time_period_end":"{format_ns(start_ns + MINUTE_NS)}","price_close":{close},"trades_count":1}}'
    )


def test_a_line_has_the_digits_of_the_wire_below_its_header() -> None:
    line = candle_line(CandleClosed(candle=ohlcv(), is_certain=True))
    assert line.split() == f"2026-01-01T00:00:00Z 1MIN {SYMBOL} closed 1.00 2 0.5 1.50 0.00000001 5".split()
    assert len(HEADER) == len(line)


def test_a_line_of_a_candle_that_says_nothing() -> None:
    line = candle_line(CandleRunning(candle=Ohlcv()))
    assert line.split() == ["-", "-", "-", "running", "-", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (CandleClosed(candle=ohlcv(), is_certain=True), "closed"),
        (CandleClosed(candle=ohlcv(), is_certain=False), "uncertain"),
        (CandleCorrected(candle=ohlcv(), before=ohlcv()), "corrected"),
        (CandleRunning(candle=ohlcv()), "running"),
    ],
)
def test_states(result, state: str) -> None:
    assert candle_state(result) == state
    assert candle_line(result).split()[3] == state
    assert json.loads(candle_json(result))["state"] == state


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (ohlcv(close="1.40", trades_count=4), "before: close 1.40, trades 4"),
        (ohlcv(time_open="2026-01-01T00:00:01Z"), "before: the same values"),
        (None, "before: not known"),
    ],
)
def test_a_correction_says_what_it_corrects(before: Ohlcv | None, told: str) -> None:
    line = candle_line(CandleCorrected(candle=ohlcv(), before=before))
    assert line.split()[3] == "corrected"
    assert line.endswith(told)


def test_json_is_the_object_of_the_server_digit_for_digit(canary_key: str, assert_no_canary) -> None:
    result = CandleCorrected(candle=ohlcv(raw='{"close":\r\n1.500}'), before=ohlcv(raw=f'{{"key":"{canary_key}"}}'))
    line = candle_json(result, Secret(canary_key).redact)
    assert line == '{"state":"corrected","candle":{"close":  1.500},"before":{"key":"***"}}'
    assert_no_canary(line)
    assert json.loads(candle_json(CandleCorrected(candle=ohlcv(raw="{}"), before=None)))["before"] is None


def states(feed: CandleFeed, *items: tuple[Any, float]) -> list[list[str]]:
    return [[candle_state(result) for result in feed.take(item, now)] for item, now in items]


def test_a_candle_closes_when_the_next_one_comes_or_five_seconds_after_its_end() -> None:
    told = states(CandleFeed(), (ohlcv(at=50), 1000.0), (ohlcv(1, at=1), 1011.0), (None, 1074.9), (None, 1075.1))
    assert told == [[], ["closed"], [], ["closed"]]


def test_the_clock_is_the_servers_and_never_ahead_of_it() -> None:
    """An old message does not put the clock back, and one that says nothing leaves it alone."""
    feed = CandleFeed()
    assert states(feed, (None, 0.0), (ohlcv(at=50), 1000.0), (ohlcv(at=30), 1005.0)) == [[], [], []]
    silent = ohlcv(time_close=None, time_coinapi=None)
    assert states(feed, (silent, 1006.0), (None, 1014.9), (None, 1015.1)) == [[], [], ["closed"]]


def test_a_candle_that_says_when_it_was_published_tells_the_time() -> None:
    told = states(CandleFeed(), (ohlcv(at=0, time_coinapi=format_ns(START_NS + MINUTE_NS)), 0.0), (None, 5.1))
    assert told == [[], ["closed"]]


def test_a_recording_has_no_clock() -> None:
    assert states(CandleFeed(by_clock=False), (ohlcv(at=50), 0.0), (None, 1e6)) == [[], []]


def test_after_a_cut_a_candle_is_uncertain() -> None:
    gap = ConnectionGap(from_ns=1, to_ns=2, reason="", scope=Scope(Subscription(["ohlcv"], everything=True)))
    assert states(CandleFeed(), (ohlcv(at=50), 0.0), (gap, 1.0), (ohlcv(1), 10.0)) == [[], [], ["uncertain"]]


def test_running_candles_on_demand() -> None:
    feed = CandleFeed(with_running=True)
    assert states(feed, (ohlcv(at=1), 0.0), (ohlcv(1), 59.0)) == [["running"], ["closed", "running"]]


def replay(run, recording, *options: str):
    path = recording(frame(0, "1.10"), frame(0, "1.20"), frame(1, "1.3"), frame(0, "1.25"), frame(2, "1.4"))
    return run("candles", SYMBOL, "--recording", path, *options)


def test_a_recording_as_text(run, recording) -> None:
    code, out, err = replay(run, recording)
    assert code == 0
    assert [(line.split()[0], line.split()[3], line.split()[7]) for line in out.splitlines()] == [
        ("2026-01-01T00:00:00Z", "closed", "1.20"),
        ("2026-01-01T00:00:00Z", "corrected", "1.25"),
        ("2026-01-01T00:01:00Z", "closed", "1.3"),
    ]
    assert "before: close 1.20" in out
    assert err.startswith("coinapi-ws: 5 messages in ")
    assert len(err.splitlines()) == 3


def test_a_recording_as_json(run, recording) -> None:
    lines = replay(run, recording, "--format", "json").lines
    assert lines[0] == f'{{"state":"closed","candle":{frame(0, "1.20")}}}'
    assert lines[1] == f'{{"state":"corrected","candle":{frame(0, "1.25")},"before":{frame(0, "1.20")}}}'


def test_running_ones_and_the_count(run, recording) -> None:
    lines = replay(run, recording, "--running", "--count", "4").lines
    assert [line.split()[3] for line in lines] == ["running", "running", "closed", "running"]


def test_in_a_recording_the_next_candle_alone_closes_one(run, recording) -> None:
    """Of a slow replay or a fast one, our clock says nothing."""
    late = frame(0, "1.10")[:-1] + f',"time_coinapi":"{format_ns(START_NS + 2 * MINUTE_NS)}"}}'
    result = run("candles", SYMBOL, "--recording", recording(late, frame(0, "1.20"), frame(1, "1.3")))
    assert [line.split()[3:8:4] for line in result.lines] == [["closed", "1.20"]]


def test_another_period_is_not_asked_for(run, recording) -> None:
    assert replay(run, recording, "--period", "5MIN").out == ""


@contextmanager
def minutes_passing(server: Simulator, clock: VirtualClock) -> Iterator[None]:
    """Let a second pass again and again, from the first hello on."""
    is_over = threading.Event()

    def advance() -> None:
        while not is_over.wait(0.001):
            if server.received:
                clock.advance(1)

    thread = threading.Thread(target=advance)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_minutes_of_the_synthetic_market_close_once_each(run) -> None:
    clock = VirtualClock()
    # Without Pings, to which minutes that pass in no time would leave no time for an answer.
    with Simulator(clock=clock, ping_interval=86_400) as server, minutes_passing(server, clock):
        result = run(
            *("candles", "KRAKEN_SPOT_BTC_USD", "COINBASE_SPOT_BTC_USD$"), "--endpoint", server.url, "--count", "6"
        )
    assert result.code == 0
    assert {line.split()[3] for line in result.lines} == {"closed"}
    assert len({tuple(line.split()[:3]) for line in result.lines}) == 6
    (hello,) = (json.loads(text) for text in server.received)
    assert hello["subscribe_filter_period_id"] == ["1MIN"]
    assert set(hello["subscribe_filter_symbol_id"]) == {"KRAKEN_SPOT_BTC_USD$", "COINBASE_SPOT_BTC_USD$"}
