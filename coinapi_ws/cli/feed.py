"""What a client brings, for a command that has other things to do while nothing comes."""

from __future__ import annotations

import logging
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import inf
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeAlias

from ..client.client import Client
from ..events import Connected, Disconnected, Event, Gap, Live, Quiet, Reconnecting, Undecodable
from ..exceptions import UsageError
from ..messages import ErrorMessage, Heartbeat, Message
from ..subscription import Subscription
from .running import CLOSE_SECONDS, Source, opened_source
from .summary import Tally

if TYPE_CHECKING:
    from typing_extensions import Self

Item: TypeAlias = "Message | Event"

#: After so long without a message somebody at a terminal asks himself whether the symbol is right.
_QUIET_AFTER_SECONDS: Final = 10.0
#: So many items wait for the command at most; the others wait in the client, which knows what to do with too many.
_MOST_WAITING: Final = 1000
_LOOK_SECONDS: Final = 0.01


@contextmanager
def opened_feed(arguments: Namespace, wanted: Subscription, tally: Tally) -> Iterator[tuple[Feed, Source]]:
    """Yield a feed of what is wanted, and where it comes from; count in the end."""
    with opened_source(arguments) as source:
        client = Client(
            source.key,
            endpoint=source.endpoint,
            ssl=source.ssl_context,
            numbers="decimal",
            keep_raw=True,
            close_timeout=CLOSE_SECONDS,
            quiet_after=_QUIET_AFTER_SECONDS,
        )
        feed = Feed(client, wanted, tally, ends_with_connection=arguments.recording is not None)
        start = time.monotonic()
        try:
            with feed:
                yield feed, source
        finally:
            if feed.was_connected:
                tally.elapsed_seconds = time.monotonic() - start
            tally.surplus = client.stats().surplus


class Feed:
    """Iterates over a client on a thread of its own, so that the command's can wait for a limited time.

    A context manager: it starts the client and closes it. With ``ends_with_connection``, as for a recording, it ends
    with the connection. Otherwise the client reconnects, but not before it has been live once: what fails at once, such
    as a wrong address, is better told at once.
    """

    def __init__(
        self, client: Client, wanted: Subscription, tally: Tally, *, ends_with_connection: bool = False
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._tally = tally
        self._ends_with_connection = ends_with_connection
        self.was_connected = False
        self._was_live = False
        self._is_left = False
        self._stack = ExitStack()
        # Written in C, so that no Ctrl-C comes into the middle of one of its calls.
        self._items: SimpleQueue[Item | _End] = SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="coinapi-ws-feed", daemon=True)

    def __enter__(self) -> Self:
        self._stack.enter_context(silenced_log())
        self._client.subscribe(self._wanted)
        self._client.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_left = True
        self._client.close()
        self._thread.join()
        self._stack.close()

    def items(self, *, pause: float, duration: float | None = None) -> Iterator[Item | None]:
        """Iterate over items, with a None whenever none came for ``pause`` seconds; for at most ``duration`` seconds.

        Raises what ended the client, or the connection where the feed ends with it, unless that is no error.
        """
        end = inf if duration is None else time.monotonic() + duration
        while (left := end - time.monotonic()) > 0:
            try:
                item = self._items.get(timeout=min(pause, left))
            except Empty:
                yield None
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            self._count(item)
            self.was_connected = self.was_connected or isinstance(item, Connected)
            self._was_live = self._was_live or isinstance(item, Live)
            if isinstance(item, Disconnected) and self._is_last(item):
                return
            yield item

    @property
    def can_renew(self) -> bool:
        """Whether a new connection brings new snapshots; a recording would begin anew."""
        return not self._ends_with_connection

    def renew(self) -> None:
        """Make a new connection, which brings new snapshots."""
        with suppress(UsageError):  # where the client has ended, and why is on its way
            self._client.reconnect()

    def _count(self, item: Item) -> None:
        if isinstance(item, (Message, Gap, Undecodable)) and not isinstance(item, Heartbeat):
            self._tally.add(item)

    def _is_last(self, ending: Disconnected) -> bool:
        if self._ends_with_connection:
            error = ending.error()
            if error is not None:
                raise error
            return True
        if not self._was_live:
            raise ending.error() or ending.as_error()
        return False

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._client:
                self._items.put(item)
                while self._items.qsize() >= _MOST_WAITING and not self._is_left:
                    time.sleep(_LOOK_SECONDS)
                if self._is_left:
                    return
        except Exception as caught:  # noqa: BLE001  for the thread that takes the items
            error = caught
        self._items.put(_End(error))


class _End:
    """The last of a feed, with what ended it."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


_SILENCE: Final = logging.NullHandler()


@contextmanager
def silenced_log() -> Iterator[None]:
    """Keep back what the client logs: it comes as events as well, and a line from elsewhere would spoil a screen."""
    logging.getLogger("coinapi_ws").addHandler(_SILENCE)
    try:
        yield
    finally:
        logging.getLogger("coinapi_ws").removeHandler(_SILENCE)


class ConnectionText:
    """How the connection stands: whether it is up, and in words for people."""

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        self.is_up = False
        self.text = "connecting"
        self._was_cut = False
        self._ending = ""
        self._is_quiet = False
        self._redact = redact

    def take(self, item: Item) -> str | None:
        """Take note of an item; return what is worth a note of its own."""
        if isinstance(item, Live):
            self.is_up, self.text = True, "connected"
            return "connected again" if self._was_cut else None
        if isinstance(item, Disconnected):
            self.is_up, self._was_cut, self._is_quiet = False, True, False
            self._ending = item.summary()
            self.text = f"disconnected: {self._ending}"
            return self.text
        if isinstance(item, Reconnecting):
            # First, since a screen may be too narrow for the rest.
            self.text = f"disconnected, attempt {item.attempt} in {item.delay:.1f} s: {self._ending}"
        elif isinstance(item, Quiet):
            self.text, self._is_quiet = item.summary(), True
            return self.text
        elif isinstance(item, ErrorMessage):
            return f"the server said: {self._redact(str(item.message))}"
        elif isinstance(item, Undecodable):
            return f"a frame that is no message: {item.reason}"
        elif self._is_quiet and isinstance(item, Message) and not isinstance(item, Heartbeat):
            self.text, self._is_quiet = "connected", False
        return None
