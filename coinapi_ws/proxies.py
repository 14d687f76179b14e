"""The proxy of a connection: a URL, none, or what the environment says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from .auth import Secret
from .endpoints import Endpoint, checked_host, host_and_port, is_loopback
from .exceptions import ConfigurationError

#: The value of the option ``proxy`` that stands for the environment's variables.
FROM_ENVIRONMENT: Final = "environment"

_SCHEMES: Final = ("http", "socks5", "socks5h")
_WANTED: Final = "write http://[user:password@]host:port, socks5h://… or socks5://…"
_LONGEST_SOCKS_WORD: Final = 255  # RFC 1929, section 2


@dataclass(frozen=True, slots=True)
class Proxy:
    """What stands between us and the server. Made by :func:`proxy_from`; user name and password are never printed.

    ``scheme`` is "http" (a tunnel by CONNECT), "socks5h" (the proxy resolves the name) or "socks5" (we do).
    """

    scheme: str
    host: str
    port: int
    credentials: Secret | None = field(default=None, repr=False)

    @property
    def is_socks(self) -> bool:
        """True for both kinds of SOCKS."""
        return self.scheme != "http"

    @property
    def is_loopback(self) -> bool:
        """True where the proxy cannot be another machine."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)


def proxy_from(url: str | Proxy) -> Proxy:
    """Return the proxy of a URL ``http://[user:password@]host:port``, ``socks5h://…`` or ``socks5://…``.

    User name and password are percent-decoded. Raises ``ConfigurationError`` for anything else, without repeating it.
    """
    proxy = read_proxy(url)
    if isinstance(proxy, Proxy):
        return proxy
    del url  # it may hold a password, and a traceback may be printed with its locals
    raise proxy if isinstance(proxy, ConfigurationError) else ConfigurationError(f"a proxy is a URL; {_WANTED}")


def read_proxy(given: object) -> Proxy | str | ConfigurationError | None:
    """Return the value for the option, or the error to raise once the caller has replaced its own plain local by it."""
    if given is None or isinstance(given, Proxy) or given == FROM_ENVIRONMENT:
        return FROM_ENVIRONMENT if isinstance(given, str) else given
    if not isinstance(given, str):
        return ConfigurationError(f'proxy is a URL, None or "{FROM_ENVIRONMENT}", not {type(given).__name__}')
    proxy = _read(given)
    return proxy if isinstance(proxy, Proxy) else ConfigurationError(proxy)


def proxy_of_environment(endpoint: Endpoint) -> Proxy | None:
    """Return the proxy that the environment names for this endpoint, or None.

    ``https_proxy`` for ``wss``, ``http_proxy`` for ``ws``, else ``all_proxy``, in lower case or upper, but never
    ``HTTP_PROXY``, which a web server's child may have from a request header. ``no_proxy`` names hosts, domains or
    ``*``. What is on this machine is never reached through a proxy of the environment.
    Raises ``ConfigurationError`` where the variable cannot be read.
    """
    proxy = None if endpoint.is_loopback else _read_environment(endpoint)
    if isinstance(proxy, ConfigurationError):
        raise proxy
    return proxy


def _read_environment(endpoint: Endpoint) -> Proxy | ConfigurationError | None:
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass  # http.client and more, rarely needed

    variables = getproxies_environment()
    if "http_proxy" not in os.environ:
        variables.pop("http", None)
    name = "https" if endpoint.tls else "http"
    name = name if variables.get(name) else "all"
    url = variables.get(name)
    # With environment variables present, this asks nothing else, on no system.
    if not url or any(proxy_bypass(form) for form in (endpoint.host, host_and_port(endpoint.host, endpoint.port))):
        return None
    proxy = _read(url if "://" in url else f"http://{url}")
    if isinstance(proxy, Proxy):
        return proxy
    return ConfigurationError(f"environment variable {name}_proxy: {proxy}; or pass proxy=None to connect without one")


def _read(url: str) -> Proxy | str:
    """Return the proxy, or what is wrong with it."""
    if re.search(r"[\x00-\x20\x7f\ud800-\udfff]", url):
        return "the proxy's URL has a space, a control character or half a character in it"
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        return f"the proxy's URL cannot be read; {_WANTED}"
    if scheme == "https":
        return (
            "a proxy that is itself spoken to over TLS (https://) is not supported; most want http:// for all traffic"
        )
    if scheme not in _SCHEMES:
        return f"the proxy's URL begins with none that is known; {_WANTED}"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return f"the proxy's URL has more than host and port; {_WANTED}, with %2F for a / in a password"
    if not port:
        return f"the proxy's URL has no port; {_WANTED}"
    valid_host = checked_host(host or "", in_brackets="[" in parts.netloc.rpartition("@")[2])
    if valid_host is None:
        return "the proxy's host is no valid host name or address"
    if parts.username is None:
        return Proxy(scheme, valid_host, port)
    return _with_credentials(Proxy(scheme, valid_host, port), unquote(parts.username), unquote(parts.password or ""))


def _with_credentials(proxy: Proxy, user: str, password: str) -> Proxy | str:
    if not user or ":" in user:  # RFC 7617, section 2
        return "the proxy's user name is empty or has a colon in it"
    words = (user, password)
    if proxy.is_socks and not all(word.isascii() and 0 < len(word) <= _LONGEST_SOCKS_WORD for word in words):
        return "a SOCKS proxy takes a user name and a password of 1 to 255 ASCII characters each"
    return Proxy(proxy.scheme, proxy.host, proxy.port, Secret(f"{user}:{password}"))
