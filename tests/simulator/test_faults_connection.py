"""Faults of a connection: how it ends, falls silent, comes late or in pieces. In virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peers import FakeClock, drive, ending
from raw_client import RawClient, messages
from websocket_peer import CLOSE, PING, PONG, TEXT, frame
from websockets.exceptions import ConnectionClosedError

from coinapi_ws import (
    Book,
    Cause,
    Connected,
    ConnectionClosed,
    Disconnected,
    Live,
    Options,
    Pacer,
    Quote,
    Scope,
    Secret,
    SelectorConnection,
    SequenceGap,
    Stream,
    Subscription,
    connect,
    endpoint_from,
)
from coinapi_ws.simulator import Simulator, VirtualClock

BTC = "COINBASE_SPOT_BTC_USD"
QUOTES = Subscription(["quote"], symbol_ids=[BTC + "$"])

Dial = Callable[..., Any]


@pytest.fixture
def raw(simulator: Simulator) -> Iterator[RawClient]:
    """A client on the wire, upgraded: the first connection."""
    with RawClient(simulator.port) as raw:
        yield raw.upgrade()


@pytest.fixture
def stream(simulator: Simulator, canary_key: str) -> Iterator[Stream]:
    """Our client, with quotes of one symbol; it does not wait long for the end of a server that is broken."""
    with connect(canary_key, QUOTES, endpoint=simulator.url, heartbeats=False, close_timeout=0.5) as stream:
        simulator.settle()
        yield stream


@pytest.fixture
def selected(simulator: Simulator, canary_key: str) -> Iterator[tuple[SelectorConnection, FakeClock]]:
    """Our client on a clock of its own, live."""
    options = Options(endpoint=endpoint_from(simulator.url), api_key=Secret(canary_key))
    fake = FakeClock()
    connection = SelectorConnection(options, Scope(QUOTES), pacer=Pacer(), clock=fake)
    drive(connection, Connected, connection.start())
    simulator.settle()
    simulator.faults.error("only to prove that it lives", close=False)
    yield connection, fake
    connection.abandon()


def quotes_of(texts: list[str]) -> list[int]:
    return [m["sequence"] for m in map(json.loads, texts) if m["type"] == "quote"]


# Drop.


def test_a_drop_ends_tcp_without_a_close(simulator: Simulator, raw: RawClient) -> None:
    assert simulator.faults.drop() == 1
    assert raw.rest() == b""
    assert simulator.connections == 0


def test_a_drop_by_reset_is_an_error_of_the_system(simulator: Simulator, raw: RawClient) -> None:
    assert simulator.faults.drop(reset=True) == 1
    with pytest.raises(ConnectionResetError):
        raw.rest()
    assert simulator.connections == 0


def test_a_drop_cuts_a_frame_in_two(simulator: Simulator, clock: VirtualClock, raw: RawClient) -> None:
    simulator.faults.split(3, interval=1)
    simulator.faults.send_text("never whole")
    clock.advance(1)
    simulator.faults.drop()
    assert raw.rest() == frame(TEXT, b"never whole")[:6]


@pytest.mark.parametrize(
    ("reset", "detail"),
    [
        (False, "the connection ended without a Close frame"),
        (True, "the connection broke: Connection reset by peer"),
    ],
)
def test_our_client_reports_a_drop(simulator: Simulator, stream: Stream, reset: bool, detail: str) -> None:
    simulator.faults.drop(reset=reset)
    with pytest.raises(ConnectionClosed) as closed:
        stream.recv(timeout=10)
    end = closed.value.disconnected
    assert end is not None
    assert (end.cause, end.initiator, end.code, end.clean) == (Cause.NETWORK, "network", 1006, False)
    assert end.detail == detail


@pytest.mark.parametrize("reset", [False, True])
def test_another_client_reports_a_drop(simulator: Simulator, dial: Dial, reset: bool) -> None:
    peer = dial(simulator.url)
    simulator.faults.drop(reset=reset)
    with pytest.raises(ConnectionClosedError) as closed:
        peer.text()
    assert closed.value.rcvd is None


def test_a_client_that_never_ends_its_side_after_a_drop_is_forgotten(
    simulator: Simulator, clock: VirtualClock, raw: RawClient
) -> None:
    simulator.faults.go_silent()
    simulator.faults.drop()
    assert raw.rest() == b""
    clock.advance(10)
    assert simulator.faults.drop() == 0


# Silence.


def test_a_half_open_connection_answers_nothing_for_ever(
    simulator: Simulator, clock: VirtualClock, raw: RawClient
) -> None:
    raw.hello("quote", heartbeat=True)
    simulator.settle()
    simulator.faults.go_silent()
    raw.at_hand()
    raw.send(PING, b"hello?")
    for _ in range(5):
        clock.advance(61)  # beyond several Pings and their timeouts
    raw.close_frame(1001)
    clock.advance(100)
    assert raw.at_hand() == b""
    assert simulator.connections == 1
    assert simulator.pings_sent == 0
    assert simulator.closes_received == []


def test_what_waited_comes_when_a_half_open_connection_resumes(
    simulator: Simulator, clock: VirtualClock, raw: RawClient, dial: Dial
) -> None:
    other = dial(simulator.url)
    for client in (raw, other):
        client.hello("quote", subscribe_filter_symbol_id=[BTC + "$"])
    simulator.settle()
    simulator.faults.go_silent(connection=1)
    raw.send(PING, b"hello?")
    clock.advance(20)
    simulator.faults.resume()
    texts = messages([f for f in raw.ping() if f != (True, PONG, b"hello?")])
    assert len(texts) > 10
    assert texts == [other.text() for _ in texts]
    assert simulator.frames_lost == {}


def test_a_close_that_was_not_read_is_answered_when_the_connection_resumes(
    simulator: Simulator, clock: VirtualClock, raw: RawClient
) -> None:
    simulator.faults.go_silent()
    raw.close_frame(4000)
    clock.advance(1000)
    assert raw.at_hand() == b""
    simulator.faults.resume()
    assert raw.frame() == (True, CLOSE, (4000).to_bytes(2, "big"))
    assert raw.rest() == b""
    assert simulator.closes_received == [(4000, "")]


def test_a_new_connection_to_a_silent_simulator_gets_no_answer(simulator: Simulator, clock: VirtualClock) -> None:
    simulator.faults.go_silent()
    with RawClient(simulator.port) as raw:
        raw.ask()
        clock.advance(5)
        assert raw.at_hand() == b""
        assert simulator.requests == []
        simulator.faults.resume()
        assert raw.head().startswith("HTTP/1.1 101 ")


def test_our_client_gives_up_a_half_open_connection(
    simulator: Simulator, clock: VirtualClock, selected: tuple[SelectorConnection, FakeClock]
) -> None:
    connection, fake = selected
    clock.advance(5)
    drive(connection, Live, [])
    simulator.faults.go_silent()
    while connection.next_timeout() is not None and connection.disconnected is None:
        clock.advance(10)
        fake.now += 10
        items = connection.handle_timeout()
    end = ending(items)
    assert (end.cause, end.initiator, end.error_type) == (Cause.NETWORK, "client", ConnectionClosed)
    assert end.detail == "no message for 30.0 s, though heartbeats were asked for"
    # The server learns of it when the network is back.
    assert simulator.connections == 1
    assert simulator.closes_received == []
    simulator.faults.resume()
    simulator.settle()
    assert simulator.connections == 0


def test_heartbeats_alone_go_on_and_sequences_jump_after_it(
    simulator: Simulator, clock: VirtualClock, raw: RawClient
) -> None:
    raw.hello("quote", heartbeat=True, subscribe_filter_symbol_id=[BTC + "$"])
    clock.advance(5)
    before = quotes_of(messages(raw.ping()))
    simulator.faults.go_silent(heartbeats=True)
    clock.advance(9.5)
    # The Pong to `ping` says that control frames are still answered.
    heartbeats = messages(raw.ping())
    assert set(heartbeats) == {'{"type":"hearbeat"}'}
    assert 9 <= len(heartbeats) <= 10
    simulator.faults.resume()
    clock.advance(5)
    after = quotes_of(messages(raw.ping()))
    lost = simulator.frames_lost["quote"]
    assert lost > 0
    assert [*before, *range(after[0] - lost, after[0]), *after] == list(range(1, after[-1] + 1))


def test_heartbeats_alone_still_answer_a_close(simulator: Simulator, clock: VirtualClock, raw: RawClient) -> None:
    simulator.faults.go_silent(heartbeats=True)
    clock.advance(60)
    assert raw.frame().opcode == PING
    raw.close_frame()
    assert raw.frame().opcode == CLOSE
    assert raw.rest() == b""


def test_our_client_reports_the_gap_that_a_silence_left(
    simulator: Simulator, clock: VirtualClock, canary_key: str
) -> None:
    books = Subscription(["book"], symbol_ids=[BTC + "$"])
    with connect(canary_key, books, endpoint=simulator.url) as stream:
        simulator.settle()
        clock.advance(5)
        simulator.faults.go_silent(heartbeats=True)
        clock.advance(5)
        simulator.faults.resume()
        clock.advance(5)
        gaps: list[SequenceGap] = []
        while not gaps:
            item = stream.recv(timeout=10)
            gaps += [item] if isinstance(item, SequenceGap) else []
        assert (gaps[0].type, gaps[0].symbol_id) == ("book", BTC)
        assert gaps[0].received - gaps[0].expected == simulator.frames_lost["book"]
        assert isinstance(stream.recv(timeout=10), Book)


# The closing handshake.


def test_an_ignored_close_is_neither_answered_nor_followed_by_the_end(
    simulator: Simulator, clock: VirtualClock, raw: RawClient
) -> None:
    simulator.faults.ignore_close()
    raw.hello("quote", heartbeat=True)
    clock.advance(1)
    raw.close_frame()
    simulator.settle()
    raw.at_hand()
    clock.advance(600)
    assert raw.at_hand() == b""
    assert simulator.closes_received == [(1000, "")]
    raw.send(TEXT, b"what comes after a Close is nobody's")
    clock.advance(1)
    simulator.faults.drop()
    assert raw.rest() == b""


def test_market_data_may_go_on_after_the_close(simulator: Simulator, clock: VirtualClock, raw: RawClient) -> None:
    simulator.faults.ignore_close(keep_sending=True)
    raw.hello("quote", subscribe_filter_symbol_id=[BTC + "$"])
    clock.advance(5)
    raw.close_frame()
    simulator.settle()
    raw.at_hand()
    clock.advance(5)
    first = json.loads(raw.text())
    assert (first["type"], first["symbol_id"]) == ("quote", BTC)
    assert first["sequence"] > 1
    clock.advance(600)
    assert simulator.connections == 1


def test_our_client_waits_for_an_ignored_close_no_longer_than_it_was_told(
    simulator: Simulator, selected: tuple[SelectorConnection, FakeClock]
) -> None:
    connection, fake = selected
    simulator.faults.ignore_close()
    assert not any(isinstance(item, Disconnected) for item in connection.close())
    simulator.settle()
    assert simulator.closes_received == [(1000, "")]
    fake.now += 4.999
    assert not any(isinstance(item, Disconnected) for item in connection.handle_timeout())
    fake.now += 0.001
    end = ending(connection.handle_timeout())
    assert (end.cause, end.clean, end.error_type) == (Cause.LOCAL, False, None)
    assert end.detail == "the server did not answer our Close within 5 s"


def test_our_clients_close_ends_though_data_goes_on(simulator: Simulator, clock: VirtualClock, stream: Stream) -> None:
    simulator.faults.ignore_close(keep_sending=True)
    clock.advance(5)
    stream.close()
    assert stream.disconnected is not None
    assert stream.disconnected.detail == "the server did not answer our Close within 0.5 s"
    assert stream.stats().undelivered > 0


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 1014, 3000, 4999])
def test_a_close_has_the_code_and_reason_that_were_asked_for(simulator: Simulator, raw: RawClient, code: int) -> None:
    assert simulator.faults.close(code, "so it is") == 1
    assert raw.frame() == (True, CLOSE, code.to_bytes(2, "big") + b"so it is")
    raw.close_frame(code)
    assert raw.rest() == b""


def test_a_close_comes_after_what_was_sent_before_it(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello("quote", symbol_id=[BTC + "$"])
    clock.advance(5)
    assert simulator.faults.close() == 1
    assert simulator.faults.close() == 0
    clock.advance(5)
    assert len(peer.rest_until_closed()) == simulator.frames_sent["quote"] > 0
    assert peer.websocket.close_code == 1012


@pytest.mark.parametrize("code", [1012, 1013])
def test_our_client_reports_a_restart(simulator: Simulator, stream: Stream, code: int) -> None:
    simulator.faults.close(code, "come again")
    with pytest.raises(ConnectionClosed) as closed:
        stream.recv(timeout=10)
    assert (closed.value.code, closed.value.reason) == (code, "come again")
    assert stream.disconnected is not None
    assert stream.disconnected.initiator == "server"
    assert stream.disconnected.clean


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 5000, 70000])
def test_a_code_that_no_close_frame_may_have_is_refused(simulator: Simulator, raw: RawClient, code: int) -> None:
    with pytest.raises(ValueError, match=f"{code} is no code of a Close frame; there are 1000 to 4999"):
        simulator.faults.close(code)
    assert simulator.connections == 1


def test_an_error_is_followed_by_a_close(simulator: Simulator, dial: Dial) -> None:
    peer = dial(simulator.url)
    assert simulator.faults.error("don't") == 1
    assert peer.rest_until_closed() == ['{"type":"error","message":"don\\u0027t"}']
    assert peer.websocket.close_code == 1008
    assert simulator.faults.error("don't") == 0
    assert simulator.frames_sent == {"error": 1}


def test_an_error_may_leave_the_connection_open(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    peer.hello("quote", symbol_id=[BTC + "$"])
    assert simulator.faults.error("a hiccup", close=False) == 1
    clock.advance(5)
    assert peer.message() == {"type": "error", "message": "a hiccup"}
    assert peer.message()["type"] == "quote"


# Late, and in pieces.


def test_everything_comes_exactly_so_much_later(simulator: Simulator, clock: VirtualClock, raw: RawClient) -> None:
    simulator.faults.delay(2.5)
    simulator.faults.send_bytes(b"first")
    clock.advance(1)
    simulator.faults.send_bytes(b"second")
    clock.advance(1.499999)
    assert raw.at_hand() == b""
    clock.advance(0.000001)
    assert raw.exactly(5) == b"first"
    clock.advance(0.999999)
    assert raw.at_hand() == b""
    clock.advance(0.000001)
    assert raw.exactly(6) == b"second"
    # A Ping is due after 60 s, also where the clock jumps over it.
    clock.advance(60 - 3.5 + 2.499999)
    assert raw.at_hand() == b""
    clock.advance(0.000001)
    assert raw.frame().opcode == PING


def test_a_delayed_stream_is_the_same_as_another_one_but_late(
    simulator: Simulator, clock: VirtualClock, raw: RawClient
) -> None:
    with RawClient(simulator.port) as prompt:
        clients = (prompt.upgrade(), raw)
        for client in clients:
            client.hello("quote", subscribe_filter_symbol_id=[BTC + "$"])
        simulator.settle()
        simulator.faults.delay(3, connection=1)
        seen: tuple[list[bytes], list[bytes]] = ([], [])
        for _ in range(40):
            clock.advance(0.25)
            for client, ticks in zip(clients, seen, strict=True):
                ticks.append(client.at_hand())
    assert seen[1] == [b""] * 12 + seen[0][:-12]
    assert len(b"".join(seen[1])) > 1000


def test_the_upgrade_of_a_new_connection_is_delayed_too(simulator: Simulator, clock: VirtualClock) -> None:
    simulator.faults.delay(4)
    with RawClient(simulator.port) as raw:
        raw.ask()
        clock.advance(3.999)
        assert raw.at_hand() == b""
        clock.advance(0.001)
        assert raw.head().startswith("HTTP/1.1 101 ")


def test_a_delay_that_ends_lets_through_what_waited_in_order(
    simulator: Simulator, clock: VirtualClock, raw: RawClient
) -> None:
    simulator.faults.delay(3600)
    simulator.faults.send_bytes(b"first")
    clock.advance(1)
    simulator.faults.delay(0)
    simulator.faults.send_bytes(b"second")
    assert raw.exactly(11) == b"firstsecond"


def test_each_interval_lets_one_byte_through(simulator: Simulator, clock: VirtualClock, raw: RawClient) -> None:
    simulator.faults.split(interval=0.5)
    expected = frame(TEXT, b"one") + frame(TEXT, b"and") + frame(TEXT, b"two")
    simulator.faults.send_text("one")
    simulator.faults.send_text("and")
    assert raw.exactly(1) == expected[:1]
    for position in range(1, len(expected)):
        if position == 3:
            simulator.faults.send_text("two")
        clock.advance(0.499)
        assert raw.at_hand() == b""
        clock.advance(0.001)
        assert raw.exactly(1) == expected[position : position + 1]


def test_a_long_advance_lets_as_many_pieces_through_as_are_due(
    simulator: Simulator, clock: VirtualClock, raw: RawClient
) -> None:
    simulator.faults.split(2, interval=1)
    simulator.faults.send_bytes(b"0123456789")
    clock.advance(3)
    assert raw.exactly(8) == b"01234567"
    assert raw.at_hand() == b""
    clock.advance(1)
    assert raw.exactly(2) == b"89"


@pytest.mark.parametrize("end", [lambda faults: faults.split(0), lambda faults: faults.clear()])
def test_a_split_that_ends_lets_through_what_waited(
    simulator: Simulator, clock: VirtualClock, raw: RawClient, end: Callable[[Any], None]
) -> None:
    simulator.faults.split(interval=3600)
    simulator.faults.send_bytes(b"abc")
    assert raw.exactly(1) == b"a"
    end(simulator.faults)
    assert raw.exactly(2) == b"bc"
    simulator.faults.send_bytes(b"d")
    assert raw.exactly(1) == b"d"


def test_our_client_reads_the_same_byte_by_byte(
    simulator: Simulator, clock: VirtualClock, stream: Stream, canary_key: str
) -> None:
    simulator.faults.split(connection=1)
    with connect(canary_key, QUOTES, endpoint=simulator.url, heartbeats=False) as other:
        simulator.settle()
        clock.advance(5)
        for _ in range(simulator.frames_sent["quote"] // 2):
            ours, sound = stream.recv(timeout=10), other.recv(timeout=10)
            assert isinstance(ours, Quote)
            assert isinstance(sound, Quote)
            assert (ours.time_coinapi, ours.ask_price) == (sound.time_coinapi, sound.ask_price)
