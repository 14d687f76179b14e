"""Budgets: never more than the limit in any window, and what headers may say."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coinapi_ws.protocol.pacing import (
    DEFAULT_LIMIT,
    DEFAULT_WINDOW_SECONDS,
    HELLO,
    MARGIN_SECONDS,
    UPGRADE,
    Pacer,
    can_wait,
    retry_after_seconds,
)

HOST = "example.test"
#: So long one counts, where no header says otherwise.
COUNTED = DEFAULT_WINDOW_SECONDS + MARGIN_SECONDS
PREFIXES = {UPGRADE: "x-wsrequestsperiplimit", HELLO: "x-wshelloperiplimit"}


def allowed(pacer: Pacer, now: float, kind: str = HELLO, *, host: str = HOST, is_vendor: bool = False) -> float:
    return pacer.next_allowed(host, kind, now, is_vendor=is_vendor)


def record(pacer: Pacer, now: float, kind: str = HELLO, *, is_vendor: bool = False) -> None:
    pacer.record(HOST, kind, now, is_vendor=is_vendor)


def headers(kind: str = HELLO, **values: object) -> list[tuple[str, str]]:
    return [(f"{PREFIXES[kind]}-{name}", str(value)) for name, value in values.items()]


@pytest.mark.parametrize("kind", [UPGRADE, HELLO])
def test_the_vendors_numbers_are_the_default_for_its_hosts(kind: str) -> None:
    pacer = Pacer()
    for number in range(DEFAULT_LIMIT):
        assert allowed(pacer, number * 0.1, kind, is_vendor=True) == number * 0.1
        record(pacer, number * 0.1, kind, is_vendor=True)
    assert allowed(pacer, 1.0, kind, is_vendor=True) == COUNTED
    assert allowed(pacer, COUNTED, kind, is_vendor=True) == COUNTED


def test_several_may_go_together_once_there_is_room_for_all_of_them() -> None:
    pacer = Pacer()
    pacer.observe(HOST, headers(limit=3, windowsizems=10_000), 0.0)

    def together(count: int, now: float) -> float:
        return pacer.next_allowed(HOST, HELLO, now, is_vendor=False, count=count)

    assert together(3, 0.0) == together(9, 0.0) == 0.0
    record(pacer, 1.0)
    assert (together(2, 2.0), together(3, 2.0), together(9, 2.0)) == (2.0, 11.5, 11.5)
    record(pacer, 2.0)
    record(pacer, 3.0)
    assert [together(count, 4.0) for count in (1, 2, 3, 4)] == [11.5, 12.5, 13.5, 13.5]


def test_what_is_taken_is_counted_and_what_has_to_wait_is_not() -> None:
    pacer = Pacer()
    for _ in range(DEFAULT_LIMIT):
        assert pacer.take(HOST, UPGRADE, 1.0, is_vendor=True) == 1.0
    for _ in range(DEFAULT_LIMIT):
        assert pacer.take(HOST, UPGRADE, 2.0, is_vendor=True) == 1.0 + COUNTED
    assert allowed(pacer, 1.0 + COUNTED, UPGRADE) == 1.0 + COUNTED


def test_several_are_taken_together_or_not_at_all() -> None:
    pacer = Pacer()
    pacer.observe(HOST, headers(limit=3, windowsizems=10_000), 0.0)

    def take(count: int, now: float) -> float:
        return pacer.take(HOST, HELLO, now, is_vendor=False, count=count)

    assert take(2, 1.0) == 1.0
    assert take(2, 2.0) == 11.5
    assert take(1, 2.0) == 2.0, "what was refused took nothing"
    assert take(1, 3.0) == 11.5
    # More than the limit never go together.
    assert [pacer.together(HOST, HELLO, count, is_vendor=False) for count in (1, 3, 4)] == [1, 3, 3]
    assert take(4, 20.0) == 20.0
    assert [pacer.take("other.test", HELLO, 1.0, is_vendor=False, count=1000) for _ in range(2)] == [1.0, 1.0]


def test_other_hosts_are_not_limited() -> None:
    pacer = Pacer()
    for _ in range(1000):
        record(pacer, 1.0)
    assert allowed(pacer, 1.0) == 1.0


def test_budgets_are_apart_by_host_and_kind() -> None:
    pacer = Pacer()
    pacer.observe(HOST, headers(UPGRADE, retryafterms=5000), 0.0)
    assert allowed(pacer, 0.0, UPGRADE) == 5.0
    assert allowed(pacer, 0.0, HELLO) == 0.0
    assert allowed(pacer, 0.0, UPGRADE, host="other.test") == 0.0


@settings(max_examples=60)
@given(
    limit=st.integers(1, 5),
    window_ms=st.integers(1, 20_000),
    steps=st.lists(st.one_of(st.floats(0, 30), st.just(0.0)), min_size=1, max_size=60),
)
def test_no_window_ever_holds_more_than_the_limit(limit: int, window_ms: int, steps: list[float]) -> None:
    pacer = Pacer()
    pacer.observe(HOST, headers(limit=limit, windowsizems=window_ms), 0.0)
    now, sent = 0.0, []
    for step in steps:
        now += step
        at = allowed(pacer, now)
        assert at >= now
        if at > now and step < 10:
            continue  # not sent at all
        now = at
        assert allowed(pacer, now) == now, "what was promised holds"
        record(pacer, now)
        sent.append(now)
    counted = window_ms / 1000 + MARGIN_SECONDS
    for first, beyond in zip(sent, sent[limit:], strict=False):
        assert beyond >= first + counted


def test_what_was_late_on_its_way_is_still_a_window_before_what_was_not() -> None:
    """The server counts from when it came, half a second after it left."""
    pacer, window = Pacer(), 2.0
    pacer.observe(HOST, headers(limit=1, windowsizems=2000), 0.0)
    arrivals = []
    now = 0.0
    for late in (MARGIN_SECONDS, 0.0, MARGIN_SECONDS, MARGIN_SECONDS, 0.0):
        now = allowed(pacer, now)
        record(pacer, now)
        arrivals.append(now + late)
    assert all(after >= before + window for before, after in pairwise(arrivals))


@settings(max_examples=30)
@given(limit=st.integers(1, 5), sends=st.integers(1, 40))
def test_no_one_waits_longer_than_needed(limit: int, sends: int) -> None:
    pacer = Pacer()
    pacer.observe(HOST, headers(limit=limit, windowsizems=1500), 0.0)
    now = 0.0
    for _ in range(sends):
        now = allowed(pacer, now)
        record(pacer, now)
    assert now == (sends - 1) // limit * (1.5 + MARGIN_SECONDS)


def test_headers_replace_the_defaults() -> None:
    pacer = Pacer()
    record(pacer, 0.0, is_vendor=True)
    pacer.observe(HOST, headers(limit=2, windowsizems=500), 0.0)
    record(pacer, 0.1, is_vendor=True)
    assert allowed(pacer, 0.1, is_vendor=True) == 0.5 + MARGIN_SECONDS


def test_a_limit_that_shrinks_counts_what_was_sent_before() -> None:
    pacer = Pacer()
    for number in range(5):
        record(pacer, float(number), is_vendor=True)
    pacer.observe(HOST, headers(limit=2), 5.0)
    assert allowed(pacer, 5.0, is_vendor=True) == 3.0 + COUNTED


def test_a_limit_without_a_window_keeps_the_window() -> None:
    pacer = Pacer()
    pacer.observe(HOST, headers(limit=1), 0.0)
    record(pacer, 0.0)
    assert allowed(pacer, 1.0) == COUNTED


def test_nothing_remaining_blocks_for_a_window() -> None:
    pacer = Pacer()
    pacer.observe(HOST, headers(limit=10, windowsizems=4000, remaining=0), 100.0)
    assert allowed(pacer, 100.0) == 104.0
    assert allowed(pacer, 105.0) == 105.0


def test_something_remaining_does_not_block() -> None:
    pacer = Pacer()
    pacer.observe(HOST, headers(limit=10, remaining=1), 100.0)
    assert allowed(pacer, 100.0) == 100.0


def test_retry_after_goes_before_remaining_and_the_later_one_counts() -> None:
    pacer = Pacer()
    pacer.observe(HOST, headers(limit=10, windowsizems=60_000, remaining=0, retryafterms=3000), 100.0)
    assert allowed(pacer, 100.0) == 103.0
    pacer.observe(HOST, headers(retryafterms=500), 100.0)
    assert allowed(pacer, 100.0) == 103.0


@pytest.mark.parametrize(
    "garbage",
    ["", "-1", "+1", "1.5", "1e3", "ten", "\u0663", "\u00b2", " 1", "0", "9" * 10, "9" * 5000, "3600001000", "nan"],
)
def test_headers_that_are_nonsense_are_ignored(garbage: str) -> None:
    for name in ("limit", "windowsizems", "remaining", "retryafterms"):
        if (name, garbage) == ("remaining", "0"):
            continue  # has a meaning
        pacer = Pacer()
        sane = {"limit": 1, "windowsizems": 2000}
        pacer.observe(HOST, headers(**sane), 0.0)
        pacer.observe(HOST, headers(**{name: garbage}), 0.0)
        record(pacer, 0.0)
        assert allowed(pacer, 0.0) == 2.0 + MARGIN_SECONDS


@pytest.mark.parametrize("remaining", [[], [("x-wshelloperiplimit-remaining", "0")], [("x-other-limit", "1")]])
def test_without_a_limit_nothing_is_learned(remaining: list[tuple[str, str]]) -> None:
    pacer = Pacer()
    pacer.observe(HOST, remaining, 0.0)
    record(pacer, 0.0)
    assert allowed(pacer, 0.0) == 0.0


def test_memory_is_bounded_by_the_window() -> None:
    pacer = Pacer()
    for number in range(10_000):
        record(pacer, float(number), is_vendor=True)
    [budget] = pacer._budgets.values()
    assert len(budget.taken) <= COUNTED + 1


def test_who_can_wait_for_a_window_can_wait_for_the_margin_too() -> None:
    assert can_wait(10.0 + MARGIN_SECONDS, 10.0)
    assert not can_wait(10.1 + MARGIN_SECONDS, 10.0)
    assert can_wait(1e9, None)


@pytest.mark.parametrize(
    ("response", "seconds"),
    [
        ([], None),
        ([("retry-after", "7")], 7.0),
        ([("retry-after", "0")], 0.0),
        ([("retry-after", "3601")], None),
        ([("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], None),
        ([("x-wsrequestsperiplimit-retryafterms", "1500")], 1.5),
        ([("x-wshelloperiplimit-retryafterms", "1500"), ("retry-after", "1")], 1.5),
        ([("x-wshelloperiplimit-retryafterms", "soon"), ("retry-after", "1")], 1.0),
        ([("x-retry-after", "7")], None),
    ],
)
def test_the_longest_wait_that_the_headers_ask_for(response: list[tuple[str, str]], seconds: float | None) -> None:
    assert retry_after_seconds(response) == seconds


def test_who_was_told_to_wait_blocks_all_that_share_the_budget() -> None:
    pacer = Pacer()
    pacer.block(HOST, UPGRADE, 130.0)
    assert allowed(pacer, 100.0, UPGRADE) == 130.0
    assert pacer.take(HOST, UPGRADE, 100.0, is_vendor=False) == 130.0
    assert pacer.take(HOST, UPGRADE, 130.0, is_vendor=False) == 130.0
    assert allowed(pacer, 100.0, HELLO) == 100.0
    assert allowed(pacer, 100.0, UPGRADE, host="other.test") == 100.0


def test_the_longest_block_counts_and_the_budget_beside_it() -> None:
    pacer = Pacer()
    pacer.block(HOST, UPGRADE, 130.0)
    pacer.block(HOST, UPGRADE, 120.0)
    assert allowed(pacer, 100.0, UPGRADE) == 130.0
    for _ in range(DEFAULT_LIMIT):
        record(pacer, 125.0, UPGRADE, is_vendor=True)
    assert allowed(pacer, 126.0, UPGRADE, is_vendor=True) == 125.0 + COUNTED
