"""From text frames to messages: whose frames are whose, decoded, checked for gaps, and without the surplus; pure.

There is a short way for what is as always: the frame is recognised by its last characters, looks as its type always
does, and its sequence follows. Whatever is not so takes the way that looks at everything, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ..decoding import UNUSUAL, Decoder
from ..events import Event, SequenceGap, Undecodable
from ..messages import MESSAGE_TYPES, Message, Ohlcv
from ..options import Options
from ..scope import Scope
from .frames import LONGEST_NAME_IN_TAIL, TAIL, Frame, Frames, FrameType, Item, type_at_end
from .sequences import STRICT_TYPES, Sequences
from .surplus import Surplus

#: Frames of these types concern the session itself, and so do those whose type their end does not show.
_SESSION_TYPES: Final = frozenset({"error", "reconnect", "hearbeat", "heartbeat"})
#: Is no sequence, also where a message has none.
_NEVER: Final = object()
#: A server may invent any number of types.
_MAX_TYPES: Final = 1000
#: What stands before a short type, such as the end of a number, is in its tail, so it has many.
_MAX_TAILS: Final = 2000


def begins_anew(item: Item) -> bool:
    """Return whether a gap is a sequence that is at 1 again: a change of the scope, where nobody tells of those."""
    return isinstance(item, SequenceGap) and item.received == 1


class Reader:
    """The frames of one session, each given to :meth:`types_of` and to :meth:`decode`, in order."""

    def __init__(self, options: Options, scope: Scope) -> None:
        self._decoder = Decoder(options.numbers, keep_raw=options.keep_raw)
        self._sequences = Sequences(reports_all=options.all_sequence_gaps)
        self._surplus = None if options.deliver_surplus else Surplus(scope, options.endpoint.product)
        self._types: dict[str, FrameType] = {}
        self._by_tail: dict[str, FrameType] = {}

    @property
    def jumps(self) -> dict[tuple[str, str], int]:
        """How many messages had a sequence that did not follow, by (type, symbol_id)."""
        return dict(self._sequences.jumps)

    @property
    def surplus(self) -> int:
        """How many messages were dropped that were not asked for."""
        return 0 if self._surplus is None else self._surplus.dropped

    def scope_changed(self, kept: Scope, scope: Scope | None = None) -> None:
        """Let what is not kept begin anew; ``scope`` is what is wanted from now on, where that is another."""
        self._sequences.scope_changed(kept)
        if scope is not None and self._surplus is not None:
            self._surplus.scope_changed(scope)
            for frame_type in self._types.values():
                frame_type.wanted = set()

    def read(self, payload: str, received_ns: int) -> Message | Undecodable:
        """Decode a frame that concerns the session."""
        return self._decoder.decode(payload, received_ns)

    def types_of(self, payloads: list[str]) -> list[FrameType | None]:
        """Return the types of frames that the session need not read; None for each that it has to."""
        by_tail = self._by_tail
        types = [by_tail.get(payload[-TAIL:]) for payload in payloads]
        if None in types:
            types = [known or self._type_of(payload) for known, payload in zip(types, payloads, strict=True)]
        return types

    def _type_of(self, payload: str) -> FrameType | None:
        name = type_at_end(payload)
        if name is None or name in _SESSION_TYPES:
            return None
        frame_type = self._type_named(name)
        if len(name) <= LONGEST_NAME_IN_TAIL and len(self._by_tail) < _MAX_TAILS:
            self._by_tail[payload[-TAIL:]] = frame_type
        return frame_type

    def decode(self, items: Iterable[Event | Frame | Frames]) -> Iterator[Item]:
        """Decode frames, put gaps before the messages that show them, drop and count the surplus."""
        for item in items:
            if isinstance(item, Frames):
                yield from self.decode_frames(zip(item.types, item.payloads, strict=True), item.received_ns)
            elif isinstance(item, Frame):
                yield from self._checked(item.decoded, None)
            else:
                yield item

    def decode_text(self, payload: str, received_ns: int) -> Iterator[Item]:
        """Decode one frame by itself, whichever it is: for texts that come from elsewhere than a session."""
        (frame_type,) = self.types_of([payload])
        if frame_type is None:
            return self._checked(self.read(payload, received_ns), None)
        return self.decode_frames([(frame_type, payload)], received_ns)

    def decode_frames(self, frames: Iterable[tuple[FrameType, str]], received_ns: int) -> Iterator[Item]:
        """Decode a run of frames, one whenever one is asked for."""
        decode = self._decoder.decode
        for frame_type, payload in frames:
            quick, following = frame_type.quick, frame_type.following
            if quick is None or not payload.isascii():
                yield from self._checked(decode(payload, received_ns), frame_type)
                continue
            try:
                message: Any = quick(payload, received_ns)
            except UNUSUAL:
                yield from self._checked(decode(payload, received_ns), frame_type)
                continue
            if following is not None:
                symbol_id, sequence = message.symbol_id, message.sequence
                wanted = frame_type.wanted
                if (
                    following.get(symbol_id, _NEVER) == sequence
                    and (wanted is None or symbol_id in wanted)
                    and not (frame_type.is_delta and message.is_snapshot is not False)
                ):
                    following[symbol_id] = sequence + 1
                    yield message
                    continue
            yield from self._checked(message, frame_type)

    def _checked(self, read: Message | Undecodable, frame_type: FrameType | None) -> Iterator[Item]:
        if isinstance(read, Message):
            gap = self._sequences.observe(read)
            if self._surplus is not None and self._surplus.drops(read):
                return
            if frame_type is not None and frame_type.wanted is not None and not isinstance(read, Ohlcv):
                # Of candles the period counts as well.
                frame_type.wanted.add(getattr(read, "symbol_id", None) or "")
            if gap is not None:
                yield gap
        yield read

    def _type_named(self, name: str) -> FrameType:
        frame_type = self._types.get(name)
        if frame_type is not None:
            return frame_type
        frame_type = FrameType(
            name,
            quick=self._decoder.quick(name),
            following=self._sequences.following(name) if hasattr(MESSAGE_TYPES.get(name), "sequence") else None,
            is_delta=name in STRICT_TYPES,
            wanted=set() if self._surplus is not None and self._surplus.is_filtering else None,
        )
        if len(self._types) < _MAX_TYPES or name in MESSAGE_TYPES:
            self._types[name] = frame_type
        return frame_type
