"""A fork while a client is live: the parent's goes on, the child's is closed and says why (F16, T7)."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from peers import PATIENCE_SECONDS
from programs import TIMEOUT_SECONDS, read_line, running, write_flood

from coinapi_ws.simulator import Simulator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

FORKING = """
import faulthandler, traceback

# Of forking with threads, which is what is tried.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

def in_a_child(function, *arguments):
    "Run it in a forked child, and see it end well."
    child = os.fork()
    if child == 0:
        # A child that hangs is to tell where.
        faulthandler.dump_traceback_later(20, exit=True)
        try:
            function(*arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def fails(function, *arguments):
    try:
        function(*arguments)
    except UsageError as error:
        assert "forked" in str(error), error
    else:
        raise AssertionError(f"{function} does as if nothing were")

def assert_dead(client):
    assert client.state is ClientState.CLOSED
    fails(client.subscribe, QUOTES)
    fails(client.unsubscribe, TRADES)
    fails(client.join)
    fails(client.wait_live)
    begun = time.monotonic()
    assert client.close() is True
    assert time.monotonic() - begun < 3  # of ten, were it to wait
    assert client.stats().messages
    del client

def use_own(**options):
    got = threading.Event()
    client = new_client(**options)
    client.on(Trade, lambda trade: got.set())
    with client:
        assert got.wait(20)
        assert client.wait_live(20)
    assert client.state is ClientState.CLOSED

class Sequence:
    "Sees whether a message was lost."
    last = count = 0
    def __call__(self, trade):
        assert trade.sequence == self.last + 1 or not self.last, (self.last, trade.sequence)
        self.last = trade.sequence
        self.count += 1
        seen.set()

def assert_goes_on(client, sequence, least=20):
    "More messages, none lost, and still the first connection."
    wanted = sequence.count + least
    deadline = time.monotonic() + 30
    while sequence.count < wanted:
        assert time.monotonic() < deadline, client.stats()
        time.sleep(0.001)
    stats = client.stats()
    assert (stats.reconnects, stats.callback_failures, stats.disconnected) == (0, 0, None)
"""


def run(program: str, simulator: Simulator, key: str, closes: int) -> None:
    """Run a program to its end; the server saw that many Close frames, and nobody else's end."""
    with running(FORKING + program, simulator.url, key) as child:
        assert_is_well(child, simulator, closes)


def assert_is_well(child: subprocess.Popen[str], simulator: Simulator, closes: int) -> None:
    output, errors = child.communicate(timeout=TIMEOUT_SECONDS)
    assert (output, errors, child.returncode) == ("", "", 0)
    simulator.settle()
    assert simulator.closes_received == [(1000, "")] * closes


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_the_parent_streams_on_and_the_child_s_client_is_closed_f16(
    canary_key: str, tls: bool, dispatch: str, tmp_path: Path
) -> None:
    """F16, T7: the child sends nothing, neither a Close frame nor a shutdown; its own client is its own."""
    trusting = ""
    with Simulator(activity=100, tls=tls) as simulator:
        if tls:
            (tmp_path / "ca.pem").write_bytes(simulator.ca_pem)
            trusting = f"import ssl\ntrust['ssl'] = ssl.create_default_context(cafile={str(tmp_path / 'ca.pem')!r})"
        program = f"""
trust = {{}}
{trusting}
sequence = Sequence()
client = live_client(sequence, dispatch={dispatch!r}, **trust)

def be_a_child():
    assert_dead(client)
    use_own(**trust)
    assert_dead(client)

for _ in range(3):
    in_a_child(be_a_child)
    assert_goes_on(client, sequence)
assert client.close()
"""
        run(program, simulator, canary_key, closes=4)


def test_an_iteration_ends_in_the_child_f16(canary_key: str) -> None:
    program = """
client = new_client()
client.start()
first = next(client)
in_a_child(fails, next, client)
numbers = []
while len(numbers) < 50:
    item = next(client)
    if isinstance(item, Trade):
        numbers.append(item.sequence)
assert numbers == list(range(numbers[0], numbers[0] + 50))
assert client.close()
"""
    with Simulator(activity=100) as simulator:
        run(program, simulator, canary_key, closes=1)


def test_the_child_s_end_says_nothing_f16(canary_key: str) -> None:
    """Its atexit handlers run, and its clients are dropped; so is one that has not begun."""
    program = """
sequence = Sequence()
client = live_client(sequence)
idle = new_client()
child = os.fork()
if child == 0:
    sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
assert_goes_on(client, sequence)
assert client.close()
"""
    with Simulator(activity=100) as simulator:
        run(program, simulator, canary_key, closes=1)


def test_a_client_that_was_not_started_is_anyone_s_f16(canary_key: str) -> None:
    program = """
idle = new_client()
idle.on(Trade, see)

def use():
    idle.subscribe(QUOTES)
    with idle:
        assert seen.wait(20)
    assert idle.state is ClientState.CLOSED

in_a_child(use)
assert idle.state is ClientState.IDLE
use()
"""
    with Simulator(activity=100) as simulator:
        run(program, simulator, canary_key, closes=2)


def test_one_that_has_ended_is_as_it_was_f16(canary_key: str) -> None:
    program = """
client = live_client()
assert client.close()

def be_a_child():
    assert client.close() and client.join()
    assert client.stats().messages["trade"] >= 1

in_a_child(be_a_child)
"""
    with Simulator(activity=100) as simulator:
        run(program, simulator, canary_key, closes=1)


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_a_callback_forks_f16(canary_key: str, dispatch: str) -> None:
    """On either of the client's threads, which is the only one that the child has."""
    program = f"""
sequence = Sequence()
done = threading.Event()

def be_a_child():
    assert_dead(client)
    use_own()

def fork_once(trade):
    if not done.is_set():
        in_a_child(be_a_child)
        done.set()

client = new_client(dispatch={dispatch!r})
client.on(Trade, sequence)
client.on(Trade, fork_once)
client.start()
assert done.wait(30)
assert_goes_on(client, sequence)
assert client.close()
"""
    with Simulator(activity=100) as simulator:
        run(program, simulator, canary_key, closes=2)


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_a_child_of_a_callback_that_returns_is_gone_f16(canary_key: str, dispatch: str) -> None:
    """It comes back to our own code, which ends without a word: no callback, no byte, no attempt to connect."""
    program = f"""
children = []
def fork_once(trade):
    if not children:
        parent = os.getpid()
        children.append(os.fork())
        if children == [0]:
            client.off(Trade, fork_once)
            client.on(Event, lambda event: os._exit(3))
            client.on(Message, lambda message: os._exit(4))
    seen.set()
client = new_client(dispatch={dispatch!r})
client.on(Trade, fork_once)
client.start()
assert seen.wait(30)
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
sequence = client.on(Trade, Sequence())
assert_goes_on(client, sequence)
assert client.close()
"""
    with Simulator(activity=100) as simulator:
        run(program, simulator, canary_key, closes=1)


def test_while_other_threads_hold_the_client_s_locks_f16(canary_key: str, tmp_path: Path) -> None:
    """F16: a lock that a thread of the parent held is held for ever in the child, where that thread is not."""
    program = """
class Counting(Sequence):
    "The recording begins again when it is over."
    def __call__(self, trade):
        self.count += 1
        seen.set()

counting = Counting()
client = live_client(counting, max_queued_messages=500, receive_buffer_bytes=65536)
idle = new_client()
stop = threading.Event()

def hammer(call):
    while not stop.is_set():
        call()

def change_callbacks():
    client.off(Quote, client.on(Quote, see))
    idle.off(Quote, idle.on(Quote, see))

hammers = [threading.Thread(target=hammer, args=[call]) for call in (
    lambda: (client.replace(TRADES), idle.replace(TRADES)), client.stats, change_callbacks,
    lambda: client._worker.wait_for_state(lambda state: False, 0.0001),
)]
for thread in hammers:
    thread.start()

def be_a_child():
    client.on(Quote, see)
    assert_dead(client)
    idle.on(Trade, see)
    idle.replace(QUOTES)
    assert idle.close()

for _ in range(60):
    in_a_child(be_a_child)
stop.set()
for thread in hammers:
    thread.join()
assert_goes_on(client, counting)
assert client.close()
"""
    flood = write_flood(tmp_path / "flood.jsonl")
    with Simulator(recording=flood, speed=None, loop=True) as simulator:
        run(program, simulator, canary_key, closes=1)


def test_each_lock_that_is_held_for_sure_f16(canary_key: str) -> None:
    """As before, but a thread of the parent holds every lock at the moment of the fork."""
    program = """
from coinapi_ws.drivers.pacing import PROCESS_PACER
client = live_client()
idle = new_client()
locks = [
    lock
    for worker in (client._worker, idle._worker)
    for lock in (worker._monitor.lock, worker.queue._monitor.lock, worker.registry._lock)
] + [client._worker._wakeup._monitor.lock, PROCESS_PACER._lock]
are_held, may_go = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.acquire()
    are_held.set()
    may_go.wait()
    for lock in locks:
        lock.release()

def be_a_child():
    client.on(Quote, see)
    assert_dead(client)
    idle.on(Trade, see)
    idle.replace(QUOTES, TRADES)
    seen.clear()
    with idle:
        assert seen.wait(20)

holder = threading.Thread(target=hold)
holder.start()
assert are_held.wait(30)
in_a_child(be_a_child)
may_go.set()
holder.join()
assert client.close()
"""
    with Simulator(activity=100) as simulator:
        run(program, simulator, canary_key, closes=2)


def test_multiprocessing_f16(canary_key: str) -> None:
    """A pool of workers that are forked, each with a client of its own, beside the parent's."""
    program = """
import multiprocessing

def first_sequence(_):
    assert_dead(client)
    with new_client() as own:
        return next(item for item in own if isinstance(item, Trade)).sequence

sequence = Sequence()
client = live_client(sequence)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(first_sequence, range(4)) == [1] * 4
    pool.close()
    pool.join()
assert_goes_on(client, sequence)
assert client.close()
"""
    with Simulator(activity=100) as simulator:
        run(program, simulator, canary_key, closes=5)


def test_a_parent_that_is_killed_leaves_nothing_open_in_the_child_t7(canary_key: str) -> None:
    """T7: the child has closed its descriptors, so the server sees the parent's end at once."""
    program = """
client = live_client()
child = os.fork()
if child == 0:
    os.write(1, b"forked\\n")  # whole, since two processes write
    time.sleep(60)
    os._exit(0)
os.write(1, b"%d\\n" % child)
time.sleep(60)
"""
    with (
        Simulator(activity=100) as simulator,
        running(FORKING + program, simulator.url, canary_key) as child,
    ):
        said = {read_line(child), read_line(child)} - {"forked"}
        try:
            child.kill()
            child.wait()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while simulator.open_connections:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            os.kill(int(said.pop()), 9)
