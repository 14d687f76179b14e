"""Classes of ends, and back-off; hazards F5 and F6."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coinapi_ws import Backoff
from coinapi_ws.events import Cause
from coinapi_ws.exceptions import (
    AuthenticationError,
    CoinAPIError,
    HandshakeRejected,
    PermissionDenied,
    RateLimited,
    ServerRejected,
)
from coinapi_ws.protocol.reconnect import FINAL_CAUSES, classify_close, classify_error, classify_status

ALMOST_ONE = 1 - 2**-53


@pytest.mark.parametrize(
    ("text", "cause", "error_type"),
    [
        ("Invalid API key", Cause.CREDENTIALS, AuthenticationError),
        ("INVALID API KEY.", Cause.CREDENTIALS, AuthenticationError),
        ("Unauthorized", Cause.CREDENTIALS, AuthenticationError),
        ("Forbidden - Your API key don't have privileges", Cause.CREDENTIALS, PermissionDenied),
        ("Your key lacks privileges", Cause.CREDENTIALS, PermissionDenied),
        ("Reached maximum allowed buffered messages for this connection.", Cause.OVERFLOW, ServerRejected),
        ("Too many connections", Cause.RATE_LIMIT, RateLimited),
        ("subscribe_update_limit_ms_quote is invalid", Cause.SCOPE, ServerRejected),
        ("Connection limit reached", Cause.RATE_LIMIT, RateLimited),
        ("Subscribed data type 'x' is invalid", Cause.SCOPE, ServerRejected),
        ("subscribe first", Cause.SCOPE, ServerRejected),
        ("a filter is needed", Cause.SCOPE, ServerRejected),
        ("Hello message is malformed", Cause.SCOPE, ServerRejected),
        ("no such symbol", Cause.SCOPE, ServerRejected),
        ("Internal error", Cause.UNKNOWN, ServerRejected),
        ("", Cause.UNKNOWN, ServerRejected),
    ],
)
def test_errors_by_their_text(text: str, cause: Cause, error_type: type[CoinAPIError]) -> None:
    assert classify_error(text) == (cause, error_type)


def test_every_error_among_the_samples_has_a_class(shared: Path) -> None:
    lines = (shared / "recordings" / "sample_frames.jsonl").read_text().splitlines()
    frames = [json.loads(json.loads(line)["frame"]) for line in lines]
    causes = {classify_error(frame["message"])[0] for frame in frames if frame["type"] == "error"}
    assert causes == {Cause.SCOPE, Cause.CREDENTIALS, Cause.OVERFLOW}


@pytest.mark.parametrize(
    ("status", "cause", "error_type"),
    [
        (200, Cause.UNKNOWN, HandshakeRejected),
        (302, Cause.UNKNOWN, HandshakeRejected),
        (401, Cause.CREDENTIALS, AuthenticationError),
        (403, Cause.CREDENTIALS, PermissionDenied),
        (429, Cause.RATE_LIMIT, RateLimited),
        (499, Cause.UNKNOWN, HandshakeRejected),
        (500, Cause.NETWORK, HandshakeRejected),
        (550, Cause.NETWORK, HandshakeRejected),
    ],
)
def test_refusals_by_their_status(status: int, cause: Cause, error_type: type[CoinAPIError]) -> None:
    assert classify_status(status) == (cause, error_type)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (1000, Cause.UNKNOWN),
        (1001, Cause.NOTICE),
        (1002, Cause.PROTOCOL),
        (1003, Cause.PROTOCOL),
        (1005, Cause.UNKNOWN),
        (1006, Cause.NETWORK),
        (1007, Cause.PROTOCOL),
        (1009, Cause.PROTOCOL),
        (1011, Cause.UNKNOWN),
        (1012, Cause.NOTICE),
        (1013, Cause.NOTICE),
        (4000, Cause.UNKNOWN),
    ],
)
def test_closes_by_their_code(code: int, cause: Cause) -> None:
    assert classify_close(code, notified=False) is cause
    assert classify_close(code, notified=True) is Cause.NOTICE


def test_what_another_try_cannot_mend() -> None:
    assert {Cause.CREDENTIALS, Cause.SCOPE, Cause.LOCAL} == FINAL_CAUSES


# Back-off


def ceilings(backoff: Backoff, attempts: int) -> list[float]:
    return [backoff.delay(0.0, ALMOST_ONE) for _ in range(attempts)]


def test_f5_the_first_reconnect_is_already_delayed() -> None:
    assert Backoff(initial=2.0).delay(0.0, 0.5) == 1.0


def test_f5_waits_grow_to_the_maximum() -> None:
    assert ceilings(Backoff(), 9) == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])


def test_f5_settings_of_ones_own() -> None:
    backoff = Backoff(initial=0.5, factor=3, maximum=5)
    assert ceilings(backoff, 5) == pytest.approx([0.5, 1.5, 4.5, 5, 5])
    assert backoff.attempts == 5


@settings(max_examples=100)
@given(randoms=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_f5_every_wait_is_that_part_of_its_ceiling(randoms: list[float]) -> None:
    backoff = Backoff()
    for attempt, random in enumerate(randoms):
        ceiling = min(60.0, 2.0**attempt)
        wait = backoff.delay(0.0, random)
        assert wait == random * ceiling
        assert 0 <= wait < ceiling or random == 0


def test_f5_waits_are_spread_over_the_whole_range() -> None:
    waits = []
    for step in range(1000):
        backoff = Backoff()
        for _ in range(4):
            backoff.delay(0.0, 0.0)
        waits.append(backoff.delay(0.0, step / 1000))
    assert min(waits) == 0
    assert max(waits) == pytest.approx(16, rel=0.01)
    assert sum(waits) / 1000 == pytest.approx(8, rel=0.01)


def test_f5_accepted_and_dropped_at_once_ten_times_keeps_growing() -> None:
    backoff = Backoff(maximum=10_000)
    now, waits = 0.0, []
    for _ in range(10):
        backoff.live(now)
        now += 59.9
        waits.append(backoff.delay(now, ALMOST_ONE))
    assert waits == pytest.approx([2**attempt for attempt in range(10)])


def test_f5_a_healthy_period_begins_anew() -> None:
    backoff = Backoff()
    ceilings(backoff, 5)
    backoff.live(100.0)
    assert backoff.delay(160.0, ALMOST_ONE) == pytest.approx(1)
    assert backoff.attempts == 1
    assert backoff.delay(1000.0, ALMOST_ONE) == pytest.approx(2), "health does not count twice"


def test_f5_time_without_life_is_no_health() -> None:
    backoff = Backoff()
    ceilings(backoff, 3)
    assert backoff.delay(1e6, ALMOST_ONE) == pytest.approx(8)


def test_f5_the_server_may_ask_for_more() -> None:
    assert Backoff().delay(0.0, 0.0, retry_after=30.0) == 30.0
    assert Backoff().delay(0.0, 0.5, retry_after=30.0) == 30.5


@pytest.mark.parametrize(("code", "least"), [(1012, 10.0), (1013, 10.0), (1000, 0.0), (1001, 0.0), (1006, 0.0)])
def test_f5_codes_that_ask_for_patience(code: int, least: float) -> None:
    assert Backoff().delay(0.0, 0.0, code=code) == least
    assert Backoff(slow_minimum=3).delay(0.0, 0.0, code=code, retry_after=1.0) == (3.0 if least else 1.0)
    assert Backoff().delay(0.0, 0.0, code=code, retry_after=20.0) == 20.0


@pytest.mark.parametrize("factor", [1.0, 2.0, 1e6, 1e300])
def test_f6_a_thousand_failures(factor: float) -> None:
    backoff = Backoff(factor=factor)
    waits = ceilings(backoff, 1000)
    assert backoff.attempts == 1000
    assert waits[-1] == pytest.approx(1 if factor == 1 else 60)
