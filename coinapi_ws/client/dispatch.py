"""Callbacks: called one after the other, on one thread, and no failure of one stops the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from ..events import CallbackFailed, Event
from ..messages import Message
from ..protocol.frames import Frame, Frames, Item
from .keys import is_market_data
from .queueing import DeliveryQueue
from .registry import Callback, Registry
from .undecoded import Undecoded, frames_and_events

LOGGER: Final = logging.getLogger("coinapi_ws")
#: Takes events, and frames that are mostly not decoded, in their order. What it raises ends the client.
Taker: TypeAlias = "Callable[[Sequence[Event | Frame | Frames]], object]"
#: Taken from the queue at once, or a whole read; they are neither queued nor delivered meanwhile.
_BATCH: Final = 256


class Dispatcher:
    """Gives items to whoever is registered for them. ``on_failure`` is called with what a callback raised."""

    def __init__(self, queue: DeliveryQueue, registry: Registry, on_failure: Callable[[BaseException], object]) -> None:
        self._queue = queue
        self._registry = registry
        self._on_failure = on_failure
        #: Takes messages as they came, in place of the callbacks.
        self.taker: Taker | None = None
        #: The callback that is running now.
        self.running: Callback | None = None
        self.delivered = 0
        self.unhandled = 0
        self.failures = 0

    def run(self) -> None:
        """Deliver what the queue has until it ends."""
        while (items := self._queue.take(_BATCH)) is not None:
            self.deliver(items if self.taker is None else self._left_by(self.taker, items))

    def _left_by(self, taker: Taker, items: Sequence[Item | Undecoded]) -> Sequence[Item | Undecoded]:
        """Give to the taker what came; return what is for callbacks: events, and what the conversation itself says."""
        if self._queue.is_discarding:
            return items
        as_came = list(frames_and_events(items))
        taker(as_came)
        left: list[Item] = []
        for item in as_came:
            if isinstance(item, Frames):
                self.delivered += len(item.payloads)
            elif isinstance(item, Event):
                left.append(item)
            elif is_market_data(item.decoded):
                self.delivered += 1
            else:
                left.append(item.decoded)
        return left

    def deliver(self, items: Sequence[Item | Undecoded]) -> None:
        """Call the callbacks for these items, in order."""
        queue, callbacks_of, call = self._queue, self._registry.callbacks, self._call
        for position, item in enumerate(items):
            if isinstance(item, Undecoded):
                for piece in item:
                    self.deliver(piece)
                continue
            if queue.is_discarding:
                queue.count_undelivered(items[position:])
                return
            callbacks = callbacks_of(item)
            if isinstance(item, Message):
                if callbacks:
                    self.delivered += 1
                else:
                    self.unhandled += 1
            for callback in callbacks:
                call(callback, item)
                if self._queue.is_discarding:
                    break  # closed by this one, or meanwhile; what counts as delivered was so to one at least

    def call(self, callback: Callback, item: Item) -> None:
        """Call one within another one, unless that has closed the client."""
        if not self._queue.is_discarding:
            self._call(callback, item)

    def _call(self, callback: Callback, item: Item) -> None:
        """Call one; what it raises is told to whoever listens to that."""
        caller, self.running = self.running, callback
        try:
            callback(item)
        except BaseException as error:  # noqa: BLE001 - even SystemExit must not end the thread unseen (F10, F11)
            self._fail(callback, item, error)
        finally:
            self.running = caller

    def _fail(self, callback: Callback, item: Item, error: BaseException) -> None:
        self.failures += 1
        LOGGER.error("the callback %s failed on a %s", name_of(callback), type(item).__name__, exc_info=error)
        if isinstance(item, CallbackFailed):
            return  # told once; telling it of itself would never end
        self.deliver([CallbackFailed(callback=callback, argument=item, error=error)])
        self._on_failure(error)


def name_of(callback: Callback) -> str:
    """Return a name to show for a callback."""
    return str(getattr(callback, "__qualname__", None) or type(callback).__qualname__)
