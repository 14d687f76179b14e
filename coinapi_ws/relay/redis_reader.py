"""The messages of a relay out of Redis Streams, shared out among the readers of a group."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from ..events import Gap, Undecodable
from ..exceptions import ConfigurationError, UsageError
from ..messages import Message
from ..protocol.frames import Item
from ..timestamps import NANOSECONDS_PER_SECOND
from .entries import DEFAULT_PREFIX, DEFAULT_STREAMS, Entry, EntryDecoder, Trimmed
from .leases import Held, Leases, Position
from .redis_server import open_server

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_LEASE_SECONDS: Final = 10.0
#: Read at once, of each stream.
_BATCH: Final = 256
#: A wait is no longer than this, so that Ctrl-C works everywhere; a client of redis-py waits longer for an answer.
_LONGEST_WAIT_SECONDS: Final = 1.0
#: A cluster cannot wait for streams of several nodes, so it is asked this often.
_CLUSTER_PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderStats:
    """Counts of one reader: messages and gaps that it gave, and how often Redis failed.

    ``streams`` are those that it reads now. ``delay``: seconds from when the last message was received by its relay to
    when it was given here, by the clocks of both machines; None before there is one.
    """

    messages: int
    gaps: int
    failures: int
    streams: tuple[int, ...]
    delay: float | None


class RedisReader:
    """Iterates over what relays publish; several readers of one ``group`` share it, each stream read by one at a time.

    A context manager, for one thread; :meth:`recv` and the iteration block. Each group gets everything, beginning with
    the oldest entry that is kept: all messages of a symbol in order, by one reader. Items are those of a client:
    messages, ``Undecodable`` and gaps, the relay's own and those that show here: ``SequenceGap``, and :class:`Trimmed`
    where entries were gone before they were read.

    At least once: an item counts as handled when the next one is asked for, or the reader is closed. Where a reader
    dies, another goes on after about ``lease_seconds``, with what follows the last item that is known as handled. It
    has to ask for the next item within ``lease_seconds``; if it does not, others take its streams, and repeat what is
    not known as handled; one that is alone gets on. One that joins or leaves causes no repetition; of more readers than
    streams some wait. How far a group is stands in Redis' consumer groups (``XINFO GROUPS``).

    ``redis``, ``cluster``, ``prefix`` and ``streams`` are those of :class:`RedisPublisher`, ``numbers``, ``keep_raw``
    and ``all_sequence_gaps`` those of :class:`~coinapi_ws.Options`. Raises ``ConfigurationError``.
    """

    def __init__(
        self,
        redis: Any,
        *,
        group: str,
        cluster: bool = False,
        prefix: str = DEFAULT_PREFIX,
        streams: int = DEFAULT_STREAMS,
        numbers: str = "float",
        keep_raw: bool = False,
        all_sequence_gaps: bool = False,
        lease_seconds: float = DEFAULT_LEASE_SECONDS,
    ) -> None:
        server = open_server(redis, cluster, prefix, streams)
        del redis
        if isinstance(server, ConfigurationError):
            raise server
        if type(group) is not str or not group:
            raise ConfigurationError("group is the name that the readers share, such as books")
        if not 0.1 <= lease_seconds < float("inf"):
            raise ConfigurationError("lease_seconds is a number of seconds, 0.1 or more")
        self._server = server
        new_decoder = partial(EntryDecoder, numbers, keep_raw=keep_raw, all_sequence_gaps=all_sequence_gaps)
        new_decoder()  # what is wrong with the options is said here
        self._leases = Leases(server, group, f"{group}.{token_hex(8)}", lease_seconds, new_decoder)
        #: Items to give, each with its stream and the position once it is handled.
        self._items: deque[tuple[Item, Held, Position]] = deque()
        self._given: tuple[Held, Position] | None = None
        self._is_closed = False
        self._messages = self._gaps = 0
        self._delay_ns: int | None = None

    def stats(self) -> ReaderStats:
        """Return the counts so far."""
        return ReaderStats(
            messages=self._messages,
            gaps=self._gaps,
            failures=self._server.failures,
            streams=tuple(sorted(self._leases.read)),
            delay=None if self._delay_ns is None else self._delay_ns / NANOSECONDS_PER_SECOND,
        )

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        """Wait for the next item; it never ends by itself."""
        return self.recv()

    def recv(self, timeout: float | None = None) -> Item:
        """Wait for the next item, at most ``timeout`` seconds; the one before counts as handled.

        Raises the built-in ``TimeoutError``, after which all goes on, ``UsageError`` once it is closed, and
        ``RelayError`` where Redis refuses; where Redis is away it waits, and where a call is not answered, 10 s longer.
        """
        if self._is_closed:
            raise UsageError("the reader is closed; make a new one")
        self._note_handled()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._leases.is_due(time.monotonic()):
                self._keep()
            if self._items:
                return self._give()
            now = time.monotonic()
            left = _LONGEST_WAIT_SECONDS if deadline is None else max(0.0, deadline - now)
            self._read(min(left, _LONGEST_WAIT_SECONDS, self._leases.until_due(now)))
            if left == 0 and not self._items:
                raise TimeoutError(f"no message within {timeout:g} s")

    def close(self) -> None:
        """Take note of the last item as handled, and leave the streams to the other readers. Idempotent.

        Blocks, for about 10 s where Redis does not answer; then others wait until the leases run out.
        """
        self._note_handled()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; after an exception the last item is not taken as handled, and will come again."""
        if exc_type is None:
            self._note_handled()
        self._close()

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._items.clear()
            try:
                self._server.attempt(self._leases.leave)
            finally:
                self._server.close()

    def _note_handled(self) -> None:
        if self._given is not None:
            held, position = self._given
            held.handled = position
            self._given = None

    def _give(self) -> Item:
        item, held, position = self._items.popleft()
        self._given = (held, position)
        if isinstance(item, Message):
            self._messages += 1
            self._delay_ns = time.time_ns() - item.received_ns
        elif isinstance(item, Gap):
            self._gaps += 1
        return item

    def _keep(self) -> None:
        """Hold on to the streams that are ours, and take or leave some; forget what is another reader's now."""
        if not self._server.attempt(self._leases.keep):
            self._leases.forget(self._server.delay)
        self._items = deque(entry for entry in self._items if self._leases.has(entry[1]))

    def _read(self, seconds: float) -> None:
        """Take what the streams have; wait at most so long for it."""
        if not self._leases.read:
            time.sleep(seconds)
        elif not self._server.attempt(lambda: self._take_in(seconds)):
            self._leases.forget(self._server.delay)

    def _take_in(self, seconds: float) -> None:
        self._leases.commit()
        if not self._leases.read:
            return  # all were lost
        client, keys = self._server.client, {self._server.stream(number): number for number in self._leases.read}
        asked: dict[str, str] = {key: str(self._leases.read[number].last) for key, number in keys.items()}
        if not self._server.is_cluster:
            replies = [client.xread(asked, count=_BATCH, block=max(1, int(seconds * 1000)))]
        else:
            replies = [client.xread({key: position}, count=_BATCH) for key, position in asked.items()]
            if not any(replies):
                time.sleep(min(seconds, _CLUSTER_PAUSE_SECONDS))
        for key, entries in (pair for reply in replies for pair in _pairs_of(reply)):
            self._decode(self._leases.read[keys[key.decode()]], entries)

    def _decode(self, held: Held, entries: Any) -> None:
        for entry_id, fields in entries:
            before, position = held.before, Position.of(entry_id)
            connection, entry = _entry_of(fields)
            items: list[Item] = []
            missing = position.number - before.number - 1
            if missing and before.number > 0 and entry is not None:
                around = {"after_ms": before.milliseconds, "before_ms": position.milliseconds}
                items.append(Trimmed(stream=held.stream, count=missing if missing > 0 else None, **around))
            if entry is None:
                items.append(Undecodable(reason="an entry that no relay wrote", received_ns=0, payload=repr(fields)))
            elif entry.received_ns is not None or position.number > 1:  # before the first one nothing can be missing
                items += held.decoder.decode(connection, entry)
            self._items.extend((item, held, held.last) for item in items[:-1])
            self._items.extend((item, held, position) for item in items[-1:])
            held.last = held.before = position


def _pairs_of(reply: Any) -> Iterator[tuple[bytes, Any]]:
    """Yield key and entries of a reply to XREAD, of which redis-py has a shape for each protocol, old and new."""
    for key, entries in reply.items() if isinstance(reply, dict) else reply:
        yield key, entries[0] if isinstance(entries[0], list) else entries


def _entry_of(fields: dict[bytes, bytes]) -> tuple[str, Entry | None]:
    """Return connection and entry; None for fields that are none."""
    received = fields.get(b"received_ns")
    try:
        text = fields[b"gap" if received is None else b"frame"].decode()
        return fields[b"connection"].decode(), Entry(None if received is None else int(received), text)
    except (KeyError, ValueError):
        return "", None
