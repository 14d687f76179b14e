"""What holds for every fault: when it may be called, whom it reaches, what it refuses, how it ends."""

from __future__ import annotations

import inspect
import random
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from raw_client import REQUEST, RawClient
from websocket_peer import TEXT, frame

from coinapi_ws.simulator import Faults, Simulator, VirtualClock

BTC = "COINBASE_SPOT_BTC_USD"
KNOWN = "BITSTAMP_SPOT_BTC_USD, BITSTAMP_SPOT_ETH_USD, COINBASE_SPOT_BTC_USD, "

Call = Callable[[Faults], object]

ONCE: dict[str, Callable[..., int]] = {
    "drop": lambda faults, **to: faults.drop(**to),
    "close": lambda faults, **to: faults.close(1013, **to),
    "error": lambda faults, **to: faults.error("an error", **to),
    "skip_sequence": lambda faults, **to: faults.skip_sequence(2, types=["quote"], **to),
    "repeat_sequence": lambda faults, **to: faults.repeat_sequence(symbol_ids=[BTC], **to),
    "malformed_json": lambda faults, **to: faults.malformed_json(**to),
    "unknown_type": lambda faults, **to: faults.unknown_type(**to),
    "invalid_utf8": lambda faults, **to: faults.invalid_utf8(**to),
    "masked_frame": lambda faults, **to: faults.masked_frame(**to),
    "oversized_frame": lambda faults, **to: faults.oversized_frame(100_000, **to),
    "oversized_message": lambda faults, **to: faults.oversized_message(100_000, **to),
    "send_text": lambda faults, **to: faults.send_text("{}", **to),
    "send_bytes": lambda faults, **to: faults.send_bytes(b"\x81\x00", **to),
}
LASTING: dict[str, Callable[..., None]] = {
    "go_silent": lambda faults, **to: faults.go_silent(**to),
    "ignore_close": lambda faults, **to: faults.ignore_close(**to),
    "delay": lambda faults, **to: faults.delay(0.01, **to),
    "split": lambda faults, **to: faults.split(7, **to),
    "fragment": lambda faults, **to: faults.fragment(7, **to),
    "lose": lambda faults, **to: faults.lose(0.5, **to),
    "deltas_first": lambda faults, **to: faults.deltas_first(**to),
    "stale_frames": lambda faults, **to: faults.stale_frames(**to),
}
UPGRADES: dict[str, Call] = {
    "slow_handshakes": lambda faults: faults.slow_handshakes(0.01),
    "certificate": lambda faults: faults.certificate("expired"),
    "refuse_upgrades": lambda faults: faults.refuse_upgrades(),
    "redirect_upgrades": lambda faults: faults.redirect_upgrades("wss://elsewhere.example/"),
    "continue_upgrades": lambda faults: faults.continue_upgrades(),
    "garbage_upgrades": lambda faults: faults.garbage_upgrades(),
}
ENDS: dict[str, Call] = {
    "resume": lambda faults: faults.resume(),
    "clear": lambda faults: faults.clear(),
}
ALL: dict[str, Callable[..., object]] = {**ONCE, **LASTING, **UPGRADES, **ENDS}


def plain(names: dict[str, Any]) -> list[str]:
    """Without the one that needs TLS."""
    return [name for name in names if name != "certificate"]


def test_the_docstring_lists_every_fault_in_its_place() -> None:
    documentation = inspect.getdoc(Faults)
    assert documentation is not None
    bullets = re.findall(r"^- (.*?)(?=^- |^$)", documentation, re.MULTILINE | re.DOTALL)
    once, lasting, upgrades = (set(re.findall(r"`(\w+)`(?!`)", bullet)) - {"connection"} for bullet in bullets)
    assert once == set(ONCE)
    assert lasting == {*LASTING, *ENDS}
    assert upgrades == set(UPGRADES)
    methods = {name for name, _ in inspect.getmembers(Faults, inspect.isfunction) if not name.startswith("_")}
    assert methods == set(ALL)


@pytest.mark.parametrize("name", plain(ALL))
def test_a_fault_may_be_called_before_the_start(clock: VirtualClock, name: str) -> None:
    simulator = Simulator(clock=clock)
    reached = ALL[name](simulator.faults)
    assert reached == (0 if name in ONCE else None)
    simulator.faults.clear()
    with simulator, RawClient(simulator.port) as raw:
        raw.upgrade()
        assert raw.ping() == []


