"""How an accepted socket becomes a client."""

from __future__ import annotations

import random
import socket
import ssl
from typing import TYPE_CHECKING

from .behaviour import Behaviour, Tampering
from .client import Client
from .connection import ServerConnection
from .conversation import Conversation, ConversationSettings
from .feeds import Feed, MarketFeed
from .gate import Gate
from .instruments import INSTRUMENTS
from .market import Market
from .replay import PreparedRecording, Replay
from .scope import Product
from .statistics import Statistics
from .transport import Transport

if TYPE_CHECKING:
    from .engine import Settings


class Intake:
    """Makes clients. Times are nanoseconds on the simulator's monotonic clock."""

    def __init__(
        self,
        settings: Settings,
        gate: Gate,
        market: Market,
        recording: PreparedRecording | None,
        statistics: Statistics,
    ) -> None:
        self._settings = settings
        self._gate = gate
        self._market = market
        self._recording = recording
        self._statistics = statistics
        self._conversation_settings = ConversationSettings(
            self._product(), settings.heartbeat_interval_ns, settings.buffer_limit
        )
        self._accepted = 0

    def take_in(
        self,
        accepted: socket.socket,
        address: str,
        ssl_context: ssl.SSLContext | None,
        behaviour: Behaviour,
        *,
        now_ns: int,
        wall_offset_ns: int,
    ) -> Client | None:
        """Return the client of a socket; None where it is gone already."""
        try:
            transport = Transport(accepted, ssl_context)
        except BaseException as error:
            accepted.close()
            if isinstance(error, OSError):
                return None
            raise
        self._accepted += 1
        served_ns = now_ns + behaviour.handshake_delay_ns
        connection = ServerConnection(
            self._statistics,
            address,
            self._gate.admit,
            now_ns=served_ns,
            ping_interval_ns=self._settings.ping_interval_ns,
            pong_timeout_ns=self._settings.pong_timeout_ns,
        )
        # Each connection has its own chance, which no other one's messages move.
        tampering = Tampering(self._statistics, random.Random(f"{self._settings.seed}/{self._accepted}"))
        feed = self._new_feed(tampering, wall_offset_ns)
        conversation = Conversation(connection, feed, self._gate, self._conversation_settings, self._statistics)
        client = Client(self._accepted, transport, conversation, served_ns=served_ns)
        client.behaviour = behaviour
        return client

    def _product(self) -> Product:
        exchange_id = self._settings.direct_source
        if exchange_id is None:
            return Product(is_exchange_rates=self._settings.exchange_rates)
        streams = self._market.streams if self._recording is None else self._recording.streams
        ours = {s.symbol_id for s in streams if s is not None and s.exchange_id == exchange_id}
        names = {symbol_id: symbol_id for symbol_id in ours if symbol_id is not None}
        names |= {i.exchange_symbol: i.symbol_id for i in INSTRUMENTS if i.symbol_id in ours}
        return Product(exchange_id, names)

    def _new_feed(self, tampering: Tampering, wall_offset_ns: int) -> Feed:
        product, settings = self._conversation_settings.product, self._settings
        if self._recording is None:
            return MarketFeed(self._market, product, tampering, wall_offset_ns=wall_offset_ns)
        return Replay(self._recording, product, tampering, self._statistics, speed=settings.speed, loop=settings.loop)
