"""Examples whose server does not answer: they go on with the next address, and timers come to what they are for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from coinapi_ws.simulator import Simulator

TIMEOUT_SECONDS: Final = 60.0
SYN_SENT: Final = "02"  # in /proc/net/tcp6: no answer yet

#: Runs a program with a hosts file of its own.
IN_NAMESPACE: Final = ["unshare", "-rm", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"']
FIRST_ADDRESS: Final = "import socket; print(socket.getaddrinfo('localhost', 80, type=socket.SOCK_STREAM)[0][4][0])"


@pytest.fixture
def two_addresses(tmp_path: Path) -> list[str]:
    """What to put before a program, so that localhost is ::1 and 127.0.0.1 to it, in this order."""
    hosts = tmp_path / "hosts"
    hosts.write_text("::1 localhost\n127.0.0.1 localhost\n", encoding="ascii")
    before = [*IN_NAMESPACE, str(hosts)]
    try:
        child = subprocess.run(
            [*before, sys.executable, "-c", FIRST_ADDRESS], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare to give a program another hosts file")
    if child.stdout != "::1\n":
        pytest.skip(f"localhost cannot be made two addresses: {child.stderr.strip() or child.stdout.strip()}")
    return before


def connects_without_answer(port: int) -> set[str]:
    """Return the addresses of this machine's sockets that wait for an answer from that port of ::1."""
    rows = [row.split() for row in Path("/proc/net/tcp6").read_text(encoding="ascii").splitlines()[1:]]
    return {row[1] for row in rows if row[2].endswith(f":{port:04X}") and row[3] == SYN_SENT}


@pytest.mark.parametrize("is_refused", [True, False])
def test_they_go_on_with_the_next_address(
    is_refused: bool,
    two_addresses: list[str],
    runnable_examples: dict[str, int],
    launch: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
) -> None:
    """The first address does not answer, until it refuses, or until its share of the time is over."""
    with Simulator(activity=5) as simulator, ExitStack() as black_hole:
        address = "::1", simulator.port
        black_hole.enter_context(socket.create_server(address, family=socket.AF_INET6, backlog=0))
        black_hole.enter_context(socket.create_connection(address))  # a full queue answers nobody
        url = simulator.url.replace("127.0.0.1", "localhost")
        processes = [launch(name, url, *two_addresses) for name in runnable_examples]
        expected = sum(runnable_examples.values())
        waiting: set[str] = set()  # at some time: the first may have gone on before the last is there

        def all_have_waited() -> bool:
            waiting.update(connects_without_answer(simulator.port))
            return len(waiting) == expected

        wait_until(all_have_waited, processes[0])
        if is_refused:
            black_hole.close()
        for process in processes:
            stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
            assert (process.returncode, stderr) == (0, ""), process.args
            assert "Trade(" in stdout


def test_they_do_not_swallow_an_exception_of_a_timer(
    runnable_examples: dict[str, int], launch: Callable[..., subprocess.Popen[str]]
) -> None:
    """What is printed once the time to open is over goes to a closed pipe. A stream raises, and prints nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.create_connection(server.getsockname()):
        url = f"ws://127.0.0.1:{server.getsockname()[1]}/v1/"
        processes = {name: launch(name, url, stdout=writing) for name in runnable_examples}
        os.close(writing)
        for name, process in processes.items():
            _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
            assert process.returncode == 1, name
            assert ("no connection to 127.0.0.1 in time" if name.endswith("_stream") else "BrokenPipeError") in stderr
