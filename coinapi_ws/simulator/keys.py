"""API keys: found where clients put them, compared by their hash, never kept.

A key that arrived is hashed at once; what the simulator shows of a request has no key in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

HIDDEN: Final = "***"
_PATH_PREFIX: Final = "APIKEY-"
_BASIC_USER: Final = "coinapi"
_HIDDEN_HEADERS: Final = frozenset({"cookie", "proxy-authorization"})
# The value may be cut off by the end of a malformed text.
_KEY_IN_JSON: Final = re.compile(r'("(?:[^"\\]|\\.)*"\s*:\s*")((?:[^"\\]|\\.)*)', re.DOTALL)


class UpgradeRequest(NamedTuple):
    """An upgrade request as `Simulator.requests` shows it: every secret is ``***``."""

    target: str
    headers: tuple[tuple[str, str], ...]


class AcceptedKeys:
    """The keys that a simulator accepts, as hashes; None accepts every client, also one without a key."""

    def __init__(self, keys: Iterable[str] | None) -> None:
        if isinstance(keys, str):
            raise TypeError("api_keys is an iterable of keys, not one key")
        self._digests = None if keys is None else frozenset(digest(key) for key in keys)

    def accept(self, presented: Iterable[bytes]) -> bool:
        """Tell whether one of the presented keys, given as hashes, is accepted."""
        return self._digests is None or not self._digests.isdisjoint(presented)


def digest(key: str) -> bytes:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def presented_keys(target: str, headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the hashes of all keys that an upgrade request carries, wherever they are."""
    path, _, query = target.partition("?")
    keys = [unquote_plus(v) for n, _, v in (p.partition("=") for p in query.split("&")) if n.lower() == "apikey"]
    segment = path.rstrip("/").rpartition("/")[2]
    if segment.upper().startswith(_PATH_PREFIX):
        keys.append(unquote_plus(segment[len(_PATH_PREFIX) :].replace("+", "%2B")))
    for name, raw in headers:
        value = raw.decode("latin-1").strip()
        if name.lower() == b"x-coinapi-key":
            keys.append(value)
        elif name.lower() == b"authorization":
            keys.extend(_authorization_key(value))
    return [digest(key) for key in keys if key]


def shown_request(target: str, headers: Iterable[tuple[bytes, bytes]]) -> UpgradeRequest:
    """Return the request without its secrets."""
    path, mark, query = target.partition("?")
    segments = (_PATH_PREFIX + HIDDEN if s.upper().startswith(_PATH_PREFIX) else s for s in path.split("/"))
    parameters = (
        f"{n}={HIDDEN}" if _may_name_a_key(n) else p for p in query.split("&") for n in (p.partition("=")[0],)
    )
    shown = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name.lower() in _HIDDEN_HEADERS or _may_name_a_key(name):
            value = HIDDEN
        elif name.lower() == "authorization":
            scheme, space, _ = value.partition(" ")
            value = f"{scheme} {HIDDEN}" if space else HIDDEN
        shown.append((name, value))
    return UpgradeRequest("/".join(segments) + mark + "&".join(parameters), tuple(shown))


def shown_text(text: str) -> str:
    """Return a client's text frame without the API key, whether or not it is sound JSON."""

    def hide(match: re.Match[str]) -> str:
        name = match.group(1).partition(":")[0].strip().strip('"')
        return match.group(1) + HIDDEN if _may_name_a_key(name) else match.group(0)

    return _KEY_IN_JSON.sub(hide, text)


def _may_name_a_key(name: str) -> bool:
    # A key under a wrong or an escaped name is refused, but a key all the same.
    return "key" in name.lower() or "\\" in name or "%" in name


def _authorization_key(value: str) -> list[str]:
    scheme, space, rest = value.partition(" ")
    if not space:
        return [value]
    if scheme.lower() != "basic":
        return []  # a JWT comes together with the key in another place
    try:
        user, _, password = base64.b64decode(rest, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return []
    return [password] if user == _BASIC_USER else []
