"""Servers that we did not write, in processes of their own, each led by the request: tests/interop/servers says how."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import pytest
import trustme
from peers import PATIENCE_SECONDS

_SCRIPTS: Final = Path(__file__).with_name("interop") / "servers"


@dataclass(frozen=True)
class Kind:
    """A server that can be had, by a module or a program, and the steps that its library has the means for."""

    needs: str
    script: str
    can: str


#: What not every one can: Pings of the program's own, fragments, a Close without a code; it `hears` the code of our
#: Close, and of an answer it `hears_why` the reason, too.
SERVERS: Final = {
    "websockets": Kind("websockets", "websockets_server.py", "flood fragments hears hears_why"),
    "aiohttp": Kind("aiohttp", "aiohttp_server.py", "flood hears"),
    "tornado": Kind("tornado", "tornado_server.py", "flood codeless hears hears_why"),
    "hypercorn": Kind("hypercorn", "hypercorn_server.py", ""),
    "ws": Kind("node", "ws_server.mjs", "flood fragments codeless hears hears_why"),
    # Before a server of `websockets`.
    "nginx": Kind("nginx", "websockets_server.py", "flood fragments hears hears_why"),
}


def that_can(ability: str) -> pytest.MarkDecorator:
    """Parametrize `server` by those that can do this."""
    names = [name for name, kind in SERVERS.items() if ability in kind.can.split()]
    return pytest.mark.parametrize("server", names, indirect=True)


@dataclass
class ForeignServer:
    """One that runs. ``ssl`` is the context for its URLs, None for ``ws://``."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    ssl: ssl.SSLContext | None = None
    _outcomes: SimpleQueue[dict[str, Any] | None] = field(default_factory=SimpleQueue)
    _number: int = 0

    @property
    def can(self) -> list[str]:
        return SERVERS[self.name].can.split()

    def url(self, *steps: tuple[Any, ...]) -> str:
        """The URL whose connections follow a plan; :meth:`outcome` is of the last one that was asked for."""
        self._number += 1
        plan = urlsafe_b64encode(json.dumps(steps).encode()).decode()
        scheme, host = ("ws", "127.0.0.1") if self.ssl is None else ("wss", "localhost")
        return f"{scheme}://{host}:{self.port}/v1/{self._number}/{plan}"

    def outcome(self) -> dict[str, Any]:
        """Wait until a connection's plan has ended, and return what the server heard on it."""
        while True:
            outcome = self._outcomes.get(timeout=PATIENCE_SECONDS)
            assert outcome is not None, f"{self.name} ended with {self.process.wait()}"
            if outcome["number"] == self._number:
                return outcome

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._outcomes.put(json.loads(line))
        self._outcomes.put(None)


@contextmanager
def running(name: str, directory: Path, installed_ws: Path | None) -> Iterator[ForeignServer]:
    """Run the server of that name, or skip the test where it is not there."""
    kind = SERVERS[name]
    command = [sys.executable, "-W", "ignore", str(_SCRIPTS / kind.script)]
    if name == "nginx":
        program("nginx")
    elif installed_ws is not None:
        command = [program("node"), str(_SCRIPTS / kind.script), str(installed_ws / "package.json")]
    elif find_spec(kind.needs) is None:
        pytest.skip(f"{kind.needs} is not installed; the tox environment interop has it")
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert process.stdout is not None
        server = ForeignServer(name, process, int(process.stdout.readline()))
        reader = threading.Thread(target=server.read, name=f"reader of {name}")
        reader.start()
        stack.callback(reader.join)
        stack.callback(process.kill)
        if kind.needs == "nginx":
            server.port, server.ssl = stack.enter_context(_nginx(directory, server.port))
        yield server


def program(name: str) -> str:
    """Where a program is; the test is skipped where it is nowhere."""
    # Debian has servers in directories that are on the PATH of root alone.
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


#: The program is killed once the shell's stdin ends.
_SWITCH: Final = '"$@" & cat >/dev/null; kill -KILL $!; exec 2>/dev/null; wait'


@contextmanager
def running_program(command: list[str], **options: Any) -> Iterator[Callable[[], None]]:
    """Run a program until this block ends, or this process, whatever kills it; yields a function that ends it now."""
    with subprocess.Popen(["sh", "-c", _SWITCH, "sh", *command], stdin=subprocess.PIPE, **options) as process:
        stdin = process.stdin
        assert stdin is not None

        def end() -> None:
            stdin.close()
            process.wait(PATIENCE_SECONDS)

        try:
            yield end
        finally:
            end()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_until_it_listens(name: str, port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"{name} does not listen"
            time.sleep(0.01)
        else:
            return


_NGINX: Final = """
daemon off; master_process off; pid {directory}/pid; error_log stderr crit;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/1; proxy_temp_path {directory}/2; fastcgi_temp_path {directory}/3;
    uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {directory}/chain.pem; ssl_certificate_key {directory}/key.pem;
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
        }}
    }}
}}
"""


@contextmanager
def _nginx(directory: Path, upstream: int) -> Iterator[tuple[int, ssl.SSLContext]]:
    """A reverse proxy with TLS, in one process; yields its port, and the context that trusts it."""
    authority, port = trustme.CA(), free_port()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    for part in certificate.cert_chain_pems:
        part.write_to_path(directory / "chain.pem", append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    settings = directory / "nginx.conf"
    settings.write_text(_NGINX.format(directory=directory, port=port, upstream=upstream))
    with running_program([program("nginx"), "-c", str(settings), "-e", "stderr"]):
        wait_until_it_listens("nginx", port)
        yield port, context
