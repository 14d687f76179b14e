"""What this process takes of the machine."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import dataclass
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")
_MEMORY = Path("/proc/self/statm")


@dataclass(frozen=True)
class Footprint:
    """Threads, open descriptors, and resident memory; None where the system does not tell."""

    threads: int
    descriptors: int | None
    resident_bytes: int | None

    def __str__(self) -> str:
        resident = "?" if self.resident_bytes is None else f"{self.resident_bytes / 2**20:.1f}"
        return f"{self.threads} threads, {self.descriptors} descriptors, {resident} MiB resident"


def footprint() -> Footprint:
    """Measure, without what only waits to be collected."""
    gc.collect()
    return Footprint(
        threads=threading.active_count(),
        # Listing them takes one.
        descriptors=len(os.listdir(_DESCRIPTORS)) - 1 if _DESCRIPTORS.is_dir() else None,
        resident_bytes=int(_MEMORY.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if _MEMORY.exists() else None,
    )