@pytest.mark.parametrize("name", plain(ALL))
def test_after_the_end_a_fault_says_that_the_simulator_is_closed(name: str) -> None:
    with Simulator() as simulator:
        pass
    with pytest.raises(RuntimeError, match="the simulator is closed"):
        ALL[name](simulator.faults)


@pytest.mark.parametrize("name", ONCE)
def test_what_happens_once_tells_how_many_it_reached(simulator: Simulator, name: str) -> None:
    assert ONCE[name](simulator.faults) == 0
    with RawClient(simulator.port) as first, RawClient(simulator.port) as second, RawClient(simulator.port) as third:
        for raw in (first, second, third):
            raw.upgrade()
        assert ONCE[name](simulator.faults, connection=2) == 1
        assert ONCE[name](simulator.faults, connection=4) == 0
        # Who was sent a Close is not sent another.
        assert ONCE[name](simulator.faults) == (2 if name in ("close", "error", "drop") else 3)


@pytest.mark.parametrize("name", [name for name in ONCE if name != "drop"])
def test_who_has_closed_is_not_reached(simulator: Simulator, name: str) -> None:
    with RawClient(simulator.port) as raw:
        raw.upgrade().close_frame()
        simulator.settle()
        assert ONCE[name](simulator.faults) == 0
        assert simulator.frames_sent == {}


def test_who_does_not_get_an_answer_to_its_close_can_be_dropped(simulator: Simulator) -> None:
    simulator.faults.ignore_close()
    with RawClient(simulator.port) as raw:
        raw.upgrade().close_frame()
        simulator.settle()
        assert simulator.connections == 0
        assert simulator.faults.drop() == 1
        assert raw.rest() == b""


def test_what_lasts_concerns_connections_to_come_unless_one_is_named(simulator: Simulator, clock: VirtualClock) -> None:
    with RawClient(simulator.port) as first, RawClient(simulator.port) as second:
        for raw in (first.upgrade(), second.upgrade()):
            raw.hello("exrate", subscribe_filter_asset_id=["BTC/USD"])
        simulator.settle()
        simulator.faults.fragment(10, connection=2)
        clock.advance(0.1)
        assert first.frame().fin
        assert not second.frame().fin
        with RawClient(simulator.port) as third:
            third.upgrade().hello("exrate", subscribe_filter_asset_id=["BTC/USD"])
            clock.advance(0.1)
            assert third.frame().fin
        simulator.faults.fragment(10)
        with RawClient(simulator.port) as fourth:
            fourth.upgrade().hello("exrate", subscribe_filter_asset_id=["BTC/USD"])
            clock.advance(0.1)
            assert not fourth.frame().fin
        first.ping()
        clock.advance(0.1)
        assert not first.frame().fin


def test_faults_of_several_kinds_hold_together(simulator: Simulator, clock: VirtualClock) -> None:
    with RawClient(simulator.port) as raw:
        raw.upgrade()
        simulator.faults.delay(2)
        simulator.faults.split(1, interval=1)
        simulator.faults.fragment(1)
        simulator.faults.error("x", close=False)
        clock.advance(1.999)
        assert raw.at_hand() == b""
        received = b""
        for _ in range(6):
            clock.advance(0.001 if not received else 1)
            received += raw.exactly(1)
        assert received == b'\x01\x01{\x00\x01"'
        assert raw.at_hand() == b""


@pytest.mark.parametrize("name", plain({**LASTING, **UPGRADES}))
def test_clear_ends_what_lasts_or_waits(simulator: Simulator, clock: VirtualClock, name: str) -> None:
    with RawClient(simulator.port) as old:
        old.upgrade()
        ALL[name](simulator.faults)
        simulator.faults.clear()
        with RawClient(simulator.port) as new:
            new.upgrade()
            for raw in (old, new):
                raw.hello("quote", "book", subscribe_filter_symbol_id=[BTC + "$"])
            clock.advance(5)
            for raw in (old, new):
                frames = raw.ping()
                assert {(part.fin, part.opcode) for part in frames} == {(True, TEXT)}
                assert sum(b'"quote"' in part.payload for part in frames) > 2
                assert b'"is_snapshot":true' in frames[0].payload
                raw.close_frame()
                assert raw.frame().payload == (1000).to_bytes(2, "big")
        assert simulator.frames_lost == {}


