"""A recording sent again: prepared once for all clients, replayed to each at its own place."""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_right
from collections.abc import Iterable
from itertools import compress
from typing import Final

from coinapi_ws.recording.lines import RecordingError
from coinapi_ws.recording.reading import read_recording

from .behaviour import Tampering
from .market import Publication
from .scope import Product, Scope
from .statistics import Statistics
from .streams import DATA_TYPES, Stream
from .wire import NEVER_NS, text_frame

_BLOCK_FRAMES: Final = 256  # how many frames are filtered at a time


class PreparedRecording:
    """All frames of a recording as bytes of the wire, with when they are due and what stream they are of.

    It is held in memory. Raises `RecordingError` and `OSError` as `read_recording` does.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.frames: list[bytes] = []
        #: Nanoseconds since the first frame; a clock that was set back counts as standing still.
        self.offsets_ns: list[int] = []
        self.types: list[str] = []
        self.streams: list[Stream | None] = []
        #: For each frame the index of its stream in `streams`.
        self.stream_numbers: list[int] = []
        numbers: dict[Stream | None, int] = {}
        first_ns: int | None = None
        offset_ns = 0
        for received_ns, text in read_recording(path):
            first_ns = received_ns if first_ns is None else first_ns
            offset_ns = max(offset_ns, received_ns - first_ns)
            kind, stream = _stream_of(text)
            if stream not in numbers:
                numbers[stream] = len(numbers)
                self.streams.append(stream)
            try:
                self.frames.append(text_frame(text.encode()))
            except UnicodeEncodeError:
                name = os.fspath(path)
                raise RecordingError(f"{name}: frame {len(self.frames) + 1} is not Unicode text") from None
            self.offsets_ns.append(offset_ns)
            self.types.append(kind)
            self.stream_numbers.append(numbers[stream])

    def __len__(self) -> int:
        return len(self.frames)


class Replay:
    """One client's way through a recording, a `Feed`.

    ``speed`` divides the recorded times; None sends as fast as the client takes it.
    """

    wanted: frozenset[Stream] = frozenset()

    def __init__(
        self,
        recording: PreparedRecording,
        product: Product,
        tampering: Tampering,
        statistics: Statistics,
        *,
        speed: float | None,
        loop: bool,
    ) -> None:
        self.tampering = tampering
        self.is_finished = False
        # A loop that takes no time has no pace either.
        takes_no_time = loop and recording.offsets_ns[-1:] == [0]
        self.waits_for_client = speed is None or takes_no_time
        self._recording = recording
        self._offered = [stream is None or product.has(stream) for stream in recording.streams]
        self._statistics = statistics
        self._speed = speed
        self._loop = loop
        self._in_scope: list[bool] = []
        self._position = 0
        self._ahead = 0
        self._start_ns: int | None = None
        self._is_stuck = False

    @property
    def next_due_ns(self) -> int | None:
        """When the next frame that is in scope is due, or the end of the recording."""
        if self._start_ns is None or self.is_finished or self._is_stuck:
            return None
        if self._speed is None:
            return self._start_ns
        recording, numbers, in_scope = self._recording, self._recording.stream_numbers, self._in_scope
        # A scope that grows before their time brings frames back, so that looking ahead skips none.
        ahead = max(self._ahead, self._position)
        while ahead < len(recording) and not in_scope[numbers[ahead]]:
            ahead += 1
        self._ahead = ahead
        return self._due_ns(min(ahead, len(recording) - 1))

    def change_scope(self, scope: Scope, now_ns: int) -> list[bytes]:
        """Use another scope from here on; the first one starts the replay. Nothing earlier is sent again."""
        self._in_scope = [
            is_offered and (stream is None or scope.contains(stream))
            for stream, is_offered in zip(self._recording.streams, self._offered, strict=True)
        ]
        self._is_stuck = False
        self._ahead = 0
        if self._start_ns is None:
            self._start_ns = now_ns
        return []

    def take(self, now_ns: int, limit_bytes: int) -> tuple[bytes, int]:
        """Return the frames that are due, byte for byte as recorded, and their number."""
        assert self._start_ns is not None
        recording = self._recording
        end = len(recording)
        if self._speed is not None:
            end = bisect_right(range(end), now_ns, lo=self._position, key=self._due_ns)
        chunks: list[bytes] = []
        size = 0
        while self._position < end and size < limit_bytes:
            block = slice(self._position, min(self._position + _BLOCK_FRAMES, end))
            chunks.extend(self._block(block))
            size = sum(map(len, chunks))
            self._position = block.stop
        if self._position == len(recording):
            self._end_of_recording()
        return b"".join(chunks), len(chunks)

    def _block(self, block: slice) -> Iterable[bytes]:
        recording = self._recording
        numbers = recording.stream_numbers[block]
        selectors = [self._in_scope[number] for number in numbers]
        frames, types = compress(recording.frames[block], selectors), compress(recording.types[block], selectors)
        if not self.tampering.is_active:
            self._statistics.frames_sent.update(types)
            return frames
        streams = [recording.streams[number] for number in compress(numbers, selectors)]
        return self.tampering.frames(
            (Stream(kind) if stream is None else stream, frame)
            for kind, stream, frame in zip(types, streams, frames, strict=True)
        )

    def deliver(self, _publications: Iterable[Publication], _now_ns: int, /) -> list[bytes]:
        """Return nothing: there is no market beside a recording."""
        return []

    def _end_of_recording(self) -> None:
        recording = self._recording
        if not self._loop or not recording:
            self.is_finished = True
            return
        assert self._start_ns is not None
        if self._speed is not None:
            self._start_ns = self._due_ns(len(recording) - 1)
        # A scope with no frame in the recording would loop at full speed for ever.
        self._is_stuck = self.waits_for_client and not any(self._in_scope)
        self._position = self._ahead = 0

    def _due_ns(self, position: int) -> int:
        assert self._start_ns is not None
        assert self._speed is not None
        if position < 0:
            return self._start_ns
        return self._start_ns + math.ceil(min(self._recording.offsets_ns[position] / self._speed, NEVER_NS))


def _stream_of(text: str) -> tuple[str, Stream | None]:
    """Return a frame's type, and its stream if it is of a type that can be subscribed."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return "", None
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(kind, str):
        return "", None
    if kind not in DATA_TYPES:
        return kind, None

    def text_of(*names: str) -> str | None:
        return next((v for name in names if isinstance(v := message.get(name), str)), None)

    symbol_id = text_of("symbol_id")
    parts = symbol_id.split("_") if symbol_id is not None else []
    in_symbol = len(parts) >= 4
    return kind, Stream(
        kind,
        symbol_id,
        text_of("exchange_id") or (parts[0] if parts else None),
        text_of("asset_id_base", "asset_id") or (parts[2] if in_symbol else None),
        text_of("asset_id_quote") or (parts[3] if in_symbol else None),
        text_of("period_id"),
    )
