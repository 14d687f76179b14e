"""A start that fails leaves nothing behind, and what the constructor refuses."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from raw_client import RawClient

from coinapi_ws.simulator import Simulator, VirtualClock
from coinapi_ws.simulator.market import Market

PATIENCE_SECONDS = 10.0


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@contextmanager
def nothing_left_open() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        descriptors, threads = _descriptors(), set(threading.enumerate())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
            # Not even until the garbage is collected. What this process has otherwise may come and go.
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (more := _descriptors() - descriptors) > 0 or set(threading.enumerate()) - threads:
                assert time.monotonic() < deadline, (more, threading.enumerate())
                time.sleep(0.01)
            gc.collect()
    finally:
        gc.enable()
    assert [str(warning.message) for warning in caught] == []


def _descriptors() -> int:
    """How many are open; 0 where the system does not tell."""
    return len(os.listdir("/dev/fd")) if Path("/dev/fd").is_dir() else 0


def _fail(error: BaseException, after: int = 0) -> Callable[..., Any]:
    calls = iter(range(after))

    def fail(*_args: Any, **_options: Any) -> None:
        if next(calls, None) is None:
            raise error

    return fail


FAILURES: list[Any] = [
    pytest.param(socket, "socketpair", OSError(24, "Too many open files"), 0, id="no descriptor for the wakeup"),
    pytest.param(socket.socket, "listen", OSError(98, "Address already in use"), 0, id="port taken in between"),
    pytest.param(threading.Thread, "start", RuntimeError("can't start new thread"), 0, id="no thread"),
    pytest.param(threading.Thread, "start", KeyboardInterrupt(), 0, id="interrupted at the thread's start"),
    pytest.param(Market, "step", KeyboardInterrupt(), 10, id="interrupted while the market is walked"),
]


@pytest.mark.parametrize(("owner", "name", "error", "after"), FAILURES)
def test_a_start_that_fails_leaves_nothing_open(
    port: int, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException, after: int
) -> None:
    simulator = Simulator(port=port, market_start_ns=time.time_ns() - 1_000_000_000)
    with nothing_left_open():
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _fail(error, after))
            with pytest.raises(type(error)) as raised:
                simulator.start()
        assert raised.value is error
        _is_at_rest(simulator)
        with socket.create_server(("127.0.0.1", port)):
            pass


@pytest.mark.parametrize(("owner", "name", "error", "after"), FAILURES)
def test_it_may_be_started_again(
    port: int, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException, after: int
) -> None:
    simulator = Simulator(port=port, market_start_ns=time.time_ns() - 1_000_000_000)
    with nothing_left_open():
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _fail(error, after))
            with pytest.raises(type(error)):
                simulator.start()
        with simulator, RawClient(port).upgrade():
            simulator.settle()
            assert simulator.open_connections == [1]


def test_a_port_in_use_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        simulator = Simulator(port=other.getsockname()[1])
        with nothing_left_open():
            with pytest.raises(OSError, match=r"(?i)address already in use|only one usage"):
                simulator.start()
            _is_at_rest(simulator)


def test_an_address_that_is_not_ours_leaves_nothing_open() -> None:
    simulator = Simulator(host="192.0.2.1")
    with nothing_left_open():
        with pytest.raises(OSError):  # noqa: PT011 - its text is the system's
            simulator.start()
        _is_at_rest(simulator)


def test_a_recording_that_is_not_there_leaves_nothing_open(port: int, tmp_path: Path) -> None:
    simulator = Simulator(port=port, recording=tmp_path / "nowhere.jsonl")
    with nothing_left_open():
        with pytest.raises(FileNotFoundError, match="nowhere"):
            simulator.start()
        _is_at_rest(simulator)


def test_a_clock_does_not_wait_for_a_simulator_whose_start_failed(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = Simulator(clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _fail(RuntimeError("can't start new thread")))
        with pytest.raises(RuntimeError, match="can't start"):
            simulator.start()
    _within_patience(lambda: clock.advance(1))
    assert clock.now() == 1


def _is_at_rest(simulator: Simulator) -> None:
    """It behaves as one that was never started."""
    assert repr(simulator) == "<Simulator not started>"
    with pytest.raises(RuntimeError, match="not started"):
        _ = simulator.port
    assert _within_patience(simulator.faults.drop) == 0
    _within_patience(simulator.settle)
    _within_patience(simulator.close)
    _within_patience(simulator.close)
    assert simulator.open_connections == []


def _within_patience(act: Callable[[], Any]) -> Any:
    """Do this on a thread, so that a call that never returns fails the test."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(act()), daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert results, "a call did not return, or raised"
    return results[0]


@pytest.mark.parametrize("make", [ssl.create_default_context, lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)])
def test_a_context_for_clients_is_refused(make: Callable[[], ssl.SSLContext]) -> None:
    with pytest.raises(ValueError, match=r"ssl_context is one for clients; .*PROTOCOL_TLS_SERVER"):
        Simulator(ssl_context=make())


@pytest.mark.parametrize("seed", [-1, -(10**12)])
def test_a_negative_seed_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        Simulator(seed=seed)


def test_a_simulator_whose_constructor_failed_can_be_shown() -> None:
    simulator = Simulator.__new__(Simulator)
    with pytest.raises(ValueError, match="port"):
        simulator.__init__(port=-1)  # type: ignore[misc]
    assert repr(simulator) == "<Simulator not started>"
