"""An order book as people and programs read it: a screen of lines, or one line. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Final

from ..books import BookSnapshot, BookState
from ..messages import Level
from ..timestamps import format_ns
from .text import clock_text, number_text, printable

_LINE: Final = (
    "{time:<28} {symbol:<24} {state:<5} {sequence:>8} {bid:>10} {bid_size:>12} {ask:>10} {ask_size:>12} {spread:>8}"
)
LINE_HEADER: Final = _LINE.format(
    time="TIME (UTC)",
    symbol="SYMBOL",
    state="STATE",
    sequence="SEQUENCE",
    bid="BID",
    bid_size="BID_SIZE",
    ask="ASK",
    ask_size="ASK_SIZE",
    spread="SPREAD",
)

_NOTHING: Final = "-"
#: What a screen has beside the levels: three lines above, the spread between, two below.
_LINES_AROUND: Final = 6
_INDENT: Final = "  "
#: A bar that is longer says no more.
_LONGEST_BAR: Final = 40
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
#: Exact for whatever comes over the wire, and independent of the program's context.
_EXACT: Final = Context(prec=100, traps=[])

_RESET: Final = "\x1b[0m"
_BOLD: Final = "\x1b[1m"
_DIM: Final = "\x1b[2m"
_RED: Final = "\x1b[31m"
_GREEN: Final = "\x1b[32m"
_WARNING: Final = "\x1b[1;7m"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBook:
    """What there is to show: the book, why it is not true where it is not, and how the connection stands."""

    book: BookSnapshot
    levels: tuple[int, int] = (0, 0)  # how many asks and bids the whole book has
    updates: int = 0
    reason: str = ""
    connection: str = ""

    @property
    def is_true(self) -> bool:
        """Whether the levels are the market's."""
        return self.book.state is BookState.LIVE

    @property
    def spread(self) -> Decimal | None:
        """The best ask minus the best bid, None where one is missing; below 0 in a crossed book."""
        ask, bid = self.book.best_ask, self.book.best_bid
        if ask is None or bid is None:
            return None
        return _EXACT.subtract(_decimal(ask.price), _decimal(bid.price))


def book_line(shown: ShownBook) -> str:
    """Return one line without its end, its columns parted by blanks, the reason last; values only of a true book."""
    book = shown.book
    bid, ask = (book.best_bid, book.best_ask) if shown.is_true else (None, None)
    line = _LINE.format(
        time=_NOTHING if book.updated_ns is None else format_ns(book.updated_ns),
        symbol=book.symbol_id,
        state=book.state.name,
        sequence=number_text(book.sequence),
        bid=_price(bid),
        bid_size=_size(bid),
        ask=_price(ask),
        ask_size=_size(ask),
        spread=number_text(shown.spread) if shown.is_true else _NOTHING,
    )
    return printable(f"{line} {shown.reason}".rstrip())


