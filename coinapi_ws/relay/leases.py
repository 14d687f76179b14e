"""Which streams a reader reads, and how far its group is in each of them.

A stream is read by one reader at a time, the one that holds its lease: a key that expires unless it is renewed. How far
a group is stands in the stream's consumer group, and only the holder of the lease moves it; so a reader that comes back
after it was taken for dead changes nothing. Entries are read from there on with ``XREAD``, and not with ``XREADGROUP``,
which gives an entry to whoever asks, also to one whose lease has run out, and what it took then would come after newer
ones, or never.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .entries import EntryDecoder
from .redis_server import RedisServer

#: Renews a lease and, with a position, moves the group there; returns whether the lease is still held. One that ran out
#: is taken again where the group is where this reader left it, so one that is slow and alone gets on.
_HOLD: Final = """
local holder = redis.call('GET', KEYS[2])
if not holder and redis.call('EXISTS', KEYS[1]) == 1 then
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
        if group[2] == ARGV[3] and group[8] == ARGV[4] then holder = ARGV[1] end
    end
end
if holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
if ARGV[5] then redis.call('XGROUP', 'SETID', KEYS[1], ARGV[3], ARGV[5], 'ENTRIESREAD', ARGV[6]) end
return 1
"""
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
#: Notes that a reader lives, and returns all that do, in order.
_JOIN: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local names = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(names)
return names
"""
#: Of the time of a lease, after which it is renewed.
_RENEWED_PART: Final = 1 / 3
#: How far the group is need not be noted after each read: what is not noted comes again where a reader dies.
_NOTED_EACH_SECONDS: Final = 0.5


class Position(NamedTuple):
    """The id of an entry: when it was published, by the server's clock, and the how-manieth of its stream it is."""

    milliseconds: int
    number: int

    @classmethod
    def of(cls, entry_id: bytes) -> Position:
        """Return the position of an id as Redis writes it."""
        milliseconds, _, number = entry_id.partition(b"-")
        return cls(int(milliseconds), int(number))

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.number}"


@dataclass(slots=True)
class Held:
    """A stream that is read: the last entry that was taken from it, handled, and noted as handled.

    Its decoder follows the sequences from where this reading began: another reader may have read on before.
    """

    stream: int
    decoder: EntryDecoder
    #: The entry that the numbers go on from; not the last one where the server has forgotten it.
    before: Position
    last: Position
    handled: Position
    committed: Position


class Leases:
    """The streams of one reader. Methods that talk to Redis raise what redis-py raises."""

    def __init__(
        self, server: RedisServer, group: str, name: str, seconds: float, new_decoder: Callable[[], EntryDecoder]
    ) -> None:
        self._server = server
        self._new_decoder = new_decoder
        self._group = group
        self._name = name
        self._milliseconds = round(seconds * 1000)
        self._period = seconds * _RENEWED_PART
        self._due = self._note_due = 0.0
        #: What this reader reads, by the number of the stream.
        self.read: dict[int, Held] = {}
        #: What it read, and reads.
        self._ever: dict[int, Held] = {}

    def is_due(self, now: float) -> bool:
        """Return whether :meth:`keep` is to be called."""
        return now >= self._due

    def until_due(self, now: float) -> float:
        """Return the seconds until then."""
        return max(0.0, self._due - now)

    def has(self, held: Held) -> bool:
        """Return whether this is read still, and was not lost meanwhile, perhaps to be taken again."""
        return self.read.get(held.stream) is held

    def forget(self, delay: float) -> None:
        """Read nothing more until the leases, which may be lost, are looked at again after so many seconds."""
        self.read.clear()
        self._due = time.monotonic() + delay

    def keep(self) -> None:
        """Renew what is held, leave what others should read, take what is free. Blocks for some calls."""
        self._due = time.monotonic() + self._period
        readers = self._server.client.eval(_JOIN, 1, self._readers_key, self._name, self._milliseconds)
        place = [name.decode() for name in readers].index(self._name)
        mine = set(range(place, self._server.streams, len(readers)))
        for stream in list(self.read):
            if stream not in mine:
                self._release(stream)
            else:
                self._hold(stream)
        for stream in sorted(mine - self.read.keys()):
            self._take(stream)

    def commit(self) -> None:
        """Note how far the group is, now and then. Blocks for a call for each stream that went on."""
        now = time.monotonic()
        if now < self._note_due:
            return
        self._note_due = now + _NOTED_EACH_SECONDS
        for stream, held in list(self.read.items()):
            if held.handled != held.committed:
                self._hold(stream)

    def leave(self) -> None:
        """Note how far the group is, and let others read."""
        for stream in list(self.read):
            self._release(stream)
        self._server.client.zrem(self._readers_key, self._name)

    @property
    def _readers_key(self) -> str:
        return f"{self._server.prefix}:readers:{self._group}"

    def _lease_key(self, stream: int) -> str:
        return f"{self._server.stream(stream)}:lease:{self._group}"

    def _hold(self, stream: int) -> None:
        held, key = self.read[stream], self._server.stream(stream)
        arguments: list[Any] = [self._name, self._milliseconds, self._group, str(held.committed)]
        if held.handled != held.committed:
            arguments += [str(held.handled), held.handled.number]
        if self._server.client.eval(_HOLD, 2, key, self._lease_key(stream), *arguments):
            held.committed = held.handled
        else:
            del self.read[stream]

    def _release(self, stream: int) -> None:
        self._hold(stream)
        if self.read.pop(stream, None) is not None:
            self._server.client.eval(_RELEASE, 1, self._lease_key(stream), self._name)

    def _take(self, stream: int) -> None:
        client, key, lease = self._server.client, self._server.stream(stream), self._lease_key(stream)
        is_free = client.set(lease, self._name, nx=True, px=self._milliseconds)
        # After a connection that broke it may be ours.
        if not is_free and not client.eval(_HOLD, 2, key, lease, self._name, self._milliseconds):
            return
        groups = client.xinfo_groups(key) if client.exists(key) else []
        found = [group["last-delivered-id"] for group in groups if group["name"] == self._group.encode()]
        if not found:
            client.xgroup_create(key, self._group, "0", mkstream=True)
        position = Position.of(found[0]) if found else Position(0, 0)
        # A group that is gone, with entries perhaps that nobody has read.
        before = self._ever[stream].handled if not found and stream in self._ever else position
        held = Held(stream, self._new_decoder(), before, last=position, handled=position, committed=position)
        self.read[stream] = self._ever[stream] = held
