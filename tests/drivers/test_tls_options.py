"""TLS as a user sets it up: a context, a client certificate, another name; and what is wrong with certificates."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import trustme
from peers import PATIENCE_SECONDS, TRADES, Listener, ServerSide, accept, drive, ending, serving, url_of

from coinapi_ws import (
    Cause,
    CertificateError,
    Connected,
    ConnectError,
    Disconnected,
    Heartbeat,
    Options,
    SelectorConnection,
    connect,
)
from coinapi_ws.drivers.opening import default_ssl_context
from coinapi_ws.simulator import Simulator, VirtualClock

Make = Callable[..., SelectorConnection]
WHY = {
    "wrong_name": "Hostname mismatch, certificate is not valid for 'localhost'",
    "expired": "certificate has expired",
    "self_signed": "self-signed certificate",
}


@pytest.mark.parametrize("kind", WHY)
def test_each_bad_certificate_says_which_host_and_why(make: Make, canary_key: str, kind: str) -> None:
    with Simulator(clock=VirtualClock(), tls=True, api_keys=[canary_key]) as simulator:
        simulator.faults.certificate(kind)
        connection = make(simulator.url, ssl_context=simulator.client_context)
        end = ending(drive(connection, Disconnected, connection.start()))
        simulator.settle()
        assert simulator.requests == []
    assert end.error_type is CertificateError
    assert (end.stage, end.cause, end.initiator) == ("connect", Cause.NETWORK, "network")
    said = end.detail.replace("self signed", "self-signed")  # OpenSSL before 3.0
    assert said.startswith(f"the certificate of localhost is not valid: {WHY[kind]}")


def test_a_valid_certificate_is_taken_and_an_unknown_authority_is_not(make: Make, canary_key: str) -> None:
    with Simulator(clock=VirtualClock(), tls=True, api_keys=[canary_key]) as simulator:
        simulator.faults.certificate("valid")
        connection = make(simulator.url, ssl_context=simulator.client_context)
        drive(connection, Connected, connection.start())
        connection = make(simulator.url, ssl_context=default_ssl_context())
        end = ending(drive(connection, Disconnected, connection.start()))
    assert end.error_type is CertificateError
    assert "certificate of localhost is not valid: " in end.detail
    assert "certificate" in end.detail.partition("valid: ")[2]


# A client certificate


@pytest.fixture
def asking_context(authority: trustme.CA) -> ssl.SSLContext:
    """The context of a server that wants to know who is there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_what_the_context_has_loaded(
    authority: trustme.CA,
    asking_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    canary_key: str,
    version: ssl.TLSVersion,
) -> None:
    client_context.maximum_version = version
    authority.issue_cert("trader.example").configure_cert(client_context)
    seen: list[str] = []

    def serve(server: ServerSide) -> None:
        assert isinstance(server.socket, ssl.SSLSocket)
        seen.append(str(server.socket.getpeercert()))
        server.upgrade()
        server.text('{"type":"hearbeat"}')
        server.send(server.until_closed().response())

    with (
        serving(serve, asking_context) as url,
        connect(canary_key, TRADES, endpoint=url, ssl=client_context) as stream,
    ):
        assert isinstance(next(stream), Heartbeat)
    assert "trader.example" in seen[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_gets_no_client_certificate_says_so(
    asking_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    canary_key: str,
    listener: Listener,
    version: ssl.TLSVersion,
) -> None:
    """In TLS 1.3 the refusal comes after the handshake, which is whole on our side before the server's check."""
    client_context.maximum_version = version

    def refuse() -> None:
        wrapped = asking_context.wrap_socket(accept(listener), server_side=True, do_handshake_on_connect=False)
        with suppress(ssl.SSLError):
            wrapped.do_handshake()
        # Read to the end: a reset would overtake the alert.
        with socket.socket(fileno=wrapped.detach()) as plain:
            plain.settimeout(PATIENCE_SECONDS)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(65536):
                pass

    thread = threading.Thread(target=refuse)
    thread.start()
    with pytest.raises(ConnectError, match=r"alert (handshake failure|certificate required)"):
        connect(canary_key, TRADES, endpoint=url_of(listener, "wss"), ssl=client_context)
    thread.join()


# Another name


def test_the_name_for_tls_may_be_another_than_the_host_s(
    make: Make, authority: trustme.CA, client_context: ssl.SSLContext
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("market.example").configure_cert(context)
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    with Simulator(clock=VirtualClock(), ssl_context=context) as simulator:
        url = simulator.url
        connection = make(url, ssl_context=client_context, server_hostname="market.example")
        drive(connection, Connected, connection.start())
        simulator.settle()
        assert asked == ["market.example"]
        (request,) = simulator.requests
        assert "localhost" in str(request)  # the Host header stays the URL's
        # Without it, and with a wrong one, the certificate does not fit.
        for more in ({}, {"server_hostname": "other.example"}):
            connection = make(url, ssl_context=client_context, **more)
            end = ending(drive(connection, Disconnected, connection.start()))
            assert end.error_type is CertificateError
            name = more.get("server_hostname", "localhost")
            assert "the certificate of localhost is not valid: Hostname mismatch" in end.detail
            assert f"not valid for '{name}'" in end.detail


def test_an_address_is_checked_as_an_address(
    make: Make, authority: trustme.CA, client_context: ssl.SSLContext, listener: Listener
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Simulator(clock=VirtualClock(), ssl_context=context) as simulator:
        connection = make(f"wss://127.0.0.1:{simulator.port}/", ssl_context=client_context)
        drive(connection, Connected, connection.start())


# What TLS keeps to itself


def test_one_byte_a_read_and_many_records_a_read_leave_nothing_unseen_t1_t13_f22(
    make: Make,
    options: Callable[..., Options],
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """T1, T13, F22: a record of 16 KiB read byte by byte, and thousands of small ones; no byte waits inside of TLS."""
    payload = '{"type":"trade","pad":"' + "x" * 16_300 + '"}'

    def serve(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        server.text(payload)
        for _ in range(500):
            server.text('{"type":"trade"}')
        server.until_closed()

    with serving(serve, server_context) as url:
        connection = make(url, ssl_context=client_context)
        items = drive(connection, Connected, connection.start())
        monkeypatch.setattr("coinapi_ws.drivers.transport.READ_BYTES", 1)
        while connection.stats().messages < 1:
            items += connection.step(10)
        monkeypatch.setattr("coinapi_ws.drivers.transport.READ_BYTES", 1 << 20)
        while connection.stats().messages < 501:
            items += connection.step(10)
        drive(connection, Disconnected, connection.close())
    assert connection.stats().messages == 501
