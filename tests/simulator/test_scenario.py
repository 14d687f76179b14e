"""A scenario file makes a simulator, and what happens to it, the same each time."""

from __future__ import annotations

import json
import socket
import ssl
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_client import RawClient
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coinapi_ws import Cause, CertificateError, Pacer, SequenceGap, ServerRejected, Subscription, connect
from coinapi_ws.simulator import Simulator, VirtualClock, scenario

BTC = "COINBASE_SPOT_BTC_USD"
START_NS = 1_767_225_600_000_000_000
MINUTE = 60

Dial = Callable[..., Any]
Write = Callable[[Any], Path]


def a_scenario(*timeline: dict[str, Any], **simulator: Any) -> dict[str, Any]:
    return {"scenario": 1, "simulator": simulator, "timeline": list(timeline)}


def documented_example() -> str:
    assert scenario.__doc__ is not None
    return textwrap.dedent(scenario.__doc__.partition("::\n\n")[2].partition("\n\n- ")[0])


def test_the_example_of_the_documentation_does_what_it_says(write: Write, clock: VirtualClock, dial: Dial) -> None:
    with Simulator.from_scenario(write(documented_example().encode()), clock=clock) as simulator:
        for _ in range(2):
            with pytest.raises(InvalidStatus) as refused:
                dial(simulator.url)
            assert refused.value.response.status_code == 503
        peer = dial(simulator.url)
        assert peer.websocket.response.headers["X-WsHelloPerIpLimit-Limit"] == "10"
        peer.hello("book", "quote", symbol_id=[BTC + "$"])
        clock.advance(5)
        before = peer.drain(simulator)
        assert before[0]["time_coinapi"] == "2026-01-01T00:00:00.0000000Z"
        numbers = [m["sequence"] for m in before if m["type"] == "book"]
        assert numbers == list(range(1, len(numbers) + 1))
        clock.advance(14.999)
        after = peer.drain(simulator)
        assert next(m["sequence"] for m in after if m["type"] == "book") == len(numbers) + 2
        assert simulator.frames_lost == {"book": 1}
        # At 20, 80 and 140 seconds the connection is dropped, and then no more.
        for seconds in (0.001, MINUTE, MINUTE):
            assert simulator.connections == 1
            clock.advance(seconds)
            assert simulator.connections == 0
            peer.rest_until_closed()
            with pytest.raises(ConnectionClosed) as closed:
                peer.text()
            assert closed.value.rcvd is None
            peer = dial(simulator.url)
        clock.advance(5 * MINUTE)
        assert simulator.connections == 1


def test_an_empty_scenario_is_a_simulator_as_it_is_without_one(write: Write, clock: VirtualClock, dial: Dial) -> None:
    received = []
    for make in (lambda: Simulator.from_scenario(write({"scenario": 1}), clock=clock), lambda: Simulator(clock=clock)):
        with make() as simulator:
            peer = dial(simulator.url)
            peer.hello("exchange")
            received.append([m["exchange_id"] for m in peer.drain(simulator)])
    assert received[0] == received[1] != []


# The time line.


def errors_at(*seconds: float) -> list[dict[str, Any]]:
    return [{"at": at, "do": "error", "message": f"at {at}", "close": False} for at in seconds]


def said(simulator: Simulator, peer: Any) -> list[str]:
    return [m["message"] for m in peer.drain(simulator) if m["type"] == "error"]


def test_time_begins_with_the_first_connection_and_entries_come_in_its_order(
    write: Write, clock: VirtualClock, dial: Dial
) -> None:
    with Simulator.from_scenario(write(a_scenario(*errors_at(3, 1, 2.5))), clock=clock) as simulator:
        clock.advance(100)
        peer = dial(simulator.url)
        clock.advance(0.999)
        assert said(simulator, peer) == []
        clock.advance(0.001)
        assert said(simulator, peer) == ["at 1"]
        clock.advance(1.6)
        # Another connection does not begin it anew.
        other = dial(simulator.url)
        clock.advance(10)
        assert said(simulator, peer) == ["at 2.5", "at 3"]
        assert said(simulator, other) == ["at 3"]


