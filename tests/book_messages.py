"""Books, candles and trades in few words, and the messages of a synthetic market without a socket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from coinapi_ws import Book, BookL3, Level, LevelL3, Message
from coinapi_ws.decoding import Decoder
from coinapi_ws.simulator.encoding import seal
from coinapi_ws.simulator.market import Market
from coinapi_ws.simulator.streams import SEQUENCED_TYPES

SYMBOL: Final = "X_SPOT_A_B"
START_NS: Final = 1_767_225_600_000_000_000
SECOND_NS: Final = 1_000_000_000


def l2(
    asks: Iterable[tuple[Any, Any]] = (),
    bids: Iterable[tuple[Any, Any]] = (),
    *,
    sequence: int | None = None,
    is_snapshot: bool | None = False,
    **fields: Any,
) -> Book:
    """A `book` of (price, size); a change where nothing else is said."""
    sides = {"asks": [Level(*level) for level in asks], "bids": [Level(*level) for level in bids]}
    return Book(**{"symbol_id": SYMBOL, "sequence": sequence, "is_snapshot": is_snapshot, **sides, **fields})


def l3(
    asks: Iterable[tuple[Any, ...]] = (),
    bids: Iterable[tuple[Any, ...]] = (),
    *,
    sequence: int | None = None,
    is_snapshot: bool | None = False,
    **fields: Any,
) -> BookL3:
    """A `book_l3` of (price, size, id) and, of a change, the update type."""
    sides = {
        name: [LevelL3(*entry, *[None] * (4 - len(entry))) for entry in entries]
        for name, entries in (("asks", asks), ("bids", bids))
    }
    return BookL3(**{"symbol_id": SYMBOL, "sequence": sequence, "is_snapshot": is_snapshot, **sides, **fields})


def market_messages(types: set[str], seconds: float, numbers: str = "decimal", seed: int = 1) -> Iterator[Message]:
    """What one client of the synthetic market gets of these data types."""
    decoder, market, sequences = Decoder(numbers), Market(seed), Counter[object]()
    market.open(START_NS)
    wanted = {stream for stream in market.streams if stream.type in types}
    publications = market.snapshots([stream for stream in market.streams if stream in wanted], START_NS)
    while publications or market.next_ns < START_NS + seconds * SECOND_NS:
        for publication in publications:
            stream = publication.stream
            sequences[stream.type, stream.symbol_id] += 1
            sequence = sequences[stream.type, stream.symbol_id] if stream.type in SEQUENCED_TYPES else None
            message = decoder.decode(seal(publication.body, stream, sequence))
            assert isinstance(message, Message)
            yield message
        publications = market.step(wanted)
