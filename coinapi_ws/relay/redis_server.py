"""Redis as publisher and readers see it: which keys there are, and what a failure means."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from random import random
from typing import Any, Final

from ..auth import Secret
from ..exceptions import ConfigurationError
from .entries import RelayError

LOGGER: Final = logging.getLogger("coinapi_ws.relay")
_SOCKET_SECONDS: Final = 10.0
_FIRST_DELAY_SECONDS: Final = 0.05
_LONGEST_DELAY_SECONDS: Final = 2.0
#: Errors that redis-py has no class for: it starts, it fails over, it cannot write to its disk, or a script keeps it.
_PASSING: Final = ("LOADING", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED", "MISCONF", "BUSY ")


class RedisServer:
    """One Redis, or a cluster, by a URL or a client of redis-py, and the keys of one relay there.

    The part of a key in braces keeps what belongs to one stream on one node of a cluster.
    """

    def __init__(self, redis: Any, cluster: bool, prefix: str, streams: int) -> None:
        if type(prefix) is not str or not prefix or set(prefix) & set("{}"):
            raise ConfigurationError("prefix is a text without braces, such as coinapi")
        if type(streams) is not int or streams < 1:
            raise ConfigurationError("streams is an int of 1 or more")
        self.prefix = prefix
        self.streams = streams
        self._open = _opener(redis, cluster=cluster)
        self._owns_client = isinstance(redis, str)
        self._client: Any = None
        self._has_agreed = False
        #: How often a call failed and was made again.
        self.failures = 0
        self._failures_in_a_row = 0

    @property
    def client(self) -> Any:
        """The client of redis-py; it is made where it is first used, since that of a cluster connects at once."""
        if self._client is None:
            self._client = self._open()
        return self._client

    @property
    def is_cluster(self) -> bool:
        """Whether keys are on several nodes."""
        return hasattr(self.client, "get_nodes")

    def stream(self, number: int) -> str:
        """Return the key of a stream."""
        return f"{self.prefix}:{{{number}}}"

    def attempt(self, call: Callable[[], object]) -> bool:
        """Call what talks to Redis; return whether it did, and did not fail by something that passes.

        Raises ``RelayError`` where another attempt would not help.
        """
        from redis.exceptions import RedisClusterException, RedisError

        try:
            self._agree()
            call()
        except (RedisError, RedisClusterException, OSError) as error:
            problem, passes = _described(error), _passes(error)
        else:
            if self._failures_in_a_row:
                LOGGER.warning("Redis is back after %d failures", self._failures_in_a_row)
                self._failures_in_a_row = 0
            return True
        if not passes:
            raise RelayError(f"Redis refused: {problem}")
        self.failures += 1
        self._failures_in_a_row += 1
        LOGGER.log(logging.WARNING if self._failures_in_a_row == 1 else logging.INFO, "Redis is away: %s", problem)
        return False

    @property
    def delay(self) -> float:
        """So many seconds to wait before the next attempt, after one that failed."""
        doubled = _FIRST_DELAY_SECONDS * 2.0 ** min(self._failures_in_a_row, 10)
        return min(doubled, _LONGEST_DELAY_SECONDS) * (0.5 + random() / 2)

    def close(self) -> None:
        """Close the connections, where they are our own."""
        if self._owns_client and self._client is not None:
            self._client.close()

    def _agree(self) -> None:
        """Raise ``ConfigurationError`` where others have another number of streams."""
        if self._has_agreed:
            return
        key = f"{self.prefix}:streams"
        found = self.client.get(key)  # first, since a server that is full sets nothing
        if found is None:
            self.client.set(key, self.streams, nx=True)
            found = self.client.get(key)
        count = int(found or self.streams)
        if count != self.streams:
            raise ConfigurationError(f"the relay {self.prefix!r} has {count} streams; pass streams={count}")
        self._has_agreed = True


def open_server(redis: Any, cluster: bool, prefix: str, streams: int) -> RedisServer | ConfigurationError:
    """Return a server, or the error to raise once the caller has dropped a URL.

    That may hold a password, and a traceback may be printed with its locals (F24).
    """
    try:
        return RedisServer(redis, cluster, prefix, streams)
    except ConfigurationError as error:
        return error.with_traceback(None)


def _passes(error: Exception) -> bool:
    from redis import exceptions

    if isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError)):
        return False
    passing = (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.ReadOnlyError,
        exceptions.OutOfMemoryError,
        exceptions.ClusterError,
        exceptions.TryAgainError,
        exceptions.AskError,
        exceptions.RedisClusterException,
        OSError,
    )
    return isinstance(error, passing) or str(error).startswith(_PASSING)


def _described(error: Exception) -> str:
    text = str(error).partition("\n")[0][:200]
    return f"{type(error).__name__}: {text}"


def _opener(redis: Any, *, cluster: bool) -> Callable[[], Any]:
    """Return what makes a client, once it is sure that it can be made."""
    if find_spec("redis") is None:
        raise ConfigurationError('a relay through Redis needs redis-py: pip install "coinapi-ws[redis]"')
    from redis import Redis, RedisCluster
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.retry import Retry

    if not isinstance(redis, str):
        if redis.get_encoder().decode_responses:
            raise ConfigurationError("pass a client of redis-py that has decode_responses=False")
        return lambda: redis
    try:
        parse_url(redis)
    except ValueError:
        is_url = False
    else:
        is_url = True
    if not is_url:
        raise ConfigurationError("redis is a URL such as redis://127.0.0.1:6379/0, or a client of redis-py")
    url, client_class = Secret(redis), RedisCluster if cluster else Redis
    options = {
        "socket_timeout": _SOCKET_SECONDS,
        "socket_connect_timeout": _SOCKET_SECONDS,
        "retry": Retry(NoBackoff(), 0),  # attempts are counted and told here
        "decode_responses": False,
    }
    return lambda: client_class.from_url(url.reveal(), **options)
