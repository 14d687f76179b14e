"""Real Redis servers on free ports of this machine, and a proxy that loses their answers."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from peers import PATIENCE_SECONDS

PROGRAM: Final = shutil.which("redis-server")


class RedisProcess:
    """A ``redis-server`` that writes each change to disk before it answers; a context manager."""

    def __init__(self, directory: Path, *options: str, password: str = "") -> None:
        if PROGRAM is None:
            pytest.skip("no redis-server: install the package redis-server")
        self._directory = directory
        self._options = (*options, *(("--requirepass", password) if password else ()))
        self._password = password
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its first database."""
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisProcess:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, again with what it had, and wait until it answers."""
        assert PROGRAM is not None
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory), "--save", "")
        durable = ("--appendonly", "yes", "--appendfsync", "always")
        command = [PROGRAM, *options, *durable, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """Kill it, without a chance to say anything to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def stop(self) -> None:
        """Let it stand still: it takes connections and commands, and answers none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def client(self) -> Any:
        """Return a client of it."""
        return redis.Redis(host="127.0.0.1", port=self.port, password=self._password or None)


class LosingProxy:
    """Carries bytes to a port and back; on demand it cuts a connection once a command was carried, before its answer.

    A context manager. ``lost`` counts such answers.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._to_lose = 0
        self._lock = threading.Lock()
        self.lost = 0

    def lose(self, count: int = 1) -> None:
        """Lose so many answers from now on."""
        with self._lock:
            self._to_lose += count

    def __enter__(self) -> LosingProxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                self._start(self._carry, near, far)
                self._start(self._answer, far, near)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)

    def _answer(self, far: socket.socket, near: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                with self._lock:
                    is_lost = self._to_lose > 0
                    self._to_lose -= is_lost
                    self.lost += is_lost
                if is_lost:
                    near.shutdown(socket.SHUT_RDWR)
                    far.shutdown(socket.SHUT_RDWR)
                    return
                near.sendall(data)

    def _start(self, run: Any, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, name="proxy of a test")
        self._threads.append(thread)
        thread.start()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
