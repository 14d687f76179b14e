"""The fixtures that coinapi_ws brings for its users' tests: `coinapi_simulator` and `coinapi_simulator_tls`.

pytest loads this at its every start, before coverage is measured. So it stands beside the package, whose import it
would else bring along, and imports it where a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from coinapi_ws.simulator import Simulator

__all__ = ["coinapi_simulator", "coinapi_simulator_tls"]

_MARKER = "coinapi_simulator"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(**options): options of coinapi_ws.simulator.Simulator for the fixtures of this test; "
        "scenario=FILE, relative to the test's file, for those of a scenario",
    )


@pytest.fixture
def coinapi_simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A running `coinapi_ws.simulator.Simulator`, one for each test.

    The marker ``@pytest.mark.coinapi_simulator(seed=3, api_keys=["…"])`` gives it options, those of a function
    before those of its class and module; ``scenario="FILE"``, relative to the test's file, those of a scenario.
    """
    with _running(request) as simulator:
        yield simulator


@pytest.fixture
def coinapi_simulator_tls(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """The same with TLS, which its ``client_context`` trusts. Needs the extra ``coinapi-ws[tls]``."""
    with _running(request, tls=True) as simulator:
        yield simulator


@contextmanager
def _running(request: pytest.FixtureRequest, **fixed: Any) -> Iterator[Simulator]:
    from coinapi_ws.simulator import Simulator

    options: dict[str, Any] = {}
    for marker in request.node.iter_markers(_MARKER):
        if marker.args:
            raise pytest.UsageError(f"the marker {_MARKER} takes options by name: {_MARKER}(seed=3)")
        options = {**marker.kwargs, **options}
    options.update(fixed)
    scenario = options.pop("scenario", None)
    if scenario is None:
        simulator = Simulator(**options)
    else:
        simulator = Simulator.from_scenario(request.path.parent / scenario, **options)
    with simulator:
        yield simulator
