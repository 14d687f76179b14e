"""The states of a session and what moves it between them, as data that the code reads."""

from __future__ import annotations

from enum import Enum
from typing import Final


class SessionState(Enum):
    """Where a session stands."""

    CONNECTING = "connecting"  #: no upgrade yet
    OPEN = "open"  #: upgraded; the hello proves nothing yet
    LIVE = "live"  #: data or a heartbeat came
    CLOSING = "closing"  #: we sent a Close frame
    CLOSED = "closed"  #: ``Disconnected`` is out


class Step(Enum):
    """What moves a session from one state to another."""

    UPGRADED = "upgraded"  #: the server answered 101
    PROVEN = "proven"  #: the first data or heartbeat came
    CLOSE = "close"  #: we asked to close
    END = "end"  #: the connection is over, for whatever reason


#: All transitions there are; any other is a bug in this package.
TRANSITIONS: Final = {
    (SessionState.CONNECTING, Step.UPGRADED): SessionState.OPEN,
    (SessionState.CONNECTING, Step.END): SessionState.CLOSED,
    (SessionState.OPEN, Step.PROVEN): SessionState.LIVE,
    (SessionState.OPEN, Step.CLOSE): SessionState.CLOSING,
    (SessionState.OPEN, Step.END): SessionState.CLOSED,
    (SessionState.LIVE, Step.CLOSE): SessionState.CLOSING,
    (SessionState.LIVE, Step.END): SessionState.CLOSED,
    (SessionState.CLOSING, Step.END): SessionState.CLOSED,
}
