"""Connections through an HTTP proxy, from connect() and step by step, against proxies on real sockets."""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from peers import PATIENCE_SECONDS, TRADES, FakeClock, Listener, accept, drive, ending, reset, serving, turn
from proxy_servers import ConnectProxy, until_asked

from coinapi_ws import (
    CertificateError,
    ConfigurationError,
    Connected,
    ConnectError,
    ConnectTimeout,
    Disconnected,
    ProxyError,
    SelectorConnection,
    Stream,
    Trade,
    connect,
    proxy_from,
)
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.drivers.transport import Address
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
    """A simulator whose certificate is market.example's, which no name service knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("market.example").configure_cert(context)
    with Simulator(clock=virtual, api_keys=[canary_key], ssl_context=context) as simulator:
        yield simulator


@pytest.fixture
def route(market: Simulator) -> dict[tuple[str, int], tuple[str, int]]:
    return {MARKET: ("127.0.0.1", market.port)}


def through(proxy: Any, key: str, context: ssl.SSLContext, **more: Any) -> Stream:
    options = {"endpoint": URL, "ssl": context, "pacer": SharedPacer(), "heartbeats": False, **more}
    return connect(key, TRADES, proxy=proxy, **options)


def trade(stream: Stream, market: Simulator, virtual: VirtualClock) -> object:
    until_asked(market, stream)
    virtual.advance(60)
    return stream.recv(timeout=10)


def test_a_stream_through_a_proxy(
    route: Any, market: Simulator, virtual: VirtualClock, client_context: ssl.SSLContext, canary_key: str
) -> None:
    """The proxy resolves the name, TLS is between us and the server, and the key is not the proxy's to see."""
    with ConnectProxy(route) as proxy:
        with through(proxy.url, canary_key, client_context) as stream:
            assert isinstance(trade(stream, market, virtual), Trade)
        assert proxy.asked == [MARKET]
        (head,) = proxy.heads
        assert head.startswith("CONNECT market.example:443 HTTP/1.1\r\n")
        assert "user-agent: coinapi_ws/" in head.lower()
        assert canary_key not in head
        assert proxy.carried.startswith(b"\x16\x03")  # a TLS handshake
        assert b"market.example" in proxy.carried  # SNI
        assert canary_key.encode() not in proxy.carried
    market.settle()
    assert market.closes_received == [(1000, "")]


def test_user_name_and_password(
    route: Any, market: Simulator, client_context: ssl.SSLContext, canary_key: str, leaks: Leaks
) -> None:
    login = "Basic " + b64encode(f"coinapi:{canary_key}".encode()).decode()
    with ConnectProxy(route, login=login) as proxy:
        url = f"http://coinapi:{canary_key}@127.0.0.1:{proxy.port}"
        through(url, canary_key, client_context).close()
        through(proxy_from(url), canary_key, client_context).close()
        assert len(proxy.asked) == 2
        for wrong, message in (
            (url.replace("coinapi:", "other:"), "did not accept"),
            (proxy.url, "it wants a user name"),
        ):
            with pytest.raises(ProxyError, match=message) as caught:
                through(wrong, canary_key, client_context)
            assert not leaks(caught.value)
            assert caught.value.disconnected is not None
            assert caught.value.disconnected.stage == "connect"
        assert len(proxy.asked) == 2


