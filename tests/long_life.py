"""One server and its clients, in two processes of their own, and the ledgers that this third process keeps of both.

The server tells what it wrote to whom, the clients' process what it delivered, each through a pipe. So neither has to
remember anything, and what a process takes of the machine is the simulator's or the clients' own.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, Final

import pytest
from ledger import Ledger
from wire_tap import Tap, Wire

from coinapi_ws import Backoff, Client, ClientStats, Event, Message, Subscription, Undecodable
from coinapi_ws.simulator import Simulator
from coinapi_ws.simulator.streams import Stream

TYPES: Final = ("trade", "quote", "book", "book5", "book_l3", "ohlcv")
SYMBOL_IDS: Final = (
    "BITSTAMP_SPOT_BTC_USD",
    "BITSTAMP_SPOT_ETH_USD",
    "COINBASE_SPOT_BTC_USD",
    "COINBASE_SPOT_ETH_USD",
    "COINBASE_SPOT_ADA_USD",
    "KRAKEN_SPOT_BTC_USD",
    "KRAKEN_SPOT_ETH_USD",
    "KRAKEN_SPOT_ADA_USD",
    "BINANCEFTS_PERP_BTC_USDT",
    "BINANCEFTS_PERP_ETH_USDT",
)
#: With it, these types of all these symbols are some 5,000 messages a second.
ACTIVITY: Final = 25.5
BUSY_SECONDS: Final = 0.6
#: Few and small, so that a busy client soon stops to read, and the server to write.
MAX_QUEUED_MESSAGES: Final = 500
RECEIVE_BUFFER_BYTES: Final = 64 * 1024
PATIENCE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.001
#: An attempt's number, as its token has it, is that of the client times this, and one more for each attempt.
_CLIENT: Final = 1_000_000
_BACKOFF: Final = Backoff(initial=0.5, maximum=0.5, reset_after=2.0, slow_minimum=0.25)

_WAYS: Final[tuple[dict[str, Any], ...]] = (
    {"do": "drop"},
    {"do": "close", "code": 1012},
    {"do": "drop", "reset": True},
    {"do": "announce_reconnect", "within_seconds": 0},
    {"do": "error", "message": "Reached maximum allowed buffered messages for this connection."},
)
WAYS_TO_END: Final = len(_WAYS)

Note = tuple[Any, ...]


def timeline(seconds: float, every: float) -> list[dict[str, Any]]:
    """End the connections each ``every`` seconds, in five ways by turns, and leave messages out in between."""
    entries = [_repeated(way, n * every, WAYS_TO_END * every, seconds - every) for n, way in enumerate(_WAYS, 1)]
    skip = {"do": "skip_sequence", "count": 3, "types": ["book"]}
    return [*entries, _repeated(skip, every / 2, every, seconds - every)]


def _repeated(what: dict[str, Any], at: float, every: float, until: float) -> dict[str, Any]:
    return {**what, "at": at, "every": every, "times": max(1, 1 + int((until - at) // every))}


class Busy:
    """A callback that is busy whenever the connection is to end: little is read then, and a reset loses something."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._due: float | None = None

    def __call__(self, message: Message) -> None:
        now = time.monotonic()
        if self._due is None:
            self._due = now + self._every - BUSY_SECONDS / 2
        if now >= self._due:
            self._due += self._every
            time.sleep(BUSY_SECONDS)


