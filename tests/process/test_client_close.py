"""close() comes back within its time, whoever calls it, and whatever callbacks and the server do (F1 to F4, F19)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import listening, url_of
from programs import TIMEOUT_SECONDS, finished, write_flood

from coinapi_ws.simulator import Simulator

#: Each of six cases is tried so often; a hundred take minutes.
ROUNDS = int(os.environ.get("COINAPI_WS_CLOSE_ROUNDS", "8"))

HEAD = """
SOON = 3  # seconds, of the ten that close() takes where it is not told, on a machine that has other things to do

def our_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("coinapi-ws")]

def timed(client, timeout):
    "Close, and say what came of it and how much longer than allowed it took."
    begun = time.monotonic()
    result = client.close(timeout)
    return result, time.monotonic() - begun - timeout
"""

STUCK = """
worst = 0.0
for _ in range({rounds}):
    calls, release = [], threading.Event()
    reached = threading.Event()

    def stick(message):
        calls.append(message)
        reached.set()
        release.wait()

    client = new_client(
        dispatch={dispatch!r}, when_full={when_full!r}, max_queued_messages=200, close_timeout=0.1,
        receive_buffer_bytes=65536,  # what the kernel has is read before the answer to the Close
    )
    client.on(Message, stick)
    client.on(Event, lambda event: None)
    client.start()
    assert reached.wait(30)
    if {dispatch!r} == "thread":
        while client.stats().queued_most < 200:
            time.sleep(0.001)
    result, late = timed(client, 0.05)
    worst = max(worst, late)
    assert result is False
    assert late < SOON, late
    release.set()
    assert client.close(20) is True
    assert not our_threads()
    assert len(calls) == 1, "a callback was called after close()"
    stats = client.stats()
    assert stats.delivered == 1
    assert stats.queued == 0
say(worst)
"""


@pytest.fixture(scope="module")
def flood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flood(tmp_path_factory.mktemp("flood") / "flood.jsonl", padding=4000)


def run(program: str, url: str, key: str, errors: str = "", *, timeout: float = TIMEOUT_SECONDS) -> str:
    child = finished(HEAD + program, url, key, timeout=timeout)
    assert child.stderr == errors
    assert child.returncode == 0
    return child.stdout


@pytest.mark.parametrize("when_full", ["pause", "conflate", "drop_oldest"])
@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_with_a_stuck_callback_in_a_flood_f4(
    canary_key: str, flood: Path, record_property: Callable[[str, object], None], dispatch: str, when_full: str
) -> None:
    """F4: each time it comes back in time, and no other callback starts."""
    program = STUCK.format(rounds=ROUNDS, dispatch=dispatch, when_full=when_full)
    errors = "not closed within 0.05 s: the callback stick is running\n" * ROUNDS
    with Simulator(recording=flood, speed=None, loop=True) as simulator:
        output = run(program, simulator.url, canary_key, errors, timeout=TIMEOUT_SECONDS + 2 * ROUNDS)
    record_property("worst_seconds_late", float(output))


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_in_a_flood_it_ends_all_f3(canary_key: str, flood: Path, dispatch: str) -> None:
    """F3: the server sends on and on, and what it sent before the Close comes first."""
    program = f"""
client = live_client(dispatch={dispatch!r}, receive_buffer_bytes=65536)
result, late = timed(client, 30)
assert result is True
assert not our_threads()
stats = client.stats()
assert stats.messages["trade"] == stats.delivered + stats.undelivered
assert client.disconnected.clean
"""
    with Simulator(recording=flood, speed=None, loop=True) as simulator:
        run(program, simulator.url, canary_key)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_in_a_callback_f1(canary_key: str, dispatch: str) -> None:
    """F1: it cannot wait for itself; who joins comes back at once, and the server gets one Close frame (F2)."""
    program = f"""
for kind in (Trade, Connected, Live):
    results = []
    client = new_client(dispatch={dispatch!r})
    client.on(kind, lambda item: results.append(timed(client, 10)))
    begun = time.monotonic()
    client.start()
    assert client.join(20)
    assert not our_threads()
    assert [result for result, late in results] == [False]
    assert results[0][1] < SOON - 10  # ten seconds were allowed
    assert client.close() is True
