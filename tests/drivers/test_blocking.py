"""The stream: iteration, recv, scope and close, against the simulator and servers by hand."""

from __future__ import annotations

import gc
import json
import os
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import QUOTES, TRADES, ServerSide, serving

from coinapi_ws import (
    Book,
    Cause,
    ConnectionClosed,
    Gap,
    Heartbeat,
    ProtocolError,
    Quote,
    Scope,
    SequenceGap,
    SessionState,
    Subscription,
    Trade,
    Undecodable,
    UsageError,
    connect,
)
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.drivers.waiting import Waiting
from coinapi_ws.simulator import Simulator, VirtualClock

TRADE = '{"sequence":%d,"symbol_id":"COINBASE_SPOT_BTC_USD","price":1.5,"type":"trade"}'
BOOK = '{"sequence":%d,"symbol_id":"COINBASE_SPOT_BTC_USD","type":"book"}'


BOTH = Subscription(["book", "trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])


@pytest.fixture
def virtual() -> VirtualClock:
    return VirtualClock()


def talking(*texts: str, code: int = 1000) -> Callable[[ServerSide], None]:
    """A server that takes a hello, sends texts and closes."""

    def handle(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        for text in texts:
            server.text(text)
        server.close(code)
        server.until_closed()

    return handle


def patient(server: ServerSide) -> None:
    """A server that takes all and answers nothing but a Close."""
    server.upgrade()
    server.send(server.until_closed().response())


def test_who_leaves_an_iteration_and_comes_back_misses_nothing(canary_key: str) -> None:
    texts = [BOOK % 1, BOOK % 3, *(TRADE % sequence for sequence in range(1, 5))]
    with serving(talking(*texts)) as url, connect(canary_key, BOTH, endpoint=url) as stream:
        items: list[object] = [next(stream), stream.recv()]
        for item in stream:
            items.append(item)
            break
        items += [item for item, _ in zip(stream, range(1), strict=False)]
        items += stream
    # zip takes one more than it gives.
    assert [type(item) for item in items] == [Book, SequenceGap, Book, Trade, Trade, Trade]


def test_iteration_yields_messages_and_ends_with_a_clean_close(canary_key: str) -> None:
    with (
        serving(talking(TRADE % 1, '{"type":"hearbeat"}', TRADE % 2)) as url,
        connect(canary_key, TRADES, endpoint=url) as stream,
    ):
        items = list(stream)
        assert [type(item) for item in items] == [Trade, Heartbeat, Trade]
        assert stream.disconnected is not None
        assert stream.disconnected.clean
        assert list(stream) == []
        for _ in range(2):
            with pytest.raises(ConnectionClosed, match="close code 1000"):
                stream.recv()
        assert stream.stats().messages == 3
        assert stream.stats().undelivered == 0
        assert stream.state is SessionState.CLOSED


def test_heartbeats_may_be_hidden(canary_key: str) -> None:
    with (
        serving(talking(TRADE % 1, '{"type":"hearbeat"}', TRADE % 2)) as url,
        connect(canary_key, TRADES, endpoint=url, heartbeats=False) as stream,
    ):
        assert [type(item) for item in stream] == [Trade, Trade]
        assert stream.stats().messages == 3


def test_gaps_and_what_cannot_be_decoded_are_in_their_place(canary_key: str) -> None:
    books = Subscription(["book"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
    with (
        serving(talking(BOOK % 1, "no JSON", BOOK % 5)) as url,
        connect(canary_key, books, endpoint=url) as stream,
    ):
        first, undecodable, gap, second = stream
    assert (first.sequence, second.sequence) == (1, 5)  # type: ignore[union-attr]
    assert isinstance(undecodable, Undecodable)
    assert isinstance(gap, SequenceGap)
    assert isinstance(gap, Gap)
    assert (gap.expected, gap.received) == (2, 5)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_the_market_of_the_simulator(
    canary_key: str,
    virtual: VirtualClock,
    tls: bool,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    with (
        Simulator(clock=virtual, api_keys=[canary_key], ssl_context=server_context if tls else None) as simulator,
        connect(canary_key, TRADES, endpoint=simulator.url, ssl=client_context, heartbeats=False) as stream,
    ):
        assert stream.state is SessionState.OPEN
        simulator.settle()
        virtual.advance(60)
        trades = [stream.recv(timeout=10) for _ in range(5)]
        assert [trade.sequence for trade in trades] == [1, 2, 3, 4, 5]  # type: ignore[union-attr]
        assert stream.state is SessionState.LIVE


def test_recv_with_a_timeout_leaves_the_stream_intact(canary_key: str, virtual: VirtualClock) -> None:
    with (
        Simulator(clock=virtual) as simulator,
        connect(canary_key, TRADES, endpoint=simulator.url, heartbeats=False) as stream,
    ):
        for timeout in (0, 0.001, 0.01, -1):
            with pytest.raises(TimeoutError, match="no message within") as caught:
                stream.recv(timeout=timeout)
            assert type(caught.value) is TimeoutError
        simulator.settle()
        virtual.advance(60)
        # What is there already counts, also without any time.
        assert isinstance(stream.recv(timeout=0), Trade)
        assert isinstance(stream.recv(timeout=10), Trade)
        assert stream.disconnected is None


def test_recv_at_the_end_within_its_timeout(canary_key: str) -> None:
    with (
        serving(talking()) as url,
        connect(canary_key, TRADES, endpoint=url) as stream,
        pytest.raises(ConnectionClosed),
    ):
        stream.recv(timeout=10)


def test_the_scope_is_changed_by_subscribe_unsubscribe_and_replace(canary_key: str, virtual: VirtualClock) -> None:
    with (
        Simulator(clock=virtual) as simulator,
        connect(canary_key, TRADES, endpoint=simulator.url, heartbeats=False) as stream,
    ):
        stream.subscribe(QUOTES)
        assert stream.scope == Scope(TRADES, QUOTES)
        stream.unsubscribe(TRADES)
        assert stream.scope == Scope(QUOTES)
        simulator.settle()
        virtual.advance(10)
        assert isinstance(stream.recv(timeout=10), Quote)
        stream.replace(TRADES)
        assert stream.scope == Scope(TRADES)
        simulator.settle()
        assert len(simulator.received) == 4
        with pytest.raises(UsageError, match="not in the scope"):
            stream.unsubscribe(QUOTES)
        with pytest.raises(UsageError, match="empty scope"):
            stream.unsubscribe(TRADES)
        with pytest.raises(UsageError, match="empty scope"):
            stream.replace()
        assert stream.scope == Scope(TRADES)
    for change in (stream.subscribe, stream.unsubscribe, stream.replace):
        with pytest.raises(UsageError, match="closed"):
            change(TRADES)


def test_close_is_idempotent_and_what_was_not_taken_is_counted(canary_key: str, virtual: VirtualClock) -> None:
    with Simulator(clock=virtual) as simulator:
        stream = connect(canary_key, TRADES, endpoint=simulator.url, heartbeats=False)
        simulator.settle()
        virtual.advance(60)
        stream.recv(timeout=10)
        stream.close()
        stats = stream.stats()
        assert stats.undelivered > 0
        stream.close()
        assert stream.stats() == stats
        assert list(stream) == []
        assert stream.disconnected is not None
        assert (stream.disconnected.cause, stream.disconnected.clean) == (Cause.LOCAL, True)
        simulator.settle()
        assert simulator.closes_received == [(1000, "")]
        # Heartbeats are not counted as undelivered where they are hidden.
        assert stats.messages == 1 + stats.undelivered + simulator.frames_sent.get("hearbeat", 0)


def test_close_does_not_wait_longer_than_it_may(canary_key: str) -> None:
    done = threading.Event()

    def deaf(server: ServerSide) -> None:
        server.upgrade()
        assert done.wait(10)

    with serving(deaf) as url:
        stream = connect(canary_key, TRADES, endpoint=url, close_timeout=0.05)
        stream.close()
        assert stream.disconnected is not None
        assert "did not answer our Close within 0.05 s" in stream.disconnected.detail
        done.set()


def test_the_with_statement_closes_also_on_an_exception(canary_key: str) -> None:
    with serving(patient) as url:
        with pytest.raises(ZeroDivisionError), connect(canary_key, TRADES, endpoint=url) as stream:
            _ = 1 / 0
        assert stream.state is SessionState.CLOSED
        assert stream.disconnected is not None
        assert stream.disconnected.clean


def test_other_ends_raise_their_error_each_time_anew_f26(canary_key: str) -> None:
    """F26: an exception raised twice would pin the memory of its first traceback."""
    with serving(talking(TRADE % 1, code=1011)) as url, connect(canary_key, TRADES, endpoint=url) as stream:
        assert isinstance(next(stream), Trade)
        errors = []
        for take in (lambda: next(stream), stream.recv, lambda: stream.recv(timeout=0), lambda: list(stream)):
            with pytest.raises(ConnectionClosed) as caught:
                take()
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == 4
        assert {error.code for error in errors} == {1011}
        assert all(error.disconnected is stream.disconnected for error in errors)


def test_a_violation_is_raised_as_one(canary_key: str) -> None:
    def violate(server: ServerSide) -> None:
        server.upgrade()
        server.socket.sendall(b"\x8b\x00")
        server.until_closed()

    with (
        serving(violate) as url,
        connect(canary_key, TRADES, endpoint=url) as stream,
        pytest.raises(ProtocolError, match="RFC 6455"),
    ):
        next(stream)


def test_an_abrupt_end_is_raised_t5(canary_key: str) -> None:
    def drop(server: ServerSide) -> None:
        server.upgrade()
        server.event()

    with (
        serving(drop) as url,
        connect(canary_key, TRADES, endpoint=url) as stream,
        pytest.raises(ConnectionClosed, match="without a Close frame") as caught,
    ):
        next(stream)
    assert caught.value.code == 1006


def test_a_stream_belongs_to_its_thread_t6_f27(canary_key: str) -> None:
    """T6, F27: a close from elsewhere would not wake a thread that waits; so it is refused."""
    with serving(patient) as url, connect(canary_key, TRADES, endpoint=url) as stream:
        calls = (
            lambda: next(stream),
            stream.recv,
            lambda: stream.subscribe(QUOTES),
            lambda: stream.unsubscribe(TRADES),
            lambda: stream.replace(QUOTES),
            stream.close,
        )
        raised: list[BaseException] = []
        seen = []

        def call_all() -> None:
            seen.append((stream.state, stream.disconnected, stream.scope))
            for call in calls:
                try:
                    call()
                except UsageError as error:
                    raised.append(error)

        thread = threading.Thread(target=call_all)
        thread.start()
        thread.join()
        assert ["thread" in str(error) for error in raised] == [True] * len(calls)
        assert seen == [(SessionState.OPEN, None, Scope(TRADES))]


def test_a_stream_has_no_thread(canary_key: str, virtual: VirtualClock) -> None:
    with Simulator(clock=virtual) as simulator:
        before = set(threading.enumerate())
        with connect(canary_key, TRADES, endpoint=simulator.url):
            assert set(threading.enumerate()) <= before


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors cannot be counted here")
def test_fifty_connections_leave_no_descriptor(canary_key: str, virtual: VirtualClock) -> None:
    with Simulator(clock=virtual) as simulator:
        connect(canary_key, TRADES, endpoint=simulator.url).close()
        simulator.settle()
        gc.collect()  # what tests before this one left may go at any time
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(50):
            with connect(canary_key, TRADES, endpoint=simulator.url):
                pass
        simulator.settle()
        assert set(os.listdir("/proc/self/fd")) <= before


def test_a_scope_that_the_socket_does_not_take_at_once_f23(canary_key: str) -> None:
    """F23: what is left of a large hello is sent while the stream waits."""
    many = Subscription(["trade"], symbol_ids=[f"COINBASE_SPOT_{n:06}_USD$" for n in range(200_000)])
    go_on = threading.Event()
    heard = []

    def slow(server: ServerSide) -> None:
        server.upgrade()
        assert go_on.wait(10)
        parts = [server.event()]
        while not parts[-1].message_finished:  # type: ignore[attr-defined]
            parts.append(server.event())
        heard.append(json.loads("".join(part.data for part in parts)))  # type: ignore[attr-defined]
        talking_on(server)

    def talking_on(server: ServerSide) -> None:
        server.text(TRADE % 1)
        server.close()
        server.until_closed()

    with serving(slow) as url, connect(canary_key, many, endpoint=url) as stream:
        go_on.set()
        assert isinstance(next(stream), Trade)
        assert list(stream) == []
    assert heard[0]["subscribe_filter_symbol_id"] == list(many.symbol_ids)


def test_upgrades_wait_for_the_pacer(canary_key: str, virtual: VirtualClock) -> None:
    with Simulator(clock=virtual) as simulator:
        pacer = SharedPacer()
        allowed = time.monotonic() + 0.05
        pacer.observe(f"127.0.0.1:{simulator.port}", [("x-wsrequestsperiplimit-retryafterms", "50")], time.monotonic())
        with connect(canary_key, TRADES, endpoint=simulator.url, pacer=pacer):
            assert time.monotonic() >= allowed


# Ctrl-C in the middle of the connection's work, at a place that a signal would have to be lucky to hit


def test_an_interrupt_in_the_middle_gives_the_connection_up_f18(
    canary_key: str, virtual: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F18: what was left half done is not gone on with; close() afterwards returns at once."""
    with Simulator(clock=virtual) as simulator:
        stream = connect(canary_key, TRADES, endpoint=simulator.url)
        simulator.settle()

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("coinapi_ws.protocol.session.Session.receive_data", interrupted)
        virtual.advance(2)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        assert stream.state is SessionState.CLOSED
        assert stream.disconnected is not None
        assert stream.disconnected.detail == "given up by us without a Close frame"
        stream.close()
        assert list(stream) == []
        with pytest.raises(ConnectionClosed, match="given up"):
            stream.recv()


def test_an_interrupt_while_waiting_leaves_the_stream_intact_f18(
    canary_key: str, virtual: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with (
        Simulator(clock=virtual) as simulator,
        connect(canary_key, TRADES, endpoint=simulator.url, heartbeats=False) as stream,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Waiting, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(stream)
        simulator.settle()
        virtual.advance(60)
        assert isinstance(next(stream), Trade)


def test_an_interrupt_while_what_was_not_taken_is_counted_ends_the_connection_all_the_same_f18(
    canary_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    def drop(server: ServerSide) -> None:
        server.upgrade()
        server.until_closed()

    with serving(drop) as url:
        stream = connect(canary_key, TRADES, endpoint=url)
        monkeypatch.setattr(stream, "_make_ready", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.close()
        assert stream.disconnected is not None


def test_an_interrupt_while_closing_does_not_make_the_next_close_hang_f18(
    canary_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def drop(server: ServerSide) -> None:
        server.upgrade()
        server.until_closed()

    with serving(drop) as url:
        stream = connect(canary_key, TRADES, endpoint=url)
        monkeypatch.setattr(Waiting, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.close()
        stream.close()
        assert stream.state is SessionState.CLOSED
