"""The fast lane and wsproto alone cannot be told apart, whatever comes, however it is cut, whatever the caller does."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    ClientReader,
    close,
    frame,
    heard,
    open_websocket,
    text,
)

from coinapi_ws.protocol.fastlane import FrameInput
from coinapi_ws.protocol.websocket import Closed, TextReceived, WebSocket, WebSocketState

LIMIT = 3_000
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"

quotes = st.integers(0, 300).map(lambda size: json.dumps({"bid": "9" * size, "type": "quote"}))
texts = st.one_of(
    quotes, st.text(max_size=20), st.sampled_from(["", "€" * 50, "x" * 125, "x" * 126, "x" * 2_999, "x" * 3_001])
)
payloads = st.one_of(texts.map(str.encode), st.binary(max_size=200), st.just(b"{" + b"x" * 200 + b"\xff}"))
market_data = quotes.map(text)
any_frames = st.builds(
    frame,
    st.one_of(st.sampled_from([TEXT, TEXT, TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE]), st.integers(0, 15)),
    payloads,
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0, 0, 1, 2, 4]),
    mask=st.sampled_from([b"", b"", b"", b"", b"mask"]),
    length_bytes=st.sampled_from([0, 0, 0, 2, 8]),
)
fragmented = st.tuples(texts, texts, market_data).map(
    lambda parts: (
        frame(TEXT, parts[0].encode(), fin=False)
        + frame(PING, b"between")
        + frame(CONTINUATION, parts[1].encode())
        + parts[2]
    )
)
closing = st.sampled_from([close(), close(3000, "bye"), close(999), close(None)])
pieces = st.one_of(market_data, market_data, market_data, any_frames, fragmented, closing, st.binary(max_size=9))
streams = st.lists(pieces, max_size=12).map(b"".join)
cuts = st.lists(st.integers(1, 400), max_size=30)
#: What the caller does after some of the reads.
actions = st.dictionaries(st.integers(0, 12), st.sampled_from(["send", "ping", "close", "fail"]), max_size=2)


def chunks_of(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut into chunks of these sizes, and the rest."""
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    return [chunk for chunk in (*chunks, data) if chunk]


def act(websocket: WebSocket, action: str | None) -> None:
    if action == "fail" and websocket.state is not WebSocketState.CLOSED:
        websocket.fail(1001, "the caller has had enough")
    elif action == "close":
        websocket.close(4000, "enough")
    elif action is not None and websocket.state is WebSocketState.OPEN:
        websocket.send("hello") if action == "send" else websocket.ping(b"there?")


def told_of(websocket: WebSocket, chunks: list[bytes], acts: dict[int, str]) -> list[Any]:
    """All that can be seen from outside, read by read."""
    told: list[Any] = []
    reader = ClientReader()
    for position, chunk in enumerate(chunks):
        websocket.receive_data(chunk)
        told.append((heard(websocket), websocket.state))
        act(websocket, acts.get(position))
        told.append((websocket.state, reader.feed(websocket.data_to_send())))
    websocket.receive_eof()
    told.append((heard(websocket), websocket.state, reader.feed(websocket.data_to_send())))
    return told


@given(streams, cuts, actions)
@example(text("x" * 126)[:3] + b"", [1, 1], {})
@example(frame(3, b"", length_bytes=2)[:2], [2], {})
@settings(max_examples=400)
def test_both_lanes_tell_the_same(data: bytes, sizes: list[int], acts: dict[int, str]) -> None:
    chunks = chunks_of(data, sizes)
    fast, slow = (
        told_of(open_websocket(max_message_bytes=LIMIT, fast_lane=lane), chunks, acts) for lane in (True, False)
    )
    assert fast == slow


