from __future__ import annotations

import pytest

from coinapi_ws import Message, Quote, SequenceGap, Trade, Undecodable
from coinapi_ws.cli.summary import Tally, duration_text, latency_ns
from coinapi_ws.events import ConnectionGap
from coinapi_ws.scope import Scope
from coinapi_ws.subscription import Subscription
from coinapi_ws.timestamps import format_ns

NOW_NS = 1_700_000_000_000_000_000


def delayed(ns: int) -> Message:
    return Trade(time_coinapi=format_ns(NOW_NS - ns, 9), received_ns=NOW_NS)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0µs"),
        (12_345, "12.3µs"),
        (-999_400, "-999µs"),
        (999_600, "1ms"),
        (38_615_700, "38.6ms"),
        (999_600_000, "1s"),
        (-12_340_000_000, "-12.3s"),
        (3_599_000_000_000, "3599s"),
    ],
)
def test_durations_have_three_digits_and_a_unit(ns: int, text: str) -> None:
    assert duration_text(ns) == text
    assert len(text) <= 7


def test_latency_is_unknown_without_both_times() -> None:
    assert latency_ns(delayed(1500)) == 1500
    assert latency_ns(delayed(-1500)) == -1500
    assert latency_ns(Trade(received_ns=NOW_NS)) is None
    assert latency_ns(Trade(time_coinapi="2026-01-01T00:00:00Z")) is None
    assert latency_ns(Trade(time_coinapi="noon", received_ns=NOW_NS)) is None
    assert latency_ns(delayed(3600 * 10**9)) is None


def test_summary_counts_and_ranks() -> None:
    tally = Tally()
    for milliseconds in range(1, 101):
        tally.add(delayed(milliseconds * 10**6))
    tally.add(Quote())
    tally.add(SequenceGap(type="book", symbol_id="A", expected=1, received=3))
    tally.add(
        ConnectionGap(from_ns=None, to_ns=1, reason="network", scope=Scope(Subscription(["trade"], symbol_ids=["A_"])))
    )
    tally.add(Undecodable(reason="a binary frame", received_ns=1, payload=b""))
    tally.surplus = 4
    tally.elapsed_seconds = 2.0
    assert tally.messages == 101
    assert tally.lines() == [
        "101 messages in 2.00 s (50 a second), latency p50 50ms, p99 99ms",
        "trade 100, quote 1",
        "2 gaps, 1 undecodable, 4 surplus (book 1, connection 1)",
    ]


def test_summary_of_one_message_and_of_none() -> None:
    tally = Tally(with_latency=False)
    tally.elapsed_seconds = 0.5
    nothing = "0 gaps, 0 undecodable, 0 surplus"
    summary, reason, rest = tally.lines()
    assert (summary, rest) == ("0 messages in 0.50 s (0 a second)", nothing)
    assert "filters that match nothing (ids are in capitals" in reason
    tally.add(delayed(5))
    assert tally.lines() == ["1 message in 0.50 s (2 a second)", "trade 1", nothing]


def test_nothing_is_summed_up_that_never_began() -> None:
    assert Tally().lines() == []
