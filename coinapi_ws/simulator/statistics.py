"""What a simulator counted, without secrets. Written by its thread alone, read by others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from coinapi_ws.newest import Newest

from .keys import UpgradeRequest

MAX_KEPT: Final = 10_000  # of what clients sent; a simulator may run for days


@dataclass
class Statistics:
    """Counters and the newest texts and requests."""

    received: Newest[str] = field(default_factory=lambda: Newest(MAX_KEPT))
    requests: Newest[UpgradeRequest] = field(default_factory=lambda: Newest(MAX_KEPT))
    requests_refused: Newest[UpgradeRequest] = field(default_factory=lambda: Newest(MAX_KEPT))
    closes: Newest[tuple[int, str]] = field(default_factory=lambda: Newest(MAX_KEPT))
    frames_sent: Counter[str] = field(default_factory=Counter)
    frames_lost: Counter[str] = field(default_factory=Counter)
    pings_sent: int = 0
    pongs_received: int = 0
