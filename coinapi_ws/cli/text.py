"""Messages and events as lines for people: columns of fixed width, the values of each type last."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from ..events import ConnectionGap, Dropped, Gap, SequenceGap, Undecodable
from ..messages import (
    Asset,
    Book,
    BookL3,
    ErrorMessage,
    Exchange,
    ExchangeRate,
    Heartbeat,
    Level,
    LevelL3,
    Message,
    Ohlcv,
    Quote,
    ReconnectNotice,
    Symbol,
    Trade,
    UnknownMessage,
)
from .summary import duration_text, latency_ns

Item = Message | Gap | Undecodable

#: With two prices and sizes, or a candle, a line has 110 columns.
_LINE: Final = "{time:<12} {type:<9} {subject:<24} {latency:>7}  {values}"
HEADER: Final = _LINE.format(time="TIME (UTC)", type="TYPE", subject="SYMBOL", latency="LATENCY", values="VALUES")

_NOTHING: Final = "-"
_LONGEST_VALUES: Final = 53
_LONGEST_PRICE: Final = 12
_PRICE_DIGITS: Final = 10
_SIZE_DIGITS: Final = 3
#: Sizes from here on are shortened to whole numbers.
_WHOLE_SIZES: Final = 1000
#: Beyond this, and as far below 1, a number keeps its exponent: written out, 1E+999999 would fill the screen.
_LARGEST_EXPONENT: Final = 20
_LARGEST_NUMBER: Final = 10**_LARGEST_EXPONENT
#: What separates a price and a size.
_AT: Final = "×"  # noqa: RUF001
#: Their texts may be of any length, and json has them whole.
_CUT_TYPES: Final = (Asset, Exchange, Symbol, UnknownMessage)


class TextLines:
    """Writes items as lines.

    Numbers are best decoded as Decimal, so that prices keep the digits of the wire, as many for each of a symbol.
    Sizes, and prices of more than 12 characters, are shortened unless ``all_digits``. ``redact`` takes the key out of
    what the server wrote.
    """

    def __init__(
        self, *, all_digits: bool = False, with_latency: bool = True, redact: Callable[[str], str] = str
    ) -> None:
        self._all_digits = all_digits
        self._with_latency = with_latency
        self._redact = redact

    def line(self, item: Item) -> str:
        """Return one line without its end, safe for a terminal whatever the server sent."""
        latency = latency_ns(item) if self._with_latency else None
        values = self._redact(self._VALUES[type(item)](self, item))
        line = _LINE.format(
            time=clock_text(_shown_ns(item)),
            type=_type(item),
            subject=subject_of(item),
            latency=_NOTHING if latency is None else duration_text(latency),
            # After redacting: a key cut short would be half a key told.
            values=_cut(values, _LONGEST_VALUES) if isinstance(item, _CUT_TYPES) else values,
        ).rstrip()
        return printable(line)

    def _trade(self, trade: Trade) -> str:
        return self._cell(_text(trade.taker_side), trade.price, trade.size)

    def _quote(self, quote: Quote) -> str:
        return (
            f"{self._cell('bid', quote.bid_price, quote.bid_size)} {self._cell('ask', quote.ask_price, quote.ask_size)}"
        )

    def _book(self, book: Book) -> str:
        if book.type == "book" and book.is_snapshot:
            return self._snapshot(book)
        if book.is_snapshot:
            bid, ask = _best(book)
            return f"{self._cell('bid', *bid)} {self._cell('ask', *ask)}"
        changes = [self._change(side, level) for side, levels in _sides(book) for level in levels]
        if len(changes) <= 2:
            return " ".join(changes) or "no change"
        return f"{changes[0]} and {len(changes) - 1} more levels"

    def _book_l3(self, book: BookL3) -> str:
        if book.is_snapshot:
            return self._snapshot(book)
        orders = [(side, order) for side, levels in _sides(book) for order in levels]
        if not orders:
            return "no change"
        side, order = orders[0]
        more = f" +{len(orders) - 1}" if len(orders) > 1 else ""
        return f"{self._cell(side, order.price, order.size)} {_text(order.update_type):<8} {_text(order.id)[:8]}{more}"

    def _ohlcv(self, candle: Ohlcv) -> str:
        prices = (
            ("o", candle.price_open),
            ("h", candle.price_high),
            ("l", candle.price_low),
            ("c", candle.price_close),
        )
        shown = " ".join(f"{name}{self._price(price)}" for name, price in prices)
        return f"{_text(candle.period_id):<4} {shown} v{self._size(candle.volume_traded)}"

    def _exchange_rate(self, rate: ExchangeRate) -> str:
        return f"rate {self._price(rate.rate):>12}"

    def _asset(self, asset: Asset) -> str:
        return _facts(asset.name, self._of("USD", asset.price_usd), _counted(asset.data_symbols_count))

    def _exchange(self, exchange: Exchange) -> str:
        return _facts(exchange.name, exchange.website, _counted(exchange.data_symbols_count))

    def _symbol(self, symbol: Symbol) -> str:
        pair = f"{_text(symbol.asset_id_base)}/{_text(symbol.asset_id_quote)}"
        return _facts(
            symbol.symbol_type, pair, self._of("price", symbol.price), self._of("tick", symbol.price_precision)
        )

    def _error(self, error: ErrorMessage) -> str:
        return _text(error.message)

    def _reconnect(self, notice: ReconnectNotice) -> str:
        return f"the server will close this connection within {self._price(notice.within_seconds)} s"

    def _heartbeat(self, _heartbeat: Heartbeat) -> str:
        return ""

    def _unknown(self, message: UnknownMessage) -> str:
        return " ".join(f"{name}={value}" for name, value in message.extra.items() if name != "symbol_id")

    def _sequence_gap(self, gap: SequenceGap) -> str:
        missing = gap.received - gap.expected
        what = f"{missing} missing" if missing > 0 else "went back"
        return f"{gap.type}: expected {gap.expected}, received {gap.received}: {what}"

    def _connection_gap(self, gap: ConnectionGap) -> str:
        return f"nothing from {clock_text(gap.from_ns)} on: {gap.reason}"

    def _dropped(self, gap: Dropped) -> str:
        return f"{gap.type}: {gap.count} not delivered since {clock_text(gap.first_ns)}"

    def _undecodable(self, frame: Undecodable) -> str:
        return f"{frame.reason} (length {len(frame.payload)})"

    def _snapshot(self, book: Book | BookL3) -> str:
        (bid, _), (ask, _) = _best(book)
        return f"snapshot {len(book.bids)} bids ≤ {self._price(bid)}, {len(book.asks)} asks ≥ {self._price(ask)}"

    def _change(self, side: str, level: Level) -> str:
        if level.size == 0:
            return f"{side:<4} {self._price(level.price):>10} {'gone':<10}"
        return self._cell(side, level.price, level.size)

    def _cell(self, label: str, price: Any, size: Any) -> str:
        return f"{label:<4} {self._price(price):>10} {_AT} {self._size(size):<8}"

    def _price(self, value: Any) -> str:
        text = number_text(value)
        if self._all_digits or len(text) <= _LONGEST_PRICE:
            return text
        return number_text(Decimal(f"{value:.{_PRICE_DIGITS}g}"))

    def _size(self, value: Any) -> str:
        if self._all_digits or value is None or not abs(value) < _LARGEST_NUMBER:
            return number_text(value)
        return (
            f"{value:.0f}" if abs(value) >= _WHOLE_SIZES else number_text(Decimal(f"{float(value):.{_SIZE_DIGITS}g}"))
        )

    def _of(self, name: str, value: Any) -> str | None:
        return None if value is None else f"{name} {self._price(value)}"

    _VALUES: Final[dict[type, Callable[[TextLines, Any], str]]] = {
        Trade: _trade,
        Quote: _quote,
        Book: _book,
        BookL3: _book_l3,
        Ohlcv: _ohlcv,
        ExchangeRate: _exchange_rate,
        Asset: _asset,
        Exchange: _exchange,
        Symbol: _symbol,
        ErrorMessage: _error,
        ReconnectNotice: _reconnect,
        Heartbeat: _heartbeat,
        UnknownMessage: _unknown,
        SequenceGap: _sequence_gap,
        ConnectionGap: _connection_gap,
        Dropped: _dropped,
        Undecodable: _undecodable,
    }


def printable(text: str) -> str:
    """Return a text that does nothing to a terminal but show itself."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _shown_ns(item: Item) -> int | None:
    """Return when CoinAPI published it; else when it came, or None where that is unknown too."""
    for name in ("time_coinapi_ns", "time_ns", "received_ns", "to_ns", "last_ns"):
        ns: int | None = getattr(item, name, None)
        if ns:
            return ns
    return None


