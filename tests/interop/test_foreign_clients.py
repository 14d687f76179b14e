"""The simulator against WebSocket clients that we did not write: two Python libraries, and one of Node.js."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypeVar

import pytest
import websocket
import websockets.asyncio.client
import websockets.sync.client
from websockets.exceptions import ConnectionClosed

from coinapi_ws.simulator import Simulator, VirtualClock

Message = dict[str, Any]
T = TypeVar("T")

# Never reached, unless something is broken.
TIMEOUT_SECONDS: Final = 20.0
NODE_SECONDS: Final = 60.0

BITSTAMP: Final = "BITSTAMP_SPOT_BTC_USD"
COINBASE: Final = "COINBASE_SPOT_BTC_USD"


class Client(Protocol):
    """One open connection of a foreign library. No method waits for ever."""

    def send(self, text: str) -> None: ...

    def receive(self) -> str: ...

    def ping(self, payload: bytes) -> bytes:
        """Send a Ping and return the payload of its Pong."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Do the closing handshake."""
        ...

    def wait_closed(self) -> tuple[int, str]:
        """Return code and reason of the server's Close, also after our own."""
        ...


class ClosableWebSocket(websocket.WebSocket):
    """Remembers the server's Close, which close() of websocket-client keeps to itself."""

    closed: tuple[int, str] | None = None

    def recv_frame(self) -> websocket.ABNF:
        frame = super().recv_frame()
        if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
            self.closed = int.from_bytes(frame.data[:2], "big"), frame.data[2:].decode()
        return frame


class WebSocketClient:
    """`websocket-client`: one thread, Pings are answered while one receives."""

    def __init__(self, connection: ClosableWebSocket) -> None:
        self._connection = connection

    def send(self, text: str) -> None:
        self._connection.send(text)

    def receive(self) -> str:
        text = self._connection.recv()
        assert isinstance(text, str)
        return text

    def ping(self, payload: bytes) -> bytes:
        self._connection.ping(payload)
        opcode, frame = self._connection.recv_data_frame(control_frame=True)
        assert opcode == websocket.ABNF.OPCODE_PONG
        return bytes(frame.data)

    def close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason.encode(), timeout=TIMEOUT_SECONDS)

    def wait_closed(self) -> tuple[int, str]:
        while self._connection.closed is None:
            self._connection.recv_data_frame()
        return self._connection.closed


@contextmanager
def websocket_client(url: str) -> Iterator[Client]:
    connection = websocket.create_connection(url, timeout=TIMEOUT_SECONDS, class_=ClosableWebSocket)
    try:
        yield WebSocketClient(connection)
    finally:
        connection.shutdown()


class WebsocketsSync:
    """`websockets` with its thread, which answers Pings at any time."""

    def __init__(self, connection: websockets.sync.client.ClientConnection) -> None:
        self._connection = connection

    def send(self, text: str) -> None:
        self._connection.send(text)

    def receive(self) -> str:
        text = self._connection.recv(timeout=TIMEOUT_SECONDS)
        assert isinstance(text, str)
        return text

    def ping(self, payload: bytes) -> bytes:
        # It wakes for a Pong of the same payload only.
        assert self._connection.ping(payload).wait(TIMEOUT_SECONDS)
        return payload

    def close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason)

    def wait_closed(self) -> tuple[int, str]:
        with pytest.raises(ConnectionClosed) as caught:
            self.receive()
        return code_and_reason(caught.value)


@contextmanager
def websockets_sync(url: str) -> Iterator[Client]:
    with websockets.sync.client.connect(url, proxy=None) as connection:
        yield WebsocketsSync(connection)


class WebsocketsAsyncio:
    """`websockets` on an event loop, which runs while one waits for something."""

    def __init__(
        self, wait: Callable[[Awaitable[Any]], Any], connection: websockets.asyncio.client.ClientConnection
    ) -> None:
        self._wait = wait
        self._connection = connection

    def send(self, text: str) -> None:
        self._wait(self._connection.send(text))

    def receive(self) -> str:
        text = self._wait(self._connection.recv())
        assert isinstance(text, str)
        return text

    def ping(self, payload: bytes) -> bytes:
        # It is done with a Pong of the same payload only.
        self._wait(self._wait(self._connection.ping(payload)))
        return payload

    def close(self, code: int, reason: str) -> None:
        self._wait(self._connection.close(code, reason))

    def wait_closed(self) -> tuple[int, str]:
        with pytest.raises(ConnectionClosed) as caught:
            self.receive()
        return code_and_reason(caught.value)


@contextmanager
def websockets_asyncio(url: str) -> Iterator[Client]:
    loop = asyncio.new_event_loop()

    def wait(awaitable: Awaitable[T]) -> T:
        return loop.run_until_complete(asyncio.wait_for(awaitable, TIMEOUT_SECONDS))

    async def connect() -> websockets.asyncio.client.ClientConnection:
        return await websockets.asyncio.client.connect(url, proxy=None)

    try:
        connection = wait(connect())
        try:
            yield WebsocketsAsyncio(wait, connection)
        finally:
            wait(connection.close())
    finally:
        loop.close()


