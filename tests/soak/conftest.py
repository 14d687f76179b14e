"""How long the soak tests run, by which seed, and what they report at the end."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable, Iterator
from typing import Final, TextIO

import pytest

#: Environment variables.
SECONDS_VARIABLE: Final = "COINAPI_WS_SOAK_SECONDS"
SEED_VARIABLE: Final = "COINAPI_WS_SOAK_SEED"

#: A run that hangs at its end shows where every thread stands, and ends.
_PATIENCE_SECONDS: Final = 300.0

_REPORT: Final = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ.get(SEED_VARIABLE, "1"))


@pytest.fixture
def lasting(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[float], float]]:
    """A function from the seconds that a run lasts by itself to those that it is to last.

    From then on it also takes the place of pytest's ``faulthandler_timeout``, which is shorter than a run.
    """
    with capfd.disabled():
        errors: TextIO = os.fdopen(os.dup(2), "w")

    def chosen(seconds: float) -> float:
        seconds = float(os.environ.get(SECONDS_VARIABLE, seconds))
        faulthandler.dump_traceback_later(seconds + _PATIENCE_SECONDS, exit=True, file=errors)
        return seconds

    with errors:
        yield chosen
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """A function that adds a line to what is shown at the end, whatever the outcome."""
    return request.config.stash.setdefault(_REPORT, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_REPORT, []):
        terminalreporter.write_line(line)
