"""The Autobahn fuzzing server: installed where it is not, started on a free port, ended with the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from foreign_servers import free_port, running_program, wait_until_it_listens

#: Environment variables: where the server is, or is to be installed, and which cases to run, in its own words.
DIRECTORY_VARIABLE: Final = "COINAPI_WS_AUTOBAHN"
CASES_VARIABLE: Final = "COINAPI_WS_AUTOBAHN_CASES"

_INSTALL_SECONDS: Final = 600.0
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
            port, reports = free_port(), tmp_path_factory.mktemp("reports")
            cases = os.environ.get(CASES_VARIABLE, "all")
            output = stack.enter_context((reports / "server.log").open("wb"))
            # Without -d the script becomes the server. The reports are written when they are asked for.
            command = [str(installation / "run-server.sh"), cases, str(port), str(reports)]
            stack.enter_context(running_program(command, stdout=output, stderr=output))
            wait_until_it_listens("the fuzzing server", port)
            return FuzzingServer(port, reports, installation / "summarize.py")

        yield start


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> list[str]:
    """Lines that are shown at the end, whatever the outcome."""
    return request.config.stash.setdefault(_REPORT, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_REPORT, []):
        terminalreporter.write_line(line)
