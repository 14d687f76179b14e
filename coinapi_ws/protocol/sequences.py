"""Sequence numbers per (type, symbol_id), within one connection (vendor_notes.md, "Sequences")."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from ..events import SequenceGap
from ..messages import Book, BookL3, Message, set_field
from ..scope import Scope

#: A missing delta makes a book wrong, so a jump is reported; for others it is not known whether
#: throttled and filtered streams are numbered anew, so jumps are counted.
STRICT_TYPES: Final = frozenset({"book", "book_l3"})
#: So many changes of the scope may be on their way while nothing of a pair was read yet.
_MAX_CHANGES: Final = 100


class Sequences:
    """Watch sequences, and know which books have had a snapshot.

    ``jumps`` counts messages whose sequence did not follow, by (type, symbol_id), reported ones included.
    ``reports_all``: a jump of any type is a gap, not of the strict ones alone.
    """

    def __init__(self, *, reports_all: bool = False) -> None:
        self.jumps: dict[tuple[str, str], int] = {}
        self._reports_all = reports_all
        self._next: dict[str, dict[str, int]] = {}
        #: How often: what came before a change of the scope may be read long after it, and after the next.
        self._may_restart: Counter[tuple[str, str]] = Counter()
        self._has_snapshot: set[tuple[str, str]] = set()
        #: What the latest changes of the scope kept.
        self._kept: deque[Scope] = deque(maxlen=_MAX_CHANGES)

    def following(self, type_name: str) -> dict[str, int]:
        """Return the sequence that comes next, by symbol.

        Whoever finds a message's own there may count it up instead of calling :meth:`observe`, unless it is a book that
        is not marked as no snapshot.
        """
        return self._next.setdefault(type_name, {})

    def observe(self, message: Message) -> SequenceGap | None:
        """Take note of the next message; return the gap before it, where there is one to report.

        The first sequence seen of a pair is its base. A book that does not say so is marked as no snapshot
        here, once its symbol has had one.
        """
        symbol_id = getattr(message, "symbol_id", None)
        sequence = getattr(message, "sequence", None)
        if symbol_id is None:
            return None
        pair = (message.type, symbol_id)
        if isinstance(message, (Book, BookL3)):
            self._observe_book(pair, message)
        if sequence is None:
            return None
        following = self.following(message.type)
        expected = following.get(symbol_id)
        following[symbol_id] = sequence + 1
        if expected is None:
            if any(not kept.may_match(message) for kept in self._kept):
                # It may have left and come back before its first message was read.
                self._may_restart[pair] += 1
            return None
        if sequence == expected:
            return None
        if sequence == 1 and self._may_restart[pair] > 0:
            self._may_restart[pair] -= 1
            return None
        self.jumps[pair] = self.jumps.get(pair, 0) + 1
        if message.type not in STRICT_TYPES and not self._reports_all:
            return None
        return SequenceGap(type=message.type, symbol_id=symbol_id, expected=expected, received=sequence)

    def scope_changed(self, kept: Scope) -> None:
        """Let pairs outside of what was kept begin again at 1: that is what they do when they come back.

        Frames of the old scope may still be on their way, so the pairs are not forgotten at once.
        """
        if kept not in self._kept:
            self._kept.append(kept)
        numbered = {(name, symbol_id) for name, following in self._next.items() for symbol_id in following}
        for pair in numbered | self._has_snapshot:
            if not kept.may_match(_probe(*pair)):
                self._may_restart[pair] += 1
                self._has_snapshot.discard(pair)

    def _observe_book(self, pair: tuple[str, str], message: Book | BookL3) -> None:
        if message.is_snapshot:
            self._has_snapshot.add(pair)
        elif message.is_snapshot is None and pair in self._has_snapshot:
            # Not published yet, so it may still be completed.
            set_field(message, "is_snapshot", False)


def _probe(type_name: str, symbol_id: str) -> Message:
    """A message that stands for a pair; Book has the symbol_id that every type with a sequence has."""
    return Book(type=type_name, symbol_id=symbol_id)
