"""A scenario file makes a simulator, and what happens to it, the same each time; a wrong one says what is wrong."""

from __future__ import annotations

import inspect
import json
import os
import socket
import ssl
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coinapi_ws import Cause, SequenceGap, ServerRejected, Subscription, connect
from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Faults, Simulator, VirtualClock, scenario

BTC = "COINBASE_SPOT_BTC_USD"
START_NS = 1_767_225_600_000_000_000
MINUTE = 60

Dial = Callable[..., Any]
Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a scenario and return its path."""

    def write_one(content: Any) -> Path:
        path = tmp_path / "scenario.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write_one


def a_scenario(*timeline: dict[str, Any], **simulator: Any) -> dict[str, Any]:
    return {"scenario": 1, "simulator": simulator, "timeline": list(timeline)}


def texts(simulator: Simulator, peer: Any) -> list[str]:
    """All texts that the simulator has sent this one client so far."""
    simulator.settle()
    assert peer.websocket.ping().wait(10)
    received = []
    while True:
        try:
            received.append(peer.websocket.recv(timeout=0))
        except TimeoutError:
            return received


def messages(simulator: Simulator, peer: Any) -> list[dict[str, Any]]:
    return [json.loads(text) for text in texts(simulator, peer)]


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
        before = messages(simulator, peer)
        assert before[0]["time_coinapi"] == "2026-01-01T00:00:00.0000000Z"
        numbers = [m["sequence"] for m in before if m["type"] == "book"]
        assert numbers == list(range(1, len(numbers) + 1))
        clock.advance(14.999)
        after = messages(simulator, peer)
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
            received.append([m["exchange_id"] for m in messages(simulator, peer)])
    assert received[0] == received[1] != []


# The time line.


def errors_at(*seconds: float) -> list[dict[str, Any]]:
    return [{"at": at, "do": "error", "message": f"at {at}", "close": False} for at in seconds]


def said(simulator: Simulator, peer: Any) -> list[str]:
    return [m["message"] for m in messages(simulator, peer) if m["type"] == "error"]


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
        assert texts(simulator, peer) == ["{}", "[]"]


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
        assert messages(simulator, peer)[0]["time_coinapi"] == "2026-01-01T00:00:02.0000000Z"


# Every option, every action.


OPTIONS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "seed": 7,
    "recording": "frames.jsonl",
    "speed": None,
    "loop": True,
    "direct_source": "COINBASE",
    "market_start_ns": START_NS,
    "api_keys": {"one": None, "two": ["trade"]},
    "key_check": "upgrade",
    "upgrade_limit": [10, 2.5],
    "hello_limit": [10, 10],
    "connection_limit": 3,
    "buffer_limit": 100,
    "ping_interval": 5,
    "pong_timeout": 2.5,
    "heartbeat_interval": 0.5,
    "tls": True,
}
NOT_IN_FILES = {"clock", "ssl_context", "timeline", "start_time_ns"}


def test_every_option_may_stand_in_a_file_but_for_those_that_a_file_cannot_say(
    write: Write, tmp_path: Path, clock: VirtualClock
) -> None:
    assert set(OPTIONS) == set(inspect.signature(Simulator).parameters) - NOT_IN_FILES
    with RecordingWriter(tmp_path / "frames.jsonl") as writer:
        writer.write('{"type":"trade","symbol_id":"COINBASE_SPOT_BTC_USD"}', START_NS)
    with Simulator.from_scenario(write(a_scenario(**OPTIONS)), clock=clock) as simulator:
        client = websocket.create_connection(
            simulator.url, header=["X-CoinAPI-Key: two"], sslopt={"context": simulator.client_context}
        )
        try:
            headers = client.getheaders()
            assert headers["x-wshelloperiplimit-limit"] == "10"
            assert headers["x-wsrequestsperiplimit-windowsizems"] == "2500"
            assert headers["x-concurrencylimit-remaining"] == "2"
            client.send(json.dumps({"type": "hello", "subscribe_data_type": ["quote"]}))
            assert "Forbidden" in client.recv()
        finally:
            client.shutdown()


@pytest.mark.parametrize("name", sorted(NOT_IN_FILES))
def test_what_a_file_cannot_say_is_refused_there(write: Write, name: str) -> None:
    with pytest.raises(scenario.ScenarioError, match=f'"simulator" has no {name}; it has host, port, seed, '):
        Simulator.from_scenario(write(a_scenario(**{name: None})))


SELECTION = {"types": ["book"], "symbol_ids": [BTC], "connection": 1}
ACTIONS: dict[str, dict[str, Any]] = {
    "clear": {},
    "drop": {"reset": True, "connection": 1},
    "go_silent": {"heartbeats": True, "connection": 1},
    "resume": {"connection": 1},
    "ignore_close": {"keep_sending": True, "connection": 1},
    "close": {"code": 1013, "reason": "come again", "connection": 1},
    "error": {"message": "no", "close": False, "connection": 1},
    "delay": {"seconds": 0.5, "connection": 1},
    "split": {"size": 3, "interval": 0.001, "connection": 1},
    "fragment": {"size": 3, "connection": 1},
    "skip_sequence": {"count": 2, **SELECTION},
    "repeat_sequence": {"count": 2, **SELECTION},
    "lose": {"rate": 1, **SELECTION},
    "deltas_first": {"count": 1, "connection": 1},
    "stale_frames": {"count": 1, "connection": 1},
    "send_text": {"text": "ä", "connection": 1},
    "send_bytes": {"raw": "8100", "connection": 1},
    "malformed_json": {"connection": 1},
    "unknown_type": {"name": "news", "connection": 1},
    "invalid_utf8": {"connection": 1},
    "masked_frame": {"connection": 1},
    "oversized_frame": {"size": 70_000, "connection": 1},
    "oversized_message": {"size": 70_000, "frame_size": 1000, "connection": 1},
    "refuse_upgrades": {"status": 500, "body": "no", "body_size": 10, "headers": {"X": "y"}, "count": None},
    "redirect_upgrades": {"location": "/there", "status": 307, "count": 2},
    "continue_upgrades": {"count": 2},
    "garbage_upgrades": {"count": 2},
    "slow_handshakes": {"seconds": 5},
    "certificate": {"kind": "expired"},
    "announce_reconnect": {"within_seconds": 0},
    "move_price": {"asset_id": "BTC", "percent": 1.5},
    "halt_trading": {"symbol_ids": [BTC]},
    "resume_trading": {"symbol_ids": [BTC]},
    "set_activity": {"factor": 2},
}


def test_every_fault_and_its_every_parameter_is_there_to_be_tried() -> None:
    faults = {name for name in dir(Faults) if not name.startswith("_")}
    others = {"announce_reconnect", "move_price", "halt_trading", "resume_trading", "set_activity"}
    assert set(ACTIONS) == faults | others
    for name, parameters in ACTIONS.items():
        method = getattr(Faults if name in faults else Simulator, name)
        assert set(parameters) == set(inspect.signature(method).parameters) - {"self", "successor"}


@pytest.mark.parametrize("name", sorted(set(ACTIONS) - {"certificate"}))
def test_every_action_can_be_done_by_a_file_and_undone_by_clear(
    write: Write, clock: VirtualClock, dial: Dial, name: str
) -> None:
    content = a_scenario(
        {"at": 1, "do": name, **ACTIONS[name]},
        {"at": 2, "do": "clear"},
        {"at": 3, "do": "set_activity", "factor": 1},
    )
    with Simulator.from_scenario(write(content), clock=clock) as simulator:
        dial(simulator.url).hello("book", symbol_id=[BTC + "$"])
        clock.advance(1.5)
        if name in ("refuse_upgrades", "garbage_upgrades"):
            with pytest.raises(Exception, match="HTTP"):
                dial(simulator.url)
        clock.advance(5)
        peer = dial(simulator.url)
        peer.hello("book", symbol_id=[BTC + "$"])
        clock.advance(0)
        assert messages(simulator, peer)[0]["is_snapshot"] is True


def test_a_file_can_change_the_certificate_and_clear_brings_back_the_valid_one(
    write: Write, clock: VirtualClock
) -> None:
    content = a_scenario({"at": 1, "do": "certificate", **ACTIONS["certificate"]}, {"at": 2, "do": "clear"}, tls=True)
    with Simulator.from_scenario(write(content), clock=clock) as simulator:
        # websockets.sync would do here too, but its threads use one TLS connection at once, and now and then hang.
        options = {"sslopt": {"context": simulator.client_context}, "timeout": 10}
        websocket.create_connection(simulator.url, **options).shutdown()
        clock.advance(1)
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            websocket.create_connection(simulator.url, **options)
        clock.advance(1)
        websocket.create_connection(simulator.url, **options).shutdown()


# Files and what is said beside them.


def test_the_path_of_a_recording_is_relative_to_the_file(
    write: Write, tmp_path: Path, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"type":"trade","n":1}'
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    with RecordingWriter(directory / "frames.jsonl.gz") as writer:
        writer.write(text, START_NS)
    scenario_path = write(a_scenario(recording="elsewhere/frames.jsonl.gz", speed=None))
    absolute_path = write(a_scenario(recording=str(directory / "frames.jsonl.gz"), speed=None)).rename(
        tmp_path / "absolute.json"
    )
    write(a_scenario(recording="elsewhere/frames.jsonl.gz", speed=None))
    monkeypatch.chdir(directory)
    for path in (scenario_path, os.path.relpath(scenario_path), absolute_path):
        with Simulator.from_scenario(path, clock=VirtualClock()) as simulator:
            peer = dial(simulator.url)
            peer.hello("trade")
            assert peer.rest_until_closed() == [text]


def test_a_recording_that_is_not_there_is_named_at_the_start(write: Write, tmp_path: Path) -> None:
    simulator = Simulator.from_scenario(write(a_scenario(recording="missing.jsonl")))
    with pytest.raises(FileNotFoundError) as missing:
        simulator.start()
    assert missing.value.filename == str(tmp_path / "missing.jsonl")


def test_options_that_are_said_beside_the_file_take_the_place_of_its_own(
    write: Write, clock: VirtualClock, dial: Dial
) -> None:
    path = write({**a_scenario(*errors_at(0.5), seed=1, connection_limit=1), "start_time": "2026-01-01"})
    options: list[dict[str, Any]] = [{"seed": 2}, {"seed": 1}, {}]
    received = []
    for each in options:
        clock = VirtualClock()
        with Simulator.from_scenario(path, clock=clock, **each) as simulator:
            peer = dial(simulator.url)
            peer.hello("trade")
            clock.advance(5)
            received.append(texts(simulator, peer))
    assert received[0] != received[1] == received[2] != []
    with Simulator.from_scenario(path, clock=clock, connection_limit=None, timeline=[]) as simulator:
        peers = [dial(simulator.url) for _ in range(2)]
        clock.advance(1)
        assert [said(simulator, peer) for peer in peers] == [[], []]


def test_a_file_may_be_named_by_text_and_a_missing_one_is_an_oserror(write: Write, tmp_path: Path) -> None:
    assert isinstance(Simulator.from_scenario(str(write({"scenario": 1}))), Simulator)
    with pytest.raises(FileNotFoundError):
        Simulator.from_scenario(tmp_path / "missing.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_encodings_that_editors_and_shells_write_are_read(
    write: Write, clock: VirtualClock, dial: Dial, encoding: str
) -> None:
    content = a_scenario({"at": 0.5, "do": "error", "message": "zu spät", "close": False})
    path = write(json.dumps(content, ensure_ascii=False).encode(encoding))
    with Simulator.from_scenario(path, clock=clock) as simulator:
        peer = dial(simulator.url)
        clock.advance(1)
        assert said(simulator, peer) == ["zu spät"]


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
