"""How long imports take, as python -X importtime tells it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Final

IMPORTS: Final = (
    "import wsproto, ssl, json, selectors, threading",
    "import coinapi_ws",
    "from coinapi_ws import connect",
    "from coinapi_ws import Client",
    "from coinapi_ws import Client, with msgspec",
)
# A module's name is indented where another one imports it, and then it is in that one's time.
_LINE: Final = re.compile(r"^import time: +\d+ \| +(\d+) \| \S+$", re.MULTILINE)


def import_ms(what: str) -> float:
    """Return the milliseconds that a new interpreter takes for what this imports, from compiled files."""
    statement, _, extra = what.partition(", with ")
    hiding = "" if extra else "import sys; sys.modules['msgspec'] = sys.modules['orjson'] = None; "
    command = [sys.executable, "-X", "importtime", "-c", hiding + statement]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(2):  # the first one compiles what was not installed
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    _, _, after_start = run.stderr.partition("| site\n")
    return sum(int(micros) for micros in _LINE.findall(after_start)) / 1e3