def test_entries_of_the_same_time_come_in_the_order_of_the_file(write: Write, clock: VirtualClock, dial: Dial) -> None:
    again = {"at": 1, "every": 1, "times": 2, "do": "error", "message": "again", "close": False}
    first, second = ({**errors_at(2)[0], "message": name} for name in ("first", "second"))
    with Simulator.from_scenario(write(a_scenario(first, again, second)), clock=clock) as simulator:
        peer = dial(simulator.url)
        clock.advance(10)
        assert said(simulator, peer) == ["again", "first", "again", "second"]


@pytest.mark.parametrize(
    ("fields", "times"),
    [
        ({"at": 1, "every": 2, "times": 3}, [1, 3, 5]),
        ({"at": 1, "every": 2.5}, [1, 3.5, 6, 8.5]),
        ({"at": 0.5, "every": 0.25, "times": 1}, [0.5]),
        ({"at": 4}, [4]),
        ({"at": 4, "every": None, "times": None, "note": "null is nothing"}, [4]),
        ({"at": 11}, []),
    ],
)
def test_an_entry_comes_at_its_time_and_every_so_often(
    write: Write, clock: VirtualClock, dial: Dial, fields: dict[str, Any], times: list[float]
) -> None:
    entry = {**fields, "do": "error", "message": "now", "close": False}
    with Simulator.from_scenario(write(a_scenario(entry)), clock=clock) as simulator:
        peer = dial(simulator.url)
        came = []
        for tick in range(1, 41):
            clock.advance(0.25)
            came += [tick / 4] * len(said(simulator, peer))
        assert came == times


def test_a_note_and_a_description_are_for_the_reader_alone(write: Write, clock: VirtualClock, dial: Dial) -> None:
    content = a_scenario({**errors_at(1)[0], "note": {"seen": ["by", "all"]}})
    with Simulator.from_scenario(write({**content, "description": ["any", "thing"]}), clock=clock) as simulator:
        peer = dial(simulator.url)
        clock.advance(1)
        assert said(simulator, peer) == ["at 1"]


def test_entries_at_0_act_before_the_first_byte_of_the_first_connection_is_read(
    write: Write, clock: VirtualClock, dial: Dial
) -> None:
    # Were the upgrade read before, it would be answered.
    with Simulator.from_scenario(write(a_scenario({"at": 0, "do": "drop"})), clock=clock) as simulator:
        with socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as first:
            first.sendall(UPGRADE)
            simulator.settle()
            assert first.recv(1) == b""
        assert simulator.requests == []
        dial(simulator.url)
        assert len(simulator.requests) == 1


def test_slow_handshakes_at_0_concern_the_first_connection_too(write: Write, clock: VirtualClock) -> None:
    slow = {"at": 0, "do": "slow_handshakes", "seconds": 30}
    with Simulator.from_scenario(write(a_scenario(slow)), clock=clock) as simulator:
        clock.advance(100)
        with RawClient(simulator.port) as first:
            first.ask()
            clock.advance(10)
            with RawClient(simulator.port) as second:
                second.ask()
                clock.advance(19.999)
                assert first.at_hand() == b""
                clock.advance(0.001)
                assert first.head().startswith("HTTP/1.1 101 ")
                clock.advance(9.999)
                assert second.at_hand() == b""
                clock.advance(0.001)
                assert second.head().startswith("HTTP/1.1 101 ")


def test_slow_handshakes_after_0_leave_the_first_connection_alone(write: Write, clock: VirtualClock) -> None:
    slow = {"at": 0.001, "do": "slow_handshakes", "seconds": 30}
    with Simulator.from_scenario(write(a_scenario(slow)), clock=clock) as simulator, RawClient(simulator.port) as first:
        first.upgrade()
        clock.advance(0.001)
        with RawClient(simulator.port) as second:
            second.ask()
            clock.advance(29.999)
            assert second.at_hand() == b""
            clock.advance(0.001)
            assert second.head().startswith("HTTP/1.1 101 ")


