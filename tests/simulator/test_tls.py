"""The same over TLS: names are checked, large frames and slow readers come through (hazards T1 to T5)."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import websocket

from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Simulator, VirtualClock

Dial = Callable[..., Any]


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's context and the client's."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def test_the_market_over_tls(contexts: tuple[ssl.SSLContext, ssl.SSLContext], clock: VirtualClock, dial: Dial) -> None:
    server, client = contexts
    with Simulator(clock=clock, ssl_context=server) as simulator:
        assert simulator.url == f"wss://localhost:{simulator.port}/v1/"
        peer = dial(simulator.url, ssl=client)
        peer.hello("book_l3", "trade", symbol_id=["COINBASE_"])
        clock.advance(5)
        snapshots = peer.messages(3)
        assert all(m["is_snapshot"] for m in snapshots)
        assert peer.message()["type"] in ("book_l3", "trade")
        peer.websocket.close()
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]


def test_a_large_message_in_many_records_is_read_whole(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], clock: VirtualClock, dial: Dial
) -> None:
    server, client = contexts
    with Simulator(clock=clock, ssl_context=server) as simulator:
        peer = dial(simulator.url, ssl=client)
        peer.hello("symbol", symbol_id=["KRAKEN_SPOT_BTC_USD$", *(f"NONE_{n}$" for n in range(60_000))])
        assert peer.message()["type"] == "symbol"


def test_a_slow_reader_gets_every_byte(contexts: tuple[ssl.SSLContext, ssl.SSLContext], tmp_path: Path) -> None:
    server, client = contexts
    path = tmp_path / "large.jsonl"
    texts = [f'{{"n":{n},"x":"{"x" * 3000}","type":"trade"}}' for n in range(2000)]
    with RecordingWriter(path) as writer:
        for text in texts:
            writer.write(text, 1)
    with Simulator(recording=path, speed=None, ssl_context=server) as simulator:
        slow = websocket.create_connection(
            simulator.url,
            sslopt={"context": client},
            sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)],
            skip_utf8_validation=True,
        )
        slow.send(json.dumps({"type": "hello", "subscribe_data_type": ["trade"]}))
        simulator.settle()
        assert simulator.frames_sent["trade"] < 2000
        assert [slow.recv() for _ in texts] == texts
        slow.close()


def test_who_speaks_no_tls_or_does_not_trust_us_harms_nobody(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], clock: VirtualClock, dial: Dial
) -> None:
    server, client = contexts
    with Simulator(clock=clock, ssl_context=server) as simulator:
        with socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while plain.recv(4096):
                pass
        with pytest.raises(ssl.SSLCertVerificationError):
            dial(simulator.url, ssl=ssl.create_default_context())
        with socket.create_connection(("127.0.0.1", simulator.port)):
            simulator.settle()  # says nothing at all
        peer = dial(simulator.url, ssl=client)
        peer.hello("symbol")
        assert peer.message()["type"] == "symbol"
