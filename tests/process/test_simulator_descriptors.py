"""A simulator that runs out of descriptors serves on, in a process of its own since the limit is the process's."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="this system has no limit on descriptors to set")

PROGRAM = """
import resource, socket
from coinapi_ws import Subscription, connect
from coinapi_ws.simulator import Simulator

wanted = Subscription(["trade"], symbol_ids=["COINBASE_"])
with Simulator() as market, connect(None, wanted, endpoint=market.url) as first:
    first.recv(timeout=10)
    with socket.socket() as waiting:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 1, hard))
        waiting.connect(("127.0.0.1", market.port))
        for _ in range(10):
            first.recv(timeout=10)
        market.settle()
        print(market.connections)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with connect(None, wanted, endpoint=market.url) as second:
            second.recv(timeout=10)
            print(market.connections)
"""


def test_who_is_there_is_served_on_and_who_waits_comes_later() -> None:
    finished = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.split() == ["1", "2"]
