"""The states of a client."""

from __future__ import annotations

from enum import Enum


class ClientState(Enum):
    """Where a client stands."""

    IDLE = "idle"  #: not started
    CONNECTING = "connecting"  #: no data and no heartbeat yet
    LIVE = "live"  #: data or a heartbeat came
    WAITING = "waiting"  #: for the next attempt
    PARKED = "parked"  #: nothing is subscribed to, so there is no connection
    CLOSING = "closing"
    CLOSED = "closed"
