"""The simulator as its users see it."""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

from .certificates import Certificates
from .checking import checked
from .clock import Clock, SystemClock
from .engine import Engine, Settings
from .faults import Faults
from .gate import Gate
from .instruments import ASSETS, EXCHANGES, SYMBOL_IDS
from .keys import AcceptedKeys, UpgradeRequest
from .limits import ConnectionLimit, RateLimit
from .scenario import ScenarioError, read_scenario, timeline_of
from .statistics import Statistics
from .wire import NEVER_NS, NS_PER_SECOND

_LEAST_SECONDS = 0.001
_MAX_WALK_NS = 3600 * NS_PER_SECOND
_DAY_SECONDS = 86_400
_MOST_PERCENT = 10_000  # more than any price can go


class Simulator:
    """A CoinAPI Market Data WebSocket API V1 in this process, as the package's docstring describes it.

    Where and what: ``host`` and ``port`` to listen on (port 0: a free one); ``seed`` of the synthetic market
    and of chance in faults; ``recording``, the path of a recording to replay instead, with ``speed`` (a factor,
    or None for as fast as each client takes it) and ``loop``; ``clock``, a `Clock` such as `VirtualClock`;
    ``direct_source``, the id of an exchange: WS DS of that exchange; ``exchange_rates=True``: the Exchange Rates
    product. ``market_start_ns``, nanoseconds since the
    epoch: simulators with the same seed and this have the same market, so that one can take over from another
    (None: the market begins with the first scope); `start` walks there, some five seconds an hour, one at most.
    ``start_time_ns``: the market's wall clock when the first connection comes; with the same seed, the same
    requests then bring the same bytes.

    Who: ``api_keys``, the keys that are accepted, or a mapping from keys to the data types that each may have,
    None for all types (default None: every client, also one without a key); ``key_check``, "hello" as the vendor
    does, or "upgrade": 401 where no right key came with the request, 403 for one that may have no data type.

    How much: ``upgrade_limit`` and ``hello_limit``, such as ``(10, 10.0)``: so many in so many seconds from one
    IP address; ``connection_limit`` for each key; ``buffer_limit``, how many messages may wait for a slow client.

    When: ``ping_interval``, ``pong_timeout`` and ``heartbeat_interval`` in seconds; ``activity``, as of
    `set_activity`; ``timeline``, what happens by itself, see `coinapi_ws.simulator.scenario`.

    TLS: ``tls=True`` makes certificates (the extra ``tls``), and `client_context` trusts them; or
    ``ssl_context``, a server-side context of yours.

    Use it as a context manager, or call `start` and `close`. It runs on a daemon thread of its own; all
    public methods and properties may be used from every other thread. A failure of that thread is raised by
    `close`, `settle` and `VirtualClock.advance`. Raises TypeError and ValueError; of these
    `ScenarioError` is about a time line, and ``ConfigurationError`` about a missing extra.
    """

    @checked
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
        direct_source: str | None = None,
        exchange_rates: bool = False,
        market_start_ns: int | None = None,
        start_time_ns: int | None = None,
        api_keys: Iterable[str] | Mapping[str, Iterable[str] | None] | None = None,
        key_check: str = "hello",
        upgrade_limit: tuple[int, float] | None = None,
        hello_limit: tuple[int, float] | None = None,
        connection_limit: int | None = None,
        buffer_limit: int = 131_072,
        ping_interval: float = 60.0,
        pong_timeout: float = 60.0,
        heartbeat_interval: float = 1.0,
        activity: float = 1.0,
        timeline: Iterable[Any] = (),
        tls: bool = False,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        _check_source(recording, speed, loop, direct_source)
        if exchange_rates and direct_source is not None:
            raise ValueError("exchange_rates and direct_source are two products; make a simulator of each")
        clock = SystemClock() if clock is None else clock
        _check_start(market_start_ns, start_time_ns, clock)
        if tls and ssl_context is not None:
            raise ValueError("tls=True makes a context of its own; leave ssl_context out")
        if ssl_context is not None and ssl_context.protocol is ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError("ssl_context is one for clients; write ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)")
        if seed < 0:
            raise ValueError("seed must be 0 or more")
        if not 0 <= port <= 65_535:
            raise ValueError("port must be between 0 and 65535")
        settings = Settings(
            host=host,
            port=port,
            seed=seed,
            recording=recording,
            speed=speed,
            loop=loop,
            direct_source=direct_source,
            exchange_rates=exchange_rates,
            market_start_ns=market_start_ns,
            start_time_ns=start_time_ns,
            ping_interval_ns=_interval_ns("ping_interval", ping_interval),
            pong_timeout_ns=_interval_ns("pong_timeout", pong_timeout),
            heartbeat_interval_ns=_interval_ns("heartbeat_interval", heartbeat_interval),
            buffer_limit=_at_least_one("buffer_limit", buffer_limit),
        )
        gate = _gate(api_keys, key_check, upgrade_limit, hello_limit, connection_limit)
        self._statistics = Statistics()
        self._certificates = Certificates() if tls else None
        self._engine = Engine(
            settings,
            clock,
            gate,
            self._statistics,
            certificates=self._certificates,
            ssl_context=ssl_context,
        )
        self.set_activity(activity)
        #: What can be made to go wrong.
        self.faults = Faults(self._engine)
        self._engine.timeline = timeline_of(timeline, self, self._engine.rehearse)

    @classmethod
    def from_scenario(cls, path: str | os.PathLike[str], **options: Any) -> Simulator:
        """Make a simulator from a scenario file; options given here take the place of the file's.

        Raises `ScenarioError`, which names the file and the place in it, and OSError.
        """
        try:
            return cls(**{**read_scenario(path, cls), **options})
        except (ValueError, TypeError) as error:
            raise ScenarioError(f"{os.fspath(path)}: {error}") from None

    def __repr__(self) -> str:
        engine = getattr(self, "_engine", None)  # None where the constructor failed
        where = "not started" if engine is None or engine.port is None else self.url
        return f"<Simulator {where}{' closed' if engine is not None and engine.has_ended else ''}>"

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
        if self._engine.port is None:
            raise RuntimeError("the simulator was not started")
        return self._engine.port

    @property
    def url(self) -> str:
        """What to connect to; with TLS by the name localhost, so that a certificate can be checked."""
        settings = self._engine.settings
        exchange_id = settings.direct_source
        path = "/v1/" if exchange_id is None else f"/md/ws-ds-{quote(exchange_id.lower(), safe='')}/"
        if self._engine.ssl_context is not None:
            return f"wss://localhost:{self.port}{path}"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        return f"ws://{host}:{self.port}{path}"

    @property
    def endpoint(self) -> str:
        """The `url` as this package's clients take it, which have to know the product: ``exrates:URL`` for that one."""
        return f"exrates:{self.url}" if self._engine.settings.exchange_rates else self.url

    @property
    def recording(self) -> str | os.PathLike[str] | None:
        """The path of the recording that it replays; None for the synthetic market."""
        return self._engine.settings.recording

    @property
    def has_certificates(self) -> bool:
        """True with ``tls=True``, and so with `client_context` and `ca_pem`."""
        return self._certificates is not None

    @property
    def client_context(self) -> ssl.SSLContext:
        """A new context for clients, which trusts the certificates of ``tls=True``. Raises RuntimeError without."""
        return self._made_certificates().client_context()

    @property
    def ca_pem(self) -> bytes:
        """The authority behind the certificates of ``tls=True``, for clients to trust. Raises RuntimeError without."""
        return self._made_certificates().ca_pem

    @property
    def connections(self) -> int:
        """How many WebSocket connections are open."""
        return len(self.open_connections)

    @property
    def open_connections(self) -> list[int]:
        """The numbers of the open WebSocket connections, counted from 1 in the order in which they came."""
        return [c.number for c in tuple(self._engine.clients) if c.conversation.connection.is_open]

    @property
    def received(self) -> list[str]:
        """The text frames that clients sent (the newest 10,000), API keys replaced by ``***``."""
        return self._statistics.received.items()

    @property
    def requests(self) -> list[UpgradeRequest]:
        """The upgrade requests that were accepted (the newest 10,000), secrets replaced by ``***``."""
        return self._statistics.requests.items()

    @property
    def requests_refused(self) -> list[UpgradeRequest]:
        """The upgrade requests that were sound and refused (the newest 10,000), secrets replaced by ``***``."""
        return self._statistics.requests_refused.items()

    @property
    def closes_received(self) -> list[tuple[int, str]]:
        """Code and reason of each Close frame that clients sent (the newest 10,000)."""
        return self._statistics.closes.items()

    @property
    def frames_sent(self) -> dict[str, int]:
        """How many text frames of each type were queued for clients, but for those that only faults send."""
        return dict(self._statistics.frames_sent)

    @property
    def frames_lost(self) -> dict[str, int]:
        """How many market data frames of each type faults kept from clients."""
        return dict(self._statistics.frames_lost)

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

        Raises OSError when the address cannot be listened on or the recording not be opened,
        `~coinapi_ws.recording.RecordingError` when it is unsound, RuntimeError when this simulator was started before.
        """
        if self._engine.thread is not None:
            raise RuntimeError("a simulator starts once; make a new one")
        self._engine.start()

    def close(self) -> None:
        """Close all connections (1001) and the port, and wait for the thread's end; idempotent.

        Raises RuntimeError, from its cause, if the thread had died of an exception.
        """
        if self._engine.thread is not None:
            self._engine.stop()

    def settle(self) -> None:
        """Wait until what clients had sent is processed, what is due has run, and sockets are full or done.

        Raises RuntimeError, from its cause, if the thread died of an exception.
        """
        self._engine.settle()

    @checked
    def announce_reconnect(self, within_seconds: int = 10, *, successor: Simulator | None = None) -> None:
        """Send every client a ``reconnect`` notice, and close it (1001) after so many seconds.

        New connections are served meanwhile and stay. Where ``successor`` is another simulator, which was started,
        new connections to this one's address reach that one, with this one's TLS; so keep both until the end.
        """
        if not 0 <= within_seconds <= _DAY_SECONDS:
            raise ValueError(f"within_seconds must be 0 or more, and {_DAY_SECONDS} at most")
        if successor is self:
            raise ValueError("the successor is another simulator; without one, this one serves on")
        if successor is not None and (successor._engine.thread is None or successor._engine.has_ended):
            raise ValueError("the successor must be running")
        engine = self._engine
        engine.call(lambda: engine.announce_reconnect(within_seconds, None if successor is None else successor._engine))

    @checked
    def move_price(self, asset_id: str, percent: float) -> None:
        """Let the price of an asset jump, such as by -10 percent; its books follow, trade by trade.

        It stays within a quarter and four times of where it began. The dollars have no books of their own.
        """
        if asset_id not in ASSETS:
            raise ValueError(f"there is no asset {asset_id!r}; there are {', '.join(ASSETS)}")
        if not -100 < percent <= _MOST_PERCENT:
            raise ValueError(f"percent must be above -100, and {_MOST_PERCENT} at most")
        self._engine.call(lambda: self._engine.market.move_price(asset_id, percent))

    @checked
    def halt_trading(self, symbol_ids: Iterable[str]) -> None:
        """Let nothing happen in these symbols until `resume_trading`; each must be a symbol of the market.

        book20 and book50 come each second all the same. What happens in the other symbols is different from then on.
        """
        symbols = _symbols(symbol_ids)
        self._engine.call(lambda: self._engine.market.halt(symbols))

    @checked
    def resume_trading(self, symbol_ids: Iterable[str]) -> None:
        """End what `halt_trading` began."""
        symbols = _symbols(symbol_ids)
        self._engine.call(lambda: self._engine.market.reopen(symbols))

    @checked
    def set_activity(self, factor: float) -> None:
        """Let trades, quotes and books come so many times as often as usual, up to 1,000 times."""
        if not 0.001 <= factor <= 1000:
            raise ValueError("factor must be between 0.001 and 1000")
        self._engine.call(lambda: self._engine.market.set_activity(factor))

    def _made_certificates(self) -> Certificates:
        if self._certificates is None:
            raise RuntimeError("there are no certificates without tls=True")
        return self._certificates


def _check_source(
    recording: str | os.PathLike[str] | None, speed: float | None, loop: bool, direct_source: str | None
) -> None:
    if speed is not None and not 0 < speed < math.inf:
        raise ValueError("speed must be above 0 and finite, or None for as fast as each client takes it")
    if loop and recording is None:
        raise ValueError("loop is for a recording")
    if direct_source is not None and recording is None and direct_source not in EXCHANGES:
        raise ValueError(f"there is no exchange {direct_source!r}; there are {', '.join(EXCHANGES)}")


def _check_start(market_start_ns: int | None, start_time_ns: int | None, clock: Clock) -> None:
    if market_start_ns is None:
        return
    if start_time_ns is not None:
        raise ValueError("the market begins at market_start_ns, or at start_time_ns with the first connection")
    if market_start_ns < clock.time_ns() - _MAX_WALK_NS:
        raise ValueError("market_start_ns must be at most an hour ago, for the market is walked from there")


def _gate(
    api_keys: Iterable[str] | Mapping[str, Iterable[str] | None] | None,
    key_check: str,
    upgrade_limit: tuple[int, float] | None,
    hello_limit: tuple[int, float] | None,
    connection_limit: int | None,
) -> Gate:
    if key_check not in ("hello", "upgrade"):
        raise ValueError('key_check must be "hello" or "upgrade"')
    return Gate(
        AcceptedKeys(api_keys),
        checks_upgrades=key_check == "upgrade",
        upgrade_limit=_rate_limit("upgrade_limit", "X-WsRequestsPerIpLimit", upgrade_limit),
        hello_limit=_rate_limit("hello_limit", "X-WsHelloPerIpLimit", hello_limit),
        connection_limit=None
        if connection_limit is None
        else ConnectionLimit(_at_least_one("connection_limit", connection_limit)),
    )


def _at_least_one(name: str, limit: int) -> int:
    if limit < 1:
        raise ValueError(f"{name} must be 1 or more")
    return limit


def _interval_ns(name: str, seconds: float) -> int:
    if not seconds >= _LEAST_SECONDS:
        raise ValueError(f"{name} must be {_LEAST_SECONDS} seconds or more, above 0")
    return round(min(seconds * NS_PER_SECOND, NEVER_NS))


def _rate_limit(name: str, header: str, limit: tuple[int, float] | None) -> RateLimit | None:
    if limit is None:
        return None
    count, seconds = limit
    if count < 1 or not _LEAST_SECONDS <= seconds < math.inf:
        raise ValueError(f"{name} is a number of 1 or more, and the seconds in which so many are allowed")
    return RateLimit(header, count, round(min(seconds * NS_PER_SECOND, NEVER_NS)))


def _symbols(symbol_ids: Iterable[str]) -> frozenset[str]:
    symbols = frozenset(symbol_ids)
    unknown = sorted(symbols.difference(SYMBOL_IDS))
    if unknown:
        raise ValueError(f"unknown symbols: {', '.join(unknown)}; there are {', '.join(SYMBOL_IDS)}")
    return symbols
