"""Examples run as a reader runs them: a process each, with the real framework."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias

import pytest

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"

#: What has to be there for an example, beside the package itself.
FRAMEWORKS: Final[dict[str, list[str]]] = {
    "with_asyncio": [],
    "with_gevent": ["gevent"],
    "with_gevent_client": ["gevent"],
    "with_gevent_stream": ["gevent"],
    "with_qt": ["PySide6.QtNetwork", "PySide6.QtWidgets"],
    "with_selectors": [],
    "with_tkinter": ["tkinter"],
    "with_tornado": ["tornado"],
    "with_twisted": ["twisted.internet"],
}

#: How many connections an example makes, where it is not one.
CONNECTIONS: Final = {"with_gevent": 2, "with_gevent_stream": 2, "with_selectors": 2}

TIMEOUT_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.05

Launch: TypeAlias = "Callable[..., subprocess.Popen[str]]"


@lru_cache
def why_it_does_not_run(name: str) -> str | None:
    """Return why an example cannot run on this machine, such as a framework or a library of the system; or None."""
    for module in FRAMEWORKS[name]:
        child = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False)
        if child.returncode != 0:
            return child.stderr.strip().rpartition("\n")[2]
    if name == "with_tkinter" and shutil.which("Xvfb") is None:
        return "a window of Tkinter needs Xvfb"
    return None


@pytest.fixture(params=FRAMEWORKS)
def example(request: pytest.FixtureRequest) -> str:
    """The name of each example in turn; skips those that cannot run here."""
    name: str = request.param
    why = why_it_does_not_run(name)
    if why is not None:
        pytest.skip(why)
    return name


@pytest.fixture
def connections(example: str) -> int:
    """How many connections the example makes."""
    return CONNECTIONS.get(example, 1)


@pytest.fixture(scope="session")
def known_examples() -> set[str]:
    """The names of all examples."""
    return set(FRAMEWORKS)


@pytest.fixture(scope="session")
def runnable_examples() -> dict[str, int]:
    """The names of the examples that can run here, and how many connections each makes."""
    return {name: CONNECTIONS.get(name, 1) for name in FRAMEWORKS if why_it_does_not_run(name) is None}


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """An X server without a screen, where there is one."""
    if shutil.which("Xvfb") is None:
        yield ""
        return
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with open(reading, encoding="ascii") as numbers:
            number = numbers.readline().strip()  # once it is up
        yield f":{number}"
        server.terminate()


@pytest.fixture
def launch(canary_key: str, display: str) -> Iterator[Launch]:
    """A function that starts an example, which is killed after the test if it has not ended by then."""
    processes = []

    def start(
        name: str, url: str, *before: str, stdout: int = subprocess.PIPE, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        # asyncio would log each step that took long, and on a busy machine any may.
        development = ["-W", "default"] if name in ("with_asyncio", "with_tornado") else ["-X", "dev"]
        command = [*before, sys.executable, *development, "-u", str(EXAMPLES / f"{name}.py"), url]
        own = {"COINAPI_API_KEY": canary_key, "DISPLAY": display, "QT_QPA_PLATFORM": "offscreen", **(environment or {})}
        process = subprocess.Popen(command, env={**os.environ, **own}, stdout=stdout, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()  # does nothing to one that was waited for
        process.communicate()


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool], subprocess.Popen[str]], None]:
    """A function that waits until something has come true outside of a process, which has to live on."""

    def wait(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        for _ in range(round(TIMEOUT_SECONDS / POLL_SECONDS)):
            if condition():
                return
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
                pytest.fail(f"it ended with {process.returncode}: {process.communicate()}")
        pytest.fail("it did not come true in time")

    return wait
