"""TLS without a network: the client's end against an ``ssl.SSLObject`` of the standard library."""

from __future__ import annotations

import ssl

import pytest
import trustme

from coinapi_ws import ConfigurationError
from coinapi_ws.drivers.tls import Tls

RECORD = 16 * 1024


class Server:
    """The server's end, and the wire between the two."""

    def __init__(self, context: ssl.SSLContext, client: Tls) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.client = client

    def shake_hands(self) -> None:
        is_done = {"client": False, "server": False}
        for _ in range(10):
            is_done["client"] = self.client.handshake()
            self.incoming.write(self.client.data_to_send())
            try:
                self.object.do_handshake()
                is_done["server"] = True
            except ssl.SSLWantReadError:
                pass
            if all(is_done.values()):
                return
            self.client.receive_data(self.outgoing.read())
        raise AssertionError("the handshake comes to no end")

    def sealed(self, *plaintexts: bytes) -> bytes:
        for plaintext in plaintexts:
            assert self.object.write(plaintext) == len(plaintext)
        return self.outgoing.read()

    def opened(self, ciphertext: bytes) -> bytes:
        self.incoming.write(ciphertext)
        parts = []
        try:
            while part := self.object.read(RECORD):
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        return b"".join(parts)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def version(request: pytest.FixtureRequest, client_context: ssl.SSLContext) -> ssl.TLSVersion:
    client_context.minimum_version = client_context.maximum_version = request.param
    chosen: ssl.TLSVersion = request.param
    return chosen


@pytest.fixture
def client(client_context: ssl.SSLContext) -> Tls:
    return Tls(client_context, "localhost")


@pytest.fixture
def server(version: ssl.TLSVersion, server_context: ssl.SSLContext, client: Tls) -> Server:
    server = Server(server_context, client)
    server.shake_hands()
    assert server.object.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    return server


def test_without_a_host_name_there_is_no_tls_t9(client_context: ssl.SSLContext) -> None:
    """T9: a context that checks host names verifies nothing without one."""
    with pytest.raises(ConfigurationError, match="host name"):
        Tls(client_context, "")


def test_the_host_name_is_checked_t9(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    client = Tls(client_context, "elsewhere.example")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"elsewhere\.example"):
        Server(server_context, client).shake_hands()
    assert client.data_to_send()  # the alert that tells the server why


def test_bytes_go_both_ways(server: Server, client: Tls) -> None:
    client.receive_data(server.sealed(b"hello"))
    assert client.read() == b"hello"
    client.write(b"there")
    assert server.opened(client.data_to_send()) == b"there"
    assert client.data_to_send() == b""
    assert not client.eof


def test_a_record_larger_than_one_read_leaves_nothing_inside_t1(server: Server, client: Tls) -> None:
    """T1: what SSL would keep back no selector shows, so one read takes all."""
    client.receive_data(server.sealed(b"x" * RECORD))
    assert client.read() == b"x" * RECORD
    assert client.read() == b""
    assert not client.eof


def test_after_the_handshake_there_may_be_bytes_but_no_data_t2(server: Server, client: Tls) -> None:
    """T2: TLS 1.3 session tickets make the socket readable and are no data."""
    client.receive_data(server.outgoing.read())
    assert client.read() == b""
    assert not client.eof


def test_a_write_is_taken_whole_and_nothing_has_to_be_repeated_t3_t4(server: Server, client: Tls) -> None:
    """T3, T4: the outgoing BIO never wants a write, so a short ping may follow a long frame at once."""
    long, ping = b"y" * (1024 * 1024), b"p" * 6
    client.write(long)
    client.write(ping)
    assert server.opened(client.data_to_send()) == long + ping


def test_many_records_in_one_feed_come_out_at_once_t13(server: Server, client: Tls) -> None:
    """T13: SSLObject.read gives one record at most."""
    plaintexts = [bytes([n]) * size for n, size in enumerate([1, RECORD, 300, RECORD, 7] * 10)]
    client.receive_data(server.sealed(*plaintexts))
    assert client.read() == b"".join(plaintexts)


