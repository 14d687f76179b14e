"""Options: each field is checked, and the text says what to write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from coinapi_ws.auth import Secret
from coinapi_ws.endpoints import Endpoint, endpoint_from
from coinapi_ws.exceptions import ConfigurationError
from coinapi_ws.options import DEFAULT_USER_AGENT, Options
from coinapi_ws.proxies import proxy_from

LOCAL = endpoint_from("ws://localhost:8080/")
SECONDS = ("open_timeout", "live_timeout", "silence_timeout", "ping_interval", "ping_timeout", "keepalive")


def test_defaults() -> None:
    options = Options(endpoint=LOCAL)
    assert dataclasses.asdict(options) | {"endpoint": LOCAL} == {
        "endpoint": LOCAL,
        "api_key": None,
        "auth": "header",
        "jwt": None,
        "numbers": "float",
        "keep_raw": False,
        "request_heartbeats": True,
        "wire": "hello",
        "deliver_surplus": False,
        "all_sequence_gaps": False,
        "open_timeout": 10.0,
        "live_timeout": 15.0,
        "silence_timeout": 30.0,
        "close_timeout": 5.0,
        "ping_interval": None,
        "ping_timeout": 20.0,
        "max_message_bytes": 16 * 1024 * 1024,
        "compression": False,
        "fast_lane": True,
        "allow_plaintext": False,
        "user_agent": DEFAULT_USER_AGENT,
        "proxy": "environment",
        "server_hostname": None,
        "keepalive": 60.0,
        "receive_buffer_bytes": None,
        "nodelay": True,
    }
    assert DEFAULT_USER_AGENT.startswith("coinapi_ws/")


def test_frozen() -> None:
    options = Options(endpoint=LOCAL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.wire = "incremental"  # type: ignore[misc]
    assert options.wire == "hello"


@pytest.mark.parametrize("name", [*SECONDS, "close_timeout"])
@pytest.mark.parametrize("seconds", [0, 0.0, -1, float("nan"), float("inf"), True, "5", (5,)])
def test_seconds(name: str, seconds: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is a positive number of seconds, not "):
        Options(endpoint=LOCAL, **{name: seconds})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("seconds", [None, 1, 0.001, 86_400])
def test_seconds_that_are_possible(name: str, seconds: float | None) -> None:
    assert getattr(Options(endpoint=LOCAL, **{name: seconds}), name) == seconds  # type: ignore[arg-type]


def test_a_close_handshake_always_has_a_deadline() -> None:
    """F3."""
    with pytest.raises(ConfigurationError, match="close_timeout is a positive number of seconds, not None"):
        Options(endpoint=LOCAL, close_timeout=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("endpoint", "emea", r"write endpoint_from\(name_or_url\)"),
        ("auth", "cookie", "auth='cookie' is not possible; write one of header, query"),
        ("numbers", "int", 'write "float" or "decimal"'),
        ("numbers", None, 'write "float" or "decimal"'),
        ("wire", "subscribe", 'write "hello" or "incremental"'),
        ("jwt", "abc.def.ghi", "a JWT goes together with the API key"),
        ("max_message_bytes", 0, "at least 1"),
        ("max_message_bytes", True, "is an int"),
        ("max_message_bytes", 1.5, "is an int"),
        ("receive_buffer_bytes", 0, "receive_buffer_bytes is at least 1, and at most 2147483647"),
        ("receive_buffer_bytes", 2**31, "at most 2147483647"),
        ("receive_buffer_bytes", False, "receive_buffer_bytes is an int"),
        ("proxy", "direct", r'None or "environment"; write proxy_from\(url\)'),
        ("proxy", 3128, r"write proxy_from\(url\)"),
        ("server_hostname", "localhost", "for wss:// endpoints"),
        ("user_agent", None, "user_agent is a str"),
        ("user_agent", "é", "user_agent is printable ASCII"),
        ("user_agent", "a\r\nX-Other: 1", "user_agent is printable ASCII"),
        ("user_agent", " mine", "no space at its beginning or end"),
        ("user_agent", "mine ", "no space at its beginning or end"),
    ],
)
def test_what_is_wrong_is_said(field: str, value: object, message: str) -> None:
    fields: dict[str, Any] = {"endpoint": LOCAL, field: value}
    with pytest.raises(ConfigurationError, match=message):
        Options(**fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("numbers", "decimal"),
        ("wire", "incremental"),
        ("max_message_bytes", 1),
        ("user_agent", "my program 1.0"),
        ("auth", "hello"),
        ("receive_buffer_bytes", 2**31 - 1),
        ("keepalive", None),
        ("nodelay", False),
        ("proxy", None),
        ("proxy", proxy_from("http://proxy.example:3128")),
    ],
)
def test_what_is_possible(field: str, value: object) -> None:
    fields: dict[str, Any] = {"endpoint": LOCAL, field: value}
    assert getattr(Options(**fields), field) == value


def test_the_vendor_needs_a_key() -> None:
    with pytest.raises(ConfigurationError, match=r"api-emea\.coinapi\.io needs an API key; .* COINAPI_API_KEY"):
        Options(endpoint=endpoint_from("emea"))


def test_another_server_may_need_none() -> None:
    assert Options(endpoint=endpoint_from("wss://example.org/")).api_key is None


def test_a_plain_key_is_refused(canary_key: str, assert_no_canary: Callable[[object], None]) -> None:
    with pytest.raises(ConfigurationError, match=r"write Secret\(key\)") as caught:
        Options(endpoint=LOCAL, api_key=canary_key)  # type: ignore[arg-type]
    assert_no_canary(caught.value)


@pytest.mark.parametrize(
    ("url", "allow_plaintext", "is_possible"),
    [
        ("ws://example.org/", False, False),
        ("ws://192.168.0.1/", False, False),
        ("ws://example.org/", True, True),
        ("wss://example.org/", False, True),
        ("ws://localhost/", False, True),
        ("ws://127.0.0.1/", False, True),
        ("ws://[::1]/", False, True),
    ],
)
def test_a_key_does_not_cross_a_network_in_plain_text(
    canary_key: str, url: str, allow_plaintext: bool, is_possible: bool
) -> None:
    fields: dict[str, Any] = {"endpoint": endpoint_from(url), "allow_plaintext": allow_plaintext}
    assert Options(**fields).api_key is None
    if is_possible:
        assert Options(**fields, api_key=Secret(canary_key)).api_key == Secret(canary_key)
    else:
        with pytest.raises(ConfigurationError, match="use wss://, or pass allow_plaintext=True"):
            Options(**fields, api_key=Secret(canary_key))


@pytest.mark.parametrize("name", ["other.example", "127.0.0.1", "::1"])
def test_another_name_for_tls(name: str) -> None:
    assert Options(endpoint=endpoint_from("wss://localhost/"), server_hostname=name).server_hostname == name


@pytest.mark.parametrize("name", ["", "a b", "a..b", "[::1]", 7])
def test_what_is_no_name_for_tls(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"server_hostname is (no valid host name or address|a str)"):
        Options(endpoint=endpoint_from("wss://localhost/"), server_hostname=name)


def test_localhost_of_another_machine_is_no_loopback(canary_key: str) -> None:
    """Through a proxy on another machine the key would cross the network to it."""
    fields: dict[str, Any] = {"endpoint": LOCAL, "api_key": Secret(canary_key)}
    with pytest.raises(ConfigurationError, match="allow_plaintext=True"):
        Options(**fields, proxy=proxy_from("http://proxy.example:3128"))
    for more in ({"proxy": proxy_from("http://127.0.0.1:3128")}, {"proxy": None}, {}):
        assert Options(**fields, **more).api_key == Secret(canary_key)


def test_jwt_is_a_callable(canary_key: str) -> None:
    fields: dict[str, Any] = {"endpoint": LOCAL, "api_key": Secret(canary_key)}
    assert Options(**fields, jwt=lambda: "token").jwt is not None
    with pytest.raises(ConfigurationError, match="write jwt=lambda: token"):
        Options(**fields, jwt="abc.def.ghi")
    with pytest.raises(ConfigurationError, match="auth='basic' is not possible together with a JWT"):
        Options(**fields, jwt=lambda: "token", auth="basic")


def test_no_secret_in_a_repr(canary_key: str, assert_no_canary: Callable[[object], None]) -> None:
    class Jwt:
        def __call__(self) -> str:
            return canary_key

        def __repr__(self) -> str:
            return canary_key

    endpoint: Endpoint = endpoint_from(f"wss://example.org/?token={canary_key}")
    options = Options(endpoint=endpoint, api_key=Secret(canary_key), jwt=Jwt())
    assert_no_canary(options)
    assert "example.org" in repr(options)
