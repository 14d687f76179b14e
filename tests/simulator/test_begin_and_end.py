"""How a connection begins and ends, and the simulator itself."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import websocket
from websockets.exceptions import ConnectionClosed

from coinapi_ws.simulator import Simulator, VirtualClock

BTC = "COINBASE_SPOT_BTC_USD"

Dial = Callable[..., Any]


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01", b"400"),  # the client takes it for wss://
        (b"GET / HTTP/1.1\r\nHost: a..b\r\nUpgrade: websocket\r\n\r\n", b"400"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 8\r\n\r\n",
            b"426",
        ),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"431"),
    ],
)
def test_what_is_no_upgrade_is_refused(simulator: Simulator, request_head: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as client:
        client.sendall(request_head)
        simulator.settle()
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.split()[1] == status
    assert simulator.requests == []


def test_bytes_that_follow_the_upgrade_request_at_once_are_read(simulator: Simulator) -> None:
    hello = b'{"type":"hello","subscribe_data_type":["symbol"]}'
    frame = b"\x81" + bytes([0x80 | len(hello)]) + b"\0\0\0\0" + hello
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as client:
        client.sendall(
            b"GET /v1/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" + frame
        )
        simulator.settle()
    assert simulator.frames_sent == {"symbol": 10}


def test_an_upgrade_that_is_not_finished_ends_after_a_while(simulator: Simulator, clock: VirtualClock) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        clock.advance(10)
        clock.advance(10)
        assert client.recv(1) == b""


def test_a_close_is_answered_and_then_tcp_ends(simulator: Simulator, clock: VirtualClock) -> None:
    client = websocket.create_connection(simulator.url)
    try:
        client.send(json.dumps({"type": "hello", "subscribe_data_type": ["trade"]}))
        simulator.settle()
        client.send_close(4001, b"enough")
        frame = client.recv_frame()
        assert (frame.opcode, frame.data) == (
            websocket.ABNF.OPCODE_CLOSE,
            (4001).to_bytes(2, "big") + b"enough",
        )
        assert client.sock.recv(1) == b""
        assert simulator.closes_received == [(4001, "enough")]
        clock.advance(5)
        assert simulator.connections == 0
    finally:
        client.shutdown()


def test_a_client_that_vanishes_leaves_nothing(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port)) as half:
        half.sendall(b"GET / HTTP/1.1\r\n")
        simulator.settle()
    gone = websocket.create_connection(simulator.url)
    gone.send(json.dumps({"type": "hello", "subscribe_data_type": ["trade"]}))
    simulator.settle()
    assert simulator.connections == 1
    gone.shutdown()
    clock.advance(5)
    assert simulator.connections == 0
    peer = dial(simulator.url)
    peer.hello("symbol", symbol_id=[BTC])
    assert peer.message()["symbol_id"] == BTC


def test_closing_says_goodbye_frees_the_port_and_is_idempotent(dial: Dial) -> None:
    simulator = Simulator()
    with pytest.raises(RuntimeError, match="not started"):
        _ = simulator.url
    simulator.close()
    simulator.start()
    peer = dial(simulator.url)
    assert [t.name for t in threading.enumerate()].count("coinapi-ws-simulator") == 1
    simulator.close()
    simulator.close()
    simulator.settle()
    assert [t.name for t in threading.enumerate()].count("coinapi-ws-simulator") == 0
    with pytest.raises(ConnectionClosed) as closed:
        peer.text()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", simulator.port))
    with pytest.raises(RuntimeError, match="once"):
        simulator.start()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("begun", [b"", b"GET /v1/ HTTP/1.1\r\n"], ids=["silent", "half a request"])
def test_who_is_still_at_the_upgrade_sees_the_end_of_tcp_when_the_server_closes(tls: bool, begun: bytes) -> None:
    simulator = Simulator(clock=VirtualClock(), tls=tls)
    simulator.start()
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as client:
        client.sendall(begun if not tls else b"\x16\x03\x01")  # the beginning of a TLS handshake
        simulator.settle()
        simulator.close()
        assert client.recv(1) == b""


def test_a_bug_in_the_thread_is_raised_and_hangs_nobody(
    monkeypatch: pytest.MonkeyPatch, clock: VirtualClock, dial: Dial
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    simulator = Simulator(clock=clock)
    simulator.start()
    dial(simulator.url).hello("trade")
    simulator.settle()
    monkeypatch.setattr("coinapi_ws.simulator.market.Market.step", broken)
    for call in (lambda: clock.advance(5), simulator.settle, simulator.close):
        with pytest.raises(RuntimeError) as failure:
            call()
        assert isinstance(failure.value.__cause__, ZeroDivisionError)
