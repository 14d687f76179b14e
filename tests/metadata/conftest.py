"""What the tests of the lists share: servers that answer as a test wants."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trustme
from peers import ServerSide, serving

from coinapi_ws import metadata

Answering = Callable[..., Any]


@pytest.fixture
def answering(canary_key: str) -> Answering:
    """A server that answers each request by these parts, or by a function of socket and head; yields a client of it."""

    @contextmanager
    def serve(*parts: bytes | Callable[[Any, bytes], object], **options: Any) -> Iterator[metadata.Client]:
        def handle(server: ServerSide) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (more := server.socket.recv(1)):
                    return
                head += more
            # A client that has seen enough ends the connection.
            with suppress(ConnectionError):
                for part in parts:
                    if isinstance(part, bytes):
                        server.socket.sendall(part)
                    else:
                        part(server.socket, head)

        with serving(handle) as url:
            yield metadata.Client(canary_key, endpoint=url.replace("ws:", "http:"), **options)

    return serve


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
