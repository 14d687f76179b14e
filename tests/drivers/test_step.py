"""A connection without a loop: start() and step()."""

from __future__ import annotations

import gc
import os
import select
import selectors
import socket
import threading
from collections.abc import Callable

import pytest
from peers import QUOTES, TRADES, FakeClock, Listener, accept, address_of, ending, up, url_of

from coinapi_ws import (
    Connected,
    ConnectTimeout,
    Disconnected,
    Options,
    Scope,
    SelectorConnection,
    SessionState,
    Trade,
    UsageError,
    endpoint_from,
)
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.drivers.transport import Address
from coinapi_ws.drivers.waiting import LONGEST_WAIT_SECONDS, Interest, Waiting
from coinapi_ws.simulator import Simulator, VirtualClock

Make = Callable[..., SelectorConnection]


def test_the_simplest_embedding() -> None:
    virtual = VirtualClock()
    with Simulator(clock=virtual) as simulator:
        connection = SelectorConnection(
            Options(endpoint=endpoint_from(simulator.url)), Scope(TRADES), pacer=SharedPacer()
        )
        items = connection.start()
        while connection.disconnected is None:
            new = connection.step(1.0)
            items += new
            if any(isinstance(item, Connected) for item in new):
                simulator.settle()
                virtual.advance(60)
            if any(isinstance(item, Trade) for item in new):
                items += connection.close()
        assert isinstance(items[0], Connected)
        assert any(isinstance(item, Trade) for item in items)
        assert ending(items).clean
        assert connection.step(1.0) == []
        assert connection.step() == []


def test_before_the_start_there_is_nothing_to_wait_for(make: Make, listener: Listener) -> None:
    with pytest.raises(UsageError, match=r"step\(\) comes after start\(\)"):
        make(url_of(listener)).step(0)


def test_another_thread_may_not_step_and_the_owner_goes_on_f21_f27(make: Make, listener: Listener) -> None:
    """F21, F27: nobody else waits on, changes or closes the descriptor; so none is closed while it is watched."""
    connection = make(url_of(listener))
    server, _ = up(connection, listener)
    raised: list[UsageError] = []

    def intrude() -> None:
        for call in (connection.step, connection.close, connection.abandon):
            try:
                call()
            except UsageError as error:
                raised.append(error)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert len(raised) == 3
    server.text('{"type":"trade"}')
    items = connection.step(10)
    assert [type(item) for item in items][-1:] == [Trade]


def test_a_descriptor_that_is_used_again_is_watched_anew_f21(monkeypatch: pytest.MonkeyPatch) -> None:
    """F21: the number of a closed descriptor goes to the next socket, which an epoll of before does not know."""
    epoll = getattr(selectors, "EpollSelector", None)
    if epoll is None:
        pytest.skip("no epoll here")
    monkeypatch.setattr("coinapi_ws.drivers.waiting.Selector", epoll)
    waiting = Waiting()
    numbers = []
    gc.collect()  # no descriptor of another test is to become free in between
    for generation in (1, 2):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            numbers.append(ours.fileno())
            assert waiting.wait(Interest(ours.fileno(), generation, selectors.EVENT_READ), 0) == 0
            theirs.send(b"x")
            assert waiting.wait(Interest(ours.fileno(), generation, selectors.EVENT_READ), 10) == selectors.EVENT_READ
            assert waiting.wait(Interest(ours.fileno(), generation, selectors.EVENT_WRITE), 10) == selectors.EVENT_WRITE
    assert numbers[0] == numbers[1]
    waiting._selector.close()


def test_a_foreign_loop_is_told_before_the_descriptor_is_used_again_f21(make: Make, listener: Listener) -> None:
    """F21: after Disconnected the descriptor is -1 and closed, so what stays registered with epoll is gone."""
    if not hasattr(select, "epoll"):
        pytest.skip("no epoll here")
    connection = make(url_of(listener))
    server, _ = up(connection, listener)
    descriptor = connection.fileno()
    with select.epoll() as epoll:
        epoll.register(descriptor, select.EPOLLIN)
        server.socket.close()
        assert [number for number, _ in epoll.poll(10)] == [descriptor]
        assert isinstance(connection.handle_read()[-1], Disconnected)
        assert connection.fileno() == -1
        assert epoll.poll(0) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_it_waits_no_longer_than_it_may(make: Make, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Waiting, "wait", lambda self, interest, seconds: waits.append(seconds) or 0)
    connection = make(url_of(listener))
    connection.start()
    for timeout in (0, -1, 0.05, 7, None):
        assert connection.step(timeout) == []
    assert waits == [0, 0, 0.05, LONGEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS]


