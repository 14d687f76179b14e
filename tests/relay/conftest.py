"""What tests of the relay share: a real Redis, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_servers import RedisProcess


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis of this test's own."""
    with RedisProcess(tmp_path) as process:
        yield process


@pytest.fixture
def redis_client(server: RedisProcess) -> Iterator[Any]:
    """A client of it."""
    with server.client() as client:
        yield client
