"""ISO 8601 ↔ nanoseconds, with more digits than `datetime` holds."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws.timestamps import format_ns, parse_ns, to_datetime

FIRST_NS: Final = -62_135_596_800 * 10**9  # 0001-01-01T00:00:00Z
LAST_NS: Final = 253_402_300_800 * 10**9 - 1  # the last nanosecond of the year 9999

NOON: Final = 1_600_000_000 * 10**9  # 2020-09-13T12:26:40Z


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00.0000000Z", 0),
        ("2020-09-13T12:26:40Z", NOON),
        ("2020-09-13T12:26:40", NOON),
        ("2020-09-13t12:26:40Z".upper(), NOON),
        ("2020-09-13 12:26:40z", NOON),
        ("2020-09-13T12:26:40.Z", NOON),
        ("2020-09-13T12:26:40.7Z", NOON + 700_000_000),
        ("2020-09-13T12:26:40.1234567Z", NOON + 123_456_700),
        ("2020-09-13T12:26:40.123456789Z", NOON + 123_456_789),
        ("2020-09-13T12:26:40.000000001", NOON + 1),
        ("2020-09-13T14:26:40+02:00", NOON),
        ("2020-09-13T14:26:40+0200", NOON),
        ("2020-09-13T06:56:40.5-05:30", NOON + 500_000_000),
        ("2020-09-13", NOON - (12 * 3600 + 26 * 60 + 40) * 10**9),
        ("2016-12-31T23:59:60Z", 1_483_228_800 * 10**9),
        ("1969-12-31T23:59:59.9999999Z", -100),
        ("1969-12-31T23:59:59Z", -(10**9)),
        ("0001-01-01T00:00:00Z", FIRST_NS),
        ("9999-12-31T23:59:59.999999999Z", LAST_NS),
        ("2024-02-29", 1_709_164_800 * 10**9),
    ],
)
def test_parse(text: str, ns: int) -> None:
    assert parse_ns(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2020-09-13T",
        "2020-09-13T12:26Z",
        "2020-9-13",
        "2020-13-01",
        "2021-02-29",
        "0000-01-01",
        "2020-09-13T24:00:00Z",
        "2020-09-13T12:60:00Z",
        "2020-09-13T12:26:61Z",
        "2020-09-13T12:26:40.1234567890Z",
        "2020-09-13T12:26:40+24:00",
        "2020-09-13T12:26:40+02:60",
        "2020-09-13T12:26:40+02",
        "2020-09-13T12:26:40Z\n",
        " 2020-09-13",
        "2020-09-13Z",
        "+2020-09-13",
        "٢٠٢٠-٠٩-١٣",
        "2020-09-13T12:26:40.٤Z",
    ],
)
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(not an ISO 8601 time|(day|month|hour|minute) |year 0 is out)"):
        parse_ns(text)


@pytest.mark.parametrize("digits", range(10))
def test_zero_to_nine_digits(digits: int) -> None:
    text = format_ns(NOON + 987_654_321, digits)
    assert text == "2020-09-13T12:26:40" + (".987654321"[: digits + 1] if digits else "") + "Z"
    assert parse_ns(text) == NOON + 987_654_321 // 10 ** (9 - digits) * 10 ** (9 - digits)


def test_format_writes_seven_digits_as_the_api_does() -> None:
    assert format_ns(NOON + 123_456_789) == "2020-09-13T12:26:40.1234567Z"
    assert format_ns(-1) == "1969-12-31T23:59:59.9999999Z"
    assert format_ns(FIRST_NS) == "0001-01-01T00:00:00.0000000Z"


@given(st.integers(FIRST_NS, LAST_NS))
def test_nine_digits_lose_nothing(ns: int) -> None:
    assert parse_ns(format_ns(ns, 9)) == ns


@given(st.integers(FIRST_NS, LAST_NS))
def test_seven_digits_cut_off_and_do_not_round(ns: int) -> None:
    assert parse_ns(format_ns(ns)) == ns // 100 * 100


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)),
    st.sampled_from(["+", "-"]),
    st.integers(0, 23),
    st.integers(0, 59),
)
def test_an_offset_means_what_datetime_means_by_it(moment: datetime, sign: str, hours: int, minutes: int) -> None:
    text = f"{moment.isoformat(timespec='microseconds')}{sign}{hours:02}:{minutes:02}"
    assert to_datetime(parse_ns(text)) == datetime.fromisoformat(text)


def test_datetime_is_aware_and_cut_off_at_microseconds() -> None:
    moment = to_datetime(NOON + 123_456_999)
    assert moment == datetime(2020, 9, 13, 12, 26, 40, 123_456, tzinfo=timezone.utc)
    assert moment.utcoffset() is not None
    assert to_datetime(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc)