client = new_client(dispatch={dispatch!r})
results = []
client.on(Disconnected, lambda item: results.append(client.close()))
client.start()
client.wait_live()
client.close()
assert results == [False]
"""
    with Simulator(activity=5) as simulator:
        run(program, simulator.url, canary_key)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")] * 4


def test_in_the_del_of_who_has_it(canary_key: str) -> None:
    """Wherever the last reference goes: on a thread of the user, or of the client."""
    program = """
class Owner:
    def __init__(self):
        self.client = live_client()
    def __del__(self):
        closed.append(self.client.close())
        gone.set()

def is_gone():
    "Not every interpreter counts references, or those of other threads at once."
    for _ in range(200):
        gc.collect()
        if gone.wait(0.1):
            return True

closed, gone = [], threading.Event()
owners = [Owner()]
owners.clear()
assert is_gone() and closed == [True] and not our_threads()
seen.clear(); gone.clear()
owners.append(Owner())
owners[0].client.on(Trade, lambda trade: owners.clear())
assert is_gone()
assert closed in ([True, False], [True, True])  # by the callback that let go, or by who collected
for _ in range(1000):
    if not our_threads():
        break
    time.sleep(0.01)
assert not our_threads()
"""
    with Simulator(activity=20) as simulator:
        run(program, simulator.url, canary_key)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")] * 2


def test_by_many_threads_at_once_f2(canary_key: str) -> None:
    """F2: all are told that it is closed, and the server is told once."""
    program = """
for _ in range(20):
    seen.clear()
    client = live_client()
    results, barrier = [], threading.Barrier(8)
    def close():
        barrier.wait()
        results.append(client.close(20))
    threads = [threading.Thread(target=close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8
    assert not our_threads()
"""
    with Simulator(activity=20) as simulator:
        run(program, simulator.url, canary_key)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")] * 20


def test_at_any_moment_of_a_start(canary_key: str) -> None:
    """Before it, in the middle of connecting, and once up."""
    program = """
client = new_client()
assert client.close() is True and client.close() is True
try:
    client.start()
except UsageError as error:
    assert "closed" in str(error)
else:
    raise AssertionError("a closed client starts")
chance = random.Random(1)
for _ in range(100):
    client = new_client()
    client.on(Trade, see)
    client.start()
    time.sleep(chance.choice([0, chance.uniform(0, 0.01)]))
    assert client.close(20) is True
    assert not our_threads()
    assert client.join() is True
"""
    with Simulator(activity=20) as simulator:
        run(program, simulator.url, canary_key)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_while_the_server_does_not_answer_f3(canary_key: str, scheme: str) -> None:
    program = """
client = new_client(close_timeout=0.2)
client.start()
result, late = timed(client, 10)
assert result is True, late
"""
    with listening() as listener:
        run(program, url_of(listener, scheme), canary_key)


def test_while_the_resolver_hangs_f19(canary_key: str) -> None:
    """F19: nobody can end it, so it is not waited for; should it answer one day, nothing comes of it."""
    program = """
hanging, release = threading.Event(), threading.Event()
def resolve(*_):
    hanging.set()
    release.wait()
    return []
client = new_client(resolve=resolve)
client.start()
assert hanging.wait(20)
result, late = timed(client, 0.05)
assert result is False and late < SOON, late
release.set()
assert client.close(20) is True
assert not our_threads()
"""
    run(
        program,
        "wss://example.com/",
        canary_key,
        "not closed within 0.05 s: no callback is running, but the thread of the connections has not ended\n",
    )


def test_while_it_waits_for_the_next_attempt(canary_key: str) -> None:
    program = """
client = new_client()
client.on(Reconnecting, see)
client.start()
assert seen.wait(20)
assert client.close(20) is True
"""
    with listening() as closed:
        url = url_of(closed)
    run(program, url, canary_key)
