"""Any chunking, any bytes, any calls: the same events, only our errors, one end, bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from conversation import BOOKS, BTC, HEARTBEAT, QUOTES, RECEIVED_NS, TRADES, Conversation, error, only_ending, trade
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    ClientReader,
    accept,
    close,
    frame,
    refuse,
    text,
)

from coinapi_ws import SessionState
from coinapi_ws.events import Disconnected, Event
from coinapi_ws.exceptions import ConfigurationError, ConnectError, UsageError
from coinapi_ws.messages import Message
from coinapi_ws.protocol.websocket import MAX_UNSENT_PONG_BYTES, Closed, Rejected, WebSocket, WebSocketEvent
from coinapi_ws.scope import Scope

Converse = Callable[..., Conversation]

FUZZ = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = settings(FUZZ, max_examples=40)

BOOK = '{{"symbol_id":"X_SPOT_A_USD","sequence":{},"asks":[],"type":"book"}}'

#: What a lively server sends after its 101: every kind of frame, whole, in parts, and between parts.
RICH = b"".join(
    (
        frame(PING, b"early"),
        text(HEARTBEAT),
        text(trade(sequence=1, taker_side="BÜY €")),
        frame(TEXT, trade(uuid="€€€").encode()[:60], fin=False),
        frame(PING, b"\x00\xff" * 50),
        frame(CONTINUATION, b"", fin=False),
        frame(CONTINUATION, trade(uuid="€€€").encode()[60:]),
        frame(PONG, b"unasked"),
        frame(BINARY, bytes(range(256))),
        frame(BINARY, b"\x00", fin=False) + frame(CONTINUATION, b"\x01"),
        text(BOOK.format(4)) + text(BOOK.format(9)),
        text("no JSON"),
        text(error("Something new")),
        text(json.dumps({"type": "asset", "name": "x" * 300})),
        text('{"type":"reconnect","within_seconds":1}'),
        frame(PING),
        close(1012, "bis spät€r"),
    )
)


def facts(items: list[Message | Event]) -> list[object]:
    """What came out, in a form that compares; how many bytes were read depends on the cuts."""
    return [(type(item), item) for item in items]


def heard(talk: Conversation, received: bytes, cuts: list[int]) -> tuple[list[object], list[tuple[int, bytes]]]:
    edges = [0, *sorted(cut % (len(received) + 1) for cut in cuts), len(received)]
    for begin, end in pairwise(edges):
        talk.receive(received[begin:end])
    return facts(talk.items), talk.reader.frames


def rich_talk(converse: Converse) -> tuple[Conversation, bytes]:
    talk = converse(keep_raw=True)
    talk.start()
    return talk, accept(talk.request, "X-WsHelloPerIpLimit-Limit: 10") + RICH


def test_a_rich_stream_in_one_piece(converse: Converse) -> None:
    talk, received = rich_talk(converse)
    talk.receive(received)
    assert len(received) < 5000, "byte by byte it would take long"
    names = "Connected Live heartbeat trade trade Undecodable Undecodable book SequenceGap book Undecodable error asset"
    assert talk.kinds == [*names.split(), "reconnect", "Disconnected"]
    assert [opcode for opcode, _ in talk.reader.frames] == [TEXT, PONG, PONG, PONG, CLOSE]
    assert talk.disconnected.reason == "bis spät€r"


def test_a_rich_stream_byte_by_byte(converse: Converse) -> None:
    whole, received = rich_talk(converse)
    expected = heard(whole, received, [])
    talk, received = rich_talk(converse)
    assert heard(talk, received, list(range(len(received)))) == expected


@FEW
@given(cuts=st.lists(st.integers(0, 2**20), max_size=40), near=st.lists(st.integers(0, 2000), max_size=40))
def test_a_rich_stream_in_any_pieces(converse: Converse, cuts: list[int], near: list[int]) -> None:
    whole, received = rich_talk(converse)
    expected = heard(whole, received, [])
    talk, received = rich_talk(converse)
    assert heard(talk, received, cuts + near) == expected


def without_bytes(items: list[object]) -> list[str]:
    return [repr(item).partition("bytes_received")[0] for item in items]


frames = st.builds(
    frame,
    st.sampled_from([TEXT, TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE, 0x3, 0xF]),
    st.one_of(st.binary(max_size=140), st.sampled_from([b"", b"\x03\xe8", b"\x03\xe8bye", b'{"x":1,"type":"trade"}'])),
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0] * 9 + [1, 2, 4]),
    mask=st.sampled_from([b""] * 9 + [b"abcd"]),
)
streams = st.lists(st.one_of(frames, st.binary(max_size=20)), max_size=12).map(b"".join)
chunk_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def fed(talk: Conversation, received: bytes, sizes: list[int]) -> None:
    """Feed in pieces of these sizes, over and over, and end."""
    begin, turn = 0, 0
    while begin < len(received):
        size = sizes[turn % len(sizes)]
        talk.receive(received[begin : begin + size])
        begin, turn = begin + size, turn + 1
    talk.session.receive_eof(talk.now)
    talk.drain()


def only_one_close_and_last(talk: Conversation) -> None:
    opcodes = [opcode for opcode, _ in talk.reader.frames]
    assert CLOSE not in opcodes[:-1]
    assert set(opcodes) <= {TEXT, PONG, CLOSE}


@FUZZ
@given(received=streams, sizes=chunk_sizes, compression=st.booleans())
def test_any_frames_after_the_upgrade(converse: Converse, received: bytes, sizes: list[int], compression: bool) -> None:
    def upgraded() -> Conversation:
        extension = ["Sec-WebSocket-Extensions: permessage-deflate"] * compression
        return converse(compression=compression).upgrade(*extension)

    whole, pieces = upgraded(), upgraded()
    fed(whole, received, [len(received) + 1])
    fed(pieces, received, sizes)
    for talk in (whole, pieces):
        assert isinstance(talk.disconnected, Disconnected)
        only_one_close_and_last(talk)
    assert without_bytes(facts(pieces.items)) == without_bytes(facts(whole.items))
    assert pieces.reader.frames == whole.reader.frames


lines = st.sampled_from(
    [
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: Upgrade\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=x\r\n",
        b"Sec-WebSocket-Protocol: \xff\r\n",
        b"Retry-After: 99999999999999999999\r\n",
        b"\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        text("hello"),
    ]
)


@FUZZ
@given(parts=st.lists(st.one_of(lines, st.binary(max_size=30)), max_size=12), sizes=chunk_sizes)
def test_any_answer_to_the_request(converse: Converse, parts: list[bytes], sizes: list[int]) -> None:
    talk = converse(compression=True).start()
    fed(talk, b"".join(parts), sizes)
    ended = talk.disconnected
    assert ended.stage == "upgrade"
    assert ended.error_type is not None
    assert talk.reader.frames == []


@FUZZ
@given(
    places=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 2**16),
    sizes=chunk_sizes,
    refusal=st.booleans(),
)
def test_any_mutation_of_a_valid_stream(
    converse: Converse, places: list[tuple[int, int]], cut: int, sizes: list[int], refusal: bool
) -> None:
    talk = converse(max_message_bytes=1000).start()
    valid = accept(talk.request) + RICH[:1500]
    if refusal:
        valid = refuse("429 Too Many", "Retry-After: 5", body=b"slow down")
    mutated = bytearray(valid[: cut % (len(valid) + 1)])
    for place, byte in places:
        if mutated:
            mutated[place % len(mutated)] = byte
    fed(talk, bytes(mutated), sizes)
    assert isinstance(talk.disconnected, Disconnected)
    only_one_close_and_last(talk)


@FEW
@given(received=st.binary(max_size=200), compression=st.booleans())
def test_a_websocket_alone_ends_once_whatever_comes(received: bytes, compression: bool) -> None:
    websocket = WebSocket("example.test", max_message_bytes=100, compression=compression)
    websocket.start()
    events: list[WebSocketEvent] = []
    websocket.receive_data(accept(websocket.data_to_send()) + received)
    while more := list(websocket.events()):
        events += more
    websocket.receive_eof()
    events += list(websocket.events())
    assert [isinstance(event, Closed | Rejected) for event in events].count(True) == 1
    assert isinstance(events[-1], Closed)


@pytest.mark.parametrize(
    "endless",
    [
        frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"", fin=False) * 100,
        frame(CONTINUATION, b"", fin=False) * 100,
        frame(PING, b"x" * 125),
        frame(PONG, b"x" * 125),
        text(""),
        b"\x01\x7f" + (2**62).to_bytes(8, "big"),
    ],
    ids=["empty fragments", "continuations", "pings", "pongs", "empty texts", "one endless frame"],
)
def test_memory_is_bounded_while_a_peer_floods(converse: Converse, endless: bytes) -> None:
    talk = converse(max_message_bytes=1000).live()
    kept = []
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    tracemalloc.start()
    for _ in range(2):
        for _ in range(300):
            talk.session.receive_data(endless, talk.now, RECEIVED_NS)
            talk.session.events()
            assert len(talk.session.data_to_send()) < 2 * MAX_UNSENT_PONG_BYTES
        kept.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert kept[1] - kept[0] < 10_000


def test_pings_that_no_one_drains_do_not_fill_memory(converse: Converse) -> None:
    talk = converse().live()
    for number in range(2000):
        talk.session.receive_data(frame(PING, b"%0100d" % number), talk.now, RECEIVED_NS)
    output = talk.session.data_to_send()
    assert len(output) < MAX_UNSENT_PONG_BYTES + 300
    assert ClientReader().feed(output)[-1] == (PONG, b"%0100d" % 1999)


class Walk(RuleBasedStateMachine):
    """Whatever is called, in whatever order, at whatever time."""

    def __init__(self) -> None:
        super().__init__()
        self.talk: Conversation
        self.ended = False

    @initialize(
        wire=st.sampled_from(["hello", "incremental"]),
        options=st.fixed_dictionaries(
            {},
            optional={
                "ping_interval": st.sampled_from([1.0, 30.0]),
                "ping_timeout": st.sampled_from([None, 0.5, 5.0]),
                "request_heartbeats": st.booleans(),
                "open_timeout": st.sampled_from([None, 2.0]),
                "live_timeout": st.sampled_from([None, 2.0]),
                "silence_timeout": st.sampled_from([None, 3.0]),
                "compression": st.booleans(),
                "deliver_surplus": st.booleans(),
            },
        ),
        url=st.sampled_from(["emea", "wss://example.test/"]),
    )
    def begin(self, wire: str, options: dict[str, Any], url: str) -> None:
        self.talk = Conversation("KEY-OF-THE-WALK", wire=wire, url=url, **options)

    def does(self, call: Callable[[], object]) -> None:
        """Nothing but what the caller did wrong is ever raised."""
        with suppress(UsageError, ConfigurationError):
            call()

    @rule()
    def start(self) -> None:
        self.does(lambda: self.talk.start() if not self.talk.request else self.talk.session.start(self.talk.now))

    @precondition(lambda self: self.talk.request)
    @rule(headers=st.sampled_from([[], ["X-WsHelloPerIpLimit-RetryAfterMs: 3000"], ["X-WsHelloPerIpLimit-Limit: 1"]]))
    def accept(self, headers: list[str]) -> None:
        self.does(lambda: self.talk.receive(accept(self.talk.request, *headers)))

    @rule(
        received=st.sampled_from(
            [
                refuse("401 Unauthorized"),
                b"HTTP/1.1 429 Too Many\r\n\r\n",
                text(HEARTBEAT),
                text(trade(sequence=1)),
                text(error("Invalid API key")),
                text('{"type":"reconnect"}'),
                text("no JSON"),
                frame(BINARY, b"x"),
                frame(PING, b"x"),
                frame(PONG, (1).to_bytes(8, "big")),
                frame(PONG, (2).to_bytes(8, "big")),
                frame(TEXT, b"x", fin=False),
                frame(CONTINUATION, b"y"),
                frame(0x3),
                close(),
                close(None),
            ]
        )
    )
    def receive(self, received: bytes) -> None:
        self.does(lambda: self.talk.receive(received))

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 2.0, 10.0, 100.0]), on_time=st.booleans())
    def wait(self, seconds: float, on_time: bool) -> None:
        if on_time:
            self.does(lambda: self.talk.advance(seconds))
        else:
            self.talk.now += seconds
            self.does(lambda: self.talk.session.handle_timeout(self.talk.now))

    @rule(members=st.lists(st.sampled_from([TRADES, QUOTES, BOOKS]), max_size=3))
    def set_scope(self, members: list[Any]) -> None:
        self.does(lambda: self.talk.session.set_scope(Scope(*members), self.talk.now))

    @rule(code=st.sampled_from([1000, 1000, 4000, 1006, 70000]), reason=st.sampled_from(["", "x" * 200, "\ud800"]))
    def close(self, code: int, reason: str) -> None:
        self.does(lambda: self.talk.session.close(self.talk.now, code, reason))

    @rule()
    def eof(self) -> None:
        self.does(lambda: self.talk.session.receive_eof(self.talk.now))

    @rule()
    def lose(self) -> None:
        self.does(lambda: self.talk.session.lose(self.talk.now, "it broke", error_type=ConnectError))

    @invariant()
    def one_end_and_last(self) -> None:
        if not hasattr(self, "talk"):
            return
        self.talk.drain()
        endings = [item for item in self.talk.items if isinstance(item, Disconnected)]
        if self.talk.session.state is SessionState.CLOSED:
            only_ending(self.talk.items, self.talk.session)
        else:
            assert endings == []
        kinds = self.talk.kinds
        assert kinds.count("Connected") <= 1
        assert kinds.count("Live") <= 1
        if "Live" in kinds:
            assert kinds.index("Connected") < kinds.index("Live")
        only_one_close_and_last_of(self.talk)
        self.talk.session.stats()

    def teardown(self) -> None:
        if hasattr(self, "talk"):
            self.talk.session.lose(self.talk.now, "the test is over", error_type=ConnectError)
            self.talk.drain()
            only_ending(self.talk.items, self.talk.session)


def only_one_close_and_last_of(talk: Conversation) -> None:
    assert CLOSE not in [opcode for opcode, _ in talk.reader.frames][:-1]


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=60, stateful_step_count=30)


def test_the_walk_can_see_a_live_session() -> None:
    walk = Walk()
    walk.begin("hello", {}, "emea")
    walk.start()
    walk.accept([])
    walk.receive(text(trade(BTC)))
    walk.one_end_and_last()
    assert walk.talk.session.state is SessionState.LIVE
    walk.teardown()
