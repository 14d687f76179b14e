"""What the drivers' tests share: a certificate authority, contexts of both ends, options."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from coinapi_ws import Options, Secret, endpoint_from


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
