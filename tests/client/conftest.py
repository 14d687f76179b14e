"""What the tests of a client's life share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_harness import Life
from peers import Listener, listening

from coinapi_ws import Client
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator, VirtualClock


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def live_it(canary_key: str) -> Iterator[Callable[..., Life]]:
    """Make a supervisor for a URL, with the canary key; its connections are abandoned after the test."""
    lives: list[Life] = []

    def make(url: str, **options: Any) -> Life:
        lives.append(Life(url, canary_key, **options))
        return lives[-1]

    yield make
    for life in lives:
        for connection in life.made:
            connection.abandon()


@pytest.fixture
def virtual() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def simulator(virtual: VirtualClock) -> Iterator[Simulator]:
    """A simulator in which no time passes but by `virtual`."""
    with Simulator(seed=7, clock=virtual) as simulator:
        yield simulator


@pytest.fixture
def make_client(canary_key: str) -> Iterator[Callable[..., Client]]:
    """Make a client for a URL, with the canary key and a pacer of its own; closed after the test."""
    clients: list[Client] = []

    def make(url: str, *subscriptions: Any, **options: Any) -> Client:
        clients.append(Client(canary_key, *subscriptions, endpoint=url, **{"pacer": SharedPacer(), **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
