"""How tests of a client's life drive it: a supervisor by hand, and what a client with threads has told."""

from __future__ import annotations

import json
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Any, Final, TypeVar

from peers import PATIENCE_SECONDS, TRADES, FakeClock, Listener, ServerSide, accept
from wsproto.events import CloseConnection, Message

from coinapi_ws import (
    Backoff,
    Client,
    ClientState,
    Connected,
    Disconnected,
    Live,
    Options,
    Scope,
    Secret,
    SelectorConnection,
    SessionState,
    endpoint_from,
)
from coinapi_ws.client.settings import ClientSettings
from coinapi_ws.client.statistics import Statistics
from coinapi_ws.client.supervisor import Supervisor
from coinapi_ws.client.undecoded import Undecoded
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.protocol.pacing import Pacer
from coinapi_ws.simulator import Simulator, VirtualClock

BTC: Final = "COINBASE_SPOT_BTC_USD"
HEARTBEAT: Final = '{"type":"hearbeat"}'
NOTICE: Final = '{"type":"reconnect","within_seconds":10,"before_time":"2026-01-01T00:00:10.0000000Z"}'
START_NS: Final = VirtualClock().time_ns()
T = TypeVar("T")


def trade(second: int = 0, **fields: Any) -> str:
    """A trade's frame, with a second of 2026 as its `time_coinapi`."""
    moment = f"2026-01-01T00:00:{second:02}.0000000Z"
    return json.dumps({"symbol_id": BTC, "price": 1.5, "time_coinapi": moment, **fields, "type": "trade"})


def at(second: int) -> int:
    """The nanoseconds of what `trade` says of that second."""
    return START_NS + second * 1_000_000_000


def error(message: str) -> str:
    return json.dumps({"type": "error", "message": message})


