"""How a connection ends: from each phase, in order, by force, and with peers that do not play along."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

import pytest
from peers import FakeClock, Listener, ServerSide, accept, asking, drive, ending, turn, up, url_of
from wsproto.events import Ping, Pong

from coinapi_ws import (
    Cause,
    ConnectionClosed,
    Disconnected,
    ProtocolError,
    SelectorConnection,
    SessionState,
    Trade,
)
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.drivers.selector import HIGH_WATER_BYTES, LINGER_SECONDS

Make = Callable[..., SelectorConnection]

TRADE = '{"sequence":%d,"symbol_id":"COINBASE_SPOT_BTC_USD","price":1.5,"type":"trade"}'


def assert_dead(connection: SelectorConnection) -> None:
    assert connection.fileno() == -1
    assert connection.state is SessionState.CLOSED
    assert connection.next_timeout() is None
    assert not connection.want_read()
    assert not connection.want_write()
    assert connection.close() == []
    connection.abandon()
    assert connection.handle_read() == connection.handle_write() == connection.handle_timeout() == []


def test_before_the_start(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    end = ending(connection.close())
    assert (end.cause, end.stage, end.clean, end.error_type) == (Cause.LOCAL, "connect", False, None)
    assert_dead(connection)


def test_while_the_pacer_waits(make: Make, listener: Listener, clock: FakeClock) -> None:
    pacer = SharedPacer()
    authority = url_of(listener).split("/")[2]
    pacer.observe(authority, [("x-wsrequestsperiplimit-retryafterms", "7000")], clock.now)
    connection = make(url_of(listener), pacer=pacer)
    assert connection.start() == []
    ending(connection.close())
    assert_dead(connection)


def test_while_connecting(make: Make, listener: Listener) -> None:
    # Over TLS with a server that says nothing, so that it is not up yet.
    connection = make(url_of(listener, "wss"))
    items = connection.start()
    while not connection.want_read():
        items += turn(connection)
    assert items == []
    assert ending(connection.close()).stage == "connect"
    assert_dead(connection)
    # The first that the server was to see was a Client Hello; then the end.
    server = accept(listener)
    while server.recv(65536):
        pass


def test_before_the_upgrade_is_answered(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    asking(connection, listener, connection.start())
    end = ending(connection.close())
    assert (end.stage, end.error_type) == ("upgrade", None)
    assert_dead(connection)


def test_after_the_hello_with_data_still_coming(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    server, _ = up(connection, listener)
    assert connection.close(3000, "enough") == []
    close = server.until_closed()
    assert (close.code, close.reason) == (3000, "enough")
    text = (TRADE % 1).encode()
    server.socket.sendall(bytes([0x81, len(text)]) + text)
    items = drive(connection, Trade, [])
    server.send(close.response())
    server.socket.close()
    end = ending(drive(connection, Disconnected, items))
    assert (end.cause, end.initiator, end.code, end.clean) == (Cause.LOCAL, "client", 3000, True)
    assert_dead(connection)


def test_a_server_that_never_closes_tcp_gets_so_long(make: Make, listener: Listener, clock: FakeClock) -> None:
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    connection.close()
    server.send(server.until_closed().response())
    while connection.state is not SessionState.CLOSED:
        items += turn(connection)
    assert connection.fileno() != -1
    assert connection.disconnected is None
    assert connection.next_timeout() == clock.now + LINGER_SECONDS
    assert connection.close() == []
    assert connection.handle_timeout() == []
    # What it says after its Close frame is thrown away.
    server.socket.sendall(b"\x81\x02{}" * 1000)
    assert turn(connection) == []
    assert server.socket.recv(1) == b""
    clock.now += LINGER_SECONDS
    assert ending(connection.handle_timeout()).clean
    assert_dead(connection)


def test_a_server_that_never_answers_our_close_f3(make: Make, listener: Listener, clock: FakeClock) -> None:
    """F3: the deadline is absolute, whatever the peer goes on to send."""
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    connection.close()
    for sequence in range(1, 6):
        clock.now += 0.9
        server.text(TRADE % sequence)
        count = sum(isinstance(item, Trade) for item in items)
        items = drive(connection, lambda heard, n=count: sum(isinstance(i, Trade) for i in heard) > n, items)
        assert connection.next_timeout() == 1005.0
    clock.now = 1005.0
    end = ending(items + connection.handle_timeout())
    assert (end.cause, end.clean, end.messages_received) == (Cause.LOCAL, False, 5)
    assert_dead(connection)


def test_the_server_closes_and_gets_our_answer(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    server.text(TRADE % 1)
    server.close(1012, "restart")
    while connection.state is not SessionState.CLOSED:
        items += turn(connection)
    assert server.until_closed().code == 1012
    assert server.socket.recv(1) == b""
    server.socket.close()
    end = ending(drive(connection, Disconnected, items))
    assert (end.cause, end.initiator, end.code, end.reason) == (Cause.NOTICE, "server", 1012, "restart")
    assert isinstance(items[-2], Trade)
    assert_dead(connection)


def test_close_and_end_of_tcp_in_one_read(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    server.close(1000)
    server.socket.shutdown(socket.SHUT_WR)
    end = ending(drive(connection, Disconnected, items))
    assert end.clean
    assert server.until_closed().code == 1000
    assert_dead(connection)


def test_a_violation_is_told_to_the_server(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    server.socket.sendall(b"\x8b\x00")  # an opcode that RFC 6455 reserves
    while connection.state is not SessionState.CLOSED:
        items += turn(connection)
    assert server.until_closed().code == 1002
    server.socket.close()
    end = ending(drive(connection, Disconnected, items))
    assert (end.cause, end.error_type, end.code) == (Cause.PROTOCOL, ProtocolError, 1002)


def test_abandoning_says_nothing_to_the_server(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    server, _ = up(connection, listener)
    server.text(TRADE % 1)
    drive(connection, Trade, [])
    connection.abandon()
    assert connection.disconnected is not None
    assert (connection.disconnected.cause, connection.disconnected.stage) == (Cause.LOCAL, "live")
    assert connection.disconnected.messages_received == 1
    assert connection.disconnected.error() is None
    assert server.until_closed().code == 1006
    assert_dead(connection)


def test_abandoning_while_lingering_keeps_what_is_known(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    server, _ = up(connection, listener)
    server.close(4000, "because")
    while connection.state is not SessionState.CLOSED:
        turn(connection)
    connection.abandon()
    assert connection.disconnected is not None
    assert (connection.disconnected.code, connection.disconnected.reason) == (4000, "because")


# A peer that does not read


@pytest.fixture
def deaf(listener: Listener) -> Listener:
    """A listener whose connections take little before they are read."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return listener