@pytest.mark.parametrize(("kind", "reason"), [("expired", "expired"), ("wrong_name", "mismatch")])
def test_a_certificate_at_0_is_shown_to_the_first_connection_too(
    write: Write, clock: VirtualClock, kind: str, reason: str
) -> None:
    bad = {"at": 0, "do": "certificate", "kind": kind}
    # What is done at 0 comes in the order of the file.
    content = a_scenario({**bad, "kind": "self_signed"}, bad, {**bad, "at": 1, "kind": "valid"}, tls=True)
    with Simulator.from_scenario(write(content), clock=clock) as simulator:
        for _ in range(2):
            with pytest.raises(ssl.SSLCertVerificationError, match=reason):
                RawClient(simulator.port, simulator.client_context).socket.close()
        simulator.settle()
        clock.advance(1)
        with RawClient(simulator.port, simulator.client_context) as third:
            third.upgrade()


def test_our_client_meets_the_certificate_at_0_at_its_first_connection(
    write: Write, clock: VirtualClock, canary_key: str
) -> None:
    content = a_scenario({"at": 0, "do": "certificate", "kind": "expired"}, tls=True)
    trades = Subscription(["trade"], symbol_ids=[BTC + "$"])
    with (
        Simulator.from_scenario(write(content), clock=clock) as simulator,
        pytest.raises(CertificateError, match="certificate has expired"),
    ):
        connect(canary_key, trades, endpoint=simulator.url, ssl=simulator.client_context, pacer=Pacer()).close()


def test_what_is_done_at_0_and_again_comes_as_often_as_it_says(write: Write, clock: VirtualClock) -> None:
    slow = {"at": 0, "every": 10, "times": 2, "do": "slow_handshakes", "seconds": 5}
    with Simulator.from_scenario(write(a_scenario(slow)), clock=clock) as simulator:
        with RawClient(simulator.port) as first:
            first.ask()
            clock.advance(4.999)
            assert first.at_hand() == b""
            clock.advance(0.001)
            assert first.head().startswith("HTTP/1.1 101 ")
        for pause, is_slow in ((1, False), (5, True), (10, False)):
            simulator.faults.slow_handshakes(0)
            clock.advance(pause)
            with RawClient(simulator.port) as other:
                other.ask()
                clock.advance(0)
                assert (other.at_hand() == b"") == is_slow


def test_a_time_line_of_an_option_is_the_same_as_one_of_a_file(clock: VirtualClock, dial: Dial) -> None:
    # In Python a tuple is as good as a list, and bytes need no hexadecimal digits.
    timeline = (
        {"at": 0, "do": "lose", "rate": 1.0, "types": ("trade",)},
        {"at": 1, "do": "send_bytes", "raw": b"\x81\x02{}"},
        {"at": 1, "do": "send_bytes", "raw": "81025b5d"},
    )
    with Simulator(clock=clock, timeline=timeline) as simulator:
        peer = dial(simulator.url)
        peer.hello("trade")
        clock.advance(2)
        assert peer.texts(simulator) == ["{}", "[]"]


def test_what_is_delayed_comes_all_the_same_however_far_the_clock_jumps(
    write: Write, clock: VirtualClock, dial: Dial
) -> None:
    with Simulator.from_scenario(write(a_scenario({"at": 2, "do": "delay", "seconds": 0.5})), clock=clock) as simulator:
        peer = dial(simulator.url)
        peer.hello("exrate", asset_id=["BTC/USD"])
        peer.subscribe("book", "trade", symbol_id=["COINBASE_"])
        clock.advance(60)
        received: list[dict[str, Any]] = []
        while not received or received[-1].get("time") != "2026-01-01T00:00:59.5000000Z":
            received.append(peer.message())
        assert [m["type"] for m in received].count("exrate") == 595


# The same again.


