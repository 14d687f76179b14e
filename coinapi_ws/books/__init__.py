"""Order books, candles and trades that can be trusted, out of the messages of any client, stream or recording.

::

    from coinapi_ws.books import BookState, L2Book

    book = L2Book("COINBASE_SPOT_BTC_USD")
    for item in stream:
        if isinstance(item, (Book, SequenceGap)):
            book.apply(item)
            if book.state is BookState.LIVE:
                print(book.best_bid, book.best_ask, book.asks.depth(10))

All but one are pure: messages, and where it matters the time, go in, results come out. They have no thread and do not
block; each object belongs to one thread, and what it returns may go to any other. :class:`BookKeeper` keeps the books
of a :class:`~coinapi_ws.Client` on that one's threads, and any thread reads them.
"""

from __future__ import annotations

from ..sides import L2Side, L3Side, QueuePosition, Side
from .books import BookSnapshot, BookState, L2Book, L3Book, L3Snapshot
from .candles import CandleClosed, CandleCorrected, CandleResult, CandleRunning, Candles
from .keeper import BookEvent, BookKeeper, BookLive, BookStale, BookUpdated, KeeperStats
from .trades import CheckedTrade, Trades

__all__ = [
    "L2Book",
    "L3Book",
    "BookState",
    "BookSnapshot",
    "L3Snapshot",
    "Side",
    "L2Side",
    "L3Side",
    "QueuePosition",
    "BookKeeper",
    "BookEvent",
    "BookUpdated",
    "BookLive",
    "BookStale",
    "KeeperStats",
    "Candles",
    "CandleResult",
    "CandleRunning",
    "CandleClosed",
    "CandleCorrected",
    "Trades",
    "CheckedTrade",
]