def code_and_reason(error: ConnectionClosed) -> tuple[int, str]:
    assert error.rcvd is not None
    return error.rcvd.code, error.rcvd.reason


class NodeWs:
    """The npm package `ws`, in a process of its own that runs foreign_client.mjs."""

    def __init__(self, steps: IO[str], outcomes: IO[str]) -> None:
        self._steps = steps
        self._outcomes = outcomes

    def do(self, step: str, **details: Any) -> Message:
        print(json.dumps({"step": step, **details}), file=self._steps, flush=True)
        outcome = self._outcomes.readline()
        assert outcome, f"node ended instead of the step {step}"
        answer: Message = json.loads(outcome)
        return answer

    def send(self, text: str) -> None:
        self.do("send", text=text)

    def receive(self) -> str:
        text: str = self.do("receive")["text"]
        return text

    def ping(self, payload: bytes) -> bytes:
        return bytes.fromhex(self.do("ping", payload=payload.hex())["payload"])

    def close(self, code: int, reason: str) -> None:
        self.do("close", code=code, reason=reason)

    def wait_closed(self) -> tuple[int, str]:
        outcome = self.do("closed")
        return outcome["code"], outcome["reason"]


@contextmanager
def node_ws(url: str, node: str, installation: Path) -> Iterator[Client]:
    script = Path(__file__).with_name("foreign_client.mjs")
    command = [node, str(script), str(installation / "package.json")]
    # Its stderr is ours: pytest shows it with a failure, and looks for the key in it.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        # A pipe has no timeout; the end of the process ends what waits for it.
        watchdog = threading.Timer(NODE_SECONDS, process.kill)
        watchdog.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            client = NodeWs(process.stdin, process.stdout)
            client.do("connect", url=url)
            yield client
            process.stdin.close()
            assert process.wait() == 0
        finally:
            process.kill()
            watchdog.cancel()
            watchdog.join()


Dial = Callable[[str], AbstractContextManager[Client]]


@pytest.fixture(params=["websocket-client", "websockets-sync", "websockets-asyncio", "node-ws"])
def dial(request: pytest.FixtureRequest) -> Dial:
    """Connect one of the foreign clients, with its defaults, so that some offer compression."""
    if request.param == "node-ws":
        node, installation = request.getfixturevalue("installed_ws")
        return lambda url: node_ws(url, node, installation)
    return {
        "websocket-client": websocket_client,
        "websockets-sync": websockets_sync,
        "websockets-asyncio": websockets_asyncio,
    }[request.param]


@dataclass
class Conversation:
    """A simulator in virtual time, and its only client."""

    simulator: Simulator
    clock: VirtualClock
    client: Client
    received: int = 0

    def say(self, **fields: Any) -> None:
        self.client.send(json.dumps(fields))

    def after(self, seconds: float) -> list[Message]:
        """Let time pass, and return all that the simulator sent meanwhile."""
        self.clock.advance(seconds)
        sent = sum(self.simulator.frames_sent.values())
        messages = [json.loads(self.client.receive()) for _ in range(sent - self.received)]
        self.received = sent
        return messages


Converse = Callable[..., AbstractContextManager[Conversation]]


@pytest.fixture
def converse(dial: Dial) -> Converse:
    """Start a simulator with the given options, and connect the client to it."""

    @contextmanager
    def start(**options: Any) -> Iterator[Conversation]:
        clock = VirtualClock()
        with Simulator(seed=1, clock=clock, **options) as simulator, dial(simulator.url) as client:
            yield Conversation(simulator, clock, client)

    return start


def streams(messages: list[Message]) -> set[tuple[str, str]]:
    return {(message["type"], message["symbol_id"]) for message in messages}


def sequences(messages: list[Message], data_type: str) -> list[int]:
    return [message["sequence"] for message in messages if message["type"] == data_type]


def test_the_documented_hello_brings_its_scope_and_nothing_else(
    converse: Converse, canary_key: str, assert_no_canary: Callable[[object], None]
) -> None:
    data_types = ["trade", "quote", "book", "book5", "ohlcv"]
    hello = {
        "type": "hello",
        "apikey": canary_key,
        "heartbeat": True,
        "subscribe_data_type": data_types,
        "subscribe_filter_symbol_id": [f"{COINBASE}$"],
        "subscribe_filter_asset_id": ["BTC/USD"],
        "subscribe_filter_period_id": ["1SEC"],
        "subscribe_filter_exchange_id": ["COINBASE"],
        "subscribe_update_limit_ms_quote": 500,
        "subscribe_update_limit_ms_book_snapshot": 500,
        "subscribe_update_limit_ms_exrate": 500,
    }
    with converse(api_keys=(canary_key,)) as conversation:
        conversation.say(**hello)
        messages = conversation.after(10)
        simulator = conversation.simulator
        assert [json.loads(text) for text in simulator.received] == [{**hello, "apikey": "***"}]
        assert_no_canary(simulator.received)
    assert streams(messages) == {(data_type, COINBASE) for data_type in data_types}
    for data_type in data_types:
        numbers = sequences(messages, data_type)
        assert len(numbers) > 5
        assert numbers == list(range(1, len(numbers) + 1))
    first, *deltas = (message["is_snapshot"] for message in messages if message["type"] == "book")
    assert first
    assert not any(deltas)
    assert {message["period_id"] for message in messages if message["type"] == "ohlcv"} == {"1SEC"}
    # Two a second at most, of some ten events.
    assert len(sequences(messages, "quote")) <= 21
    assert len(sequences(messages, "book5")) <= 21


