"""What a process takes of the machine."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import dataclass
from pathlib import Path

_PROCESSES = Path("/proc")
_DESCRIPTORS = _PROCESSES / "self/fd"
_MEMORY = _PROCESSES / "self/statm"


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
        resident_bytes=_resident_bytes(_MEMORY) if _MEMORY.exists() else None,
    )


def footprint_of(pid: int) -> Footprint:
    """Measure another process as it is, where the system has ``/proc``."""
    process = _PROCESSES / str(pid)
    return Footprint(
        threads=len(os.listdir(process / "task")),
        descriptors=len(os.listdir(process / "fd")),
        resident_bytes=_resident_bytes(process / "statm"),
    )


def _resident_bytes(statm: Path) -> int:
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
