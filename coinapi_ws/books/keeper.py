"""All books of a threaded client, true or told not to be, and asked for again where they are not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, TypeVar, overload

from ..client.client import Client
from ..client.registry import Registry
from ..client.states import ClientState
from ..events import Cause, Connected, Disconnected, Dropped, Event, Reconnecting, SequenceGap
from ..exceptions import ConfigurationError, UsageError
from ..messages import Book, BookL3, Heartbeat, Message
from ..scope import Scope
from ..subscription import other_names
from .books import BookSnapshot, BookState, L2Book, L3Book, L3Snapshot
from .resync import Resync

RESUBSCRIBE: Final = "resubscribe"
RECONNECT: Final = "reconnect"
NONE: Final = "none"

#: Two hellos each: of the vendor's ten in ten seconds, two are left for whoever changes the scope.
DEFAULT_RESYNC_INTERVAL_SECONDS: Final = 2.5
#: The client's back-off, which begins anew after a healthy minute, grows no further for it.
DEFAULT_RECONNECT_INTERVAL_SECONDS: Final = 60.0
#: Books that are wrong at nearly the same time are asked for together.
_COLLECTING_SECONDS: Final = 0.1
#: A first snapshot that deltas came before has so much time to come.
_SNAPSHOT_SECONDS: Final = 5.0
#: A server that gave no snapshot after so many askings is asked by reconnecting, 35 seconds after the first.
_MOST_IN_VAIN: Final = 3
#: Each message of other types is a whole book, so what is lost makes none wrong.
_CHANGED_TYPES: Final = frozenset({"book", "book_l3"})
_NOT_WANTED: Final = "it is not subscribed to any more"
_BROKEN_OFF: Final = "a message was applied in part"
_OVER: Final = "the client was closed, and delivers no more"

Key: TypeAlias = "tuple[str, str]"
AnyBook: TypeAlias = "L2Book | L3Book"
L2Type: TypeAlias = Literal["book", "book5", "book20", "book50"]
L3Type: TypeAlias = Literal["book_l3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookEvent(Event):
    """Base of what a :class:`BookKeeper` tells: of which book."""

    type: str
    symbol_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BookUpdated(BookEvent):
    """A book took this message, a snapshot or a change, and is LIVE."""

    message: Book | BookL3


@dataclass(frozen=True, slots=True, kw_only=True)
class BookLive(BookEvent):
    """A book has become true; the :class:`BookUpdated` of the snapshot that made it so follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookStale(BookEvent):
    """A book that was LIVE is to be trusted no more: STALE now, or EMPTY where its connection ended."""

    reason: str


E = TypeVar("E", bound=BookEvent)
C = TypeVar("C", bound=Callable[[Any], object])


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperStats:
    """Counts of a :class:`BookKeeper`: how many books are LIVE, and how many are not; messages that were held back.

    ``resubscribed`` and ``reconnected`` are how often it asked the client for that.
    """

    live: int
    not_live: int
    held_back: int
    resubscribed: int
    reconnected: int


class _Kept:
    """A book, and the lock to hold while it is changed or read."""

    __slots__ = ("book", "lock")

    def __init__(self, book: AnyBook) -> None:
        self.book = book
        self.lock = threading.RLock()  # a signal handler may read in the middle of a reading


