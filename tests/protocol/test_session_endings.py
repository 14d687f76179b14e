"""Every way a session ends: classes, errors, what is known, and that the key is in none of it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import pytest
from conversation import HEARTBEAT, TRADES, Conversation, error, trade
from websocket_peer import BINARY, CONTINUATION, TEXT, accept, close, frame, refuse, text

from coinapi_ws import SessionState
from coinapi_ws.auth import Secret
from coinapi_ws.events import Cause, Disconnected
from coinapi_ws.exceptions import (
    AuthenticationError,
    CertificateError,
    CoinAPIError,
    ConnectError,
    ConnectionClosed,
    HandshakeRejected,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ServerRejected,
    UsageError,
)
from coinapi_ws.messages import ErrorMessage

Converse = Callable[..., Conversation]

REFUSED_KEY = error("Invalid API key")
NOTICE = '{"type":"reconnect","within_seconds":10,"before_time":"2026-01-01T00:00:00.0000000Z"}'


class Ending(NamedTuple):
    cause: Cause
    initiator: str
    error_type: type[CoinAPIError] | None
    code: int = 1006
    clean: bool = False


def ending(ended: Disconnected) -> Ending:
    return Ending(ended.cause, ended.initiator, ended.error_type, ended.code, ended.clean)


# The server closes


@pytest.mark.parametrize(
    ("code", "cause", "error_type"),
    [
        (1000, Cause.UNKNOWN, None),
        (None, Cause.UNKNOWN, None),
        (1001, Cause.NOTICE, None),
        (1002, Cause.PROTOCOL, ConnectionClosed),
        (1003, Cause.PROTOCOL, ConnectionClosed),
        (1007, Cause.PROTOCOL, ConnectionClosed),
        (1008, Cause.UNKNOWN, ConnectionClosed),
        (1009, Cause.PROTOCOL, ConnectionClosed),
        (1011, Cause.UNKNOWN, ConnectionClosed),
        (1012, Cause.NOTICE, ConnectionClosed),
        (1013, Cause.NOTICE, ConnectionClosed),
        (4000, Cause.UNKNOWN, ConnectionClosed),
    ],
)
def test_the_server_closes(
    converse: Converse, code: int | None, cause: Cause, error_type: type[CoinAPIError] | None
) -> None:
    talk = converse().live()
    ended = talk.server_closes(code, "why" if code else "")
    assert ending(ended) == Ending(cause, "server", error_type, code or 1005, clean=True)
    assert ended.reason == ("why" if code else "")
    assert len(talk.closes) == 1
    raised = ended.error()
    assert type(raised) is (error_type or type(None))
    if isinstance(raised, ConnectionClosed):
        assert (raised.code, raised.reason, raised.disconnected) == (code, "why", ended)


def test_what_is_known_of_an_end(converse: Converse) -> None:
    talk = converse().live("X-ConcurrencyLimit-Limit: 1")
    talk.say(trade(), trade())
    talk.advance(2.5)
    fed = len(accept(talk.request, "X-ConcurrencyLimit-Limit: 1")) + len(text(HEARTBEAT)) + 2 * len(text(trade()))
    ended = talk.eof()
    assert (ended.stage, ended.messages_received, ended.bytes_received) == ("live", 3, fed)
    assert ended.silent_for == 2.5
    assert ended.limits == (("x-concurrencylimit-limit", "1"),)
    assert talk.session.stats().messages == 3
    assert talk.session.stats().bytes == fed


def test_f26_each_error_is_a_new_one(converse: Converse) -> None:
    ended = converse().live().eof()
    assert ended.error() is not ended.error()


# The connection breaks


def test_eof_before_the_answer(converse: Converse) -> None:
    ended = converse().start().eof()
    assert ending(ended) == Ending(Cause.NETWORK, "network", ConnectError)
    assert (ended.stage, ended.silent_for) == ("upgrade", None)


@pytest.mark.parametrize("live", [False, True])
def test_eof_after_the_upgrade(converse: Converse, live: bool) -> None:
    talk = converse().live() if live else converse().upgrade()
    ended = talk.eof()
    assert ending(ended) == Ending(Cause.NETWORK, "network", ConnectionClosed)
    assert ended.stage == ("live" if live else "hello")


def test_eof_before_the_start_is_for_the_driver_to_report(converse: Converse) -> None:
    talk = converse()
    talk.session.receive_eof(talk.now)
    assert talk.drain() == []
    talk.session.lose(talk.now, "no such host", error_type=ConnectError)
    talk.drain()
    assert talk.disconnected.stage == "connect"


@pytest.mark.parametrize("stage", ["connect", "upgrade", "hello", "live"])
def test_the_driver_loses_the_connection(converse: Converse, stage: str) -> None:
    talk = converse()
    {"connect": lambda: None, "upgrade": talk.start, "hello": talk.upgrade, "live": talk.live}[stage]()
    talk.session.lose(talk.now, "it broke", error_type=CertificateError)
    talk.drain()
    ended = talk.disconnected
    assert ending(ended) == Ending(Cause.NETWORK, "network", CertificateError)
    assert (ended.stage, ended.detail) == (stage, "it broke")
    talk.session.lose(talk.now, "again", error_type=ConnectError)
    assert talk.drain() == []
    assert talk.closes == []


def test_losing_the_connection_while_closing_is_a_local_end(converse: Converse) -> None:
    talk = converse().live()
    talk.close()
    talk.session.lose(talk.now, "it broke", error_type=ConnectionClosed)
    talk.drain()
    assert ending(talk.disconnected) == Ending(Cause.LOCAL, "client", None)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 401 Unauthorized\r\n\r\nbad", b"HTTP/1.1 401 X\r\nContent-Length: 9\r\n\r\nbad"]
)
@pytest.mark.parametrize("how", ["eof", "reset"])
def test_w13_a_refusal_that_breaks_off_is_one(converse: Converse, answer: bytes, how: str) -> None:
    talk = converse().start()
    talk.receive(answer)
    if how == "eof":
        talk.eof()
    else:
        talk.session.lose(talk.now, "it broke", error_type=ConnectError)
        talk.drain()
    ended = talk.disconnected
    assert ending(ended) == Ending(Cause.CREDENTIALS, "server", AuthenticationError)
    assert (ended.status, ended.server_text) == (401, "bad")


# We close


@pytest.mark.parametrize("live", [False, True])
def test_we_close(converse: Converse, live: bool) -> None:
    talk = converse().live() if live else converse().upgrade()
    talk.close(3000, "enough")
    assert talk.session.state is SessionState.CLOSING
    assert talk.closes == [b"\x0b\xb8enough"]
    talk.say(trade())
    talk.close()
    ended = talk.server_closes(3000)
    assert ending(ended) == Ending(Cause.LOCAL, "client", None, 3000, clean=True)
    assert len(talk.closes) == 1
    assert ended.error() is None
    assert "trade" in talk.kinds


def test_f2_both_close_at_once(converse: Converse) -> None:
    talk = converse().live()
    talk.close()
    ended = talk.server_closes(1001, "going away")
    assert ending(ended) == Ending(Cause.LOCAL, "client", None, 1001, clean=True)
    assert len(talk.closes) == 1


def test_the_server_drops_the_connection_while_we_close(converse: Converse) -> None:
    talk = converse().live()
    talk.close()
    assert ending(talk.eof()) == Ending(Cause.LOCAL, "client", None)


@pytest.mark.parametrize("started", [False, True])
def test_we_close_before_the_connection_is_up(converse: Converse, started: bool) -> None:
    talk = converse()
    if started:
        talk.start()
    talk.close()
    assert ending(talk.disconnected) == Ending(Cause.LOCAL, "client", None)
    talk.receive(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    talk.session.receive_eof(talk.now)
    talk.close()
    assert talk.drain() == []


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (99999, ""), (1000, "x" * 124), (1000, "\ud800")])
def test_w11_a_close_that_cannot_be_sent_changes_nothing(converse: Converse, code: int, reason: str) -> None:
    talk = converse().live()
    due = talk.session.next_timeout()
    with pytest.raises(UsageError):
        talk.session.close(talk.now, code, reason)
    assert talk.session.state is SessionState.LIVE
    assert talk.session.next_timeout() == due


@pytest.mark.parametrize("closing", [False, True])
def test_after_closing_the_scope_cannot_be_changed(converse: Converse, closing: bool) -> None:
    talk = converse().live()
    talk.close()
    if not closing:
        talk.server_closes()
    with pytest.raises(UsageError, match="closed"):
        talk.set_scope(TRADES)


# The peer breaks the protocol


@pytest.mark.parametrize("closing", [False, True])
def test_w3_a_violation(converse: Converse, closing: bool) -> None:
    talk = converse().live()
    if closing:
        talk.close()
    talk.receive(text(trade()) + frame(0x3) + text(trade()))
    assert ending(talk.disconnected) == Ending(Cause.PROTOCOL, "client", ProtocolError, 1002)
    assert len(talk.closes) == 1
    assert talk.kinds.count("trade") == 1


def test_w8_a_message_above_the_limit(converse: Converse) -> None:
    talk = converse(max_message_bytes=1000).live()
    talk.receive(frame(TEXT, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 600))
    assert ending(talk.disconnected) == Ending(Cause.PROTOCOL, "client", ProtocolError, 1009)
    assert talk.closes == [b"\x03\xf1"]


def test_w2_a_hostile_answer(converse: Converse) -> None:
    talk = converse().start()
    talk.receive(accept(talk.request, "Sec-WebSocket-Protocol: ch\xe4t"))
    assert ending(talk.disconnected) == Ending(Cause.PROTOCOL, "client", ProtocolError, 1002)


# The server refuses the upgrade


@pytest.mark.parametrize(
    ("status", "cause", "error_type"),
    [
        (200, Cause.UNKNOWN, HandshakeRejected),
        (302, Cause.UNKNOWN, HandshakeRejected),
        (400, Cause.UNKNOWN, HandshakeRejected),
        (401, Cause.CREDENTIALS, AuthenticationError),
        (403, Cause.CREDENTIALS, PermissionDenied),
        (429, Cause.RATE_LIMIT, RateLimited),
        (500, Cause.NETWORK, HandshakeRejected),
        (503, Cause.NETWORK, HandshakeRejected),
        (550, Cause.NETWORK, HandshakeRejected),
    ],
)
def test_a_refused_upgrade(converse: Converse, status: int, cause: Cause, error_type: type[CoinAPIError]) -> None:
    talk = converse().start()
    talk.receive(refuse(f"{status} X", body=b" why not \n"))
    ended = talk.disconnected
    assert ending(ended) == Ending(cause, "server", error_type)
    raised = ended.error()
    assert isinstance(raised, error_type)
    facts = (raised.stage, raised.status, raised.server_text, raised.retry_after)  # type: ignore[attr-defined]
    assert facts == ("upgrade", status, "why not", None)
    assert talk.kinds == ["Disconnected"]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (["Retry-After: 30"], 30.0),
        (["X-WsRequestsPerIpLimit-RetryAfterMs: 2500"], 2.5),
        (["Retry-After: 1", "X-WsRequestsPerIpLimit-RetryAfterMs: 2500"], 2.5),
        (["Retry-After: Wed, 21 Oct 2026 07:28:00 GMT"], None),
    ],
)
def test_a_refusal_for_the_rate_says_when_to_come_back(
    converse: Converse, headers: list[str], seconds: float | None
) -> None:
    talk = converse().start()
    talk.receive(refuse("429 Too Many Requests", *headers))
    raised = talk.disconnected.error()
    assert isinstance(raised, RateLimited)
    assert raised.retry_after == seconds
    allowed = talk.pacer.next_allowed("example.test", "upgrade", talk.now, is_vendor=False)
    assert allowed - talk.now == (seconds or 0)  # Retry-After too holds back whoever shares the pacer


def test_a_long_refusal_is_shown_in_part(converse: Converse) -> None:
    talk = converse().start()
    talk.receive(refuse("400 Bad Request", body=b"\xff" + b"x" * 3000))
    assert talk.disconnected.server_text == "\ufffd" + "x" * 499


# The server sends an error

CLASSES = [
    ("Invalid API key", Cause.CREDENTIALS, AuthenticationError),
    ("Forbidden - Your API key don't have privileges to do that", Cause.CREDENTIALS, PermissionDenied),
    ("Reached maximum allowed buffered messages for this connection.", Cause.OVERFLOW, ServerRejected),
    ("Subscribed data type 'nonsense' is invalid.", Cause.SCOPE, ServerRejected),
    ("Too many hello messages", Cause.RATE_LIMIT, RateLimited),
    ("Something new", Cause.UNKNOWN, ServerRejected),
]


def end_by(talk: Conversation, how: str) -> Disconnected:
    if how == "close":
        return talk.server_closes(1000)
    if how == "eof":
        return talk.eof()
    talk.session.lose(talk.now, "connection reset", error_type=ConnectionClosed)
    talk.drain()
    return talk.disconnected


@pytest.mark.parametrize("how", ["close", "eof", "reset"])
@pytest.mark.parametrize(("message", "cause", "error_type"), CLASSES)
@pytest.mark.parametrize("live", [False, True])
def test_an_error_and_then_the_end(
    converse: Converse, how: str, message: str, cause: Cause, error_type: type[CoinAPIError], live: bool
) -> None:
    talk = converse().live() if live else converse().upgrade()
    talk.say(error(message))
    ended = end_by(talk, how)
    assert (ended.cause, ended.error_type, ended.server_text) == (cause, error_type, message)
    raised = ended.error()
    assert type(raised) is error_type
    assert message in str(raised) or repr(message) in str(raised)
    assert raised.stage == ("live" if live else "hello")  # type: ignore[union-attr]
    assert raised.status is None  # type: ignore[union-attr]
    assert "error" in talk.kinds


@pytest.mark.parametrize("how", ["close", "eof", "reset"])
def test_an_error_with_its_type_last(converse: Converse, how: str) -> None:
    talk = converse().upgrade()
    talk.say('{"message":"Invalid API key","type":"error"}')
    assert end_by(talk, how).error_type is AuthenticationError


@pytest.mark.parametrize("after", [trade(), HEARTBEAT, '{"type":"news"}'])
@pytest.mark.parametrize("how", ["close", "eof", "reset"])
def test_an_error_that_data_follow_did_not_end_the_connection(converse: Converse, after: str, how: str) -> None:
    talk = converse().live()
    talk.say(REFUSED_KEY, after)
    ended = end_by(talk, how)
    assert ended.cause is (Cause.UNKNOWN if how == "close" else Cause.NETWORK)
    assert ended.error_type is (None if how == "close" else ConnectionClosed)
    assert ended.server_text == "Invalid API key"


@pytest.mark.parametrize("after", [text("no JSON"), frame(BINARY, b"x"), text(NOTICE)])
def test_nonsense_and_notices_do_not_take_an_error_back(converse: Converse, after: bytes) -> None:
    talk = converse().live()
    talk.receive(text(REFUSED_KEY) + after)
    assert talk.server_closes().error_type is AuthenticationError


def test_the_last_of_several_errors_counts(converse: Converse) -> None:
    talk = converse().live()
    talk.say(error("Something new"), REFUSED_KEY)
    ended = talk.server_closes()
    assert (ended.error_type, ended.server_text) == (AuthenticationError, "Invalid API key")


def test_an_error_without_a_close_is_a_message_only(converse: Converse) -> None:
    talk = converse(url="ds:coinbase").live()
    [message] = talk.say(error("Symbol is not known", symbol="X"))
    assert isinstance(message, ErrorMessage)
    assert message.extra == {"symbol": "X"}
    talk.advance(20)
    talk.say(trade())
    assert talk.session.state is SessionState.LIVE


@pytest.mark.parametrize("message", [None, "x" * 3000])
def test_errors_without_text_and_with_too_much(converse: Converse, message: str | None) -> None:
    talk = converse().live()
    talk.say(json.dumps({"type": "error", "message": message}))
    ended = talk.server_closes()
    assert (ended.cause, ended.error_type) == (Cause.UNKNOWN, ServerRejected)
    assert ended.server_text == (message[:500] if message else None)


def test_we_close_after_an_error(converse: Converse) -> None:
    talk = converse().live()
    talk.say(REFUSED_KEY)
    talk.close()
    ended = talk.server_closes()
    assert (ended.cause, ended.error_type, ended.server_text) == (Cause.LOCAL, None, "Invalid API key")


@pytest.mark.parametrize("how", ["close", "eof", "reset"])
@pytest.mark.parametrize("notice", [NOTICE, '{"within_seconds":10,"type":"reconnect"}'])
def test_a_reconnect_notice_is_the_cause(converse: Converse, how: str, notice: str) -> None:
    talk = converse().live()
    talk.say(notice, trade())
    assert "reconnect" in talk.kinds
    assert end_by(talk, how).cause is Cause.NOTICE


# The key


@pytest.mark.parametrize(
    ("where", "form"),
    [
        ("error", "escaped"),
        *product(["error", "body", "reason", "limit of a refusal", "limit of a 101"], ["plain", "basic"]),
    ],
)
def test_the_key_is_redacted_wherever_the_server_echoes_it(
    converse: Converse,
    canary_key: str,
    assert_no_canary: Callable[[object], None],
    where: str,
    form: str,
) -> None:
    basic = b64encode(f"coinapi:{canary_key}".encode()).decode()
    escaped = "".join(f"\\u{ord(character):04x}" for character in canary_key)
    echo = {"plain": canary_key, "basic": basic, "escaped": escaped}[form]
    talk = converse(keep_raw=True)
    if where == "body":
        talk.start().receive(refuse("401 Unauthorized", body=f"bad key {echo}!".encode()))
    elif where == "limit of a refusal":
        talk.start().receive(refuse("429 Too Many", f"X-ConcurrencyLimit-Limit: {echo}"))
    elif where == "limit of a 101":
        talk.upgrade(f"X-ConcurrencyLimit-Limit: {echo}").eof()
    elif where == "reason":
        talk.live().server_closes(4000, f"bad {echo}"[:123])
    else:
        talk.live().say(f'{{"type":"error","message":"bad key {echo}","{echo}":["{echo}"]}}')
        talk.server_closes()
    for item in talk.items:
        assert_no_canary(item)
        assert_no_canary(getattr(item, "raw", None))
    raised = talk.disconnected.as_error()
    assert_no_canary(raised)
    assert "***" in repr(talk.disconnected)


@pytest.mark.parametrize("key", ["a+b'c&d<e>/f", 'quote"back\\slash'])
def test_a_key_with_signs_that_json_escapes_is_redacted(key: str) -> None:
    talk = Conversation(key, keep_raw=True).live()
    for wire in (json.dumps(key), "".join(f"\\u{ord(sign):04X}" for sign in key).join('""')):
        [message] = talk.say(f'{{"count":1.50,"type":"error","message":{wire}}}')
        assert isinstance(message, ErrorMessage)
        assert message.message == "***"
        assert message.extra == {"count": 1.5}
        assert message.raw == '{"count":1.50,"type":"error","message":"***"}'


def test_the_jwt_is_redacted_too(converse: Converse) -> None:
    talk = converse(jwt=lambda: "unused")
    talk.session.start(talk.now, jwt=Secret("header.payload.signature"))
    talk.request = talk.session.data_to_send()
    talk.receive(accept(talk.request) + text(error("expired: header.payload.signature")) + close(1008))
    assert talk.disconnected.server_text == "expired: ***"


def test_an_error_without_the_key_is_left_as_it_came(converse: Converse) -> None:
    talk = converse(keep_raw=True).live()
    wire = '{ "type" : "error", "message":"it\\u0027s \\u00fc" , "n": 1.0000000000000000000001 }'
    [message] = talk.say(wire)
    assert isinstance(message, ErrorMessage)
    assert (message.raw, message.message) == (wire, "it's ü")


def test_a_connection_that_the_limits_forbid_for_now_is_lost_as_rate_limited(converse: Converse) -> None:
    talk = converse()
    talk.session.lose(talk.now, "not yet", error_type=RateLimited, retry_after=7.0)
    talk.drain()
    ended = talk.disconnected
    assert (ended.cause, ended.error_type, ended.retry_after) == (Cause.RATE_LIMIT, RateLimited, 7.0)
    assert "retry after 7 s" in str(ended.error())
