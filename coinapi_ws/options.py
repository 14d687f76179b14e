"""Settings of one connection: frozen, validated, safe to print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypedDict

from ._version import __version__
from .auth import API_KEY_VARIABLE, Secret, api_key_secret, check_method, check_sendable
from .decoding import NUMBERS
from .endpoints import Endpoint, checked_host, read_endpoint
from .exceptions import ConfigurationError
from .proxies import FROM_ENVIRONMENT, Proxy, read_proxy
from .scope import WIRE_HELLO, WIRE_INCREMENTAL

if TYPE_CHECKING:
    from typing_extensions import Unpack  # every type checker has it; nothing imports it when the program runs

DEFAULT_MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
DEFAULT_OPEN_TIMEOUT_SECONDS: Final = 10.0
DEFAULT_LIVE_TIMEOUT_SECONDS: Final = 15.0
#: With heartbeats each second, a multiple of it; a fixed 10 s was found too fragile (api-bricks-sdk#104).
DEFAULT_SILENCE_TIMEOUT_SECONDS: Final = 30.0
DEFAULT_CLOSE_TIMEOUT_SECONDS: Final = 5.0
DEFAULT_PING_TIMEOUT_SECONDS: Final = 20.0
#: Heartbeats and ``silence_timeout`` find a dead path sooner; this is for those who asked for none.
DEFAULT_KEEPALIVE_SECONDS: Final = 60.0
DEFAULT_USER_AGENT: Final = f"coinapi_ws/{__version__}"

_LARGEST_COUNT: Final = 2**31 - 1  # what a socket's option holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to connect, and what to expect.

    - ``api_key``, ``auth``: the key, and the way it travels: "header", "query", "path", "authorization", "basic" or
      "hello" (vendor_notes.md, "Authentication"); ``jwt`` is a callable that the driver asks for a token on each
      connect, beside one of "header", "query", "path" and "hello".
    - ``numbers``: "float" or "decimal". ``keep_raw``: keep the frame's text on ``message.raw``.
    - ``request_heartbeats``: ask for a heartbeat after each second of silence; without them neither
      ``live_timeout`` nor ``silence_timeout`` is watched.
    - ``all_sequence_gaps``: a jump of any sequence is a ``SequenceGap``, not those of books alone; others are then told
      although the server may number throttled and filtered streams anew.
    - ``wire``: "hello" or "incremental". ``deliver_surplus``: deliver what a merged hello brings beyond the scope.
    - ``open_timeout``: seconds for TCP, proxy, TLS and upgrade together, over all addresses; also the longest wait for
      the server's limits to allow a connect or the first hello. ``live_timeout``: seconds from
      the hello to the first data or heartbeat. ``silence_timeout``: seconds without any message.
      ``close_timeout``: seconds for the close handshake. None switches one off, but for ``close_timeout``.
    - ``ping_interval``, ``ping_timeout``: seconds; own Pings, off by default.
    - ``max_message_bytes``: a larger message ends the connection with code 1009.
    - ``compression``: offer permessage-deflate. ``fast_lane=False``: every frame goes through wsproto, for comparison.
      ``allow_plaintext``: send the key over ``ws://`` to another machine.
    - ``user_agent``: the header of that name.
    - ``proxy``: a :class:`Proxy`, None, or "environment": what ``https_proxy`` (for ``ws`` ``http_proxy``, in lower
      case alone), ``all_proxy`` and ``no_proxy`` say; a host that is this machine then never goes through one.
    - ``server_hostname``: the name that TLS asks for (SNI) and checks the certificate against, where it is not the
      endpoint's host.
    - ``keepalive``: the system ends a connection whose other end answers no TCP probe for about so many seconds;
      None for the system's own habit, mostly never. ``receive_buffer_bytes``: SO_RCVBUF, None for the system's own.
      ``nodelay``: TCP_NODELAY.

    Raises ``ConfigurationError`` with what to write instead.
    """

    endpoint: Endpoint
    api_key: Secret | None = field(default=None, repr=False)
    auth: str = "header"
    jwt: Callable[[], str] | None = field(default=None, repr=False)
    numbers: str = "float"
    keep_raw: bool = False
    request_heartbeats: bool = True
    wire: str = WIRE_HELLO
    deliver_surplus: bool = False
    all_sequence_gaps: bool = False
    open_timeout: float | None = DEFAULT_OPEN_TIMEOUT_SECONDS
    live_timeout: float | None = DEFAULT_LIVE_TIMEOUT_SECONDS
    silence_timeout: float | None = DEFAULT_SILENCE_TIMEOUT_SECONDS
    close_timeout: float = DEFAULT_CLOSE_TIMEOUT_SECONDS
    ping_interval: float | None = None
    ping_timeout: float | None = DEFAULT_PING_TIMEOUT_SECONDS
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    compression: bool = False
    fast_lane: bool = True
    allow_plaintext: bool = False
    user_agent: str = DEFAULT_USER_AGENT
    proxy: Proxy | str | None = FROM_ENVIRONMENT
    server_hostname: str | None = None
    keepalive: float | None = DEFAULT_KEEPALIVE_SECONDS
    receive_buffer_bytes: int | None = None
    nodelay: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.endpoint, Endpoint):
            raise ConfigurationError("endpoint is an Endpoint here; write endpoint_from(name_or_url)")
        check_method(self.auth, has_jwt=self.jwt is not None)
        self._check_key()
        if self.numbers not in NUMBERS:
            raise ConfigurationError(f'numbers={self.numbers!r} is not possible; write "float" or "decimal"')
        if self.wire not in (WIRE_HELLO, WIRE_INCREMENTAL):
            raise ConfigurationError(f'wire={self.wire!r} is not possible; write "hello" or "incremental"')
        if self.jwt is not None and not callable(self.jwt):
            raise ConfigurationError("jwt is a callable that returns a fresh token; write jwt=lambda: token")
        for name in ("open_timeout", "live_timeout", "silence_timeout", "ping_interval", "ping_timeout", "keepalive"):
            if getattr(self, name) is not None:
                self._check_seconds(name)
        self._check_seconds("close_timeout")
        self._check_count("max_message_bytes")
        if self.receive_buffer_bytes is not None:
            self._check_count("receive_buffer_bytes")
        if not isinstance(self.user_agent, str):
            raise ConfigurationError("user_agent is a str")
        if not self.user_agent.isascii() or not self.user_agent.isprintable():
            raise ConfigurationError("user_agent is printable ASCII")
        if self.user_agent != self.user_agent.strip():
            raise ConfigurationError("user_agent has no space at its beginning or end")
        self._check_way()

    def _check_key(self) -> None:
        if self.api_key is None:
            if self.endpoint.is_vendor:
                raise ConfigurationError(
                    f"{self.endpoint.host} needs an API key; pass api_key or set {API_KEY_VARIABLE}"
                )
            if self.jwt is not None:
                raise ConfigurationError("a JWT goes together with the API key; pass api_key as well")
            return
        if not isinstance(self.api_key, Secret):
            raise ConfigurationError("api_key is a Secret here; write Secret(key)")
        check_sendable(self.api_key, "the API key")
        # "localhost" is another machine's where a proxy of another machine is asked for it.
        is_near = self.endpoint.is_loopback and not (isinstance(self.proxy, Proxy) and not self.proxy.is_loopback)
        if not self.endpoint.tls and not is_near and not self.allow_plaintext:
            raise ConfigurationError(
                f"the API key would cross the network to {self.endpoint.host} unencrypted; "
                f"use {self.endpoint.scheme}s://, or pass allow_plaintext=True"
            )

    def _check_way(self) -> None:
        if self.proxy is not None and self.proxy != FROM_ENVIRONMENT and not isinstance(self.proxy, Proxy):
            raise ConfigurationError(f'proxy is a Proxy here, None or "{FROM_ENVIRONMENT}"; write proxy_from(url)')
        if self.server_hostname is None:
            return
        if not self.endpoint.tls:
            raise ConfigurationError("server_hostname is for wss:// endpoints")
        if not isinstance(self.server_hostname, str):
            raise ConfigurationError("server_hostname is a str")
        if checked_host(self.server_hostname, in_brackets=":" in self.server_hostname) is None:
            raise ConfigurationError("server_hostname is no valid host name or address")

    def _check_count(self, name: str) -> None:
        count = getattr(self, name)
        if isinstance(count, bool) or not isinstance(count, int):
            raise ConfigurationError(f"{name} is an int")
        if not 1 <= count <= _LARGEST_COUNT:
            raise ConfigurationError(f"{name} is at least 1, and at most {_LARGEST_COUNT}")

    def _check_seconds(self, name: str) -> None:
        seconds = getattr(self, name)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < float("inf"):
            raise ConfigurationError(f"{name} is a positive number of seconds, not {seconds!r}")