class BookKeeper:
    """All books that a :class:`~coinapi_ws.Client` is subscribed to: book, book_l3, book5, book20, book50.

    Make it before the client starts, and before other callbacks that are to find its books up to date; registered with
    the client, it works on the client's dispatcher thread, where its own callbacks (:meth:`on`) are called too. Any
    other thread reads: each reading method sees a book between two messages, never half of one.

    A book that lost a message is STALE, and no other is touched; what cannot be applied is held back and counted. When
    the connection ends all books are EMPTY until the next one's snapshots; a handover leaves them be. A book whose
    symbol left the client's scope is kept no more.

    ``resync`` says how a book that is not true gets its next snapshot: by ``"resubscribe"``
    (:meth:`Client.resubscribe() <coinapi_ws.Client.resubscribe>`; where the scope cannot spare the symbol, by
    reconnecting), by ``"reconnect"``, or not before the server sends one by itself, ``"none"``. Books are asked for
    together, no more often than each ``resync_interval`` seconds, and by reconnecting ``reconnect_interval``; a book
    that does not come is asked for again after 5 seconds, then 10, up to 60, and after the third time by reconnecting.
    Messages of any kind bring the time for that, so with ``request_heartbeats=False`` a quiet market may have it later.
    ``level_delete`` is that of :class:`L3Book`.

    Raises ``ConfigurationError`` for wrong options, ``UsageError`` for a client that is iterated.
    """

    def __init__(
        self,
        client: Client,
        *,
        resync: str = RESUBSCRIBE,
        resync_interval: float = DEFAULT_RESYNC_INTERVAL_SECONDS,
        reconnect_interval: float = DEFAULT_RECONNECT_INTERVAL_SECONDS,
        level_delete: str = "remove",
    ) -> None:
        if not isinstance(client, Client):
            raise ConfigurationError("client is a Client; books of a stream are made by L2Book and L3Book")
        if resync not in (RESUBSCRIBE, RECONNECT, NONE):
            raise ConfigurationError(f'resync={resync!r} is not possible; write "resubscribe", "reconnect" or "none"')
        _check_seconds("resync_interval", resync_interval)
        _check_seconds("reconnect_interval", reconnect_interval)
        L3Book("", level_delete=level_delete)  # what is wrong with it is said here
        self._client = client
        self._how = resync
        self._reconnect_interval = reconnect_interval
        self._level_delete = level_delete
        self._registry = Registry()
        self._books: dict[Key, _Kept] = {}  # replaced, never changed: any thread may look
        self._held_back = 0  # of books that are kept no more
        self._scope = client.scope
        self._connections = 0
        self._resync: Resync[Key] = Resync(resync_interval)
        self._next_reconnect = 0.0
        self._resubscribed = self._reconnected = 0
        self._is_watching = False
        client.on(Book, self._take_book)
        client.on(BookL3, self._take_book)
        client.on(SequenceGap, self._take_gap)
        client.on(Dropped, self._take_dropped)
        client.on(Connected, self._take_connected)
        client.on(Disconnected, self._take_disconnected)
        client.on(Reconnecting, self._take_reconnecting)
        client.on(Heartbeat, self._take_any)

    def __repr__(self) -> str:
        stats = self.stats()
        return f"<BookKeeper of {self._client!r}: {stats.live} live, {stats.not_live} not>"

    # What to hear

    @overload
    def on(self, kind: type[E], *, symbol_id: str | None = None) -> Callable[[C], C]: ...

    @overload
    def on(self, kind: type[E], callback: C, *, symbol_id: str | None = None) -> C: ...

    def on(self, kind: type[E], callback: C | None = None, *, symbol_id: str | None = None) -> C | Callable[[C], C]:
        """Call a function of one argument with each event of a kind; decorator or plain call, it returns the function.

        ``kind`` is :class:`BookUpdated`, :class:`BookLive`, :class:`BookStale`, or their base :class:`BookEvent`;
        ``symbol_id`` narrows it to one symbol. What it raises is dealt with as of the client's own callbacks.

        Raises ``ConfigurationError`` for anything else. Any thread.
        """
        if callback is None:
            return lambda function: self.on(kind, function, symbol_id=symbol_id)
        kinds: Any = kind
        if not (isinstance(kinds, type) and issubclass(kinds, BookEvent)):
            raise ConfigurationError(f"a keeper tells BookUpdated, BookLive and BookStale; ask the client for {kind!r}")
        self._registry.add(kind, callback, symbol_id)
        return callback

    def off(self, kind: type[E], callback: Callable[..., object], *, symbol_id: str | None = None) -> None:
        """Take a registration back. Raises ``UsageError`` where there is no such registration. Any thread."""
        self._registry.remove(kind, callback, symbol_id)

    # What to read, from any thread

    @overload
    def snapshot(self, symbol_id: str, depth: int | None = None, *, type: L2Type = "book") -> BookSnapshot: ...

    @overload
    def snapshot(self, symbol_id: str, depth: int | None = None, *, type: L3Type) -> L3Snapshot: ...

    def snapshot(self, symbol_id: str, depth: int | None = None, *, type: str = "book") -> BookSnapshot:
        """Return a book as it is now, EMPTY where there is none; with ``depth`` the best so many levels of each side.

        Look at its ``state``. A ``$`` at the end of a symbol id, as in a subscription, may be left out here and in the
        other methods. Any thread; blocks while the book takes a message.
        """
        key = _key(type, symbol_id)
        kept = self._books.get(key)
        if kept is None:
            return self._made(*key).snapshot()
        with kept.lock:
            snapshot = kept.book.snapshot(depth)
        state = self._state_of(snapshot)
        return snapshot if state is snapshot.state else replace(snapshot, state=state)

    def state(self, symbol_id: str, *, type: str = "book") -> BookState:
        """Return how far a book can be trusted now. Any thread; does not block."""
        kept = self._books.get(_key(type, symbol_id))
        return BookState.EMPTY if kept is None else self._state_of(kept.book)

    def states(self) -> dict[tuple[str, str], BookState]:
        """Return how far each book can be trusted now, by type and symbol. Any thread; does not block."""
        return {key: self._state_of(kept.book) for key, kept in self._books.items()}

    def stale(self) -> list[tuple[str, str]]:
        """Return type and symbol of the books that are STALE now. Any thread; does not block."""
        return [key for key, state in self.states().items() if state is BookState.STALE]

    @overload
    def reading(self, symbol_id: str, *, type: L2Type = "book") -> AbstractContextManager[L2Book]: ...

    @overload
    def reading(self, symbol_id: str, *, type: L3Type) -> AbstractContextManager[L3Book]: ...

    def reading(self, symbol_id: str, *, type: str = "book") -> AbstractContextManager[Any]:
        """Hold a book still, to read what a snapshot does not say: ``with keeper.reading(symbol_id) as book: …``.

        Be quick: the messages of this book, and of all others behind them, wait meanwhile. Hold one book at a time, and
        neither close nor join the client meanwhile. Read only; :meth:`state` says whether it is true. Raises
        ``UsageError`` where there is no such book yet. Any thread; blocks while the book takes a message.
        """
        return self._reading(_key(type, symbol_id))

    @contextmanager
    def _reading(self, key: Key) -> Iterator[Any]:
        kept = self._books.get(key)
        if kept is None:
            raise UsageError(f"there is no {key[0]} of {key[1]} yet; is it subscribed to?")
        with kept.lock:
            if self._client._is_discarding:
                kept.book.make_stale(_OVER)
            yield kept.book

    def stats(self) -> KeeperStats:
        """Return the counts so far. Any thread; does not block."""
        books = [kept.book for kept in self._books.values()]
        live = sum(self._state_of(book) is BookState.LIVE for book in books)
        return KeeperStats(
            live=live,
            not_live=len(books) - live,
            held_back=self._held_back + sum(book.held_back for book in books),
            resubscribed=self._resubscribed,
            reconnected=self._reconnected,
        )

    def _state_of(self, book: AnyBook | BookSnapshot) -> BookState:
        """Tell what is true: a client that was closed at once does not deliver that its connection ended."""
        is_over = self._client._is_discarding or self._client.state is ClientState.CLOSED
        return BookState.STALE if is_over and book.state is BookState.LIVE else book.state

    # On the client's dispatcher thread

    def _take_book(self, message: Book | BookL3) -> None:
        self._look_at_scope()
        kept = self._kept_of(message)
        if kept is not None:
            self._apply(kept, message)
        self._resync_due()

    def _take_gap(self, gap: SequenceGap) -> None:
        kept = self._books.get((gap.type, gap.symbol_id))
        if kept is not None and gap.type in _CHANGED_TYPES:
            self._apply(kept, gap)

    def _take_dropped(self, dropped: Dropped) -> None:
        kept = self._books.get((dropped.type, dropped.symbol_id or ""))
        if kept is not None and dropped.type in _CHANGED_TYPES:
            self._change(kept, lambda book: book.make_stale(f"{dropped.count} messages were not delivered"))

    def _take_connected(self, _: Connected) -> None:
        self._connections += 1

    def _take_disconnected(self, ending: Disconnected) -> None:
        waited_in_vain = ending.cause is Cause.RATE_LIMIT and ending.initiator == "network"  # to send its hello
        if ending.stage in ("hello", "live") and not waited_in_vain:
            self._connections = max(0, self._connections - 1)
        if not self._connections:  # else another one takes over, or a Reconnecting says that it cannot
            self._empty_all(f"the connection ended: {ending.detail}")

    def _take_reconnecting(self, _: Reconnecting) -> None:
        self._empty_all("the connection ended")

    def _take_any(self, _: Message) -> None:
        self._look_at_scope()
        self._resync_due()

    def _kept_of(self, message: Book | BookL3) -> _Kept | None:
        if message.symbol_id is None:
            return None
        key = (message.type, message.symbol_id)
        kept = self._books.get(key)
        product = self._client._options.endpoint.product
        if kept is None and self._scope.may_match(message, product):  # else it is a late one
            kept = _Kept(self._made(*key))
            self._books = {**self._books, key: kept}
        return kept

    def _made(self, type_name: str, symbol_id: str) -> AnyBook:
        if type_name == "book_l3":
            return L3Book(symbol_id, level_delete=self._level_delete)
        return L2Book(symbol_id, type_name)

    def _apply(self, kept: _Kept, item: Book | BookL3 | SequenceGap) -> None:
        book: Any = kept.book
        is_taken = self._change(kept, lambda book: book.apply(item))
        if is_taken:
            self._tell(BookUpdated(type=book.type, symbol_id=book.symbol_id, message=item))  # type: ignore[arg-type]
        elif book.state is BookState.EMPTY:
            self._miss(book, _SNAPSHOT_SECONDS)

    def _change(self, kept: _Kept, change: Callable[[Any], Any]) -> Any:
        """Change a book, and tell what became of it."""
        book = kept.book
        was_live = book.state is BookState.LIVE
        try:
            with kept.lock:
                return change(book)
        finally:  # what could not be applied may have broken the book
            is_live = book.state is BookState.LIVE
            if is_live and not was_live:
                self._resync.forget((book.type, book.symbol_id))
                self._tell(BookLive(type=book.type, symbol_id=book.symbol_id))
            elif was_live and not is_live:
                self._miss(book, _COLLECTING_SECONDS)
                reason = book.stale_reason or _BROKEN_OFF
                self._tell(BookStale(type=book.type, symbol_id=book.symbol_id, reason=reason))

    def _empty_all(self, reason: str) -> None:
        self._resync.clear()
        for kept in self._books.values():
            self._empty(kept, reason)

    def _empty(self, kept: _Kept, reason: str) -> None:
        book = kept.book
        with kept.lock:
            was_live = book.state is BookState.LIVE
            book.clear()
        if was_live:
            self._tell(BookStale(type=book.type, symbol_id=book.symbol_id, reason=reason))

    def _look_at_scope(self) -> None:
        scope = self._client.scope
        if scope is not self._scope:
            before, self._scope = self._scope, scope
            gone = {key: kept for key, kept in self._books.items() if not _stays(before, scope, key)}
            if gone:
                self._drop(gone)

    def _drop(self, gone: dict[Key, _Kept]) -> None:
        self._books = {key: kept for key, kept in self._books.items() if key not in gone}
        for key, kept in gone.items():
            self._held_back += kept.book.held_back
            self._resync.forget(key)
            self._empty(kept, _NOT_WANTED)

    def _tell(self, event: BookEvent) -> None:
        for callback in self._registry.callbacks(event):
            self._client._call(callback, event)

    # Resync

    def _miss(self, book: AnyBook, seconds: float) -> None:
        if self._how != NONE:
            self._resync.miss((book.type, book.symbol_id), time.monotonic() + seconds)
            self._watch()

    def _resync_due(self) -> None:
        """Ask for what is due. Time comes with the messages: where nothing else comes there is a heartbeat a second."""
        if not self._resync:
            self._watch()
            return
        keys = self._resync.take(time.monotonic())
        if keys:
            try:
                self._ask(keys)
            except UsageError:  # the client was closed
                self._resync.clear()

    def _ask(self, keys: list[Key]) -> None:
        """Have those come again that can on their own; where one cannot, or did not, all of them by reconnecting.

        That is not to be too often, so until then the others come all the same.
        """
        leaving = self._that_can_leave({symbol_id for _, symbol_id in keys})
        staying = [key for key in keys if key[1] not in leaving]
        # Where all that is subscribed to is wrong, one has to stay for the others.
        waiting = [key for key in staying if self._that_can_leave({key[1]})]
        is_in_vain = any(self._resync.asked(key) > _MOST_IN_VAIN for key in keys)
        now = time.monotonic()
        if (is_in_vain or len(waiting) < len(staying)) and now >= self._next_reconnect:
            self._client.reconnect()
            self._next_reconnect = now + self._reconnect_interval
            self._reconnected += 1
        else:
            self._resync.postpone(waiting)
            if leaving and self._client.resubscribe(leaving):
                self._resubscribed += 1

    def _that_can_leave(self, symbol_ids: set[str]) -> set[str]:
        """Return those of these symbols that can be taken out of the scope together."""
        if self._how != RESUBSCRIBE:
            return set()
        return self._client.scope.most_that_can_leave(symbol_ids, wire=self._client._options.wire)

    def _watch(self) -> None:
        """Hear of every message while any book is waited for."""
        if self._is_watching is bool(self._resync):
            return
        self._is_watching = not self._is_watching
        if self._is_watching:
            self._client.on(Message, self._take_any)
        else:
            self._client.off(Message, self._take_any)


def _key(type_name: str, symbol_id: str) -> Key:
    """The book that is meant; the ``$`` that a whole id has in a subscription may be there."""
    return type_name, symbol_id.removesuffix("$")


def _stays(before: Scope, scope: Scope, key: Key) -> bool:
    type_name, symbol_id = key
    book = Book(type=type_name, symbol_id=symbol_id)
    if scope.may_match(book):
        return True
    # Else it came by a name of the exchange's own, which one is not known.
    return not before.may_match(book) and _other_names(before, key) <= _other_names(scope, key)


def _other_names(scope: Scope, key: Key) -> set[str]:
    type_name, symbol_id = key
    members = (member for member in scope if type_name in member.data_types)
    return {name for member in members for name in other_names(member, symbol_id)}


def _check_seconds(name: str, seconds: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{name} is a positive number of seconds, not {seconds!r}")
