"""API keys: found where clients put them, compared by their hash, never kept.

A key that arrived is hashed at once; what the simulator shows of a request has no key in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from .streams import DATA_TYPES

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


#: Stands for no key.
NO_KEY: Final = b""


class AcceptedKeys:
    """The keys that a simulator accepts, as hashes, and the data types that each may have.

    Takes keys, or a mapping from keys to data types (None: all of them); None accepts every client, also one
    without a key.
    """

    def __init__(self, keys: Iterable[str] | Mapping[str, Iterable[str] | None] | None) -> None:
        if isinstance(keys, str):
            raise TypeError("api_keys is an iterable of keys, not one key")
        self._privileges: dict[bytes, frozenset[str] | None] | None = None
        if keys is not None:
            pairs = dict(keys) if isinstance(keys, Mapping) else dict.fromkeys(keys)
            if not all(isinstance(key, str) for key in pairs):
                raise TypeError("an API key is text")
            self._privileges = {digest(key): _privileges(data_types) for key, data_types in pairs.items()}

    def accepted(self, presented: Sequence[bytes]) -> bytes | None:
        """Return the first accepted key of those presented, all given as hashes; None where there is none.

        Where every client is accepted, this is its first key or `NO_KEY`.
        """
        if self._privileges is None:
            return presented[0] if presented else NO_KEY
        return next((key for key in presented if key in self._privileges), None)

    def may_have(self, key: bytes, data_type: str) -> bool:
        """Tell whether an accepted key has the privilege to a data type."""
        privileges = None if self._privileges is None else self._privileges[key]
        return privileges is None or data_type in privileges

    def may_nothing(self, key: bytes) -> bool:
        """Tell whether an accepted key has no privilege at all."""
        return self._privileges is not None and self._privileges[key] == frozenset()


def _privileges(data_types: Iterable[str] | None) -> frozenset[str] | None:
    if data_types is None:
        return None
    if isinstance(data_types, str):
        raise TypeError("the data types of a key are an iterable of names, not one name")
    privileges = frozenset(data_types)
    unknown = sorted(privileges - frozenset(DATA_TYPES))
    if unknown:
        # Not which: a key may sit in the wrong place.
        raise ValueError(f"{len(unknown)} data types of a key are unknown; there are {', '.join(DATA_TYPES)}")
    return privileges


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