class ConnectionOptions(TypedDict, total=False):
    """The options that ``connect`` and ``Client`` hand on to :class:`Options`, which explains them."""

    auth: str
    jwt: Callable[[], str] | None
    numbers: str
    keep_raw: bool
    request_heartbeats: bool
    wire: str
    deliver_surplus: bool
    all_sequence_gaps: bool
    open_timeout: float | None
    live_timeout: float | None
    silence_timeout: float | None
    close_timeout: float
    ping_interval: float | None
    ping_timeout: float | None
    max_message_bytes: int
    compression: bool
    fast_lane: bool
    allow_plaintext: bool
    user_agent: str
    server_hostname: str | None
    keepalive: float | None
    receive_buffer_bytes: int | None
    nodelay: bool


def read_options(
    api_key: str | Secret | None,
    endpoint: str | Endpoint,
    proxy: str | Proxy | None,
    **options: Unpack[ConnectionOptions],
) -> Options | ConfigurationError | TypeError:
    """Return the options, or the error to raise once the caller has replaced its own plain locals by it.

    A traceback may be printed with its locals (F24): no plain key stays in one.
    """
    secret, place, way = api_key_secret(api_key), read_endpoint(endpoint), read_proxy(proxy)
    del api_key, endpoint, proxy
    if isinstance(place, ConfigurationError):
        return place
    if isinstance(way, ConfigurationError):
        return way
    try:
        return Options(endpoint=place, api_key=secret, proxy=way, **options)
    except (ConfigurationError, TypeError) as error:  # TypeError: no such option
        return error.with_traceback(None)
