"""A fork in the middle of a connection: the parent's goes on, the child's is dead (T7)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coinapi_ws.simulator import Simulator, VirtualClock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

PROGRAM = """
import os, sys, warnings
from coinapi_ws import (
    ConnectionClosed, Options, Scope, SelectorConnection, SessionState, Subscription, connect, endpoint_from
)

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, of which there are none here
TRADES = Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])

idle = SelectorConnection(Options(endpoint=endpoint_from(sys.argv[1])), Scope(TRADES))
with connect(None, TRADES, endpoint=sys.argv[1], heartbeats=False) as stream:
    descriptor = stream._connection.fileno()
    child = os.fork()
    if child == 0:
        assert stream.state is SessionState.CLOSED
        assert stream._connection.fileno() == -1
        try:
            os.fstat(descriptor)
        except OSError:
            pass
        else:
            raise AssertionError("the descriptor is open in the child")
        try:
            next(stream)
        except ConnectionClosed as closed:
            assert "forked" in str(closed), closed
        else:
            raise AssertionError("the child reads")
        stream.close()
        assert stream.disconnected.initiator == "client"
        # What had not begun is anyone's.
        idle.start()
        assert idle.fileno() != -1
        idle.abandon()
        # A new one is the child's own.
        with connect(None, TRADES, endpoint=sys.argv[1], heartbeats=False) as own:
            assert own.state is SessionState.OPEN
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print("child is gone", flush=True)
    sys.stdin.readline()
    print(type(stream.recv(timeout=10)).__name__, flush=True)
print(stream.disconnected.clean, flush=True)
"""


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_the_parent_s_connection_outlives_its_child_t7(tls: bool, tmp_path: Path, canary_key: str) -> None:
    """T7, F16: the child closes its descriptors and sends nothing, neither a Close frame nor a shutdown."""
    virtual = VirtualClock()
    with Simulator(clock=virtual, tls=tls, api_keys=[canary_key]) as simulator:
        program = PROGRAM
        if tls:
            (tmp_path / "ca.pem").write_bytes(simulator.ca_pem)
            trusting = f"endpoint=sys.argv[1], ssl=ssl.create_default_context(cafile={str(tmp_path / 'ca.pem')!r})"
            program = "import ssl\n" + PROGRAM.replace("endpoint=sys.argv[1]", trusting)
        child = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", program, simulator.url],
            env={**os.environ, "COINAPI_API_KEY": canary_key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stderr is not None
            first = child.stdout.readline()
            assert first == "child is gone\n", child.stderr.read()
            simulator.settle()
            # The child's own connection was closed in order, and nothing else was said.
            assert simulator.closes_received == [(1000, "")]
            virtual.advance(60)
            output, errors = child.communicate("go on\n", timeout=60)
            assert (output, errors) == ("Trade\nTrue\n", "")
        assert child.returncode == 0
        simulator.settle()
        assert simulator.closes_received == [(1000, ""), (1000, "")]
