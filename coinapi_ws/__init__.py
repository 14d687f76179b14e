"""A synchronous client for CoinAPI's Market Data WebSocket API V1.

Public is what ``__all__`` names and README documents.
"""

from __future__ import annotations

from ._version import __version__
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
from .subscription import Scope, Subscription, SubscriptionWarning

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
