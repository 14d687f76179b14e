from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from book_messages import START_NS, SYMBOL

from coinapi_ws import Level
from coinapi_ws.books import BookSnapshot, BookState
from coinapi_ws.cli.ladder import LINE_HEADER, Ladder, ShownBook, book_line

ASKS = (("101.10", "2"), ("101.5", "0.125"), ("102", "12345.67"))
BIDS = (("101.05", "4.0"), ("99", "1"))


def shown(
    asks: Any = ASKS, bids: Any = BIDS, *, state: BookState = BookState.LIVE, symbol_id: str = SYMBOL, **more: Any
) -> ShownBook:
    sides = {
        name: tuple(Level(Decimal(price), Decimal(size)) for price, size in side)
        for name, side in (("asks", asks), ("bids", bids))
    }
    book = BookSnapshot(type="book", symbol_id=symbol_id, state=state, sequence=7, updated_ns=START_NS, **sides)
    return ShownBook(book=book, **{"levels": (3, 2), "updates": 1234, "connection": "connected", **more})


def plain(book: ShownBook, width: int = 60, height: int = 24, depth: int = 3, **options: Any) -> list[str]:
    return Ladder(depth, **{"colors": False, **options}).screen(book, width, height)


def test_the_best_is_in_the_middle_and_points_stand_below_each_other() -> None:
    assert plain(shown(), bars=False) == [
        f"{SYMBOL}  book  LIVE",
        "00:00:00.000 UTC  sequence 7  1,234 updates  3 asks  2 bids",
        "",
        "  ask  102     12345.67",
        "  ask  101.5       0.125",
        "  ask  101.10      2",
        "  ---  spread 0.05  ---",
        "  bid  101.05      4.0",
        "  bid   99         1",
        "",
    ]


@pytest.mark.parametrize("height", range(1, 30))
def test_no_line_too_many_or_too_long(height: int) -> None:
    many = tuple((str(1000 + n), "1") for n in range(50)), tuple((str(999 - n), "2") for n in range(50))
    for width in (1, 5, 20, 60, 200):
        ladder, book = Ladder(50, colors=False), shown(*many, connection="x" * 300)
        lines = [*ladder.screen(book, width, height), *ladder.footer(book, width, height)]
        assert len(lines) <= height
        assert max(map(len, lines)) <= width
        assert len(lines) in (height, height - 1)  # two more levels would not fit


def test_the_middle_stays_where_it_is() -> None:
    full, thin, empty = shown(), shown(ASKS[:1], ()), shown((), (), state=BookState.EMPTY)
    pictures = [plain(book) for book in (full, thin, empty)]
    assert {next(n for n, line in enumerate(lines) if "---" in line) for lines in pictures} == {6}
    assert {len(lines) for lines in pictures} == {10}


def test_depth_is_what_was_asked_for_and_fits() -> None:
    assert [Ladder(10).depth(height) for height in (1, 8, 12, 25, 26, 100)] == [1, 1, 3, 9, 10, 10]


@pytest.mark.parametrize(("state", "middle"), [(BookState.STALE, "no longer true"), (BookState.EMPTY, "no book yet")])
@pytest.mark.parametrize("colors", [True, False])
def test_what_is_not_true_is_not_shown_as_true(state: BookState, middle: str, colors: bool) -> None:
    levels = ((), ()) if state is BookState.EMPTY else (ASKS, BIDS)
    lines = plain(shown(*levels, state=state, reason="something is missing"), colors=colors)
    assert f" {state.name}: something is missing " in lines[0]
    assert middle in lines[6]
    text = "\n".join(lines)
    assert "spread" not in text
    assert "LIVE" not in text
    assert "\x1b[31m" not in text  # asks and bids of a true book alone have their colors
    assert "\x1b[32m" not in text


@pytest.mark.parametrize(
    ("bid", "middle"), [("101.20", "spread -0.10  CROSSED"), ("101.10", "spread 0.00  LOCKED"), ("1", "spread 100.10")]
)
def test_crossed_and_locked_are_told(bid: str, middle: str) -> None:
    assert plain(shown(bids=[(bid, "1")]))[6] == f"  ---  {middle}  ---"


def test_the_spread_is_exact_whatever_the_context() -> None:
    wide = shown([("12345678901234567890.00000000000001", "1")], [("0.00000000000001", "1")])
    assert str(wide.spread) == "12345678901234567890.00000000000000"


def test_one_side_alone_has_no_spread() -> None:
    assert "spread -  " in plain(shown(bids=()))[6]


def test_bars_are_in_proportion_and_end_with_the_line() -> None:
    asks = (("1", "8"), ("2", "4"), ("3", "0.0001"))
    rows = plain(shown(asks, ()), width=38)[3:6]
    assert [row.count("█") for row in rows] == [0, 10, 20]
    assert rows[0].endswith("▏")  # what is there is seen
    assert max(map(len, rows)) == 38
    ascii_rows = plain(shown(asks, ()), width=38, blocks=False)[3:6]
    assert [row.count("#") for row in ascii_rows] == [1, 10, 20]
    assert "".join(ascii_rows).isascii()


def test_colors_can_be_left_out() -> None:
    assert "\x1b" not in "".join(plain(shown()))
    colored = Ladder(3).screen(shown(), 60, 24)
    assert colored[3].startswith("\x1b[31m")
    assert all(line.endswith("\x1b[0m") for line in colored if "\x1b" in line)


def test_numbers_beyond_all_bounds_do_not_fill_the_screen() -> None:
    huge = shown([("1E+999999", "1E-999999")], [("1E-999999", "9E+999999")])
    assert max(map(len, plain(huge, width=60))) <= 60
    assert len(book_line(huge)) < 400


def test_a_terminal_gets_no_control_characters() -> None:
    evil = shown(symbol_id="A\x1b[2J", state=BookState.STALE, reason="b\nc\x07", connection="\x1bd")
    ladder = Ladder(3, colors=False)
    assert all(line.isprintable() for line in (*ladder.screen(evil, 200, 24), *ladder.footer(evil, 200, 24)))
    assert book_line(evil).isprintable()


def test_a_line_has_the_digits_of_the_wire_below_its_header() -> None:
    line = book_line(shown())
    assert line.split() == f"2026-01-01T00:00:00.0000000Z {SYMBOL} LIVE 7 101.05 4.0 101.10 2 0.05".split()
    assert len(LINE_HEADER.split()) == len(line.split()) + 1  # (UTC)
    assert len(LINE_HEADER) == len(line)


def test_a_line_of_a_book_that_is_not_true_has_no_values() -> None:
    parts = book_line(shown(state=BookState.STALE, reason="two words")).split(None, 9)
    assert parts[2:] == ["STALE", "7", "-", "-", "-", "-", "-", "two words"]
