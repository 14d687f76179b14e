"""The synthetic market is deterministic, and all that it publishes agrees with itself."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import defaultdict
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import pytest

from coinapi_ws.simulator.encoding import seal
from coinapi_ws.simulator.market import Market
from coinapi_ws.simulator.streams import SEQUENCED_TYPES

START_NS: Final = 1_767_225_600_000_000_000
SECOND_NS: Final = 1_000_000_000
SECONDS: Final = 40
# Long enough for candles of 1MIN and 5MIN to close.
CANDLE_SECONDS: Final = 305

Message = dict[str, Any]
Levels = dict[Decimal, Decimal]


def walk(seed: int, seconds: float, wanted_types: frozenset[str] | None = None) -> list[str]:
    """All texts of this many seconds, after the snapshots; sequences are all 1."""
    market = Market(seed)
    market.open(START_NS)
    wanted = {s for s in market.streams if wanted_types is None or s.type in wanted_types}
    publications = market.snapshots([s for s in market.streams if s in wanted], START_NS)
    while market.next_ns < START_NS + seconds * SECOND_NS:
        publications += market.step(wanted)
    return [seal(p.body, p.stream, 1 if p.stream.type in SEQUENCED_TYPES else None) for p in publications]


@lru_cache(maxsize=1)
def messages() -> list[Message]:
    return [json.loads(text, parse_float=Decimal) for text in walk(1, SECONDS)]


@pytest.fixture(scope="module")
def by_symbol() -> dict[str, list[Message]]:
    return of_symbols(messages())


@pytest.fixture(scope="module")
def candles_by_symbol() -> dict[str, list[Message]]:
    texts = walk(1, CANDLE_SECONDS, frozenset({"trade", "ohlcv"}))
    return of_symbols([json.loads(text, parse_float=Decimal) for text in texts])


def of_symbols(all_messages: list[Message]) -> dict[str, list[Message]]:
    found = defaultdict(list)
    for message in all_messages:
        if "symbol_id" in message:
            found[message["symbol_id"]].append(message)
    return found


def levels(entries: list[Message]) -> Levels:
    return {entry["price"]: entry["size"] for entry in entries}


class Book:
    """An L2 book as a reader of the documentation would build it."""

    def __init__(self) -> None:
        self.asks: Levels = {}
        self.bids: Levels = {}

    def apply(self, message: Message) -> None:
        for side, entries in ((self.asks, message["asks"]), (self.bids, message["bids"])):
            if message["is_snapshot"]:
                side.clear()
            for entry in entries:
                if entry["size"]:
                    side[entry["price"]] = entry["size"]
                else:
                    side.pop(entry["price"], None)

    def top(self, depth: int) -> tuple[list[Message], list[Message]]:
        asks = sorted(self.asks.items())[:depth]
        bids = sorted(self.bids.items(), reverse=True)[:depth]
        return [{"price": p, "size": s} for p, s in asks], [{"price": p, "size": s} for p, s in bids]


class OrderBook:
    """An L3 book as a reader of the documentation would build it."""

    def __init__(self) -> None:
        self.asks: dict[str, tuple[Decimal, Decimal]] = {}
        self.bids: dict[str, tuple[Decimal, Decimal]] = {}

    def apply(self, message: Message) -> None:
        for orders, entries in ((self.asks, message["asks"]), (self.bids, message["bids"])):
            for entry in entries:
                self._entry(orders, entry, is_snapshot=message["is_snapshot"])

    def _entry(self, orders: dict[str, tuple[Decimal, Decimal]], entry: Message, *, is_snapshot: bool) -> None:
        order, price, size = entry["id"], entry["price"], entry["size"]
        kind = "ADD" if is_snapshot else entry["update_type"]
        assert (kind == "ADD") == (order not in orders)
        if kind in ("ADD", "UPDATE"):
            orders[order] = (price, size)
        elif kind == "DELETE":
            assert orders.pop(order) == (price, size)
        else:
            assert kind in ("MATCH", "SUBTRACT")
            rest = orders[order][1] - size
            assert rest >= 0
            orders[order] = (price, rest)
            if not rest:
                del orders[order]

    def levels(self) -> tuple[Levels, Levels]:
        sums: tuple[Levels, Levels] = ({}, {})
        for side, orders in zip(sums, (self.asks, self.bids), strict=True):
            for price, size in orders.values():
                side[price] = side.get(price, Decimal(0)) + size
        return sums


def test_a_seed_gives_one_market_and_another_seed_another() -> None:
    assert walk(7, 5) == walk(7, 5)
    assert walk(7, 5) != walk(8, 5)


def test_a_seed_gives_the_same_market_in_every_python() -> None:
    """A user's expected values must outlive an update; who changes the market on purpose changes this too."""
    assert hashlib.sha256("\n".join(walk(1, 20)).encode()).hexdigest() == GOLDEN_SHA256


