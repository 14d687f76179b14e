"""Any text is a message or an ``Undecodable``, and every way to decode it says the same.

An input is a frame's text in UTF-8; a byte that is none stands for a lone surrogate, which a caller's text may have.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from typing import Any, Final

from quick_frames import said

from coinapi_ws.decoding import NUMBERS, UNUSUAL, Decoder
from coinapi_ws.endpoints import endpoint_from
from coinapi_ws.events import Gap, Undecodable
from coinapi_ws.kinds import LEVEL_TYPES
from coinapi_ws.messages import Message
from coinapi_ws.options import Options
from coinapi_ws.protocol.frames import Frame, Frames, type_at_end
from coinapi_ws.protocol.reading import Reader
from coinapi_ws.quick import HOT_TYPES, parsing_reader, storage_reader
from coinapi_ws.scope import Scope
from coinapi_ws.subscription import Subscription

DECODERS: Final = {numbers: Decoder(numbers) for numbers in NUMBERS}
SCOPE: Final = Scope(Subscription(["trade"], everything=True))
ENDPOINT: Final = endpoint_from("wss://example.test/")
#: Why a frame may be refused with one kind of numbers alone; int() takes 4,300 digits, which a Decimal may have.
BEYOND_A_FLOAT: Final = ("a number that cannot be represented", "not an integer of 64 bits", "not valid JSON")
#: The quick readers made of a declaration, with whom each has to agree.
PARSING: Final = [
    (parsing_reader(name, decimal=numbers == "decimal"), numbers) for name in sorted(HOT_TYPES) for numbers in NUMBERS
]
#: Those of msgspec, where it is installed.
STORAGE: Final = [(reader, "float") for name in sorted(HOT_TYPES) if (reader := storage_reader(name)) is not None]
#: Made while the program runs, so that no import shows them to the fuzzer.
GENERATED: Final = [reader for reader, _ in PARSING] + [
    quick for decoder in DECODERS.values() for name in sorted(HOT_TYPES) if (quick := decoder.quick(name)) is not None
]


def check(data: bytes) -> None:
    """Raise where two ways differ, where something is lost, or where anything comes out but a message or a refusal."""
    text = data.decode("utf-8", "surrogateescape")
    exactly = {numbers: decoder.decode(text, 5) for numbers, decoder in DECODERS.items()}
    for numbers, result in exactly.items():
        is_sound(result, text)
        kept = Decoder(numbers, keep_raw=True).decode(text, 5)
        assert isinstance(kept, Undecodable) or kept.raw is text
        assert kept == result
        for message in read(text, numbers):
            assert said(message) == said(result), f"a session reads {message}, not {result}"
    if text.isascii():
        for reader, numbers in (*PARSING, *STORAGE):
            try:
                quick = reader(text, 5)
            except UNUSUAL:
                continue
            assert said(quick) == said(exactly[numbers]), f"quick is {quick}, exact {exactly[numbers]}"
            assert quick == exactly[numbers]
            assert quick.received_ns == 5
    agree(exactly["float"], exactly["decimal"])


def is_sound(result: Message | Undecodable, text: str) -> None:
    assert result.received_ns == 5
    if isinstance(result, Undecodable):
        assert result.payload is text
        return
    assert type_at_end(text) in (None, result.type) or result.type == "heartbeat"
    assert f"{result!r}".isprintable()
    for name, kind in result.kinds.items():
        if kind == "Time":
            assert isinstance(getattr(result, f"{name}_ns"), int | None)
            assert getattr(result, f"{name}_datetime") is None or getattr(result, f"{name}_ns") is not None
    assert pickle.loads(pickle.dumps(result)) == result


def read(text: str, numbers: str) -> Iterator[Any]:
    """Yield what a session makes of a frame with this text, which is UTF-8: the way that messages really go."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    reader = Reader(Options(endpoint=ENDPOINT, numbers=numbers, deliver_surplus=True), SCOPE)
    for _ in range(2):  # the second time the type is known, and a sequence is expected
        [frame_type] = reader.types_of([text])
        if frame_type is None:
            items = list(reader.decode([Frame(text, 5, reader.read(text, 5))]))
        else:
            items = list(reader.decode([Frames(5, [frame_type], [text])]))
        yield items[-1]
        assert all(isinstance(item, Gap) for item in items[:-1])


def agree(message: Message | Undecodable, exactly: Message | Undecodable) -> None:
    """Raise where floats and Decimals differ by more than what a float cannot hold."""
    if isinstance(message, Undecodable) or isinstance(exactly, Undecodable):
        refused = [result.reason for result in (message, exactly) if isinstance(result, Undecodable)]
        assert len(refused) == 2 or refused[0].endswith(BEYOND_A_FLOAT), refused
        return
    assert type(message) is type(exactly)
    assert message.extra.keys() == exactly.extra.keys()
    for name, kind in message.kinds.items():
        value, other = getattr(message, name), getattr(exactly, name)
        if kind in LEVEL_TYPES:
            pairs = [pair for levels in zip(value, other, strict=True) for pair in zip(*levels, strict=True)]
        else:
            pairs = [(value, other)]
        for one, two in pairs:
            if isinstance(one, float):
                assert math.isfinite(one)
                assert one == float(two), name
