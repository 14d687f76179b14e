"""The bounded queue between the I/O thread and the callbacks, and what happens when it is full."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from typing import Final, Protocol

from ..events import Dropped, SequenceGap, Undecodable
from ..messages import Message
from ..protocol.frames import Item
from .keys import STATE_TYPES, Key, key_of, time_ns_of
from .monitor import Monitor
from .undecoded import Undecoded

PAUSE: Final = "pause"
CONFLATE: Final = "conflate"
DROP_OLDEST: Final = "drop_oldest"
POLICIES: Final = (PAUSE, CONFLATE, DROP_OLDEST)

#: Reading goes on below this part of what stopped it: soon, since the server's Pings wait meanwhile.
_RESUME_PART: Final = 7 / 8
#: Where conflating leaves more than this part, there is too little to conflate, and reading stops.
_CONFLATED_PART: Final = 3 / 4
#: Far more than is taken at once. What is read beyond it only takes memory and time from those who take.
READ_AHEAD_BYTES: Final = 2 * 1024 * 1024
#: A wait is no longer than this, so that Ctrl-C works where a wait cannot be interrupted (F17).
_SLICE_SECONDS: Final = 0.2


class Deliver(Protocol):
    """Takes items, the bytes that they had, and whether those beyond the queue's bounds are to be dropped."""

    def __call__(self, items: list[Item] | Undecoded, size: int, *, may_drop: bool) -> object: ...


