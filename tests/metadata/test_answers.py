"""Answers that are late, cut off, broken, too large or no list: an error that says so, never a shorter list."""

from __future__ import annotations

import gzip
import json
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest
from peers import PATIENCE_SECONDS

from coinapi_ws import (
    AuthenticationError,
    Cause,
    CoinAPIError,
    ConnectionClosed,
    ConnectTimeout,
    ProtocolError,
    RateLimited,
    ServerRejected,
    Undecodable,
)

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b'[{"asset_id":"BTC"},{"asset_id":"ETH"}]'


def sized(body: bytes, headers: bytes = b"", *, missing: int = 0) -> bytes:
    return OK + headers + b"Content-Length: %d\r\n\r\n" % (len(body) + missing) + body


def chunked(*chunks: bytes, headers: bytes = b"") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return OK + headers + b"Transfer-Encoding: chunked\r\n\r\n" + body


def status(code: int, body: bytes = b"", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Words\r\n%sContent-Length: %d\r\n\r\n%s" % (code, headers, len(body), body)


def squeezed(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


GZIP = b"Content-Encoding: gzip\r\n"
IN_GZIP = squeezed(TWO)


def asset_ids(client: Any) -> list[Any]:
    return [asset.asset_id for asset in client.assets()]


@pytest.mark.parametrize(
    "answer",
    [
        sized(TWO),
        chunked(TWO[:5], TWO[5:7], TWO[7:]) + b"0\r\n\r\n",
        chunked(*(TWO[n : n + 1] for n in range(len(TWO))), headers=b"X-A: b\r\n") + b"0\r\nTrailer: x\r\n\r\n",
        OK + b"\r\n" + TWO,  # up to the end of TCP
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + sized(TWO),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2
        + b"HTTP/1.1 100 Continue\r\n\r\n"
        + chunked(TWO)
        + b"0\r\n\r\n",
        b"HTTP/1.0 200 Fine\r\n\r\n" + TWO,
        sized(IN_GZIP, GZIP),
        chunked(*(IN_GZIP[n : n + 1] for n in range(len(IN_GZIP))), headers=GZIP) + b"0\r\n\r\n",
        OK + b"Content-Encoding: X-GZIP\r\n\r\n" + IN_GZIP,
        sized(squeezed(TWO[:9]) + squeezed(b"") + squeezed(TWO[9:]), GZIP),  # in members (RFC 1952, 2.2)
    ],
)
def test_sound_answers(answering: Any, answer: bytes) -> None:
    with answering(answer) as client:
        assert asset_ids(client) == ["BTC", "ETH"]
        assert asset_ids(client) == ["BTC", "ETH"]  # on a connection of its own


def test_what_is_asked(answering: Any, canary_key: str) -> None:
    heads: list[str] = []
    with answering(lambda _, head: heads.append(head.decode()), sized(TWO), user_agent="a-test/1") as client:
        asset_ids(client)
        client.symbols("A B".replace(" ", "/"), symbol_ids=["X$", "Y"], asset_ids=["Ä"]).close()  # not begun, not asked
        list(client.symbols("A/B", symbol_ids=["X$", "Y"], asset_ids=["Ä"]))
    first, second = heads
    port = first.partition("127.0.0.1:")[2].partition("\r")[0]
    assert first.split("\r\n") == [
        "GET /v1/assets HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "User-Agent: a-test/1",
        "Accept: application/json",
        "Accept-Encoding: gzip",
        "Connection: close",
        f"X-CoinAPI-Key: {canary_key}",
        "",
        "",
    ]
    assert second.startswith("GET /v1/symbols/A%2FB?filter_symbol_id=X%24,Y&filter_asset_id=%C3%84 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "error_type", "text"),
    [
        (b"", ConnectionClosed, "closed the connection without an answer"),
        (b"HTTP/1.1 200", ConnectionClosed, "was cut off"),
        (b"220 mail.example ESMTP\r\n", ProtocolError, "does not speak HTTP"),
        (OK + b"A: b\r\n" * 200 + b"\r\n", ProtocolError, "does not speak HTTP"),
        (OK + b"A: " + b"b" * 70_000 + b"\r\n\r\n", ProtocolError, "does not speak HTTP"),
        (OK + b"Content-Le", ConnectionClosed, r"was cut off: \[ was expected, and nothing came"),
        (sized(TWO, missing=1), ConnectionClosed, "was cut off; ask again"),
        (sized(b"", missing=1), ConnectionClosed, "was cut off"),
        (chunked(TWO), ConnectionClosed, "was cut off"),
        (chunked(TWO) + b"5\r\n  ", ConnectionClosed, "was cut off"),
        (chunked(TWO) + b"hello\r\n", ConnectionClosed, "was cut off"),
        (chunked(TWO) + b"1" * 70_000, ProtocolError, "not valid HTTP"),
        (OK + b"\r\n" + TWO[:-1], ConnectionClosed, "was cut off: , or ] was expected, and nothing came"),
        (OK + b"\r\n" + TWO[:-3], ConnectionClosed, "was cut off: the last object"),
        (sized(TWO[:-1]), ProtocolError, "no JSON array of objects"),
        (sized(IN_GZIP[:-1], GZIP), ConnectionClosed, "cut off within its gzip stream"),
        (sized(b"", GZIP), ConnectionClosed, "cut off within its gzip stream"),
        (sized(IN_GZIP[:-8] + b"\x00" * 8, GZIP), ProtocolError, "not valid gzip"),
        (sized(IN_GZIP + IN_GZIP, GZIP), ProtocolError, r"the end was expected, not '\['"),
        (sized(IN_GZIP + b"more", GZIP), ProtocolError, "not valid gzip"),
        (sized(squeezed(TWO[:9]) + IN_GZIP[:5], GZIP), ConnectionClosed, "cut off within its gzip stream"),
        (sized(TWO, GZIP), ProtocolError, "not valid gzip"),
        (sized(TWO, b"Content-Encoding: br\r\n"), ProtocolError, "not asked for"),
        (sized(b'[{"name": "\xff"}]'), ProtocolError, "not valid UTF-8"),
        (sized(b'[{"name": "\xe2\x82'), ProtocolError, "not valid UTF-8"),
        (sized(b"<html></html>"), ProtocolError, r"no JSON array of objects: \[ was expected, not '<'"),
        (sized(b'[{"name": 5}]'), ProtocolError, "asset 1 cannot be read: name: not a text; pass on_undecodable=…"),
        (sized(b'[{}, {"name": "\\ud800"}]'), ProtocolError, "asset 2 cannot be read: a lone surrogate"),
    ],
)
def test_unsound_answers(answering: Any, leaks: Any, answer: bytes, error_type: type[CoinAPIError], text: str) -> None:
    with answering(answer) as client, pytest.raises(CoinAPIError, match=text) as caught:
        list(client.assets())
    assert type(caught.value) is error_type
    assert not leaks(caught.value)
    ended = caught.value.disconnected
    assert ended is not None
    assert ended.stage == "rest"
    assert ended.cause is (Cause.PROTOCOL if error_type is ProtocolError else Cause.NETWORK)
    assert ended.host.startswith("127.0.0.1:")


def test_objects_come_as_the_body_arrives(answering: Any) -> None:
    taken = threading.Event()
    rest = [chunked(TWO[:21]), lambda *_: taken.wait(10), b"%x\r\n%s\r\n0\r\n\r\n" % (len(TWO[21:]), TWO[21:])]
    with answering(*rest) as client:
        assets = client.assets()
        assert next(assets).asset_id == "BTC"
        taken.set()
        assert [asset.asset_id for asset in assets] == ["ETH"]


def test_leaving_early_closes_the_connection(answering: Any) -> None:
    ends: list[bytes] = []
    with answering(sized(TWO, missing=100), lambda connection, _: ends.append(connection.recv(1))) as client:
        assets = client.assets()
        assert next(assets).asset_id == "BTC"
        assets.close()
        for _ in client.assets():
            break  # the iterator is dropped
    assert ends == [b"", b""]


def endless(part: bytes, between: Callable[[], object] = lambda: None) -> Any:
    def send(connection: Any, _head: bytes) -> None:
        given_up = time.perf_counter() + PATIENCE_SECONDS  # or a client that waits for ever ends no test
        while time.perf_counter() < given_up:
            connection.sendall(part)
            between()

    return send


@pytest.fixture
def hour(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets an hour pass on the monotonic clock."""
    now, passed, soon = time.monotonic, [0.0], threading.Event()
    monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])

    def pass_by(*_: object) -> None:
        soon.wait(0.02)
        passed[0] += 3600.0

    return pass_by


@pytest.mark.parametrize(
    ("begun", "part"),
    [
        ([b"HTTP/1.1 200 OK\r\nA: "], b"b"),
        ([], b"HTTP/1.1 100 Continue\r\n\r\n"),
        ([], b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n"], b"1\r\n \r\n"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n"], b"5\r\n{},  \r\n"),
        ([OK + b"\r\n"], b" "),
    ],
    ids=["dripping head", "100 for ever", "103 for ever", "blank chunks", "dripping objects", "blanks"],
)
def test_a_deadline_for_all_of_it(answering: Any, hour: Any, begun: list[bytes], part: bytes) -> None:
    expect_lateness(answering, *begun, endless(part, hour))


def test_a_deadline_for_an_answer_that_does_not_begin(answering: Any, hour: Any) -> None:
    expect_lateness(answering, hour, lambda connection, _: connection.recv(1))


def expect_lateness(answering: Any, *parts: Any) -> None:
    with answering(*parts, timeout=60) as client, pytest.raises(ConnectTimeout, match="not complete in time") as late:
        for _ in client.assets():
            pass
    assert late.value.disconnected is not None
    assert late.value.disconnected.cause is Cause.NETWORK


def test_the_caller_s_own_time_does_not_count(answering: Any, hour: Any) -> None:
    taken = threading.Event()
    with answering(sized(TWO[:21], missing=len(TWO) - 21), lambda *_: taken.wait(10), TWO[21:], timeout=60) as client:
        assets = client.assets()
        next(assets)
        hour()
        taken.set()
        assert next(assets).asset_id == "ETH"


def test_a_bomb_is_an_error_and_takes_little_memory(answering: Any) -> None:
    squeezer = zlib.compressobj(9, wbits=31)
    bomb = squeezer.compress(b"[") + b"".join(squeezer.compress(b" " * 2**20) for _ in range(16)) + squeezer.flush()
    assert len(bomb) < 100_000
    with answering(sized(bomb, GZIP), max_bytes=8 * 2**20) as client:
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError, match="larger than max_bytes allows; raise it, or use a filter"):
                list(client.assets())
            assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
        finally:
            tracemalloc.stop()


def test_an_answer_of_one_piece_has_that_bound_too(answering: Any) -> None:
    with answering(sized(b" " * 1000 + TWO), max_bytes=1000) as client, pytest.raises(ProtocolError, match="larger"):
        list(client.assets())


@pytest.mark.parametrize("part", [b" ", b"{},", b'{"name":"'])
def test_an_endless_body_is_an_error(answering: Any, part: bytes) -> None:
    body = [OK + b"\r\n[", endless(part * 1000)]
    with answering(*body, max_bytes=2**16) as client, pytest.raises(ProtocolError, match="larger than"):
        for _ in client.assets():
            pass


def test_empty_blocks_in_gzip_count_too(answering: Any) -> None:
    block = b"\x00\x00\x00\xff\xff"  # of zlib, stored, with nothing in it
    body = [OK + GZIP + b"\r\n" + squeezed(b"")[:10], endless(block * 1000)]
    with answering(*body, max_bytes=2**20) as client, pytest.raises(ProtocolError, match="larger than"):
        list(client.assets())


@pytest.mark.parametrize(
    ("code", "error_type", "text"),
    [
        (400, ServerRejected, "status 400; look at the filters; the server said: 'why'"),
        (401, AuthenticationError, "status 401"),
        (302, ServerRejected, "status 302; redirects are not followed"),
        (204, ServerRejected, "status 204"),
        (503, ServerRejected, "status 503"),
        (550, ServerRejected, "status 550; it has no such item now"),
    ],
)
def test_statuses(answering: Any, leaks: Any, code: int, error_type: type[Any], text: str) -> None:
    elsewhere = b"Location: http://127.0.0.1:1/\r\n"
    with answering(status(code, b"why", elsewhere)) as client, pytest.raises(error_type, match=text) as caught:
        list(client.assets())
    assert type(caught.value) is error_type
    assert (caught.value.status, caught.value.stage) == (code, "rest")
    assert not leaks(caught.value)


def test_the_server_s_words_are_bounded_and_without_the_key(
    answering: Any, canary_key: str, assert_no_canary: Any
) -> None:
    words = json.dumps({"error": f"no such key: {canary_key}", "more": "x" * 100_000}).encode()
    hidden = words.replace(canary_key.encode(), "".join(f"\\u{ord(c):04x}" for c in canary_key).encode())
    for body in (words, hidden, squeezed(words)):
        headers = GZIP if body[:1] == b"\x1f" else b""
        quoting = b"X-RateLimit-Key: %s\r\n" % canary_key.encode()
        with answering(status(400, body, headers + quoting)) as client, pytest.raises(ServerRejected) as caught:
            list(client.assets())
        assert_no_canary(caught.value.server_text)
        assert_no_canary(client.limits)
        assert str(caught.value.server_text).startswith('{"error": "no such key: ***"')
        assert len(str(caught.value.server_text)) == 1024
        assert len(str(caught.value)) < 500


def test_a_refusal_whose_words_do_not_come_is_a_refusal(answering: Any) -> None:
    cut = b"HTTP/1.1 401 No\r\nContent-Length: 100\r\n\r\nInvalid"
    with answering(cut) as client, pytest.raises(AuthenticationError) as caught:
        list(client.assets())
    assert caught.value.server_text == "Invalid"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where it is not the time of UTC."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "EST5")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("make", "least", "most"),
    [
        (lambda: "7", 7, 7),
        (lambda: "86400", 86400, 86400),
        (lambda: formatdate(time.time() + 3600, usegmt=True), 3000, 3600),
        (lambda: time.asctime(time.gmtime(time.time() + 3600)), 3000, 3600),
        (lambda: formatdate(0, usegmt=True), 0, 0),
    ],
    ids=["seconds", "a day", "a date", "a date of the old form", "a date that has passed"],
)
def test_when_to_try_again(answering: Any, elsewhere: None, make: Callable[[], str], least: float, most: float) -> None:
    value = make()
    answer = status(429, b"slowly", b"Retry-After: %s\r\nX-RateLimit-Remaining: -5\r\n" % value.encode())
    with answering(answer) as client, pytest.raises(RateLimited) as caught:
        list(client.assets())
    assert caught.value.retry_after is not None
    assert least <= caught.value.retry_after <= most
    assert dict(client.limits) == {"retry-after": value, "x-ratelimit-remaining": "-5"}


@pytest.mark.parametrize("value", [b"soon", b"Thu, 01 Jan 99999 00:00:00 GMT", b"1" * 10, b"-1", b""])
def test_a_wait_that_is_none_is_not_told(answering: Any, value: bytes) -> None:
    answer = status(429, b"", b"Retry-After: %s\r\n" % value)
    with answering(answer) as client, pytest.raises(RateLimited) as caught:
        list(client.assets())
    assert caught.value.retry_after is None


def test_what_cannot_be_read_is_told_and_the_rest_comes(answering: Any) -> None:
    told: list[Undecodable] = []
    body = (
        b'[{"asset_id":"A","type":"x","new":[1]}, {"name" : 5}, {"asset_id":"C","price_usd":1e999}, {"asset_id":"D"}]'
    )
    with answering(sized(body), on_undecodable=told.append) as client:
        first, last = client.assets()
    assert (first.asset_id, first.type, dict(first.extra)) == ("A", "asset", {"type": "x", "new": [1]})
    assert last.asset_id == "D"
    assert [(each.reason, each.payload) for each in told] == [
        ("name: not a text", '{"name" : 5}'),
        ("price_usd: a number that cannot be represented", '{"asset_id":"C","price_usd":1e999}'),
    ]


def test_what_a_callback_raises_comes_out(answering: Any) -> None:
    def fail(_: Undecodable) -> None:
        raise ValueError("of a test")

    with answering(sized(b'[{"name":5}]'), on_undecodable=fail) as client, pytest.raises(ValueError, match="of a test"):
        list(client.assets())


def test_the_end_of_tcp_is_not_waited_for_once_it_is_there(answering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(seconds: float) -> None:
        raise AssertionError(f"slept {seconds} s")

    monkeypatch.setattr("coinapi_ws.drivers.waiting.time.sleep", fail)
    with answering(OK + b"\r\n" + TWO) as client:
        assert asset_ids(client) == ["BTC", "ETH"]
    with answering(chunked(TWO)) as client, pytest.raises(ConnectionClosed):
        asset_ids(client)
