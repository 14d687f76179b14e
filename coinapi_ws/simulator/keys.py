"""API keys: found where clients put them, compared by their hash, never kept.

A key that arrived is hashed at once; what the simulator shows of a request has no key in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from .streams import DATA_TYPES

HIDDEN: Final = "***"
_PATH_PREFIX: Final = "APIKEY-"
_BASIC_USER: Final = "coinapi"
#: Whose values say nothing of a key; of all others only the scheme is shown, or nothing.
_SHOWN_HEADERS: Final = re.compile(
    r"host|user-agent|connection|upgrade|origin|pragma|cache-control|accept.*|content-.*|sec-websocket-.*"
)
#: What is longer may be a key, wherever it stands; what the API itself takes is known by its name.
_MAX_SHOWN: Final = 16
_SHOWN_FIELDS: Final = re.compile(r"type|heartbeat|subscribe_\w+")


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
    """Return the request without its secrets, and without what may be one in the wrong place."""
    path, mark, query = target.partition("?")
    segments = "/".join(map(_shown_segment, path.split("/")))
    parameters = "&".join(map(_shown_parameter, query.split("&")))
    shown = [(n.decode("latin-1"), _shown_header(n.decode("latin-1"), v.decode("latin-1"))) for n, v in headers]
    return UpgradeRequest(segments + mark + parameters, tuple(shown))


def shown_text(text: str) -> str:
    """Return a client's text frame without the API key; of what is no JSON object only how long it was."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return f"({len(text)} characters that are no JSON object)"
    shown = {name: content if _may_show(name, content) else HIDDEN for name, content in value.items()}
    # Byte for byte as it came, where nothing is to be hidden.
    return text if shown == value else json.dumps(shown, separators=(",", ":"), ensure_ascii=False)


def _may_show(name: str, content: object) -> bool:
    if _may_name_a_key(name):
        return False
    return _SHOWN_FIELDS.fullmatch(name) is not None or len(json.dumps(content)) <= _MAX_SHOWN


def _shown_segment(segment: str) -> str:
    if segment.upper().startswith(_PATH_PREFIX):
        return _PATH_PREFIX + HIDDEN
    return segment if len(segment) <= _MAX_SHOWN else HIDDEN


def _shown_parameter(parameter: str) -> str:
    name, mark, value = parameter.partition("=")
    if len(name) > _MAX_SHOWN:
        return HIDDEN
    is_hidden = bool(mark) and (_may_name_a_key(name) or len(value) > _MAX_SHOWN)
    return f"{name}={HIDDEN}" if is_hidden else parameter


def _shown_header(name: str, value: str) -> str:
    if name.lower() == "authorization":
        scheme, space, _ = value.partition(" ")
        return f"{scheme} {HIDDEN}" if space else HIDDEN
    is_harmless = _SHOWN_HEADERS.fullmatch(name.lower()) and "@" not in value
    return value if is_harmless else HIDDEN


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
