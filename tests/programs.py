"""Programs with a threaded client, in a process of their own: real signals, real forks, and a real end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from coinapi_ws.recording import RecordingWriter

#: What each program begins with. Its argument is the URL.
HEAD: Final = """
import atexit, gc, os, random, signal, sys, threading, time, warnings
from coinapi_ws import *

TRADES = Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
QUOTES = Subscription(["quote"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
seen = threading.Event()

def see(trade):
    seen.set()

def stick(trade):
    seen.set()
    threading.Event().wait()

def new_client(**options):
    return Client(None, TRADES, endpoint=sys.argv[1], **options)

def live_client(callback=see, **options):
    client = new_client(**options)
    client.on(Trade, callback)
    client.start()
    assert seen.wait(30)
    return client

def say(word):
    print(word, flush=True)

def say_time():
    # The monotonic clock is the machine's, so the test can compare.
    say(time.monotonic())
"""

#: A hang is what these tests look for; a machine may be slow.
TIMEOUT_SECONDS: Final = 60.0
_RECORDED: Final = 2000


def write_flood(path: Path, *, padding: int = 0) -> Path:
    """Write a recording of trades to be replayed without a pace.

    ``padding``, in bytes, makes them large: what TCP holds when a client closes is then soon decoded.
    """
    note = f'"note":"{"x" * padding}",' if padding else ""
    with RecordingWriter(path) as writer:
        for n in range(1, _RECORDED + 1):
            writer.write(f'{{"sequence":{n},"symbol_id":"COINBASE_SPOT_BTC_USD",{note}"price":1.5,"type":"trade"}}', n)
    return path


def finished(program: str, url: str, key: str, *, timeout: float = TIMEOUT_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with warnings as errors."""
    return subprocess.run(
        _command(program, url),
        env={**os.environ, "COINAPI_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def running(program: str, url: str, key: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program, with warnings as errors; it is killed at the end, if need be."""
    # Not measured: an interrupt inside of coverage's tracer leaves its lock taken, and the process waits for ever.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    child = subprocess.Popen(
        _command(program, url),
        env={**environment, "COINAPI_API_KEY": key},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            assert pipe is not None
            pipe.close()


def read_line(child: subprocess.Popen[str]) -> str:
    """Return the next line that the program prints; fails with what it has to say where there is none."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        assert child.stderr is not None
        raise AssertionError(child.stderr.read())
    return line.rstrip("\n")


def _command(program: str, url: str) -> list[str]:
    return [sys.executable, "-X", "dev", "-W", "error", "-c", HEAD + program, url]
