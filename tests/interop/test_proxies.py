"""Through proxies that we did not write, with a password and without, and when they die."""

from __future__ import annotations

import hashlib
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import pytest
import trustme
from foreign_servers import free_port, program, running_program, wait_until_it_listens
from peers import PATIENCE_SECONDS, TRADES, drive, ending, silent_address
from proxy_servers import until_asked

from coinapi_ws import (
    Backoff,
    Client,
    Connected,
    ConnectionClosed,
    Disconnected,
    Options,
    ProxyError,
    Scope,
    Secret,
    SelectorConnection,
    Stream,
    Trade,
    connect,
    endpoint_from,
    proxy_from,
)
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator, VirtualClock

#: Where Debian has squid's check of a file of passwords.
_SQUID_CHECK: Final = Path("/usr/lib/squid/basic_ncsa_auth")


@dataclass
class RealProxy:
    """A proxy's program; with a password, its user is `coinapi`."""

    name: str
    password: str | None
    directory: Path
    port: int

    @property
    def url(self) -> str:
        login = "" if self.password is None else f"coinapi:{self.password}@"
        return f"http://{login}127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[Callable[[], None]]:
        """Run it; yields a function that kills it."""
        settings = self.directory / "settings"
        if self.name == "tinyproxy":
            settings.write_text("\n".join(self._of_tinyproxy()) + "\n")
            command = [program("tinyproxy"), "-d", "-c", str(settings)]
        else:
            settings.write_text("\n".join(self._of_squid()) + "\n")
            command = [program("squid"), "-N", "-f", str(settings)]
        with (self.directory / "log").open("ab") as log, running_program(command, stdout=log, stderr=log) as kill:
            wait_until_it_listens(self.name, self.port)
            yield kill

    def _of_tinyproxy(self) -> Iterator[str]:
        yield from (f"Port {self.port}", "Listen 127.0.0.1", "Timeout 60")
        if self.password is not None:
            yield f"BasicAuth coinapi {self.password}"

    def _of_squid(self) -> Iterator[str]:
        yield from (f"http_port 127.0.0.1:{self.port}", "pid_filename none", "cache deny all", "access_log none")
        yield from (f"cache_log {self.directory}/cache.log", f"coredump_dir {self.directory}", "pinger_enable off")
        if self.password is None:
            yield "http_access allow all"
            return
        if not _SQUID_CHECK.exists():
            pytest.skip(f"{_SQUID_CHECK} is not there")
        passwords = self.directory / "passwords"
        passwords.write_text(f"coinapi:{hashlib.md5(self.password.encode()).hexdigest()}\n")
        yield from (f"auth_param basic program {_SQUID_CHECK} {passwords}", "acl known proxy_auth REQUIRED")
        yield "http_access allow known"


@pytest.fixture(params=["tinyproxy", "squid"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., RealProxy]]:
    """Make a proxy, to be run; one of each name after the other."""
    # Started by root, squid becomes another user, who cannot read pytest's directories.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield lambda password=None: RealProxy(request.param, password, Path(directory), free_port())


@pytest.fixture
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A context for a server that is localhost, and one for its clients."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.fixture
def market(contexts: tuple[ssl.SSLContext, ssl.SSLContext], canary_key: str) -> Iterator[Simulator]:
    with Simulator(clock=VirtualClock(), api_keys=[canary_key], ssl_context=contexts[0]) as simulator:
        yield simulator


@pytest.fixture
def through(
    market: Simulator, contexts: tuple[ssl.SSLContext, ssl.SSLContext], canary_key: str
) -> Callable[..., Stream]:
    """Connect to the market through the proxy of that URL."""

    def start(proxy: str, **more: Any) -> Stream:
        options = {"endpoint": market.url, "ssl": contexts[1], "pacer": SharedPacer(), "heartbeats": False, **more}
        return connect(canary_key, TRADES, proxy=proxy, **options)

    return start


Make = Callable[..., RealProxy]
Through = Callable[..., Stream]