def _type(item: Item) -> str:
    if isinstance(item, Message):
        return _cut(item.type, 9)
    return "GAP" if isinstance(item, Gap) else "INVALID"


def subject_of(item: Item) -> str:
    """Return the symbol, pair, asset or exchange that an item is of."""
    if isinstance(item, ExchangeRate):
        return f"{_text(item.asset_id_base)}/{_text(item.asset_id_quote)}"
    for name in ("symbol_id", "asset_id", "exchange_id"):
        subject = getattr(item, name, None)
        if subject is None and isinstance(item, UnknownMessage):
            subject = item.extra.get(name)
        if isinstance(subject, str):
            return subject
    return _NOTHING


def _sides(book: Any) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    return ("bid", book.bids), ("ask", book.asks)


def _best(book: Book | BookL3) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the best bid and ask; the order of levels is not promised."""
    bids = [level for level in book.bids if level.price is not None]
    asks = [level for level in book.asks if level.price is not None]
    bid: Level | LevelL3 | None = max(bids, key=_price_of, default=None)
    ask: Level | LevelL3 | None = min(asks, key=_price_of, default=None)
    return (
        (None, None) if bid is None else (bid.price, bid.size),
        (None, None) if ask is None else (ask.price, ask.size),
    )


def _price_of(level: Any) -> Any:
    return level.price


def number_text(value: Any) -> str:
    """Return a number with all its digits, and without an exponent where that is readable."""
    if value is None:
        return _NOTHING
    text = str(value)
    if "e" in text.lower():
        decimal = Decimal(text)
        return f"{decimal:f}" if abs(decimal.adjusted()) < _LARGEST_EXPONENT else text
    return text


def _counted(count: int | None) -> str | None:
    return None if count is None else f"{count} symbols"


def _facts(*facts: str | None) -> str:
    return ", ".join(fact for fact in facts if fact)


def _text(value: str | None) -> str:
    return _NOTHING if value is None else value


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def clock_text(ns: int | None) -> str:
    """Return the time of day in UTC, with milliseconds."""
    if not ns:
        return _NOTHING
    seconds, rest = divmod(ns, 10**9)
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}:{second:02}.{rest // 10**6:03}"