def test_plain_websockets_go_through_a_tunnel_too(canary_key: str, virtual: VirtualClock) -> None:
    with (
        Simulator(clock=virtual) as market,
        ConnectProxy({("market.example", 80): ("127.0.0.1", market.port)}) as proxy,
    ):
        options: dict[str, Any] = {"proxy": proxy.url, "heartbeats": False, "allow_plaintext": True}
        with connect(canary_key, TRADES, endpoint="ws://market.example/", **options) as stream:
            assert isinstance(trade(stream, market, virtual), Trade)
        assert proxy.asked == [("market.example", 80)]


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_the_environment_s_proxy_is_the_default(
    route: Any, client_context: ssl.SSLContext, canary_key: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def no_name(host: str, port: int) -> list[Address]:
        assert host == "market.example"
        raise OSError("asked without a proxy")

    with ConnectProxy(route) as proxy:
        monkeypatch.setenv(name, proxy.url)
        connect(canary_key, TRADES, endpoint=URL, ssl=client_context).close()
        assert proxy.asked == [MARKET]
        with pytest.raises(ConnectError, match=r"the name market\.example was not resolved"):
            connect(canary_key, TRADES, endpoint=URL, ssl=client_context, proxy=None, resolve=no_name)
        monkeypatch.setenv("NO_PROXY", ".example")
        with pytest.raises(ConnectError, match=r"the name market\.example was not resolved"):
            connect(canary_key, TRADES, endpoint=URL, ssl=client_context, resolve=no_name)
        assert proxy.asked == [MARKET]


def test_this_machine_is_reached_without_the_environment_s_proxy(
    canary_key: str, monkeypatch: pytest.MonkeyPatch, virtual: VirtualClock
) -> None:
    with (
        Simulator(clock=virtual) as market,
        ConnectProxy({("127.0.0.1", market.port): ("127.0.0.1", market.port)}) as proxy,
    ):
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        connect(canary_key, TRADES, endpoint=market.url).close()
        assert proxy.asked == []
        # One that was asked for is asked.
        connect(canary_key, TRADES, endpoint=market.url, proxy=proxy.url).close()
        assert proxy.asked == [("127.0.0.1", market.port)]


def test_a_variable_that_names_no_proxy_is_told_before_anything_else(
    canary_key: str, leaks: Leaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"gopher://user:{canary_key}@proxy.example:1")
    with pytest.raises(ConfigurationError, match="environment variable https_proxy: the proxy's URL begins") as caught:
        connect(canary_key, TRADES)
    assert not leaks(caught.value)
    with pytest.raises(ConfigurationError, match=r"proxy is a URL, None or .environment., not bool"):
        connect(canary_key, TRADES, proxy=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["http://user:{}@proxy.example:1/path", "http://{}", "{}"])
def test_a_wrong_url_of_a_proxy_does_not_tell_its_password_f24(canary_key: str, leaks: Leaks, where: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(canary_key, TRADES, proxy=where.format(canary_key))
    assert not leaks(caught.value)


# What goes wrong


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 403 Filtered\r\nContent-Length: 4\r\n\r\nNo.\n", "403 Forbidden: it does not allow a tunnel"),
        (b"HTTP/1.1 503 Down\r\n\r\n", "503 Service Unavailable: it could not reach market.example:443"),
        (b"220 mail.example ESMTP\r\n", "what answers there is no HTTP proxy"),
        (b"", "closed the connection before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nX", "closed the connection before its answer was complete"),
    ],
)
def test_a_proxy_that_refuses(client_context: ssl.SSLContext, canary_key: str, answer: bytes, message: str) -> None:
    with ConnectProxy(answer=answer) as proxy, pytest.raises(ProxyError) as caught:
        through(proxy.url, canary_key, client_context)
    text = str(caught.value)
    assert text.startswith(f"the proxy 127.0.0.1:{proxy.port} gave no tunnel to market.example:443: ")
    assert message in text
    assert caught.value.disconnected is not None


def test_a_proxy_that_cannot_reach_the_host(client_context: ssl.SSLContext, canary_key: str) -> None:
    with (
        ConnectProxy() as proxy,
        pytest.raises(ProxyError, match=r"502 Bad Gateway: it could not reach market\.example"),
    ):
        through(proxy.url, canary_key, client_context)
    assert proxy.asked == [MARKET]


def test_a_proxy_that_is_not_there(client_context: ssl.SSLContext, canary_key: str, leaks: Leaks) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        expected = f"no connection to the proxy 127.0.0.1:{port}: 127.0.0.1:{port}: Connection refused"
        with pytest.raises(ProxyError, match=expected) as caught:
            through(f"http://coinapi:{canary_key}@127.0.0.1:{port}", canary_key, client_context)
    assert not leaks(caught.value)


def test_a_proxy_whose_name_is_not_resolved(client_context: ssl.SSLContext, canary_key: str) -> None:
    asked = []

    def resolve(host: str, port: int) -> list[Address]:
        asked.append((host, port))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    expected = r"the proxy's name proxy\.example was not resolved: Name or service not known"
    with pytest.raises(ProxyError, match=expected):
        through("http://proxy.example:3128", canary_key, client_context, resolve=resolve)
    # The server's name is the proxy's to resolve.
    assert asked == [("proxy.example", 3128)]