def test_what_is_asked_for_does_not_change_what_happens() -> None:
    trades = [text for text in walk(3, 20) if text.endswith('"type":"trade"}')]
    assert walk(3, 20, frozenset({"trade"})) == trades != []


def test_there_are_all_types_of_enough_symbols_and_exchanges() -> None:
    kinds = {m["type"] for m in messages()}
    assert kinds == {
        *("trade", "quote", "book", "book5", "book20", "book50", "book_l3"),
        *("ohlcv", "exrate", "asset", "exchange", "symbol"),
    }
    symbols = {m["symbol_id"]: m for m in messages() if m["type"] == "symbol"}
    assert len(symbols) >= 8
    assert len({m["exchange_id"] for m in symbols.values()}) >= 3
    assert {m["symbol_type"] for m in symbols.values()} == {"SPOT", "PERPETUAL"}
    assert {m["symbol_id"].split("_")[0] for m in messages() if m["type"] == "book_l3"} == {"COINBASE"}
    periods = {m["period_id"] for m in messages() if m["type"] == "ohlcv"}
    assert periods == {"1SEC", "5SEC", "1MIN", "5MIN", "15MIN", "1HRS", "1DAY"}


def test_everything_together_is_some_hundred_frames_a_second() -> None:
    assert 200 < len(messages()) / SECONDS < 500


def test_the_text_is_compact_with_the_type_last_and_times_of_seven_digits() -> None:
    for text in walk(1, 3):
        message = json.loads(text)
        assert list(message)[-1] == "type"
        assert re.search(r"[\[{,:] | [\]},:]", text) is None
        for name, value in message.items():
            if name.startswith("time"):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", value)
        # Digits come from integers; a float would show as an exponent or a long tail.
        for number in re.findall(r":(-?[\d.eE+-]+)[,}]", text):
            assert re.fullmatch(r"\d+(\.\d{1,10})?", number)


def test_fields_come_in_the_order_of_captured_frames(shared_fields: dict[str, list[str]]) -> None:
    seen = {}
    for message in messages():
        seen.setdefault(message["type"], list(message))
    for kind, fields in shared_fields.items():
        extra = {"rate_type"}  # newer than the captured frame
        assert [name for name in seen[kind] if name not in extra] == fields


