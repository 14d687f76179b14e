"""How a connection begins: which way it goes, and the part of it that blocks."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TypeAlias

from ..exceptions import CoinAPIError, ConfigurationError, ConnectError, ProxyError
from ..options import Options
from ..proxies import Proxy, proxy_of_environment
from .failures import ConnectFailed
from .socket_options import SocketOptions
from .socks import check_socks, dial_socks
from .transport import Address, Transport
from .tunnel import Tunnel

Resolve: TypeAlias = "Callable[[str, int], Sequence[Address]]"
Dial: TypeAlias = "Callable[[str, int, float | None], socket.socket]"


class Opening:
    """The way to the endpoint of ``options``: direct, through a proxy, or over a socket that ``dial`` returns.

    Raises ``ConfigurationError`` for a context that is none for clients, and for a proxy that cannot be had.
    """

    def __init__(
        self, options: Options, *, ssl_context: ssl.SSLContext | None, resolve: Resolve | None, dial: Dial | None
    ) -> None:
        if ssl_context is not None:
            _check_context(ssl_context)
        if ssl_context is None and options.endpoint.tls:
            ssl_context = default_ssl_context()  # made here and not in begin, since it imports
        self._options = options
        self._ssl_context = ssl_context
        self._resolve = resolve or resolve_host
        self._proxy = None if dial is not None else _proxy_of(options)
        self._dial = partial(dial_socks, self._proxy) if self._proxy is not None and self._proxy.is_socks else dial

    def begin(self, deadline: float | None) -> Transport:
        """Do what blocks, and return the transport for the rest. Raises ``ConnectFailed``."""
        options, proxy = self._options, self._proxy
        endpoint = options.endpoint
        addresses: Sequence[Address] = ()
        tunnel = connected = None
        if self._dial is not None:
            connected = self._dialled(self._dial)
        elif proxy is not None:
            addresses = self._resolved(f"the proxy's name {proxy.host}", proxy.host, proxy.port, ProxyError)
            tunnel = Tunnel(proxy, endpoint, user_agent=options.user_agent)
        else:
            addresses = self._resolved(f"the name {endpoint.host}", endpoint.host, endpoint.port, ConnectError)
        return Transport(
            endpoint.host,
            addresses,
            ssl_context=self._ssl_context if endpoint.tls else None,
            server_hostname=options.server_hostname,
            deadline=deadline,
            tunnel=tunnel,
            connected=connected,
            socket_options=SocketOptions(options.nodelay, options.keepalive, options.receive_buffer_bytes),
        )

    def _resolved(self, what: str, host: str, port: int, error_type: type[CoinAPIError]) -> Sequence[Address]:
        try:
            return self._resolve(host, port)
        except OSError as error:
            detail = f"{what} was not resolved: {error.strerror or type(error).__name__}"
            raise ConnectFailed(error_type, detail) from None

    def _dialled(self, dial: Dial) -> socket.socket:
        endpoint = self._options.endpoint
        try:
            return dial(endpoint.host, endpoint.port, self._options.open_timeout)
        except OSError as error:
            detail = f"no connection to {endpoint.host}: {error.strerror or type(error).__name__}"
            raise ConnectFailed(ConnectError, detail) from None


def resolve_host(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, asked anew on each connect since GeoDNS may answer another server. Blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [Address(int(family), sockaddr) for family, _, _, _, sockaddr in found]


@lru_cache(maxsize=1)
def default_ssl_context() -> ssl.SSLContext:
    """Return a context that verifies with certifi's roots; TLS 1.2 at least."""
    from certifi import where  # imports much more, of no use without TLS or with a context of one's own

    context = ssl.create_default_context(cafile=where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _check_context(context: object) -> None:
    if not isinstance(context, ssl.SSLContext):
        raise ConfigurationError(f"ssl is an ssl.SSLContext, not {type(context).__name__}")
    if context.protocol is ssl.PROTOCOL_TLS_SERVER:
        raise ConfigurationError("ssl is a context for servers; write ssl.create_default_context()")


def _proxy_of(options: Options) -> Proxy | None:
    proxy = proxy_of_environment(options.endpoint) if isinstance(options.proxy, str) else options.proxy
    if proxy is not None and proxy.is_socks:
        check_socks()
    return proxy
