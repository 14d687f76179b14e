"""The synthetic market: deterministic, from a seed, moved by whoever knows the time. No clock, no thread.

Everything that happens is one step of `Market`, at `Market.next_ns`; a step returns what it published, as
bodies that are shared by all clients. What is asked of a step does not change what happens in it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from . import encoding
from .candles import PERIOD_SECONDS, Candle
from .instruments import ASSETS, EXCHANGES, INSTRUMENTS, PAIRS, Asset, Instrument
from .streams import Stream
from .venue import Activity, Venue
from .wire import NS_PER_SECOND, decimal_text

#: [F] An exchange rate is published each 100 ms.
EXRATE_INTERVAL_NS: Final = 100_000_000
#: book20, book50 and candles come this long after the full second: later than any exchange's latency.
SECOND_PHASE_NS: Final = 50_000_000
#: The documentation says "from time to time" of metadata.
METADATA_INTERVAL_NS: Final = 300 * NS_PER_SECOND

_MICRO: Final = 1_000_000
_WALK_PARTS: Final = 40_000  # one step of the walk is at most a quarter of a basis point
_WALK_BOUND: Final = 4  # the walk stays within a quarter and four times of where it began
_RATE_DECIMALS: Final = 10

_EXRATES, _SECONDS, _METADATA = -3, -2, -1


class Publication(NamedTuple):
    """One message without what differs from client to client."""

    stream: Stream
    body: str


class Market:
    """All symbols, their books, trades, candles, rates and metadata.

    Takes the seed of its randomness. `open` starts it; then `step` is to be called at `next_ns`, again and
    again. All times are the wall clock in nanoseconds since the epoch. For one thread.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._uuid_base = self._rng.getrandbits(122)
        self._orders_and_trades = 0
        self._micro_usd = {asset_id: asset.price_micro_usd for asset_id, asset in ASSETS.items()}
        self._venues = [Venue(instrument, self._rng, self._count, self._fair(instrument)) for instrument in INSTRUMENTS]
        self._by_symbol = {venue.instrument.symbol_id: venue for venue in self._venues}
        self._by_pair = {
            pair: [v for v in self._venues if (v.instrument.base, v.instrument.quote) == pair] for pair in PAIRS
        }
        self._of_type = [
            {s.type: s for s in streams if s.type != "ohlcv"}
            for streams in (tuple(_instrument_streams(venue.instrument)) for venue in self._venues)
        ]
        #: Everything that can be subscribed.
        self.streams: tuple[Stream, ...] = tuple(_all_streams())
        self._timers: list[tuple[int, int]] = []
        self._start_ns = 0
        self._halted: set[int] = set()
        self._activity = 1.0

    @property
    def is_open(self) -> bool:
        """True once `open` was called."""
        return bool(self._timers)

    @property
    def next_ns(self) -> int:
        """When the next step is due. Only for an open market."""
        return self._timers[0][0]

    def open(self, start_ns: int) -> None:
        """Let time begin."""
        start_ns -= start_ns % 100
        self._start_ns = start_ns
        self._timers = [(start_ns + venue.next_delay_ns(), n) for n, venue in enumerate(self._venues)]
        self._timers.append((_next_multiple(start_ns, EXRATE_INTERVAL_NS), _EXRATES))
        self._timers.append((_next_multiple(start_ns, NS_PER_SECOND) + SECOND_PHASE_NS, _SECONDS))
        self._timers.append((start_ns + METADATA_INTERVAL_NS, _METADATA))
        heapq.heapify(self._timers)

    def step(self, wanted: Collection[Stream]) -> list[Publication]:
        """Let the next thing happen, and return what it published of the wanted streams, in its order."""
        now_ns, timer = self._timers[0]
        if timer >= 0:
            venue = self._venues[timer]
            activity = None
            if timer not in self._halted:
                self._walk(ASSETS[venue.instrument.base])
                activity = venue.act(now_ns, self._fair(venue.instrument))
            delay_ns = _scaled(venue.next_delay_ns(), 1 / self._activity)
            heapq.heapreplace(self._timers, (now_ns + max(100, delay_ns), timer))
            return [] if activity is None else self._of_activity(timer, activity, now_ns, wanted)
        if timer == _EXRATES:
            heapq.heapreplace(self._timers, (now_ns + EXRATE_INTERVAL_NS, timer))
            return self._exrates(now_ns, wanted)
        if timer == _SECONDS:
            heapq.heapreplace(self._timers, (now_ns + NS_PER_SECOND, timer))
            return self._each_second(now_ns, wanted)
        heapq.heapreplace(self._timers, (now_ns + METADATA_INTERVAL_NS, timer))
        return self.snapshots([s for s in self.streams if s.type in _METADATA_TYPES and s in wanted], now_ns)

    def snapshots(self, streams: Collection[Stream], now_ns: int) -> list[Publication]:
        """Return what a client gets first when these streams enter its scope."""
        publications = []
        for stream in streams:
            body = self._snapshot(stream, now_ns)
            if body is not None:
                publications.append(Publication(stream, body))
        return publications

    def move_price(self, asset_id: str, percent: float) -> None:
        """Let an asset jump; its books follow with their next trades."""
        asset = ASSETS[asset_id]
        self._micro_usd[asset_id] = _bounded(asset, round(self._micro_usd[asset_id] * (1 + percent / 100)))

    def halt(self, symbol_ids: Collection[str]) -> None:
        """Let nothing happen any more in these symbols."""
        self._halted.update(self._numbers(symbol_ids))

    def reopen(self, symbol_ids: Collection[str]) -> None:
        """Let things happen again in these symbols."""
        self._halted.difference_update(self._numbers(symbol_ids))

    def set_activity(self, factor: float) -> None:
        """Let everything that has no period of its own happen so many times as often as usual."""
        scale, self._activity = self._activity / factor, factor
        if self.is_open:
            # What was due after a long or short while at the old pace is due at the new one.
            next_ns = self.next_ns
            self._timers = [
                (next_ns + _scaled(due_ns - next_ns, scale) if n >= 0 else due_ns, n) for due_ns, n in self._timers
            ]
            heapq.heapify(self._timers)

    def _numbers(self, symbol_ids: Collection[str]) -> set[int]:
        return {n for n, venue in enumerate(self._venues) if venue.instrument.symbol_id in symbol_ids}

    def venue(self, symbol_id: str) -> Venue:
        """Return the state of one symbol, to look at."""
        return self._by_symbol[symbol_id]

    def _snapshot(self, stream: Stream, now_ns: int) -> str | None:
        start_ns = self._start_ns if self.is_open else now_ns
        if stream.type == "asset" and stream.base is not None:
            asset = ASSETS[stream.base]
            return encoding.asset_body(asset, self._micro_usd[asset.asset_id], start_ns, now_ns)
        if stream.type == "exchange" and stream.exchange_id is not None:
            return encoding.exchange_body(EXCHANGES[stream.exchange_id], start_ns, now_ns)
        if stream.symbol_id is None:
            return None
        venue = self._by_symbol[stream.symbol_id]
        if stream.type == "symbol":
            return encoding.symbol_body(venue, start_ns, now_ns)
        # On a busy machine more is due than has happened; a book says how far it is.
        now_ns = min(now_ns, self.next_ns - 100)
        if stream.type == "book":
            return encoding.book_snapshot_body(venue, now_ns)
        if stream.type == "book_l3":
            return encoding.l3_snapshot_body(venue, now_ns, self._uuid_base)
        return None

    def _of_activity(
        self, index: int, activity: Activity, now_ns: int, wanted: Collection[Stream]
    ) -> list[Publication]:
        venue, streams = self._venues[index], self._of_type[index]
        publications = [p for c in activity.over if (p := _candle(venue, c, wanted)) is not None]

        def publish(kind: str, body: str) -> None:
            publications.append(Publication(streams[kind], body))

        if activity.trade is not None and streams["trade"] in wanted:
            publish("trade", encoding.trade_body(venue, activity.trade, now_ns, self._uuid_base))
        if activity.asks or activity.bids:
            if streams["book"] in wanted:
                publish("book", encoding.book_delta_body(venue, now_ns, activity.asks, activity.bids))
            if "book_l3" in streams and streams["book_l3"] in wanted:
                orders = activity.ask_orders, activity.bid_orders
                publish("book_l3", encoding.l3_delta_body(venue, now_ns, *orders, self._uuid_base))
            if streams["book5"] in wanted:
                publish("book5", encoding.top_body(venue, now_ns, 5))
        if activity.quote_changed and streams["quote"] in wanted:
            publish("quote", encoding.quote_body(venue, now_ns))
        return publications

    def _each_second(self, now_ns: int, wanted: Collection[Stream]) -> list[Publication]:
        publications = []
        second_ns = now_ns - SECOND_PHASE_NS
        for venue, streams in zip(self._venues, self._of_type, strict=True):
            for depth in (20, 50):
                stream = streams[f"book{depth}"]
                if stream in wanted:
                    publications.append(Publication(stream, encoding.top_body(venue, now_ns, depth)))
            candles = (_candle(venue, candle, wanted) for candle in venue.candles.due(second_ns))
            publications.extend(p for p in candles if p is not None)
        return publications

    def _exrates(self, now_ns: int, wanted: Collection[Stream]) -> list[Publication]:
        publications = []
        for base, quote in PAIRS:
            stream = Stream("exrate", base=base, quote=quote)
            if stream in wanted:
                body = encoding.exrate_body(base, quote, now_ns, self._rate(base, quote))
                publications.append(Publication(stream, body))
        return publications

    def _rate(self, base: str, quote: str) -> str:
        """Return the mean of the middles of all books of the pair."""
        venues = self._by_pair[base, quote]
        doubled = sum(
            (v.asks.best + v.bids.best) * 10 ** (_RATE_DECIMALS - v.instrument.price_decimals) for v in venues
        )
        return decimal_text(doubled // (2 * len(venues)), _RATE_DECIMALS)

    def _walk(self, asset: Asset) -> None:
        price = self._micro_usd[asset.asset_id]
        step = max(1, price // _WALK_PARTS)
        price += int(self._rng.random() * (2 * step + 1)) - step
        self._micro_usd[asset.asset_id] = _bounded(asset, price)

    def _fair(self, instrument: Instrument) -> int:
        return int(self._micro_usd[instrument.base] * 10**instrument.price_decimals // _MICRO)

    def _count(self) -> int:
        self._orders_and_trades += 1
        return self._orders_and_trades


_METADATA_TYPES: Final = frozenset({"asset", "exchange", "symbol"})


def _scaled(duration_ns: int, factor: float) -> int:
    """Return a duration in whole units of 100 ns times a factor, in such units."""
    return int(duration_ns * factor / 100) * 100


def _bounded(asset: Asset, micro_usd: int) -> int:
    return min(max(micro_usd, asset.price_micro_usd // _WALK_BOUND), asset.price_micro_usd * _WALK_BOUND)


def _candle(venue: Venue, candle: Candle, wanted: Collection[Stream]) -> Publication | None:
    stream = _stream("ohlcv", venue.instrument, candle.period_id)
    if stream not in wanted:
        return None
    return Publication(stream, encoding.candle_body(venue.instrument, candle))


def _all_streams() -> Iterator[Stream]:
    for asset_id in ASSETS:
        yield Stream("asset", base=asset_id)
    for exchange_id in EXCHANGES:
        yield Stream("exchange", exchange_id=exchange_id)
    for instrument in INSTRUMENTS:
        yield from _instrument_streams(instrument)
    for base, quote in PAIRS:
        yield Stream("exrate", base=base, quote=quote)


def _instrument_streams(instrument: Instrument) -> Iterator[Stream]:
    for kind in ("symbol", "book", "book5", "book20", "book50", "quote", "trade"):
        yield _stream(kind, instrument)
    if instrument.has_l3:
        yield _stream("book_l3", instrument)
    for period_id in PERIOD_SECONDS:
        yield _stream("ohlcv", instrument, period_id)


def _stream(kind: str, instrument: Instrument, period_id: str | None = None) -> Stream:
    return Stream(kind, instrument.symbol_id, instrument.exchange_id, instrument.base, instrument.quote, period_id)


def _next_multiple(time_ns: int, interval_ns: int) -> int:
    return (time_ns // interval_ns + 1) * interval_ns