def test_a_record_that_comes_byte_by_byte(server: Server, client: Tls) -> None:
    ciphertext = server.sealed(b"one message", b"and another")
    parts = []
    for byte in ciphertext:
        client.receive_data(bytes([byte]))
        parts.append(client.read())
    assert b"".join(parts) == b"one messageand another"
    assert [part for part in parts if part] == [b"one message", b"and another"]


def test_a_handshake_that_comes_byte_by_byte(
    version: ssl.TLSVersion, server_context: ssl.SSLContext, client: Tls
) -> None:
    server = Server(server_context, client)
    assert not client.handshake()
    server.incoming.write(client.data_to_send())
    with pytest.raises(ssl.SSLWantReadError):
        server.object.do_handshake()
    flight = server.outgoing.read()
    for byte in flight[:-1]:
        client.receive_data(bytes([byte]))
        assert not client.handshake()
    client.receive_data(flight[-1:])
    server.shake_hands()
    client.receive_data(server.sealed(b"up"))
    assert client.read() == b"up"


def test_an_end_with_close_notify_t10(server: Server, client: Tls) -> None:
    ciphertext = server.sealed(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        server.object.unwrap()
    client.receive_data(ciphertext + server.outgoing.read())
    assert client.read() == b"last words"
    assert client.eof
    assert client.broken is None


def test_an_end_without_close_notify_t10(server: Server, client: Tls) -> None:
    client.receive_data(server.sealed(b"last words"))
    client.receive_eof()
    assert client.read() == b"last words"
    assert client.eof
    assert client.broken is None


def test_an_end_within_a_record_t10(server: Server, client: Tls) -> None:
    client.receive_data(server.sealed(b"cut off")[:-3])
    client.receive_eof()
    assert client.read() == b""
    assert client.eof


def test_a_record_that_was_changed_on_the_way_ends_it_but_not_what_came_before(server: Server, client: Tls) -> None:
    whole, changed = server.sealed(b"whole"), bytearray(server.sealed(b"changed"))
    changed[-1] ^= 1
    client.receive_data(whole + changed)
    assert client.read() == b"whole"
    assert client.eof
    assert client.broken is not None
    assert "mac" in client.broken
    assert client.data_to_send()  # the alert


def test_close_makes_a_close_notify_and_reading_goes_on(server: Server, client: Tls) -> None:
    client.close()
    assert server.opened(client.data_to_send()) == b""
    client.receive_data(server.sealed(b"still talking"))
    assert client.read() == b"still talking"


def test_close_before_the_handshake_is_no_error(client: Tls) -> None:
    client.close()
    assert client.data_to_send() == b""


def test_close_after_the_peer_s_close_notify_is_complete(server: Server, client: Tls) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        server.object.unwrap()
    client.receive_data(server.outgoing.read())
    assert client.read() == b""
    client.close()
    server.incoming.write(client.data_to_send())
    server.object.unwrap()
    assert client.eof


def test_writing_before_the_handshake_is_an_error(client: Tls) -> None:
    with pytest.raises(ssl.SSLError):
        client.write(b"too early")


def test_reading_may_make_bytes_to_send_t11(client_context: ssl.SSLContext, authority: trustme.CA) -> None:
    """T11: here the server asks for a certificate in the middle of the data, as TLS 1.3 allows."""
    client_context.minimum_version = ssl.TLSVersion.TLSv1_3
    client_context.post_handshake_auth = True
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.verify_mode = ssl.CERT_OPTIONAL
    server_context.post_handshake_auth = True
    authority.issue_cert("localhost").configure_cert(server_context)
    client = Tls(client_context, "localhost")
    server = Server(server_context, client)
    server.shake_hands()
    server.object.verify_client_post_handshake()
    client.receive_data(server.sealed(b"who are you?"))
    assert client.read() == b"who are you?"
    answer = client.data_to_send()
    assert answer
    assert server.opened(answer) == b""
