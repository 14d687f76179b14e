"""The command that shows one order book: a ladder on a terminal, lines everywhere else."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from math import inf
from typing import Final, Protocol

from ..books import BookState, L2Book
from ..events import Disconnected, SequenceGap
from ..messages import Book
from ..subscription import Subscription
from .feed import ConnectionText, Feed, Item, opened_feed
from .ladder import LINE_HEADER, Ladder, ShownBook, book_line
from .running import check_source, note, prepare_stdout, run_to_the_end
from .screen import Screen, can_encode, is_drawable, wants_color
from .simulating import ended_by_sigterm
from .summary import Tally
from .text import printable

#: Eyes see no more pictures, and a terminal far away has better things to do.
_PICTURE_SECONDS: Final = 0.1
#: Each new connection costs a hello, of which the vendor allows few.
_RENEW_SECONDS: Final = 10.0
_CUT: Final = "disconnected"


def book(arguments: Namespace) -> int:
    """Show a book until the count, the duration, the end of a recording or the user ends it."""
    check_source(arguments)
    tally = Tally(with_latency=arguments.recording is None)
    return run_to_the_end(lambda: _watch(arguments, tally), tally)


class WatchedBook:
    """A book and all that is to be said about it. Pure.

    ``by_any_name``: the first book of the type is the one, whatever its name, since WS DS takes the exchange's own.
    """

    def __init__(
        self,
        symbol_id: str,
        type: str = "book",
        redact: Callable[[str], str] = str,
        *,
        by_any_name: bool = False,
    ) -> None:
        self.book = L2Book(symbol_id, type)
        self._by_any_name = by_any_name
        self.connection = ConnectionText(redact)
        self.updates = 0
        self._is_cut = False

    def take(self, item: Item) -> str | None:
        """Take the next item; return what is worth a note beside the book."""
        if isinstance(item, (Book, SequenceGap)):
            if self._by_any_name and item.symbol_id and item.type == self.book.type:
                self._by_any_name = False
                self.book = L2Book(item.symbol_id, item.type)
            if (item.type, item.symbol_id) == (self.book.type, self.book.symbol_id):
                self.updates += self.book.apply(item)
                self._is_cut = self._is_cut and self.book.state is not BookState.LIVE
        elif isinstance(item, Disconnected):
            self.book.make_stale(_CUT)
            self._is_cut = True
        return self.connection.take(item)

    @property
    def lacks_snapshot(self) -> bool:
        """Whether no snapshot will come by itself, as it does on a new connection."""
        return self.book.state is BookState.STALE and self.connection.is_up and not self._is_cut

    @property
    def reason(self) -> str:
        """Why the book is not true; nothing where it is."""
        state, why = self.book.state, self.book.stale_reason
        if state is BookState.LIVE:
            return ""
        missing = "waiting for a snapshot" if self.connection.is_up else self.connection.text
        return missing if why in (None, _CUT) else f"{why}; {missing}"

    def shown(self, depth: int) -> ShownBook:
        """Return what there is to show now, the best so many levels of each side."""
        return ShownBook(
            book=self.book.snapshot(depth),
            levels=(len(self.book.asks), len(self.book.bids)),
            updates=self.updates,
            reason=self.reason,
            connection=self.connection.text,
        )


class _Output(Protocol):
    @property
    def count(self) -> int:
        """How much of what --count counts is out."""
        ...

    def note(self, text: str) -> None: ...

    def show(self, watched: WatchedBook, now: float) -> None: ...

    def finish(self, watched: WatchedBook) -> None: ...


class BookLines:
    """Writes a line whenever the best levels or the state have changed."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: object = (BookState.EMPTY, None, None, None)
        self._flushed = -inf
        if sys.stdout.isatty():
            sys.stdout.write(f"{LINE_HEADER}\n")

    def note(self, text: str) -> None:
        """Say something on stderr."""
        note(printable(text))

    def show(self, watched: WatchedBook, now: float) -> None:
        """Write a line where there is something new, and see to it that it is read soon."""
        book = watched.book
        news = (book.state, book.stale_reason, book.best_bid, book.best_ask)
        if news != self._shown:
            self._shown = news
            self.count += 1
            sys.stdout.write(f"{book_line(watched.shown(1))}\n")
        if now - self._flushed >= _PICTURE_SECONDS:
            self._flushed = now
            sys.stdout.flush()

    def finish(self, watched: WatchedBook) -> None:
        """Nothing is left to do."""


class BookScreen:
    """Draws the book whenever something has changed, at most ten times a second. Counts updates."""

    def __init__(self, screen: Screen, ladder: Ladder) -> None:
        self.count = 0
        self._screen = screen
        self._ladder = ladder
        self._drawn = -inf

    def note(self, text: str) -> None:
        """Say nothing, since how the connection stands is in the picture."""

    def show(self, watched: WatchedBook, now: float) -> None:
        """Draw, if that was not done just now."""
        self.count = watched.updates
        if now - self._drawn >= _PICTURE_SECONDS:
            self._drawn = now
            self._draw(watched)

    def finish(self, watched: WatchedBook) -> None:
        """Draw what the last picture does not show."""
        self._draw(watched)

    def _draw(self, watched: WatchedBook) -> None:
        width, height = self._screen.size()
        shown = watched.shown(self._ladder.depth(height))
        self._screen.draw(self._ladder.screen(shown, width, height), self._ladder.footer(shown, width, height))


class Renewal:
    """Decides when a book that lacks a snapshot is to have a new connection: at once, then each 10 seconds. Pure."""

    def __init__(self) -> None:
        self._last = -inf

    def is_due(self, watched: WatchedBook, now: float) -> bool:
        """Return whether to renew now, a time in seconds; whoever asks does so."""
        if not watched.lacks_snapshot or now - self._last < _RENEW_SECONDS:
            return False
        self._last = now
        return True


def _watch(arguments: Namespace, tally: Tally) -> None:
    wanted = Subscription([arguments.type], symbol_ids=[f"{arguments.symbol}$"])
    with ExitStack() as stack:
        stack.enter_context(ended_by_sigterm())
        feed, source = stack.enter_context(opened_feed(arguments, wanted, tally))
        prepare_stdout(as_text=True)
        # The last to be entered, and the first to be left: closing a connection may take a moment.
        output = BookScreen(stack.enter_context(Screen()), _ladder(arguments)) if is_drawable() else BookLines()
        is_direct = source.endpoint.product == "ds"
        watched = WatchedBook(arguments.symbol, arguments.type, source.redact, by_any_name=is_direct)
        _show_all(feed, watched, output, arguments)


def _show_all(feed: Feed, watched: WatchedBook, output: _Output, arguments: Namespace) -> None:
    renewal = Renewal()
    count = inf if arguments.count is None else arguments.count
    for item in feed.items(pause=_PICTURE_SECONDS, duration=arguments.duration):
        said = None if item is None else watched.take(item)
        if said is not None:
            output.note(said)
        now = time.monotonic()
        output.show(watched, now)
        if output.count >= count:
            break
        if feed.can_renew and renewal.is_due(watched, now):
            feed.renew()
    output.finish(watched)


def _ladder(arguments: Namespace) -> Ladder:
    return Ladder(arguments.depth, bars=arguments.bars, colors=wants_color(), blocks=can_encode("█▏"))
