"""What a simulator counted, without secrets. Written by its thread alone, read by others."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from .keys import UpgradeRequest

MAX_KEPT: Final = 10_000  # of what clients sent; a simulator may run for days


@dataclass
class Statistics:
    """Counters and the newest texts and requests."""

    received: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))
    requests: deque[UpgradeRequest] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))
    requests_refused: deque[UpgradeRequest] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))
    closes: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))
    frames_sent: Counter[str] = field(default_factory=Counter)
    frames_lost: Counter[str] = field(default_factory=Counter)
    pings_sent: int = 0
    pongs_received: int = 0