def test_clear_forgets_what_was_to_be_skipped_and_repeated(simulator: Simulator, clock: VirtualClock) -> None:
    with RawClient(simulator.port) as raw:
        raw.upgrade().hello("quote")
        simulator.settle()
        simulator.faults.skip_sequence(1000)
        simulator.faults.repeat_sequence(1000)
        simulator.faults.clear()
        clock.advance(5)
        texts = [part.payload for part in raw.ping()]
        assert len(texts) == len(set(texts)) == simulator.frames_sent["quote"] > 5
        assert simulator.frames_lost == {}


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda faults: faults.drop(connection=0), "connection must be 1 or more"),
        (lambda faults: faults.go_silent(connection=-1), "connection must be 1 or more"),
        (lambda faults: faults.resume(connection=0), "connection must be 1 or more"),
        (lambda faults: faults.delay(-1), "seconds must be 0 or more, and finite"),
        (lambda faults: faults.delay(float("inf")), "seconds must be 0 or more, and finite"),
        (lambda faults: faults.delay(float("nan")), "seconds must be 0 or more, and finite"),
        (lambda faults: faults.split(-1), "size must be 0 or more"),
        (lambda faults: faults.split(interval=-0.1), "interval must be 0 or more, and finite"),
        (lambda faults: faults.fragment(-1), "size must be 0 or more"),
        (lambda faults: faults.skip_sequence(0), "count must be 1 or more"),
        (lambda faults: faults.repeat_sequence(0), "count must be 1 or more"),
        (lambda faults: faults.send_bytes(b""), "raw must have a byte at least"),
        (lambda faults: faults.oversized_frame(0), "size must be 1 or more"),
        (lambda faults: faults.oversized_message(0), "size must be 1 or more"),
        (lambda faults: faults.oversized_message(1, frame_size=0), "frame_size must be 1 or more"),
        (lambda faults: faults.refuse_upgrades(99), "status must be between 100 and 999, and not 101"),
        (lambda faults: faults.refuse_upgrades(1000), "status must be between 100 and 999, and not 101"),
        (lambda faults: faults.refuse_upgrades(101), "status must be between 100 and 999, and not 101"),
        (lambda faults: faults.refuse_upgrades(body_size=-1), "body_size must be 0 or more"),
        (lambda faults: faults.refuse_upgrades(count=0), "count must be 1 or more"),
        (lambda faults: faults.refuse_upgrades(headers={"ä": "b"}), "headers are printable ASCII, each on one line"),
        (lambda faults: faults.refuse_upgrades(headers={"a": "ß"}), "headers are printable ASCII, each on one line"),
        (lambda faults: faults.refuse_upgrades(headers={"": "b"}), "headers are printable ASCII, each on one line"),
        (lambda faults: faults.refuse_upgrades(headers={"a": "b\r\nc: d"}), "headers are printable ASCII"),
        (lambda faults: faults.refuse_upgrades(headers={"a\n": "b"}), "headers are printable ASCII"),
        (lambda faults: faults.refuse_upgrades(headers={"a": "\x00"}), "headers are printable ASCII"),
        (lambda faults: faults.redirect_upgrades("wss://x/\r\nSet-Cookie: a=b"), "headers are printable ASCII"),
        (lambda faults: faults.redirect_upgrades("wss://x/", count=0), "count must be 1 or more"),
        (lambda faults: faults.redirect_upgrades("wss://x/", status=101), "the status of a redirect is 300 to 399"),
        (lambda faults: faults.redirect_upgrades("wss://x/", status=299), "the status of a redirect is 300 to 399"),
        (lambda faults: faults.redirect_upgrades("wss://x/", status=400), "the status of a redirect is 300 to 399"),
        (lambda faults: faults.close(reason="a\nb"), "reason must be printable text of at most 123 bytes"),
        (lambda faults: faults.close(reason="\ud800"), "reason must be printable text of at most 123 bytes"),
        (lambda faults: faults.close(reason="x" * 124), "reason must be printable text of at most 123 bytes"),
        (lambda faults: faults.close(reason="ä" * 62), "reason must be printable text of at most 123 bytes"),
        (lambda faults: faults.skip_sequence(symbol_ids=[BTC, "X"]), f"unknown symbol_ids: X; there are {KNOWN}"),
        (lambda faults: faults.repeat_sequence(symbol_ids=[BTC + "$"]), f"unknown symbol_ids: {BTC}$; there are "),
        (lambda faults: faults.lose(0.5, symbol_ids={"COINBASE_"}), "unknown symbol_ids: COINBASE_; there are "),
        (lambda faults: faults.continue_upgrades(count=-1), "count must be 1 or more"),
        (lambda faults: faults.garbage_upgrades(count=0), "count must be 1 or more"),
        (lambda faults: faults.slow_handshakes(-1), "seconds must be 0 or more, and finite"),
        (lambda faults: faults.certificate("valid"), "certificates are for a simulator with tls=True"),
        (
            lambda faults: faults.certificate("forged"),
            "there is no certificate 'forged'; there are valid, wrong_name, expired, self_signed",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_and_changes_nothing(
    simulator: Simulator, call: Call, text: str
) -> None:
    with RawClient(simulator.port) as raw:
        raw.upgrade()
        with pytest.raises(ValueError, match=re.escape(text)):
            call(simulator.faults)
        assert raw.ping() == []
        with RawClient(simulator.port) as other:
            other.upgrade()


@pytest.mark.parametrize("reason", ["", "x" * 123, "ä" * 61 + "x"])
def test_a_reason_may_be_as_long_as_a_close_frame_allows(simulator: Simulator, reason: str) -> None:
    with RawClient(simulator.port) as raw:
        raw.upgrade()
        assert simulator.faults.close(1012, reason) == 1
        assert raw.frame().payload == (1012).to_bytes(2, "big") + reason.encode()


@pytest.mark.parametrize("status", [300, 399])
def test_every_redirect_there_is_may_be_answered(simulator: Simulator, status: int) -> None:
    simulator.faults.redirect_upgrades("wss://x/?a=~ b", status=status)
    with RawClient(simulator.port) as raw:
        raw.ask()
        head = raw.head()
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "\r\nLocation: wss://x/?a=~ b\r\n" in head


def test_faults_from_many_threads_while_many_clients_stream() -> None:
    calls, streams, over = 500, 10, threading.Event()
    names = plain(ALL)

    def cause(seed: int) -> int:
        chance = random.Random(seed)
        for _ in range(calls):
            name = chance.choice(names)
            to = {"connection": chance.choice([None, *range(1, 30)])} if name in {**ONCE, **LASTING} else {}
            ALL[name](simulator.faults, **to)
        return calls

    def follow() -> int:
        received = 0
        while not over.is_set():
            try:
                with RawClient(simulator.port) as raw:
                    raw.socket.settimeout(0.1)
                    raw.ask()
                    raw.hello("quote", "book", heartbeat=True)
                    while not over.is_set() and (chunk := raw.socket.recv(65536)):
                        received += len(chunk)
            except OSError:
                pass  # dropped, refused or silent: that is what is asked for
        return received

    with (
        Simulator(seed=1, heartbeat_interval=0.01, ping_interval=0.01, pong_timeout=0.1) as simulator,
        ThreadPoolExecutor(streams + 8) as pool,
    ):
        following = [pool.submit(follow) for _ in range(streams)]
        causing = [pool.submit(cause, seed) for seed in range(8)]
        try:
            assert [future.result(60) for future in causing] == [calls] * 8
        finally:
            over.set()
        assert all(future.result(60) > 0 for future in following)
        # It is sound after all that.
        simulator.faults.clear()
        simulator.faults.drop()
        with RawClient(simulator.port) as raw:
            # At once, for a Ping comes soon after the upgrade, and a while later the end of who does not answer it.
            hello = b'{"type":"hello","subscribe_data_type":["symbol"]}'
            raw.socket.sendall(REQUEST + frame(TEXT, hello, mask=b"mask"))
            assert raw.head().startswith("HTTP/1.1 101 ")
            assert b'"type":"symbol"' in raw.frame().payload
