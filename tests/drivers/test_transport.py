"""TCP and TLS as steps, over real sockets; time is an argument, so nobody waits."""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
from collections.abc import Callable, Iterator

import pytest
from peers import PATIENCE_SECONDS, Listener, accept, address_of, listening, reset

from coinapi_ws import ConnectError, ConnectTimeout
from coinapi_ws.drivers.failures import ConnectFailed
from coinapi_ws.drivers.transport import Address, Transport

NOW = 100.0


def ready(transport: Transport) -> None:
    """Wait until the descriptor has something for the transport."""
    wants = selectors.EVENT_READ * transport.want_read | selectors.EVENT_WRITE * transport.want_write
    with selectors.DefaultSelector() as selector:
        selector.register(transport.fileno(), wants)
        assert selector.select(PATIENCE_SECONDS), "nothing happens"


def connected(transport: Transport, now: float = NOW) -> Transport:
    while not transport.step(now):
        ready(transport)
    return transport


def received(transport: Transport, until: Callable[[bytearray], bool] = lambda _: False) -> bytes:
    """What comes until the end, or until the function of it is true."""
    whole = bytearray()
    while not transport.eof and not until(whole):
        ready(transport)
        whole += transport.receive()
    return bytes(whole)


@pytest.fixture
def refusing() -> Iterator[Address]:
    """An address where nobody listens; the port is taken, so that nobody else will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield address_of(bound)


@pytest.fixture
def make() -> Iterator[Callable[..., Transport]]:
    made: list[Transport] = []

    def make_one(*addresses: Address, **more: object) -> Transport:
        made.append(Transport("localhost", addresses, **more))  # type: ignore[arg-type]
        return made[-1]

    yield make_one
    for transport in made:
        transport.close()


Make = Callable[..., Transport]


def test_bytes_go_both_ways(make: Make, listener: Listener) -> None:
    transport = connected(make(address_of(listener)))
    with accept(listener) as server:
        assert transport.established
        assert transport.next_timeout is None
        transport.send(b"hello")
        assert transport.want_write
        assert transport.unsent_bytes == 5
        transport.flush()
        assert not transport.want_write
        assert server.recv(100) == b"hello"
        server.sendall(b"there")
        assert received(transport, until=lambda whole: len(whole) == 5) == b"there"
        assert transport.receive() == b""
        assert not transport.eof


def test_the_second_address_when_the_first_refuses(make: Make, listener: Listener, refusing: Address) -> None:
    transport = make(refusing, address_of(listener))
    assert transport.fileno() == -1
    assert transport.generation == 0
    connected(transport)
    assert transport.generation == 2
    with accept(listener) as server:
        transport.send(b"x")
        transport.flush()
        assert server.recv(1) == b"x"


def test_an_address_that_never_answers_gets_only_its_share_f19(make: Make, listener: Listener, silent: Address) -> None:
    """F19: a timeout for each address would multiply; the deadline is one, and shared."""
    transport = make(silent, silent, address_of(listener), deadline=NOW + 9)
    assert not transport.step(NOW)
    assert transport.generation == 1
    assert transport.want_write
    assert not transport.want_read
    assert transport.next_timeout == NOW + 3
    assert not transport.step(NOW + 2.9)
    assert transport.generation == 1
    assert not transport.step(NOW + 3)
    assert transport.generation == 2
    # An even share of what is left, not of what there was.
    assert transport.next_timeout == NOW + 6
    connected(transport, NOW + 6)
    assert transport.generation == 3


def test_the_deadline_ends_it_with_every_reason_f19(make: Make, silent: Address, refusing: Address) -> None:
    transport = make(refusing, silent, deadline=NOW + 4)
    assert not transport.step(NOW)
    while transport.generation < 2:
        ready(transport)
        assert not transport.step(NOW)
    with pytest.raises(ConnectFailed, match=r"no connection to localhost in time \(.*refused\)") as caught:
        transport.step(NOW + 4)
    assert caught.value.error_type is ConnectTimeout


def test_the_deadline_of_a_single_address(make: Make, silent: Address) -> None:
    transport = make(silent, deadline=NOW + 4)
    assert not transport.step(NOW)
    with pytest.raises(ConnectFailed, match=r"^no connection to localhost in time$"):
        transport.step(NOW + 4)


def test_without_a_deadline_nothing_is_due(make: Make, silent: Address) -> None:
    transport = make(silent)
    assert not transport.step(NOW)
    assert transport.next_timeout is None
    assert not transport.step(NOW + 1e9)


def test_when_all_refuse_the_error_has_every_reason(make: Make, refusing: Address) -> None:
    elsewhere = Address(socket.AF_INET6, ("::1", refusing.sockaddr[1], 0, 0))
    transport = make(refusing, refusing, elsewhere)
    with pytest.raises(ConnectFailed) as caught:
        connected(transport)
    assert caught.value.error_type is ConnectError
    assert caught.value.detail.startswith("no connection to localhost: ")
    assert caught.value.detail.count(f"{refusing}: Connection refused") == 2
    assert f"; [::1]:{refusing.sockaddr[1]}: " in caught.value.detail


def test_a_name_without_addresses(make: Make) -> None:
    with pytest.raises(ConnectFailed, match="the name has no address"):
        make().step(NOW)


def test_an_address_of_a_family_that_there_is_not(make: Make, listener: Listener) -> None:
    nonsense = Address(9999, ("127.0.0.1", 1))
    with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1:1: Address family not supported"):
        make(nonsense).step(NOW)
    assert connected(make(nonsense, address_of(listener))).generation == 2


def test_an_address_that_the_kernel_refuses_at_once(make: Make) -> None:
    with pytest.raises(ConnectFailed, match=r"255\.255\.255\.255:9: "):
        make(Address(socket.AF_INET, ("255.255.255.255", 9))).step(NOW)


def test_addresses_may_be_plain_pairs(make: Make, listener: Listener) -> None:
    transport = make((int(socket.AF_INET), listener.getsockname()))
    assert connected(transport).established


def test_ipv6(make: Make) -> None:
    try:
        listener = listening(host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with listener:
        transport = connected(make(address_of(listener)))
        with accept(listener) as server:
            server.sendall(b"six")
            assert received(transport, until=lambda whole: len(whole) == 3) == b"six"


def test_a_slow_reader_gets_eight_mebibytes_byte_for_byte_f23(make: Make, listener: Listener) -> None:
    """F23: each flush sends what the socket takes, and the rest goes on where that ended."""
    transport = connected(make(address_of(listener)))
    payload = os.urandom(8 * 1024 * 1024)
    with accept(listener) as server:
        transport.send(payload)
        transport.flush()
        assert 0 < transport.unsent_bytes < len(payload)
        read, flushes = hashlib.sha256(), 0
        while transport.want_write:
            transport.flush()
            flushes += 1
            read.update(server.recv(30_011))
        transport.close()
        while part := server.recv(65536):
            read.update(part)
    assert flushes > 10
    assert read.digest() == hashlib.sha256(payload).digest()


def test_the_peer_ends_in_order(make: Make, listener: Listener) -> None:
    transport = connected(make(address_of(listener)))
    with accept(listener) as server:
        server.sendall(b"goodbye")
    assert received(transport) == b"goodbye"
    assert transport.broken is None
    assert not transport.want_read
    assert transport.receive() == b""


def test_the_peer_resets(make: Make, listener: Listener) -> None:
    transport = connected(make(address_of(listener)))
    reset(accept(listener))
    assert received(transport) == b""
    assert transport.broken == "Connection reset by peer"


def test_sending_to_a_peer_that_is_gone_still_reads_what_it_said(make: Make, listener: Listener) -> None:
    transport = connected(make(address_of(listener)))
    with accept(listener) as server:
        server.sendall(b"why I left")
    while transport.broken is None:
        transport.send(b"anyone there?")
        transport.flush()
    assert transport.broken in ("Broken pipe", "Connection reset by peer")
    assert not transport.want_write
    assert transport.want_read
    received(transport)
    assert transport.eof


def test_what_cannot_be_sent_after_the_end_is_no_fault(make: Make, listener: Listener) -> None:
    transport = connected(make(address_of(listener)))
    accept(listener).close()
    received(transport)
    for _ in range(20):
        transport.send(b"too late")
        transport.flush()
    assert transport.broken is None


def test_shutting_down_waits_for_what_is_not_sent_yet(make: Make, listener: Listener) -> None:
    """The end follows the last byte, also where the socket is full at that moment."""
    transport = connected(make(address_of(listener)))
    payload = os.urandom(8 * 1024 * 1024)
    with accept(listener) as server:
        transport.send(payload)
        transport.shut_down_writing()
        assert transport.unsent_bytes
        whole = bytearray()
        while transport.want_write:
            whole += server.recv(1 << 20)
            transport.flush()
        while part := server.recv(1 << 20):
            whole += part
        assert bytes(whole) == payload
        server.sendall(b"thanks")
        assert received(transport, until=lambda heard: len(heard) == 6) == b"thanks"


def test_close_is_idempotent(make: Make, listener: Listener) -> None:
    transport = connected(make(address_of(listener)))
    transport.close()
    transport.close()
    assert transport.fileno() == -1
    assert not transport.want_read
    assert not transport.want_write
    transport.flush()
    assert transport.receive() == b""
    make().close()
    with accept(listener) as server:
        assert server.recv(1) == b""


def test_a_descriptor_beyond_1024_t8_f20(make: Make, listener: Listener) -> None:
    """T8, F20: select cannot watch it, and nothing here uses select."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("so many descriptors are not permitted here")
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        while not held or held[-1] < 1100:
            held.append(os.dup(listener.fileno()))
        transport = connected(make(address_of(listener)))
        assert transport.fileno() > 1024
        with accept(listener) as server:
            server.sendall(b"far out")
            assert received(transport, until=lambda whole: len(whole) == 7) == b"far out"
        transport.close()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
