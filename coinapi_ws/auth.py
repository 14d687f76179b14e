"""The API key, and where it travels (vendor_notes.md, "Authentication").

The key is a :class:`Secret` from the first line that sees it, also as a local variable, since tools that
print a traceback with its locals would print a plain string.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Callable
from typing import Final, NoReturn
from urllib.parse import quote

from .exceptions import ConfigurationError

API_KEY_VARIABLE: Final = "COINAPI_API_KEY"

#: Ways to send the key. A JWT travels in the Authorization header, beside one of the ways that leave it free.
AUTH_METHODS: Final = ("header", "query", "path", "authorization", "basic", "hello")
AUTH_METHODS_WITH_JWT: Final = ("header", "query", "path", "hello")

_LONGEST_METHOD: Final = 16
_REDACTED: Final = "***"
#: Anything shorter is no key, and replacing it would garble ordinary words.
_SHORTEST_REDACTED: Final = 6

_JSON_TEXT: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


class _Hidden:
    """What holds a secret on its way to the wire: equal to any other of its kind, but neither printed nor pickled.

    So a traceback with locals does not show it, nor the repr of what it is put into, such as wsproto's events (W1).
    What a method of str or bytes makes of it is plain again.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return _REDACTED

    __str__ = __repr__

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled; pass the key again where it is needed")


class HiddenText(_Hidden, str):
    __slots__ = ()
    __str__ = str.__str__


class HiddenBytes(_Hidden, bytes):
    __slots__ = ()


class HiddenBuffer(_Hidden, bytearray):
    __slots__ = ()


class Secret:
    """A string that never prints: not by ``str``, ``repr``, ``vars``, ``pickle`` or formatting. A copy is itself."""

    __slots__ = ("_forms", "_value")

    def __init__(self, value: str) -> None:
        # Anything else is found by is_sendable: raising here would show it.
        value = HiddenText(value if isinstance(value, str) else "")  # type: ignore[redundant-expr]
        self._value = value
        encoded = HiddenBytes(value.encode("utf-8", "surrogatepass"))  # the environment may hold what is no UTF-8
        # Each form that the key takes on the wire.
        is_long = len(value) >= _SHORTEST_REDACTED
        self._forms = tuple(map(HiddenText, {value, quote(encoded, safe=""), _basic(encoded)} if is_long else ()))

    def reveal(self) -> str:
        """Return the plain value; keep it out of local variables of code that may raise."""
        return str(self._value)

    @property
    def is_sendable(self) -> bool:
        """True for non-empty printable ASCII without spaces, and with no quote at either end."""
        return re.fullmatch(r"""(?!["'])[!-~]+(?<!["'])""", self._value) is not None

    def redact(self, text: str) -> str:
        """Replace the value, in each form it takes on the wire, by ``***``."""
        for form in self._forms:
            text = text.replace(form, _REDACTED)
        return text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return _REDACTED

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled; pass the key again where it is needed")

    def __getstate__(self) -> NoReturn:
        self.__reduce__()


def api_key_secret(api_key: str | Secret | None) -> Secret | None:
    """Return the given key, or the one of the environment variable COINAPI_API_KEY, or None.

    It never raises, so that a caller can replace its own plain local by the result before anything does.
    """
    if api_key is None:
        api_key = os.environ.get(API_KEY_VARIABLE) or None
    return api_key if api_key is None or isinstance(api_key, Secret) else Secret(api_key)


def check_sendable(secret: Secret, what: str) -> None:
    """Raise ``ConfigurationError`` unless a header can carry the secret, without showing it."""
    if not secret.is_sendable:
        raise ConfigurationError(
            f"{what} must be a non-empty string of printable ASCII without spaces; "
            "look for a newline or quotes around it"
        )


def check_method(auth: str, *, has_jwt: bool) -> None:
    """Raise ``ConfigurationError`` unless this way exists and goes together with a JWT, where there is one."""
    allowed = AUTH_METHODS_WITH_JWT if has_jwt else AUTH_METHODS
    if auth not in allowed:
        beside = " together with a JWT" if has_jwt else ""
        shown = repr(auth) if len(auth) <= _LONGEST_METHOD else "…"  # a longer one may be the key
        raise ConfigurationError(f"auth={shown} is not possible{beside}; write one of {', '.join(allowed)}")


def authorized_target(target: str, auth: str, key: Secret) -> str:
    """Return the request target with the key in it, for ``query`` and ``path``; else as it is."""
    if auth == "query":
        return HiddenText(f"{target}{'&' if '?' in target else '?'}apikey={quote(key.reveal(), safe='')}")
    if auth == "path":
        path, mark, query = target.partition("?")
        return HiddenText(f"{path.rstrip('/')}/APIKEY-{quote(key.reveal(), safe='')}{mark}{query}")
    return target


def authorization_headers(auth: str, key: Secret, jwt: Secret | None) -> list[tuple[bytes, bytes]]:
    """Return the headers that carry the key and the JWT; empty where they travel elsewhere."""
    headers: list[tuple[bytes, bytes]] = []
    encoded = HiddenBytes(key.reveal().encode())
    if auth == "header":
        headers.append((b"X-CoinAPI-Key", encoded))
    elif auth == "authorization":
        headers.append((b"Authorization", encoded))
    elif auth == "basic":
        headers.append((b"Authorization", HiddenBytes(b"Basic " + _basic(encoded).encode())))
    if jwt is not None:
        headers.append((b"Authorization", HiddenBytes(b"Bearer " + jwt.reveal().encode("ascii"))))
    return headers


def _basic(key: bytes) -> str:
    return b64encode(b"coinapi:" + key).decode()


def redact_json(text: str, redact: Callable[[str], str]) -> str:
    """Redact within the texts of valid JSON, where escapes would hide a secret from a plain search."""

    def redacted(literal: re.Match[str]) -> str:
        plain: str = json.loads(literal[0])
        shown = redact(plain)
        return literal[0] if shown == plain else json.dumps(shown)

    return _JSON_TEXT.sub(redacted, text)
