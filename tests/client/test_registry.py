"""Who listens to what: by class, base class or wire name, narrowed to a symbol, in the order of registration."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from builders import ADA, BTC, asset, book, book5, book_l3, heartbeat, quote, rate, trade, undecodable
from peers import PATIENCE_SECONDS

from coinapi_ws import (
    Asset,
    Book,
    ConnectionGap,
    Disconnected,
    Dropped,
    Event,
    Gap,
    Heartbeat,
    Live,
    Message,
    Ohlcv,
    Scope,
    SequenceGap,
    Trade,
    UnknownMessage,
)
from coinapi_ws.client import registry as registry_module
from coinapi_ws.client.registry import Registry
from coinapi_ws.exceptions import ConfigurationError, UsageError
from coinapi_ws.subscription import SubscriptionWarning

SEQUENCE_GAP = SequenceGap(type="book", symbol_id=BTC, expected=1, received=3)
CONNECTION_GAP = ConnectionGap(from_ns=None, to_ns=None, reason="", scope=Scope())
DROPPED = Dropped(type="trade", symbol_id=ADA, count=1, first_ns=0, last_ns=0)


def one(item: object) -> None: ...


def two(item: object) -> None: ...


def three(item: object) -> None: ...


def registry(*registrations: tuple[Any, ...]) -> Registry:
    """A registry of (kind, callback) or (kind, callback, symbol_id)."""
    made = Registry()
    for kind, callback, *symbol_id in registrations:
        made.add(kind, callback, symbol_id[0] if symbol_id else None)
    return made


def test_a_class_hears_its_own_alone() -> None:
    callbacks = registry((Trade, one), (Live, two)).callbacks
    assert callbacks(trade()) == (one,)
    assert callbacks(Live(received_ns=0)) == (two,)
    assert callbacks(quote()) == callbacks(heartbeat()) == callbacks(undecodable()) == ()


def test_a_base_class_hears_all_of_its_kind() -> None:
    callbacks = registry((Message, one), (Event, two), (Gap, three)).callbacks
    for message in (trade(), book5(1), asset(), heartbeat(), UnknownMessage(type="new")):
        assert callbacks(message) == (one,)
    assert callbacks(Live(received_ns=0)) == callbacks(undecodable()) == (two,)
    for gap in (SEQUENCE_GAP, CONNECTION_GAP, DROPPED):
        assert callbacks(gap) == (two, three)


def test_a_wire_name_hears_that_type_of_a_class_alone() -> None:
    callbacks = registry(("trade", one), ("book5", two), (Book, three)).callbacks
    assert callbacks(trade()) == (one,)
    assert callbacks(book5(1)) == (two, three)
    assert callbacks(book(1)) == (three,)
    assert callbacks(book_l3(1)) == ()


def test_a_wire_name_is_of_messages_not_of_the_events_about_them() -> None:
    assert registry(("book", one)).callbacks(SEQUENCE_GAP) == ()


@pytest.mark.parametrize("name", ["heartbeat", "hearbeat"])
def test_heartbeats_may_be_spelled_as_the_wire_does(name: str) -> None:
    made = registry((name, one), (Heartbeat, two))
    assert made.callbacks(heartbeat()) == (one, two)
    made.remove("hearbeat" if name == "heartbeat" else "heartbeat", one, None)
    assert made.callbacks(heartbeat()) == (two,)


def test_a_type_that_is_not_known_may_come_one_day() -> None:
    made = Registry()
    with pytest.warns(SubscriptionWarning, match="no message of type 'liquidation' is known"):
        made.add("liquidation", one, None)
    assert made.callbacks(UnknownMessage(type="liquidation")) == (one,)
    assert made.callbacks(UnknownMessage(type="other")) == ()


@pytest.mark.parametrize(("name", "meant"), [("trades", "trade"), ("boook5", "book5"), ("heart_beat", "heartbeat")])
def test_a_name_that_is_misspelled_is_asked_about(name: str, meant: str) -> None:
    with pytest.warns(SubscriptionWarning, match=f"{name!r} is known; did you mean {meant!r}"):
        registry((name, one))


@pytest.mark.parametrize("name", ["trade", "book_l3", "exrate", "error", "reconnect", "hearbeat"])
def test_known_names_pass_in_silence(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry((name, one))


def test_the_name_of_an_event_is_told_to_be_a_class() -> None:
    with pytest.warns(SubscriptionWarning, match="a class of events is passed as the class"):
        registry(("ConnectionGap", one))


@pytest.mark.parametrize("suffix", ["", "$"])
def test_a_symbol_narrows(suffix: str) -> None:
    made = registry((Trade, one, BTC + suffix), (Trade, two), (Message, three, ADA + suffix))
    assert made.callbacks(trade(1, BTC)) == (one, two)
    assert made.callbacks(trade(1, ADA)) == (two, three)
    assert made.callbacks(trade(1, f"{BTC}_PERP")) == (two,)
    assert made.callbacks(quote(1, ADA)) == (three,)
    assert made.callbacks(quote(1, BTC)) == ()
    made.remove(Trade, one, BTC)
    assert made.callbacks(trade(1, BTC)) == (two,)


def test_events_that_name_a_symbol_are_narrowed_too() -> None:
    callbacks = registry((SequenceGap, one, BTC), (Dropped, two, BTC), (Gap, three)).callbacks
    assert callbacks(SEQUENCE_GAP) == (one, three)
    assert callbacks(DROPPED) == (three,)


def test_what_has_no_symbol_reaches_no_listener_to_one() -> None:
    callbacks = registry((Message, one, BTC), (Message, two)).callbacks
    assert callbacks(heartbeat()) == callbacks(asset()) == callbacks(Trade()) == (two,)


@pytest.mark.parametrize("prefix", ["COINBASE_SPOT_", "", "$"])
def test_a_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="one whole symbol id here"):
        registry((Trade, one, prefix))


def test_a_symbol_is_a_str() -> None:
    with pytest.raises(ConfigurationError, match="symbol_id is a str, such as COINBASE_SPOT_BTC_USD"):
        registry((Trade, one, [BTC]))


@pytest.mark.parametrize("kind", [Asset, Heartbeat, ConnectionGap, Disconnected, Gap, Event, "asset", "exrate"])
def test_what_never_has_a_symbol_is_not_narrowed(kind: Any) -> None:
    name = kind if isinstance(kind, str) else kind.__name__
    with pytest.raises(ConfigurationError, match=f"{name} has no symbol_id"):
        registry((kind, one, BTC))


@pytest.mark.parametrize("kind", [Trade, "trade", Ohlcv, "ohlcv", "symbol", Message, "book_l3"])
def test_what_has_a_symbol_is(kind: Any) -> None:
    assert len(registry((kind, one, BTC))) == 1


@pytest.mark.parametrize("kind", [None, 1, trade(), ["trade"]])
def test_a_kind_is_a_class_or_a_name(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="takes a class such as Trade, or a wire name"):
        registry((kind, one))


@pytest.mark.parametrize("kind", [int, object, ValueError])
def test_a_class_of_something_else_is_refused(kind: type) -> None:
    with pytest.raises(ConfigurationError, match=f"{kind.__name__} is no class of messages or events; write on"):
        registry((kind, one))


def test_a_callback_can_be_called() -> None:
    with pytest.raises(ConfigurationError, match="NoneType cannot be called"):
        registry((Trade, None))


def test_the_order_is_that_of_registration_whatever_was_registered_for() -> None:
    made = registry((Message, three), (Trade, one, BTC), ("trade", two), (Message, one))
    assert made.callbacks(trade(1, BTC)) == (three, one, two, one)
    assert made.callbacks(trade(1, ADA)) == (three, two, one)


def test_who_registers_twice_is_called_twice_and_leaves_the_latest_first() -> None:
    made = registry((Trade, one), (Trade, two), (Trade, one))
    assert made.callbacks(trade()) == (one, two, one)
    made.remove(Trade, one, None)
    assert made.callbacks(trade()) == (one, two)
    made.remove(Trade, one, None)
    assert made.callbacks(trade()) == (two,)


def test_bound_methods_are_equal_though_never_the_same() -> None:
    class Listener:
        def hear(self, item: object) -> None: ...

    listener, other = Listener(), Listener()
    made = registry((Trade, listener.hear), (Trade, other.hear))
    made.remove(Trade, listener.hear, None)
    assert made.callbacks(trade()) == (other.hear,)


@pytest.mark.parametrize("how", [(Trade, two, None), (Message, one, None), (Trade, one, BTC), ("trade", one, None)])
def test_what_is_not_registered_cannot_be_removed(how: tuple[Any, Any, Any]) -> None:
    made = registry((Trade, one))
    with pytest.raises(UsageError, match="not registered for this"):
        made.remove(*how)
    assert made.callbacks(trade()) == (one,)


def test_its_length_is_how_many_there_are() -> None:
    made = registry((Trade, one), (Trade, one, BTC))
    assert len(made) == 2
    made.remove(Trade, one, None)
    assert len(made) == 1


def test_types_that_the_server_makes_up_do_not_fill_the_memory() -> None:
    made = registry((Message, one), (UnknownMessage, two), (Trade, three, BTC))
    for number in range(5000):
        assert made.callbacks(UnknownMessage(type=f"type{number}")) == (one, two)
    assert len(made._table._lookups) <= 1000
    assert made.callbacks(trade()) == (one, three)


def test_changes_while_another_thread_dispatches() -> None:
    made = registry((Trade, one))
    wrong: list[object] = []
    has_begun, stop = threading.Event(), threading.Event()

    def dispatch() -> None:
        while not stop.is_set():
            callbacks = made.callbacks(trade())
            if callbacks not in ((one,), (one, two)):
                wrong.append(callbacks)
            has_begun.set()

    thread = threading.Thread(target=dispatch)
    thread.start()
    assert has_begun.wait(PATIENCE_SECONDS)
    for _ in range(2000):
        made.add("trade", two, BTC)
        assert made.callbacks(trade()) == (one, two)
        made.remove("trade", two, BTC)
        assert made.callbacks(trade()) == (one,)
    stop.set()
    thread.join()
    assert wrong == []


def test_changes_by_several_threads_are_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(registry_module._Table):
        """Lets others in between reading the table and replacing it."""

        def __init__(self, listeners: tuple[Any, ...]) -> None:
            time.sleep(0)
            super().__init__(listeners)

    monkeypatch.setattr(registry_module, "_Table", Interrupting)
    made = Registry()
    callbacks: list[list[Callable[[object], None]]] = [[lambda item: None for _ in range(200)] for _ in range(4)]

    def register(mine: list[Callable[[object], None]]) -> None:
        for callback in mine:
            made.add(Trade, callback, None)
        for callback in mine[::2]:
            made.remove(Trade, callback, None)

    threads = [threading.Thread(target=register, args=(mine,)) for mine in callbacks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = made.callbacks(trade())
    assert len(left) == len(made) == 400
    for mine in callbacks:
        assert [callback for callback in left if callback in mine] == mine[1::2]


def test_rates_are_heard_by_name() -> None:
    assert registry(("exrate", one)).callbacks(rate(1)) == (one,)
