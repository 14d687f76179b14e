"""What an update of an order book costs, in books of several sizes and beside public packages doing the same work.

1. Structures: books of --levels levels a side get changes of 1 to 5 levels near the top. The best 10 of both sides are
   read after each change, or after each tenth. All of them take the same messages, and end with the same best levels.
2. L2 on a recording (--recording FILE, with frames of book), and L3 on one that is made with the simulator. The
   best of both sides is read after each message.

Decoding is not measured, and all levels are built before. Only our books check sequences, and that a message is whole
before they take it. Peers that are not installed are left out: pip install order-book sortedcontainers. Tables are in
µs of CPU time an update, medians of --rounds.
"""

from __future__ import annotations

import argparse
import heapq
import random
import time
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from itertools import islice, product
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from coinapi_ws import Book, BookL3, Level, Subscription, connect
from coinapi_ws.books import L2Book, L3Book
from coinapi_ws.decoding import Decoder
from coinapi_ws.recording import read_recording
from coinapi_ws.simulator import Simulator, VirtualClock

from . import machine

try:
    import order_book
except ImportError:
    order_book = None
try:
    import sortedcontainers
except ImportError:
    sortedcontainers = None

SYMBOL: Final = "X_SPOT_A_B"
MIDDLE: Final = 1_000_000  # in ticks
NEAR_TICKS: Final = 20  # how far from the middle changes are, on average
SLOW_SHARE: Final = 20  # what reads a whole side gets a 20th of the updates
DUST: Final = 1e-9
L3_SYMBOL: Final = "COINBASE_SPOT_BTC_USD"
L3_ACTIVITY: Final = 20.0

Top = Any  # the levels of asks and bids, best first


class Ours:
    """coinapi_ws: a sorted list of prices, the best one last, and a dictionary of levels."""

    made: Any = L2Book

    def __init__(self) -> None:
        self.books: dict[Any, Any] = {}

    def take(self, message: Book | BookL3) -> None:
        if message.is_snapshot:
            self.books[message.symbol_id] = self.made(message.symbol_id)
        self.books[message.symbol_id].apply(message)

    def top(self, symbol_id: Any, count: int) -> Top:
        book = self.books[symbol_id]
        return book.asks.depth(count), book.bids.depth(count)

    def best(self, symbol_id: Any) -> Top:
        book = self.books[symbol_id]
        return book.best_ask, book.best_bid


class Plain(ABC):
    """What the others have in common: two mappings of price to size a symbol."""

    def __init__(self) -> None:
        self.books: dict[Any, Any] = {}

    def take(self, message: Book) -> None:
        if message.is_snapshot:
            self.books[message.symbol_id] = self.made(message)
        for side, levels in zip(self.books[message.symbol_id], (message.asks, message.bids), strict=True):
            for price, size in levels:
                if size:
                    side[price] = size
                elif price in side:
                    del side[price]

    def best(self, symbol_id: Any) -> Top:
        return tuple(levels[0] if levels else None for levels in self.top(symbol_id, 1))

    def made(self, message: Book) -> Any:
        return dict(message.asks), dict(message.bids)

    @abstractmethod
    def top(self, symbol_id: Any, count: int) -> Top: ...


class Smallest(Plain):
    """A dictionary, and heapq.nsmallest at each read."""

    def top(self, symbol_id: Any, count: int) -> Top:
        asks, bids = self.books[symbol_id]
        best_asks, best_bids = heapq.nsmallest(count, asks), heapq.nlargest(count, bids)
        return [(price, asks[price]) for price in best_asks], [(price, bids[price]) for price in best_bids]


class Lazy(dict[Any, Any]):
    """A dictionary that knows whether a price was added or removed."""

    ordered: list[Any] | None = None

    def __setitem__(self, price: Any, size: Any) -> None:
        if price not in self:
            self.ordered = None
        super().__setitem__(price, size)

    def __delitem__(self, price: Any) -> None:
        self.ordered = None
        super().__delitem__(price)


