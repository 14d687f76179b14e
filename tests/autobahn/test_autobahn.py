"""The Autobahn Testsuite's verdict on the WebSocket over the drivers' transport, with the fast lane and without."""

from __future__ import annotations

import json
import platform
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote

import pytest

from coinapi_ws.drivers.transport import Address, Transport
from coinapi_ws.protocol.websocket import BinaryReceived, Closed, Rejected, TextReceived, WebSocket, WebSocketState

#: The fast lane, or every frame through wsproto.
LANES: Final = {"fast lane": True, "wsproto lane": False}
#: Cases in which the RFC leaves the peer a choice: there is no right and no wrong.
INFORMATIONAL: Final = {"7.1.6", "7.13.1", "7.13.2"}

#: Section 9 has messages of 16 MiB.
MAX_MESSAGE_BYTES: Final = 64 * 2**20
#: The server may think for a while, and writes long reports.
PATIENCE_SECONDS: Final = 240.0


@dataclass
class EchoClient:
    """One connection to the fuzzing server, which ends when the server says so."""

    port: int
    is_fast: bool
    echoes: bool = True
    texts: list[str] = field(default_factory=list)

    def run(self, target: str) -> list[str]:
        """Connect, send every message back with its own type, until the end of TCP; return the texts."""
        transport = Transport("127.0.0.1", [Address(socket.AF_INET, ("127.0.0.1", self.port))])
        websocket = WebSocket(
            f"127.0.0.1:{self.port}",
            target,
            max_message_bytes=MAX_MESSAGE_BYTES,
            compression=True,
            fast_lane=self.is_fast,
        )
        try:
            while not transport.step(time.monotonic()):
                self._wait(transport)
            websocket.start()
            self._converse(transport, websocket)
        finally:
            transport.close()
        return self.texts

    def _converse(self, transport: Transport, websocket: WebSocket) -> None:
        ended = False
        while not transport.eof:
            for event in websocket.events():
                assert not isinstance(event, Rejected)
                self._take(websocket, event)
            transport.send(websocket.data_to_send())
            if websocket.state is WebSocketState.CLOSED and not ended:
                ended = True
                transport.shut_down_writing()  # our Close first
            transport.flush()
            self._wait(transport)
            websocket.receive_data(transport.receive())
        websocket.receive_eof()
        for event in websocket.events():
            self._take(websocket, event)
        assert websocket.state is WebSocketState.CLOSED

    def _take(self, websocket: WebSocket, event: object) -> None:
        if isinstance(event, TextReceived):
            self.texts += event.payloads
            messages: list[Any] = list(event.payloads)
        else:
            messages = [event.payload] if isinstance(event, BinaryReceived) else []
        if self.echoes and not isinstance(event, Closed):
            for message in messages:
                websocket.send(message)

    @staticmethod
    def _wait(transport: Transport) -> None:
        wants = selectors.EVENT_READ * transport.want_read | selectors.EVENT_WRITE * transport.want_write
        with selectors.DefaultSelector() as selector:
            selector.register(transport.fileno(), wants)
            assert selector.select(PATIENCE_SECONDS), "nothing comes from the fuzzing server"


Verdicts = dict[str, tuple[str, str]]


def run_lane(lane: str, server: Any) -> Verdicts:
    """The verdict on each case: on what was done, and on how it was closed."""
    (count,) = EchoClient(server.port, is_fast=True, echoes=False).run("/getCaseCount")
    for case in range(1, int(count) + 1):
        EchoClient(server.port, LANES[lane]).run(f"/runCase?case={case}&agent={quote(lane)}")
    EchoClient(server.port, is_fast=True, echoes=False).run("/updateReports?agent=any")
    index = json.loads((server.reports / "index.json").read_text())[lane]
    assert len(index) == int(count)
    return {case: (verdict["behavior"], verdict["behaviorClose"]) for case, verdict in index.items()}


@pytest.fixture(scope="session")
def verdicts(start_server: Callable[[], Any], report: list[str]) -> dict[str, Verdicts]:
    """Those on each lane; the lanes run at the same time, each with a server of its own."""
    servers = [start_server() for _ in LANES]
    with ThreadPoolExecutor() as pool:
        told = dict(zip(LANES, pool.map(run_lane, LANES, servers), strict=True))
    packages = ", ".join(f"{name} {version(name)}" for name in ("coinapi-ws", "wsproto", "h11"))
    report.append(f"{packages}, {platform.python_implementation()} {platform.python_version()}")
    for server in servers:
        report.extend(server.table().splitlines())
    return told


@pytest.mark.parametrize("lane", LANES)
def test_every_case_is_ok(verdicts: dict[str, Verdicts], lane: str) -> None:
    expected = {
        case: ("INFORMATIONAL", "INFORMATIONAL") if case in INFORMATIONAL else ("OK", "OK") for case in verdicts[lane]
    }
    assert verdicts[lane] == expected


def test_both_lanes_have_the_same_verdicts(verdicts: dict[str, Verdicts]) -> None:
    fast, slow = (verdicts[lane] for lane in LANES)
    assert fast == slow
