"""The pure core: no socket, no clock, no thread, no log, no randomness of its own. Time and bytes are passed in."""

from __future__ import annotations

from .frames import Frame, Frames
from .pacing import Pacer
from .reconnect import Backoff
from .session import Session
from .states import SessionState
from .websocket import WebSocket

__all__ = ["Backoff", "Frame", "Frames", "Pacer", "Session", "SessionState", "WebSocket"]
