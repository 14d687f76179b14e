"""What the tests of the command line share: the command in this process and as one of its own, and recordings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from coinapi_ws.cli import main
from coinapi_ws.recording import RecordingWriter

# A command that hangs fails its test after so long.
PATIENCE_SECONDS = 60


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run_main(*arguments: object) -> Result:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        return Result(code, *capsys.readouterr())

    return run_main


class Command:
    """The command as a process, its output read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return line

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def result(self) -> Result:
        # Not communicate(), which would miss what line() has read ahead.
        out = "" if self.process.stdout is None else self.process.stdout.read()
        assert self.process.stderr is not None
        err = self.process.stderr.read()
        return Result(self.process.wait(PATIENCE_SECONDS), out, err)


Start = Callable[..., Command]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a command as a process; ended at the end of the test."""
    with ExitStack() as stack:

        def popen(*arguments: object, key: str | None = None, stdout: int = subprocess.PIPE) -> Command:
            # Not measured: an interrupt inside of coverage's tracer leaves its lock taken.
            environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
            environment["PYTHONIOENCODING"] = "utf-8"
            environment.pop("COINAPI_API_KEY", None)
            environment.pop("PYTHONUNBUFFERED", None)  # or it would not matter when the command flushes
            if key is not None:
                environment["COINAPI_API_KEY"] = key
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "coinapi_ws", *map(str, arguments)],
                    stdout=stdout,
                    stderr=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                    env=environment,
                )
            )
            stack.callback(process.kill)
            # So that a read from a command that says nothing ends too.
            watchdog = threading.Timer(PATIENCE_SECONDS, process.kill)
            watchdog.start()
            stack.callback(watchdog.join)
            stack.callback(watchdog.cancel)
            return Command(process)

        yield popen


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Path]:
    """Write frames to a recording, a millisecond apart."""

    def write(*frames: str) -> Path:
        path = tmp_path / f"frames-{len(list(tmp_path.iterdir()))}.jsonl"
        with RecordingWriter(path) as writer:
            for number, frame in enumerate(frames):
                writer.write(frame, 1_600_000_000_000_000_000 + number * 1_000_000)
        return path

    return write