def send_trade(market: Simulator, size: int = 0) -> None:
    market.faults.send_text(f'{{"symbol_id":"COINBASE_SPOT_BTC_USD","price":1.5,"pad":"{"x" * size}","type":"trade"}}')


@pytest.mark.parametrize("has_password", [False, True])
def test_messages_of_any_size_come_through(
    make: Make, through: Through, market: Simulator, canary_key: str, has_password: bool
) -> None:
    proxy = make(canary_key if has_password else None)
    with proxy.running():
        with through(proxy.url) as stream:
            until_asked(market, stream)
            for size in (0, 100_000, 5 * 2**20):
                send_trade(market, size)
                trade = stream.recv(timeout=PATIENCE_SECONDS)
                assert isinstance(trade, Trade)
                assert len(trade.extra["pad"]) == size
        market.settle()
        assert market.closes_received == [(1000, "")]


def test_who_may_not_and_what_is_not_there(
    make: Make, through: Through, market: Simulator, canary_key: str, leaks: Callable[[BaseException], bool]
) -> None:
    proxy = make(canary_key)
    with proxy.running():
        for url in (proxy.url.replace("coinapi:", "other:"), proxy.url.replace(f"coinapi:{canary_key}@", "")):
            with pytest.raises(ProxyError, match=r"gave no tunnel to localhost:\d+: it answered 40[17]") as caught:
                through(url)
            assert not leaks(caught.value)
        with pytest.raises(ProxyError, match=r"50. .*: it could not reach localhost:"):
            through(proxy.url, endpoint=f"wss://localhost:{free_port()}/")


def test_a_proxy_that_dies_before_it_answers(make: Make, canary_key: str) -> None:
    proxy = make()
    with proxy.running() as kill, silent_address() as silent:
        endpoint = endpoint_from(f"ws://127.0.0.1:{silent.sockaddr[1]}/")
        options = Options(endpoint=endpoint, api_key=Secret(canary_key), proxy=proxy_from(proxy.url))
        connection = SelectorConnection(options, Scope(TRADES), pacer=SharedPacer())
        items = drive(connection, lambda _: connection.want_read() and not connection.want_write(), connection.start())
        kill()
        end = ending(drive(connection, Disconnected, items))
    assert end.error_type is ProxyError
    assert "before its answer was complete" in end.detail


def test_a_proxy_that_dies_in_a_session(make: Make, through: Through, market: Simulator) -> None:
    proxy = make()
    with proxy.running() as kill:
        stream = through(proxy.url)
        until_asked(market, stream)
        send_trade(market)
        assert isinstance(stream.recv(timeout=PATIENCE_SECONDS), Trade)
        kill()
        with pytest.raises(ConnectionClosed) as caught:
            stream.recv(timeout=PATIENCE_SECONDS)
        assert caught.value.code == 1006
        with pytest.raises(ProxyError, match="no connection to the proxy 127"):
            through(proxy.url)


def test_a_client_comes_back_once_the_proxy_is_back(
    make: Make, market: Simulator, contexts: tuple[ssl.SSLContext, ssl.SSLContext], canary_key: str
) -> None:
    proxy = make(canary_key)
    told: SimpleQueue[Any] = SimpleQueue()

    def until(kind: type) -> Any:
        while not isinstance(item := told.get(timeout=PATIENCE_SECONDS), kind):
            pass
        return item

    client = Client(
        canary_key,
        TRADES,
        endpoint=market.url,
        proxy=proxy.url,
        ssl=contexts[1],
        pacer=SharedPacer(),
        backoff=Backoff(initial=0.05, maximum=0.05),
    )
    client.on(Connected, told.put)
    client.on(Disconnected, told.put)
    with closing(client):
        with proxy.running():
            client.start()
            until(Connected)
        assert until(Disconnected).code == 1006
        assert until(Disconnected).error_type is ProxyError  # nobody is there
        with proxy.running():
            until(Connected)