def test_a_scope_grows_shrinks_and_is_replaced(converse: Converse) -> None:
    with converse() as conversation:
        only_bitstamp = {"subscribe_filter_symbol_id": [f"{BITSTAMP}$"]}
        conversation.say(type="hello", heartbeat=False, subscribe_data_type=["trade"], **only_bitstamp)
        before = conversation.after(10)
        conversation.say(type="subscribe", subscribe_data_type=["quote"], **only_bitstamp)
        grown = conversation.after(10)
        conversation.say(type="unsubscribe", subscribe_data_type=["trade"], **only_bitstamp)
        shrunk = conversation.after(10)
        conversation.say(
            type="hello",
            heartbeat=False,
            subscribe_data_type=["book"],
            subscribe_filter_symbol_id=[f"{COINBASE}$"],
        )
        replaced = conversation.after(10)
    assert streams(before) == {("trade", BITSTAMP)}
    assert streams(grown) == {("trade", BITSTAMP), ("quote", BITSTAMP)}
    assert streams(shrunk) == {("quote", BITSTAMP)}
    assert streams(replaced) == {("book", COINBASE)}
    # What stays in scope is counted on.
    for messages, data_type in ((before + grown, "trade"), (grown + shrunk, "quote"), (replaced, "book")):
        numbers = sequences(messages, data_type)
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("payload", [b"", b"\x00\xff", bytes(range(125))], ids=["empty", "binary", "longest"])
def test_the_clients_ping_is_answered(converse: Converse, payload: bytes) -> None:
    with converse() as conversation:
        assert conversation.client.ping(payload) == payload


def test_the_simulators_pings_are_answered_by_the_library(converse: Converse) -> None:
    minutes = 3
    with converse() as conversation:
        conversation.say(
            type="hello",
            heartbeat=True,
            subscribe_data_type=["trade"],
            subscribe_filter_symbol_id=["NOBODY"],
        )
        for minute in range(1, minutes + 1):
            messages = conversation.after(60)
            assert [message["type"] for message in messages] == ["hearbeat"] * 60
            # Our Ping comes after the client's Pong, and its answer says that both arrived.
            conversation.client.ping(b"")
            assert conversation.simulator.pings_sent == minute
            assert conversation.simulator.pongs_received == minute
        assert conversation.simulator.connections == 1


def test_an_unknown_data_type_is_an_error_and_the_end(converse: Converse, canary_key: str) -> None:
    with converse(api_keys=(canary_key,)) as conversation:
        conversation.say(type="hello", apikey=canary_key, heartbeat=False, subscribe_data_type=["trade", "nonsense"])
        (error,) = conversation.after(0)
        assert error == {
            "type": "error",
            "message": "Subscribed data type 'nonsense' is invalid. Allowed values: book5, book20, book50, book, "
            "book_l3, quote, trade, ohlcv, exrate, asset, exchange, symbol, connectivity_status",
        }
        assert conversation.client.wait_closed() == (1008, "")
        assert conversation.simulator.connections == 0


def test_a_wrong_key_is_an_error_and_the_end(converse: Converse, canary_key: str) -> None:
    with converse(api_keys=("another-key",)) as conversation:
        conversation.say(type="hello", apikey=canary_key, heartbeat=False, subscribe_data_type=["trade"])
        (error,) = conversation.after(0)
        assert error == {"type": "error", "message": "Invalid API key"}
        assert conversation.client.wait_closed() == (1008, "")
        assert conversation.simulator.connections == 0


def test_the_clients_close_arrives_and_is_answered(converse: Converse) -> None:
    with converse() as conversation:
        conversation.say(type="hello", heartbeat=False, subscribe_data_type=["trade"])
        assert conversation.after(1)
        conversation.client.close(1000, "enough")
        assert conversation.client.wait_closed() == (1000, "enough")
        assert conversation.simulator.closes_received == [(1000, "enough")]
        assert conversation.simulator.connections == 0


def test_the_simulators_close_arrives(converse: Converse) -> None:
    with converse() as conversation:
        conversation.say(type="hello", heartbeat=False, subscribe_data_type=["trade"])
        assert conversation.after(1)
        conversation.simulator.close()
        assert conversation.client.wait_closed() == (1001, "the simulator was closed")
