"""permessage-deflate: what is agreed, messages of every shape, and bounds; hazards W9 and W14."""

from __future__ import annotations

import time
import zlib
from typing import Final

import pytest
from websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    accept,
    frame,
    frames_of,
    heard,
    open_websocket,
    text,
)

from coinapi_ws.protocol.websocket import (
    BinaryReceived,
    Closed,
    PingReceived,
    TextReceived,
    Upgraded,
    WebSocket,
)

EXTENSION: Final = "Sec-WebSocket-Extensions: permessage-deflate"
NO_TAKEOVER: Final = "; server_no_context_takeover"

pytestmark = pytest.mark.usefixtures("either_lane")


class Deflater:
    """The server's compressor."""

    def __init__(self, *, takeover: bool = True, window: int = 15) -> None:
        self._takeover = takeover
        self._window = window
        self._compressor = self._new()

    def __call__(self, payload: str | bytes) -> bytes:
        if not self._takeover:
            self._compressor = self._new()
        raw = payload.encode() if isinstance(payload, str) else payload
        compressed = self._compressor.compress(raw) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return compressed.removesuffix(b"\x00\x00\xff\xff")

    def _new(self) -> zlib._Compress:
        return zlib.compressobj(wbits=-self._window)


def deflating(parameters: str = "", *, max_message_bytes: int = 100_000) -> WebSocket:
    return open_websocket(EXTENSION + parameters, compression=True, max_message_bytes=max_message_bytes)


def compressed(payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    return frame(opcode, payload, rsv=4, fin=fin)


def failed(websocket: WebSocket, code: int) -> None:
    [closed] = heard(websocket)
    assert isinstance(closed, Closed)
    assert closed.violation is not None
    assert closed.code == code
    assert frames_of(websocket) == [(CLOSE, code.to_bytes(2, "big"))]


def test_compression_is_offered_only_when_asked_for() -> None:
    """A server that wants to bound the client's window, such as Autobahn's in 13.3 to 13.6, needs the parameter."""
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    offers = []
    for compression in (False, True):
        websocket = WebSocket("example.test", max_message_bytes=1, compression=compression)
        websocket.start()
        offers.append(offer in websocket.data_to_send())
    assert offers == [False, True]


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "; server_no_context_takeover",
        "; client_no_context_takeover",
        "; server_max_window_bits=8",
        '; server_max_window_bits="10"',
        "; client_max_window_bits=9",
        "; client_max_window_bits=15; client_no_context_takeover",
        " ;server_max_window_bits = 15 ; server_no_context_takeover;client_no_context_takeover",
    ],
)
def test_parameters_that_rfc_7692_allows(parameters: str) -> None:
    websocket = WebSocket("example.test", max_message_bytes=1, compression=True)
    websocket.start()
    websocket.receive_data(accept(websocket.data_to_send(), EXTENSION + parameters))
    assert heard(websocket) == [Upgraded((), compression=True)]


def test_an_offer_that_is_not_taken_is_no_compression() -> None:
    websocket = WebSocket("example.test", max_message_bytes=10, compression=True)
    websocket.start()
    websocket.receive_data(accept(websocket.data_to_send()))
    assert heard(websocket) == [Upgraded((), compression=False)]
    websocket.receive_data(text("plain") + text("x", rsv=4))
    plain, closed = heard(websocket)
    assert plain == TextReceived(["plain"])
    assert isinstance(closed, Closed)
    assert closed.code == 1002


@pytest.mark.parametrize("takeover", [True, False])
def test_messages_compressed_and_plain(takeover: bool) -> None:
    websocket = deflating("" if takeover else NO_TAKEOVER)
    deflate = Deflater(takeover=takeover)
    payloads = ["", "a", "ä€" * 50, "the same again " * 100, "the same again " * 100]
    for payload in payloads:
        websocket.receive_data(compressed(deflate(payload)))
        websocket.receive_data(text(payload))
    websocket.receive_data(compressed(deflate(b"\x00\xff" * 40), BINARY))
    expected = [TextReceived([payload]) for payload in payloads for _ in range(2)]
    assert heard(websocket) == [*expected, BinaryReceived(b"\x00\xff" * 40)]


