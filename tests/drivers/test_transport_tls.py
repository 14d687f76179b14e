"""The transport over TLS, against the standard library's own sockets on a thread."""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone

import certifi
import pytest
import trustme
from peers import PATIENCE_SECONDS, accept, listening, reset

from coinapi_ws import CertificateError, ConnectError, ConnectTimeout
from coinapi_ws.drivers.failures import ConnectFailed
from coinapi_ws.drivers.opening import default_ssl_context
from coinapi_ws.drivers.transport import Address, Transport

NOW = 100.0


def ready(transport: Transport) -> None:
    wants = selectors.EVENT_READ * transport.want_read | selectors.EVENT_WRITE * transport.want_write
    with selectors.DefaultSelector() as selector:
        selector.register(transport.fileno(), wants)
        assert selector.select(PATIENCE_SECONDS), "nothing happens"


@contextmanager
def behind(
    handle: Callable[[socket.socket], object], context: ssl.SSLContext | None, host: str = "localhost"
) -> Iterator[Transport]:
    """A transport to a server whose thread runs `handle`; the client's context is `context`."""
    with listening() as listener:

        def run() -> None:
            # However the client goes, that is no fault of this server.
            with accept(listener) as server, suppress(OSError):
                handle(server)

        thread = threading.Thread(target=run)
        thread.start()
        address = Address(socket.AF_INET, listener.getsockname())
        transport = Transport(host, [address], ssl_context=context, deadline=NOW + 10)
        try:
            yield transport
        finally:
            transport.close()
            thread.join()


