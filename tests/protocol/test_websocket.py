"""Messages, control frames and closing of one WebSocket; hazards W1 to W8 and W11."""

from __future__ import annotations

import pytest
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
    frames_of,
    heard,
    open_websocket,
    text,
)

from coinapi_ws.exceptions import UsageError
from coinapi_ws.protocol.websocket import (
    MAX_UNSENT_PONG_BYTES,
    BinaryReceived,
    Closed,
    PingReceived,
    PongReceived,
    Rejected,
    TextReceived,
    Upgraded,
    WebSocket,
    WebSocketState,
)

pytestmark = pytest.mark.usefixtures("either_lane")


def failed(websocket: WebSocket, code: int) -> Closed:
    """The websocket failed the connection: one violation, one Close frame, nothing heard after."""
    [closed] = heard(websocket)
    assert isinstance(closed, Closed)
    assert closed.violation is not None
    assert (closed.code, closed.clean, closed.by_peer) == (code, False, False)
    assert frames_of(websocket) == [(CLOSE, code.to_bytes(2, "big"))]
    websocket.receive_data(text("after") + close())
    websocket.receive_eof()
    assert heard(websocket) == []
    assert websocket.data_to_send() == b""
    return closed


def test_messages_come_whole_and_in_order() -> None:
    websocket = open_websocket()
    websocket.receive_data(
        text("one")
        + frame(TEXT, b"t", fin=False)
        + frame(PING, b"p")
        + frame(CONTINUATION, b"w", fin=False)
        + frame(PONG, b"q")
        + frame(CONTINUATION, b"o")
        + frame(BINARY, b"\x00", fin=False)
        + frame(CONTINUATION, b"", fin=False)
        + frame(CONTINUATION, b"\xff")
        + frame(BINARY, b"whole")
        + text("")
        + frame(BINARY)
    )
    assert heard(websocket) == [
        TextReceived(["one"]),
        PingReceived(b"p"),
        PongReceived(b"q"),
        TextReceived(["two"]),
        BinaryReceived(b"\x00\xff"),
        BinaryReceived(b"whole"),
        TextReceived([""]),
        BinaryReceived(b""),
    ]
    assert heard(websocket) == []


def test_a_character_may_be_split_between_fragments() -> None:
    websocket = open_websocket()
    euro = "€".encode()
    websocket.receive_data(frame(TEXT, b"5" + euro[:1], fin=False) + frame(CONTINUATION, euro[1:] + b"!"))
    assert heard(websocket) == [TextReceived(["5€!"])]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_payloads_of_every_form_of_length(size: int) -> None:
    websocket = open_websocket()
    received = frame(BINARY, b"b" * size) + text("t" * size)
    for number in range(12):  # the length itself may be cut anywhere
        websocket.receive_data(received[number : number + 1])
    websocket.receive_data(received[12:])
    assert heard(websocket) == [BinaryReceived(b"b" * size), TextReceived(["t" * size])]
    websocket.send("t" * size)
    websocket.send(b"b" * size)
    assert frames_of(websocket) == [(TEXT, b"t" * size), (BINARY, b"b" * size)]


def test_what_is_sent_is_masked_and_drained_once() -> None:
    websocket = open_websocket()
    websocket.send("hällo")
    websocket.send(bytearray(b"\x00"))
    websocket.ping(b"x" * 125)
    first, second = websocket.data_to_send(), websocket.data_to_send()
    assert ClientReader().feed(first) == [(TEXT, "hällo".encode()), (BINARY, b"\x00"), (PING, b"x" * 125)]
    assert second == b""


@pytest.mark.parametrize("payload", [b"", b"a", b"x" * 125])
def test_a_ping_is_answered_with_its_payload(payload: bytes) -> None:
    websocket = open_websocket()
    websocket.receive_data(frame(PING, payload))
    assert heard(websocket) == [PingReceived(payload)]
    assert frames_of(websocket) == [(PONG, payload)]


