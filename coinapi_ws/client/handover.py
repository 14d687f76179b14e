"""One stream out of two connections with the same scope, while a second one takes over from the first, pure.

Trades arrive exactly once, told apart by their ``uuid``. A book comes from the first connection until the second one
has a snapshot of it that is not older. Of everything else an update is let through where it is later than the last one
that was (vendor_notes.md, "Liveness").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..events import SequenceGap
from ..messages import Book, BookL3, Heartbeat, Message, Trade
from ..protocol.frames import Item
from ..timestamps import parse_ns
from .held_book import HeldBook
from .keys import Key, is_market_data, key_of, time_ns_of, time_text_of

#: Trades whose uuids are remembered: far more than come while one server is behind another.
_REMEMBERED_TRADES: Final = 100_000
_BOOK_TYPES: Final = frozenset({"book", "book_l3"})


class Delivered:
    """What was delivered last, of each thing; watched all the time, since a handover looks back."""

    def __init__(self) -> None:
        self.times: dict[Key, str] = {}
        self.last: Message | None = None
        self._uuids: dict[str, None] = {}  # in their order

    def watch(self, items: list[Item]) -> None:
        """Take note of items that are delivered."""
        for item in items:
            if is_market_data(item):
                self.note(item)

    def note(self, message: Message) -> None:
        """Take note of one message."""
        if isinstance(message, Trade) and message.uuid is not None:
            self._uuids[message.uuid] = None
            if len(self._uuids) > _REMEMBERED_TRADES:
                del self._uuids[next(iter(self._uuids))]
        self.last = message
        if (text := time_text_of(message)) is not None:
            self.times[key_of(message)] = text

    def has_trade(self, uuid: str) -> bool:
        """Return whether a trade was delivered."""
        return uuid in self._uuids

    def is_later(self, message: Message, *, or_equal: bool = False) -> bool:
        """Return whether it is later than the last delivered one about the same."""
        last, text = self.times.get(key_of(message)), time_text_of(message)
        if last is None or text is None:
            return True
        try:
            last_ns, ns = parse_ns(last), parse_ns(text)
        except ValueError:
            return True
        return ns > last_ns or (or_equal and ns == last_ns)


class Handover:
    """Merges a first and a second connection. Give each what came of it; what they return is to be delivered.

    ``before`` is a handover in which the first one was the second, and which was not long ago.
    """

    def __init__(self, delivered: Delivered, before: Handover | None = None) -> None:
        self._delivered = delivered
        self._from_second: set[Key] = set()  # whose last update came from the second
        # With one handover after the other, what the first has not brought yet since it was the second.
        self._behind: set[Key] = set() if before is None else before.not_from_second()
        self._shown: set[Key] = set()  # that came from the second, delivered or not
        self._switched: dict[Key, int] = {}  # books that come from the second for good, and their next sequence
        self._held: dict[Key, HeldBook] = {}
        self._lost: dict[Key, SequenceGap] = {}  # changes of the second that no snapshot has made good yet
        self._first_has_ended = False
        self._last_of_first = delivered.last
        self._first_of_second: Message | None = None
        self._first_trade_of_second: Message | None = None
        self.duplicates = 0

    @property
    def has_switched(self) -> bool:
        """Whether a book comes from the second connection already."""
        return bool(self._switched)

    def not_from_second(self) -> set[Key]:
        """Return what the second has brought no update of that was delivered."""
        return self._delivered.times.keys() - self._from_second - self._switched.keys()

    def take_first(self, items: list[Item]) -> list[Item]:
        """Return what of the first connection is to be delivered."""
        self._last_of_first = next(filter(is_market_data, reversed(items)), self._last_of_first)
        passed: list[Item] = []
        for item, gap in _with_gaps(items):
            if self._passes_first(item):
                passed += [*gap, item]
        return passed

    def take_second(self, items: list[Item]) -> list[Item]:
        """Return what of the second connection is to be delivered."""
        if not self._first_has_ended:
            self._first_of_second = self._first_of_second or next(filter(is_market_data, items), None)
            trades = (item for item in items if isinstance(item, Trade))
            self._first_trade_of_second = self._first_trade_of_second or next(trades, None)
        passed: list[Item] = []
        for item, gap in _with_gaps(items):
            if isinstance(item, SequenceGap):
                passed += self._take_gap(item)
            elif isinstance(item, (Book, BookL3)) and item.type in _BOOK_TYPES:
                passed += self._take_book(item)
            elif is_market_data(item):
                if self._passes(item, from_second=True):
                    passed += [*gap, item]
            elif not isinstance(item, Heartbeat) or self._first_has_ended:
                passed.append(item)
        return passed

    def lacking(self) -> list[Item]:
        """Return what books of the second lack, once nothing comes of the first; from then on they are as they come."""
        lost, self._lost = self._lost, {}
        self._switched |= {key: gap.received for key, gap in lost.items()}
        return list(lost.values())

    def end_first(self) -> int:
        """Take note that the first connection has ended; return how many things the second has not shown yet."""
        self._first_has_ended = True
        return len(self._delivered.times.keys() - self._shown - self._switched.keys())

    def lose_second(self) -> None:
        """Take note that the second connection ended and the first goes on: nothing builds on what was held back.

        What books had from the second lacks what the first will not be asked for; :meth:`lacking` says so.
        """
        self._held.clear()
        self._lost = {
            key: SequenceGap(type=str(key[0]), symbol_id=str(key[1]), expected=expected, received=expected + 1)
            for key, expected in self._switched.items()
        }

    def seam(self, *, is_whole: bool) -> tuple[int | None, int | None]:
        """Return the times of the first one's last message and of the second one's first, None where there is none.

        What lies between them is missing, where the first is the earlier. ``is_whole``: the first ended in order, so
        that it must have been behind for something to be missing; only a trade shows that for certain, since other
        messages are also sent because a connection is new.
        """
        last, first = self._last_of_first, self._first_trade_of_second if is_whole else self._first_of_second
        return (None if last is None else time_ns_of(last)), (None if first is None else time_ns_of(first))

    def finish(self) -> list[Item]:
        """Return the books that were held back to the end, since later changes build on them."""
        return [book.as_snapshot() for book in self._held.values()]

    def _passes_first(self, item: Item) -> bool:
        if isinstance(item, SequenceGap):
            return (item.type, item.symbol_id) not in self._switched
        return not is_market_data(item) or self._passes(item, from_second=False)

    def _passes(self, message: Message, *, from_second: bool) -> bool:
        key = key_of(message)
        if from_second:
            self._shown.add(key)
        if key in self._switched:
            is_new = from_second
        elif isinstance(message, Trade) and message.uuid is not None:
            is_new = not self._delivered.has_trade(message.uuid)
        elif time_text_of(message) is None:
            # It cannot be told from a repetition, which is what a new connection begins with.
            is_new = not from_second or self._first_has_ended
        else:
            is_own = key in self._from_second if from_second else not (key in self._from_second or key in self._behind)
            is_new = is_own or self._delivered.is_later(message)
        if not is_new:
            self.duplicates += 1
            return False
        self._delivered.note(message)
        self._behind.discard(key)
        if from_second:
            self._from_second.add(key)
        else:
            self._from_second.discard(key)
        return True

    def _take_gap(self, gap: SequenceGap) -> list[Item]:
        key = (gap.type, gap.symbol_id)
        if key in self._switched:
            return [gap]
        self._held.pop(key, None)  # it is wrong now; the next snapshot will do
        self._lost[key] = gap
        return self.lacking() if self._first_has_ended else []

    def _take_book(self, message: Book | BookL3) -> list[Item]:
        key = key_of(message)
        if key in self._switched:
            self._switched[key] = (message.sequence or 0) + 1
            return [message] if self._passes(message, from_second=True) else []
        held = self._held.pop(key, None)
        if held is not None:
            held.change(message)
        elif message.is_snapshot:
            held = HeldBook(message)
        if held is None or not held.is_whole:
            self._note_lost(key, message)
            if self._first_has_ended:
                return [*self.lacking(), *self._take_book(message)]
            self.duplicates += 1
            return []
        self._lost.pop(key, None)
        if not self._delivered.is_later(held.latest, or_equal=True):
            self._held[key] = held
            self.duplicates += 1
            return []
        self._switched[key] = (message.sequence or 0) + 1
        snapshot = held.as_snapshot()
        self._delivered.note(snapshot)
        return [snapshot]

    def _note_lost(self, key: Key, message: Book | BookL3) -> None:
        sequence = message.sequence or 0
        gap = self._lost.get(key)
        expected = sequence if gap is None else gap.expected
        self._lost[key] = SequenceGap(
            type=message.type, symbol_id=message.symbol_id or "", expected=expected, received=sequence + 1
        )


def _with_gaps(items: list[Item]) -> Iterator[tuple[Item, list[Item]]]:
    """Give each item, with the gap that it showed, which is nothing of interest where the item itself is not.

    What came before a repetition has been delivered too. The gap of a book is an item of its own, since the book's next
    changes build on what is missing.
    """
    gap: list[Item] = []
    for item in items:
        if isinstance(item, SequenceGap) and item.type not in _BOOK_TYPES:
            gap = [item]
        else:
            yield item, gap
            gap = []
