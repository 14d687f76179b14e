"""How a connection misbehaves: what faults set, and what the rest of the simulator asks."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from .statistics import Statistics
from .streams import Stream


class Selection(NamedTuple):
    """Which messages a fault is about; None is all."""

    types: frozenset[str] | None = None
    symbol_ids: frozenset[str] | None = None

    def has(self, stream: Stream) -> bool:
        """Tell whether a stream's messages are meant."""
        return (self.types is None or stream.type in self.types) and (
            self.symbol_ids is None or stream.symbol_id in self.symbol_ids
        )


_ALL = Selection()


@dataclass(frozen=True)
class Behaviour:
    """What lasts until it is changed; the defaults are those of a sound server."""

    #: Half-open: nothing is read, nothing is written; timers wait.
    is_cut: bool = False
    #: Heartbeats and control frames alone are sent.
    is_mute: bool = False
    answers_close: bool = True
    #: Goes on with market data after the client's Close; only where it is not answered.
    sends_after_close: bool = False
    delay_ns: int = 0
    #: At most so many bytes are sent at a time, 0 for no limit, and the next so much later.
    chunk_bytes: int = 0
    chunk_interval_ns: int = 0
    #: At most so many bytes of payload in one WebSocket frame, 0 for no limit.
    fragment_bytes: int = 0
    handshake_delay_ns: int = 0
    #: How many deltas of a book come before its snapshot.
    deltas_first: int = 0
    #: How many frames of what left the scope still come.
    stale_frames: int = 0
    loss_rate: float = 0.0
    lossy: Selection = _ALL

    @property
    def shapes_bytes(self) -> bool:
        """True when bytes are not simply written as they come."""
        return bool(self.delay_ns or self.chunk_bytes)


SOUND = Behaviour()


class _Counted:
    """A fault for the next few messages."""

    def __init__(self, selection: Selection, count: int) -> None:
        self.selection = selection
        self.left = count


class Tampering:
    """What faults do to one connection's market data on its way, message by message.

    What is kept back here has taken its sequence number: to the client it is lost.
    """

    def __init__(self, statistics: Statistics, rng: random.Random) -> None:
        self.behaviour = SOUND
        self._statistics = statistics
        self._rng = rng
        self._skips: list[_Counted] = []
        self._repeats: list[_Counted] = []

    @property
    def is_active(self) -> bool:
        """False where `frames` would change nothing."""
        return bool(self._skips or self._repeats or self.behaviour.loss_rate or self.behaviour.is_mute)

    def skip(self, selection: Selection, count: int) -> None:
        """Lose the next so many messages."""
        self._skips.append(_Counted(selection, count))

    def repeat(self, selection: Selection, count: int) -> None:
        """Send each of the next so many messages twice."""
        self._repeats.append(_Counted(selection, count))

    def clear(self) -> None:
        """Forget what was not done yet."""
        self._skips.clear()
        self._repeats.clear()

    def frames(self, messages: Iterable[tuple[Stream, bytes]]) -> list[bytes]:
        """Return what of these messages goes to the client, and count it, and what is lost."""
        frames: list[bytes] = []
        for stream, frame in messages:
            if self._is_lost(stream):
                self._statistics.frames_lost[stream.type] += 1
                continue
            copies = 2 if _take(self._repeats, stream) else 1
            self._statistics.frames_sent[stream.type] += copies
            frames.extend([frame] * copies)
        return frames

    def _is_lost(self, stream: Stream) -> bool:
        behaviour = self.behaviour
        if behaviour.is_mute or _take(self._skips, stream):
            return True
        return behaviour.loss_rate > 0 and behaviour.lossy.has(stream) and self._rng.random() < behaviour.loss_rate


def _take(faults: list[_Counted], stream: Stream) -> bool:
    fault = next((fault for fault in faults if fault.selection.has(stream)), None)
    if fault is None:
        return False
    fault.left -= 1
    if fault.left == 0:
        faults.remove(fault)
    return True