class LazilySorted(Plain):
    """A dictionary, sorted by the first read after a price was added or removed."""

    def made(self, message: Book) -> Any:
        return Lazy(message.asks), Lazy(message.bids)

    def top(self, symbol_id: Any, count: int) -> Top:
        return tuple(self.best_of(side, count, is_bids) for is_bids, side in enumerate(self.books[symbol_id]))

    def best_of(self, side: Lazy, count: int, is_bids: int) -> list[Any]:
        if side.ordered is None:
            side.ordered = sorted(side, reverse=bool(is_bids))
        return [(price, side[price]) for price in side.ordered[:count]]


class SortedKeys(dict[Any, Any]):
    """A dictionary with a sorted list of its keys."""

    def __init__(self, levels: Iterable[Any]) -> None:
        super().__init__(levels)
        self.keys_in_order = sorted(self)

    def __setitem__(self, price: Any, size: Any) -> None:
        if price not in self:
            insort(self.keys_in_order, price)
        super().__setitem__(price, size)

    def __delitem__(self, price: Any) -> None:
        super().__delitem__(price)
        del self.keys_in_order[bisect_left(self.keys_in_order, price)]


class LowestFirst(Plain):
    """A dictionary and a sorted list of prices, the lowest first on both sides: the best ask moves the whole list."""

    def made(self, message: Book) -> Any:
        return SortedKeys(message.asks), SortedKeys(message.bids)

    def top(self, symbol_id: Any, count: int) -> Top:
        asks, bids = self.books[symbol_id]
        best_asks, best_bids = asks.keys_in_order[:count], bids.keys_in_order[: -count - 1 : -1]
        return [(price, asks[price]) for price in best_asks], [(price, bids[price]) for price in best_bids]


class SortedContainers(Plain):
    """sortedcontainers.SortedDict, price to size."""

    def made(self, message: Book) -> Any:
        return sortedcontainers.SortedDict(message.asks), sortedcontainers.SortedDict(message.bids)

    def top(self, symbol_id: Any, count: int) -> Top:
        asks, bids = self.books[symbol_id]
        return list(islice(asks.items(), count)), list(islice(map(bids.peekitem, range(-1, -len(bids) - 1, -1)), count))

    def best(self, symbol_id: Any) -> Top:
        asks, bids = self.books[symbol_id]
        return asks.peekitem(0) if asks else None, bids.peekitem(-1) if bids else None


class OrderBook(Plain):
    """order-book, which is written in C."""

    def made(self, message: Book) -> Any:
        book = order_book.OrderBook()
        book.asks, book.bids = dict(message.asks), dict(message.bids)
        return book.asks, book.bids

    def top(self, symbol_id: Any, count: int) -> Top:
        return tuple([side.index(place) for place in range(min(count, len(side)))] for side in self.books[symbol_id])

    def best(self, symbol_id: Any) -> Top:
        asks, bids = self.books[symbol_id]
        return asks.index(0) if len(asks) else None, bids.index(0) if len(bids) else None


class OursL3(Ours):
    """coinapi_ws: orders by id in the order of their arrival, and the levels as in L2."""

    made = L3Book


class PlainL3(Plain):
    """A dictionary of orders a price, the prices in two sorted mappings, and the price of each order."""

    prices: tuple[dict[Any, Any], dict[Any, Any]]

    def take(self, message: BookL3) -> None:  # type: ignore[override]
        if message.is_snapshot:
            self.books[message.symbol_id], self.prices = self.sides(), ({}, {})
        sides = self.books[message.symbol_id]
        for side, prices, entries in zip(sides, self.prices, (message.asks, message.bids), strict=True):
            for price, size, order_id, update_type in entries:
                known, rest = prices.get(order_id), size
                if update_type not in ("ADD", "UPDATE", None):
                    if known is None:
                        continue
                    rest = 0 if update_type == "DELETE" else side[known][order_id] - size
                    # Subtracted floats leave dust, and with it orders and levels that are not there.
                    rest = rest if rest > DUST else 0
                    self.put(side, prices, known, known, rest, order_id)
                else:
                    self.put(side, prices, known, price, rest, order_id)

    def put(self, side: Any, prices: dict[Any, Any], known: Any, price: Any, size: Any, order_id: Any) -> None:
        if known is not None and (known != price or size <= 0):
            orders = side[known]
            del orders[order_id], prices[order_id]
            if not orders:
                del side[known]
        if size > 0:
            if price in side:
                side[price][order_id] = size
            else:
                side[price] = {order_id: size}
            prices[order_id] = price

    @abstractmethod
    def sides(self) -> Any: ...

    def top(self, symbol_id: Any, count: int) -> Top:
        return tuple(
            [(price, sum(orders.values())) for price, orders in side] for side in super().top(symbol_id, count)
        )


