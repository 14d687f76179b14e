"""A relay's entries to Redis Streams."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from secrets import token_hex
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from ..exceptions import ConfigurationError
from .entries import DEFAULT_PREFIX, DEFAULT_STREAMS, Batch, RelayError
from .redis_server import open_server

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_MAX_AGE_SECONDS: Final = 3600.0
#: So long a server remembers how far a relay has come in a stream.
_REMEMBERED_SECONDS: Final = 86_400

#: Appends what is not there yet, and returns how many that were. The id of an entry is when it was published, in
#: milliseconds, and the how-manieth of its stream it is; a number that is left out says that entries are missing.
_APPEND: Final = """
local stream, mark = KEYS[1], KEYS[2]
local strategy, limit, remembered, connection = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local next_number = tonumber(ARGV[5])  -- of the first entry here, among all that this relay has for the stream
local written = tonumber(redis.call('GET', mark) or next_number - 1)
local time = redis.call('TIME')
local now, count, newest = time[1] * 1000 + math.floor(time[2] / 1000), 0, nil
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if last then
    local ms, number = string.match(last[1], '(%d+)-(%d+)')
    now, count, newest = math.max(now, tonumber(ms)), tonumber(number), tonumber(ms)
end
local lost = math.max(0, next_number - 1 - written)  -- that the server had, and forgot when it failed
count = count + lost
local appended, failure = 0, nil
for i = 6, #ARGV, 2 do
    if next_number > written then
        local id = string.format('%.0f-%.0f', now, count + 1)
        local added
        if ARGV[i] == '' then
            added = redis.pcall('XADD', stream, id, 'gap', ARGV[i + 1], 'connection', connection)
        else
            added = redis.pcall(
                'XADD', stream, id, 'frame', ARGV[i + 1], 'received_ns', ARGV[i], 'connection', connection)
        end
        if type(added) == 'table' and added.err then
            failure = added
            break
        end
        count, written, appended, newest = count + 1, next_number, appended + 1, now
    end
    next_number = next_number + 1
end
if appended > 0 then
    redis.call('SET', mark, string.format('%.0f', written), 'EX', remembered)
    if lost > 0 then
        redis.call('XSETID', stream, string.format('%.0f-%.0f', now, count), 'ENTRIESADDED', count)
    end
end
if newest then  -- where the memory is full too, for there would never be room; the newest stays, numbers go on from it
    redis.call('XTRIM', stream, strategy, '~', strategy == 'MINID' and math.min(now - limit, newest) or limit)
end
return failure or appended
"""


class RedisPublisher:
    """Puts a relay's entries into Redis Streams, each once; a context manager. Redis 7.0 or newer, or Valkey.

    ``redis`` is a URL, whose password never prints, with ``cluster=True`` that of a node of a cluster; or a client of
    redis-py, whose ``socket_timeout`` is above a second. All publishers and readers of a relay have the same ``prefix``
    and number of ``streams``. An entry is trimmed about ``max_age`` seconds after it was published, or, with
    ``max_age=None``, when its stream has about ``max_length`` newer ones; a stream is trimmed when something is
    appended to it.

    Where Redis is away, :meth:`publish` tries again until it is back, and appends what is not there yet, also where
    only the answer was lost. :meth:`close` from any thread ends that. Raises ``ConfigurationError``.
    """

    def __init__(
        self,
        redis: Any,
        *,
        cluster: bool = False,
        prefix: str = DEFAULT_PREFIX,
        streams: int = DEFAULT_STREAMS,
        max_age: float | None = DEFAULT_MAX_AGE_SECONDS,
        max_length: int | None = None,
    ) -> None:
        if (max_age is None) == (max_length is None):
            raise ConfigurationError("either max_age, in seconds, or max_length; pass max_age=None for the latter")
        if not 0 < (max_age or max_length or 0) < float("inf"):
            raise ConfigurationError("max_age, or max_length, is a positive number")
        if max_length is not None and type(max_length) is not int:
            raise ConfigurationError("max_length is an int")
        server = open_server(redis, cluster, prefix, streams)
        del redis
        if isinstance(server, ConfigurationError):
            raise server
        self._server = server
        self._trimming = ("MAXLEN", max_length) if max_age is None else ("MINID", round(max_age * 1000))
        self._mark = f"written:{token_hex(8)}"
        self._numbers = [1] * streams
        self._closed = threading.Event()
        #: Entries that were sent again although they were there.
        self.repeated = 0

    @property
    def streams(self) -> int:
        """How many streams there are."""
        return self._server.streams

    @property
    def failures(self) -> int:
        """How often Redis failed, so that an attempt was made again."""
        return self._server.failures

    def publish(self, batches: Sequence[Batch]) -> None:
        """Append all of these; see :class:`Publisher`."""
        left = list(batches)
        while left:
            if self._closed.is_set():
                count = sum(len(batch.entries) for batch in left)
                raise RelayError(f"closed while Redis was away; {count} entries are not known to be there")
            try:
                has_appended = self._server.attempt(lambda: self._append(left))
            except Exception:
                if not self._closed.is_set():
                    raise
                continue  # closed under way, of which redis-py says any of several things
            if not has_appended:
                self._closed.wait(self._server.delay)

    def close(self) -> None:
        """Close the connections, and let no call wait for Redis any longer. Idempotent; from any thread."""
        self._closed.set()
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, batches: list[Batch]) -> None:
        """Append these, and take out of the list what is there; raise what redis-py raises, or has for one of them."""
        pipeline = self._server.client.pipeline(transaction=False)
        for stream, connection, entries in batches:
            key = self._server.stream(stream)
            arguments: list[object] = [*self._trimming, _REMEMBERED_SECONDS, connection, self._numbers[stream]]
            for received_ns, text in entries:
                arguments.append("" if received_ns is None else received_ns)
                arguments.append(text)
            # Not eval(), which the pipeline of a cluster has not.
            pipeline.execute_command("EVAL", _APPEND, 2, key, f"{key}:{self._mark}", *arguments)
        results = pipeline.execute(raise_on_error=False)
        for batch, result in zip(batches, results, strict=True):
            if not isinstance(result, Exception):
                self._numbers[batch.stream] += len(batch.entries)
                self.repeated += len(batch.entries) - result
        failures = [result for result in results if isinstance(result, Exception)]
        batches[:] = [batch for batch, result in zip(batches, results, strict=True) if isinstance(result, Exception)]
        if failures:
            raise failures[0]
