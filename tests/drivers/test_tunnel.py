"""CONNECT as bytes in, bytes out."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable

import pytest

from coinapi_ws import ProxyError, endpoint_from, proxy_from
from coinapi_ws.drivers.failures import ConnectFailed
from coinapi_ws.drivers.tunnel import MAX_HEAD_BYTES, Tunnel


def tunnel(proxy: str = "http://proxy.example:3128", endpoint: str = "wss://market.example/v1/") -> Tunnel:
    return Tunnel(proxy_from(proxy), endpoint_from(endpoint), user_agent="mine 1.0")


def refused(answer: bytes, proxy: str = "http://proxy.example:3128") -> str:
    with pytest.raises(ConnectFailed) as caught:
        tunnel(proxy).receive_data(answer)
    assert caught.value.error_type is ProxyError
    beginning = "the proxy proxy.example:3128 gave no tunnel to market.example:443: "
    assert caught.value.detail.startswith(beginning)
    return caught.value.detail[len(beginning) :]


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("wss://market.example/v1/", "market.example:443"),
        ("ws://market.example/", "market.example:80"),
        ("wss://[2001:db8::1]:8443/", "[2001:db8::1]:8443"),
    ],
)
def test_the_request(endpoint: str, target: str) -> None:
    expected = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: mine 1.0\r\n\r\n"
    assert tunnel(endpoint=endpoint).request() == expected.encode()


def test_user_name_and_password_travel_as_basic() -> None:
    request = tunnel("http://b%C3%BCcher:p%3Ass@proxy.example:3128").request()
    assert request.endswith(b"\r\n\r\n")
    (line,) = [line for line in request.split(b"\r\n") if line.startswith(b"Proxy-Authorization: Basic ")]
    assert b64decode(line.rpartition(b" ")[2]).decode() == "bücher:p:ss"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 204 \nVia: x\n\n",
    ],
)
def test_an_answer_in_any_pieces(answer: bytes) -> None:
    for size in range(1, len(answer) + 1):
        one = tunnel()
        for start in range(0, len(answer), size):
            assert not one.established
            one.receive_data(answer[start : start + size])
        assert one.established


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            "407 x\r\nProxy-Authenticate: Basic realm=a",
            "407 Proxy Authentication Required: it wants a user",
        ),
        ("407 x", "write proxy='http://user:password@host:port'"),
        (
            "407 x\r\nproxy-authenticate: NTLM\r\nProxy-Authenticate: Negotiate",
            "it wants NTLM or Negotiate, and only",
        ),
        ("407 x\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: BASIC realm=x", "it wants a user name"),
        ("401 x", "401 Unauthorized: it does not allow a tunnel to market.example:443"),
        ("403 x", "403 Forbidden: it does not allow a tunnel to market.example:443; ask those who run it"),
        ("500 x", "500 Internal Server Error: it could not reach market.example:443"),
        ("502 x", "502 Bad Gateway: it could not reach market.example:443; try again"),
        ("599 x", "it answered 599: it could not reach"),
        ("404 x", "404 Not Found to CONNECT; it may be no proxy for tunnels"),
        ("302 x\r\nLocation: http://elsewhere.example/", "302 Found to CONNECT; it may be no proxy"),
        ("100 Continue", "100 Continue to CONNECT"),
    ],
)
def test_a_refusal_says_what_to_do(answer: str, says: str) -> None:
    text = refused(f"HTTP/1.1 {answer}\r\n\r\n".encode())
    assert says in text
    assert "elsewhere" not in text


def test_a_refused_login_says_something_else_than_a_missing_one() -> None:
    answer = b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n"
    assert "did not accept user name and password" in refused(answer, "http://user:no@proxy.example:3128")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what answers there is no HTTP proxy"),
        (b"\x15\x03\x01\x00\x02\x02\x50", "what answers there is no HTTP proxy"),
        (b"HTTP/2 200 OK\r\n\r\n", "what answers there is no HTTP proxy"),
        (b"HTTP/1.1 abc\r\n\r\n", "its answer is no HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "its answer is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES, "its answer has no end"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "it sent more than its answer"),
    ],
)
def test_what_is_no_answer(answer: bytes, says: str) -> None:
    assert says in refused(answer)


@pytest.mark.parametrize("first", [b"X", b"H", b"HTTQ", b"HTTP/2"])
def test_what_is_no_http_is_seen_at_its_first_bytes(first: bytes) -> None:
    """So a banner of another protocol is told at once, and not once the deadline is over."""
    one = tunnel()
    if first == b"H":
        one.receive_data(first)
        first = b"Q"
    with pytest.raises(ConnectFailed, match="no HTTP proxy"):
        one.receive_data(first)


def test_an_answer_without_end_is_bounded() -> None:
    one = tunnel()
    one.receive_data(b"HTTP/1.1 200 OK\r\n")
    for _ in range(MAX_HEAD_BYTES // 100 - 1):
        one.receive_data(b"X: " + b"x" * 95 + b"\r\n")
    with pytest.raises(ConnectFailed, match="its answer has no end"):
        one.receive_data(b"x" * 200)


def test_an_early_end() -> None:
    with pytest.raises(ConnectFailed, match=r"closed the connection before its answer was complete; it may expect TLS"):
        tunnel().receive_eof(None)
    one = tunnel()
    one.receive_data(b"HTTP/1.1 200")
    with pytest.raises(ConnectFailed, match=r"broke the connection \(Connection reset by peer\).*complete$"):
        one.receive_eof("Connection reset by peer")


def test_nothing_that_the_proxy_says_is_repeated_f24(
    canary_key: str, assert_no_canary: Callable[[object], None]
) -> None:
    """F24: a proxy that answers with what it was sent."""
    one = tunnel(f"http://coinapi:{canary_key}@proxy.example:3128")
    request = one.request()
    echo = b"HTTP/1.1 407 " + canary_key.encode() + b"\r\nProxy-Authenticate: Basic\r\n" + request
    with pytest.raises(ConnectFailed) as caught:
        one.receive_data(echo)
    assert_no_canary(caught.value)
