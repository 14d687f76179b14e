"""The interpreter ends by itself and in silence, whatever was left of a stream (F13, F14)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from coinapi_ws.simulator import Simulator, VirtualClock

HEAD = """
import sys
from coinapi_ws import Subscription, connect
stream = connect(None, Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"]), endpoint=sys.argv[1])
"""


def finished(program: str, url: str, key: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", HEAD + program, url],
        env={**os.environ, "COINAPI_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("program", ["stream.close()", "with stream: pass", "stream.close(); stream.close()"])
def test_after_use_in_order(canary_key: str, program: str) -> None:
    with Simulator(clock=VirtualClock()) as simulator:
        child = finished(program, simulator.url, canary_key)
        assert (child.returncode, child.stdout, child.stderr) == (0, "", "")
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]


@pytest.mark.parametrize("program", ["", "del stream", "sys.exit(3)"])
def test_with_a_stream_left_open(canary_key: str, assert_no_canary: Callable[[object], None], program: str) -> None:
    """Python may say that a socket was not closed; nothing else is said, and nothing hangs."""
    with Simulator(clock=VirtualClock()) as simulator:
        child = finished(program, simulator.url, canary_key)
    assert child.returncode == (3 if "exit" in program else 0)
    assert child.stdout == ""
    assert child.stderr.count("Traceback") <= 1
    assert "Traceback" not in child.stderr or "ResourceWarning: unclosed <socket" in child.stderr
    assert_no_canary(child.stderr)


def test_an_error_that_nobody_caught(canary_key: str, assert_no_canary: Callable[[object], None]) -> None:
    with Simulator(clock=VirtualClock(), api_keys=[]) as simulator:
        child = finished("with stream: list(stream)", simulator.url, canary_key)
    assert child.returncode == 1
    assert "AuthenticationError: the server sent an error and closed" in child.stderr
    assert_no_canary(child.stderr)