def test_events_show_no_payload() -> None:
    secret = "what was sent"
    events = [
        TextReceived([secret]),
        BinaryReceived(secret.encode()),
        PingReceived(secret.encode()),
        PongReceived(secret.encode()),
        Closed(1000, secret),
        Upgraded((("x", secret),)),
        Rejected(401, (("x", secret),), secret.encode()),
    ]
    assert not [event for event in events if secret in repr(event)]


# Errors of the caller


@pytest.mark.parametrize("state", ["idle", "connecting", "closing", "closed"])
@pytest.mark.parametrize("call", ["send", "ping"])
def test_w1_calls_in_the_wrong_state_do_not_repeat_the_payload(state: str, call: str, canary_key: str) -> None:
    if state in ("idle", "connecting"):
        websocket = WebSocket("example.test", max_message_bytes=1)
        if state == "connecting":
            websocket.start()
    else:
        websocket = open_websocket()
        websocket.close()
        if state == "closed":
            websocket.receive_data(close())
            assert len(heard(websocket)) == 1
    assert websocket.state.value == state
    before = websocket.data_to_send()
    with pytest.raises(UsageError, match=state) as caught:
        websocket.send(canary_key) if call == "send" else websocket.ping(canary_key.encode())
    assert canary_key not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert websocket.data_to_send() == b""
    assert canary_key.encode() not in before


def test_f26_each_refused_call_raises_a_new_error() -> None:
    websocket = open_websocket()
    websocket.close()
    errors = []
    for _ in range(2):
        with pytest.raises(UsageError) as caught:
            websocket.send("x")
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_w1_a_text_that_utf_8_cannot_hold_is_not_repeated(canary_key: str) -> None:
    websocket = open_websocket()
    with pytest.raises(UsageError, match="surrogate") as caught:
        websocket.send(f"{canary_key}\ud800")
    assert caught.value.__suppress_context__
    websocket.send("still open")
    assert frames_of(websocket) == [(TEXT, b"still open")]


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, 70000])
def test_w11_close_codes_that_may_not_be_sent(code: int) -> None:
    websocket = open_websocket()
    with pytest.raises(UsageError, match=str(code)):
        websocket.close(code)
    assert websocket.state is WebSocketState.OPEN
    assert websocket.data_to_send() == b""


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1014, 3000, 4999])
def test_w11_close_codes_that_may_be_sent(code: int) -> None:
    websocket = open_websocket()
    websocket.close(code, "bye")
    assert frames_of(websocket) == [(CLOSE, code.to_bytes(2, "big") + b"bye")]


@pytest.mark.parametrize("reason", ["x" * 124, "€" * 42, "\ud800"])
def test_w11_close_reasons_that_do_not_fit(reason: str) -> None:
    websocket = open_websocket()
    with pytest.raises(UsageError, match=r"123 bytes|surrogate"):
        websocket.close(1000, reason)
    assert websocket.state is WebSocketState.OPEN


@pytest.mark.parametrize("reason", ["x" * 123, "€" * 41])
def test_w11_close_reasons_that_just_fit(reason: str) -> None:
    websocket = open_websocket()
    websocket.close(1000, reason)
    assert frames_of(websocket) == [(CLOSE, b"\x03\xe8" + reason.encode())]


def test_w11_a_ping_that_does_not_fit() -> None:
    websocket = open_websocket()
    with pytest.raises(UsageError, match="125"):
        websocket.ping(b"x" * 126)
    assert websocket.data_to_send() == b""


# Violations by the peer

VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "masked": (text("hello", mask=b"\x01\x02\x03\x04"), 1002),
    "masked, of no length": (text("", mask=b"\x00\x00\x00\x00"), 1002),
    "rsv1 without compression": (text("hello", rsv=4), 1002),
    "rsv2": (text("hello", rsv=2), 1002),
    "rsv3": (text("hello", rsv=1), 1002),
    "rsv1 on a Ping": (frame(PING, rsv=4), 1002),
    "opcode 3": (frame(0x3), 1002),
    "opcode 7": (frame(0x7), 1002),
    "opcode 11": (frame(0xB), 1002),
    "opcode 15": (frame(0xF), 1002),
    "a fragmented Ping": (frame(PING, fin=False), 1002),
    "a fragmented Close": (frame(CLOSE, fin=False), 1002),
    "a Ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "a Close of 126 bytes": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a text within a text": (frame(TEXT, b"x", fin=False) + text("y"), 1002),
    "a binary within a text": (frame(TEXT, b"x", fin=False) + frame(BINARY), 1002),
    "a length in 2 bytes for 1": (text("x", length_bytes=2), 1002),
    "a length in 8 bytes for 1": (text("x", length_bytes=8), 1002),
    "a length in 8 bytes for 2": (text("x" * 126, length_bytes=8), 1002),
    "a length of 64 bits": (b"\x81\x7f" + b"\xff" * 8, 1002),
    "no UTF-8": (text(b"\xff"), 1007),
    "UTF-8 of a surrogate": (text(b"\xed\xa0\x80"), 1007),
    "UTF-8 that is overlong": (text(b"\xc0\xaf"), 1007),
    "UTF-8 that breaks off": (text("€".encode()[:2]), 1007),
    "no UTF-8, split": (frame(TEXT, "€".encode()[:2], fin=False) + frame(CONTINUATION, b"x"), 1007),
    "UTF-8 that breaks off, split": (frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\x82"), 1007),
    "a Close of 1 byte": (frame(CLOSE, b"\x03"), 1002),
    "close code 0": (close(0), 1002),
    "close code 999": (close(999), 1002),
    "close code 1004": (close(1004), 1002),
    "close code 1005": (close(1005), 1002),
    "close code 1006": (close(1006), 1002),
    "close code 1015": (close(1015), 1002),
    "close code 2999": (close(2999), 1002),
    "close code 5000": (close(5000), 1002),
    "a close reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("cut", [1, 100_000])
def test_w3_a_violation_ends_once_with_one_close_frame(violation: str, compression: bool, cut: int) -> None:
    received, code = VIOLATIONS[violation]
    if compression and violation == "rsv1 without compression":
        code = 1007  # then it is a compressed message that does not inflate
    headers = ["Sec-WebSocket-Extensions: permessage-deflate"] * compression
    websocket = open_websocket(*headers, compression=compression)
    received += text("after")
    for start in range(0, len(received), cut):
        websocket.receive_data(received[start : start + cut])
    failed(websocket, code)


def test_w3_what_came_before_a_violation_is_not_lost() -> None:
    websocket = open_websocket()
    websocket.receive_data(text("one") + frame(PING, b"p") + frame(0x3))
    events = heard(websocket)
    assert events[:2] == [TextReceived(["one"]), PingReceived(b"p")]
    assert isinstance(events[2], Closed)
    assert frames_of(websocket) == [(PONG, b"p"), (CLOSE, b"\x03\xea")]


def test_w3_a_violation_while_closing_sends_no_second_close_frame() -> None:
    websocket = open_websocket()
    websocket.close(1000)
    assert frames_of(websocket) == [(CLOSE, b"\x03\xe8")]
    websocket.receive_data(frame(0x3))
    [closed] = heard(websocket)
    assert isinstance(closed, Closed)
    assert closed.violation is not None
    assert websocket.data_to_send() == b""


def test_w1_a_violation_does_not_repeat_what_was_received() -> None:
    websocket = open_websocket()
    websocket.receive_data(text(b"WHAT THE SERVER SAYS \xff"))
    closed = failed(websocket, 1007)
    assert "SERVER SAYS" not in f"{closed!r} {closed.violation} {closed.reason}"


# The end


def test_w4_eof_while_open() -> None:
    websocket = open_websocket()
    websocket.receive_data(text("one") + frame(TEXT, b"half", fin=False))
    websocket.receive_eof()
    assert heard(websocket) == [TextReceived(["one"]), Closed(1006)]
    websocket.receive_eof()
    assert heard(websocket) == []
    assert websocket.data_to_send() == b""


def test_w4_eof_while_closing() -> None:
    websocket = open_websocket()
    websocket.close()
    websocket.receive_eof()
    assert heard(websocket) == [Closed(1006)]


def test_w4_eof_after_the_end_is_no_second_end() -> None:
    websocket = open_websocket()
    websocket.receive_data(close(1000, "done"))
    websocket.receive_eof()
    assert heard(websocket) == [Closed(1000, "done", clean=True, by_peer=True)]


def test_w4_no_bytes_are_no_eof() -> None:
    websocket = open_websocket()
    websocket.receive_data(b"")
    assert heard(websocket) == []
    assert websocket.state is WebSocketState.OPEN


@pytest.mark.parametrize(
    ("code", "seen", "answer"), [(1000, 1000, b"\x03\xe8"), (4000, 4000, b"\x0f\xa0"), (None, 1005, b"")]
)
def test_w5_after_the_peers_close_nothing_is_fed(code: int | None, seen: int, answer: bytes) -> None:
    websocket = open_websocket()
    websocket.receive_data(text("one") + close(code) + text("two") + frame(PING))
    websocket.receive_data(text("three"))
    assert heard(websocket) == [TextReceived(["one"]), Closed(seen, clean=True, by_peer=True)]
    assert frames_of(websocket) == [(CLOSE, answer)]
    assert websocket.state is WebSocketState.CLOSED


def test_w6_a_ping_after_our_close_is_heard_and_not_answered() -> None:
    websocket = open_websocket()
    websocket.close()
    websocket.receive_data(frame(PING, b"p") + text("late") + close(1000))
    assert heard(websocket) == [PingReceived(b"p"), TextReceived(["late"]), Closed(1000, clean=True)]
    assert frames_of(websocket) == [(CLOSE, b"\x03\xe8")]


def test_f2_only_one_close_frame_leaves_whoever_asks() -> None:
    websocket = open_websocket()
    websocket.close(1000)
    websocket.close(1001)
    websocket.receive_data(close(1000))
    assert heard(websocket) == [Closed(1000, clean=True)]
    websocket.close(1002)
    websocket.fail(1002, "too late")
    assert frames_of(websocket) == [(CLOSE, b"\x03\xe8")]
    assert heard(websocket) == []


def test_f2_crossing_closes() -> None:
    websocket = open_websocket()
    websocket.close(1000)
    websocket.receive_data(close(1001, "crossed"))
    assert heard(websocket) == [Closed(1001, "crossed", clean=True)]
    assert frames_of(websocket) == [(CLOSE, b"\x03\xe8")]


def test_failing_on_purpose() -> None:
    websocket = open_websocket()
    websocket.fail(1001, "silent")
    assert heard(websocket) == [Closed(1001, violation="silent")]
    assert frames_of(websocket) == [(CLOSE, b"\x03\xe9")]


# Limits


def test_w7_a_message_in_many_reads_is_one_event() -> None:
    websocket = open_websocket()
    payload = "x" * 100_000
    received = text(payload)
    events = []
    for start in range(0, len(received), 1000):
        websocket.receive_data(received[start : start + 1000])
        events += heard(websocket)
    assert events == [TextReceived([payload])]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_w8_a_message_of_exactly_the_limit(opcode: int) -> None:
    websocket = open_websocket(max_message_bytes=1000)
    whole = frame(opcode, b"x" * 1000)
    parts = frame(opcode, b"x" * 500, fin=False) + frame(CONTINUATION, b"x" * 500)
    websocket.receive_data(whole + parts + whole)
    kind = TextReceived if opcode == TEXT else BinaryReceived
    assert [type(event) for event in heard(websocket)] == [kind] * 3


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fragments", [False, True])
def test_w8_a_message_above_the_limit(opcode: int, fragments: bool) -> None:
    websocket = open_websocket(max_message_bytes=1000)
    received = frame(opcode, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * 1000
    websocket.receive_data(received if fragments else frame(opcode, b"x" * 1001))
    failed(websocket, 1009)


def test_w5_what_follows_a_message_above_the_limit_is_not_heard() -> None:
    websocket = open_websocket(max_message_bytes=10)
    websocket.receive_data(text("x" * 11) + frame(PING, b"p") + text("after") + close())
    failed(websocket, 1009)


def test_w8_the_limit_counts_bytes_and_not_characters() -> None:
    websocket = open_websocket(max_message_bytes=1000)
    websocket.receive_data(text("€" * 333))
    assert heard(websocket) == [TextReceived(["€" * 333])]
    websocket.receive_data(text("€" * 334))
    failed(websocket, 1009)


def test_w8_an_announced_length_above_the_limit_ends_with_what_came() -> None:
    websocket = open_websocket(max_message_bytes=1000)
    websocket.receive_data(b"\x82\x7f" + (2**62).to_bytes(8, "big") + b"x" * 1001)
    failed(websocket, 1009)


def test_w8_a_new_message_begins_with_the_whole_limit() -> None:
    websocket = open_websocket(max_message_bytes=1000)
    for _ in range(3):
        websocket.receive_data(
            frame(BINARY, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 400) + text("x" * 1000)
        )
        assert len(heard(websocket)) == 2


def test_a_flood_of_pings_is_answered_within_bounds() -> None:
    websocket = open_websocket()
    websocket.receive_data(b"".join(frame(PING, number.to_bytes(4, "big")) for number in range(100_000)))
    assert len(heard(websocket)) == 100_000
    output = websocket.data_to_send()
    pongs = ClientReader().feed(output)
    assert len(output) <= MAX_UNSENT_PONG_BYTES + 2 * 131
    assert pongs[0] == (PONG, (0).to_bytes(4, "big"))
    assert pongs[-1] == (PONG, (99_999).to_bytes(4, "big"))
    websocket.receive_data(frame(PING, b"next") + frame(PING, b"and next"))
    assert len(heard(websocket)) == 2
    assert frames_of(websocket) == [(PONG, b"next"), (PONG, b"and next")]


@pytest.mark.parametrize("end", ["our close", "their close", "violation", "eof"])
def test_after_a_flood_of_pings_nothing_follows_the_close_frame(end: str) -> None:
    websocket = open_websocket()
    websocket.receive_data(frame(PING, b"x" * 100) * 1000)
    assert len(heard(websocket)) == 1000
    if end == "our close":
        websocket.close()
    elif end == "eof":
        websocket.receive_eof()
    else:
        websocket.receive_data(close() if end == "their close" else frame(0x3))
    ended = [event for event in websocket.events() if isinstance(event, Closed)]
    assert len(ended) == (end != "our close")
    opcodes = [opcode for opcode, _ in frames_of(websocket)]
    assert opcodes.count(CLOSE) == (end != "eof")
    assert CLOSE not in opcodes[:-1]
    assert websocket.data_to_send() == b""


def test_the_caller_may_speak_between_two_events_of_the_same_bytes() -> None:
    websocket = open_websocket()
    websocket.receive_data(text("echo this") + frame(0x3))
    seen = []
    for event in websocket.events():
        seen.append(event)
        if isinstance(event, TextReceived):
            websocket.send(event.payloads[0])
    assert [type(event) for event in seen] == [TextReceived, Closed]
    assert [opcode for opcode, _ in frames_of(websocket)] == [TEXT, CLOSE]


def test_events_that_were_not_asked_for_wait() -> None:
    websocket = open_websocket()
    websocket.receive_data(text("one") + frame(PING) + text("two"))
    assert next(websocket.events()) == TextReceived(["one"])
    websocket.receive_data(text("three"))
    websocket.receive_eof()
    assert heard(websocket) == [PingReceived(b""), TextReceived(["two"]), TextReceived(["three"]), Closed(1006)]