class Life:
    """A supervisor on this thread, with a clock and a chance that move by hand alone; the sockets are real."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        scope: Scope | None = None,
        chance: float = 0.5,
        pacer: Pacer | None = None,
        clock: FakeClock | None = None,
        backoff: Backoff | None = None,
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.chance = chance
        self.pacer = pacer or SharedPacer()
        self.options = Options(endpoint=endpoint_from(url), api_key=Secret(key), **(options or {}))
        self.items: list[Any] = []
        self.states: list[ClientState] = []
        self.made: list[SelectorConnection] = []
        self._ends: deque[Disconnected] = deque()
        self.statistics = Statistics()
        self.scope = Scope(TRADES) if scope is None else scope
        self.supervisor = Supervisor(
            ClientSettings(**settings),
            connect=self._connect,
            deliver=self._deliver,
            on_state=self.states.append,
            statistics=self.statistics,
            backoff=backoff or Backoff(),
            clock=self.clock,
            chance=lambda: self.chance,
        )

    def _deliver(self, items: list[Any] | Undecoded, size: int, *, may_drop: bool) -> None:
        if isinstance(items, Undecoded):
            items = list(chain(*items))
        self.items += items
        self._ends += [item for item in items if isinstance(item, Disconnected)]

    def _connect(self, scope: Scope) -> SelectorConnection:
        connection = SelectorConnection(self.options, scope, pacer=self.pacer, clock=self.clock, decode=False)
        self.made.append(connection)
        return connection

    @property
    def state(self) -> ClientState:
        return self.supervisor.state

    def start(self) -> Life:
        """Begin, as the I/O thread does: the first attempt is a timer that is due at once."""
        self.supervisor.start(self.scope)
        self.supervisor.handle_timeout()
        return self

    def turn(self, seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait for what the sockets have, and handle it; return whether there was anything."""
        connections = self.supervisor.connections()
        reading = [connection for connection in connections if connection.want_read()]
        writing = [connection for connection in connections if connection.want_write()]
        if not (reading or writing):
            return False
        readable, writable, _ = select.select(reading, writing, [], seconds)
        for connection in connections:
            ready = selectors.EVENT_READ * (connection in readable) | selectors.EVENT_WRITE * (connection in writable)
            self.supervisor.handle(connection, ready)
        return bool(readable or writable)

    def until(self, what: type | Callable[[], object], more: int = 1) -> None:
        """Turn until so many more items of that type came, or the function is true."""
        if isinstance(what, type):
            kind, wanted = what, len(self.of(what)) + more
            self.until(lambda: len(self.of(kind)) >= wanted)
            return
        while not what():
            assert self.turn(), f"nothing more comes, after {self.items[-5:]}"

    def settle(self, simulator: Simulator) -> None:
        """Let both sides take all that the other has said."""
        simulator.settle()
        while self.turn(0):
            simulator.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass, and do what is due then."""
        self.clock.now += seconds
        self.supervisor.handle_timeout()

    def due_in(self) -> float:
        """How far away the next timer is."""
        due = self.supervisor.next_timeout()
        assert due is not None, "no timer runs"
        return due - self.clock.now

    def retry(self) -> float:
        """Let time pass up to the next attempt, and return how long that was."""
        assert self.state is ClientState.WAITING, f"it is {self.state}"
        wait = self.due_in()
        self.advance(wait)
        return wait

    def meet(self, listener: Listener) -> ServerSide:
        """The server's end of the newest connection, whose upgrade request is on its way."""
        newest = self.made[-1]
        self.until(newest.want_read)
        accepted = accept(listener)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what was sent is there, also for `turn(0)`
        return ServerSide(accepted)

    def open(self, listener: Listener, headers: list[tuple[bytes, bytes]] | None = None) -> ServerSide:
        """The same, after upgrade and hello."""
        server = self.meet(listener)
        server.upgrade(headers)
        self.until(Connected)
        assert isinstance(server.event(), Message)
        return server

    def live(self, listener: Listener) -> ServerSide:
        """The same, after the first heartbeat."""
        server = self.open(listener)
        server.text(HEARTBEAT)
        self.until(Live)
        return server

    def ended(self) -> Disconnected:
        """Turn until the next end of a connection that was not asked for yet."""
        self.until(lambda: self._ends)
        return self._ends.popleft()

    def cut(self, server: ServerSide) -> Disconnected:
        """Let the network cut the connection."""
        server.socket.close()
        return self.ended()

    def hang_up(self, server: ServerSide, code: int = 1000) -> Disconnected:
        """Let the server close the connection in order."""
        server.close(code)
        self.until(lambda: not any(connection.want_write() for connection in self.supervisor.connections()))
        server.socket.close()
        return self.ended()

    def refuse(self, server: ServerSide, message: str) -> Disconnected:
        """Let the server say an error, and close."""
        server.text(error(message))
        return self.hang_up(server, 1008)

    def answer_close(self, server: ServerSide) -> CloseConnection:
        """Let the server answer the Close of ours that is on its way."""
        self.until(lambda: not any(connection.want_write() for connection in self.supervisor.connections()))
        closing = server.until_closed()
        server.send(closing.response())
        server.socket.close()
        self.ended()
        return closing

    def of(self, kind: type[T]) -> list[T]:
        """The items of one type so far."""
        return [item for item in self.items if isinstance(item, kind)]


def eventually(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a condition holds that no event tells of."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.002)


class Heard(list[Any]):
    """A callback that keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self._came = threading.Condition()

    def __call__(self, item: Any) -> None:
        with self._came:
            self.append(item)
            self._came.notify_all()

    def of(self, kind: type[T]) -> list[T]:
        return [item for item in self.copy() if isinstance(item, kind)]

    def wait(self, kind: type[T], count: int = 1) -> T:
        """Wait until so many of a type were heard; return the latest of them."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.of(kind)) >= count, PATIENCE_SECONDS), f"heard only {self}"
        return self.of(kind)[count - 1]


def go_live(client: Client, clock: VirtualClock) -> None:
    """Let virtual time pass until the client is live, and none before it is connected: a server would lose patience."""

    def is_live() -> bool:
        if any(connection.state is SessionState.OPEN for connection in client._worker.supervisor.connections()):
            clock.advance(0.5)
        return client.state is ClientState.LIVE

    eventually(is_live)


def on_a_thread(call: Callable[[], object]) -> Callable[[], object]:
    """Begin a call on another thread; what is returned waits, and returns or raises what it did."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - raised below
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> object:
        thread.join(PATIENCE_SECONDS)
        assert outcome, "it did not return"
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    return result
