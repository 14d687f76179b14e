"""Frames as no sound server sends them, and sound messages in fragments: what clients make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websocket
from raw_client import RawClient, messages
from websocket_peer import BINARY, CONTINUATION, PING, PONG, TEXT, frame
from websockets.exceptions import ConnectionClosedError

from coinapi_ws import (
    Cause,
    ProtocolError,
    Quote,
    Stream,
    Subscription,
    Undecodable,
    UnknownMessage,
    connect,
)
from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Simulator, VirtualClock

BTC = "COINBASE_SPOT_BTC_USD"
QUOTES = Subscription(["quote"], symbol_ids=[BTC + "$"])

Dial = Callable[..., Any]


@pytest.fixture
def raw(simulator: Simulator) -> Iterator[RawClient]:
    """A client on the wire, upgraded."""
    with RawClient(simulator.port) as raw:
        yield raw.upgrade()


@pytest.fixture
def stream(simulator: Simulator, canary_key: str) -> Iterator[Stream]:
    """Our client, with quotes of one symbol, for which a message of 1,000 bytes is large enough."""
    with connect(
        canary_key, QUOTES, endpoint=simulator.url, heartbeats=False, keep_raw=True, max_message_bytes=1000
    ) as stream:
        simulator.settle()
        yield stream


# What cannot be read, but harms nobody.


def test_malformed_json_is_one_undecodable_item(simulator: Simulator, clock: VirtualClock, stream: Stream) -> None:
    assert simulator.faults.malformed_json() == 1
    clock.advance(5)
    item = stream.recv(timeout=10)
    assert isinstance(item, Undecodable)
    assert item.payload == '{"type":"trade","price":12.'
    assert isinstance(stream.recv(timeout=10), Quote)


@pytest.mark.parametrize("name", ["unheard_of", "trade_v2"])
def test_an_unknown_type_is_an_unknown_message(
    simulator: Simulator, clock: VirtualClock, stream: Stream, raw: RawClient, name: str
) -> None:
    assert simulator.faults.unknown_type(name) == 2
    clock.advance(5)
    item = stream.recv(timeout=10)
    assert isinstance(item, UnknownMessage)
    assert item.type == name
    assert isinstance(stream.recv(timeout=10), Quote)
    assert raw.text() == f'{{"type":"{name}","message":""}}'


def test_any_text_can_be_sent(simulator: Simulator, clock: VirtualClock, stream: Stream, dial: Dial) -> None:
    peer = dial(simulator.url)
    text = f'{{"price":1.5,"sequence":7,"symbol_id":"{BTC}","note":"é€😀","type":"quote"}}'
    assert simulator.faults.send_text(text) == 2
    assert peer.text() == text
    item = stream.recv(timeout=10)
    assert isinstance(item, Quote)
    assert item.sequence == 7
    assert simulator.frames_sent == {}


def test_a_binary_frame_is_undecodable(simulator: Simulator, stream: Stream, dial: Dial) -> None:
    peer = dial(simulator.url)
    assert simulator.faults.send_bytes(frame(BINARY, b"\x00\x01")) == 2
    assert peer.websocket.recv(timeout=10) == b"\x00\x01"
    item = stream.recv(timeout=10)
    assert isinstance(item, Undecodable)
    assert (item.reason, item.payload) == ("a binary frame", b"\x00\x01")


def test_bytes_come_between_two_frames(simulator: Simulator, clock: VirtualClock, raw: RawClient) -> None:
    raw.hello("quote", subscribe_filter_symbol_id=[BTC + "$"])
    clock.advance(3)
    before = len(raw.ping())
    simulator.faults.send_bytes(frame(PONG, b"unasked"))
    clock.advance(3)
    frames = raw.ping()
    assert before > 0
    assert frames[0] == (True, PONG, b"unasked")
    assert {part.opcode for part in frames[1:]} == {TEXT}


# What ends a connection: RFC 6455 says how.

BREAKING = {
    "masked_frame": (lambda faults: faults.masked_frame(), 1002),
    "invalid_utf8": (lambda faults: faults.invalid_utf8(), 1007),
    "lone_surrogate": (lambda faults: faults.send_text("\ud800"), 1007),
    "reserved_opcode": (lambda faults: faults.send_bytes(b"\x83\x00"), 1002),
    "oversized_frame": (lambda faults: faults.oversized_frame(1001), 1009),
    "oversized_message": (lambda faults: faults.oversized_message(1001, frame_size=100), 1009),
}


@pytest.mark.parametrize("fault", BREAKING)
def test_our_client_ends_with_the_code_of_the_rfc(
    simulator: Simulator, clock: VirtualClock, stream: Stream, fault: str
) -> None:
    act, code = BREAKING[fault]
    assert act(simulator.faults) == 1
    clock.advance(5)
    with pytest.raises(ProtocolError) as broken:
        stream.recv(timeout=10)
    end = broken.value.disconnected
    assert end is not None
    assert (end.cause, end.initiator, end.code) == (Cause.PROTOCOL, "client", code)
    simulator.settle()
    assert simulator.closes_received == [(code, "")]
    assert simulator.connections == 0


@pytest.mark.parametrize("fault", BREAKING)
def test_another_client_ends_with_the_code_of_the_rfc(simulator: Simulator, dial: Dial, fault: str) -> None:
    peer = dial(simulator.url, max_size=1000)
    act, code = BREAKING[fault]
    assert act(simulator.faults) == 1
    with pytest.raises(ConnectionClosedError):
        peer.text()
    simulator.settle()
    assert [received for received, _ in simulator.closes_received] == [code]


def test_a_third_client_refuses_invalid_utf8(simulator: Simulator) -> None:
    client = websocket.create_connection(simulator.url, timeout=10)
    try:
        simulator.faults.invalid_utf8()
        with pytest.raises(websocket.WebSocketPayloadException):
            client.recv()
    finally:
        client.shutdown()


def test_a_masked_frame_is_a_heartbeat_under_its_mask(simulator: Simulator, raw: RawClient) -> None:
    simulator.faults.masked_frame()
    received = raw.exactly(2 + 4 + 19)
    assert received[:2] == bytes([0x81, 0x80 | 19])
    mask = received[2:6] * 5
    assert bytes(a ^ b for a, b in zip(received[6:], mask, strict=False)) == b'{"type":"hearbeat"}'


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536, 200_000])
def test_an_oversized_frame_is_one_frame_of_its_size(simulator: Simulator, raw: RawClient, size: int) -> None:
    assert simulator.faults.oversized_frame(size) == 1
    part = raw.frame()
    assert (part.fin, part.opcode, len(part.payload)) == (True, TEXT, size)
    assert raw.ping() == []


@pytest.mark.parametrize(
    ("size", "frame_size", "sizes"),
    [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 4, [3]), (150_000, 65_536, [65_536, 65_536, 18_928]), (2, 1, [1, 1])],
)
def test_an_oversized_message_comes_in_frames_of_a_size(
    simulator: Simulator, raw: RawClient, size: int, frame_size: int, sizes: list[int]
) -> None:
    simulator.faults.oversized_message(size, frame_size=frame_size)
    frames = raw.ping()
    assert [len(part.payload) for part in frames] == sizes
    assert len(messages(frames)[0]) == size


@pytest.mark.parametrize("name", ["oversized_frame", "oversized_message"])
def test_what_is_oversized_by_default_is_so_for_our_client_by_default(
    simulator: Simulator, canary_key: str, name: str
) -> None:
    with connect(canary_key, QUOTES, endpoint=simulator.url) as stream:
        simulator.settle()
        assert getattr(simulator.faults, name)() == 1
        with pytest.raises(ProtocolError, match="more than 16777216 bytes"):
            stream.recv(timeout=10)
    simulator.settle()
    assert simulator.closes_received == [(1009, "")]


# Sound messages, in fragments.

TEXTS = [
    *(f'{{"x":"{"é€😀" * count}{"-" * rest}","type":"trade"}}' for count in (0, 1, 9) for rest in range(8)),
    *(f'{{"x":"{"-" * size}","type":"trade"}}' for size in (103, 104, 105, 229, 65513, 65514, 65515, 140_000)),
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recorded") / "texts.jsonl"
    with RecordingWriter(path) as writer:
        for text in TEXTS:
            writer.write(text, 1)
    return str(path)


@pytest.mark.parametrize("size", [1, 2, 3, 125, 126, 65536])
def test_fragments_are_no_longer_than_asked_for_and_make_the_same_texts(
    recorded: str, clock: VirtualClock, size: int
) -> None:
    texts = TEXTS if size > 100 else TEXTS[:26]
    with Simulator(recording=recorded, speed=None, clock=clock) as simulator, RawClient(simulator.port) as raw:
        simulator.faults.fragment(size)
        raw.upgrade().hello("trade")
        frames = []
        for text in texts:
            first = len(frames)
            while not (frames[first:] and frames[-1].fin):
                frames.append(raw.frame())
            sizes = [len(part.payload) for part in frames[first:]]
            whole = len(text.encode())
            assert sizes == [size] * (whole // size) + [whole % size] * bool(whole % size)
            assert [part.opcode for part in frames[first:]] == [TEXT] + [CONTINUATION] * (len(sizes) - 1)
        assert messages(frames) == texts


@pytest.mark.parametrize("size", [1, 2, 125, 126, 65536])
def test_clients_that_we_did_not_write_put_fragments_together(
    recorded: str, clock: VirtualClock, dial: Dial, size: int
) -> None:
    with Simulator(recording=recorded, speed=None, clock=clock) as simulator:
        simulator.faults.fragment(size)
        peer = dial(simulator.url)
        peer.hello("trade")
        texts = TEXTS if size > 100 else TEXTS[:26]
        assert [peer.text() for _ in texts] == texts
        client = websocket.create_connection(simulator.url, timeout=10)
        try:
            client.send('{"type":"hello","subscribe_data_type":["trade"]}')
            assert [client.recv() for _ in texts] == texts
        finally:
            client.shutdown()


@pytest.mark.parametrize("size", [1, 125])
def test_our_client_puts_fragments_together(recorded: str, clock: VirtualClock, canary_key: str, size: int) -> None:
    with Simulator(recording=recorded, speed=None, clock=clock) as simulator:
        simulator.faults.fragment(size)
        texts = TEXTS if size > 100 else TEXTS[:26]
        trades = Subscription(["trade"], symbol_ids=[BTC + "$"])
        with connect(canary_key, trades, endpoint=simulator.url, keep_raw=True, deliver_surplus=True) as stream:
            assert [getattr(stream.recv(timeout=10), "raw", None) for _ in texts] == texts


def test_a_ping_may_come_between_two_fragments(simulator: Simulator, dial: Dial, stream: Stream) -> None:
    peer = dial(simulator.url)
    text = '{"x":"€","type":"later"}'.encode()
    simulator.faults.send_bytes(
        frame(TEXT, text[:7], fin=False) + frame(PING, b"between") + frame(CONTINUATION, text[7:])
    )
    assert peer.text() == text.decode()
    item = stream.recv(timeout=10)
    assert getattr(item, "type", None) == "later"
    simulator.settle()
    assert simulator.pongs_received >= 1


def test_whole_messages_come_again_after_fragments(simulator: Simulator, clock: VirtualClock, raw: RawClient) -> None:
    raw.hello("exrate", subscribe_filter_asset_id=["BTC/USD"])
    simulator.faults.fragment(10)
    clock.advance(1)
    assert {part.fin for part in raw.ping()} == {True, False}
    simulator.faults.fragment(0)
    clock.advance(1)
    assert {part.fin for part in raw.ping()} == {True}
