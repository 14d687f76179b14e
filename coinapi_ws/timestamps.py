"""ISO 8601 as the API writes it ↔ integer nanoseconds since the epoch.

The API's times have seven fractional digits (100 ns), more than ``datetime`` can hold (vendor_notes.md,
"Times"). Pure functions; any thread.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

NANOSECONDS_PER_SECOND: Final = 1_000_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ISO_8601: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[T ](\d\d:\d\d):(\d\d)(?:\.(\d{0,9}))?(?:[Zz]|([+-])(\d\d):?(\d\d))?)?",
    re.ASCII,
)


def parse_ns(text: str) -> int:
    """Return nanoseconds since 1970-01-01T00:00:00Z.

    Takes 0 to 9 fractional digits, a missing ``Z`` (read as UTC), an offset, a date alone (its
    midnight), and second 60 (the next second). Raises ``ValueError`` for anything else.
    """
    match = _ISO_8601.fullmatch(text)
    if match is None:
        raise ValueError("not an ISO 8601 time")
    day, clock, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    seconds = _minute_to_seconds(day, clock or "00:00") + _up_to(60, second)
    if sign:
        offset = _up_to(23, offset_hours) * 3600 + _up_to(59, offset_minutes) * 60
        seconds += -offset if sign == "+" else offset
    return seconds * NANOSECONDS_PER_SECOND + int((fraction or "").ljust(9, "0"))


def format_ns(ns: int, digits: int = 7) -> str:
    """Write nanoseconds since the epoch as the API does; further digits are cut off, not rounded."""
    seconds, fraction = divmod(ns, NANOSECONDS_PER_SECOND)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    return f"{text}.{fraction:09d}"[: 20 + digits] + "Z" if digits else f"{text}Z"


def to_datetime(ns: int) -> datetime:
    """Return an aware UTC ``datetime``; digits below a microsecond are cut off."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def _up_to(limit: int, digits: str | None) -> int:
    number = int(digits or 0)
    if number > limit:
        raise ValueError("not an ISO 8601 time: out of range")
    return number


@lru_cache(maxsize=1024)
def _minute_to_seconds(day: str, clock: str) -> int:
    # strptime() imports a module when it is first called: a fork in that moment leaves its lock taken in the child.
    year, month, day_of_month = map(int, day.split("-"))
    hour, minute = map(int, clock.split(":"))
    return (datetime(year, month, day_of_month, hour, minute, tzinfo=timezone.utc) - _EPOCH) // timedelta(seconds=1)
