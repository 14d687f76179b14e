"""Named endpoints and URLs: what is read, what is refused, and that no secret in them shows."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws.endpoints import NAMED_ENDPOINTS, Endpoint, endpoint_from, read_endpoint
from coinapi_ws.exceptions import ConfigurationError

LABEL_63 = "a" * 63


@pytest.mark.parametrize(
    ("name", "url", "product"),
    [
        ("geo", "wss://ws.coinapi.io/v1/", "market"),
        ("ncsa", "wss://api-ncsa.coinapi.io/v1/", "market"),
        ("emea", "wss://api-emea.coinapi.io/v1/", "market"),
        ("apac", "wss://api-apac.coinapi.io/v1/", "market"),
        ("exrates", "wss://api-realtime.exrates.coinapi.io/", "exrates"),
        ("ds:coinbase", "wss://coinbase.ws-ds.md.coinapi.io/", "ds"),
        ("ds:COINBASE", "wss://coinbase.ws-ds.md.coinapi.io/", "ds"),
        (f"ds:{LABEL_63}", f"wss://{LABEL_63}.ws-ds.md.coinapi.io/", "ds"),
    ],
)
def test_names(name: str, url: str, product: str) -> None:
    endpoint = endpoint_from(name)
    assert str(endpoint) == url
    assert endpoint == endpoint_from(url)
    assert (endpoint.product, endpoint.port, endpoint.tls, endpoint.is_vendor) == (product, 443, True, True)
    assert not endpoint.is_loopback


def test_every_name_is_tried_above() -> None:
    assert set(NAMED_ENDPOINTS) == {"geo", "ncsa", "emea", "apac", "exrates"}


@pytest.mark.parametrize(
    ("url", "authority", "target", "port"),
    [
        ("wss://example.org", "example.org", "/", 443),
        ("ws://example.org", "example.org", "/", 80),
        ("WSS://Example.ORG/V1/", "example.org", "/V1/", 443),
        ("wss://example.org:443/", "example.org", "/", 443),
        ("wss://example.org:80/", "example.org:80", "/", 80),
        ("ws://example.org:8080/a/b?c=d&e=%20", "example.org:8080", "/a/b?c=d&e=%20", 8080),
        ("ws://127.0.0.1:65535/", "127.0.0.1:65535", "/", 65535),
        ("ws://[::1]:9/x", "[::1]:9", "/x", 9),
        ("wss://[2001:DB8:0::1]/", "[2001:db8::1]", "/", 443),
        ("wss://[fe80::1%25]/", "[fe80::1%25]", "/", 443),
        ("wss://bücher.example/", "xn--bcher-kva.example", "/", 443),
        ("wss://a。b/", "a.b", "/", 443),
        ("wss://under_score.example/é?q=é", "under_score.example", "/%C3%A9?q=%C3%A9", 443),
        ("wss://example.org:/", "example.org", "/", 443),
        (f"wss://{LABEL_63}.org/", f"{LABEL_63}.org", "/", 443),
        ("wss://example.org?x=1", "example.org", "/?x=1", 443),
    ],
)
def test_urls(url: str, authority: str, target: str, port: int) -> None:
    endpoint = endpoint_from(url)
    assert (endpoint.authority, endpoint.target, endpoint.port) == (authority, target, port)
    assert endpoint.product == "market"
    assert not endpoint.is_vendor
    assert (endpoint.authority + endpoint.target).isascii()


@pytest.mark.parametrize("url", ["wss://ws.coinapi.io./v1/", "wss://WS.COINAPI.IO/v1/", "wss://ws.coinapi.io:443/v1/"])
def test_one_host_has_one_form(url: str) -> None:
    assert endpoint_from(url) == endpoint_from("geo")


@pytest.mark.parametrize("host", ["coinapi.io.example.org", "evilcoinapi.io", "ws-ds.md.coinapi.io.example.org"])
def test_who_only_looks_like_the_vendor(host: str) -> None:
    endpoint = endpoint_from(f"wss://{host}/")
    assert not endpoint.is_vendor
    assert endpoint.product == "market"


@pytest.mark.parametrize(
    ("name", "url", "product"),
    [
        ("exrates:ws://localhost:8765/", "ws://localhost:8765/", "exrates"),
        ("ds:wss://proxy.example/coinbase?x=1", "wss://proxy.example/coinbase", "ds"),
        ("exrates:wss://api-emea.coinapi.io/", "wss://api-emea.coinapi.io/", "exrates"),
        ("wss://10.0.0.1/md/ws-ds-coinbase/", "wss://10.0.0.1/md/ws-ds-coinbase/", "ds"),
        ("wss://api-ncsa.coinapi.io/md/ws-ds-coinbase", "wss://api-ncsa.coinapi.io/md/ws-ds-coinbase", "ds"),
        ("exrates:ws://localhost/md/ws-ds-coinbase/", "ws://localhost/md/ws-ds-coinbase/", "exrates"),
        ("ws://localhost/md/ws-ds-/", "ws://localhost/md/ws-ds-/", "market"),
        ("ws://localhost/x/md/ws-ds-coinbase/", "ws://localhost/x/md/ws-ds-coinbase/", "market"),
        ("ws://localhost/?p=/md/ws-ds-coinbase/", "ws://localhost/", "market"),
    ],
)
def test_which_product_a_url_is_of(name: str, url: str, product: str) -> None:
    endpoint = endpoint_from(name)
    assert (str(endpoint), endpoint.product) == (url, product)


@pytest.mark.parametrize(
    "url",
    [
        "wss://",
        "wss:///v1/",
        "wss://:443/",
        f"wss://{'a' * 64}.org/",
        f"wss://{'.'.join(['a' * 49] * 6)}/",
        "wss://a..b/",
        "wss://.a/",
        "wss://a../",
        "wss://./",
        "wss://-a.org/",
        "wss://a-.org/",
        "wss://exa%6Dple.org/",
        "wss://a,b/",
        "wss://a\\b/",
        "wss://\u00ad/",
        f"wss://{'ü' * 63}/",
        "wss://[::1/",
        "wss://[::g]/",
        "wss://[1.2.3.4]/",
        "wss://[v1.a]/",
        "wss://[v1.a:b]/",
        "wss://[fe80::1%é]/",
        "wss://::1/",
    ],
)
def test_w10_hosts_are_refused(url: str) -> None:
    """W10: wsproto would send what its idna codec makes of a host, or raise."""
    with pytest.raises(ConfigurationError, match=r"host is no valid host name|cannot be read"):
        endpoint_from(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("wss://exa mple.com/", "space"),
        ("wss://example.com/a b", "space"),
        ("wss://example.com/\r\nX-Other: 1", "control character"),
        ("wss://example.com/\x7f", "control character"),
        (" wss://example.com/", "space"),
        ("wss://example.com/\ud800", "half a character"),
        ("wss://\udfff/", "half a character"),
        ("https://example.com/", "must begin with wss://"),
        ("://example.com/", "must begin with wss://"),
        ("wss://example.com:0/", "port 0"),
        ("wss://example.com:65536/", "cannot be read"),
        ("wss://example.com:x/", "cannot be read"),
        ("wss://example.com:٨/", "cannot be read"),
        ("wss://example.com:-1/", "cannot be read"),
        ("wss://example.com/#", "fragment"),
        ("wss://example.com/#part", "fragment"),
        ("wss://@example.com/", "user name"),
        ("emae", "unknown endpoint; write geo, ncsa, emea, apac, exrates, ds:<exchange>"),
        ("", "unknown endpoint"),
        ("GEO", "unknown endpoint"),
        ("exrates:", "unknown endpoint"),
        ("exrates:coinbase", "unknown endpoint"),
        ("exrates:http://localhost/", "must begin with wss:// or ws://"),
        ("ds:ds:ws://localhost/", "must begin with wss:// or ws://"),
        ("market:ws://localhost/", "must begin with wss:// or ws://"),
        ("ds:", "needs an exchange id"),
        ("ds:coin base", "needs an exchange id"),
        ("ds:coinbase.example.org/", "needs an exchange id"),
        (f"ds:{'a' * 64}", "needs an exchange id"),
    ],
)
def test_what_is_wrong_is_said(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        endpoint_from(url)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("wss://example.com/?apikey={key}", "has the key in it; pass it as api_key"),
        ("wss://example.com/?x=1&ApiKey={key}", "has the key in it; pass it as api_key"),
        ("wss://example.com/v1/APIKEY-{key}", "has the key in it; pass it as api_key"),
        ("wss://example.com/v1/apikey-{key}/x", "has the key in it; pass it as api_key"),
        ("wss://{key}@example.com/", "pass the key as api_key"),
        ("exrates:wss://{key}@example.com/", "pass the key as api_key"),
        ("ds:wss://example.com/?apikey={key}", "has the key in it; pass it as api_key"),
        ("wss://coinapi:{key}@example.com/", "pass the key as api_key"),
        ("wss://example.com/#{key}", "fragment"),
        ("https://example.com/?x={key}", "must begin with wss://"),
        ("wss://example.com:{key}/", "cannot be read"),
        ("wss://[{key}]/", "host is no valid|cannot be read"),
        ("wss://example.com\u2100{key}/", "cannot be read"),
        ("{key}", "unknown endpoint"),
        ("ds:{key}.x", "needs an exchange id"),
    ],
)
def test_a_key_in_it_is_not_shown(
    canary_key: str, leaks: Callable[[BaseException], bool], form: str, message: str
) -> None:
    """F24: also not in a traceback with captured locals."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        endpoint_from(form.format(key=canary_key))
    assert not leaks(caught.value)


