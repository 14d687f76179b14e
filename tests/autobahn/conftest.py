"""The Autobahn fuzzing server: installed where it is not, started on a free port, ended by its id."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

#: Environment variables: where the server is, or is to be installed, and which cases to run, in its own words.
DIRECTORY_VARIABLE: Final = "COINAPI_WS_AUTOBAHN"
CASES_VARIABLE: Final = "COINAPI_WS_AUTOBAHN_CASES"

_INSTALL_SECONDS: Final = 600.0
_PATIENCE_SECONDS: Final = 30.0
_REPORT: Final = pytest.StashKey[list[str]]()


@dataclass(frozen=True)
class FuzzingServer:
    """Where it listens, and where it writes its reports."""

    port: int
    reports: Path
    summary: Path  # a program that prints the table of a directory of reports

    def table(self) -> str:
        command = [sys.executable, str(self.summary), str(self.reports)]
        # Its exit status repeats what the tests say.
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="session")
def installation(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the server, installed by the scripts that several projects share."""
    script = shared / "conformance" / "install.sh"
    if not script.is_file():
        pytest.skip(f"{script} is not there: it installs the Autobahn fuzzing server")
    named = os.environ.get(DIRECTORY_VARIABLE)
    directory = Path(named) if named else tmp_path_factory.mktemp("autobahn")
    if not (directory / "summarize.py").is_file():  # the last of what is installed
        command = [str(script), str(directory)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
        if "no CPython 2.7 found" in run.stderr:
            pytest.skip("the Autobahn fuzzing server needs a CPython 2.7: pyenv's, or PY27=…")
        assert run.returncode == 0, run.stderr
    return directory


@pytest.fixture(scope="session")
def start_server(installation: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], FuzzingServer]]:
    """Start a fuzzing server on a free port."""
    with ExitStack() as stack:

        def start() -> FuzzingServer:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            reports = tmp_path_factory.mktemp("reports")
            command = [str(installation / "run-server.sh"), os.environ.get(CASES_VARIABLE, "all"), str(port)]
            log = reports / "server.log"
            output = stack.enter_context(log.open("wb"))
            # Without -d the script becomes the server: this process's id is the server's.
            process = subprocess.Popen([*command, str(reports)], stdout=output, stderr=output)
            stack.enter_context(process)
            stack.callback(process.kill)  # the reports are written when they are asked for
            _wait_until_it_listens(process, port, log)
            return FuzzingServer(port, reports, installation / "summarize.py")

        yield start


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the fuzzing server does not listen"
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> list[str]:
    """Lines that are shown at the end, whatever the outcome."""
    return request.config.stash.setdefault(_REPORT, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_REPORT, []):
        terminalreporter.write_line(line)
