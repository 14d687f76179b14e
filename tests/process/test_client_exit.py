"""The interpreter ends by itself, soon and in silence, whatever was left of a client (F13, F14)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import listening, url_of
from programs import finished, read_line, running, write_flood

from coinapi_ws.client.worker import EXIT_SECONDS
from coinapi_ws.simulator import Simulator

#: What the interpreter itself may take to end, on a machine that has other things to do.
GRACE_SECONDS = 3.0

LEFT = {
    "in use": "client = live_client(); say_time()",
    "in a function": "def main(): live_client.kept = live_client()\nmain(); say_time()",
    "inline": "client = live_client(dispatch='inline'); say_time()",
    "iterated": "client = new_client(); client.start(); next(client); say_time()",
    "with another symbol asked for": "client = live_client(); client.subscribe(QUOTES); say_time()",
    "closed": "client = live_client(); assert client.close(); say_time()",
    "closed in atexit": "atexit.register(live_client().close); say_time()",
    "closed in atexit twice": "close = live_client().close; atexit.register(close); atexit.register(close); say_time()",
    "closed in a thread at the end": "close = live_client().close; threading.Thread(target=close).start(); say_time()",
    "used by a callback": "client = new_client(); client.on(Trade, lambda trade: (client.stats(), seen.set()))\n"
    "client.start(); assert seen.wait(30); say_time()",
}


def assert_ends_soon(child: subprocess.CompletedProcess[str], ended: float, code: int = 0, errors: str = "") -> None:
    """`ended` is the time at which the child was gone; what it printed is when its main program was over."""
    assert (child.returncode, child.stderr) == (code, errors)
    assert ended - float(child.stdout) < EXIT_SECONDS + GRACE_SECONDS


def run_to_end(program: str, url: str, key: str, code: int = 0, errors: str = "") -> None:
    assert_ends_soon(finished(program, url, key), time.monotonic(), code, errors)


@pytest.mark.parametrize("left", LEFT)
def test_a_client_left_as_it_is(canary_key: str, left: str) -> None:
    """F13, F14: the process ends, says nothing, and the server gets a Close frame."""
    with Simulator(activity=20) as simulator:
        run_to_end(LEFT[left], simulator.url, canary_key)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]


def test_a_client_over_tls(canary_key: str, tmp_path: Path) -> None:
    with Simulator(activity=20, tls=True) as simulator:
        (tmp_path / "ca.pem").write_bytes(simulator.ca_pem)
        trusting = f"ssl.create_default_context(cafile={str(tmp_path / 'ca.pem')!r})"
        run_to_end(f"import ssl\nclient = live_client(ssl={trusting}); say_time()", simulator.url, canary_key)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]


def test_a_client_that_was_never_started(canary_key: str) -> None:
    run_to_end("client = new_client(); client.on(Trade, see); say_time()", "ws://127.0.0.1:9/", canary_key)


def test_clients_that_others_make_at_the_end(canary_key: str) -> None:
    """Another thread may, between any two steps of those that look for the clients there are."""
    program = """
client, made = live_client(), []

def meanwhile(frame, event, argument):
    if event == "return":
        made.append(new_client())
    if len(made) == 20:
        sys.setprofile(None)

atexit.register(sys.setprofile, meanwhile)  # the last one registered is the first to run
say_time()
"""
    with Simulator(activity=20) as simulator:
        run_to_end(program, simulator.url, canary_key)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]


def test_callbacks_that_never_return(canary_key: str) -> None:
    """F13: all clients together have EXIT_SECONDS, and the connections are closed though callbacks go on."""
    program = "clients = []\nfor _ in range(3): seen.clear(); clients.append(live_client(stick))\nsay_time()"
    with Simulator(activity=20) as simulator:
        run_to_end(program, simulator.url, canary_key)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")] * 3


def test_a_callback_that_never_returns_on_the_i_o_thread(canary_key: str) -> None:
    with Simulator(activity=20) as simulator:
        run_to_end("client = live_client(stick, dispatch='inline'); say_time()", simulator.url, canary_key)


def test_closing_in_atexit_while_a_callback_never_returns(canary_key: str) -> None:
    program = "atexit.register(live_client(stick).close, 0.1); say_time()"
    with Simulator(activity=20) as simulator:
        errors = "not closed within 0.1 s: the callback stick is running\n"
        run_to_end(program, simulator.url, canary_key, errors=errors)


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_a_callback_that_prints_a_flood(canary_key: str, tmp_path: Path, dispatch: str) -> None:
    """F14: a thread that is cut off in the middle of a print may end the interpreter in a fatal error."""
    program = f"""
def tell(trade):
    seen.set()
    for _ in range(40):
        sys.stderr.write("x" * 500)
client = live_client(tell, dispatch={dispatch!r})
"""
    with Simulator(recording=write_flood(tmp_path / "flood.jsonl"), speed=None, loop=True) as simulator:
        child = finished(program, simulator.url, canary_key)
    assert set(child.stderr) == {"x"}
    assert child.returncode == 0


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_a_callback_that_is_running_may_return(canary_key: str, tmp_path: Path, dispatch: str) -> None:
    """F14: with more to deliver than there is time for, the last callback is let end all the same."""
    program = f"""
