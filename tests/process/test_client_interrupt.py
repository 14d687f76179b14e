"""Ctrl-C and other signals while a client runs: out soon, once, and with nothing left locked (F17, F18)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import TIMEOUT_SECONDS, read_line, running, write_flood

from coinapi_ws import Trade
from coinapi_ws.client.queueing import DeliveryQueue
from coinapi_ws.simulator import Simulator, VirtualClock

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")

#: What Python and a close handshake may take on a machine that has other things to do.
SOON_SECONDS = 3.0

TAIL = """
try:
    main()
except KeyboardInterrupt:
    say_time()
    raise
"""

#: Main programs in which the main thread waits.
WAITS = {
    "run": "client = new_client(); client.on(Connected, lambda _: say('ready')); client.run()",
    "join": "client = new_client(); client.on(Connected, see)\n"
    "    with client: assert seen.wait(30); say('ready'); client.join()",
    "wait_live": "client = new_client()\n    with client: say('ready'); client.wait_live()",
    "iteration": "client = new_client(request_heartbeats=False)\n    with client:\n"
    "        next(client); say('ready')\n        for _ in client: pass",
    "a body": "client = new_client()\n    with client: say('ready'); time.sleep(60)",
    "a body with a client in use": "client = live_client(request_heartbeats=False)\n    say('ready'); time.sleep(60)",
}


def interrupt(child: subprocess.Popen[str], assert_no_canary: Callable[[object], None]) -> None:
    """Send SIGINT and look at how the process takes it."""
    sent = time.monotonic()
    child.send_signal(signal.SIGINT)
    output, errors = child.communicate(timeout=TIMEOUT_SECONDS)
    assert float(output.splitlines()[-1]) - sent < SOON_SECONDS
    assert child.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1
    assert "Warning" not in errors
    assert_no_canary(errors)


@pytest.mark.parametrize("wait", WAITS)
def test_in_a_wait_f17(canary_key: str, assert_no_canary: Callable[[object], None], wait: str) -> None:
    """F17: it is a KeyboardInterrupt, and the connection is closed in order."""
    program = f"def main():\n    {WAITS[wait]}\n{TAIL}"
    is_live = wait in ("iteration", "a body with a client in use")
    clock = None if is_live else VirtualClock()
    with (
        Simulator(clock=clock, activity=20) as simulator,
        running(program, simulator.url, canary_key) as child,
    ):
        assert read_line(child) == "ready"
        interrupt(child, assert_no_canary)
        simulator.settle()
        if wait not in ("wait_live", "a body"):  # where the connection may not be up yet
            assert simulator.closes_received == [(1000, "")]


def test_in_close_f17(canary_key: str, assert_no_canary: Callable[[object], None]) -> None:
    """A callback never returns, so close() waits for it; a Ctrl-C does not."""
    program = f"""
def main():
    client = new_client()
    client.on(Trade, stick)
    client.start()
    assert seen.wait(30)
    say("closing")
    client.close(60)
{TAIL}"""
    with Simulator(activity=20) as simulator, running(program, simulator.url, canary_key) as child:
        assert read_line(child) == "closing"
        interrupt(child, assert_no_canary)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]


def test_a_second_one_while_the_first_one_closes_f17(
    canary_key: str, assert_no_canary: Callable[[object], None]
) -> None:
    """run() closes on the way out, which a callback that never returns would make ten seconds long."""
    program = f"""
joins = threading.Event()

class Telling(Client):
    def join(self, timeout=None):
        joins.set()
        return super().join(timeout)
    def close(self, timeout=60):
        say("closing")
        return super().close(timeout)

def be_stuck(trade):
    assert joins.wait(30)  # before, a Ctrl-C would cut the start
    say("ready")
    stick(trade)

def main():
    client = Telling(None, TRADES, endpoint=sys.argv[1])
    client.on(Trade, be_stuck)
    client.run()
{TAIL}"""
    with Simulator(activity=20) as simulator, running(program, simulator.url, canary_key) as child:
        assert read_line(child) == "ready"
        child.send_signal(signal.SIGINT)
        assert read_line(child) == "closing"
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=TIMEOUT_SECONDS)
        assert float(output) - sent < SOON_SECONDS
        assert child.returncode == -signal.SIGINT
        assert errors.count("KeyboardInterrupt") == 2  # the second came of the handling of the first
        assert_no_canary(errors)


#: Interrupts a main program at random moments; an alarm is as a SIGINT, but from a timer.
ROUNDS = """
signal.signal(signal.SIGALRM, signal.default_int_handler)
chance = random.Random(1)
interrupted = 0
client = new_client(max_queued_messages=500, receive_buffer_bytes=65536)
{setup}
with client:
    assert client.wait_live(30)
    for _ in range(100):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.005))
            while True:
                {call}
        except KeyboardInterrupt:
            interrupted += 1
    before = client.stats().messages["trade"]
    while client.stats().messages["trade"] == before:
        {call}
    assert client.close(20), "a lock is left taken"
