"""The errors that this package raises.

::

    CoinAPIError
    ├── ConfigurationError (ValueError)     an option or a subscription is wrong
    ├── UsageError (RuntimeError)           a call came at the wrong time or from the wrong thread
    ├── ConnectError (OSError)              no connection came about
    │   ├── ConnectTimeout (TimeoutError)
    │   ├── CertificateError
    │   └── ProxyError
    ├── AuthenticationError                 the server refused the API key
    ├── PermissionDenied                    the key lacks a privilege
    ├── RateLimited                         too many upgrades, hellos, connections or requests
    ├── HandshakeRejected                   any other refusal of the upgrade
    ├── ServerRejected                      any other ``error`` message that ended the connection, or REST status
    ├── ConnectionClosed                    the connection is over
    ├── ProtocolError                       the peer broke its protocol, or sent too much
    └── SlowConsumerError                   messages were not taken in time

Every error that ended a connection carries the :class:`~coinapi_ws.Disconnected` event with all
that is known, as ``disconnected``. Texts are built from allow-listed facts: no key, no query string
and no payload is ever in ``str()`` or ``repr()`` of an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import Disconnected

__all__ = [
    "AuthenticationError",
    "CertificateError",
    "CoinAPIError",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionClosed",
    "HandshakeRejected",
    "PermissionDenied",
    "ProtocolError",
    "ProxyError",
    "RateLimited",
    "ServerRejected",
    "SlowConsumerError",
    "UsageError",
]


class CoinAPIError(Exception):
    """Base of every error of this package."""

    #: What is known of the connection's end; None where there was no connection.
    disconnected: Disconnected | None = None


class ConfigurationError(CoinAPIError, ValueError):
    """An option, endpoint, key or subscription is wrong; the text says what to write instead."""


class UsageError(CoinAPIError, RuntimeError):
    """A call came in the wrong state, from the wrong thread, or after the end."""


class ConnectError(CoinAPIError, OSError):
    """No connection came about: name resolution, TCP, TLS, or silence where a server should be."""


class ConnectTimeout(ConnectError, TimeoutError):
    """The deadline passed before the connection was up, before it showed any life, or before an answer was whole."""


class CertificateError(ConnectError):
    """The server's TLS certificate is not valid for the host."""


class ProxyError(ConnectError):
    """The proxy could not be reached, or refused."""


class _Refusal(CoinAPIError):
    """What all refusals by the server have in common."""

    @property
    def stage(self) -> str | None:
        """``"upgrade"``, ``"hello"`` or ``"rest"``: where the server refused."""
        return None if self.disconnected is None else self.disconnected.stage

    @property
    def status(self) -> int | None:
        """The HTTP status of a refused upgrade or request, else None."""
        return None if self.disconnected is None else self.disconnected.status

    @property
    def server_text(self) -> str | None:
        """The server's own words, the key redacted: an ``error`` message or a short response body."""
        return None if self.disconnected is None else self.disconnected.server_text

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before trying again, where the server said so."""
        return None if self.disconnected is None else self.disconnected.retry_after


class AuthenticationError(_Refusal):
    """The server refused the API key."""


class PermissionDenied(_Refusal):
    """The API key is known but lacks a privilege for what was asked."""


class RateLimited(_Refusal):
    """A limit of the server on upgrades, hellos, connections or requests was exceeded."""


class HandshakeRejected(_Refusal):
    """The server answered the upgrade with something else than 101, for no reason named above."""


class ServerRejected(_Refusal):
    """The server sent an ``error`` message and closed, or refused a request of REST, for no reason named above."""


class ConnectionClosed(CoinAPIError):
    """The connection is over, perhaps in the middle of an answer; ``disconnected`` has all that is known."""

    @property
    def code(self) -> int | None:
        """The WebSocket close code; 1006 where the connection ended without a Close frame."""
        return None if self.disconnected is None else self.disconnected.code

    @property
    def reason(self) -> str | None:
        """The close reason as text, the key redacted."""
        return None if self.disconnected is None else self.disconnected.reason


class ProtocolError(CoinAPIError):
    """The peer broke its protocol (RFC 6455, RFC 7692; of REST HTTP and JSON), or sent more than the limits allow."""


class SlowConsumerError(CoinAPIError):
    """Messages were not taken in time and the connection was given up."""