def test_a_certificate_for_another_host_behind_a_proxy(
    authority: trustme.CA, client_context: ssl.SSLContext, canary_key: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # the proxy's name would do, were it asked
    with (
        Simulator(clock=VirtualClock(), ssl_context=context) as market,
        ConnectProxy({MARKET: ("127.0.0.1", market.port)}) as proxy,
        pytest.raises(CertificateError, match=r"the certificate of market\.example is not valid: Hostname mismatch"),
    ):
        through(proxy.url, canary_key, client_context)


# Step by step


def test_a_proxy_that_is_silent_and_one_that_never_accepts_end_with_the_opening_s_deadline_f19(
    make: Make, listener: Listener, silent: Address, clock: FakeClock
) -> None:
    """F19: one deadline for TCP, the proxy's answer, TLS and the upgrade; and no hot loop while it runs."""
    connection = make(URL, proxy=proxy_from(f"http://127.0.0.1:{listener.getsockname()[1]}"))
    assert connection.start() == []
    while not connection.want_read():
        assert turn(connection) == []
    turn(connection, 0)
    assert b"CONNECT market.example:443 " in accept(listener).recv(1000)
    assert not connection.want_write()
    assert connection.next_timeout() == 1010.0
    clock.now = 1009.9
    assert connection.handle_timeout() == []
    clock.now = 1010.0
    end = ending(connection.handle_timeout())
    assert end.error_type is ConnectTimeout
    assert end.detail.endswith(" did not answer in time")
    assert end.detail.startswith("the proxy 127.0.0.1:")

    connection = make(URL, proxy=proxy_from("http://proxy.example:1"), resolve=lambda host, port: [silent])
    connection.start()
    clock.now = 1020.0
    end = ending(connection.handle_timeout())
    assert (end.error_type, end.detail) == (ConnectTimeout, "no connection to the proxy proxy.example:1 in time")


def test_silence_behind_the_proxy_is_the_server_s(
    make: Make, listener: Listener, clock: FakeClock, client_context: ssl.SSLContext
) -> None:
    proxy = proxy_from(f"http://127.0.0.1:{listener.getsockname()[1]}")
    connection = make(URL, proxy=proxy, ssl_context=client_context)
    connection.start()
    while not connection.want_read():
        turn(connection)
    accepted = accept(listener)
    while b"\r\n\r\n" not in accepted.recv(1000):
        turn(connection)
    for part in (b"HTTP/1.1 200", b" OK\r\n", b"\r", b"\n"):
        accepted.sendall(part)
        assert turn(connection) == []
    assert accepted.recv(3) == b"\x16\x03\x01"
    assert connection.next_timeout() == 1010.0
    clock.now = 1010.0
    end = ending(connection.handle_timeout())
    assert (end.error_type, end.detail) == (ConnectTimeout, "no connection to market.example in time")


@pytest.mark.parametrize("how", [socket.socket.close, reset], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    ("answer", "error_type", "place"),
    [
        (b"", ProxyError, "before its answer was complete"),
        (b"HTTP/1.1 200 Connec", ProxyError, "before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\n\r\n", ConnectError, "the TLS handshake with market.example failed"),
    ],
)
def test_a_proxy_that_dies_while_a_connection_comes_about(
    make: Make,
    listener: Listener,
    client_context: ssl.SSLContext,
    how: Callable[[socket.socket], None],
    answer: bytes,
    error_type: type[Exception],
    place: str,
) -> None:
    proxy = proxy_from(f"http://127.0.0.1:{listener.getsockname()[1]}")
    connection = make(URL, proxy=proxy, ssl_context=client_context)
    items = drive(connection, lambda _: connection.want_read() and not connection.want_write(), connection.start())
    accepted = accept(listener)
    while not accepted.recv(4096).endswith(b"\r\n\r\n"):
        pass
    accepted.sendall(answer)
    if answer.endswith(b"\r\n\r\n"):
        turn(connection)
        assert accepted.recv(4096).startswith(b"\x16\x03")  # the beginning of TLS
    how(accepted)
    end = ending(drive(connection, Disconnected, items))
    assert end.error_type is error_type
    assert place in end.detail


def test_an_answer_that_comes_byte_by_byte(make: Make, canary_key: str, client_context: ssl.SSLContext) -> None:
    """Every byte of the proxy's answer in a segment of its own, with the TLS handshake after it."""
    done = threading.Event()

    def talk(server: Any) -> None:
        while server.socket.recv(1, socket.MSG_PEEK) and b"\r\n\r\n" not in server.socket.recv(4096):
            pass
        server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"HTTP/1.1 200 Connection established\r\n\r\n":
            server.socket.sendall(bytes([byte]))
        server.upgrade()
        assert done.wait(PATIENCE_SECONDS)

    with serving(talk) as url:
        proxy = proxy_from(url.replace("ws://", "http://").rstrip("/"))
        connection = make("ws://market.example/", proxy=proxy, allow_plaintext=True)
        assert isinstance(drive(connection, Connected, connection.start())[0], Connected)
        done.set()
        drive(connection, Disconnected, connection.close())
