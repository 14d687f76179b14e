"""How a request goes there: TLS, proxies, and that the key goes nowhere else."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from peers import ServerSide, listening, serving, url_of
from proxy_servers import ConnectProxy, SocksProxy

from coinapi_ws import (
    CertificateError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    ProxyError,
    metadata,
    proxy_from,
)
from coinapi_ws.drivers.transport import Address
from coinapi_ws.simulator import Simulator

Leaks = Callable[[BaseException], bool]
REST = ("rest.example", 443)
URL = "https://rest.example"


@pytest.fixture
def market(authority: trustme.CA, canary_key: str) -> Iterator[Simulator]:
    """A simulator whose certificate is rest.example's, which no name service knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("rest.example").configure_cert(context)
    with Simulator(api_keys=[canary_key], ssl_context=context) as simulator:
        yield simulator


@pytest.fixture
def route(market: Simulator) -> dict[tuple[str, int], tuple[str, int]]:
    return {REST: ("127.0.0.1", market.port)}


def count(key: str, **options: Any) -> int:
    return len(list(metadata.Client(key, **{"endpoint": URL, **options}).symbols()))


def test_through_a_proxy(route: Any, client_context: ssl.SSLContext, canary_key: str) -> None:
    with ConnectProxy(route) as proxy:
        assert count(canary_key, proxy=proxy.url, ssl=client_context) == 10
        assert proxy.asked == [REST]
        assert proxy.heads[0].startswith("CONNECT rest.example:443 HTTP/1.1\r\n")
        assert canary_key.encode() not in proxy.carried


def test_a_proxy_with_a_password(route: Any, client_context: ssl.SSLContext, canary_key: str, leaks: Leaks) -> None:
    with ConnectProxy(route, login=f"Basic {b64encode(b'me:secret').decode()}") as proxy:
        url = f"http://me:secret@127.0.0.1:{proxy.port}"
        assert count(canary_key, proxy=proxy_from(url), ssl=client_context) == 10
        with pytest.raises(ProxyError, match="it wants a user name and a password") as caught:
            count(canary_key, proxy=proxy.url, ssl=client_context)
        assert caught.value.disconnected is not None
        assert caught.value.disconnected.stage == "connect"
        assert not leaks(caught.value)


def test_the_proxy_of_the_environment(
    route: Any, client_context: ssl.SSLContext, canary_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(route) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        assert count(canary_key, ssl=client_context) == 10
        assert proxy.asked == [REST]


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
def test_socks(market: Simulator, client_context: ssl.SSLContext, canary_key: str, scheme: str) -> None:
    pytest.importorskip("python_socks")
    here = ("127.0.0.1", market.port)
    with SocksProxy({REST: here, here: here}, login=("me", "secret")) as proxy:
        found = count(
            canary_key,
            endpoint=URL if scheme == "socks5h" else f"https://127.0.0.1:{market.port}",
            server_hostname="rest.example",
            proxy=proxy.url(scheme, "me:secret@"),
            ssl=client_context,
        )
        assert found == 10
        assert proxy.by_name == [scheme == "socks5h"]


def test_a_name_that_is_resolved_elsewhere(market: Simulator, client_context: ssl.SSLContext, canary_key: str) -> None:
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> list[Address]:
        asked.append((host, port))
        return [Address(2, ("127.0.0.1", market.port))]

    assert count(canary_key, resolve=resolve, ssl=client_context) == 10
    assert asked == [REST]


def test_a_certificate_that_is_not_trusted(market: Simulator, canary_key: str, leaks: Leaks) -> None:
    with pytest.raises(CertificateError, match=r"the certificate of localhost is not valid") as caught:
        count(canary_key, endpoint=f"https://localhost:{market.port}")
    assert not leaks(caught.value)


def test_what_is_broken_behind_a_whole_answer_does_not_matter(
    authority: trustme.CA, client_context: ssl.SSLContext, canary_key: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    taken, sent = threading.Event(), threading.Event()

    def handle(server: ServerSide) -> None:
        assert server.socket.recv(65536).endswith(b"\r\n\r\n")
        first, last = b'[{"asset_id":"BTC"},', b'{"asset_id":"ETH"}]'
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        server.socket.sendall(b"%s%x\r\n%s\r\n" % (head, len(first), first))
        assert taken.wait(10)
        server.socket.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))
        with socket.socket(fileno=os.dup(server.socket.fileno())) as below_tls:
            below_tls.sendall(b"no record of TLS")
        sent.set()

    with serving(handle, context) as url:
        assets = metadata.Client(canary_key, endpoint=url.replace("wss:", "https:"), ssl=client_context).assets()
        assert next(assets).asset_id == "BTC"
        taken.set()
        assert sent.wait(10)
        assert [asset.asset_id for asset in assets] == ["ETH"]


