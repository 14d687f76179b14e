"""How long imports take, as python -X importtime tells it."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Final

IMPORTS: Final = ("coinapi_ws", "wsproto, ssl, json, selectors, threading", "coinapi_ws with msgspec")
_LINE: Final = re.compile(r"^import time: +\d+ \| +(\d+) \| (\S+)$", re.MULTILINE)


def import_ms(what: str) -> float:
    """Return the milliseconds that a new interpreter takes to import this."""
    names, _, extra = what.partition(" with ")
    hiding = "" if extra else "import sys; sys.modules['msgspec'] = sys.modules['orjson'] = None; "
    command = [sys.executable, "-X", "importtime", "-c", f"{hiding}import {names}"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    # A module's name is indented where another one imports it, and then it is in that one's time.
    return sum(int(micros) for micros, name in _LINE.findall(finished.stderr) if name in names.split(", ")) / 1e3