say(interrupted)
"""

CALLS = {
    "iteration": ("", "next(client)"),
    "an empty queue": ("", "client._worker.queue.take(1, 0)"),
    "scope": ("client.on(Trade, see)", "client.replace(TRADES)"),
    "join": ("client.on(Trade, see)", "client.join(0.0005)"),
    "wait_live": ("client.on(Trade, see)", "client._worker.wait_for_state(lambda state: False, 0.0001)"),
    "on and off": ("client.on(Trade, see)", "client.on(Quote, see); client.off(Quote, see)"),
}


@pytest.fixture(scope="module")
def flood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flood(tmp_path_factory.mktemp("flood") / "flood.jsonl")


@pytest.mark.parametrize("call", CALLS)
def test_a_hundred_at_any_moment_of_a_flood_f18(canary_key: str, flood: Path, call: str) -> None:
    """F18: each comes out as it is; the client goes on, and closes."""
    setup, repeated = CALLS[call]
    program = ROUNDS.format(setup=setup, call=repeated)
    with (
        Simulator(recording=flood, speed=None, loop=True) as simulator,
        running(program, simulator.url, canary_key) as child,
    ):
        output, errors = child.communicate(timeout=TIMEOUT_SECONDS)
    assert (output, errors, child.returncode) == ("100\n", "", 0)


#: A signal handler that closes, in the middle of whatever the main thread does.
HANDLER = """
def main():
    results = []
    for number in range({count}):
        client = new_client(max_queued_messages=500, receive_buffer_bytes=65536)
        if {with_callbacks}:
            client.on(Trade, see)
        def handle(signal_number, frame):
            begun = time.monotonic()
            results.append(client.close(20))
            assert time.monotonic() - begun < 10, "it waited for what it had interrupted"
        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGALRM, handle)
        client.start()
        assert client.wait_live(30)
        {before}
        try:
            {call}
        except UsageError as error:
            assert "closed" in str(error), error
        while len(results) <= number:
            time.sleep(0.001)
        assert client.close(20)
        assert client.state is ClientState.CLOSED
    say(len(results))
main()
"""

HANDLED = {
    "join": (True, "client.join()"),
    "iteration": (False, "for _ in client: pass"),
    "subscribe": (True, "while True: client.replace(QUOTES, TRADES); client.replace(TRADES)"),
    "close": (True, "client.close(20)"),
}


def assert_handled(child: subprocess.Popen[str], simulator: Simulator, count: int) -> None:
    output, errors = child.communicate(timeout=TIMEOUT_SECONDS)
    assert (output, errors, child.returncode) == (f"{count}\n", "", 0)
    simulator.settle()
    assert simulator.closes_received == [(1000, "")] * count


@pytest.mark.parametrize("call", HANDLED)
def test_a_handler_closes_at_any_moment_f18(canary_key: str, call: str) -> None:
    """The handler comes into the middle of the main thread's calls, whose locks the client's threads may wait for."""
    with_callbacks, repeated = HANDLED[call]
    alarm = "signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.02))"
    program = HANDLER.format(count=25, with_callbacks=with_callbacks, before=alarm, call=repeated)
    if call == "subscribe":
        program = program.replace("results.count(True) > 0", "len(results) > 0")  # each may have come into a call
    with Simulator(activity=100) as simulator, running(program, simulator.url, canary_key) as child:
        assert_handled(child, simulator, 25)


def test_a_handler_closes_in_an_iteration_over_a_flood_f18(canary_key: str, flood: Path) -> None:
    """A main thread that never waits is nearly always inside of a call."""
    alarm = "signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.02))"
    program = HANDLER.format(count=3, with_callbacks=False, before=alarm, call="for _ in client: pass")
    with (
        Simulator(recording=flood, speed=None, loop=True) as simulator,
        running(program, simulator.url, canary_key) as child,
    ):
        assert_handled(child, simulator, 3)


def test_a_discard_in_the_middle_of_a_take_leaves_it_whole_f18() -> None:
    """As by a handler that closes: the take returns what it has, and the next one that there is no more."""
    queue = DeliveryQueue("pause", 100, 10_000, lambda: None)

    class Interrupted(deque[Any]):
        def popleft(self) -> Any:
            queue.discard()
            return super().popleft()

    queue.put([Trade(received_ns=n) for n in range(5)], 500)
    queue._entries = Interrupted(queue._entries)
    assert [trade.received_ns for trade in queue.take(2) or []] == [0, 1]
    assert queue.take(2) is None
    assert (queue.messages, queue.bytes, queue.undelivered) == (0, 0, 3)


@pytest.mark.parametrize("call", ["join", "iteration"])
def test_sigterm_ends_in_order(canary_key: str, call: str) -> None:
    """What a service does: a handler that closes, and a main thread that waits for the end."""
    with_callbacks, repeated = HANDLED[call]
    program = HANDLER.format(count=1, with_callbacks=with_callbacks, before="say('ready')", call=repeated)
    with Simulator(activity=20) as simulator, running(program, simulator.url, canary_key) as child:
        assert read_line(child) == "ready"
        child.send_signal(signal.SIGTERM)
        assert_handled(child, simulator, 1)
