"""The upgrade: what is asked, what is taken for an answer, and what is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import wsproto
import wsproto.events
from websocket_peer import PING, PONG, TEXT, accept, close, frame, frames_of, heard, refuse, text

from coinapi_ws.exceptions import ConfigurationError, UsageError
from coinapi_ws.protocol.websocket import (
    MAX_HANDSHAKE_BYTES,
    MAX_REJECT_BODY_BYTES,
    Closed,
    PingReceived,
    Rejected,
    TextReceived,
    Upgraded,
    WebSocket,
    WebSocketEvent,
    WebSocketState,
)


def start(target: str = "/v1/?a=b", *, compression: bool = False) -> tuple[WebSocket, bytes]:
    websocket = WebSocket("example.test", target, max_message_bytes=1000, compression=compression)
    websocket.start()
    return websocket, websocket.data_to_send()


def answered(answer: Callable[[bytes], bytes] | bytes, *, compression: bool = False) -> list[WebSocketEvent]:
    websocket, request = start(compression=compression)
    websocket.receive_data(answer if isinstance(answer, bytes) else answer(request))
    return heard(websocket)


def failed(events: list[WebSocketEvent]) -> Closed:
    [closed] = events
    assert isinstance(closed, Closed)
    assert closed.violation is not None
    assert (closed.code, closed.clean, closed.by_peer) == (1002, False, False)
    return closed


def rejected(events: list[WebSocketEvent]) -> Rejected:
    [rejection] = events
    assert isinstance(rejection, Rejected)
    return rejection


def test_the_request_asks_for_the_upgrade_of_any_path() -> None:
    websocket = WebSocket("example.test:8443", "/any/path?x=1&y=%20", max_message_bytes=1)
    websocket.start([(b"User-Agent", b"tests"), (b"X-More", b"yes")])
    request_line, *lines, end, rest = websocket.data_to_send().decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert request_line == "GET /any/path?x=1&y=%20 HTTP/1.1"
    assert len(headers.pop("Sec-WebSocket-Key")) == 24
    assert headers == {
        "Host": "example.test:8443",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "User-Agent": "tests",
        "X-More": "yes",
    }
    assert (end, rest) == ("", "")


def test_upgraded_tells_headers_in_lower_case() -> None:
    [upgraded] = answered(lambda request: accept(request, "X-Limit: 7", "X-Limit: 8"))
    assert upgraded == Upgraded((("x-limit", "7"), ("x-limit", "8")))


def test_with_a_server_that_we_did_not_write() -> None:
    websocket, request = start("/path")
    server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    server.receive_data(request)
    [asked] = server.events()
    assert isinstance(asked, wsproto.events.Request)
    assert (asked.host, asked.target) == ("example.test", "/path")
    websocket.receive_data(server.send(wsproto.events.AcceptConnection()))
    assert [type(event) for event in heard(websocket)] == [Upgraded]

    websocket.send("hällo")
    websocket.send(b"\x00\xff")
    server.receive_data(websocket.data_to_send())
    assert [event.data for event in server.events()] == ["hällo", b"\x00\xff"]  # type: ignore[attr-defined]

    websocket.receive_data(server.send(wsproto.events.TextMessage("tschüss")))
    websocket.receive_data(server.send(wsproto.events.CloseConnection(1000, "done")))
    assert heard(websocket) == [TextReceived(["tschüss"]), Closed(1000, "done", clean=True, by_peer=True)]
    server.receive_data(websocket.data_to_send())
    [answer] = server.events()
    assert isinstance(answer, wsproto.events.CloseConnection)
    assert answer.code == 1000


@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_the_answer_may_be_cut_anywhere(cut: int) -> None:
    websocket, request = start()
    answer = accept(request, "X-Limit: 7")
    events = []
    for start_ in range(0, len(answer), cut):
        websocket.receive_data(answer[start_ : start_ + cut])
        events += heard(websocket)
    assert events == [Upgraded((("x-limit", "7"),))]


def test_what_comes_with_the_101_waits_until_the_caller_could_speak() -> None:
    websocket, request = start()
    websocket.receive_data(accept(request) + frame(PING, b"p") + text("data"))
    events = websocket.events()
    assert next(events) == Upgraded(())
    websocket.send("first")
    assert list(events) == [PingReceived(b"p"), TextReceived(["data"])]
    assert frames_of(websocket) == [(TEXT, b"first"), (PONG, b"p")]


def test_a_close_that_comes_with_the_101_does_not_keep_the_caller_from_speaking() -> None:
    websocket, request = start()
    websocket.receive_data(accept(request) + close(1013))
    events = websocket.events()
    assert next(events) == Upgraded(())
    websocket.send("hello")
    assert list(events) == [Closed(1013, clean=True, by_peer=True)]


def test_w4_eof_after_the_101_loses_nothing_that_came_with_it() -> None:
    websocket, request = start()
    websocket.receive_data(accept(request) + text("data"))
    websocket.receive_eof()
    assert heard(websocket) == [Upgraded(()), TextReceived(["data"]), Closed(1006)]


# A nonce is needed to make them, so they are made of the request.
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "no Upgrade": lambda request: accept(request, without="Upgrade"),
    "another Upgrade": lambda request: accept(request, "Upgrade: h2c", without="Upgrade"),
    "no Connection": lambda request: accept(request, without="Connection"),
    "another Connection": lambda request: accept(request, "Connection: close", without="Connection"),
    "no Sec-WebSocket-Accept": lambda request: accept(request, without="Sec-WebSocket-Accept"),
    "another Sec-WebSocket-Accept": lambda request: accept(request, "Sec-WebSocket-Accept: AAAA"),
    "a subprotocol": lambda request: accept(request, "Sec-WebSocket-Protocol: chat"),
    "a subprotocol that is not ASCII": lambda request: accept(request, "Sec-WebSocket-Protocol: ch\xe4t"),
    "extensions that are not ASCII": lambda request: accept(request, "Sec-WebSocket-Extensions: permess\xe4ge"),
    "an unknown extension": lambda request: accept(request, "Sec-WebSocket-Extensions: x-unknown"),
    "two lengths": lambda request: accept(request, "Content-Length: 1", "Content-Length: 2"),
    "a header without a name": lambda request: accept(request, ": nothing"),
    "a header with NUL": lambda request: accept(request, "X-A: a\x00b"),
    "no HTTP": lambda request: b"\x16\x03\x01 this is TLS\r\n\r\n",
    "another HTTP": lambda request: accept(request).replace(b"HTTP/1.1", b"HTTP/x.1"),
    "a status of four digits": lambda request: accept(request, status="1010 Switching"),
    "a frame instead": lambda request: text("hello") + b"\r\n\r\n",
}
DEFLATE_PARAMETERS = {
    "window of no number": "server_max_window_bits=abc",
    "window without a value": "server_max_window_bits",
    "window too small": "server_max_window_bits=7",
    "window too large": "server_max_window_bits=16",
    "window with a zero before": "server_max_window_bits=09",
    "a parameter twice": "server_no_context_takeover; server_no_context_takeover",
    "an unknown parameter": "x_mode=fast",
    "a flag with a value": "client_no_context_takeover=1",
    "window of ours without a value": "client_max_window_bits",
    "window of ours too large": "client_max_window_bits=16",
    "an empty parameter": "",
}


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("compression", [False, True])
def test_w2_a_hostile_101_is_a_violation_and_nothing_else(hostile: str, compression: bool) -> None:
    failed(answered(HOSTILE[hostile], compression=compression))


@pytest.mark.parametrize("parameters", DEFLATE_PARAMETERS)
def test_w2_deflate_parameters_that_rfc_7692_forbids(parameters: str) -> None:
    header = f"Sec-WebSocket-Extensions: permessage-deflate; {DEFLATE_PARAMETERS[parameters]}"
    failed(answered(lambda request: accept(request, header), compression=True))


def test_w2_compression_accepted_twice() -> None:
    header = "Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate"
    failed(answered(lambda request: accept(request, header), compression=True))


def test_w2_compression_that_was_not_asked_for() -> None:
    failed(answered(lambda request: accept(request, "Sec-WebSocket-Extensions: permessage-deflate")))


def test_w1_a_violation_quotes_nothing_of_the_answer() -> None:
    quoted = "Sec-WebSocket-Protocol: WHAT-THE-SERVER-SAYS"
    assert "WHAT-THE-SERVER" not in repr(failed(answered(lambda request: accept(request, quoted))))


def test_after_a_violation_nothing_is_sent_and_nothing_comes() -> None:
    websocket, request = start()
    websocket.receive_data(accept(request, without="Upgrade") + text("data"))
    failed(heard(websocket))
    websocket.receive_data(accept(request))
    websocket.receive_eof()
    assert heard(websocket) == []
    assert websocket.data_to_send() == b""
    assert websocket.state is WebSocketState.CLOSED


@pytest.mark.parametrize("interim", ["100 Continue", "102 Processing", "103 Early Hints"])
def test_w12_interim_answers_say_nothing_yet(interim: str) -> None:
    websocket, request = start()
    websocket.receive_data(f"HTTP/1.1 {interim}\r\nLink: </x>\r\n\r\n".encode())
    assert heard(websocket) == []
    assert websocket.state is WebSocketState.CONNECTING
    websocket.receive_data(accept(request) + text("data"))
    assert heard(websocket) + heard(websocket) == [Upgraded(()), TextReceived(["data"])]


def test_w12_an_interim_answer_before_a_refusal() -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + refuse("401 Unauthorized")
    assert rejected(answered(answer)).status == 401


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_w12_redirects_are_refusals_and_not_followed(status: int) -> None:
    websocket, _ = start()
    websocket.receive_data(refuse(f"{status} Moved", "Location: wss://elsewhere.test/"))
    assert rejected(heard(websocket)).status == status
    assert websocket.data_to_send() == b""


@pytest.mark.parametrize("status", [200, 204, 304, 400, 401, 403, 429, 500, 503, 550])
def test_any_other_status_is_a_refusal(status: int) -> None:
    rejection = rejected(answered(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n".encode()))
    assert rejection.status == status
    assert ("retry-after", "7") in rejection.headers


def test_a_refusal_comes_when_its_body_is_whole() -> None:
    websocket, _ = start()
    answer = refuse("403 Forbidden", body=b"no privilege")
    websocket.receive_data(answer[:-1])
    assert heard(websocket) == []
    websocket.receive_data(answer[-1:])
    assert rejected(heard(websocket)).body == b"no privilege"


def test_w13_a_body_without_length_ends_with_the_connection() -> None:
    websocket, _ = start()
    websocket.receive_data(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\nbad ")
    websocket.receive_data(b"key")
    assert heard(websocket) == []
    websocket.receive_eof()
    assert rejected(heard(websocket)).body == b"bad key"
    websocket.receive_eof()
    assert heard(websocket) == []


def test_a_body_that_breaks_off_keeps_its_status() -> None:
    websocket, _ = start()
    websocket.receive_data(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nbad key")
    websocket.receive_eof()
    assert rejected(heard(websocket)) == Rejected(401, (("content-length", "100"),), b"bad key")


def test_a_malformed_body_keeps_its_status() -> None:
    head = b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n"
    rejection = rejected(answered(head + b"3\r\nbad\r\nno chunk\r\n"))
    assert (rejection.status, rejection.body) == (401, b"bad")


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
def test_a_malformed_body_is_kept_up_to_where_it_breaks_however_it_is_cut(piece: int) -> None:
    answer = b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello"
    websocket, _ = start()
    events: list[WebSocketEvent] = []
    for begin in range(0, len(answer), piece):
        websocket.receive_data(answer[begin : begin + piece])
        events += websocket.events()
    assert rejected(events).body == b"hell"


def test_a_malformed_end_of_a_body_that_was_long_enough() -> None:
    head = b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n"
    size = MAX_REJECT_BODY_BYTES
    rejection = rejected(answered(head + f"{size:x}\r\n".encode() + b"x" * size + b"\r\nno chunk\r\n"))
    assert rejection.body == b"x" * size


def test_w8_of_an_endless_refusal_the_beginning_is_kept() -> None:
    websocket, _ = start()
    websocket.receive_data(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
    fed, events = 0, []
    while websocket.state is not WebSocketState.CLOSED:
        websocket.receive_data(b"x" * 1000)
        events += heard(websocket)
        fed += 1000
        assert fed <= 2 * MAX_REJECT_BODY_BYTES
    assert rejected(events).body == b"x" * MAX_REJECT_BODY_BYTES


def test_w8_a_refusal_in_endless_crumbs_is_cut_off() -> None:
    websocket, _ = start()
    websocket.receive_data(b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n")
    crumb = b"1;" + b"e" * 1000 + b"\r\nx\r\n"
    fed, events = 0, []
    while websocket.state is not WebSocketState.CLOSED:
        websocket.receive_data(crumb)
        events += heard(websocket)
        fed += len(crumb)
        assert fed <= 2 * MAX_HANDSHAKE_BYTES
    assert rejected(events).status == 401


@pytest.mark.parametrize(
    "endless",
    [b"X-More: and more\r\n", b"x", b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"],
    ids=["headers", "one header", "interim answers"],
)
def test_w8_an_endless_answer_is_cut_off(endless: bytes) -> None:
    websocket, _ = start()
    websocket.receive_data(b"HTTP/1.1 102 Processing\r\nX-More: " if endless == b"x" else b"")
    websocket.receive_data(b"HTTP/1.1 101 Switching Protocols\r\n" if endless.startswith(b"X-More") else b"")
    fed, events = 0, []
    while websocket.state is not WebSocketState.CLOSED:
        websocket.receive_data(endless * 50)
        events += heard(websocket)
        fed += 50 * len(endless)
        assert fed <= 2 * MAX_HANDSHAKE_BYTES
    failed(events)


def test_w8_data_right_after_the_101_do_not_count_as_an_answer() -> None:
    websocket, request = start()
    websocket.receive_data(accept(request) + text("x" * 500) * (MAX_HANDSHAKE_BYTES // 500))
    assert len(heard(websocket)) == 1 + MAX_HANDSHAKE_BYTES // 500


@pytest.mark.parametrize(
    "host",
    ["", "exa mple.com", "a..b", "a" * 64 + ".test", "höst.test", "a\r\nX: y", "a/b", "user@host", "a" * 60 + ":8443"],
)
def test_w10_hosts_that_cannot_be_sent(host: str) -> None:
    with pytest.raises(ConfigurationError, match="host"):
        WebSocket(host, "/", max_message_bytes=1)


@pytest.mark.parametrize(
    "host", ["example.test", "example.test:1", "127.0.0.1:80", "[::1]:8080", "a_b.test", "x.test."]
)
def test_w10_hosts_that_can_be_sent(host: str) -> None:
    websocket = WebSocket(host, "/", max_message_bytes=1)
    websocket.start()
    assert f"\r\nHost: {host}\r\n".encode() in websocket.data_to_send()


@pytest.mark.parametrize("target", ["", "v1", "/v 1", "/ü", "/a\r\nX: y", "/\x7f", "http://other.test/"])
def test_w10_targets_that_cannot_be_sent(target: str) -> None:
    with pytest.raises(ConfigurationError, match="target"):
        WebSocket("example.test", target, max_message_bytes=1)


def test_w1_a_target_that_cannot_be_sent_is_not_repeated(canary_key: str) -> None:
    with pytest.raises(ConfigurationError):
        WebSocket("example.test", f"/?apikey={canary_key} ", max_message_bytes=1)


def test_w1_a_header_that_cannot_be_sent_is_not_repeated(canary_key: str) -> None:
    websocket = WebSocket("example.test", max_message_bytes=1)
    with pytest.raises(ConfigurationError, match="header") as caught:
        websocket.start([(b"X-CoinAPI-Key", canary_key.encode() + b"\r\nX: y")])
    assert caught.value.__suppress_context__
    assert websocket.data_to_send() == b""


def test_w4_eof_before_an_answer() -> None:
    websocket, _ = start()
    websocket.receive_data(b"HTTP/1.1 101 Switching")
    websocket.receive_eof()
    assert heard(websocket) == [Closed(1006)]
    websocket.receive_eof()
    assert heard(websocket) == []


def test_w4_before_the_start_there_is_nothing_to_end_and_nothing_to_hear() -> None:
    websocket = WebSocket("example.test", max_message_bytes=1)
    websocket.receive_eof()
    websocket.receive_data(b"HTTP/1.1 200 OK\r\n\r\n")
    assert heard(websocket) == []
    assert websocket.state is WebSocketState.IDLE


def test_a_second_start_is_refused() -> None:
    websocket, _ = start()
    with pytest.raises(UsageError, match="start"):
        websocket.start()
    assert websocket.data_to_send() == b""


@pytest.mark.parametrize("started", [False, True])
def test_a_close_before_the_upgrade_just_ends(started: bool) -> None:
    websocket = WebSocket("example.test", max_message_bytes=1)
    if started:
        websocket.start()
        websocket.data_to_send()
    websocket.close()
    assert heard(websocket) == [Closed(1006)]
    assert websocket.data_to_send() == b""


@pytest.mark.parametrize("status", ["200 OK", "100 Continue"])
@pytest.mark.parametrize("piece", [b"\n", b"\r\n", b"HTTP/1.1 100 \n\n"])
def test_w8_heads_without_number_in_one_read_are_cut_off(status: str, piece: bytes) -> None:
    websocket, _ = start()
    given: list[int] = []
    receive = websocket._connection.receive_data
    websocket._connection.receive_data = lambda data: given.append(len(data)) or receive(data)  # type: ignore[method-assign, func-returns-value, assignment]
    websocket.receive_data(f"HTTP/1.1 {status}\r\n\r\n".encode() + piece * (4 * MAX_HANDSHAKE_BYTES // len(piece)))
    assert sum(given) <= MAX_HANDSHAKE_BYTES + len(piece) + 100
    assert len(heard(websocket)) == 1
    assert websocket.state is WebSocketState.CLOSED
