"""From when to when nothing came, over cuts and failed attempts, pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ..events import Cause, ConnectionGap, Disconnected, Event
from ..messages import Message
from ..protocol.frames import Frame, Frames, Item
from ..scope import Scope
from .keys import is_market_data, time_ns_of, time_text_of
from .undecoded import decoded_alone

_REFUSALS: Final = frozenset({Cause.CREDENTIALS, Cause.SCOPE})


class ConnectionGaps:
    """Say exactly one ``ConnectionGap`` for each time without a connection that follows one with a hello."""

    def __init__(self) -> None:
        #: The last message that says when it was made; until there is one, the last of all.
        self._last: Message | None = None
        #: What came after it and is not decoded.
        self._passed: Frames | None = None
        self._cut: tuple[int | None, str, Scope] | None = None

    def cut(self, ending: Disconnected, scope: Scope) -> None:
        """Take note that a connection ended, though something is wanted: a gap, if it had sent its hello.

        Where the server refused key or scope at the hello nothing was on its way.
        """
        self._note_passed()
        if self._cut is not None or ending.stage not in ("hello", "live"):
            return
        if ending.stage == "live" or ending.cause not in _REFUSALS:
            self._cut = (None if self._last is None else time_ns_of(self._last), ending.summary(), scope)

    def between(self, from_ns: int | None, to_ns: int | None, ending: Disconnected, scope: Scope) -> list[Item]:
        """Return the gap between two connections, the second of which was live before the first ended, if there is one.

        ``from_ns`` is the time of the first one's last message, ``to_ns`` that of the second one's first; without any
        yet, the gap comes before it.
        """
        if to_ns is None:
            self.cut(ending, scope)
        elif from_ns is not None and from_ns < to_ns:
            return [ConnectionGap(from_ns=from_ns, to_ns=to_ns, reason=ending.summary(), scope=scope)]
        return []

    @property
    def is_open(self) -> bool:
        """Whether a gap waits for the message that ends it."""
        return self._cut is not None

    def passed(self, items: Sequence[Event | Frame | Frames]) -> None:
        """Take note of what goes on without being decoded here."""
        for item in items:
            if isinstance(item, Frames):
                if self._passed is not None and not _is_timed(item):
                    self._note_passed()
                self._passed = item
            elif isinstance(item, Frame):
                self._note_passed()
                self._note_last([item.decoded])

    def _note_passed(self) -> None:
        if self._passed is not None:
            passed, self._passed = self._passed, None
            # From the end, where the first one decoded is mostly the one.
            self._note_last(decoded_alone([passed._replace(payloads=passed.payloads[::-1])]))

    def deliver(self, items: list[Item]) -> list[Item]:
        """Return the items, with the gap before the first market data after a cut."""
        if self._cut is not None:
            for position, item in enumerate(items):
                if is_market_data(item):
                    items = [*items[:position], self._close(time_ns_of(item)), *items[position:]]
                    break
        self._note_passed()
        self._note_last(reversed(items))
        return items

    def end(self) -> list[Item]:
        """Return the gap that nothing came after, where there is one; what comes later begins anew."""
        gaps: list[Item] = [] if self._cut is None else [self._close(None)]
        self._last = self._passed = None
        return gaps

    def _note_last(self, newest_first: Iterable[Item]) -> None:
        """When it was received is later than what may be missing, by as long as nothing was read."""
        untimed: Message | None = None
        for item in newest_first:
            if is_market_data(item):
                if time_text_of(item) is not None:
                    self._last = item
                    return
                untimed = untimed or item
        if untimed is not None and (self._last is None or time_text_of(self._last) is None):
            self._last = untimed

    def _close(self, to_ns: int | None) -> ConnectionGap:
        assert self._cut is not None
        from_ns, reason, scope = self._cut
        self._cut = None
        if from_ns is not None and to_ns is not None:
            to_ns = max(from_ns, to_ns)  # the next server may be behind, and then nothing is missing
        return ConnectionGap(from_ns=from_ns, to_ns=to_ns, reason=reason, scope=scope)


def _is_timed(frames: Frames) -> bool:
    """Whether any of these is sure to say when it was made, as far as such messages do."""
    types = frames.types
    return types[-1].following is not None or any(frame_type.following is not None for frame_type in types)
