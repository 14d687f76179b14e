"""The clients that are compared, by name: a way to use a package, and options after plus signs.

This module imports none of them: a client's process imports what it needs, and nothing of the others.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from ..meter import Meter
from ..mix import MARKETS, SHARES

#: Ours, and what the others need to be installed, by its import name.
OUR_WAYS: Final = ("stream", "selector", "inline", "dispatched", "framing")
_PACKAGES: Final = {
    "websocket-client": "websocket",
    "wsproto": "wsproto",
    "websockets-sync": "websockets",
    "websockets-asyncio": "websockets",
    "aiohttp": "aiohttp",
    "picows": "picows",
    "picows-framing": "picows",
}
#: What options need; "speed" is our extra of that name. Of the others see :func:`benchmarks.clients.peers.decoder`.
_OPTIONS: Final = {
    "speed": "msgspec",
    "msgspec": "msgspec",
    "orjson": "orjson",
    "uvloop": "uvloop",
    "wsaccel": "wsaccel",
}

OURS: Final = tuple(
    way + options
    for way in ("stream", "selector", "inline", "dispatched")
    for options in ("", "+speed", "+decimal", "+speed+decimal")
)
PEERS: Final = (
    "websocket-client+json",
    "websocket-client+wsaccel+json",
    "websocket-client+unchecked+json",
    "wsproto+json",
    "websockets-sync+json",
    "websockets-sync+orjson",
    "websockets-sync+json+decimal",
    "websockets-sync+decoder+decimal",
    "websockets-asyncio+json",
    "websockets-asyncio+uvloop+json",
    "websockets-asyncio+uvloop+orjson",
    "aiohttp+json",
    "aiohttp+uvloop+json",
    "aiohttp+uvloop+orjson",
    "picows+json",
    "picows+uvloop+json",
    "picows+orjson",
    "picows+uvloop+orjson",
    "picows+msgspec",
    "picows+uvloop+msgspec",
)
FRAMING: Final = ("framing", "picows-framing", "picows-framing+uvloop")
CLIENTS: Final = (*OURS, *PEERS)
LATENCY: Final = (
    *("stream", "stream+speed", "selector", "inline", "inline+speed", "dispatched", "dispatched+speed"),
    *("websocket-client+wsaccel+json", "websockets-sync+json", "websockets-asyncio+uvloop+orjson"),
    *("aiohttp+uvloop+orjson", "picows+json", "picows+uvloop+json", "picows+uvloop+orjson"),
)
MEMORY: Final = (
    *("stream", "stream+speed", "selector", "inline", "inline+speed", "dispatched", "dispatched+speed"),
    *("websockets-sync+json", "picows+json"),
)
#: picows' core API and websocket-client know no compression.
DEFLATING: Final = tuple(name for name in CLIENTS if not name.startswith(("picows", "websocket-client")))
#: These take so long that they get a tenth of the messages.
SLOW: Final = ("websocket-client+json",)

DISTRIBUTIONS: Final = (
    *("websocket-client", "wsaccel", "wsproto", "websockets", "aiohttp"),
    *("picows", "aiofastnet", "uvloop", "orjson", "msgspec"),
)

SYMBOL_IDS: Final = tuple(f"{market.symbol_id}$" for market in MARKETS)
HELLO: Final = (
    f'{{"type":"hello","heartbeat":false,"subscribe_data_type":{list(SHARES)},'
    f'"subscribe_filter_symbol_id":{list(SYMBOL_IDS)}}}'.replace("'", '"')
)


class Job(NamedTuple):
    """What a client's function gets: where to connect, and what counts what comes."""

    options: frozenset[str]
    url: str
    host: str
    port: int
    #: Trusts the blaster; None without TLS.
    context: ssl.SSLContext | None
    #: Offer permessage-deflate.
    deflate: bool
    meter: Meter


def missing(name: str) -> list[str]:
    """Return what would have to be installed for this client."""
    way, *options = name.split("+")
    needed = [_PACKAGES.get(way), *map(_OPTIONS.get, options)]
    return [module for module in needed if module and find_spec(module) is None]


def hidden(name: str) -> list[str]:
    """Return the modules that this client must not find: they would make it faster, and are not in its name."""
    way, *options = name.split("+")
    if way in OUR_WAYS:
        return [] if "speed" in options else ["msgspec", "orjson"]
    return [] if "wsaccel" in options else ["wsaccel"]


def gives(name: str) -> str:
    """Return what the callback gets."""
    way, *options = name.split("+")
    if way.endswith("framing"):
        return "frames"
    return "typed" if way in OUR_WAYS or "msgspec" in options else "dict"


def run(name: str, job: Job) -> None:
    """Run this client until its connection is closed."""
    way = name.split("+")[0]
    module: Any = import_module(f"{__name__}.{'ours' if way in OUR_WAYS else 'peers'}")
    function: Callable[[Job], None] = module.WAYS[way]
    function(job)
