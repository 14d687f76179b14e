"""Callbacks in order, one after the other; a failure of one is told, and stops neither the others nor the thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from builders import quote, trade, undecodable
from peers import PATIENCE_SECONDS

from coinapi_ws import CallbackFailed, Event, Live, Message, Quote, Trade
from coinapi_ws.client.dispatch import Dispatcher, name_of
from coinapi_ws.client.queueing import DeliveryQueue
from coinapi_ws.client.registry import Registry


class Desk:
    """A dispatcher with its queue and registry; what was called, and the failures that it told."""

    def __init__(self) -> None:
        self.queue = DeliveryQueue("pause", 1000, 1_000_000, lambda: None)
        self.registry = Registry()
        self.called: list[tuple[str, Any]] = []
        self.told: list[BaseException] = []
        self.dispatcher = Dispatcher(self.queue, self.registry, self.told.append)

    def on(self, kind: Any, name: str, then: Callable[[Any], object] | None = None) -> Callable[[Any], None]:
        """Register a callback that notes its call under a name, then does something."""

        def callback(item: Any) -> None:
            self.called.append((name, item))
            if then is not None:
                then(item)

        self.registry.add(kind, callback, None)
        return callback

    def deliver(self, *items: Any) -> list[tuple[str, Any]]:
        self.dispatcher.deliver(list(items))
        return self.called


@pytest.fixture
def desk() -> Desk:
    return Desk()


def raising(error: BaseException) -> Callable[[Any], None]:
    def fail(item: Any) -> None:
        raise error

    return fail


def test_items_in_order_and_for_each_the_callbacks_in_theirs(desk: Desk) -> None:
    desk.on(Message, "all")
    desk.on(Trade, "trade")
    desk.on(Quote, "quote")
    assert desk.deliver(trade(1), quote(2), trade(3)) == [
        ("all", trade(1)),
        ("trade", trade(1)),
        ("all", quote(2)),
        ("quote", quote(2)),
        ("all", trade(3)),
        ("trade", trade(3)),
    ]


def test_messages_are_counted_once_as_delivered_or_unhandled_and_events_are_not(desk: Desk) -> None:
    desk.on(Trade, "one")
    desk.on(Trade, "two")
    desk.deliver(trade(1), quote(2), Live(received_ns=0), trade(3), undecodable())
    assert (desk.dispatcher.delivered, desk.dispatcher.unhandled) == (2, 1)


def test_what_is_running_is_known(desk: Desk) -> None:
    running: list[object] = []
    callback = desk.on(Trade, "trade", lambda item: running.append(desk.dispatcher.running))
    failing = desk.on(Quote, "quote", raising(ValueError()))
    desk.deliver(trade(1), quote(1))
    assert running == [callback]
    assert failing is not callback
    assert desk.dispatcher.running is None


@pytest.mark.parametrize("error_type", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_failure_is_logged_with_its_traceback_and_told_f10(
    desk: Desk, caplog: pytest.LogCaptureFixture, error_type: type[BaseException]
) -> None:
    """F10: swallowed exceptions of callbacks."""
    error = error_type("my mistake")
    callback = desk.on(Trade, "failing", raising(error))
    desk.on(Trade, "next")
    desk.on(CallbackFailed, "told")
    failed = CallbackFailed(callback=callback, argument=trade(1), error=error)
    assert desk.deliver(trade(1), trade(2))[:3] == [("failing", trade(1)), ("told", failed), ("next", trade(1))]
    assert [name for name, _ in desk.called] == ["failing", "told", "next"] * 2
    assert desk.dispatcher.failures == 2
    assert desk.told == [error, error]
    record = caplog.records[0]
    assert (record.name, record.levelno) == ("coinapi_ws", logging.ERROR)
    assert "Desk.on.<locals>.callback failed on a Trade" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "in fail" in caplog.text


def test_nobody_need_listen_to_failures_f10(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.on(Trade, "failing", raising(ValueError("my mistake")))
    desk.deliver(trade(1))
    assert "my mistake" in caplog.text
    assert (desk.dispatcher.failures, len(desk.told)) == (1, 1)


def test_a_listener_to_failures_that_fails_is_logged_and_not_told_of_itself_f10(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = ValueError("first"), ValueError("second")
    desk.on(Trade, "failing", raising(first))
    desk.on(CallbackFailed, "told", raising(second))
    desk.on(Event, "event")
    desk.deliver(trade(1))
    assert [name for name, _ in desk.called] == ["failing", "told", "event"]
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [first, second]
    assert "failed on a CallbackFailed" in caplog.records[1].getMessage()
    assert desk.dispatcher.failures == 2
    assert desk.told == [first]  # what stops a client is the failure of its own


def test_once_discarding_no_other_callback_starts(desk: Desk) -> None:
    desk.on(Trade, "closing", lambda item: desk.queue.discard())
    desk.on(Trade, "late")
    desk.deliver(trade(1), trade(2), Live(received_ns=0), undecodable())
    assert desk.called == [("closing", trade(1))]
    assert desk.dispatcher.delivered == 1
    assert desk.queue.undelivered == 2  # an event is none


def test_what_counts_as_delivered_was_so_though_another_thread_closes_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    callbacks_of = desk.registry.callbacks

    def closed_meanwhile(item: Any) -> Any:
        desk.queue.discard()
        return callbacks_of(item)

    monkeypatch.setattr(desk.registry, "callbacks", closed_meanwhile)
    desk.on(Trade, "first")
    desk.on(Trade, "second")
    desk.deliver(trade(1), trade(2))
    assert desk.called == [("first", trade(1))]
    assert (desk.dispatcher.delivered, desk.queue.undelivered) == (1, 1)


def test_after_a_failure_in_which_it_was_closed_nobody_is_told(desk: Desk) -> None:
    def close_and_fail(item: object) -> None:
        desk.queue.discard()
        raise ValueError("closed, and failed")

    desk.on(Trade, "failing", close_and_fail)
    desk.on(CallbackFailed, "told")
    desk.deliver(trade(1))
    assert [name for name, _ in desk.called] == ["failing"]
    assert len(desk.told) == 1


def test_a_callback_may_come_and_go_meanwhile(desk: Desk) -> None:
    desk.on(Trade, "first", lambda item: desk.on(Trade, "new") if item == trade(1) else None)
    desk.deliver(trade(1), trade(2))
    assert desk.called == [("first", trade(1)), ("first", trade(2)), ("new", trade(2))]


def test_the_thread_runs_until_the_queue_ends_whatever_callbacks_raise_f10(desk: Desk) -> None:
    def leave(item: object) -> None:
        raise SystemExit("not this thread")

    desk.on(Trade, "failing", leave)
    seen = threading.Event()
    desk.on(Quote, "quote", lambda item: seen.set())
    thread = threading.Thread(target=desk.dispatcher.run)
    thread.start()
    for moment in range(300):  # more than are taken at once
        desk.queue.put([trade(moment)], 10)
    desk.queue.put([quote(1)], 10)
    assert seen.wait(PATIENCE_SECONDS)
    assert thread.is_alive()
    desk.queue.put([trade(300)], 10)
    desk.queue.end()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert [item for name, item in desk.called if name == "failing"] == [trade(moment) for moment in range(301)]
    assert desk.dispatcher.delivered == 302


def test_callables_have_names_to_show() -> None:
    class Listener:
        def __call__(self, item: object) -> None: ...

        def hear(self, item: object) -> None: ...

    prefix = "test_callables_have_names_to_show.<locals>."
    assert name_of(raising) == "raising"
    assert name_of(Listener().hear) == f"{prefix}Listener.hear"
    assert name_of(Listener()) == f"{prefix}Listener"
    assert name_of([].append) == "list.append"