class DeliveryQueue:
    """Items on their way to the callbacks, bounded in messages and in bytes of their text.

    One read of the socket may go beyond the bounds, or as many as a connection makes before a timer. Messages count,
    and frames that could not be decoded; events are few and never dropped, but for a sequence gap together with its
    message. ``on_room`` is called, from whichever thread takes, when a full queue has room again. Any thread may take;
    only the I/O thread puts, which does not block (F4, F12).
    """

    def __init__(self, policy: str, max_messages: int, max_bytes: int, on_room: Callable[[], object]) -> None:
        self._policy = policy
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._on_room = on_room
        self._entries: deque[tuple[Item | Undecoded, int]] = deque()  # the size of what does not count is 0
        self._drops: dict[tuple[str, str | None], Dropped] = {}
        self._monitor = Monitor()
        self._has_ended = False
        self._is_awaited = False
        self._full_part = _CONFLATED_PART if policy == CONFLATE else 1.0
        self.is_full = False
        self.is_discarding = False
        self.is_iterated = False
        self.iterated = 0
        self.messages = 0
        self.bytes = 0
        self.most_messages = 0
        self.dropped = 0
        self.conflated = 0
        self._undelivered = 0

    @property
    def undelivered(self) -> int:
        """How many messages came or waited when nothing might be delivered any more."""
        return self._undelivered + (self.messages if self.is_discarding else 0)

    @property
    def is_held_here(self) -> bool:
        """Whether this thread is in the middle of a call: a signal handler that is must not wait for others."""
        return self._monitor.is_held_here()

    def put(self, items: list[Item], size: int, *, may_drop: bool = False) -> None:
        """Append what one read brought, of so many bytes together.

        ``may_drop``: it comes of a connection that is being closed, which reads on though the queue is full.
        """
        with self._monitor.lock:
            if self.is_discarding:
                self._clear()
                self._undelivered += _count(items)
                return
            if may_drop and self.is_full:
                items = self._without_messages(items)
            counted = _count(items)
            each = max(1, size // counted) if counted else 0
            for item in items:
                self._entries.append((item, each if _counts(item) else 0))
            self.messages += counted
            self.bytes += each * counted
            self.most_messages = max(self.most_messages, self.messages)
            self._apply_policy()
            self._monitor.notify_all()

    def put_left_out(self, items: list[Item], size: int) -> bool:
        """Append as ``may_drop`` does, where the queue is full still, or return False: somebody took from it meanwhile.

        For what was decoded without its order, which must not be delivered.
        """
        with self._monitor.lock:
            if not self.is_full:
                return False
            self.put(items, size, may_drop=True)
            return True

    def put_undecoded(self, undecoded: Undecoded, size: int) -> None:
        """Append what one read brought, to be decoded by who takes it; for the policy that leaves nothing out."""
        with self._monitor.lock:
            if self.is_discarding:
                self._clear()
                self._undelivered += undecoded.count
                return
            size = max(size, undecoded.count)
            self._entries.append((undecoded, size))
            self.messages += undecoded.count
            self.bytes += size
            self.most_messages = max(self.most_messages, self.messages)
            self._apply_policy()
            self._monitor.notify_all()

    def take(self, most: int, timeout: float | None = None) -> list[Item | Undecoded] | None:
        """Wait for items and return at most so many; none after ``timeout`` seconds, None at the end.

        A read that is not decoded yet is taken whole, and is as many as its messages, so few others come with it: what
        was taken is in no bound, and until it is delivered nothing more makes room.
        """
        with self._monitor.lock:
            if not self._wait(timeout):
                return []
            if self.is_discarding:
                self._clear()
            if not self._entries and not self._drops:
                return None
            taken: list[Item | Undecoded] = []
            while self._drops and len(taken) < most:
                taken.append(self._drops.pop(next(iter(self._drops))))
            entries, left = self._entries, most - len(taken)
            while entries and left > 0:
                item, size = entries.popleft()
                taken.append(item)
                count = item.count if isinstance(item, Undecoded) else 1
                left -= max(1, count)
                if size:
                    self.messages -= count
                    self.bytes -= size
                    self.iterated += self.is_iterated and isinstance(item, Message)
            has_room = self.is_full and not self._reaches(self._full_part * _RESUME_PART)
            if has_room:
                self.is_full = False
            if self._is_awaited and self.bytes <= READ_AHEAD_BYTES:
                self._monitor.notify_all()
        if has_room:
            self._on_room()
        return taken

    def wait_for_takers(self, seconds: float) -> None:
        """Where much is read ahead, let those who take catch up, for at most so long; for the policy to pause."""
        if self.bytes <= READ_AHEAD_BYTES or self._policy != PAUSE:
            return
        deadline = time.monotonic() + seconds
        with self._monitor.lock:
            self._is_awaited = True
            while (
                self.bytes > READ_AHEAD_BYTES and not self.is_discarding and (left := deadline - time.monotonic()) > 0
            ):
                self._monitor.wait(left)
            self._is_awaited = False

    def end(self) -> None:
        """Say that nothing more is put."""
        with self._monitor.lock:
            if self.is_discarding:
                self._clear()
            self._has_ended = True
            self._monitor.notify_all()

    def discard(self) -> None:
        """Let nothing more be delivered; what is left is undelivered. Idempotent.

        A signal handler may call this in the middle of a :meth:`take`, so what is left is not touched here.
        """
        with self._monitor.lock:
            self.is_discarding = True
            self._monitor.notify_all()
        self._on_room()

    def count_undelivered(self, items: Iterable[Item | Undecoded]) -> None:
        """Count what was taken and cannot be delivered any more."""
        count = sum(_count(chain(*item)) if isinstance(item, Undecoded) else _counts(item) for item in items)
        with self._monitor.lock:
            self._undelivered += count

    def renew_lock(self) -> None:
        """Forget, in a forked child, whoever held the lock."""
        self._monitor = Monitor()

    def end_after_fork(self) -> None:
        """End in the child."""
        self.is_discarding = self._has_ended = True
        self._entries = deque()
        self._drops = {}

    def _clear(self) -> None:
        self._undelivered += self.messages
        self.messages = self.bytes = 0
        self.is_full = False
        self._entries.clear()
        self._drops.clear()

    def _wait(self, timeout: float | None) -> bool:
        """Return whether there is something, or nothing ever again; False after ``timeout``."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (self._entries or self._drops or self._has_ended or self.is_discarding):
            left = _SLICE_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            self._monitor.wait(min(left, _SLICE_SECONDS))
        return True

    def _reaches(self, part: float) -> bool:
        return self.messages >= self._max_messages * part or self.bytes >= self._max_bytes * part

    def _apply_policy(self) -> None:
        if not self._reaches(1.0):
            return
        if self._policy == PAUSE:
            self.is_full = True
        elif self._policy == DROP_OLDEST:
            self._drop_oldest()
        else:
            self._conflate()
            self.is_full = self._reaches(self._full_part)

    def _drop_oldest(self) -> None:
        events: list[Item | Undecoded] = []
        while self.messages > self._max_messages or self.bytes > self._max_bytes:
            item, size = self._entries.popleft()
            if size:
                self._take_out(item, size)
                self.dropped += 1
            elif not isinstance(item, SequenceGap) or not self._is_next(item):
                events.append(item)
        self._entries.extendleft((event, 0) for event in reversed(events))

    def _is_next(self, gap: SequenceGap) -> bool:
        """Return whether the message that shows the gap is next to go, with a ``Dropped`` that says so."""
        item, _ = self._entries[0]
        return isinstance(item, Message) and key_of(item) == (gap.type, gap.symbol_id)

    def _conflate(self) -> None:
        """Let the newest of each key take the place of its oldest, so that each has its turn."""
        newest: dict[Key, int] = {}
        kept: list[tuple[Item | Undecoded, int]] = []
        for item, size in self._entries:
            if isinstance(item, SequenceGap) and item.type in STATE_TYPES:
                place = newest.setdefault((SequenceGap, item.type, item.symbol_id), len(kept))
                first = kept[place][0] if place < len(kept) else item
                assert isinstance(first, SequenceGap)
                kept[place : place + 1] = [(replace(first, received=item.received), 0)]
                continue
            if not isinstance(item, Message) or item.type not in STATE_TYPES:
                kept.append((item, size))
                continue
            place = newest.setdefault(_conflation_key(item), len(kept))
            if place == len(kept):
                kept.append((item, size))
            else:
                self._take_out(*kept[place])
                self.conflated += 1
                kept[place] = (item, size)
        self._entries = deque(kept)

    def _without_messages(self, items: list[Item]) -> list[Item]:
        for item in items:
            if _counts(item):
                self._drop(item)
                self.dropped += 1
        return [item for item in items if not isinstance(item, SequenceGap) and not _counts(item)]

    def _take_out(self, item: Item | Undecoded, size: int) -> None:
        self.messages -= 1
        self.bytes -= size
        self._drop(item)

    def _drop(self, item: Item | Undecoded) -> None:
        """Take note of a message, or of a frame that is none, that is not delivered."""
        if isinstance(item, Message):
            name, symbol_id, time_ns = item.type, getattr(item, "symbol_id", None), time_ns_of(item)
        else:
            assert isinstance(item, Undecodable)
            name, symbol_id, time_ns = "undecodable", None, item.received_ns
        before = self._drops.get((name, symbol_id))
        self._drops[name, symbol_id] = Dropped(
            type=name,
            symbol_id=symbol_id,
            count=1 if before is None else before.count + 1,
            first_ns=time_ns if before is None else before.first_ns,
            last_ns=time_ns,
        )


def _conflation_key(message: Message) -> Key:
    """Each candle has its last word, so the next period's is another key."""
    return (*key_of(message), getattr(message, "time_period_start", None))


def _counts(item: Item) -> bool:
    return isinstance(item, (Message, Undecodable))


def _count(items: Iterable[Item]) -> int:
    return sum(map(_counts, items))
