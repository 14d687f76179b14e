"""A synchronous client for CoinAPI's Market Data WebSocket API V1.

Public is what ``__all__`` names and README documents. A name is loaded when it is first asked for, together with all
that it will ever need, so that nothing is imported later, on another thread or after a fork.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ._version import __version__

if TYPE_CHECKING:
    from .auth import Secret
    from .client.client import Client
    from .client.states import ClientState
    from .client.statistics import ClientStats, Latency
    from .drivers.blocking import Stream, StreamStats, connect
    from .drivers.selector import SelectorConnection
    from .endpoints import Endpoint, endpoint_from
    from .events import (
        CallbackFailed,
        Cause,
        Connected,
        ConnectionGap,
        Disconnected,
        Dropped,
        Event,
        Gap,
        HandedOver,
        HandoverFailed,
        Live,
        Quiet,
        Reconnecting,
        SequenceGap,
        Undecodable,
    )
    from .exceptions import (
        AuthenticationError,
        CertificateError,
        CoinAPIError,
        ConfigurationError,
        ConnectError,
        ConnectionClosed,
        ConnectTimeout,
        HandshakeRejected,
        PermissionDenied,
        ProtocolError,
        ProxyError,
        RateLimited,
        ServerRejected,
        SlowConsumerError,
        UsageError,
    )
    from .messages import (
        Asset,
        Book,
        BookL3,
        ErrorMessage,
        Exchange,
        ExchangeRate,
        Heartbeat,
        Level,
        LevelL3,
        Message,
        Ohlcv,
        Quote,
        ReconnectNotice,
        Symbol,
        Trade,
        UnknownMessage,
    )
    from .options import Options
    from .protocol.frames import Frame, Frames
    from .protocol.pacing import Pacer
    from .protocol.reconnect import Backoff
    from .protocol.session import Session, SessionStats
    from .protocol.states import SessionState
    from .protocol.websocket import WebSocket
    from .proxies import Proxy, proxy_from
    from .scope import Scope
    from .subscription import Subscription, SubscriptionWarning

__all__ = [
    "Asset",
    "AuthenticationError",
    "Backoff",
    "Book",
    "BookL3",
    "CallbackFailed",
    "Cause",
    "CertificateError",
    "Client",
    "ClientState",
    "ClientStats",
    "CoinAPIError",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "Connected",
    "ConnectionClosed",
    "ConnectionGap",
    "Disconnected",
    "Dropped",
    "Endpoint",
    "ErrorMessage",
    "Event",
    "Exchange",
    "ExchangeRate",
    "Frame",
    "Frames",
    "Gap",
    "HandedOver",
    "HandoverFailed",
    "HandshakeRejected",
    "Heartbeat",
    "Latency",
    "Level",
    "LevelL3",
    "Live",
    "Message",
    "Ohlcv",
    "Options",
    "Pacer",
    "PermissionDenied",
    "ProtocolError",
    "Proxy",
    "ProxyError",
    "Quiet",
    "Quote",
    "RateLimited",
    "ReconnectNotice",
    "Reconnecting",
    "Scope",
    "Secret",
    "SelectorConnection",
    "SequenceGap",
    "ServerRejected",
    "Session",
    "SessionState",
    "SessionStats",
    "SlowConsumerError",
    "Stream",
    "StreamStats",
    "Subscription",
    "SubscriptionWarning",
    "Symbol",
    "Trade",
    "Undecodable",
    "UnknownMessage",
    "UsageError",
    "WebSocket",
    "__version__",
    "connect",
    "endpoint_from",
    "proxy_from",
]


#: From the modules to the names above that are theirs.
_NAMES_OF: Final = {
    "auth": "Secret",
    "client.client": "Client",
    "client.states": "ClientState",
    "client.statistics": "ClientStats Latency",
    "drivers.blocking": "Stream StreamStats connect",
    "drivers.selector": "SelectorConnection",
    "endpoints": "Endpoint endpoint_from",
    "events": (
        "CallbackFailed Cause Connected ConnectionGap Disconnected Dropped Event Gap HandedOver HandoverFailed "
        "Live Quiet Reconnecting SequenceGap Undecodable"
    ),
    "exceptions": (
        "AuthenticationError CertificateError CoinAPIError ConfigurationError ConnectError ConnectionClosed "
        "ConnectTimeout HandshakeRejected PermissionDenied ProtocolError ProxyError RateLimited ServerRejected "
        "SlowConsumerError UsageError"
    ),
    "messages": (
        "Asset Book BookL3 ErrorMessage Exchange ExchangeRate Heartbeat Level LevelL3 Message Ohlcv Quote "
        "ReconnectNotice Symbol Trade UnknownMessage"
    ),
    "options": "Options",
    "protocol.frames": "Frame Frames",
    "protocol.pacing": "Pacer",
    "protocol.reconnect": "Backoff",
    "protocol.session": "Session SessionStats",
    "protocol.states": "SessionState",
    "protocol.websocket": "WebSocket",
    "proxies": "Proxy proxy_from",
    "scope": "Scope",
    "subscription": "Subscription SubscriptionWarning",
}

_HOMES: Final = {name: home for home, names in _NAMES_OF.items() for name in names.split()}
_MODULES: Final = {home.partition(".")[0] for home in _NAMES_OF}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    # Two threads may both ask; the import system has one of them wait for the other.
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
