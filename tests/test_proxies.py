"""A proxy's URL, and what the environment says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coinapi_ws import ConfigurationError, Proxy, Secret, endpoint_from, proxy_from
from coinapi_ws.proxies import proxy_of_environment, read_proxy

GEO = endpoint_from("geo")


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "text"),
    [
        ("http://proxy.example:3128", "http", "proxy.example", 3128, "proxy.example:3128"),
        ("HTTP://Proxy.Example.:80/", "http", "proxy.example", 80, "proxy.example:80"),
        ("http://[::1]:3128", "http", "::1", 3128, "[::1]:3128"),
        ("socks5h://10.0.0.1:1080", "socks5h", "10.0.0.1", 1080, "10.0.0.1:1080"),
        ("socks5://bücher.example:1080", "socks5", "xn--bcher-kva.example", 1080, "xn--bcher-kva.example:1080"),
    ],
)
def test_a_url(url: str, scheme: str, host: str, port: int, text: str) -> None:
    proxy = proxy_from(url)
    assert proxy == Proxy(scheme, host, port)
    assert str(proxy) == text
    assert proxy.is_socks is (scheme != "http")
    assert proxy_from(proxy) is proxy


def test_user_name_and_password_are_percent_decoded() -> None:
    assert proxy_from("http://us%40er:p%3Aa%2Fss%25@proxy.example:1").credentials == Secret("us@er:p:a/ss%")
    assert proxy_from("http://user@proxy.example:1").credentials == Secret("user:")
    assert proxy_from("http://[::1]:1").credentials is None
    assert proxy_from("http://user:a@b@[::1]:1").credentials == Secret("user:a@b")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("proxy.example:3128", r"write http://\[user:password@\]host:port"),
        ("", "write http://"),
        ("ftp://proxy.example:1", "begins with none that is known"),
        ("socks4://proxy.example:1", "begins with none that is known"),
        ("https://proxy.example:1", "spoken to over TLS"),
        ("http://proxy.example", "has no port"),
        ("http://proxy.example:0", "has no port"),
        ("http://proxy.example:port", "cannot be read"),
        ("http://proxy.example:99999", "cannot be read"),
        ("http://[::1:3128", "cannot be read"),
        ("http://a..b:3128", "no valid host"),
        ("http://:3128", "no valid host"),
        ("http://proxy.example:1/path", "more than host and port"),
        ("http://proxy.example:1?query", "more than host and port"),
        ("http://proxy.example:1#fragment", "more than host and port"),
        ("http://proxy.example :1", "a space"),
        ("http://proxy.example:1\r\nX-Other:1", "a control character"),
        ("http://:password@proxy.example:1", "user name is empty"),
        ("http://a%3Ab:password@proxy.example:1", "has a colon in it"),
        ("socks5h://user@proxy.example:1", "1 to 255 ASCII characters"),
        ("socks5h://user:b%C3%BCcher@proxy.example:1", "1 to 255 ASCII characters"),
        (f"socks5h://user:{'x' * 256}@proxy.example:1", "1 to 255 ASCII characters"),
        ("environment", "a proxy is a URL"),
        (None, "a proxy is a URL"),
        (3128, "not int"),
    ],
)
def test_what_is_no_url_of_a_proxy(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        proxy_from(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:{}@proxy.example",
        "http://user:{}/@proxy.example:1",
        "http://{}:1 /",
        "http://a%3A{}:x@proxy.example:1",
        "socks5://{}@proxy.example:1",
        "ftp://u:{}@proxy.example:1",
    ],
)
def test_what_is_wrong_is_said_without_the_password_f24(
    canary_key: str, leaks: Callable[[BaseException], bool], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        proxy_from(url.format(canary_key))
    assert not leaks(caught.value)
    monkeypatch.setenv("HTTPS_PROXY", url.format(canary_key))
    with pytest.raises(ConfigurationError, match=r"environment variable https_proxy: .*; or pass proxy=None") as caught:
        proxy_of_environment(GEO)
    assert not leaks(caught.value)


def test_no_password_in_a_repr(canary_key: str, assert_no_canary: Callable[[object], None]) -> None:
    proxy = proxy_from(f"http://coinapi:{canary_key}@proxy.example:3128")
    assert_no_canary(proxy)
    assert proxy.credentials is not None
    assert canary_key in proxy.credentials.reveal()


def test_the_values_of_the_option() -> None:
    assert read_proxy(None) is None
    assert read_proxy("environment") == "environment"
    assert read_proxy("http://proxy.example:1") == Proxy("http", "proxy.example", 1)
    assert isinstance(read_proxy(True), ConfigurationError)


# The environment


def chosen(url: str) -> str | None:
    proxy = proxy_of_environment(endpoint_from(url))
    return None if proxy is None else f"{proxy.scheme}://{proxy}"


@pytest.mark.parametrize(
    ("name", "for_wss", "for_ws"),
    [
        ("https_proxy", True, False),
        ("HTTPS_PROXY", True, False),
        ("http_proxy", False, True),
        # A web server's child has it from a request header (httpoxy); curl does not read it either.
        ("HTTP_PROXY", False, False),
        ("all_proxy", True, True),
        ("ALL_PROXY", True, True),
        ("wss_proxy", False, False),
    ],
)
def test_which_variable_is_for_what(monkeypatch: pytest.MonkeyPatch, name: str, for_wss: bool, for_ws: bool) -> None:
    monkeypatch.setenv(name, "http://proxy.example:3128")
    assert chosen("wss://market.example/") == ("http://proxy.example:3128" if for_wss else None)
    assert chosen("ws://market.example/") == ("http://proxy.example:3128" if for_ws else None)


def test_the_own_variable_goes_before_all_and_lower_case_before_upper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://all.example:1080")
    assert chosen("wss://market.example/") == "socks5h://all.example:1080"
    monkeypatch.setenv("HTTPS_PROXY", "http://upper.example:1")
    assert chosen("wss://market.example/") == "http://upper.example:1"
    monkeypatch.setenv("https_proxy", "http://lower.example:1")
    assert chosen("wss://market.example/") == "http://lower.example:1"
    monkeypatch.setenv("HTTP_PROXY", "http://httpoxy.example:1")
    assert chosen("ws://market.example/") == "socks5h://all.example:1080"


def test_host_and_port_alone_are_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    assert chosen("wss://market.example/") == "http://proxy.example:3128"


def test_no_variable_and_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen("wss://market.example/") is None
    monkeypatch.setenv("HTTPS_PROXY", "")
    assert chosen("wss://market.example/") is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_proxied"),
    [
        ("market.example", "wss://market.example/", False),
        ("MARKET.example", "wss://market.example/", False),
        ("example", "wss://market.example/", False),
        (".example", "wss://market.example/", False),
        ("other.example, market.example", "wss://market.example/", False),
        ("*", "wss://market.example/", False),
        ("market.example:443", "wss://market.example/", False),
        ("market.example:444", "wss://market.example/", True),
        ("ket.example", "wss://market.example/", True),
        ("2001:db8::1", "wss://[2001:db8::1]/", False),
        ("10.0.0.1", "wss://10.0.0.1:8443/", False),
        ("", "wss://10.0.0.1:8443/", True),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, name: str, no_proxy: str, url: str, is_proxied: bool) -> None:
    monkeypatch.setenv("all_proxy", "http://proxy.example:3128")
    monkeypatch.setenv(name, no_proxy)
    assert (chosen(url) is not None) is is_proxied


@pytest.mark.parametrize("url", ["ws://localhost:1/", "wss://127.0.0.1:1/", "wss://[::1]:1/", "ws://a.localhost/"])
def test_this_machine_is_never_reached_through_a_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("all_proxy", "http://proxy.example:3128")
    assert chosen(url) is None
    assert chosen("wss://128.0.0.1:1/") == "http://proxy.example:3128"