def tell(trade):
    seen.set()
    os.write(2, b"<")
    time.sleep(0.02)
    os.write(2, b">")
client = live_client(tell, dispatch={dispatch!r})
"""
    with Simulator(recording=write_flood(tmp_path / "flood.jsonl"), speed=None, loop=True) as simulator:
        child = finished(program, simulator.url, canary_key)
    assert child.returncode == 0
    assert child.stderr == "<>" * (len(child.stderr) // 2)


def test_a_server_that_has_gone_silent(canary_key: str) -> None:
    with (
        Simulator(activity=20) as simulator,
        running("client = live_client(); say('live'); input(); say_time()", simulator.url, canary_key) as child,
    ):
        assert read_line(child) == "live"
        simulator.faults.go_silent()
        output, errors = child.communicate("go on\n")
        assert time.monotonic() - float(output) < EXIT_SECONDS + GRACE_SECONDS
        assert (child.returncode, errors) == (0, "")


def test_a_server_that_sends_on_and_never_answers_the_close(canary_key: str) -> None:
    with Simulator(activity=20) as simulator:
        simulator.faults.ignore_close(keep_sending=True)
        run_to_end("client = live_client(); say_time()", simulator.url, canary_key)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_server_that_never_answers_at_all(canary_key: str, scheme: str) -> None:
    with listening() as listener:
        run_to_end("client = new_client(); client.start(); say_time()", url_of(listener, scheme), canary_key)


def test_a_resolver_that_hangs(canary_key: str) -> None:
    """F19: nobody can end it, so nobody waits for it longer than for anything else."""
    program = "client = new_client(resolve=lambda *_: stick(None)); client.start(); assert seen.wait(30); say_time()"
    run_to_end(program, "wss://example.com/", canary_key)


def test_a_wait_for_the_next_attempt(canary_key: str) -> None:
    program = """
client = new_client()
client.on(Reconnecting, see)
client.start()
assert seen.wait(30)
say_time()
"""
    with listening() as closed:
        url = url_of(closed)
    run_to_end(program, url, canary_key)


def test_a_client_that_was_dropped_says_so(canary_key: str) -> None:
    """F15: nothing holds it but its user, so it is closed at once, also where the warning is an error."""
    program = """
atexit.unregister(coinapi_ws.client.worker._close_all_at_exit)
client = live_client()
threads = [thread for thread in threading.enumerate() if thread.name.startswith("coinapi-ws")]
assert len(threads) == 2
warnings.simplefilter("{action}")
del client
for thread in threads:
    thread.join(30)
    assert not thread.is_alive()
say_time()
"""
    for action in ("default", "error"):
        with Simulator(activity=20) as simulator:
            child = finished(
                "import coinapi_ws.client.worker" + program.format(action=action), simulator.url, canary_key
            )
            simulator.settle()
            assert simulator.closes_received == [(1000, "")]
        assert child.returncode == 0
        assert "ResourceWarning: a client was left open: <Client 127.0.0.1:" in child.stderr
        assert ("Traceback" in child.stderr) is (
            action == "error"
        )  # Python's own, for a warning that may not be raised


def test_sys_exit_in_main(canary_key: str) -> None:
    with Simulator(activity=20) as simulator:
        run_to_end("client = live_client(); say_time(); sys.exit(3)", simulator.url, canary_key, code=3)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]


@pytest.mark.parametrize("program", ["{}", "with client: {}"])
def test_an_exception_in_main(canary_key: str, assert_no_canary: Callable[[object], None], program: str) -> None:
    program = "client = new_client()\n" + program.format("say_time(); raise ValueError('a mistake')")
    with Simulator(activity=20) as simulator:
        child = finished(program, simulator.url, canary_key)
    assert child.returncode == 1
    assert child.stderr.endswith("ValueError: a mistake\n")
    assert child.stderr.count("Traceback") == 1
    assert_no_canary(child.stderr)


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_sys_exit_in_a_callback_ends_nothing_but_itself(
    canary_key: str, assert_no_canary: Callable[[object], None], dispatch: str
) -> None:
    """F10: it is logged as what it is, a callback that failed, and the client goes on."""
    program = f"""
def leave(trade):
    sys.exit(4)
client = new_client(dispatch={dispatch!r})
client.on(Trade, leave)
client.on(Trade, see)
client.start()
assert seen.wait(30)
assert client.state is ClientState.LIVE
assert client.close()
say_time()
"""
    with Simulator(activity=20) as simulator:
        child = finished(program, simulator.url, canary_key)
    assert child.returncode == 0
    assert child.stderr.startswith("the callback leave failed on a Trade\nTraceback")
    assert child.stderr.endswith("SystemExit: 4\n")
    assert_no_canary(child.stderr)