@pytest.fixture(scope="module")
def shared_fields(shared: Any) -> dict[str, list[str]]:
    lines = (shared / "recordings" / "sample_frames.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    frames = [json.loads(e["frame"]) for e in entries if e["source"].startswith("captured")]
    return {frame["type"]: list(frame) for frame in frames if frame["type"] != "error"}


def test_deltas_rebuild_the_books_and_quotes_are_their_best(by_symbol: dict[str, list[Message]]) -> None:
    compared = 0
    for history in by_symbol.values():
        book = Book()
        for message in history:
            kind = message["type"]
            if kind == "book":
                book.apply(message)
                assert min(book.asks) > max(book.bids)
            elif kind in ("book5", "book20", "book50"):
                asks, bids = book.top(int(kind[4:]))
                assert (message["asks"], message["bids"]) == (asks, bids)
                assert len(asks) == len(bids) == int(kind[4:])
                compared += 1
            elif kind == "quote":
                (ask,), (bid,) = book.top(1)
                assert (message["ask_price"], message["ask_size"]) == (ask["price"], ask["size"])
                assert (message["bid_price"], message["bid_size"]) == (bid["price"], bid["size"])
                compared += 1
    assert compared > 2000


def test_every_change_of_the_best_is_quoted_and_nothing_else(by_symbol: dict[str, list[Message]]) -> None:
    for history in by_symbol.values():
        quotes = [
            tuple(m[name] for name in ("ask_price", "ask_size", "bid_price", "bid_size"))
            for m in history
            if m["type"] == "quote"
        ]
        assert all(a != b for a, b in itertools.pairwise(quotes))
        best5 = [(m["asks"][0], m["bids"][0]) for m in history if m["type"] == "book5"]
        changes = sum(a != b for a, b in itertools.pairwise(best5))
        assert len(quotes) - 1 <= changes <= len(quotes)


def test_a_snapshot_later_equals_the_deltas_until_then() -> None:
    market = Market(5)
    market.open(START_NS)
    stream = next(s for s in market.streams if s.type == "book" and s.exchange_id == "KRAKEN")
    book, later = Book(), Book()
    book.apply(json.loads(seal(market.snapshots([stream], START_NS)[0].body, stream, 1), parse_float=Decimal))
    while market.next_ns < START_NS + 20 * SECOND_NS:
        for publication in market.step({stream}):
            book.apply(json.loads(seal(publication.body, stream, 1), parse_float=Decimal))
    snapshot = market.snapshots([stream], market.next_ns)[0]
    later.apply(json.loads(seal(snapshot.body, stream, 1), parse_float=Decimal))
    assert (book.asks, book.bids) == (later.asks, later.bids)


@pytest.mark.parametrize("kind", ["book", "book_l3"])
def test_a_snapshot_is_no_later_than_the_changes_that_it_lacks(kind: str) -> None:
    """Whoever asks on a busy machine may be later than the market has come."""
    market = Market(1)
    market.open(START_NS)
    stream = next(s for s in market.streams if s.type == kind)
    late = json.loads(seal(market.snapshots([stream], START_NS + 60 * SECOND_NS)[0].body, stream, 1))
    change: dict[str, Any] = {}
    while not change:
        change = next((json.loads(seal(p.body, stream, 2)) for p in market.step({stream})), {})
    assert late["time_coinapi"] < change["time_coinapi"]


def test_orders_sum_to_the_levels(by_symbol: dict[str, list[Message]]) -> None:
    compared = 0
    for history in by_symbol.values():
        book, orders = Book(), OrderBook()
        for message in history:
            if message["type"] == "book":
                book.apply(message)
            elif message["type"] == "book_l3":
                orders.apply(message)
                assert orders.levels() == (book.asks, book.bids)
                compared += 1
    assert compared > 500


def test_trades_are_at_the_bid_or_the_ask_and_take_from_the_book(by_symbol: dict[str, list[Message]]) -> None:
    seen = 0
    for history in by_symbol.values():
        book = Book()
        for message in history:
            if message["type"] == "book":
                book.apply(message)
            elif message["type"] == "trade":
                (ask,), (bid,) = book.top(1)
                hit = ask if message["taker_side"] == "BUY" else bid
                assert message["price"] == hit["price"]
                assert 0 < message["size"] <= hit["size"]
                seen += 1
    assert seen > 500


def test_every_trade_and_order_has_an_identifier_of_its_own() -> None:
    trades = [m["uuid"] for m in messages() if m["type"] == "trade"]
    added = [
        entry["id"]
        for m in messages()
        if m["type"] == "book_l3"
        for entry in m["asks"] + m["bids"]
        if m["is_snapshot"] or entry["update_type"] == "ADD"
    ]
    identifiers = trades + added
    assert len(set(identifiers)) == len(identifiers) > 500
    pattern = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert all(pattern.fullmatch(identifier) for identifier in identifiers)


def test_candles_sum_the_trades_and_the_last_is_whole(candles_by_symbol: dict[str, list[Message]]) -> None:
    end = f"2026-01-01T00:0{CANDLE_SECONDS // 60}:{CANDLE_SECONDS % 60 - 1:02d}"
    closed_of_period: dict[str, int] = defaultdict(int)
    for history in candles_by_symbol.values():
        trades: list[Message] = []
        last: dict[tuple[str, str], Message] = {}
        for message in history:
            if message["type"] == "trade":
                trades.append(message)
            elif message["type"] == "ohlcv":
                assert_candle_sums(message, trades)
                last[message["period_id"], message["time_period_start"]] = message
        for (period_id, start), candle in last.items():
            if candle["time_period_end"] > end:
                continue
            closed_of_period[period_id] += 1
            inside = [t for t in trades if start <= t["time_exchange"] < candle["time_period_end"]]
            assert candle["trades_count"] == len(inside), (period_id, start)
    assert set(closed_of_period) == {"1SEC", "5SEC", "1MIN", "5MIN"}


def assert_candle_sums(candle: Message, trades: list[Message]) -> None:
    """The candle is the sum of all trades of its period that were published before it."""
    start, end = candle["time_period_start"], candle["time_period_end"]
    inside = []
    for trade in reversed(trades):
        if trade["time_exchange"] < start:
            break
        if trade["time_exchange"] < end:
            inside.append(trade)
    inside.reverse()
    prices = [t["price"] for t in inside]
    assert candle["trades_count"] == len(inside) > 0
    assert candle["volume_traded"] == sum(t["size"] for t in inside)
    assert candle["price_open"] == prices[0]
    assert candle["price_close"] == prices[-1]
    assert candle["price_high"] == max(prices)
    assert candle["price_low"] == min(prices)
    assert candle["time_open"] == inside[0]["time_exchange"]
    assert candle["time_close"] == inside[-1]["time_exchange"]


def test_a_candle_comes_while_it_changes_and_when_it_is_over(
    candles_by_symbol: dict[str, list[Message]],
) -> None:
    candles = [m for m in candles_by_symbol["COINBASE_SPOT_BTC_USD"] if m["type"] == "ohlcv"]
    starts: dict[str, list[str]] = defaultdict(list)
    for candle in candles:
        starts[candle["period_id"]].append(candle["time_period_start"])
    first_minute = [start for start in starts["1MIN"] if "T00:00:00" in start]
    assert 30 < len(first_minute) <= 61
    assert CANDLE_SECONDS / 5 - 5 < len(starts["1DAY"]) <= CANDLE_SECONDS / 5
    # Once open, just after the full second, and once closed.
    assert max(starts["1SEC"].count(start) for start in starts["1SEC"]) == 2
    assert len(set(starts["1SEC"])) > CANDLE_SECONDS * 0.8


def test_rates_lie_within_the_books_and_come_ten_times_a_second(by_symbol: dict[str, list[Message]]) -> None:
    rates = [m for m in messages() if m["type"] == "exrate"]
    bitcoin = [m for m in rates if (m["asset_id_base"], m["asset_id_quote"]) == ("BTC", "USDT")]
    assert SECONDS * 10 - 2 <= len(bitcoin) <= SECONDS * 10
    # One book alone has this pair: its rate is the middle of that book.
    quotes = [m for m in by_symbol["BINANCEFTS_PERP_BTC_USDT"] if m["type"] == "quote"]
    position, compared = -1, 0
    for rate in bitcoin:
        while position + 1 < len(quotes) and quotes[position + 1]["time_coinapi"] <= rate["time"]:
            position += 1
        if position >= 0:
            quote = quotes[position]
            assert rate["rate"] * 2 == quote["ask_price"] + quote["bid_price"]
            compared += 1
    assert compared > 300


def test_prices_walk_on_the_tick_grid_and_the_exchanges_agree(by_symbol: dict[str, list[Message]]) -> None:
    decimals = {"COINBASE_SPOT_BTC_USD": 2, "KRAKEN_SPOT_BTC_USD": 1, "KRAKEN_SPOT_ADA_USD": 6}
    for symbol_id, places in decimals.items():
        prices = [m["price"] for m in by_symbol[symbol_id] if m["type"] == "trade"]
        assert all(-price.as_tuple().exponent == places for price in prices)
        assert len(set(prices)) > 5
    last = [
        [m["price"] for m in by_symbol[f"{exchange}_SPOT_BTC_USD"] if m["type"] == "trade"][-1]
        for exchange in ("BITSTAMP", "COINBASE", "KRAKEN")
    ]
    assert max(last) / min(last) < Decimal("1.001")


GOLDEN_SHA256: Final = "5f5553347bf66e57deef72b63a72ef57d44f3e646f2e9dbdad63c980346dde43"
