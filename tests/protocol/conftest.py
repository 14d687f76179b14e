"""What the core's tests share: sessions that have the canary key."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conversation import Conversation
from websocket_peer import FAST_LANE


@pytest.fixture
def converse(canary_key: str) -> Callable[..., Conversation]:
    """Make a `Conversation` with the canary key; takes its other arguments."""

    def make(**how: object) -> Conversation:
        return Conversation(canary_key, **how)  # type: ignore[arg-type]

    return make


@pytest.fixture(params=[True, False], ids=["fast lane", "wsproto alone"])
def either_lane(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let `open_websocket` take the one lane, then the other."""
    token = FAST_LANE.set(request.param)
    yield
    FAST_LANE.reset(token)