def test_context_takeover_saves_what_was_said_before() -> None:
    deflate = Deflater()
    first, second = deflate("abcdefghijklmnopqrstuvwxyz" * 2), deflate("abcdefghijklmnopqrstuvwxyz" * 2)
    assert len(second) < len(first)
    websocket = deflating()
    websocket.receive_data(compressed(first) + compressed(second))
    assert heard(websocket) == [TextReceived(["abcdefghijklmnopqrstuvwxyz" * 2])] * 2
    websocket = deflating(NO_TAKEOVER)
    websocket.receive_data(compressed(first) + compressed(second))
    assert isinstance(heard(websocket)[-1], Closed)


@pytest.mark.parametrize("window", [9, 12, 15])
def test_w2_windows_of_every_size_inflate(window: int) -> None:
    websocket = deflating(f"; server_max_window_bits={window}")
    deflate = Deflater(window=window)
    payload = "".join(chr(33 + number * 7 % 90) for number in range(20_000))
    websocket.receive_data(compressed(deflate(payload)) + compressed(deflate(payload)))
    assert heard(websocket) == [TextReceived([payload])] * 2


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("cut", [1, 100_000])
def test_w14_control_frames_between_the_fragments_of_a_compressed_message(takeover: bool, cut: int) -> None:
    websocket = deflating("" if takeover else NO_TAKEOVER)
    deflate = Deflater(takeover=takeover)
    received = b""
    for payload in ("first message " * 9, "second message " * 9):
        whole = deflate(payload)
        received += compressed(whole[:3], fin=False) + frame(PING, b"p")
        received += frame(CONTINUATION, whole[3:9], fin=False) + frame(PING, b"")
        received += frame(CONTINUATION, whole[9:])
    for start in range(0, len(received), cut):
        websocket.receive_data(received[start : start + cut])
    pings = [PingReceived(b"p"), PingReceived(b"")]
    assert heard(websocket) == [
        *pings,
        TextReceived(["first message " * 9]),
        *pings,
        TextReceived(["second message " * 9]),
    ]


def test_a_plain_message_in_fragments_beside_compressed_ones() -> None:
    websocket = deflating()
    deflate = Deflater()
    websocket.receive_data(
        compressed(deflate("one"))
        + frame(TEXT, b"t", fin=False)
        + frame(PING)
        + frame(CONTINUATION, b"wo")
        + compressed(deflate("three"))
    )
    assert heard(websocket) == [
        TextReceived(["one"]),
        PingReceived(b""),
        TextReceived(["two"]),
        TextReceived(["three"]),
    ]


@pytest.mark.parametrize("opcode", [PING, CLOSE])
def test_a_control_frame_is_never_compressed(opcode: int) -> None:
    websocket = deflating()
    websocket.receive_data(frame(opcode, rsv=4))
    failed(websocket, 1002)


def test_only_the_first_fragment_says_that_a_message_is_compressed() -> None:
    websocket = deflating()
    whole = Deflater()("hello hello")
    websocket.receive_data(compressed(whole[:3], fin=False) + frame(CONTINUATION, whole[3:], rsv=4))
    failed(websocket, 1002)


@pytest.mark.parametrize("piece", [1, 100])
def test_a_new_message_within_another_is_refused_before_it_is_looked_into(piece: int) -> None:
    websocket = deflating()
    data = compressed(Deflater()("hello"), fin=False) + compressed(b"\x01\xff\xff\xff\xff")
    for begin in range(0, len(data), piece):
        websocket.receive_data(data[begin : begin + piece])
    failed(websocket, 1002)


@pytest.mark.parametrize("parts", [1, 2])
def test_what_does_not_inflate(parts: int) -> None:
    websocket = deflating()
    garbage = (
        compressed(b"\xff\xff\xff") if parts == 1 else compressed(b"", fin=False) + frame(CONTINUATION, b"\xff\xff")
    )
    websocket.receive_data(garbage)
    failed(websocket, 1007)