def deflated(payloads: list[bytes], *, keep_context: bool, final_block: bool) -> list[bytes]:
    """Compressed frames of a server; with a final block where it ends its stream with each message."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    frames = []
    for payload in payloads:
        mode = zlib.Z_FINISH if final_block else zlib.Z_SYNC_FLUSH
        compressed = compressor.compress(payload) + compressor.flush(mode)
        frames.append(frame(TEXT, compressed + b"\x00" if final_block else compressed[:-4], rsv=4))
        if final_block or not keep_context:
            compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return frames


@given(st.lists(payloads, max_size=6), st.booleans(), st.booleans(), streams, st.data(), cuts, actions)
@settings(max_examples=200)
def test_both_lanes_tell_the_same_of_compressed_messages(
    payloads: list[bytes],
    keep_context: bool,
    final_block: bool,
    others: bytes,
    data: st.DataObject,
    sizes: list[int],
    acts: dict[int, str],
) -> None:
    frames = deflated(payloads, keep_context=keep_context, final_block=final_block)
    if frames and data.draw(st.booleans(), "one is damaged"):
        position = data.draw(st.integers(0, len(frames) - 1))
        damaged = bytearray(frames[position])
        damaged[-1 - data.draw(st.integers(0, min(20, len(damaged) - 3)))] ^= 0xFF
        frames[position] = bytes(damaged)
    frames.insert(data.draw(st.integers(0, len(frames))), others)
    chunks = chunks_of(b"".join(frames), sizes)
    header = DEFLATE if keep_context else f"{DEFLATE}; server_no_context_takeover"
    fast, slow = (
        told_of(open_websocket(header, max_message_bytes=5_000, compression=True, fast_lane=lane), chunks, acts)
        for lane in (True, False)
    )
    assert fast == slow


def test_a_run_of_texts_comes_in_one_event_without_wsproto(monkeypatch: pytest.MonkeyPatch) -> None:
    websocket = open_websocket()
    monkeypatch.setattr(websocket._connection, "receive_data", None)
    websocket.receive_data(text("short") + text("w" * 126) + text("€" * 99) + text("unfinished" * 20)[:-1])
    assert list(websocket.events()) == [TextReceived(["short", "w" * 126, "€" * 99])]
    websocket.receive_data(text("unfinished" * 20)[-1:])
    assert list(websocket.events()) == [TextReceived(["unfinished" * 20])]


def test_compressed_texts_come_without_wsproto_too(monkeypatch: pytest.MonkeyPatch) -> None:
    websocket = open_websocket(DEFLATE, compression=True)
    monkeypatch.setattr(websocket._connection, "receive_data", None)
    payloads = [b"one" * 99, b"two" * 99]
    websocket.receive_data(b"".join(deflated(payloads, keep_context=True, final_block=False)))
    assert list(websocket.events()) == [TextReceived([payload.decode() for payload in payloads])]


def test_turned_off_everything_is_for_wsproto() -> None:
    received = FrameInput(LIMIT, None, fast_lane=False)
    received.feed(text("one") + text("two"))
    assert received.cut() == []
    assert received.next_frame(9) == text("one") + text("two")[:4]
    assert received.next_frame(9) == text("two")[4:]
    assert received.next_frame(9) == b""


def test_texts_before_a_message_that_does_not_inflate_are_kept() -> None:
    websocket = open_websocket(DEFLATE, compression=True)
    websocket.receive_data(text("kept") + frame(TEXT, b"\xff" * 9, rsv=4) + text("after"))
    kept, closed = heard(websocket)
    assert kept == TextReceived(["kept"])
    assert isinstance(closed, Closed)
    assert closed.code == 1007
    assert heard(websocket) == []


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 100_000])
def test_texts_at_the_borders_of_the_forms_of_a_length(size: int) -> None:
    data = text("x" * size) + text("y" * size)
    for sizes in ([], [1, 1, 1, 1, 1], [size, 5], [size + 9, 1, 1, 1]):
        fast, slow = (told_of(open_websocket(fast_lane=lane), chunks_of(data, sizes), {}) for lane in (True, False))
        assert fast == slow
        came = [event for events, *_ in fast[::2] for event in events]
        assert came == [TextReceived(["x" * size]), TextReceived(["y" * size]), Closed(1006)]


@pytest.mark.parametrize(
    "data",
    [
        text("x" * 100, length_bytes=2),
        text("x" * 300, length_bytes=8),
        text(b"\xff" + b"x" * 50),
        text(b"x\xff" + b"x" * 50),
        text(b"x" * 200 + b"\xff" + b"x" * 50),
        text("x" * 200, mask=b"mask"),
        text("x" * (LIMIT + 1)),
    ],
    ids=["two bytes too many", "eight", "no UTF-8", "second", "later", "a mask", "too much"],
)
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "byte by byte"])
def test_what_is_wrong_shows_at_the_same_byte(data: bytes, is_whole: bool) -> None:
    chunks = [data] if is_whole else chunks_of(data, [1] * len(data))
    fast, slow = (
        told_of(open_websocket(max_message_bytes=LIMIT, fast_lane=lane), chunks, {}) for lane in (True, False)
    )
    assert fast == slow


def test_a_caller_who_closes_before_a_message_that_is_refused_is_told_the_same() -> None:
    compressor = zlib.compressobj(0, wbits=-zlib.MAX_WBITS)  # whose blocks go on where the limit cut them
    compressed = compressor.compress(b"y" * 5_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
    codes = []
    for lane in (True, False):
        websocket = open_websocket(DEFLATE, max_message_bytes=LIMIT, compression=True, fast_lane=lane)
        websocket.receive_data(text("kept") + frame(TEXT, compressed[:-4], rsv=4) + text("after"))
        events = websocket.events()
        assert next(events) == TextReceived(["kept"])
        websocket.close()
        codes.append([event.code for event in events if isinstance(event, Closed)])
    assert codes == [[1009], [1009]]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"x" * (LIMIT + 1) + b"\xff", 1009),
        (b"x" * (LIMIT - 1) + "€".encode() + b"\xff", 1009),
        (b"x" * LIMIT + b"\xff", 1007),
        (b"x" * (LIMIT - 9) + b"\xff" + b"x" * 99, 1007),
        (b"\xe2\x82" + b"x" * LIMIT, 1007),
        (("€" * LIMIT).encode() + b"\xff", 1009),
    ],
    ids=["too big", "within a character", "at the limit", "no UTF-8", "at once", "wide"],
)
@pytest.mark.parametrize("form", ["whole", "in parts", "compressed", "compressed in parts"])
@pytest.mark.parametrize("size", [100_000, 700, 7, 1])
def test_of_what_is_no_text_and_too_big_the_first_is_told(payload: bytes, code: int, form: str, size: int) -> None:
    rsv = 0
    if form.startswith("compressed"):
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        payload, rsv = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4], 4
    at = len(payload) // 2 if form.endswith("parts") else len(payload)
    data = frame(TEXT, payload[:at], fin=at == len(payload), rsv=rsv)
    data += frame(CONTINUATION, payload[at:]) if at < len(payload) else b""
    for lane in (True, False):
        websocket = open_websocket(DEFLATE, max_message_bytes=LIMIT, compression=True, fast_lane=lane)
        events: list[Any] = []
        for chunk in chunks_of(data, [size] * len(data)):
            websocket.receive_data(chunk)
            events += heard(websocket)
        assert [event.code for event in events] == [code]


@pytest.mark.parametrize("size", [4_999, 5_000, 5_001, 5_002])
def test_what_follows_a_final_block_at_the_limit_is_refused_alike(size: int) -> None:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    compressed = compressor.compress(b"y" * size) + compressor.flush(zlib.Z_FINISH)
    for more in range(7):
        data = frame(TEXT, compressed + b"\x00" * more, rsv=4)
        fast, slow = (
            heard(open_websocket_of(data, max_message_bytes=5_000, compression=True, fast_lane=lane))
            for lane in (True, False)
        )
        assert fast == slow


def open_websocket_of(data: bytes, **how: Any) -> WebSocket:
    """A WebSocket with compression that has received this."""
    websocket = open_websocket(DEFLATE, **how)
    websocket.receive_data(data)
    return websocket
