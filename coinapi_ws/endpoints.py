"""The named endpoints, and any other WebSocket URL (vendor_notes.md, "Endpoints")."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import quote, urlsplit

from .exceptions import ConfigurationError

NAMED_ENDPOINTS: Final = {
    "geo": "wss://ws.coinapi.io/v1/",
    "ncsa": "wss://api-ncsa.coinapi.io/v1/",
    "emea": "wss://api-emea.coinapi.io/v1/",
    "apac": "wss://api-apac.coinapi.io/v1/",
    "exrates": "wss://api-realtime.exrates.coinapi.io/",
}
_DS_SUFFIX: Final = ".ws-ds.md.coinapi.io"
#: How a cross-connect, or a region, names WS DS of one exchange.
_DS_PATH: Final = re.compile(r"/md/ws-ds-[^/]+(/|$)")
_VENDOR_DOMAIN: Final = ".coinapi.io"
_EXRATES_HOST: Final = "api-realtime.exrates.coinapi.io"
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_MAX_HOST_LENGTH: Final = 253  # RFC 1035, section 2.3.4


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect; made by :func:`endpoint_from`.

    ``scheme`` is "ws" or "wss", ``product`` "market", "ds" or "exrates"; the query string is never printed.
    """

    scheme: str
    host: str
    port: int
    path: str
    product: str
    query: str = field(default="", repr=False)

    @property
    def tls(self) -> bool:
        """True for ``wss``."""
        return self.scheme == "wss"

    @property
    def target(self) -> str:
        """The request target: path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def authority(self) -> str:
        """Host and, where it is not the default, port, as the Host header wants it."""
        with_port = host_and_port(self.host, self.port)
        return with_port.rpartition(":")[0] if self.port == _DEFAULT_PORTS[self.scheme] else with_port

    @property
    def is_vendor(self) -> bool:
        """True for the vendor's own hosts."""
        return self.host.endswith(_VENDOR_DOMAIN)

    @property
    def is_loopback(self) -> bool:
        """True where the host cannot be another machine."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def endpoint_from(name_or_url: str | Endpoint) -> Endpoint:
    """Return the endpoint of a name (geo, ncsa, emea, apac, exrates, ds:<exchange>) or of a URL.

    A URL is of the Market Data product unless its host, or a path ``/md/ws-ds-<exchange>/``, says otherwise, or it is
    written as ``exrates:URL`` or ``ds:URL``: so a proxy, or a simulator, serves the other products.

    Raises ``ConfigurationError`` for anything else, without repeating what may hold a secret.
    """
    endpoint = read_endpoint(name_or_url)
    if isinstance(endpoint, Endpoint):
        return endpoint
    del name_or_url  # it may hold a key, and a traceback may be printed with its locals
    raise endpoint


def read_endpoint(name_or_url: object) -> Endpoint | ConfigurationError:
    """Return the endpoint, or the error to raise once the caller has replaced its own plain local by it."""
    if isinstance(name_or_url, Endpoint):
        return name_or_url
    if not isinstance(name_or_url, str):
        return ConfigurationError(f"an endpoint is a name or a URL, not {type(name_or_url).__name__}")
    endpoint = _read(name_or_url)
    return endpoint if isinstance(endpoint, Endpoint) else ConfigurationError(endpoint)


def _read(name_or_url: str) -> Endpoint | str:
    """Return the endpoint, or what is wrong with it."""
    product, colon, rest = name_or_url.partition(":")
    if colon and product in ("ds", "exrates") and "://" in rest:
        endpoint = _read_url(rest)
        return replace(endpoint, product=product) if isinstance(endpoint, Endpoint) else endpoint
    if colon and product == "ds":
        if not _LABEL.fullmatch(exchange := rest.lower()):
            return "ds:<exchange> needs an exchange id, such as ds:coinbase"
        return _read_url(f"wss://{exchange}{_DS_SUFFIX}/")
    if "://" in name_or_url:
        return _read_url(name_or_url)
    if name_or_url in NAMED_ENDPOINTS:
        return _read_url(NAMED_ENDPOINTS[name_or_url])
    known = ", ".join(NAMED_ENDPOINTS)
    return f"unknown endpoint; write {known}, ds:<exchange>, or a ws:// or wss:// URL (exrates:URL for that product)"


def _read_url(url: str) -> Endpoint | str:
    if re.search(r"[\x00-\x20\x7f\ud800-\udfff]", url):
        return "the endpoint URL has a space, a control character or half a character in it"
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        return "the endpoint URL cannot be read; write wss://host[:port]/path"
    if scheme not in _DEFAULT_PORTS:
        return "the endpoint URL must begin with wss:// or ws://"
    if parts.username is not None or parts.password is not None:
        return "the endpoint URL has a user name in it; pass the key as api_key instead"
    if re.search(r"(^|&)apikey=|/APIKEY-", f"{parts.query}&{parts.path}", re.IGNORECASE):
        return "the endpoint URL has the key in it; pass it as api_key, with auth='query' or auth='path'"
    if "#" in url:
        return "the endpoint URL has a fragment (#), which has no meaning here"
    if port == 0:
        return "the endpoint URL has port 0"
    valid_host = checked_host(host or "", in_brackets="[" in parts.netloc)
    if valid_host is None:
        return "the endpoint URL's host is no valid host name or address"
    return Endpoint(
        scheme=scheme,
        host=valid_host,
        port=port or _DEFAULT_PORTS[scheme],
        path=quote(parts.path, safe="/:@!$&'()*+,;=-._~%") or "/",
        product=_product(valid_host, parts.path),
        query=quote(parts.query, safe="/:@!$&'()*+,;=-._~%?"),
    )


def host_and_port(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether the host cannot be another machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def checked_host(host: str, *, in_brackets: bool) -> str | None:
    """Return the host as names and certificates are compared, or None where it is no valid name or address."""
    # wsproto would send whatever its idna codec makes of it, or raise (hazard W10).
    if in_brackets:
        try:
            return str(IPv6Address(host)) if host.isascii() else None
        except ValueError:
            return None
    try:
        ascii_host = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    ascii_host = ascii_host.removesuffix(".")  # no certificate and no check for the vendor's domain knows it
    labels = ascii_host.split(".")
    if len(ascii_host) > _MAX_HOST_LENGTH or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    return ascii_host


def _product(host: str, path: str) -> str:
    if host.endswith(_DS_SUFFIX) or _DS_PATH.match(path):
        return "ds"
    return "exrates" if host == _EXRATES_HOST else "market"
