"""What goes wrong in a callback, in what is called, and in the client itself: nothing ends unseen."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Final

import pytest
from client_harness import Heard, eventually, go_live, on_a_thread
from peers import PATIENCE_SECONDS, QUOTES, TRADES

from coinapi_ws import (
    AuthenticationError,
    CallbackFailed,
    Client,
    ClientState,
    Disconnected,
    Live,
    SlowConsumerError,
    Trade,
    UsageError,
)
from coinapi_ws.client.supervisor import Supervisor
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator, VirtualClock

MakeClient = Callable[..., Client]


class Mine(Exception):
    """What a test's own code raises."""


def failing(item: object) -> None:
    raise Mine("in a callback")


# Callbacks that fail (F10)


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_a_callback_that_fails_is_told_of_and_the_others_go_on_f10(
    make_client: MakeClient,
    simulator: Simulator,
    virtual: VirtualClock,
    dispatch: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = make_client(simulator.url, TRADES, dispatch=dispatch)
    client.on(Trade, failing)
    trades, failures = client.on(Trade, Heard()), client.on(CallbackFailed, Heard())
    with client:
        go_live(client, virtual)
        virtual.advance(10)
        failures.wait(CallbackFailed, 3)
        assert client.state is ClientState.LIVE
    assert [failure.argument for failure in failures] == trades
    assert {failure.callback for failure in failures} == {failing}
    assert {type(failure.error) for failure in failures} == {Mine}
    assert client.stats().callback_failures == len(trades)
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert "the callback failing failed on a Trade" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is Mine
    assert client.join()


def test_a_listener_of_failures_that_fails_is_logged_and_not_told_of_itself(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(simulator.url, TRADES)
    client.on(Live, failing)
    client.on(CallbackFailed, failing)
    with client:
        go_live(client, virtual)
        eventually(lambda: client.stats().callback_failures == 2)
    assert "failed on a CallbackFailed" in caplog.text


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_by_option_a_failure_is_the_end(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, dispatch: str
) -> None:
    client = make_client(simulator.url, TRADES, dispatch=dispatch, stop_on_callback_error=True, close_timeout=60.0)
    client.on(Live, failing)
    failures, after = client.on(CallbackFailed, Heard()), client.on(Trade, Heard())
    client.start()
    eventually(lambda: virtual.advance(0.1) or client.state is ClientState.CLOSED)  # type: ignore[func-returns-value]
    with pytest.raises(Mine) as raised:
        client.join(PATIENCE_SECONDS)
    assert [failure.error for failure in failures] == [raised.value]
    assert after == []
    for again in (client.join, client.wait_live):
        with pytest.raises(Mine):
            again()
    with pytest.raises(UsageError, match="make a new one") as late:
        client.subscribe(QUOTES)
    assert "fork" not in str(late.value)
    assert client.close()
    assert simulator.closes_received == [(1000, "")]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_no_exception_at_all_ends_the_dispatcher_f11(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, error: BaseException
) -> None:
    client = make_client(simulator.url, TRADES)

    def leave(live: Live) -> None:
        raise error

    client.on(Live, leave)
    trades = client.on(Trade, Heard())
    with client:
        go_live(client, virtual)
        virtual.advance(10)
        trades.wait(Trade)
        assert client.stats().callback_failures == 1


# What is called on the I/O thread


@pytest.mark.parametrize("what", ["jwt", "resolve"])
def test_a_callable_that_raises_is_the_end(make_client: MakeClient, simulator: Simulator, what: str) -> None:
    def broken(*_: object) -> str:
        raise Mine("in a callable")

    client = make_client(simulator.url, TRADES, **{what: broken})
    waiting = on_a_thread(client.wait_live)
    client.start()
    with pytest.raises(Mine, match="in a callable"):
        client.join(PATIENCE_SECONDS)
    with pytest.raises(Mine):
        waiting()
    assert client.state is ClientState.CLOSED
    assert simulator.connections == 0


def test_a_name_that_is_not_resolved_is_tried_again(make_client: MakeClient, simulator: Simulator) -> None:
    def resolve(host: str, port: int) -> list[object]:
        raise OSError("no such name")

    client = make_client(simulator.url, TRADES, resolve=resolve)
    client.start()
    eventually(lambda: client.state is ClientState.WAITING)
    assert client.disconnected is not None
    assert "was not resolved" in client.disconnected.detail
    assert client.close()


# A bug in here (F11)


def test_a_bug_in_the_loop_is_seen_by_everybody_f11(
    make_client: MakeClient,
    simulator: Simulator,
    virtual: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """F11: the state is CLOSED, who waits is woken, join() raises it, and subscribe() does not pretend to work."""
    client = make_client(simulator.url, TRADES)
    client.start()
    go_live(client, virtual)
    waiting = [on_a_thread(call) for call in (client.join, lambda: list(client))]

    def bug(*_: object, **__: object) -> None:
        raise Mine("a bug")

    monkeypatch.setattr(Supervisor, "handle", bug)
    virtual.advance(5)
    eventually(lambda: client.state is ClientState.CLOSED)
    for woken in waiting:
        with pytest.raises(Mine):
            woken()
    assert "ended by an error on its own thread" in caplog.text
    with pytest.raises(Mine):
        client.wait_live()
    with pytest.raises(UsageError):
        client.subscribe(QUOTES)
    assert client.close()
    # Its connection is not left behind.
    eventually(lambda: simulator.connections == 0)
    assert client.disconnected is not None


def test_a_bug_at_the_very_start_f11(
    make_client: MakeClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise Mine("a bug")

    monkeypatch.setattr(Supervisor, "start", bug)
    client = make_client(simulator.url, TRADES)
    client.start()
    with pytest.raises(Mine):
        client.wait_live(PATIENCE_SECONDS)
    assert client.close()


def test_a_thread_that_cannot_be_started(
    make_client: MakeClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    client = make_client(simulator.url, TRADES)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", bug)
        with pytest.raises(RuntimeError, match="new thread"):
            client.start()
    assert client.state is ClientState.CLOSED
    assert on_a_thread(lambda: list(client))() == []
    assert client.join(0)
    with pytest.raises(UsageError):
        client.start()
    assert client.close()


# Exceptions that pin nothing (F26)

#: Five bytes a call. A free-threaded interpreter frees things later: there 200, and a kept exception has more.
MOST_GROWN: Final = 50_000 if getattr(sys, "_is_gil_enabled", lambda: True)() else 2_000_000


def grown(call: Callable[[], object], error_type: type[BaseException]) -> int:
    """By how many bytes memory grew over so many calls that all raise."""

    def repeat(times: int) -> None:
        for _ in range(times):
            try:
                call()
            except error_type:
                pass
            else:
                pytest.fail("it did not raise")

    repeat(100)
    gc.collect()
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        repeat(10_000)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_ten_thousand_calls_too_late_f26(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    client.start()
    client.close()
    assert grown(lambda: client.subscribe(QUOTES), UsageError) < MOST_GROWN
    assert grown(client.wait_live, UsageError) < MOST_GROWN


def test_each_join_raises_an_exception_of_its_own_f26(make_client: MakeClient, virtual: VirtualClock) -> None:
    with Simulator(clock=virtual, api_keys=[]) as simulator:
        client = make_client(simulator.url, TRADES)
        client.start()
        raised = []
        for _ in range(2):
            with pytest.raises(AuthenticationError) as error:
                client.join(PATIENCE_SECONDS)
            raised.append(error.value)
        with pytest.raises(AuthenticationError):
            list(client)
    assert raised[0] is not raised[1]
    assert raised[0].disconnected is raised[1].disconnected is client.disconnected
    assert raised[1].__context__ is raised[1].__cause__ is None
    assert grown(client.join, AuthenticationError) < MOST_GROWN


def test_what_others_raised_does_not_grow_with_each_join_f26(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(simulator.url, TRADES, stop_on_callback_error=True)
    client.on(Live, failing)
    client.start()
    eventually(lambda: virtual.advance(0.1) or client.state is ClientState.CLOSED)  # type: ignore[func-returns-value]
    assert grown(client.join, Mine) < 50_000
    with pytest.raises(Mine) as raised:
        client.join()
    depth, traceback = 0, raised.value.__traceback__
    while traceback is not None:
        depth, last, traceback = depth + 1, traceback.tb_frame.f_code.co_name, traceback.tb_next
    # Where it came from can still be seen.
    assert last == "failing"
    assert depth < 10


def test_a_slow_consumer_is_told_anew_each_time_f26(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(simulator.url, TRADES, max_queued_messages=1, slow_consumer_timeout=0.01)
    client.start()
    eventually(lambda: virtual.advance(0.5) or client.state is ClientState.CLOSED)  # type: ignore[func-returns-value]
    assert grown(client.join, SlowConsumerError) < 50_000


# A client that is dropped (F15)


def drop(held: list[Client]) -> None:
    """Let go of them, also where references are not counted."""
    held.clear()
    gc.collect()


def test_a_client_that_is_dropped_closes_and_says_so_f15(
    simulator: Simulator, virtual: VirtualClock, canary_key: str, assert_no_canary: Callable[[object], None]
) -> None:
    """F15: the threads hold the worker and not the client's face."""
    client = Client(canary_key, TRADES, endpoint=simulator.url, pacer=SharedPacer())
    client.on(Disconnected, Heard())
    client.start()
    go_live(client, virtual)
    threads = [thread for thread in threading.enumerate() if thread.name in ("coinapi-ws-io", "coinapi-ws-dispatch")]
    assert len(threads) == 2
    face, worker, held = weakref.ref(client), weakref.ref(client._worker), [client]
    del client
    with pytest.warns(ResourceWarning, match="a client was left open: <Client") as warned:
        drop(held)
    assert_no_canary(warned[0].message)
    warned.clear()  # it names its source
    assert face() is None
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    simulator.settle()
    assert simulator.closes_received == [(1000, "")]
    del threads, thread
    gc.collect()
    assert worker() is None


def test_a_client_that_was_closed_or_never_started_is_dropped_in_silence_f15(
    simulator: Simulator, canary_key: str
) -> None:
    for start in (True, False):
        client = Client(canary_key, TRADES, endpoint=simulator.url, pacer=SharedPacer())
        if start:
            client.start()
            assert client.close()
        face = weakref.ref(client)
        del client
        gc.collect()
        assert face() is None
