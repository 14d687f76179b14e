"""Messages and events on stdout, in the formats of ``stream`` and ``replay``."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Final

from ..events import Gap, Undecodable
from ..messages import Heartbeat, Message
from .running import note, prepare_stdout
from .summary import Tally
from .text import HEADER, TextLines

#: So often what was written is flushed, also while nothing comes.
FLUSH_SECONDS: Final = 0.1


class Printer:
    """Writes items to stdout in one of the formats, and counts them."""

    def __init__(self, arguments: Namespace, tally: Tally, *, with_latency: bool, redact: Callable[[str], str]) -> None:
        self.tally = tally
        self._format: str = arguments.format
        self._redact = redact
        self._lines = TextLines(all_digits=arguments.decimal, with_latency=with_latency, redact=redact)
        prepare_stdout(as_text=self._format == "text")
        self._write = sys.stdout.write
        if self._format == "text" and sys.stdout.isatty():
            self._write(f"{HEADER}\n")

    def take(self, item: Message | Gap | Undecodable) -> None:
        """Write one item, and count it, as its kind demands."""
        if not isinstance(item, Heartbeat):
            self.tally.add(item)
        payload = item.raw if isinstance(item, Message) else getattr(item, "payload", None)
        if isinstance(payload, str) and self._is_printed_as_frame(item):
            # A line break is possible between the tokens of JSON alone.
            one_line = self._redact(payload).replace("\r", " ").replace("\n", " ")
            self._write(f"{one_line}\n")
        elif isinstance(item, Heartbeat):
            return
        elif self._format == "text":
            self._write(f"{self._lines.line(item)}\n")
        else:
            note(self._lines.line(item))

    def _is_printed_as_frame(self, item: object) -> bool:
        if self._format == "json":
            return isinstance(item, Message) and not isinstance(item, Heartbeat)
        return self._format == "raw"