def flood(connection: SelectorConnection, server: ServerSide) -> int:
    """Send Pings and read nothing, until the connection does not read either; return how many were sent."""
    with socket.socket(fileno=os.dup(connection.fileno())) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ping = server.websocket.send(Ping(payload=b"p" * 125))
    batch, count, rest = ping * 500, 0, b""
    server.socket.setblocking(False)
    while connection.want_read():
        while True:
            rest = rest or batch
            try:
                rest = rest[server.socket.send(rest) :]
            except BlockingIOError:
                break
            count += 0 if rest else 500
            if count % 5000 == 0:
                break
        assert turn(connection) == []
        assert count < 500_000, "it reads for ever"
    server.socket.settimeout(10)
    return count


def test_a_peer_that_pings_and_never_reads_fills_no_memory_t12(make: Make, deaf: Listener) -> None:
    """T12: what waits to be sent is bounded; beyond that nothing is read, until the peer reads."""
    connection = make(url_of(deaf))
    server, _ = up(connection, deaf)
    flood(connection, server)
    transport = connection._transport
    assert transport is not None
    assert HIGH_WATER_BYTES <= transport.unsent_bytes < 3 * HIGH_WATER_BYTES
    assert connection.want_write()
    assert connection.fileno() != -1
    # Nor by a loop that goes on to read although it is not asked to.
    before, heard = transport.unsent_bytes, connection.stats().bytes
    for _ in range(10):
        assert connection.handle_read() == []
    assert connection.stats().bytes > heard
    assert transport.unsent_bytes <= before
    # It begins to read, and all goes on.
    server.socket.setblocking(False)
    pongs = 0
    while not connection.want_read():
        with contextlib.suppress(BlockingIOError):
            server.websocket.receive_data(server.socket.recv(1 << 20))
        pongs += sum(isinstance(event, Pong) for event in server.websocket.events())
        assert connection.handle_write() == []
    assert pongs
    assert connection.state is SessionState.OPEN


def test_a_close_frame_waits_for_a_full_socket_and_is_sent_when_the_session_is_over(
    make: Make, deaf: Listener, clock: FakeClock
) -> None:
    """A violation ends the session at once; its Close frame still follows what waits, and then the end of TCP."""
    connection = make(url_of(deaf))
    server, _ = up(connection, deaf)
    assert connection._transport is not None
    waiting = bytes(8 * 1024 * 1024)
    connection._transport.send(waiting)
    server.socket.sendall(b"\x8b\x00")
    # A loop that calls although it was not asked to.
    while connection.state is not SessionState.CLOSED:
        assert connection.handle_read() == []
    assert connection.next_timeout() == clock.now + LINGER_SECONDS
    assert connection.want_write()
    whole = bytearray()
    while connection.want_write():
        whole += server.socket.recv(1 << 20)
        assert connection.handle_write() == []
    while part := server.socket.recv(1 << 20):
        whole += part
    hello, rest = whole.split(b"\x00" * 64, 1)[0], whole[-8:]
    assert len(whole) == len(hello) + len(waiting) + 8
    assert rest[:2] == b"\x88\x82"
    # Nothing is left to be written, so that no loop spins on a socket that is always writable.
    assert not connection.want_write()
    server.socket.close()
    assert ending(drive(connection, Disconnected, [])).code == 1002


def test_closing_while_nothing_can_be_sent_ends_by_the_close_timeout(
    make: Make, deaf: Listener, clock: FakeClock
) -> None:
    connection = make(url_of(deaf))
    server, _ = up(connection, deaf)
    flood(connection, server)
    assert connection.close() == []
    assert connection.state is SessionState.CLOSING
    clock.now += 5
    end = ending(connection.handle_timeout())
    assert end.cause is Cause.LOCAL
    assert_dead(connection)


def test_a_peer_that_is_gone_while_nothing_can_be_sent(make: Make, deaf: Listener) -> None:
    connection = make(url_of(deaf))
    server, _ = up(connection, deaf)
    flood(connection, server)
    server.socket.close()
    end = ending(drive(connection, Disconnected, []))
    assert end.error_type is ConnectionClosed
    assert end.detail.startswith("the connection broke: ")
