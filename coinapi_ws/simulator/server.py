"""The simulator: one thread, one selector, all clients."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import ssl
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Final

from .clock import Clock, SystemClock, VirtualClock
from .connection import CLOSE_TIMEOUT_NS, NEVER_NS, ServerConnection
from .conversation import Conversation, ConversationSettings
from .feeds import Feed, MarketFeed
from .keys import AcceptedKeys, UpgradeRequest
from .market import Market
from .replay import PreparedRecording, Replay
from .statistics import Statistics
from .streams import Stream
from .transport import Transport
from .wire import NS_PER_SECOND

THREAD_NAME: Final = "coinapi-ws-simulator"
_CHUNK_BYTES: Final = 256 * 1024
_BACKLOG: Final = 128
#: While a virtual clock jumps far, what was published is sent on after this many steps of the market.
_STEPS_A_FLUSH: Final = 64
#: A client that never stops sending must not keep `settle` for ever.
_SETTLE_TURNS: Final = 1000
_JOIN_SECONDS: Final = 10.0
#: How long new clients wait where no descriptor was left for them.
_ACCEPT_AGAIN_SECONDS: Final = 0.1


class _Client:
    """One accepted connection: its socket and its conversation."""

    def __init__(self, transport: Transport, conversation: Conversation) -> None:
        self.transport = transport
        self.conversation = conversation
        self.interest = selectors.EVENT_READ
        #: Set once all is said and the client's own close of TCP is awaited.
        self.linger_deadline_ns = NEVER_NS

    def next_timeout(self) -> int:
        return min(self.conversation.next_timeout(), self.linger_deadline_ns)


class Simulator:
    """A CoinAPI Market Data WebSocket API V1 in this process, as the package's docstring describes it.

    Options: ``host`` and ``port`` to listen on (port 0: a free one); ``seed`` of the synthetic market;
    ``recording``, the path of a recording to replay instead of it, with ``speed`` (a factor, or None for as
    fast as each client takes it) and ``loop``; ``clock``, a `Clock` such as `VirtualClock`; ``api_keys``, the
    keys that are accepted (None: every client, also one without a key); ``ping_interval``, ``pong_timeout``
    and ``heartbeat_interval`` in seconds; ``ssl_context``, a server-side context for ``wss://``.

    Use it as a context manager, or call `start` and `close`. It runs on a daemon thread of its own; all
    public methods and properties may be used from every other thread. A failure of that thread is raised by
    `close`, `settle` and `VirtualClock.advance`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        recording: str | os.PathLike[str] | None = None,
        speed: float | None = 1.0,
        loop: bool = False,
        clock: Clock | None = None,
        api_keys: Iterable[str] | None = None,
        ping_interval: float = 60.0,
        pong_timeout: float = 60.0,
        heartbeat_interval: float = 1.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if speed is not None and not 0 < speed < math.inf:
            raise ValueError("speed must be above 0 and finite, or None for as fast as each client takes it")
        self._host = host
        self._wanted_port = port
        self._port: int | None = None
        self._seed = seed
        self._recording_path = recording
        self._speed = speed
        self._loop = loop
        self._clock: Clock = SystemClock() if clock is None else clock
        self._ping_interval_ns = _positive_ns("ping_interval", ping_interval)
        self._pong_timeout_ns = _positive_ns("pong_timeout", pong_timeout)
        self._settings = ConversationSettings(
            AcceptedKeys(api_keys), _positive_ns("heartbeat_interval", heartbeat_interval)
        )
        self._ssl_context = ssl_context
        self._statistics = Statistics()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._settle_asked = 0
        self._settle_done = 0
        self._is_stopping = False
        self._has_ended = False
        self._accepting = True
        self._clients: list[_Client] = []
        self._wanted: frozenset[Stream] | None = None

    def __repr__(self) -> str:
        where = "not started" if self._port is None else self.url
        return f"<Simulator {where}{' closed' if self._has_ended else ''}>"

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port that it listens on. Raises RuntimeError before `start`."""
        if self._port is None:
            raise RuntimeError("the simulator was not started")
        return self._port

    @property
    def url(self) -> str:
        """What to connect to; with TLS by the name localhost, so that a certificate can be checked."""
        if self._ssl_context is not None:
            return f"wss://localhost:{self.port}/v1/"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self.port}/v1/"

    @property
    def connections(self) -> int:
        """How many WebSocket connections are open."""
        return sum(client.conversation.connection.is_open for client in tuple(self._clients))

    @property
    def received(self) -> list[str]:
        """The text frames that clients sent (the newest 10,000), API keys replaced by ``***``."""
        return list(self._statistics.received)

    @property
    def requests(self) -> list[UpgradeRequest]:
        """The upgrade requests that were accepted (the newest 10,000), secrets replaced by ``***``."""
        return list(self._statistics.requests)

    @property
    def closes_received(self) -> list[tuple[int, str]]:
        """Code and reason of each Close frame that clients sent (the newest 10,000)."""
        return list(self._statistics.closes)

    @property
    def frames_sent(self) -> dict[str, int]:
        """How many text frames of each type were queued for clients."""
        return dict(self._statistics.frames_sent)

    @property
    def pings_sent(self) -> int:
        """How many Ping frames were queued for clients."""
        return self._statistics.pings_sent

    @property
    def pongs_received(self) -> int:
        """How many Pong frames clients sent."""
        return self._statistics.pongs_received

    def start(self) -> None:
        """Listen, and start the thread.

        Raises OSError when the address cannot be listened on or the recording not be opened, `RecordingError`
        when it is unsound, RuntimeError when this simulator was started before.
        """
        if self._thread is not None:
            raise RuntimeError("a simulator starts once; make a new one")
        self._recording = None if self._recording_path is None else PreparedRecording(self._recording_path)
        self._market = Market(self._seed)
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.create_server((self._host, self._wanted_port), family=family, backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        self._wakeup, self._wakeup_writer = socket.socketpair()
        self._wakeup.setblocking(False)
        self._wakeup_writer.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._wall_offset_ns = self._clock.time_ns() - self._now_ns()
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()
        if isinstance(self._clock, VirtualClock):
            self._clock.follow(self.settle)

    def close(self) -> None:
        """Close all connections (1001) and the port, and wait for the thread's end; idempotent.

        Raises RuntimeError, from its cause, if the thread had died of an exception.
        """
        if self._thread is None:
            return
        with self._changed:
            self._is_stopping = True
        self._wake()
        self._thread.join(_JOIN_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError("the simulator's thread did not end")
        self._wakeup_writer.close()
        self._raise_failure()

    def settle(self) -> None:
        """Wait until what clients had sent is processed, what is due has run, and sockets are full or done.

        Raises RuntimeError, from its cause, if the thread died of an exception.
        """
        with self._changed:
            if self._thread is None or self._has_ended:
                self._raise_failure()
                return
            self._settle_asked += 1
            ticket = self._settle_asked
            self._wake()
            self._changed.wait_for(lambda: self._has_ended or self._settle_done >= ticket)
            self._raise_failure()

    # Everything below runs on the simulator's thread, but for _wake and _raise_failure.

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._turn(self._wait_seconds())
                if self._settle_asked > self._settle_done:
                    self._settle_now()
            self._say_goodbye()
        except BaseException as error:  # noqa: BLE001 - raised again by close() and settle()
            self._failure = error
        finally:
            for client in self._clients:
                client.transport.close()
            self._clients.clear()
            self._selector.close()
            self._listener.close()
            self._wakeup.close()
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _turn(self, timeout: float | None) -> bool:
        """Wait, read, run what is due, write. Return whether anything was there to be read."""
        if not self._accepting:
            timeout = _ACCEPT_AGAIN_SECONDS if timeout is None else min(timeout, _ACCEPT_AGAIN_SECONDS)
        ready = self._selector.select(timeout)
        if not self._accepting:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._accepting = True
        now_ns = self._now_ns()
        # Timers first: what arrived did so after they became due.
        self._run_timers(now_ns)
        has_read = False
        for key, events in ready:
            if not events & selectors.EVENT_READ:
                continue
            if key.fileobj is self._wakeup:
                with contextlib.suppress(BlockingIOError):
                    self._wakeup.recv(4096)
                continue
            has_read = True
            if key.fileobj is self._listener:
                self._accept(now_ns)
            elif isinstance(key.data, _Client):
                self._read(key.data, now_ns)
        for client in self._clients:
            if client.transport.has_buffered_input:
                has_read = True
                self._read(client, now_ns)
        self._run_timers(now_ns)
        for client in self._clients:
            client.conversation.connection.caught_up(now_ns)
        self._flush(now_ns)
        return has_read

    def _settle_now(self) -> None:
        ticket = self._settle_asked
        for _ in range(_SETTLE_TURNS):
            has_read = self._turn(0)
            # A paced replay may have more that is due, kept back by its high-water mark until the last write.
            is_behind = self._speed is not None and self._next_due_ns() <= self._now_ns()
            if not has_read and not is_behind:
                break
        with self._changed:
            self._settle_done = ticket
            self._changed.notify_all()

    def _wait_seconds(self) -> float | None:
        if self._settle_asked > self._settle_done or any(c.transport.has_buffered_input for c in self._clients):
            return 0
        due_ns = self._next_due_ns()
        delay_ns = due_ns - self._now_ns()
        if delay_ns <= 0:
            return 0
        # A virtual clock wakes us when it moves.
        if due_ns == NEVER_NS or isinstance(self._clock, VirtualClock):
            return None
        return delay_ns / NS_PER_SECOND

    def _next_due_ns(self) -> int:
        market_ns = self._market.next_ns - self._wall_offset_ns if self._market.is_open else NEVER_NS
        return min([market_ns, *(client.next_timeout() for client in self._clients)])

    def _run_timers(self, until_ns: int) -> None:
        """Run all timers up to this time, one by one in their order, each at its own time."""
        steps = 0
        while True:
            market_ns = self._market.next_ns - self._wall_offset_ns if self._market.is_open else NEVER_NS
            client = min(self._clients, key=_Client.next_timeout, default=None)
            client_ns = NEVER_NS if client is None else client.next_timeout()
            if min(market_ns, client_ns) > until_ns:
                return
            if client is not None and client_ns < market_ns:
                # No flush here: a replay without pace would refill for ever what its client reads.
                self._run_client(client, client_ns)
                continue
            self._run_market(market_ns)
            steps += 1
            if steps % _STEPS_A_FLUSH == 0:
                self._flush(until_ns)

    def _run_client(self, client: _Client, now_ns: int) -> None:
        if now_ns >= client.linger_deadline_ns:
            self._drop(client)
        else:
            client.conversation.handle_timeout(now_ns)

    def _run_market(self, now_ns: int) -> None:
        if self._wanted is None:
            feeds = (c.conversation.feed for c in self._clients if c.conversation.connection.is_open)
            self._wanted = frozenset().union(*(f.streams for f in feeds if isinstance(f, MarketFeed)))
        publications = self._market.step(self._wanted)
        if publications:
            for client in self._clients:
                client.conversation.publish(publications, now_ns)

    def _accept(self, now_ns: int) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:
                # No descriptor is left: the client waits in the backlog, and those who are here are served on.
                self._selector.unregister(self._listener)
                self._accepting = False
                return
            try:
                transport = Transport(accepted, self._ssl_context)
            except OSError:
                accepted.close()
                continue
            connection = ServerConnection(
                self._statistics,
                now_ns=now_ns,
                ping_interval_ns=self._ping_interval_ns,
                pong_timeout_ns=self._pong_timeout_ns,
            )
            conversation = Conversation(connection, self._new_feed(), self._settings, self._statistics)
            client = _Client(transport, conversation)
            self._clients.append(client)
            self._selector.register(transport, client.interest, client)

    def _new_feed(self) -> Feed:
        if self._recording is not None:
            return Replay(self._recording, self._statistics, speed=self._speed, loop=self._loop)
        return MarketFeed(self._market, self._statistics, wall_offset_ns=self._wall_offset_ns)

    def _read(self, client: _Client, now_ns: int) -> None:
        self._wanted = None
        try:
            received, is_eof = client.transport.read()
        except OSError:
            received, is_eof = b"", True
        # What comes after the end of the conversation is thrown away, so that closing does not reset the
        # connection.
        if received and client.linger_deadline_ns == NEVER_NS:
            client.conversation.receive(received, now_ns)
        if is_eof:
            client.conversation.connection.receive_eof()
            self._flush_client(client, now_ns)
            self._drop(client)

    def _flush(self, now_ns: int) -> None:
        for client in tuple(self._clients):
            self._flush_client(client, now_ns)

    def _flush_client(self, client: _Client, now_ns: int) -> None:
        connection, transport = client.conversation.connection, client.transport
        try:
            if transport.has_unsent or transport.wants_write:
                transport.write()
            while connection.queued_frames and not transport.has_unsent:
                transport.write(connection.take(_CHUNK_BYTES))
            is_done = connection.is_finished and not connection.queued_frames and not transport.has_unsent
            if is_done and client.linger_deadline_ns == NEVER_NS:
                transport.end_writing()
                client.linger_deadline_ns = now_ns + CLOSE_TIMEOUT_NS
        except OSError:
            connection.receive_eof()
            self._drop(client)
            return
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if transport.wants_write else 0)
        if interest != client.interest and client in self._clients:
            client.interest = interest
            self._selector.modify(transport, interest, client)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._selector.unregister(client.transport)
            client.transport.close()
            self._wanted = None

    def _say_goodbye(self) -> None:
        now_ns = self._now_ns()
        for client in self._clients:
            client.conversation.connection.close(now_ns, 1001, "the simulator was closed")
        self._flush(now_ns)

    def _now_ns(self) -> int:
        return round(self._clock.now() * NS_PER_SECOND)

    def _wake(self) -> None:
        # A full pipe wakes as well (hazard F25); one that is closed has nobody left to wake.
        with contextlib.suppress(OSError):
            self._wakeup_writer.send(b"\0")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise RuntimeError("the simulator's thread died of an exception") from self._failure


def _positive_ns(name: str, seconds: float) -> int:
    if not seconds > 0:
        raise ValueError(f"{name} must be above 0 seconds")
    return NEVER_NS if seconds == float("inf") else round(seconds * NS_PER_SECOND)