def test_it_does_what_is_due(make: Make, listener: Listener, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = make(url_of(listener))
    items = connection.start()
    while not connection.want_read():
        items += connection.step(10)
    waits: list[float] = []
    monkeypatch.setattr(Waiting, "wait", lambda self, interest, seconds: waits.append(seconds) or 0)
    clock.now = 1009.95
    assert connection.step() == []  # waits for what is due on its clock, which stands still
    assert waits == [pytest.approx(0.05)]
    clock.now = 1010.0
    end = ending(connection.step())
    assert end.error_type is ConnectTimeout


def test_where_nothing_is_due_it_waits_for_the_descriptor(make: Make, silent: Address) -> None:
    connection = make("wss://market.example/", resolve=lambda host, port: [silent], open_timeout=None)
    assert connection.start() == []
    assert connection.next_timeout() is None
    assert connection.step(0.001) == []


def test_it_waits_for_the_pacer_without_a_descriptor(make: Make, listener: Listener, clock: FakeClock) -> None:
    pacer = SharedPacer()
    pacer.observe(f"127.0.0.1:{listener.getsockname()[1]}", [("x-wsrequestsperiplimit-retryafterms", "5")], clock.now)
    connection = make(url_of(listener), pacer=pacer)
    assert connection.start() == []
    assert connection.fileno() == -1
    assert connection.step() == []
    assert connection.fileno() == -1
    clock.now += 0.005
    connection.step()
    assert connection.fileno() != -1


def test_an_interrupt_while_waiting_leaves_it_intact_and_one_while_handling_ends_it_f18(
    make: Make, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F18."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    connection = make(url_of(listener))
    server, _ = up(connection, listener)
    with monkeypatch.context() as patch:
        patch.setattr(Waiting, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            connection.step()
    assert connection.state is SessionState.OPEN
    connection.set_scope(Scope(QUOTES))
    server.text('{"type":"trade"}')
    monkeypatch.setattr("coinapi_ws.protocol.session.Session.receive_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        connection.step(10)
    assert connection.fileno() == -1
    assert connection.disconnected is not None
    assert connection.step() == []


def test_a_descriptor_beyond_1024_t8_f20(make: Make, listener: Listener) -> None:
    """T8, F20: its own selector has no such limit."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("so many descriptors are not permitted here")
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        while not held or held[-1] < 1100:
            held.append(os.dup(listener.fileno()))
        connection = make(url_of(listener))
        connection.start()
        while not connection.want_read():
            connection.step(10)
        assert connection.fileno() > 1024
        accept(listener).close()
        while connection.disconnected is None:
            connection.step(10)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Half-open


def test_a_half_open_connection_does_not_look_alive_f8(make: Make, clock: FakeClock) -> None:
    """F8: TCP stands and nothing comes, not even heartbeats; the deadline ends it by itself."""
    virtual = VirtualClock()
    with Simulator(clock=virtual) as simulator:
        connection = make(simulator.url, silence_timeout=30)
        items = connection.start()
        while not any(isinstance(item, Connected) for item in items):
            items += connection.step(10)
        simulator.settle()
        virtual.advance(2)
        while connection.state is not SessionState.LIVE:
            connection.step(10)
        simulator.faults.go_silent()
        virtual.advance(60)
        simulator.settle()
        clock.now += 29
        while connection.step(0):
            pass  # what was on its way before
        assert connection.state is SessionState.LIVE
        clock.now += 31
        end = ending(connection.step(0))
        assert "no message for 30" in end.detail


# Resolving


def test_a_resolver_that_hangs_takes_its_time_from_the_one_deadline_f19(
    make: Make, listener: Listener, clock: FakeClock
) -> None:
    """F19: what a slow name service has used is not there again for the addresses."""

    def slow(host: str, port: int) -> list[Address]:
        clock.now += seconds
        return [address_of(listener)]

    for seconds in (4.0, 10.0):
        begun = clock.now
        connection = make("wss://market.example/", resolve=slow)
        items = connection.start()
        if seconds < 10:
            assert items == []
            assert connection.next_timeout() == begun + 10
        else:
            assert ending(items).error_type is ConnectTimeout