def test_a_message_that_is_cut_short_does_not_inflate() -> None:
    websocket = deflating()
    stored = b"\x00\x05\x00\xfa\xffhel"  # a stored block of five bytes, of which three came
    websocket.receive_data(compressed(stored) + text("after"))
    closed = heard(websocket)[-1]
    assert isinstance(closed, Closed)
    assert closed.code == 1007


def test_a_compressed_text_that_is_not_utf_8() -> None:
    websocket = deflating()
    websocket.receive_data(compressed(Deflater()(b"abc\xff")))
    failed(websocket, 1007)


def test_a_final_block_ends_a_message_and_the_next_begins_anew() -> None:
    compressor = zlib.compressobj(wbits=-15)
    final = compressor.compress(b"hello") + compressor.flush(zlib.Z_FINISH)
    websocket = deflating()
    websocket.receive_data((compressed(final + b"\x00") + compressed(final)) * 2)
    assert heard(websocket) == [TextReceived(["hello"])] * 4


def test_what_follows_a_final_block_is_refused_and_not_lost_unseen() -> None:
    compressor = zlib.compressobj(wbits=-15)
    final = compressor.compress(b"hello") + compressor.flush(zlib.Z_FINISH)
    websocket = deflating()
    websocket.receive_data(compressed(final + Deflater()(", world")))
    failed(websocket, 1007)


def test_w9_what_follows_a_final_block_does_not_fill_memory() -> None:
    compressor = zlib.compressobj(wbits=-15)
    final = compressor.compress(b"hello") + compressor.flush(zlib.Z_FINISH)
    websocket = deflating(max_message_bytes=1000)
    websocket.receive_data(compressed(final, fin=False))
    websocket.receive_data(frame(CONTINUATION, b"x" * 100, fin=False) * 1000)
    failed(websocket, 1007)


@pytest.mark.parametrize("fragments", [1, 50])
def test_w9_a_bomb_is_bounded_in_time_and_memory(fragments: int) -> None:
    bomb = Deflater()(b"\x00" * 50_000_000)
    assert len(bomb) < 100_000
    step = -(-len(bomb) // fragments)
    pieces = [bomb[start : start + step] for start in range(0, len(bomb), step)]
    received = compressed(pieces[0], BINARY, fin=fragments == 1)
    received += b"".join(frame(CONTINUATION, piece, fin=False) for piece in pieces[1:])
    websocket = deflating(max_message_bytes=1_000_000)
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    tracemalloc.start()
    began = time.process_time()
    websocket.receive_data(received)
    failed(websocket, 1009)  # which takes the events, and that is when frames are read
    seconds = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    assert seconds < 1


@pytest.mark.parametrize("parts", [1, 3])
def test_w9_a_message_that_inflates_to_exactly_the_limit(parts: int) -> None:
    for size, fits in ((1000, True), (1001, False)):
        websocket = deflating(max_message_bytes=1000)
        whole = Deflater()(b"x" * size)
        step = -(-len(whole) // parts)
        pieces = [whole[start : start + step] for start in range(0, len(whole), step)]
        received = compressed(pieces[0], fin=len(pieces) == 1)
        for piece in pieces[1:]:
            received += frame(CONTINUATION, piece, fin=piece is pieces[-1])
        websocket.receive_data(received)
        if fits:
            assert heard(websocket) == [TextReceived(["x" * size])]
        else:
            failed(websocket, 1009)


def test_w9_the_limit_is_for_each_message() -> None:
    websocket = deflating(max_message_bytes=1000)
    deflate = Deflater()
    websocket.receive_data(b"".join(compressed(deflate(b"x" * 900)) for _ in range(5)))
    assert heard(websocket) == [TextReceived(["x" * 900])] * 5


def test_what_we_send_is_not_compressed() -> None:
    websocket = deflating()
    websocket.send("hello hello hello")
    assert frames_of(websocket) == [(TEXT, b"hello hello hello")]
