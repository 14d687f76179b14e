"""A recording can be harmed like the market, as far as its own order allows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Simulator, VirtualClock

BTC = "COINBASE_SPOT_BTC_USD"

Dial = Callable[..., Any]


def recorded(number: int, kind: str, symbol_id: str) -> str:
    return json.dumps({"symbol_id": symbol_id, "sequence": number, "is_snapshot": number == 1, "type": kind})


RECORDED = [recorded(n, kind, BTC) for n in range(1, 21) for kind in ("book", "trade")]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "frames.jsonl"
    with RecordingWriter(path) as writer:
        for n, text in enumerate(RECORDED):
            writer.write(text, n * 100_000_000)
    return path


@pytest.mark.parametrize("speed", [1.0, None])
@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda f: f.skip_sequence(2, types=["book"]), [t for n, t in enumerate(RECORDED) if n not in (0, 2)]),
        (lambda f: f.repeat_sequence(2, symbol_ids=[BTC]), [t for t in RECORDED[:2] for _ in "12"] + RECORDED[2:]),
        (lambda f: f.lose(1.0, types=["trade"]), RECORDED[::2]),
    ],
)
def test_a_recording_is_harmed_the_same_way(
    recording: Path,
    clock: VirtualClock,
    dial: Dial,
    speed: float | None,
    act: Callable[[Any], Any],
    expected: list[str],
) -> None:
    with Simulator(recording=recording, clock=clock, speed=speed) as simulator:
        peer = dial(simulator.url)
        simulator.settle()
        act(simulator.faults)
        peer.hello("book", "trade", symbol_id=[BTC])
        clock.advance(10)
        assert peer.rest_until_closed() == expected
        assert sum(simulator.frames_sent.values()) == len(expected)
        assert sum(simulator.frames_lost.values()) == max(0, len(RECORDED) - len(expected))


def test_chance_in_a_recording_is_the_same_for_the_same_seed(recording: Path, dial: Dial) -> None:
    runs = []
    for seed in (1, 1, 2):
        with Simulator(seed=seed, recording=recording, speed=None, clock=VirtualClock()) as simulator:
            simulator.faults.lose(0.5)
            peer = dial(simulator.url)
            peer.hello("book", "trade", symbol_id=[BTC])
            runs.append(peer.rest_until_closed())
    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0]) < set(RECORDED)


@pytest.mark.parametrize("symbol_id", ["NOBODY_SPOT_A_B", BTC + "$"])
def test_a_recording_may_have_any_symbols_so_none_is_unknown(
    recording: Path, clock: VirtualClock, dial: Dial, symbol_id: str
) -> None:
    timeline = [{"at": 0, "do": "lose", "rate": 1, "symbol_ids": [symbol_id]}]
    with Simulator(recording=recording, clock=clock, timeline=timeline) as simulator:
        peer = dial(simulator.url)
        simulator.settle()
        assert simulator.faults.skip_sequence(symbol_ids=[symbol_id]) == 1
        assert simulator.faults.repeat_sequence(symbol_ids=[symbol_id]) == 1
        peer.hello("book", "trade", symbol_id=[BTC])
        clock.advance(10)
        assert peer.rest_until_closed() == RECORDED


@pytest.mark.parametrize("fault", ["deltas_first", "stale_frames"])
def test_what_a_recording_cannot_do_is_refused(recording: Path, fault: str) -> None:
    with Simulator(recording=recording) as simulator:
        with pytest.raises(ValueError, match="for the synthetic market; a recording has an order of its own"):
            getattr(simulator.faults, fault)()
        with pytest.raises(ValueError, match=r"timeline\[0\]: .*for the synthetic market"):
            Simulator(recording=recording, timeline=[{"at": 0, "do": fault}])
