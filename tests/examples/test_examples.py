"""What a reader of the examples may rely on: they work, end in order, and tell of what goes wrong."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coinapi_ws.simulator import Simulator, VirtualClock

TIMEOUT_SECONDS = 30.0

#: What stands for certifi in an example's process, so that the simulator's certificates are trusted.
CERTIFI = "def where():\n    return {!r}\n"


def processor_seconds(pid: int) -> float:
    """Return how much of a processor a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def assert_is_complete(stdout: str, connections: int, *, is_stream: bool) -> None:
    lines = stdout.splitlines()
    trades = [line for line in lines if line.startswith("Trade(")]
    assert len(trades) >= 10
    assert len({trade.partition("symbol_id=")[2].partition(",")[0] for trade in trades}) == 2
    if not is_stream:  # which has no such events
        assert sum(line.startswith("Live(") for line in lines) == connections
        ends = [line for line in lines if line.startswith("Disconnected(")]
        assert len(ends) == connections
        assert all("clean=True" in end and "code=1000" in end for end in ends)


def test_it_prints_messages_and_closes(
    example: str,
    connections: int,
    launch: Callable[..., subprocess.Popen[str]],
    canary_key: str,
    assert_no_canary: Callable[[object], None],
) -> None:
    with Simulator(api_keys=[canary_key], activity=5) as simulator:
        process = launch(example, simulator.url)
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (process.returncode, stderr) == (0, "")
        assert_is_complete(stdout, connections, is_stream=example.endswith("_stream"))
        simulator.settle()
        assert simulator.closes_received == [(1000, "")] * connections
    assert_no_canary(stdout)


def test_it_does_so_over_tls(
    example: str, connections: int, launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """T2: with TLS a readable descriptor may have nothing for us, and reading may mean writing."""
    with Simulator(tls=True, activity=5) as simulator:
        (tmp_path / "ca.pem").write_bytes(simulator.ca_pem)
        (tmp_path / "certifi.py").write_text(CERTIFI.format(str(tmp_path / "ca.pem")), encoding="utf-8")
        process = launch(example, simulator.url, environment={"PYTHONPATH": str(tmp_path)})
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, stderr) == (0, "")
    assert_is_complete(stdout, connections, is_stream=example.endswith("_stream"))


def test_it_rests_while_nothing_comes_and_tells_of_a_cut(
    example: str,
    connections: int,
    launch: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
    assert_no_canary: Callable[[object], None],
) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("there is no /proc to say how busy a process is")
    with Simulator(clock=VirtualClock()) as simulator:
        process = launch(example, simulator.url)
        wait_until(lambda: len(simulator.received) == connections, process)
        before = processor_seconds(process.pid)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        assert processor_seconds(process.pid) - before < 0.4
        simulator.faults.drop()
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 1
    assert stderr.startswith("the connection ended without a Close frame; ")
    assert "Traceback" not in stderr
    assert_no_canary(stdout + stderr)


def test_it_tells_that_nobody_is_there(example: str, launch: Callable[..., subprocess.Popen[str]]) -> None:
    """The end may come of the first call already."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = launch(example, f"ws://127.0.0.1:{port}/v1/")
    _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 1
    assert stderr.startswith("no connection to 127.0.0.1: ")


def test_it_does_not_swallow_an_exception(example: str, launch: Callable[..., subprocess.Popen[str]]) -> None:
    """A framework may print what a callback raises, and go on as if nothing were."""
    reading, writing = os.pipe()
    os.close(reading)
    with Simulator() as simulator:
        process = launch(example, simulator.url, stdout=writing)
        os.close(writing)
        _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode not in (0, None)
    assert "BrokenPipeError" in stderr
    assert "ResourceWarning" not in stderr