class SortedContainersL3(PlainL3, SortedContainers):
    """sortedcontainers.SortedDict, price to a dictionary of orders."""

    def sides(self) -> Any:
        return sortedcontainers.SortedDict(), sortedcontainers.SortedDict()

    def best(self, symbol_id: Any) -> Top:
        return tuple((price, sum(orders.values())) for price, orders in SortedContainers.best(self, symbol_id))


class OrderBookL3(PlainL3, OrderBook):
    """order-book, price to a dictionary of orders."""

    def sides(self) -> Any:
        book = order_book.OrderBook()
        return book.asks, book.bids

    def best(self, symbol_id: Any) -> Top:
        return tuple((price, sum(orders.values())) for price, orders in OrderBook.best(self, symbol_id))


class Column(NamedTuple):
    """Messages, and how they are read: what comes first is not counted, and each so many updates there is a read."""

    title: str
    messages: list[Any]
    read: Callable[[Any, Any], None]
    read_each: int = 1
    uncounted: int = 1


def changes(levels: int, count: int, number: Callable[[int, int], Any]) -> Iterator[Book]:
    """Yield a snapshot and changes of 1 to 5 levels near the top; about every fifth removes a level."""
    rng = random.Random(levels)
    taken = [{MIDDLE + way * (1 + 2 * place + rng.randrange(2)) for place in range(levels)} for way in (1, -1)]
    snapshot = [[Level(number(tick, 2), number(rng.randrange(1, 10**6), 3)) for tick in ticks] for ticks in taken]
    yield Book(symbol_id=SYMBOL, sequence=1, is_snapshot=True, asks=snapshot[0], bids=snapshot[1])
    for sequence in range(2, count + 2):
        changed: list[list[Level]] = [[], []]
        for _ in range(rng.randint(1, 5)):
            side = rng.randrange(2)
            tick = MIDDLE + (1, -1)[side] * (1 + min(int(rng.expovariate(1 / NEAR_TICKS)), 2 * levels))
            is_removed = tick in taken[side] and rng.random() < 0.35
            (taken[side].discard if is_removed else taken[side].add)(tick)
            changed[side].append(Level(number(tick, 2), number(0 if is_removed else rng.randrange(1, 10**6), 3)))
        yield Book(symbol_id=SYMBOL, sequence=sequence, is_snapshot=False, asks=changed[0], bids=changed[1])


def as_float(value: int, decimals: int) -> Any:
    """Return a number of so many decimals."""
    return value / 10**decimals


def as_decimal(value: int, decimals: int) -> Any:
    """Return a number of so many decimals."""
    return Decimal(value).scaleb(-decimals)