def test_something_else_than_text(canary_key: str, leaks: Callable[[BaseException], bool]) -> None:
    with pytest.raises(ConfigurationError, match="not bytes") as caught:
        endpoint_from(canary_key.encode())  # type: ignore[arg-type]
    assert not leaks(caught.value)
    with pytest.raises(ConfigurationError, match="not NoneType"):
        endpoint_from(None)  # type: ignore[arg-type]


def test_the_query_is_never_printed(canary_key: str, assert_no_canary: Callable[[object], None]) -> None:
    endpoint = endpoint_from(f"wss://example.com/path?token={canary_key}")
    assert canary_key in endpoint.target
    assert_no_canary(endpoint)
    assert str(endpoint) == "wss://example.com/path"
    assert "token" not in repr(endpoint)


def test_an_endpoint_is_taken_as_it_is() -> None:
    endpoint = endpoint_from("geo")
    assert endpoint_from(endpoint) is endpoint
    assert read_endpoint(endpoint) is endpoint
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("simulator.localhost", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("[::1]", True),
        ("[0:0:0:0:0:0:0:1]", True),
        ("notlocalhost", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("2130706433", False),
        ("[::2]", False),
        ("example.org", False),
    ],
)
def test_loopback(host: str, is_loopback: bool) -> None:
    assert endpoint_from(f"ws://{host}/").is_loopback is is_loopback


@given(
    st.text() | st.text().map("wss://{}".format) | st.text().map("ws://h:1/{}".format) | st.text().map("ds:{}".format)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    endpoint = read_endpoint(text)
    if isinstance(endpoint, Endpoint):
        assert (endpoint.authority + endpoint.target).isascii()
        assert not set("\r\n \0") & set(endpoint.authority + endpoint.target)
        assert endpoint_from(f"{endpoint.scheme}://{endpoint.authority}{endpoint.target}") == endpoint
    else:
        assert isinstance(endpoint, ConfigurationError)
        assert "endpoint" in str(endpoint) or "ds:" in str(endpoint)
