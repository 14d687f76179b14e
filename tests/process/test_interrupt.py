"""Ctrl-C in a process of its own: it is a KeyboardInterrupt, soon, wherever the stream stands (F17, F18)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from peers import Listener, accept, listening, url_of

from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Simulator, VirtualClock

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")

#: What Python and a close handshake may take on a machine that has other things to do.
SOON_SECONDS = 3.0
TIMEOUT_SECONDS = 120.0

HEAD = """
import sys, time
from coinapi_ws import Subscription, connect
TRADES = Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
"""

WAITING = """
def wait():
    with connect(None, TRADES, endpoint=sys.argv[1], request_heartbeats=False) as stream:
        print("ready", flush=True)
        {call}
"""

CONNECTING = """
def wait():
    print("ready", flush=True)
    connect(None, TRADES, endpoint=sys.argv[1])
"""

TAIL = """
try:
    wait()
except KeyboardInterrupt as interrupt:
    # The monotonic clock is the machine's, so the test can compare.
    print(time.monotonic(), flush=True)
    raise
"""


@contextmanager
def running(program: str, url: str, key: str) -> Iterator[subprocess.Popen[str]]:
    # Not measured: an interrupt inside of coverage's tracer leaves its lock taken, and the process waits for ever.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    child = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, url],
        env={**environment, "COINAPI_API_KEY": key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdout, child.stderr):
            assert pipe is not None
            pipe.close()


def interrupt(child: subprocess.Popen[str], assert_no_canary: Callable[[object], None]) -> None:
    """Send SIGINT and look at how the process takes it."""
    sent = time.monotonic()
    child.send_signal(signal.SIGINT)
    output, errors = child.communicate(timeout=TIMEOUT_SECONDS)
    assert float(output) - sent < SOON_SECONDS
    assert child.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1
    assert "Warning" not in errors
    assert_no_canary(errors)


@pytest.mark.parametrize("call", ["next(stream)", "stream.recv()", "stream.recv(timeout=30)"])
def test_in_a_wait_for_messages_f17(canary_key: str, assert_no_canary: Callable[[object], None], call: str) -> None:
    program = HEAD + WAITING.format(call=call) + TAIL
    with Simulator(clock=VirtualClock()) as simulator, running(program, simulator.url, canary_key) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        interrupt(child, assert_no_canary)
        simulator.settle()
        # It still closed in order.
        assert simulator.closes_received == [(1000, "")]


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_in_connect_to_a_server_that_never_answers_f17(
    canary_key: str, assert_no_canary: Callable[[object], None], scheme: str
) -> None:
    with listening() as listener, running(HEAD + CONNECTING + TAIL, url_of(listener, scheme), canary_key) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert accept_first_bytes(listener)
        interrupt(child, assert_no_canary)


def accept_first_bytes(listener: Listener) -> bytes:
    return accept(listener).recv(65536)


ROUNDS = """
import random, signal, warnings
warnings.simplefilter("ignore", ResourceWarning)  # a socket may be lost between connect() and its assignment
signal.signal(signal.SIGALRM, signal.default_int_handler)  # as SIGINT, but from a timer
chance = random.Random(1)
messages = interrupted = 0
for number in range(20):
    stream = None
    try:
        if number % 2:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.05))
        stream = connect(None, TRADES, endpoint=sys.argv[1], close_timeout=1)
        if not number % 2:
            next(stream)
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.02))
        for _ in stream:
            messages += 1
    except KeyboardInterrupt:
        interrupted += 1
    if stream is not None:
        stream.close()
        assert stream.disconnected is not None
        assert list(stream) == []
print(messages > 0, interrupted, flush=True)
"""


def test_at_any_moment_of_a_flood_f18(
    canary_key: str, assert_no_canary: Callable[[object], None], tmp_path: Path
) -> None:
    """F18: twenty interrupts at random times; none comes out as anything else, and close() always returns."""
    path = tmp_path / "flood.jsonl"
    with RecordingWriter(path) as writer:
        for n in range(1, 2001):
            writer.write(f'{{"sequence":{n},"symbol_id":"COINBASE_SPOT_BTC_USD","price":1.5,"type":"trade"}}', n)
    with (
        Simulator(recording=path, speed=None, loop=True) as simulator,
        running(HEAD + ROUNDS, simulator.url, canary_key) as child,
    ):
        output, errors = child.communicate(timeout=TIMEOUT_SECONDS)
    assert errors == ""
    assert output == "True 20\n"
    assert child.returncode == 0
    assert_no_canary(output)
