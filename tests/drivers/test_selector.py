"""A connection in a loop of one's own, against the simulator and against servers by hand."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable

import pytest
from peers import QUOTES, TRADES, FakeClock, Listener, asking, drive, ending, reset, turn, up, url_of
from wsproto.events import Request

from coinapi_ws import (
    Cause,
    CertificateError,
    ConfigurationError,
    Connected,
    ConnectError,
    ConnectionClosed,
    ConnectTimeout,
    Disconnected,
    Heartbeat,
    Live,
    Options,
    RateLimited,
    Scope,
    SelectorConnection,
    SessionState,
    Trade,
    UsageError,
)
from coinapi_ws.drivers.opening import resolve_host
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.drivers.transport import Address
from coinapi_ws.protocol.pacing import HELLO, MARGIN_SECONDS, UPGRADE
from coinapi_ws.simulator import Simulator, VirtualClock

MakeOptions = Callable[..., Options]
Make = Callable[..., SelectorConnection]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_from_start_to_end_against_the_simulator(
    make: Make, tls: bool, server_context: ssl.SSLContext, client_context: ssl.SSLContext, canary_key: str
) -> None:
    virtual = VirtualClock()
    keys = [canary_key]
    with Simulator(clock=virtual, api_keys=keys, ssl_context=server_context if tls else None) as simulator:
        connection = make(simulator.url, ssl_context=client_context)
        assert connection.fileno() == -1
        assert connection.fd_generation == 0
        assert connection.state is SessionState.CONNECTING
        assert connection.next_timeout() is None
        assert not connection.want_read()
        assert not connection.want_write()
        items = connection.start()
        assert connection.fileno() != -1
        assert connection.fd_generation >= 1
        assert connection.next_timeout() == 1010.0
        drive(connection, Connected, items)
        assert connection.state is SessionState.OPEN
        simulator.settle()
        virtual.advance(30)
        drive(connection, Trade, items)
        assert connection.state is SessionState.LIVE
        assert isinstance(items[0], Connected)
        assert isinstance(items[1], Live)
        assert all(item.received_ns == 42 for item in items[1:])
        # Only heartbeats and trades were asked for, and the rest of what is there is no Disconnected.
        assert {type(item) for item in items[2:]} <= {Trade, Heartbeat}
        assert connection.scope == Scope(TRADES)
        assert connection.close() == []
        assert connection.state is SessionState.CLOSING
        assert connection.close() == []
        items = drive(connection, Disconnected, [])
        assert ending(items).clean
        assert ending(items).cause is Cause.LOCAL
        assert connection.disconnected is items[-1]
        assert connection.fileno() == -1
        assert connection.state is SessionState.CLOSED
        assert connection.next_timeout() is None
        assert connection.close() == []
        assert connection.handle_read() == connection.handle_write() == connection.handle_timeout() == []
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]
    assert connection.stats().messages > 0


def test_a_scope_can_be_changed_at_any_time(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    assert connection.set_scope(Scope(QUOTES)) == []
    server, _ = up(connection, listener)
    assert '"quote"' in server.event().data
    connection.set_scope(Scope(TRADES, QUOTES))
    assert connection.scope == Scope(TRADES, QUOTES)
    assert '["quote","trade"]' in server.event().data
    connection.close()
    with pytest.raises(UsageError, match="closed"):
        connection.set_scope(Scope(TRADES))
    with pytest.raises(UsageError, match="empty"):
        make(url_of(listener)).set_scope(Scope())


def test_a_connection_is_used_once(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    connection.start()
    with pytest.raises(UsageError, match="make a new one"):
        connection.start()
    connection.abandon()
    with pytest.raises(UsageError):
        connection.start()


def test_another_thread_may_not_call_f27(make: Make, listener: Listener) -> None:
    """F27, T6: everything belongs to one thread; reading its state does not."""
    connection = make(url_of(listener))
    calls = (
        connection.start,
        connection.handle_read,
        connection.handle_write,
        connection.handle_timeout,
        connection.close,
        connection.abandon,
        lambda: connection.set_scope(Scope(QUOTES)),
    )
    raised: list[BaseException] = []
    states = []

    def call_all() -> None:
        states.append(connection.state)
        for call in calls:
            try:
                call()
            except UsageError as error:
                raised.append(error)

    thread = threading.Thread(target=call_all)
    thread.start()
    thread.join()
    assert len(raised) == len(calls)
    assert all("thread" in str(error) for error in raised)
    assert states == [SessionState.CONNECTING]
    assert connection.scope == Scope(TRADES)


# Connecting


def test_upgrades_wait_for_the_pacer(make: Make, listener: Listener, clock: FakeClock) -> None:
    pacer = SharedPacer()
    authority = f"127.0.0.1:{listener.getsockname()[1]}"
    pacer.observe(authority, [("x-wsrequestsperiplimit-retryafterms", "7000")], clock.now)
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[Address]:
        asked.append(host)
        return resolve_host(host, port)

    connection = make(url_of(listener), pacer=pacer, resolve=resolve)
    assert connection.start() == []
    assert connection.next_timeout() == 1007.0
    assert connection.fileno() == -1
    assert connection.handle_timeout() == []
    assert asked == []
    clock.now = 1007.0
    connection.handle_timeout()
    assert asked == ["127.0.0.1"]
    assert connection.fileno() != -1
    # The time to open counts from here on.
    assert connection.next_timeout() == 1017.0


def test_upgrades_that_are_still_connecting_count_too(make: Make, listener: Listener, clock: FakeClock) -> None:
    pacer = SharedPacer()
    authority = f"127.0.0.1:{listener.getsockname()[1]}"
    pacer.observe(authority, [("x-wsrequestsperiplimit-limit", "2")], clock.now)
    connections = [make(url_of(listener), pacer=pacer) for _ in range(3)]
    for connection in connections:
        connection.start()
    assert [connection.fileno() != -1 for connection in connections] == [True, True, False]
    assert connections[-1].next_timeout() == 1010.0 + MARGIN_SECONDS


def test_what_the_server_s_headers_say_of_limits_reaches_the_pacer(
    make: Make, listener: Listener, clock: FakeClock
) -> None:
    pacer = SharedPacer()
    connection = make(url_of(listener), pacer=pacer)
    items = connection.start()
    server = asking(connection, listener, items)
    server.upgrade([(b"X-WsHelloPerIpLimit-Limit", b"1"), (b"X-WsHelloPerIpLimit-WindowSizeMs", b"3000")])
    drive(connection, Connected, items)
    authority = f"127.0.0.1:{listener.getsockname()[1]}"
    assert pacer.next_allowed(authority, HELLO, clock.now, is_vendor=False) == 1003.0 + MARGIN_SECONDS
    assert pacer.next_allowed(authority, UPGRADE, clock.now, is_vendor=False) == 1000.0
    # The next hello has to wait, and then leaves by itself.
    connection.set_scope(Scope(QUOTES))
    assert connection.next_timeout() == 1003.0 + MARGIN_SECONDS
    assert '"trade"' in server.event().data
    clock.now = 1003.0 + MARGIN_SECONDS
    connection.handle_timeout()
    assert '"quote"' in server.event().data


def test_a_name_that_is_not_resolved(make: Make) -> None:
    def resolve(host: str, port: int) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    items = make("wss://nowhere.example/", resolve=resolve).start()
    end = ending(items)
    assert end.error_type is ConnectError
    assert end.stage == "connect"
    assert end.cause is Cause.NETWORK
    assert str(end.error()) == "the name nowhere.example was not resolved: Name or service not known"


def test_an_error_of_resolving_without_text(make: Make) -> None:
    def resolve(host: str, port: int) -> list[Address]:
        raise TimeoutError

    assert "not resolved: TimeoutError" in ending(make("wss://nowhere.example/", resolve=resolve).start()).detail


def test_addresses_from_elsewhere(make: Make, listener: Listener) -> None:
    """The name is looked up where the caller wants; host, port and certificate stay those of the URL."""
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> list[Address]:
        asked.append((host, port))
        return [Address(socket.AF_INET, listener.getsockname())]

    connection = make("ws://market.example:81/v1", resolve=resolve, allow_plaintext=True)
    request = asking(connection, listener, connection.start()).upgrade()
    assert asked == [("market.example", 81)]
    assert request.host == "market.example:81"
    assert request.target == "/v1"


def test_no_address_at_all(make: Make) -> None:
    end = ending(make("wss://nowhere.example/", resolve=lambda host, port: []).start())
    assert end.detail == "no connection to nowhere.example: the name has no address"


def test_a_resolver_that_fails_otherwise_passes_through_and_leaves_a_dead_object(make: Make) -> None:
    def resolve(host: str, port: int) -> list[Address]:
        raise LookupError("a bug of the caller")

    connection = make("wss://nowhere.example/", resolve=resolve)
    with pytest.raises(LookupError, match="a bug of the caller"):
        connection.start()
    assert connection.fileno() == -1
    assert connection.state is SessionState.CLOSED
    assert connection.handle_timeout() == []


def test_resolve_host_asks_the_system() -> None:
    assert Address(socket.AF_INET, ("127.0.0.1", 81)) in resolve_host("127.0.0.1", 81)


def test_a_jwt_is_asked_anew_on_each_connect(make: Make, listener: Listener) -> None:
    tokens = iter(["first-token", "second-token"])
    for expected in (b"Bearer first-token", b"Bearer second-token"):
        connection = make(url_of(listener), jwt=lambda: next(tokens))
        request = asking(connection, listener, connection.start()).event()
        assert isinstance(request, Request)
        assert expected in dict(request.extra_headers).values()
        connection.abandon()


def test_an_error_of_the_jwt_callable_passes_through_with_everything_closed(make: Make, listener: Listener) -> None:
    def no_token() -> str:
        raise LookupError("no such account")

    connection = make(url_of(listener), jwt=no_token)
    with pytest.raises(LookupError, match="no such account"):
        connection.start()
    assert connection.fileno() == -1
    assert connection.state is SessionState.CLOSED
    assert connection.close() == []
    with pytest.raises(ConfigurationError, match="JWT"):
        make(url_of(listener), jwt=lambda: "two words").start()
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_token_that_cannot_be_had_over_the_network_is_no_connection(make: Make, listener: Listener) -> None:
    def no_token() -> str:
        raise TimeoutError("the token server, with a secret in the text")

    connection = make(url_of(listener), jwt=no_token)
    end = ending(connection.start())
    assert end.cause is Cause.NETWORK
    assert end.error_type is ConnectError
    assert end.detail == "the jwt callable failed: TimeoutError"
    assert connection.fileno() == -1


def test_nobody_answers_the_upgrade(make: Make, listener: Listener, clock: FakeClock) -> None:
    connection = make(url_of(listener))
    items = connection.start()
    asking(connection, listener, items)
    assert connection.next_timeout() == 1010.0
    clock.now = 1009.9
    assert connection.handle_timeout() == []
    clock.now = 1010.0
    end = ending(items + connection.handle_timeout())
    assert end.error_type is ConnectTimeout
    assert end.stage == "upgrade"
    assert connection.fileno() == -1


def test_an_address_that_never_answers_f19(make: Make, listener: Listener, silent: Address, clock: FakeClock) -> None:
    connection = make(
        "wss://nowhere.example/", resolve=lambda host, port: [silent, Address(socket.AF_INET, listener.getsockname())]
    )
    assert connection.start() == []
    generation = connection.fd_generation
    assert connection.want_write()
    assert not connection.want_read()
    assert connection.handle_read() == connection.handle_write() == connection.handle_timeout() == []
    assert connection.next_timeout() == 1005.0
    clock.now = 1005.0
    assert connection.handle_timeout() == []
    assert connection.fd_generation == generation + 1
    while not connection.want_read():
        assert turn(connection) == []
    clock.now = 1010.0
    end = ending(connection.handle_timeout())
    assert end.error_type is ConnectTimeout
    assert end.stage == "connect"
    assert end.detail.startswith("no connection to nowhere.example in time (127.0.0.1:")
    assert connection.fileno() == -1


def test_without_a_time_to_open_nothing_is_due(make: Make, silent: Address, clock: FakeClock) -> None:
    connection = make("wss://nowhere.example/", resolve=lambda host, port: [silent], open_timeout=None)
    connection.start()
    assert connection.next_timeout() is None
    clock.now += 1e9
    assert connection.handle_timeout() == []
    assert connection.close() == [connection.disconnected]


def test_a_refused_connection(make: Make) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        connection = make(f"ws://127.0.0.1:{bound.getsockname()[1]}/")
        end = ending(drive(connection, Disconnected, connection.start()))
    assert end.error_type is ConnectError
    assert "Connection refused" in end.detail
    assert end.initiator == "network"


def test_a_wrong_certificate(make: Make, server_context: ssl.SSLContext) -> None:
    with Simulator(clock=VirtualClock(), ssl_context=server_context) as simulator:
        connection = make(simulator.url)  # with the default context, which does not know the authority
        end = ending(drive(connection, Disconnected, connection.start()))
    assert end.error_type is CertificateError
    assert end.detail.startswith("the certificate of localhost is not valid: ")


@pytest.mark.parametrize("is_up", [False, True])
def test_a_reset(make: Make, listener: Listener, is_up: bool) -> None:
    connection = make(url_of(listener))
    if is_up:
        server, items = up(connection, listener)
        accepted = server.socket
    else:
        items = connection.start()
        accepted = asking(connection, listener, items).socket
    reset(accepted)
    end = ending(drive(connection, Disconnected, items))
    assert end.detail == "the connection broke: Connection reset by peer"
    assert end.error_type is (ConnectionClosed if is_up else ConnectError)
    assert end.code == 1006


def test_an_end_without_a_close_frame_is_abnormal_t5(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    server.socket.close()
    end = ending(drive(connection, Disconnected, items))
    assert end.error_type is ConnectionClosed
    assert end.code == 1006
    assert not end.clean


def test_a_wait_for_the_limits_is_no_longer_than_the_opening_may_take(
    make: Make, listener: Listener, clock: FakeClock
) -> None:
    pacer = SharedPacer()
    authority = f"127.0.0.1:{listener.getsockname()[1]}"
    pacer.observe(authority, [("x-wsrequestsperiplimit-retryafterms", "3600000")], clock.now)
    end = ending(make(url_of(listener), pacer=pacer).start())
    assert (end.cause, end.error_type, end.stage, end.retry_after) == (Cause.RATE_LIMIT, RateLimited, "connect", 3600)
    assert "next connect in 3600 s" in str(end.error())


def test_what_waits_in_the_socket_is_read_before_a_timeout_counts_f7(
    make: Make, listener: Listener, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F7: whoever comes back late finds the answer, not a connection given up while it lay there in many reads."""
    connection = make(url_of(listener))
    server, _ = up(connection, listener)
    monkeypatch.setattr("coinapi_ws.drivers.transport.READ_BYTES", 200)
    server.text('{"pad":"' + "x" * 2000 + '","type":"trade"}')
    select.select([connection], [], [], 10)
    clock.now += 3600
    assert [type(item) for item in connection.handle_timeout()] == [Live, Trade]
    assert connection.state is SessionState.LIVE
    # Where nothing came, the time is up.
    clock.now += 3600
    end = ending(connection.handle_timeout())
    assert "no message for 30" in end.detail


@pytest.mark.parametrize(
    ("context", "message"),
    [(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "for servers"), (object(), "not object"), (False, "not bool")],
)
def test_what_is_no_context_for_clients_is_refused_before_anything_else(
    make: Make, context: object, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make("wss://localhost:1/", ssl_context=context)
