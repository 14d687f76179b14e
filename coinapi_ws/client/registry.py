"""Who listens to what."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, TypeAlias

from ..events import Event
from ..exceptions import ConfigurationError, UsageError
from ..messages import MESSAGE_TYPES, Message
from ..protocol.frames import Item
from ..subscription import KNOWN_DATA_TYPES, SubscriptionWarning

Callback: TypeAlias = "Callable[[Any], object]"
#: A class of messages or events, or a message's wire name.
Kind: TypeAlias = "type[Message] | type[Event] | str"

#: Types of messages are the server's to name, so what was looked up for them is bounded.
_MAX_LOOKUPS: Final = 1000


class _Listener(NamedTuple):
    kind: type
    name: str | None
    symbol_id: str | None
    callback: Callback

    def hears(self, item_class: type, name: str | None) -> bool:
        return issubclass(item_class, self.kind) and self.name in (None, name)


class _Table:
    """The listeners at one moment, with what was looked up among them; replaced, never changed."""

    def __init__(self, listeners: tuple[_Listener, ...]) -> None:
        self.listeners = listeners
        #: From class and type to the callbacks of a symbol, and those of any other.
        self._lookups: dict[tuple[type, str | None], tuple[dict[str, tuple[Callback, ...]], tuple[Callback, ...]]] = {}
        #: The callbacks of classes of which nobody listens to one type or symbol alone.
        self.of_class: dict[type, tuple[Callback, ...]] = {}

    def callbacks(self, item: Item) -> tuple[Callback, ...]:
        key = (type(item), getattr(item, "type", None))
        found = self._lookups.get(key)
        if found is None:
            if len(self._lookups) >= _MAX_LOOKUPS:
                self._lookups = {}
            found = self._lookups[key] = self._look_up(*key)
            listening = [listener for listener in self.listeners if issubclass(key[0], listener.kind)]
            if all(listener.name is None and listener.symbol_id is None for listener in listening):
                self.of_class[key[0]] = found[1]
        by_symbol, others = found
        return by_symbol.get(getattr(item, "symbol_id", None) or "", others) if by_symbol else others

    def _look_up(
        self, item_class: type, name: str | None
    ) -> tuple[dict[str, tuple[Callback, ...]], tuple[Callback, ...]]:
        hearing = [listener for listener in self.listeners if listener.hears(item_class, name)]
        symbols = {listener.symbol_id for listener in hearing if listener.symbol_id is not None}
        return {symbol: _of_symbol(hearing, symbol) for symbol in symbols}, _of_symbol(hearing, None)


class Registry:
    """Callbacks by what they listen to. Any thread; it never blocks."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._table = _Table(())

    def __len__(self) -> int:
        return len(self._table.listeners)

    def renew_lock(self) -> None:
        """Forget, in a forked child, whoever held the lock."""
        self._lock = threading.RLock()

    def add(self, kind: Kind, callback: Callback, symbol_id: str | None) -> None:
        """Let a callback hear a kind of items. Raises ``ConfigurationError`` where there is no such kind."""
        listener = _listener(kind, callback, symbol_id)
        with self._lock:
            self._table = _Table((*self._table.listeners, listener))

    def remove(self, kind: Kind, callback: Callback, symbol_id: str | None) -> None:
        """Take an equal registration back, the latest one. Raises ``UsageError`` where there is none."""
        listener = _listener(kind, callback, symbol_id)
        with self._lock:
            listeners = list(self._table.listeners)
            for position in reversed(range(len(listeners))):
                if listeners[position] == listener:
                    del listeners[position]
                    self._table = _Table(tuple(listeners))
                    return
        raise UsageError("this callback is not registered for this; pass what was passed to on()")

    def callbacks(self, item: Item) -> tuple[Callback, ...]:
        """Return who listens to this item, in the order of registration."""
        table = self._table
        found = table.of_class.get(type(item))
        return table.callbacks(item) if found is None else found


def _of_symbol(listeners: list[_Listener], symbol_id: str | None) -> tuple[Callback, ...]:
    return tuple(listener.callback for listener in listeners if listener.symbol_id in (None, symbol_id))


def _listener(kind: Kind, callback: Callback, symbol_id: str | None) -> _Listener:
    if not callable(callback):
        raise ConfigurationError(f"a callback takes one argument; {type(callback).__name__} cannot be called")
    heard_class, name = _heard(kind)
    if symbol_id is not None:
        if not isinstance(symbol_id, str):
            raise ConfigurationError("symbol_id is a str, such as COINBASE_SPOT_BTC_USD")
        symbol_id = symbol_id.removesuffix("$")
        if not symbol_id or symbol_id.endswith("_"):
            raise ConfigurationError(f"symbol_id is one whole symbol id here, not the prefix {symbol_id!r}")
        narrowed = heard_class if name is None else MESSAGE_TYPES.get(name, Message)
        if not hasattr(narrowed, "symbol_id") and narrowed is not Message:
            raise ConfigurationError(f"{name or heard_class.__name__} has no symbol_id")
    return _Listener(heard_class, name, symbol_id, callback)


def _heard(kind: Kind) -> tuple[type, str | None]:
    if isinstance(kind, type):
        if issubclass(kind, (Message, Event)):
            return kind, None
        raise ConfigurationError(f"{kind.__name__} is no class of messages or events; write on(Trade, …) or on(Gap, …)")
    if not isinstance(kind, str):
        raise ConfigurationError('on() takes a class such as Trade, or a wire name such as "trade", first')
    if kind not in MESSAGE_TYPES and kind not in KNOWN_DATA_TYPES:
        near = get_close_matches(kind, [*MESSAGE_TYPES, *KNOWN_DATA_TYPES], n=1)
        meant = f"; did you mean {near[0]!r}?" if near else "; a class of events is passed as the class"
        warnings.warn(f"no message of type {kind!r} is known{meant}", SubscriptionWarning, stacklevel=5)
    return Message, "heartbeat" if kind == "hearbeat" else kind