def test_nobody_there(canary_key: str, leaks: Leaks) -> None:
    with listening() as listener:
        url = url_of(listener).replace("ws:", "http:")
    with pytest.raises(ConnectError, match="Connection refused") as refused:
        count(canary_key, endpoint=url)
    assert not leaks(refused.value)

    def resolve(host: str, port: int) -> list[Address]:
        raise OSError("of a test")

    with pytest.raises(ConnectError, match=r"the name rest\.example was not resolved"):
        count(canary_key, resolve=resolve)


def test_a_server_that_says_nothing(canary_key: str, leaks: Leaks, client_context: ssl.SSLContext) -> None:
    with listening() as listener:
        for scheme, text in (("http", "answer was not complete in time"), ("https", "no connection to localhost in")):
            url = url_of(listener, "wss").replace("wss:", f"{scheme}:")
            with pytest.raises(ConnectTimeout, match=text) as caught:
                count(canary_key, endpoint=url, timeout=1, ssl=client_context)
            assert not leaks(caught.value)


def test_the_key_does_not_go_in_plain_text_to_another_machine(canary_key: str, leaks: Leaks) -> None:
    for options in ({"endpoint": "http://rest.example"}, {"endpoint": "http://127.0.0.1", "proxy": "http://a.test:80"}):
        with pytest.raises(ConfigurationError, match="unencrypted; use https://") as caught:
            metadata.Client(canary_key, **options)
        assert not leaks(caught.value)
    with ConnectProxy() as proxy, pytest.raises(ProxyError, match="502"):
        count(canary_key, endpoint="http://rest.example", allow_plaintext=True, proxy=proxy.url)


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "KEY"},
        {"endpoint": "https://KEY@rest.example"},
        {"endpoint": "https://rest.example/?apikey=KEY"},
        {"proxy": "KEY"},
        {"timeout": "KEY"},
        {"max_bytes": "KEY"},
        {"user_agent": "KEY\n"},
        {"no_such_option": "KEY"},
        {"open_timeout": "5"},
    ],
    ids=str,
)
def test_a_misplaced_key_is_not_told_f24(canary_key: str, leaks: Leaks, options: dict[str, str]) -> None:
    options = {name: value.replace("KEY", canary_key) for name, value in options.items()}
    with pytest.raises((ConfigurationError, TypeError)) as caught:
        metadata.Client(canary_key, **{"endpoint": "https://rest.example", **options})  # type: ignore[arg-type]
    assert not leaks(caught.value)


@pytest.mark.parametrize("option", [{"auth": "query"}, {"jwt": str}, {"open_timeout": 5}, {"wire": "hello"}], ids=str)
def test_an_option_of_websockets_alone_is_refused(option: dict[str, Any], canary_key: str) -> None:
    """The request would go without the key, or as if nothing had been said."""
    with pytest.raises(TypeError, match=f"takes no option {next(iter(option))}"):
        metadata.Client(canary_key, endpoint=URL, **option)