class Ladder:
    """Draws books as screens: asks above, bids below, the best in the middle.

    ``depth`` is how many levels of each side are shown at most. Without ``colors`` there are no escape sequences, and
    without ``blocks`` bars are of ASCII.
    """

    def __init__(self, depth: int, *, bars: bool = True, colors: bool = True, blocks: bool = True) -> None:
        self._depth = depth
        self._bars = bars
        self._colors = colors
        self._blocks = blocks

    def depth(self, height: int) -> int:
        """Return how many levels of each side a screen of so many lines has room for, at least one."""
        return max(1, min(self._depth, (height - _LINES_AROUND) // 2))

    def screen(self, shown: ShownBook, width: int, height: int) -> list[str]:
        """Return the lines of a screen, none longer than ``width`` and not more than ``height``."""
        depth, book = self.depth(height), shown.book
        asks, bids = list(reversed(book.asks[:depth])), list(book.bids[:depth])
        rows = self._rows(asks, bids, width, is_true=shown.is_true)
        blank = [""] * depth
        lines = [
            self._title(shown, width),
            _cut(self._facts(shown), width),
            "",
            # So that the middle stays where it is.
            *blank[len(asks) :],
            *rows[: len(asks)],
            self._middle(shown, width),
            *rows[len(asks) :],
            *blank[len(bids) :],
        ]
        return lines[:height]

    def footer(self, shown: ShownBook, width: int, height: int) -> list[str]:
        """Return the lines below a :meth:`screen`, as far as there is room."""
        lines = ["", self._painted(_cut(f"{printable(shown.connection)}; Ctrl-C ends", width), _DIM)]
        return lines if height >= _LINES_AROUND + 2 * self.depth(height) else []

    def _title(self, shown: ShownBook, width: int) -> str:
        book = shown.book
        name = _cut(f"{printable(book.symbol_id)}  {book.type}  ", width)
        state = book.state.name if shown.is_true else f" {book.state.name}: {printable(shown.reason)} "
        return name + self._painted(_cut(state, width - len(name)), _BOLD + _GREEN if shown.is_true else _WARNING)

    def _facts(self, shown: ShownBook) -> str:
        book, (asks, bids) = shown.book, shown.levels
        time = "-" if book.updated_ns is None else f"{clock_text(book.updated_ns)} UTC"
        return f"{time}  sequence {number_text(book.sequence)}  {shown.updates:,} updates  {asks:,} asks  {bids:,} bids"

    def _middle(self, shown: ShownBook, width: int) -> str:
        book = shown.book
        if book.state is BookState.EMPTY:
            text = "no book yet"
        elif not shown.is_true:
            text = "no longer true: as it last was"
        else:
            mark = "  CROSSED" if book.is_crossed else "  LOCKED" if book.is_locked else ""
            text = f"spread {number_text(shown.spread)}{mark}"
        return _cut(f"{_INDENT}---  {text}  ---", width)

    def _rows(self, asks: list[Level], bids: list[Level], width: int, *, is_true: bool) -> list[str]:
        levels = [*asks, *bids]
        prices = _aligned([number_text(level.price) for level in levels])
        sizes = _aligned([number_text(level.size) for level in levels])
        largest = max((_decimal(level.size) for level in levels), default=Decimal(0))
        rows = []
        for position, (level, price, size) in enumerate(zip(levels, prices, sizes, strict=True)):
            is_ask = position < len(asks)
            row = _cut(f"{_INDENT}{'ask' if is_ask else 'bid'}  {price}  {size}  ", width)
            if self._bars:
                row += self._bar(level, largest, min(_LONGEST_BAR, width - len(row)))
            color = (_RED if is_ask else _GREEN) if is_true else _DIM
            rows.append(self._painted(row.rstrip(), color))
        return rows

    def _bar(self, level: Level, largest: Decimal, length: int) -> str:
        size = _decimal(level.size)
        if length < 1 or not 0 < size <= largest:
            return ""
        eighths = max(1, int(_EXACT.multiply(_EXACT.divide(size, largest), Decimal(8 * length))))
        whole, rest = divmod(eighths, 8)
        if self._blocks:
            return "█" * whole + _EIGHTHS[rest].strip()
        return "#" * max(1, whole)

    def _painted(self, text: str, color: str) -> str:
        return f"{color}{text}{_RESET}" if self._colors and text else text


def _price(level: Level | None) -> str:
    return number_text(None if level is None else level.price)


def _size(level: Level | None) -> str:
    return number_text(None if level is None else level.size)


def _aligned(numbers: Sequence[str]) -> list[str]:
    """Return the numbers in one width, their decimal points one below the other."""
    parts = [number.partition(".") for number in numbers]
    before = max((len(whole) for whole, _, _ in parts), default=0)
    after = max((len(point + rest) for _, point, rest in parts), default=0)
    return [f"{whole:>{before}}{point + rest:<{after}}" for whole, point, rest in parts]


def _decimal(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(repr(value))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: max(0, length - 1)]}…"[: max(0, length)]
