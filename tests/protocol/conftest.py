"""What the core's tests share: sessions that have the canary key."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conversation import Conversation


@pytest.fixture
def converse(canary_key: str) -> Callable[..., Conversation]:
    """Make a `Conversation` with the canary key; takes its other arguments."""

    def make(**how: object) -> Conversation:
        return Conversation(canary_key, **how)  # type: ignore[arg-type]

    return make
