"""A session is told the same whole, byte by byte and in pieces, by the fast lane and by wsproto alone.

An input: a byte of options (`OPTIONS`), one for the size of the pieces and, in its lowest bit, their lane, and what the
server sends. In that, each `MARK` and the byte after it (`ACTS`) stand for something that the caller does, or for time
that passes. Unless an option says that the server's answer to the upgrade is in the input as well, a sound one goes
before it; the first `ACCEPT_KEY` stands for the key that accepts this session's request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from conversation import BOOKS, BTC, QUOTES, TRADES, Conversation, only_ending
from websocket_peer import CLOSE, PING, PONG, TEXT, accept, accept_key

from coinapi_ws.events import Disconnected, Event
from coinapi_ws.exceptions import ConfigurationError, ConnectError, UsageError
from coinapi_ws.messages import ErrorMessage, Message
from coinapi_ws.scope import Scope

ACCEPT_KEY: Final = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # that of RFC 6455, section 1.3
MARK: Final = b"\xf8\xfa"  # neither in UTF-8 nor the beginning of a frame that is legal
API_KEY: Final = "KEY-OF-THE-FUZZER"
MAX_MESSAGE_BYTES: Final = 300
SCOPE: Final = Scope(TRADES, QUOTES, BOOKS)

_DEFLATE: Final = "Sec-WebSocket-Extensions: permessage-deflate"
#: The lower two bits of the options: what the server answers, where that is not in the input.
ANSWERS: Final = (None, (), (_DEFLATE,), (f"{_DEFLATE}; server_no_context_takeover",))
#: The other bits.
OPTIONS: Final[dict[int, dict[str, Any]]] = {
    0x04: {"wire": "incremental"},
    0x08: {"numbers": "decimal"},
    0x10: {"keep_raw": True},
    0x20: {"deliver_surplus": True},
    0x40: {"auth": "hello"},
    0x80: {"ping_interval": 5.0, "all_sequence_gaps": True},
}
ACTS: Final[tuple[Callable[[Conversation], object], ...]] = (
    lambda talk: talk.advance(1.0),
    lambda talk: talk.advance(6.0),
    lambda talk: talk.advance(40.0),
    lambda talk: talk.session.set_scope(SCOPE, talk.now),
    lambda talk: talk.session.set_scope(Scope(TRADES), talk.now),
    lambda talk: talk.session.set_scope(Scope(BOOKS), talk.now),
    lambda talk: talk.session.resubscribe([BTC], talk.now),
    lambda talk: talk.session.pause(talk.now),
    lambda talk: talk.session.resume(talk.now),
    lambda talk: talk.session.close(talk.now),
    lambda talk: talk.session.receive_eof(talk.now),
    lambda talk: talk.session.lose(talk.now, "it broke", error_type=ConnectError),
)
#: The act that comes last in any case: the end of the stream.
END: Final = b"\x0a"
_SPLIT: Final = re.compile(re.escape(MARK) + rb"(.)", re.DOTALL)


def check(data: bytes) -> None:
    """Raise where the ways differ, or where the end is not one, or where anything but our errors comes out."""
    if len(data) < 2:
        return
    options, size, received = data[0], data[1] >> 1 or len(data), data[2:]
    whole = list(told(options, received, len(data), fast_lane=True))
    if any(ended.stage == "upgrade" for ended in endings(whole)):
        # A refusal would tell the key, which is another for each session.
        received = received.replace(ACCEPT_KEY, b"")
        whole = list(told(options, received, len(data), fast_lane=True))
    for piece, fast_lane in ((1, True), (size, bool(data[1] & 1))):
        for one, other in zip(whole, told(options, received, piece, fast_lane=fast_lane), strict=True):
            assert one == other, f"pieces of {piece}, fast lane {fast_lane}: {one} is now {other}"


def told(options: int, received: bytes, size: int, *, fast_lane: bool) -> Iterator[Any]:
    """Yield all that can be seen from outside before and after each act, with the bytes in pieces of this size."""
    talk = conversation(options, fast_lane=fast_lane)
    answer = ANSWERS[options & 3]
    if answer is None:
        received = received.replace(ACCEPT_KEY, accept_key(talk.request), 1)
    else:
        talk.receive(accept(talk.request, *answer))
    segments = [*_SPLIT.split(received), END]
    items = frames = 0
    for segment, act in zip(segments[::2], segments[1::2], strict=True):
        for begin in range(0, len(segment), size):
            talk.receive(segment[begin : begin + size])
        yield shown(talk, items, frames)
        items, frames = len(talk.items), len(talk.reader.frames)
        try:
            ACTS[act[0] % len(ACTS)](talk)
        except (UsageError, ConfigurationError) as error:
            yield repr(error)
        talk.drain()
    yield shown(talk, items, frames)
    is_sound(talk)


def conversation(options: int, *, fast_lane: bool) -> Conversation:
    """A session that has sent its request."""
    chosen: dict[str, Any] = {"compression": options & 3 != 1, "max_message_bytes": MAX_MESSAGE_BYTES}
    for bit, more in OPTIONS.items():
        chosen |= more if options & bit else {}
    return Conversation(API_KEY, scope=SCOPE, fast_lane=fast_lane, **chosen).start()


def shown(talk: Conversation, items: int, frames: int) -> tuple[Any, ...]:
    """All that the session shows after so many items and frames."""
    session, stats = talk.session, talk.session.stats()
    return (
        [comparable(item) for item in talk.items[items:]],
        talk.reader.frames[frames:],
        session.state,
        session.scope,
        session.next_timeout(),
        replace(stats, bytes=0),  # after the end none are counted, which depends on the cuts
    )


def endings(told: list[Any]) -> list[Disconnected]:
    items = [item for shown in told if isinstance(shown, tuple) for item in shown[0]]
    return [item for item in items if isinstance(item, Disconnected)]


def comparable(item: Message | Event) -> Any:
    """An item, all of it and to the last digit."""
    if isinstance(item, Message):
        return type(item).__name__, repr(item), item.raw
    return replace(item, bytes_received=0) if isinstance(item, Disconnected) else item


def is_sound(talk: Conversation) -> None:
    """Raise unless there was one end, nothing was sent after a Close frame, and nothing tells the key."""
    ended = only_ending(talk.items, talk.session)
    opcodes = [opcode for opcode, _ in talk.reader.frames]
    assert set(opcodes) <= {TEXT, PING, PONG, CLOSE}
    assert CLOSE not in opcodes[:-1]
    for told in (ended.error(), *talk.items):
        if not isinstance(told, Message) or isinstance(told, ErrorMessage):
            assert API_KEY not in f"{told!r} {told}", type(told)