def timed(made: Callable[[], Any], column: Column, share: int) -> tuple[float, Any]:
    """Return µs of CPU time a message, what comes first not counted, and the levels at the end."""
    book, messages, read, every = made(), column.messages, column.read, column.read_each
    uncounted, counted = messages[: column.uncounted], messages[column.uncounted :]
    counted = counted[: len(counted) // share]
    for message in uncounted:
        book.take(message)
        read(book, message.symbol_id)
    start = time.process_time()
    for place, message in enumerate(counted):
        book.take(message)
        if place % every == 0:
            read(book, message.symbol_id)
    micros = (time.process_time() - start) * 1e6 / len(counted)
    return micros, {
        s: [[(price, round(size, 9)) for price, size in side] for side in book.top(s, 10)] for s in book.books
    }


def print_table(candidates: list[Any], columns: list[Column], rounds: int) -> None:
    """Measure each candidate on each column's messages."""
    micros: dict[tuple[Any, str], list[float]] = defaultdict(list)
    ends: dict[str, Any] = {}
    # Rounds outside: a machine that is slow for a while is slow for all of them.
    for _, column, candidate in product(range(rounds), columns, candidates):
        share = SLOW_SHARE if candidate in (LazilySorted, Smallest) else 1
        taken, end = timed(candidate, column, share)
        micros[candidate, column.title].append(taken)
        if share == 1 and end != ends.setdefault(column.title, end):
            raise RuntimeError(f"{candidate.__name__} ends with other levels: {column.title}")
    print(f"| µs an update | {' | '.join(column.title for column in columns)} |")
    print("|---|" + "---:|" * len(columns))
    for candidate in candidates:
        cells = [f"{median(micros[candidate, column.title]):,.1f}" for column in columns]
        print(f"| {' '.join((candidate.__doc__ or '').split()).rstrip('.')} | {' | '.join(cells)} |")
    print(flush=True)


def best_10(book: Any, symbol_id: Any) -> None:
    """Read the best 10 of both sides."""
    book.top(symbol_id, 10)


def best(book: Any, symbol_id: Any) -> None:
    """Read the best of both sides."""
    book.best(symbol_id)


def recorded(path: Path, numbers: str) -> list[Book]:
    """Return the books of a recording, their levels built."""
    decoder = Decoder(numbers)
    messages = [decoder.decode(frame.frame) for frame in read_recording(path)]
    return built([message for message in messages if isinstance(message, Book)])


def simulated(seconds: int, numbers: str) -> list[BookL3]:
    """Return what a client of the simulator gets of a book_l3 in so much of its time, in which much happens."""
    clock, found = VirtualClock(), list[BookL3]()
    wanted = Subscription(["book_l3"], symbol_ids=[f"{L3_SYMBOL}$"])
    with (
        Simulator(seed=1, clock=clock) as simulator,
        connect("any", wanted, endpoint=simulator.url, numbers=numbers, heartbeats=False) as stream,
    ):
        simulator.set_activity(L3_ACTIVITY)
        for _ in range(seconds):
            with suppress(TimeoutError):
                while True:
                    message = stream.recv(timeout=0.01)
                    found += [message] if isinstance(message, BookL3) else []
            clock.advance(1)
            simulator.settle()
    return built(found)


def built(messages: list[Any]) -> list[Any]:
    """Let each message build its levels now."""
    for message in messages:
        _ = message.asks, message.bids
    return messages


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.books", None, __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--levels", type=int, nargs="+", default=[1_000, 10_000, 50_000], help="levels a side")
    parser.add_argument("--updates", type=int, default=2_000, help="changes of each synthetic book (2,000)")
    parser.add_argument("--seconds", type=int, default=60, help="of the simulator's market (60)")
    parser.add_argument("--recording", type=Path, help="a recording with frames of book")
    parser.add_argument("--rounds", type=int, default=5, help="how often to measure (5)")
    options = parser.parse_args()
    if min(*options.levels, options.updates // SLOW_SHARE, options.rounds, options.seconds) < 1:
        parser.error(f"levels, rounds and seconds are at least 1, updates at least {SLOW_SHARE}")
    print_versions()
    peers = [*([SortedContainers] if sortedcontainers else []), *([OrderBook] if order_book else [])]
    peers_l3 = [*([SortedContainersL3] if sortedcontainers else []), *([OrderBookL3] if order_book else [])]
    kinds = {"float": as_float, "Decimal": as_decimal}
    for kind, number in kinds.items():
        synthetic = {levels: built(list(changes(levels, options.updates, number))) for levels in options.levels}
        for each in (1, 10):
            print(f"### Structures: {kind}, the best 10 read after {'each' if each == 1 else 'each tenth'} change\n")
            columns = [Column(f"{levels:,} levels", messages, best_10, each) for levels, messages in synthetic.items()]
            print_table([Ours, LowestFirst, *peers, LazilySorted, Smallest], columns, options.rounds)
    if options.recording:
        print("### L2 on a recording\n")
        columns = [Column(kind, recorded(options.recording, kind.lower()), best, uncounted=0) for kind in kinds]
        print_table([Ours, *peers], columns, options.rounds)
    print("### L3 on a recording of the simulator\n")
    columns = [Column(kind, simulated(options.seconds, kind.lower()), best) for kind in kinds]
    print_table([OursL3, *peers_l3], columns, options.rounds)


def print_versions() -> None:
    """Say what was measured on what."""
    print(f"{machine.processor()}; {machine.today()}")
    print(f"{machine.python()}, {machine.versions(('sortedcontainers', 'order-book'))}\n")


if __name__ == "__main__":
    main()
