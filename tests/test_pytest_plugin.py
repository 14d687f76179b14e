"""The pytest plugin, in the test suites of others: a pytest of its own for each."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

#: In the settings of a suite, as strict as they can be.
SETTINGS = "[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error\n"


def run_suite(directory: Path, suite: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a test module in a directory of its own."""
    (directory / "pytest.ini").write_text(SETTINGS)
    (directory / "test_suite.py").write_text(suite)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if name not in ("COINAPI_API_KEY", "PYTEST_ADDOPTS")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def passed(finished: subprocess.CompletedProcess[str]) -> str:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_it_is_installed_as_an_entry_point() -> None:
    (entry_point,) = entry_points(group="pytest11", name="coinapi_ws")
    assert entry_point.value == "pytest_coinapi_ws"


def test_a_suite_gets_a_market_by_naming_a_fixture(tmp_path: Path) -> None:
    suite = """
import pytest
from coinapi_ws import Quote, Subscription, connect

WANTED = Subscription(["quote"], symbol_ids=["BITSTAMP_SPOT_BTC_USD$"])

def test_plain(coinapi_simulator):
    assert coinapi_simulator.url.startswith("ws://")
    with connect("any", WANTED, endpoint=coinapi_simulator.url) as stream:
        assert isinstance(stream.recv(timeout=10), Quote)

def test_tls(coinapi_simulator_tls):
    context = coinapi_simulator_tls.client_context
    assert coinapi_simulator_tls.url.startswith("wss://")
    with connect("any", WANTED, endpoint=coinapi_simulator_tls.url, ssl=context) as stream:
        assert isinstance(stream.recv(timeout=10), Quote)

def test_both_at_once(coinapi_simulator, coinapi_simulator_tls):
    assert coinapi_simulator.port != coinapi_simulator_tls.port
"""
    assert "3 passed" in passed(run_suite(tmp_path, suite))


def test_it_imports_nothing_of_the_package_until_a_fixture_is_used(tmp_path: Path) -> None:
    """Or else a measurement of coverage would begin after the import."""
    suite = """
import sys

def ours():
    return {name.partition(".")[0] for name in sys.modules} & {"coinapi_ws", "wsproto", "h11"}

COLLECTED = ours()

def test_before():
    assert COLLECTED == ours() == set()

def test_while(coinapi_simulator):
    assert ours() == {"coinapi_ws", "wsproto", "h11"}
"""
    assert "2 passed" in passed(run_suite(tmp_path, suite))


def test_a_marker_gives_options_and_the_nearest_wins(tmp_path: Path) -> None:
    (tmp_path / "lost.json").write_text('{"scenario": 1, "simulator": {"port": 0, "api_keys": ["right"]}}')
    suite = """
import pytest
from coinapi_ws import AuthenticationError, Subscription, connect

pytestmark = pytest.mark.coinapi_simulator(api_keys=["one"], heartbeat_interval=0.01)
WANTED = Subscription(["connectivity_status"], everything=True)

def receive(simulator, key):
    with connect(key, WANTED, endpoint=simulator.url) as stream:
        return stream.recv(timeout=10)

def test_of_the_module(coinapi_simulator):
    assert receive(coinapi_simulator, "one").type == "heartbeat"
    with pytest.raises(AuthenticationError), connect("two", WANTED, endpoint=coinapi_simulator.url) as stream:
        list(stream)

@pytest.mark.coinapi_simulator(api_keys=["two"])
def test_of_the_function(coinapi_simulator):
    assert receive(coinapi_simulator, "two").type == "heartbeat"

@pytest.mark.coinapi_simulator(scenario="lost.json", api_keys=None)
def test_of_a_scenario_beside_the_file(coinapi_simulator):
    assert receive(coinapi_simulator, "any").type == "heartbeat"
"""
    passed(run_suite(tmp_path, suite))


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        ("coinapi_simulator(3)", "takes options by name"),
        ("coinapi_simulator(sed=3)", "unexpected keyword argument 'sed'"),
        ("coinapi_simulator(scenario='no.json')", "no.json"),
    ],
)
def test_wrong_options_are_told(tmp_path: Path, marker: str, complaint: str) -> None:
    suite = f"import pytest\n\n@pytest.mark.{marker}\ndef test_it(coinapi_simulator):\n    pass\n"
    finished = run_suite(tmp_path, suite)
    assert finished.returncode != 0
    assert complaint in finished.stdout + finished.stderr


def test_the_marker_and_the_fixtures_explain_themselves(tmp_path: Path) -> None:
    assert "@pytest.mark.coinapi_simulator(**options)" in passed(run_suite(tmp_path, "", "--markers"))
    fixtures = run_suite(tmp_path, "", "--fixtures").stdout
    assert "coinapi_simulator_tls" in fixtures
    assert "coinapi-ws[tls]" in fixtures


def test_a_failure_of_the_simulator_fails_the_test(tmp_path: Path) -> None:
    suite = """
import pytest
from coinapi_ws.simulator.market import Market
from coinapi_ws import ConnectionClosed, Subscription, connect

def broken(*_):
    raise ZeroDivisionError("a bug")

def test_it(coinapi_simulator, monkeypatch):
    monkeypatch.setattr(Market, "step", broken)
    with connect("any", Subscription(["trade"], everything=True), endpoint=coinapi_simulator.url) as stream:
        with pytest.raises(ConnectionClosed):
            list(stream)
"""
    finished = run_suite(tmp_path, suite)
    assert finished.returncode == 1
    assert "the simulator's thread died of an exception" in finished.stdout
