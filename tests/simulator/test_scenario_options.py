"""Every option and every action may stand in a scenario file; what is said beside the file goes before."""

from __future__ import annotations

import inspect
import json
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websocket

from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Faults, Simulator, VirtualClock, scenario

BTC = "COINBASE_SPOT_BTC_USD"
START_NS = 1_767_225_600_000_000_000

Dial = Callable[..., Any]
Write = Callable[[Any], Path]


def a_scenario(*timeline: dict[str, Any], **simulator: Any) -> dict[str, Any]:
    return {"scenario": 1, "simulator": simulator, "timeline": list(timeline)}


OPTIONS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "seed": 7,
    "recording": "frames.jsonl",
    "speed": None,
    "loop": True,
    "direct_source": "COINBASE",
    "exchange_rates": False,
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
    "activity": 2,
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
        assert peer.drain(simulator)[0]["is_snapshot"] is True


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


def errors_at(*seconds: float) -> list[dict[str, Any]]:
    return [{"at": at, "do": "error", "message": f"at {at}", "close": False} for at in seconds]


def said(simulator: Simulator, peer: Any) -> list[str]:
    return [m["message"] for m in peer.drain(simulator) if m["type"] == "error"]


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
            received.append(peer.texts(simulator))
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
