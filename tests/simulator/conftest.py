"""What the simulator's tests share: peers that we did not write, and a market that is walked by hand."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import websocket
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from coinapi_ws.simulator import Simulator, VirtualClock

Message = dict[str, Any]


class Peer:
    """A client of websockets.sync that speaks JSON; it never waits longer than a broken test may take."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    def send(self, **fields: Any) -> None:
        self.websocket.send(json.dumps(fields))

    def hello(self, *data_types: str, **fields: Any) -> None:
        self.send(type="hello", subscribe_data_type=list(data_types), **_filters(fields))

    def subscribe(self, *data_types: str, **fields: Any) -> None:
        self.send(type="subscribe", subscribe_data_type=list(data_types), **_filters(fields))

    def unsubscribe(self, *data_types: str, **fields: Any) -> None:
        self.send(type="unsubscribe", subscribe_data_type=list(data_types), **_filters(fields))

    def text(self) -> str:
        text = self.websocket.recv(timeout=10)
        assert isinstance(text, str)
        return text

    def message(self) -> Message:
        return decode(self.text())

    def messages(self, count: int) -> list[Message]:
        return [self.message() for _ in range(count)]

    def texts(self, simulator: Simulator) -> list[str]:
        """All texts that the simulator has sent this one client so far."""
        simulator.settle()
        # The Pong comes after everything that was sent before it, and after the answers to the simulator's Pings.
        assert self.websocket.ping().wait(10)
        simulator.settle()
        texts = []
        while True:
            try:
                texts.append(str(self.websocket.recv(timeout=0)))
            except TimeoutError:
                return texts

    def drain(self, simulator: Simulator) -> list[Message]:
        """All messages that the simulator has sent this one client so far."""
        return [decode(text) for text in self.texts(simulator)]

    def close_code(self) -> int:
        """The code of the Close that comes next; no text may come before it."""
        with pytest.raises(ConnectionClosed) as closed:
            self.text()
        assert closed.value.rcvd is not None, "the connection ended without a Close"
        return closed.value.rcvd.code

    def rest_until_closed(self) -> list[str]:
        """All texts up to the end of the connection, however it ends."""
        texts = []
        while True:
            try:
                texts.append(self.text())
            except ConnectionClosed:
                return texts


class TlsPeer(Peer):
    """The same by websocket-client: websockets.sync uses one TLS object from two threads, and then hangs at times."""

    websocket: Any

    def text(self) -> str:
        self.websocket.settimeout(10)
        return str(self.websocket.recv())

    def close_code(self) -> int:
        opcode, payload = self.websocket.recv_data(control_frame=True)
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        return int.from_bytes(payload[:2], "big")


def _filters(fields: dict[str, Any]) -> dict[str, Any]:
    names = {name: f"subscribe_filter_{name}" for name in ("symbol_id", "asset_id", "exchange_id", "period_id")}
    return {names.get(name, name): value for name, value in fields.items()}


def decode(text: str) -> Message:
    message: Message = json.loads(text, parse_float=Decimal)
    return message


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def simulator(clock: VirtualClock) -> Iterator[Simulator]:
    """A simulator of the market with seed 1, in which no time passes but by `clock`."""
    with Simulator(seed=1, clock=clock) as simulator:
        yield simulator


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Write a scenario and return its path."""

    def write_one(content: Any) -> Path:
        path = tmp_path / "scenario.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write_one


@pytest.fixture(scope="session")
def second_address() -> tuple[str, int]:
    """To dial from: another IP address than 127.0.0.1."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.2", 0))
        except OSError:
            pytest.skip("this system has but one address on loopback")
    return "127.0.0.2", 0


@pytest.fixture
def dial() -> Iterator[Callable[..., Peer]]:
    """Connect to a URL; closed at the end of the test."""
    with ExitStack() as stack:

        def dial_one(url: str, **options: Any) -> Peer:
            if "ssl" in options:
                client = websocket.create_connection(url, timeout=10, sslopt={"context": options.pop("ssl")}, **options)
                stack.callback(client.shutdown)
                return TlsPeer(client)
            # None: the tests that want compression or keepalive say so.
            options = {
                "compression": None,
                "ping_interval": None,
                "max_queue": None,
                "proxy": None,
                **options,
            }
            return Peer(stack.enter_context(connect(url, **options)))

        yield dial_one
