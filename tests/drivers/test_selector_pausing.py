"""A connection that reads nothing for a while, and one whose frames are decoded elsewhere."""

from __future__ import annotations

import selectors
import threading
from collections.abc import Callable
from typing import Any

import pytest
from peers import PATIENCE_SECONDS, QUOTES, TRADES, FakeClock, Listener, drive, ending, turn, up, url_of
from wsproto.events import CloseConnection, Ping, Pong

from coinapi_ws import (
    Cause,
    Connected,
    Disconnected,
    ErrorMessage,
    Heartbeat,
    Live,
    Scope,
    SelectorConnection,
    SequenceGap,
    SessionState,
    Subscription,
    Trade,
    Undecodable,
    UsageError,
)
from coinapi_ws.protocol.frames import Frame, Frames

Make = Callable[..., SelectorConnection]

TRADE = '{"sequence":%d,"symbol_id":"COINBASE_SPOT_BTC_USD","price":1.5,"type":"trade"}'
BOOK = '{"sequence":%d,"symbol_id":"COINBASE_SPOT_BTC_USD","asks":[],"bids":[],"type":"book"}'


def is_readable(connection: SelectorConnection, wait: float) -> bool:
    """Whether something has arrived, whatever the connection wants."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        return bool(selector.select(wait))


def test_a_paused_connection_does_not_read(make: Make, listener: Listener, clock: FakeClock) -> None:
    connection = make(url_of(listener), silence_timeout=10)
    server, items = up(connection, listener)
    server.text(TRADE % 1)
    drive(connection, Trade, items)
    connection.pause_reading()
    connection.pause_reading()
    server.text(TRADE % 2)
    assert is_readable(connection, PATIENCE_SECONDS)
    assert not connection.want_read()
    assert connection.next_timeout() is None  # the server's silence does not count
    clock.now += 1000
    assert connection.handle_timeout() == []
    assert connection.step(0) == []
    connection.resume_reading()
    connection.resume_reading()
    assert connection.next_timeout() == clock.now + 10
    [trade] = turn(connection)
    assert trade.sequence == 2


def test_the_socket_is_not_read_before_a_timeout_either(make: Make, listener: Listener, clock: FakeClock) -> None:
    connection = make(url_of(listener), request_heartbeats=False, ping_interval=10, ping_timeout=None)
    server, items = up(connection, listener)
    server.text(TRADE % 1)
    drive(connection, Trade, items)
    connection.pause_reading()
    server.text(TRADE % 2)
    assert is_readable(connection, PATIENCE_SECONDS)
    clock.now += 10
    assert connection.handle_timeout() == []
    connection.resume_reading()
    assert [item.sequence for item in turn(connection)] == [2]


def test_what_is_said_leaves_while_paused(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    server.text(TRADE % 1)
    drive(connection, Trade, items)
    connection.pause_reading()
    hello = server.event()
    assert '"trade"' in hello.data  # type: ignore[attr-defined]
    connection.set_scope(Scope(QUOTES))
    while connection.want_write():
        turn(connection)
    assert '"quote"' in server.event().data  # type: ignore[attr-defined]


def test_the_servers_ping_is_answered_after_the_pause_f7(make: Make, listener: Listener) -> None:
    """F7: why a pause ends in time."""
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    server.event()  # the hello
    connection.pause_reading()
    server.send(Ping(b"x"))
    assert is_readable(connection, PATIENCE_SECONDS)
    connection.resume_reading()
    items += turn(connection)
    assert server.event() == Pong(b"x")


def test_the_peers_close_is_seen_after_the_pause(make: Make, listener: Listener, clock: FakeClock) -> None:
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    connection.pause_reading()
    server.text(TRADE % 1)
    server.close(1001, "bye")
    assert is_readable(connection, PATIENCE_SECONDS)
    clock.now += 1000
    assert connection.handle_timeout() == []
    assert connection.state is SessionState.OPEN
    connection.resume_reading()
    helper = threading.Thread(target=lambda: (server.until_closed(), server.socket.close()))
    helper.start()
    drive(connection, Disconnected, items)
    helper.join()
    assert [type(item) for item in items] == [Connected, Live, Trade, Disconnected]
    assert (ending(items).code, ending(items).reason, ending(items).clean) == (1001, "bye", True)


def test_the_end_of_tcp_is_seen_after_the_pause(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    connection.pause_reading()
    server.socket.close()
    assert is_readable(connection, PATIENCE_SECONDS)
    assert connection.disconnected is None
    connection.resume_reading()
    drive(connection, Disconnected, items)
    assert ending(items).cause is Cause.NETWORK


def test_closing_while_paused_reads_the_answer(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    server, items = up(connection, listener)
    server.event()  # the hello
    connection.pause_reading()
    server.text(TRADE % 1)
    items += connection.close()
    assert connection.want_read()

    def answer() -> None:
        event = server.event()
        assert isinstance(event, CloseConnection)
        server.send(event.response())
        server.socket.close()

    helper = threading.Thread(target=answer)
    helper.start()
    drive(connection, Disconnected, items)
    helper.join()
    # What had come before is not lost.
    assert [type(item) for item in items] == [Connected, Trade, Disconnected]
    assert ending(items).clean


def test_closing_while_paused_has_its_deadline_f3(make: Make, listener: Listener, clock: FakeClock) -> None:
    """F3: a pause does not make the close last."""
    connection = make(url_of(listener), close_timeout=5)
    up(connection, listener)
    connection.pause_reading()
    clock.now += 100
    connection.close()
    assert connection.next_timeout() == clock.now + 5
    clock.now += 5
    end = ending(connection.handle_timeout())
    assert (end.cause, end.clean) == (Cause.LOCAL, False)


def test_a_pause_may_come_before_the_connection_is_up(make: Make, listener: Listener, clock: FakeClock) -> None:
    connection = make(url_of(listener), silence_timeout=10)
    connection.pause_reading()
    connection.resume_reading()
    server, items = up(connection, listener)
    server.text('{"type":"hearbeat"}')
    drive(connection, Live, items)
    assert connection.next_timeout() == clock.now + 10


def test_a_pause_after_the_end_is_nothing(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener))
    up(connection, listener)
    connection.abandon()
    connection.pause_reading()
    connection.resume_reading()
    assert connection.next_timeout() is None
    assert not connection.want_read()


@pytest.mark.parametrize("call", ["pause_reading", "resume_reading"])
def test_only_its_own_thread_pauses_a_connection_f27(make: Make, listener: Listener, call: str) -> None:
    """F27: a foreign loop called from the wrong thread."""
    connection = make(url_of(listener))
    refused: list[str] = []

    def from_elsewhere() -> None:
        try:
            getattr(connection, call)()
        except UsageError as error:
            refused.append(str(error))

    helper = threading.Thread(target=from_elsewhere)
    helper.start()
    helper.join()
    assert refused == ["a connection belongs to the thread that made it; this call came from another"]


def names_of(items: list[Any]) -> list[str]:
    """The types of all frames, in order."""
    names: list[str] = []
    for item in items:
        if isinstance(item, Frames):
            names += [frame_type.name for frame_type in item.types]
        elif isinstance(item, Frame):
            names.append(item.type)
    return names


def test_frames_can_be_decoded_later(make: Make, listener: Listener) -> None:
    books = Subscription(["book"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
    trades = Subscription(["trade"], symbol_ids=["COINBASE_SPOT_ADA_USD$"])
    connection = make(url_of(listener), decode=False, scope=Scope(books, trades))
    server, items = up(connection, listener)
    for text in (BOOK % 1, BOOK % 3, '{"type":"hearbeat"}', "no JSON", '{"type":"error","message":"x"}', TRADE % 1):
        server.text(text)
    drive(connection, lambda items: names_of(items)[-1:] == ["trade"], items)
    assert items[:2] == [Connected(), Live(received_ns=items[1].received_ns)]
    assert names_of(items) == ["book", "book", "heartbeat", "", "error", "trade"]
    # Where the session had to read the whole, what it read is there.
    read = [item.decoded for item in items if isinstance(item, Frame)]
    assert [type(message) for message in read] == [Heartbeat, Undecodable, ErrorMessage]
    decoded = list(connection.decode(items))
    assert decoded[:2] == items[:2]
    assert decoded[3] == SequenceGap(type="book", symbol_id="COINBASE_SPOT_BTC_USD", expected=2, received=3)
    assert [type(item).__name__ for item in decoded[2:]] == [
        "Book",
        "SequenceGap",
        "Book",
        "Heartbeat",
        "Undecodable",
        "ErrorMessage",
    ]
    # The trade was asked for by the merged hello alone.
    assert connection.stats().surplus == 1
    assert connection.stats().jumps == {("book", "COINBASE_SPOT_BTC_USD"): 1}


def test_decoding_is_part_of_reading_unless_told_otherwise(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener), scope=Scope(TRADES))
    server, items = up(connection, listener)
    server.text(TRADE % 1)
    assert isinstance(drive(connection, Trade, items)[-1], Trade)


def test_a_timer_that_is_not_due_reads_nothing(make: Make, listener: Listener) -> None:
    connection = make(url_of(listener), scope=Scope(TRADES))
    server, items = up(connection, listener)
    server.text(TRADE % 1)
    assert is_readable(connection, PATIENCE_SECONDS)
    assert connection.handle_timeout() == []
    assert isinstance(drive(connection, Trade, items)[-1], Trade)
