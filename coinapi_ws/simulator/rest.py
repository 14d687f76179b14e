"""The REST API's lists of exchanges, assets and symbols: which request asks for one, and its body. Pure.

Our own reading of the vendor's words: ids of ``filter_symbol_id`` are parts of a symbol's id, the others are whole ids;
of several in one filter any will do, and of several filters each has to.
"""

from __future__ import annotations

import gzip
import re
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote

import h11

from .gate import Answer
from .limits import Headers
from .market import Market
from .streams import Stream

_OK: Final = 200
_TYPES: Final = {"exchanges": "exchange", "assets": "asset", "symbols": "symbol"}


class RestRequest(NamedTuple):
    """A request for one of the lists: of which type, and of which exchange alone, None for all."""

    type: str
    exchange_id: str | None
    target: str
    headers: Headers


def request_of(head: bytes) -> RestRequest | None:
    """Return the request of a whole head, None where it asks for none of the lists."""
    try:
        server = h11.Connection(h11.SERVER)
        server.receive_data(head)
        request = server.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(request, h11.Request) or any(name == b"upgrade" for name, _ in request.headers):
        return None
    target = request.target.decode("latin-1")
    version, _, path = target.partition("?")[0].lstrip("/").partition("/")
    name, has_exchange, exchange_id = path.partition("/")
    if version != "v1" or name not in _TYPES or (has_exchange and name != "symbols"):
        return None
    return RestRequest(_TYPES[name], unquote(exchange_id) if has_exchange else None, target, list(request.headers))


def listing(request: RestRequest, market: Market, now_ns: int, headers: Headers) -> Answer:
    """Return the answer to a request that is let in, at a wall clock's time, with these headers too."""
    query = parse_qs(request.target.partition("?")[2])
    filters = {name: re.split("[,;]", ",".join(values)) for name, values in query.items()}
    wanted = [stream for stream in market.streams if stream.type == request.type and _is_wanted(stream, filters)]
    if request.exchange_id is not None:
        wanted = [stream for stream in wanted if stream.exchange_id == request.exchange_id]
    body = f"[{','.join(f'{found.body}}}' for found in market.snapshots(wanted, now_ns))}]".encode()
    headers = [(b"Content-Type", b"application/json; charset=utf-8"), *headers]
    if b"gzip" in dict(request.headers).get(b"accept-encoding", b""):
        body = gzip.compress(body, mtime=0)
        headers.append((b"Content-Encoding", b"gzip"))
    return Answer(_OK, tuple(headers), (body,))


def _is_wanted(stream: Stream, filters: dict[str, list[str]]) -> bool:
    symbol_id = stream.symbol_id or ""
    return (
        any(part in symbol_id for part in filters.get("filter_symbol_id", [""]))
        and stream.exchange_id in filters.get("filter_exchange_id", [stream.exchange_id])
        and not {stream.base, stream.quote}.isdisjoint(filters.get("filter_asset_id", [stream.base]))
    )
