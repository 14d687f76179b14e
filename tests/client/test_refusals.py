"""What the server refuses for good, for a while, or for a reason that nobody knows."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from client_harness import Life
from peers import Listener, url_of

from coinapi_ws import (
    AuthenticationError,
    Cause,
    ClientState,
    CoinAPIError,
    ConnectionGap,
    Disconnected,
    HandshakeRejected,
    PermissionDenied,
    Reconnecting,
    ServerRejected,
)

LiveIt = Callable[..., Life]

#: What the server says in its `error`, or the status with which it answers the upgrade.
Refusal = str | int


def refuse(life: Life, listener: Listener, how: Refusal) -> Disconnected:
    if isinstance(how, str):
        return life.refuse(life.open(listener), how)
    server = life.meet(listener)
    server.event()
    server.socket.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % how)
    server.socket.close()
    return life.ended()


def error_of(life: Life) -> CoinAPIError | None:
    failure = life.supervisor.failure
    assert isinstance(failure, Disconnected)
    return failure.error()


@pytest.mark.parametrize(
    ("how", "cause", "error_type"),
    [
        ("Invalid API key", Cause.CREDENTIALS, AuthenticationError),
        (401, Cause.CREDENTIALS, AuthenticationError),
        ("Forbidden - Your API key don't have privileges to data type 'book'.", Cause.CREDENTIALS, PermissionDenied),
        (403, Cause.CREDENTIALS, PermissionDenied),
        ("Invalid data type 'trades'", Cause.SCOPE, ServerRejected),
    ],
)
def test_a_refusal_of_key_or_scope_is_the_end(
    live_it: LiveIt,
    listener: Listener,
    caplog: pytest.LogCaptureFixture,
    how: Refusal,
    cause: Cause,
    error_type: type[CoinAPIError],
) -> None:
    caplog.set_level(logging.INFO, "coinapi_ws")
    life = live_it(url_of(listener)).start()
    ended = refuse(life, listener, how)
    assert ended.cause is cause
    assert type(error_of(life)) is error_type
    assert life.supervisor.has_ended
    assert life.states == [ClientState.CONNECTING, ClientState.CLOSED]
    assert life.supervisor.next_timeout() is None
    assert life.supervisor.disconnected is ended is life.items[-1]
    assert life.of(Reconnecting) == life.of(ConnectionGap) == []
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR"]
    assert "gives up" in caplog.text


def test_a_key_that_is_refused_later_is_the_end_too(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), fresh_key_grace=600).start()
    life.cut(life.live(listener))
    life.retry()
    refuse(life, listener, "Invalid API key")
    assert life.state is ClientState.CLOSED


def test_a_fresh_key_is_tried_again_every_ten_seconds_at_most(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), fresh_key_grace=60, chance=0.0).start()
    refuse(life, listener, "Invalid API key")
    assert life.of(Reconnecting) == [Reconnecting(attempt=1, delay=10.0, cause=Cause.CREDENTIALS)]
    life.chance = 0.5
    assert life.retry() == 10.0
    refuse(life, listener, 401)
    assert life.retry() == 11.0
    assert life.of(ConnectionGap) == []
    life.live(listener)
    assert life.state is ClientState.LIVE


def test_a_key_is_fresh_for_so_long_and_no_longer(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), fresh_key_grace=25, chance=0.0).start()
    for _ in range(3):
        refuse(life, listener, "Invalid API key")
        life.retry()
    assert life.clock.now == 1030.0
    refuse(life, listener, "Invalid API key")
    assert life.state is ClientState.CLOSED
    assert type(error_of(life)) is AuthenticationError
    assert len(life.of(Reconnecting)) == 3


def test_the_grace_is_for_keys_alone(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), fresh_key_grace=60).start()
    refuse(life, listener, 403)
    assert type(error_of(life)) is PermissionDenied
    life = live_it(url_of(listener), fresh_key_grace=60).start()
    refuse(life, listener, "Invalid data type 'trades'")
    assert life.state is ClientState.CLOSED


@pytest.mark.parametrize(
    ("how", "error_type"), [("Something nobody has described", ServerRejected), (418, HandshakeRejected)]
)
def test_an_unknown_refusal_is_believed_the_sixth_time(
    live_it: LiveIt, listener: Listener, how: Refusal, error_type: type[CoinAPIError]
) -> None:
    life = live_it(url_of(listener)).start()
    for _ in range(5):
        refuse(life, listener, how)
        life.retry()
    refuse(life, listener, how)
    assert life.state is ClientState.CLOSED
    assert type(error_of(life)) is error_type
    assert [event.cause for event in life.of(Reconnecting)] == [Cause.UNKNOWN] * 5


def test_unknown_refusals_count_anew_after_a_healthy_connection(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), options={"silence_timeout": None}).start()
    for _ in range(5):
        refuse(life, listener, "Something")
        life.retry()
    server = life.live(listener)
    life.advance(60)
    life.refuse(server, "Something")
    for _ in range(4):
        life.retry()
        refuse(life, listener, "Something")
        assert life.state is ClientState.WAITING
    life.retry()
    refuse(life, listener, "Something")
    assert life.state is ClientState.CLOSED


@pytest.mark.parametrize("how", [500, 503, 429, "Too many hello messages"])
def test_what_passes_is_tried_for_ever(live_it: LiveIt, listener: Listener, how: Refusal) -> None:
    life = live_it(url_of(listener)).start()
    for _ in range(20):
        refuse(life, listener, how)
        life.retry()
    life.live(listener)
