"""Faults over TLS: certificates to be refused, records of one byte, ends without close_notify, slow handshakes."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websocket
from peers import drive, ending, turn
from raw_client import RawClient
from websocket_peer import TEXT, frame

from coinapi_ws import (
    CertificateError,
    ConnectError,
    ConnectionClosed,
    ConnectTimeout,
    Disconnected,
    Options,
    Pacer,
    Quote,
    Scope,
    Secret,
    SelectorConnection,
    Stream,
    Subscription,
    connect,
    endpoint_from,
)
from coinapi_ws.simulator import Simulator, VirtualClock

QUOTES = Subscription(["quote"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
BAD = {
    "wrong_name": "Hostname mismatch",
    "expired": "certificate has expired",
    "self_signed": "self.signed certificate",
}

Dial = Callable[..., Any]


@pytest.fixture
def tls(clock: VirtualClock) -> Iterator[Simulator]:
    with Simulator(seed=1, clock=clock, tls=True) as simulator:
        yield simulator


def our(simulator: Simulator, key: str, **options: Any) -> Stream:
    options = {"pacer": Pacer(), "heartbeats": False, "ssl": simulator.client_context, **options}
    return connect(key, QUOTES, endpoint=simulator.url, **options)


@pytest.mark.parametrize("kind", BAD)
def test_our_client_names_the_host_and_what_is_wrong(tls: Simulator, canary_key: str, kind: str) -> None:
    tls.faults.certificate(kind)
    with pytest.raises(CertificateError, match=rf"the certificate of localhost is not valid: .*{BAD[kind]}") as refused:
        our(tls, canary_key)
    assert refused.value.disconnected is not None
    assert refused.value.disconnected.stage == "connect"
    tls.settle()
    assert tls.requests == tls.requests_refused == []


@pytest.mark.parametrize("kind", BAD)
def test_other_clients_refuse_a_bad_certificate(tls: Simulator, dial: Dial, kind: str) -> None:
    tls.faults.certificate(kind)
    with pytest.raises(ssl.SSLCertVerificationError, match=BAD[kind]):
        dial(tls.url, ssl=tls.client_context)
    with pytest.raises(ssl.SSLCertVerificationError, match=BAD[kind]):
        websocket.create_connection(tls.url, timeout=10, sslopt={"context": tls.client_context})
    assert tls.requests == []


@pytest.mark.parametrize("end", [lambda faults: faults.certificate("valid"), lambda faults: faults.clear()])
def test_the_valid_certificate_comes_back(
    tls: Simulator, dial: Dial, canary_key: str, end: Callable[[Any], None]
) -> None:
    tls.faults.certificate("expired")
    end(tls.faults)
    dial(tls.url, ssl=tls.client_context).hello("symbol")
    our(tls, canary_key).close()
    assert len(tls.requests) == 2


def test_a_bad_certificate_concerns_new_connections_alone(tls: Simulator, clock: VirtualClock, canary_key: str) -> None:
    with our(tls, canary_key) as stream:
        tls.settle()
        tls.faults.certificate("wrong_name")
        with pytest.raises(CertificateError):
            our(tls, canary_key)
        clock.advance(5)
        assert isinstance(stream.recv(timeout=10), Quote)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_certificate_may_be_there_from_the_start(clock: VirtualClock, canary_key: str, kind: str) -> None:
    simulator = Simulator(clock=clock, tls=True)
    simulator.faults.certificate(kind)
    with simulator, pytest.raises(CertificateError):
        our(simulator, canary_key)


def test_a_client_that_checks_nothing_gets_through(tls: Simulator, dial: Dial) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for kind in BAD:
        tls.faults.certificate(kind)
        peer = dial(tls.url, ssl=context)
        peer.hello("symbol")
        assert peer.message()["type"] == "symbol"


def test_split_makes_each_byte_a_record(tls: Simulator) -> None:
    with RawClient(tls.port, tls.client_context) as raw:
        raw.upgrade()
        tls.faults.split()
        tls.faults.send_text("a byte each")
        expected = frame(TEXT, b"a byte each")
        # However much is asked for: one record is given.
        assert [raw.socket.recv(100) for _ in expected] == [bytes([byte]) for byte in expected]
        tls.faults.split(4)
        tls.faults.send_bytes(b"012345678")
        assert [raw.socket.recv(100) for _ in range(3)] == [b"0123", b"4567", b"8"]


def test_each_interval_lets_one_record_through(tls: Simulator, clock: VirtualClock) -> None:
    with RawClient(tls.port, tls.client_context) as raw:
        raw.upgrade()
        tls.faults.split(interval=0.25)
        tls.faults.send_bytes(b"abc")
        assert raw.exactly(1) == b"a"
        for expected in (b"b", b"c"):
            clock.advance(0.249)
            assert raw.at_hand() == b""
            clock.advance(0.001)
            assert raw.exactly(1) == expected


def test_our_client_reads_the_same_record_by_record(tls: Simulator, clock: VirtualClock, canary_key: str) -> None:
    with our(tls, canary_key, keep_raw=True) as sound:
        tls.settle()
        tls.faults.split()
        with our(tls, canary_key, keep_raw=True) as split:
            tls.settle()
            tls.faults.split(0, connection=1)
            clock.advance(5)
            for _ in range(tls.frames_sent["quote"] // 2):
                ours, theirs = split.recv(timeout=10), sound.recv(timeout=10)
                assert isinstance(ours, Quote)
                assert ours == theirs


def test_a_drop_sends_no_close_notify(tls: Simulator) -> None:
    context = tls.client_context
    with RawClient(tls.port) as tcp:
        wrapped = context.wrap_socket(tcp.socket, server_hostname="localhost", suppress_ragged_eofs=False)
        tcp.socket = wrapped
        tcp.upgrade()
        tls.faults.send_text("last words")
        tls.faults.drop()
        assert tcp.text() == "last words"
        with pytest.raises(ssl.SSLEOFError):
            wrapped.recv(1)


def test_a_close_is_followed_by_close_notify(tls: Simulator) -> None:
    with RawClient(tls.port) as tcp:
        tcp.socket = tls.client_context.wrap_socket(tcp.socket, server_hostname="localhost", suppress_ragged_eofs=False)
        tcp.upgrade()
        tls.faults.close()
        tcp.frame()
        tcp.close_frame(1012)
        assert tcp.rest() == b""


@pytest.mark.parametrize(
    ("reset", "detail"),
    [
        (False, "the connection ended without a Close frame"),
        (True, "the connection broke: Connection reset by peer"),
    ],
)
def test_our_client_reports_a_drop(tls: Simulator, canary_key: str, reset: bool, detail: str) -> None:
    with our(tls, canary_key) as stream:
        tls.settle()
        tls.faults.drop(reset=reset)
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(timeout=10)
        assert closed.value.code == 1006
        assert closed.value.disconnected is not None
        assert closed.value.disconnected.detail == detail


def test_what_waited_comes_when_a_half_open_connection_resumes(tls: Simulator, clock: VirtualClock) -> None:
    with RawClient(tls.port, tls.client_context) as raw:
        raw.upgrade().hello("quote")
        tls.settle()
        tls.faults.go_silent()
        clock.advance(300)
        assert raw.at_hand() == b""
        tls.faults.resume()
        assert tls.frames_sent["quote"] > 100
        assert sum(part.opcode == TEXT for part in raw.ping()) == tls.frames_sent["quote"]


def test_the_tls_handshake_of_a_new_connection_is_left_alone_for_exactly_so_long(
    tls: Simulator, clock: VirtualClock
) -> None:
    tls.faults.slow_handshakes(30)
    with RawClient(tls.port) as raw:
        wrapped = tls.client_context.wrap_socket(raw.socket, server_hostname="localhost", do_handshake_on_connect=False)
        raw.socket = wrapped
        for seconds in (0, 29.999):
            clock.advance(seconds)
            wrapped.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):
                wrapped.do_handshake()
        clock.advance(0.001)
        wrapped.settimeout(10)
        wrapped.do_handshake()
        raw.upgrade()


def test_our_client_waits_for_tls_no_longer_than_its_open_timeout(tls: Simulator, canary_key: str) -> None:
    tls.faults.slow_handshakes(30)
    with pytest.raises(ConnectTimeout, match="no connection to localhost in time"):
        our(tls, canary_key, open_timeout=0.05)


@pytest.mark.parametrize(
    ("reset", "reason"), [(False, "the server closed the connection"), (True, "Connection reset by peer")]
)
def test_a_drop_during_the_tls_handshake(tls: Simulator, canary_key: str, reset: bool, reason: str) -> None:
    tls.faults.slow_handshakes(30)
    options = Options(endpoint=endpoint_from(tls.url), api_key=Secret(canary_key))
    connection = SelectorConnection(options, Scope(QUOTES), pacer=Pacer(), ssl_context=tls.client_context)
    items = connection.start()
    while not connection.want_read():
        items += turn(connection)
    tls.settle()
    assert tls.faults.drop(reset=reset) == 1
    end = ending(drive(connection, Disconnected, items))
    assert (end.stage, end.error_type) == ("connect", ConnectError)
    assert end.detail == f"the TLS handshake with localhost failed: {reason}"


def test_a_huge_refusal_over_tls(tls: Simulator) -> None:
    tls.faults.refuse_upgrades(503, body_size=5_000_000)
    with RawClient(tls.port, tls.client_context) as raw:
        raw.ask()
        raw.head()
        assert len(raw.rest()) == 5_000_000