UPGRADE = (
    b"GET /v1/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


HELLO = {"type": "hello", "subscribe_data_type": ["trade", "book"], "subscribe_filter_symbol_id": [BTC + "$"]}


BY_CHANCE = (
    {"at": 0, "do": "lose", "rate": 0.3},
    {"at": 0, "do": "deltas_first", "count": 2},
    {"at": 1, "do": "skip_sequence", "types": ["trade"]},
    {"at": 1, "every": 1, "do": "fragment", "size": 100, "connection": 2},
    {"at": 2, "do": "move_price", "asset_id": "BTC", "percent": -1},
    {"at": 2, "do": "delay", "seconds": 0.5},
    {"at": 3, "do": "unknown_type"},
    {"at": 4, "do": "announce_reconnect", "within_seconds": 1},
)


def masked(text: str) -> bytes:
    payload = text.encode()
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


def bytes_of(path: Path, clock: VirtualClock, connections: int = 2) -> list[bytes]:
    """All bytes that so many clients get, who ask for the same at the same times."""
    with Simulator.from_scenario(path, clock=clock) as simulator:
        sockets = []
        try:
            for _ in range(connections):
                sockets.append(socket.create_connection(("127.0.0.1", simulator.port), timeout=10))
                sockets[-1].sendall(UPGRADE + masked(json.dumps(HELLO)))
                clock.advance(0.25)
            clock.advance(5)
            for each in sockets:
                each.shutdown(socket.SHUT_WR)
            clock.advance(1)
            return [b"".join(iter(lambda each=each: each.recv(65536), b"")) for each in sockets]  # type: ignore[misc]
        finally:
            for each in sockets:
                each.close()


def test_the_same_seed_start_time_and_requests_give_the_same_bytes_and_another_seed_does_not(write: Write) -> None:
    content = {**a_scenario(*BY_CHANCE, seed=5), "start_time": "2026-03-04T05:06:07.5Z"}
    first = bytes_of(write(content), VirtualClock())
    # At another time, on a clock that has run before.
    later = VirtualClock(START_NS + 123_456_789)
    later.advance(1234.5)
    assert bytes_of(write(content), later) == first
    assert len(first[0]) > 10_000
    assert b'"time_coinapi":"2026-03-04T05:06:07.' in first[0]
    assert b'"unheard_of"' in first[0]
    assert first[0] != first[1]
    other_seed = bytes_of(write({**content, "simulator": {"seed": 6}}), VirtualClock())
    assert other_seed[0] != first[0]
    other_time = bytes_of(write({**content, "start_time": "2026-03-04T05:06:08.5Z"}), VirtualClock())
    assert other_time[0] != first[0]


@pytest.mark.parametrize("start_time", ["2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01 01:00:00+01:00"])
def test_the_start_time_is_the_clock_of_the_market_when_the_first_connection_comes(
    write: Write, dial: Dial, start_time: str
) -> None:
    clock = VirtualClock(5)
    with Simulator.from_scenario(write({"scenario": 1, "start_time": start_time}), clock=clock) as simulator:
        clock.advance(1000)
        peer = dial(simulator.url)
        simulator.settle()
        clock.advance(2)
        peer.hello("book", symbol_id=[BTC + "$"])
        assert peer.drain(simulator)[0]["time_coinapi"] == "2026-01-01T00:00:02.0000000Z"


# What a program with our own client sees.


def test_our_client_meets_what_the_file_has_for_it(write: Write, clock: VirtualClock, canary_key: str) -> None:
    content = a_scenario(
        {"at": 1, "do": "skip_sequence", "types": ["book"]},
        {"at": 5, "do": "error", "message": "enough for today"},
        api_keys=[canary_key],
    )
    books = Subscription(["book"], symbol_ids=[BTC + "$"])
    with (
        Simulator.from_scenario(write(content), clock=clock) as simulator,
        connect(canary_key, books, endpoint=simulator.url, request_heartbeats=False) as stream,
    ):
        clock.advance(6)
        items = []
        with pytest.raises(ServerRejected, match="enough for today"):
            items.extend(iter(lambda: items.append(stream.recv(timeout=10)), 0))
        assert [type(item) for item in items].count(SequenceGap) == 1
        assert stream.disconnected is not None
        assert stream.disconnected.server_text == "enough for today"
        assert stream.disconnected.cause is Cause.UNKNOWN


def test_what_is_due_in_some_months_of_real_time_is_waited_for(write: Write, dial: Dial) -> None:
    content = a_scenario(ping_interval=1e9, pong_timeout=1e18)
    with Simulator.from_scenario(write(content)) as simulator:
        peer = dial(simulator.url)
        peer.hello("asset", asset_id=["BTC"])
        assert peer.message()["asset_id"] == "BTC"
        # Before the first scope there is no market, and nothing but the Ping is due.
    with Simulator.from_scenario(write(content)) as simulator:
        dial(simulator.url)
        simulator.settle()
        peer = dial(simulator.url)
        assert peer.websocket.ping().wait(10)
