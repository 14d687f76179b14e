"""What the drivers' tests share: a certificate authority, contexts of both ends, options."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from peers import TRADES, FakeClock, Listener, listening, silent_address

from coinapi_ws import Options, Scope, Secret, SelectorConnection, endpoint_from
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.drivers.transport import Address


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """The context of a server that is localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """A context that trusts the authority; each test may change its own."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def options(canary_key: str) -> Callable[..., Options]:
    """Options with the canary key for a URL."""

    def make(url: str, **more: Any) -> Options:
        return Options(endpoint=endpoint_from(url), api_key=Secret(canary_key), **more)

    return make


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make(options: Callable[..., Options], clock: FakeClock) -> Iterator[Callable[..., SelectorConnection]]:
    """Make a connection to a URL, with the fake clock and a pacer of its own; abandoned after the test."""
    made: list[SelectorConnection] = []

    def make_one(url: str, *, scope: Scope | None = None, **more: Any) -> SelectorConnection:
        mine = {name: more.pop(name) for name in ("ssl_context", "resolve", "dial", "pacer", "decode") if name in more}
        mine = {"pacer": SharedPacer(), "clock": clock, "wall_clock_ns": lambda: 42, **mine}
        made.append(SelectorConnection(options(url, **more), scope or Scope(TRADES), **mine))
        return made[-1]

    yield make_one
    for connection in made:
        connection.abandon()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def silent() -> Iterator[Address]:
    with silent_address() as address:
        yield address
