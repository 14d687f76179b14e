"""SOCKS proxies by python-socks, and sockets that were connected elsewhere."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from peers import TRADES, ending, listening
from proxy_servers import SocksProxy, until_asked

from coinapi_ws import (
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    Options,
    ProxyError,
    SelectorConnection,
    Stream,
    Trade,
    connect,
    proxy_from,
)
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator, VirtualClock

Make = Callable[..., SelectorConnection]
Leaks = Callable[[BaseException], bool]
MARKET = ("market.example", 443)
URL = "wss://market.example/v1/"


@pytest.fixture
def virtual() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def market(authority: trustme.CA, canary_key: str, virtual: VirtualClock) -> Iterator[Simulator]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("market.example", "localhost").configure_cert(context)
    with Simulator(clock=virtual, api_keys=[canary_key], ssl_context=context) as simulator:
        yield simulator


@pytest.fixture
def route(market: Simulator) -> dict[tuple[str, int], tuple[str, int]]:
    return {MARKET: ("127.0.0.1", market.port), ("127.0.0.1", market.port): ("127.0.0.1", market.port)}


def through(proxy: str, key: str, context: ssl.SSLContext, **more: Any) -> Stream:
    options = {"endpoint": URL, "ssl": context, "pacer": SharedPacer(), "heartbeats": False, **more}
    return connect(key, TRADES, proxy=proxy, **options)


def test_a_stream_through_socks(
    route: Any, market: Simulator, virtual: VirtualClock, client_context: ssl.SSLContext, canary_key: str
) -> None:
    with SocksProxy(route) as proxy:
        with through(proxy.url(), canary_key, client_context) as stream:
            until_asked(market, stream)
            virtual.advance(60)
            assert isinstance(stream.recv(timeout=10), Trade)
        assert proxy.asked == [MARKET]
        assert proxy.carried.startswith(b"\x16\x03")
        assert b"market.example" in proxy.carried


@pytest.mark.parametrize(("scheme", "by_name"), [("socks5h", True), ("socks5", False)])
def test_who_resolves_the_name(
    route: Any, market: Simulator, client_context: ssl.SSLContext, canary_key: str, scheme: str, by_name: bool
) -> None:
    with SocksProxy(route) as proxy:
        proxy.routes["localhost", market.port] = ("127.0.0.1", market.port)
        through(proxy.url(scheme), canary_key, client_context, endpoint=f"wss://localhost:{market.port}/").close()
        assert proxy.by_name == [by_name]
        assert proxy.asked == [("localhost" if by_name else "127.0.0.1", market.port)]


def test_the_environment_may_name_it(
    route: Any, client_context: ssl.SSLContext, canary_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SocksProxy(route) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url())
        connect(canary_key, TRADES, endpoint=URL, ssl=client_context).close()
        assert proxy.asked == [MARKET]


def test_user_name_and_password(route: Any, client_context: ssl.SSLContext, canary_key: str, leaks: Leaks) -> None:
    with SocksProxy(route, login=("coin.api", canary_key)) as proxy:
        through(proxy.url(login=f"coin.api:{canary_key}@"), canary_key, client_context).close()
        assert proxy.asked == [MARKET]
        for login, message in ((f"other:{canary_key}@", "authentication failure"), ("", "authentication method")):
            with pytest.raises(ProxyError, match=message) as caught:
                through(proxy.url(login=login), canary_key, client_context)
            assert not leaks(caught.value)
        assert proxy.asked == [MARKET]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Host unreachable"),
        ({"reply": 2}, "not allowed"),
        ({"reply": b"\x05\x00\x00\x03\x01\xff\x00\x00"}, "its answer is no SOCKS"),
        ({"answer": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "version"),
        ({"answer": b""}, "closed"),
    ],
)
def test_a_proxy_that_refuses(
    client_context: ssl.SSLContext, canary_key: str, options: dict[str, Any], message: str
) -> None:
    with SocksProxy(**options) as proxy, pytest.raises(ProxyError) as caught:
        through(proxy.url(), canary_key, client_context)
    text = str(caught.value)
    assert text.startswith(f"the proxy 127.0.0.1:{proxy.port} gave no connection to market.example:443: ")
    assert message in text


def test_a_proxy_that_is_not_there(client_context: ssl.SSLContext, canary_key: str, leaks: Leaks) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"socks5h://coinapi:{canary_key}@127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(
            ProxyError, match=r"gave no connection to market\.example:443: Connection refused"
        ) as caught:
            through(url, canary_key, client_context)
    assert not leaks(caught.value)


def test_a_proxy_that_says_nothing(client_context: ssl.SSLContext, canary_key: str, leaks: Leaks) -> None:
    with listening() as silent:
        url = f"socks5h://coinapi:{canary_key}@127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectTimeout, match="it did not answer in time") as caught:
            through(url, canary_key, client_context, open_timeout=0.5)
    assert not leaks(caught.value)


def test_without_python_socks_the_error_says_what_to_install(canary_key: str) -> None:
    program = (
        "import sys; sys.modules['python_socks'] = None\n"
        "import importlib.util, coinapi_ws\n"
        "coinapi_ws.connect(None, everything, endpoint='wss://market.example/', proxy='socks5h://127.0.0.1:1')"
    ).replace("everything", "coinapi_ws.Subscription(['trade'], symbol_ids=['KRAKEN_'])")
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "ConfigurationError: a SOCKS proxy needs" in finished.stderr
    assert 'pip install "coinapi-ws[socks]"' in finished.stderr


# A socket from elsewhere


def test_a_socket_that_was_connected_elsewhere(
    market: Simulator, make: Make, client_context: ssl.SSLContext, options: Callable[..., Options]
) -> None:
    asked = []

    def dial(host: str, port: int, timeout: float | None) -> socket.socket:
        asked.append((host, port, timeout))
        return socket.create_connection(("127.0.0.1", market.port))

    proxy = proxy_from("socks5h://127.0.0.1:1")  # the way is the caller's
    connection = make(URL, dial=dial, ssl_context=client_context, proxy=proxy, open_timeout=7)
    items = connection.start()
    while not items:
        items += connection.step(10)
    assert asked == [("market.example", 443, 7)]
    assert connection.fd_generation == 1
    with socket.socket(fileno=socket.dup(connection.fileno())) as watched:
        assert watched.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    connection.close()
    while connection.disconnected is None:
        connection.step(10)
    assert connection.disconnected.clean


def test_an_error_of_dialling(make: Make) -> None:
    def dial(host: str, port: int, timeout: float | None) -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    end = ending(make(URL, dial=dial).start())
    assert (end.error_type, end.detail) == (ConnectError, "no connection to market.example: Connection refused")


def test_a_bug_in_dialling_passes_through_and_leaves_a_dead_object(make: Make) -> None:
    def dial(host: str, port: int, timeout: float | None) -> socket.socket:
        raise LookupError("a bug of the caller")

    connection = make(URL, dial=dial)
    with pytest.raises(LookupError, match="a bug of the caller"):
        connection.start()
    assert connection.disconnected is not None
    with pytest.raises(ConfigurationError):
        make(URL, ssl_context=object())