class LongLife:
    """Both processes, from the start until `end`; a context manager. The connections end each ``every`` seconds.

    Each of the clients has its part of the symbols, its own `Ledger` in ``ledgers``, and in the end its statistics in
    ``stats``.
    """

    def __init__(self, seed: int, key: str, clients: int, seconds: float, every: float) -> None:
        self.ledgers = [Ledger() for _ in range(clients)]
        self.stats: list[ClientStats] = []
        self.frames_lost = 0
        self._seed, self._key, self._seconds, self._every = seed, key, seconds, every
        self._wires: dict[int, Wire] = {}
        self._threads: list[threading.Thread] = []
        self._stack = ExitStack()

    def __enter__(self) -> LongLife:
        with ExitStack() as stack:
            entries = timeline(self._seconds, self._every)
            options = {"seed": self._seed, "api_keys": [self._key], "timeline": entries}
            self._server, self._to_server = _child(stack, serve, options)
            url = self._to_server.recv()
            self._follow(self._to_server, self._take_note)
            self._clients, self._to_clients = _child(stack, listen, url, self._key, len(self.ledgers), self._every)
            self._follow(self._to_clients, self._take_item)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    @property
    def server_pid(self) -> int:
        """The number of the server's process."""
        assert self._server.pid is not None
        return self._server.pid

    @property
    def clients_pid(self) -> int:
        """The number of the clients' process."""
        assert self._clients.pid is not None
        return self._clients.pid

    @property
    def is_sound(self) -> bool:
        """Tell whether both processes are up and nothing is wrong in the ledgers so far."""
        is_running = self._server.is_alive() and self._clients.is_alive()
        return is_running and not any(ledger.disagreements for ledger in self.ledgers)

    def wait_until(self, condition: Callable[[Ledger], bool], what: str) -> None:
        """Wait until it is so in each ledger."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all(map(condition, self.ledgers)):
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
            time.sleep(0.02)

    def end(self) -> None:
        """Let the market be silent, wait until all that was written is entered, and close clients and server."""
        self._to_server.send("halt")
        self.wait_until(lambda ledger: ledger.outstanding == 0, "all that was written is delivered or covered")
        for ledger in self.ledgers:
            ledger.is_closing = True
        self._to_clients.send("close")
        self._clients.join(PATIENCE_SECONDS)
        self._to_server.send("close")
        self._server.join(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def _follow(self, pipe: Connection[Any, Any], take: Callable[[Any], None]) -> None:
        thread = threading.Thread(target=_read_all, args=(pipe, take), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _take_note(self, note: Note) -> None:
        what, number, *details = note
        if what == "lost":
            self.frames_lost = number
            return
        client, attempt = divmod(number, _CLIENT)
        ledger = self.ledgers[client]
        with ledger.lock:
            if what == "opened":
                wire = self._wires[number] = Wire(ledger)
                wire.attempt = attempt
                ledger.opened(wire)
            elif what == "wrote":
                ledger.wrote(self._wires[number], *details)
            elif what == "skipped":
                ledger.skipped(self._wires[number], *details)
            else:
                wire = self._wires.pop(number)
                wire.is_open = False
                ledger.closed(wire)

    def _take_item(self, told: tuple[int, Message | Event] | list[ClientStats]) -> None:
        if isinstance(told, list):
            self.stats = told
            return
        client, item = told
        ledger = self.ledgers[client]
        if isinstance(item, (Message, Undecodable)):
            # The two pipes are not in step: what came is written, though the server may still be about to tell.
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not ledger.awaits_a_message and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        ledger.take(item)


def _child(stack: ExitStack, target: Callable[..., None], *arguments: Any) -> tuple[Any, Connection[Any, Any]]:
    """Start a process, with a pipe to it; it is killed at the end, if need be."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=target, args=(theirs, *arguments), daemon=True)
    child.start()
    stack.callback(child.join)
    stack.callback(child.kill)
    theirs.close()
    return child, ours


def _read_all(pipe: Connection[Any, Any], take: Callable[[Any], None]) -> None:
    while True:
        try:
            told = pipe.recv()
        except (EOFError, ConnectionError):
            pipe.close()
            return
        take(told)


# The server's process


class _Relay(Tap):
    """Tells what the simulator writes, message by message."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        super().__init__()
        self._pipe = pipe

    def opened(self, wire: Wire) -> None:
        self._pipe.send(("opened", wire.attempt))

    def wrote(self, wire: Wire, text: str) -> None:
        self._pipe.send(("wrote", wire.attempt, text))

    def skipped(self, wire: Wire, stream: Stream, sequence: int) -> None:
        self._pipe.send(("skipped", wire.attempt, stream, sequence))

    def closed(self, wire: Wire) -> None:
        self._pipe.send(("closed", wire.attempt))


def serve(pipe: Connection[Any, Any], options: dict[str, Any]) -> None:
    """Run a simulator until the parent says so, or is gone."""
    relay = _Relay(pipe)
    with pytest.MonkeyPatch.context() as monkeypatch:
        relay.install(monkeypatch)
        with Simulator(activity=ACTIVITY, ping_interval=15.0, pong_timeout=15.0, **options) as simulator:
            with relay.lock:
                pipe.send(simulator.url)
            pipe.recv()
            simulator.halt_trading(SYMBOL_IDS)
            pipe.recv()
        pipe.send(("lost", sum(simulator.frames_lost.values())))


# The clients' process


def listen(pipe: Connection[Any, Any], url: str, key: str, count: int, every: float) -> None:
    """Run so many clients until the parent says so, or is gone."""
    lock = threading.Lock()  # each client has a dispatcher
    clients = [_client(n, count, url, key) for n in range(count)]
    for number, client in enumerate(clients):

        def tell(item: Message | Event, number: int = number) -> None:
            with lock:
                pipe.send((number, item))

        client.on(Message, tell)
        client.on(Event, tell)
        client.on(Message, Busy(every))
        client.start()
    pipe.recv()
    if not all(client.close(PATIENCE_SECONDS) for client in clients):
        raise RuntimeError("a client does not end")
    pipe.send([client.stats() for client in clients])


def _client(number: int, count: int, url: str, key: str) -> Client:
    attempts = iter(range(number * _CLIENT + 1, (number + 1) * _CLIENT))
    wanted = Subscription(TYPES, symbol_ids=[f"{name}$" for name in SYMBOL_IDS[number::count]], period_ids=["1SEC"])
    return Client(
        key,
        wanted,
        endpoint=url,
        jwt=lambda: f"attempt-{next(attempts)}",
        keep_raw=True,
        max_queued_messages=MAX_QUEUED_MESSAGES,
        receive_buffer_bytes=RECEIVE_BUFFER_BYTES,
        backoff=_BACKOFF,
    )