def shaking_hands(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """A server that does its part, however the client takes it, and reads to the end."""

    def handle(server: socket.socket) -> None:
        with context.wrap_socket(server, server_side=True) as wrapped:
            while wrapped.recv(65536):
                pass

    return handle


def connected(transport: Transport) -> Transport:
    while not transport.step(NOW):
        ready(transport)
    return transport


def received(transport: Transport, until: Callable[[bytearray], bool] = lambda _: False) -> bytes:
    whole = bytearray()
    while not transport.eof and not until(whole):
        ready(transport)
        whole += transport.receive()
    return bytes(whole)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_payloads_both_ways_f22_f23(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """F22, F23: many records a read, partial writes, nothing left behind."""
    client_context.minimum_version = client_context.maximum_version = version
    payload = os.urandom(8 * 1024 * 1024)
    go_on = threading.Event()

    def echo(server: socket.socket) -> None:
        with server_context.wrap_socket(server, server_side=True) as wrapped:
            assert go_on.wait(PATIENCE_SECONDS)
            whole = bytearray()
            while len(whole) < len(payload):
                whole += wrapped.recv(1 << 20)
            wrapped.sendall(hashlib.sha256(whole).digest())
            wrapped.sendall(whole)
            wrapped.unwrap()

    with behind(echo, client_context) as transport:
        connected(transport)
        transport.send(payload)
        transport.flush()
        assert transport.unsent_bytes
        go_on.set()
        while transport.want_write:
            ready(transport)
            transport.flush()
        answer = received(transport, until=lambda whole: len(whole) == len(payload) + 32)
        transport.shut_down_writing()
    assert answer == hashlib.sha256(payload).digest() + payload
    assert transport.broken is None


def test_nothing_waits_unseen_when_a_record_is_larger_than_a_read_t1_f22(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """T1, F22: after a receive the selector alone decides; SSL keeps nothing whole to itself."""
    go_on = threading.Event()

    def send(server: socket.socket) -> None:
        with server_context.wrap_socket(server, server_side=True) as wrapped:
            wrapped.sendall(b"a" * 16384)
            assert go_on.wait(PATIENCE_SECONDS)

    with behind(send, client_context) as transport:
        connected(transport)
        assert received(transport, until=lambda whole: len(whole) == 16384) == b"a" * 16384
        assert transport.receive() == b""
        assert not transport.eof
        go_on.set()


def test_readable_is_not_data_t2(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """T2: the session tickets after a TLS 1.3 handshake make the socket readable; receive does not block."""
    client_context.minimum_version = ssl.TLSVersion.TLSv1_3
    with behind(shaking_hands(server_context), client_context) as transport:
        connected(transport)
        assert not transport.want_write
        ready(transport)
        assert transport.receive() == b""
        assert not transport.eof


def test_an_abrupt_end_is_an_end_t5_t10(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """T5, T10: no close_notify; the session above calls every end without a Close frame abnormal."""

    def drop(server: socket.socket) -> None:
        wrapped = server_context.wrap_socket(server, server_side=True)
        wrapped.sendall(b"cut")
        socket.socket(fileno=wrapped.detach()).close()

    with behind(drop, client_context) as transport:
        connected(transport)
        assert received(transport) == b"cut"
        assert transport.eof
        assert transport.broken is None


def test_a_broken_record_names_tls_and_keeps_what_came_before(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    def garble(server: socket.socket) -> None:
        wrapped = server_context.wrap_socket(server, server_side=True)
        wrapped.sendall(b"whole")
        with socket.socket(fileno=wrapped.detach()) as plain:
            plain.sendall(b"this is no TLS record at all")
            plain.settimeout(PATIENCE_SECONDS)
            while plain.recv(65536):
                pass

    with behind(garble, client_context) as transport:
        connected(transport)
        assert received(transport) == b"whole"
        assert transport.broken is not None
        assert transport.broken.startswith("TLS: ")
        transport.flush()  # the alert


def test_writing_to_tls_that_is_over_breaks_it(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    with behind(shaking_hands(server_context), client_context) as transport:
        connected(transport)
        transport.shut_down_writing()
        transport.send(b"one more thing")
        assert transport.eof
        assert transport.broken is not None
        assert transport.broken.startswith("TLS: ")


def test_reading_makes_bytes_that_the_next_flush_sends_t11(
    authority: trustme.CA, client_context: ssl.SSLContext
) -> None:
    """T11: the server asks for a certificate in the middle of the data and waits for the answer."""
    client_context.post_handshake_auth = True
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.verify_mode = ssl.CERT_OPTIONAL
    server_context.post_handshake_auth = True
    authority.issue_cert("localhost").configure_cert(server_context)
    authority.configure_trust(server_context)
    client_certificate = authority.issue_cert("client.example")
    client_certificate.configure_cert(client_context)
    seen = []

    def ask(server: socket.socket) -> None:
        with server_context.wrap_socket(server, server_side=True) as wrapped:
            wrapped.verify_client_post_handshake()
            wrapped.sendall(b"who are you?")
            assert wrapped.recv(100) == b"me"
            seen.append(wrapped.getpeercert())

    with behind(ask, client_context) as transport:
        connected(transport)
        received(transport, until=lambda whole: len(whole) == 12)
        assert transport.unsent_bytes
        transport.send(b"me")
        transport.flush()
        received(transport)
    assert "client.example" in str(seen)


def failure(transport: Transport) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        connected(transport)
    return caught.value


def test_a_certificate_for_another_host(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    with behind(shaking_hands(server_context), client_context, host="other.example") as transport:
        failed = failure(transport)
    assert failed.error_type is CertificateError
    assert "the certificate of other.example is not valid: Hostname mismatch" in failed.detail


def test_an_expired_certificate(authority: trustme.CA, client_context: ssl.SSLContext) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    authority.issue_cert("localhost", not_after=yesterday).configure_cert(context)
    with behind(shaking_hands(context), client_context) as transport:
        failed = failure(transport)
    assert failed.error_type is CertificateError
    assert failed.detail == "the certificate of localhost is not valid: certificate has expired"


def test_an_issuer_that_nobody_knows(server_context: ssl.SSLContext) -> None:
    with behind(shaking_hands(server_context), default_ssl_context()) as transport:
        failed = failure(transport)
    assert failed.error_type is CertificateError
    assert failed.detail.startswith("the certificate of localhost is not valid: ")
    assert "certificate" in failed.detail.partition("valid: ")[2]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_a_server_that_has_only_tls_1_1(authority: trustme.CA, client_context: ssl.SSLContext) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    except (ValueError, ssl.SSLError):
        pytest.skip("this OpenSSL has no TLS 1.1")
    client_context.minimum_version = default_ssl_context().minimum_version
    with behind(shaking_hands(context), client_context) as transport:
        failed = failure(transport)
    assert failed.error_type is ConnectError
    assert failed.detail.startswith("the TLS handshake with localhost failed: ")
    assert "protocol" in failed.detail


def test_a_peer_that_does_not_speak_tls(client_context: ssl.SSLContext) -> None:
    def answer(server: socket.socket) -> None:
        server.recv(65536)
        server.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with behind(answer, client_context) as transport:
        failed = failure(transport)
    assert failed.error_type is ConnectError
    assert failed.detail.startswith("the TLS handshake with localhost failed: ")


@pytest.mark.parametrize(
    ("is_reset", "reason"), [(False, "the server closed the connection"), (True, "Connection reset by peer")]
)
def test_an_end_in_the_handshake(client_context: ssl.SSLContext, is_reset: bool, reason: str) -> None:
    def end(server: socket.socket) -> None:
        server.recv(65536)
        if is_reset:
            reset(server)

    with behind(end, client_context) as transport:
        failed = failure(transport)
    assert failed.error_type is ConnectError
    assert failed.detail == f"the TLS handshake with localhost failed: {reason}"


def test_silence_in_the_handshake_ends_with_the_deadline_and_turns_no_hot_loop(client_context: ssl.SSLContext) -> None:
    """The share of an address is for its answer; once it answered, the next thing due is the deadline."""
    with listening() as silent:
        address = Address(socket.AF_INET, silent.getsockname())
        transport = Transport("localhost", [address, address], ssl_context=client_context, deadline=NOW + 10)
        assert not transport.step(NOW)
        assert transport.next_timeout in (NOW + 5, NOW + 10)
        while not transport.want_read:
            ready(transport)
            assert not transport.step(NOW)
        assert transport.next_timeout == NOW + 10
        assert not transport.step(NOW + 9.9)
        with pytest.raises(ConnectFailed) as caught:
            transport.step(NOW + 10)
        assert caught.value.error_type is ConnectTimeout
        transport.close()


def test_the_default_context_verifies_with_certifi_s_roots() -> None:
    context = default_ssl_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    roots = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    roots.load_verify_locations(certifi.where())
    assert set(context.get_ca_certs(binary_form=True)) == set(roots.get_ca_certs(binary_form=True))
