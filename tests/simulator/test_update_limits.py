"""The three update limits, each for itself: what they space, by how much, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from coinapi_ws import Subscription, connect
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator, VirtualClock

Dial = Callable[..., Any]

BTC = "COINBASE_SPOT_BTC_USD"
ETH = "COINBASE_SPOT_ETH_USD"
LIMITS = ["quote", "book_snapshot", "exrate"]
#: Which data types each limit is about.
TYPES = {"quote": {"quote"}, "book_snapshot": {"book5", "book20", "book50"}, "exrate": {"exrate"}}
ALL = ["quote", "book5", "book20", "book50", "exrate", "trade", "book"]


def limit(name: str, milliseconds: int) -> dict[str, int]:
    return {f"subscribe_update_limit_ms_{name}": milliseconds}


def milliseconds(message: dict[str, Any]) -> int:
    """When a message was published."""
    text = message["time"] if message["type"] == "exrate" else message["time_coinapi"]
    return round(datetime.fromisoformat(text[:26]).timestamp() * 1000)


def by_stream(messages: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    streams: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for m in messages:
        streams.setdefault((m["type"], m.get("symbol_id") or m["asset_id_base"]), []).append(m)
    return streams


def heard(clock: VirtualClock, dial: Dial, seconds: float, *data_types: str, **fields: Any) -> list[dict[str, Any]]:
    """What a client gets of two symbols and two pairs."""
    with Simulator(seed=1, clock=clock, market_start_ns=clock.time_ns()) as simulator:
        peer = dial(simulator.url)
        symbols = [] if set(data_types) == {"exrate"} else [BTC + "$", ETH + "$"]
        peer.hello(*data_types, symbol_id=symbols, asset_id=["BTC/USD", "ETH/USD"], **fields)
        simulator.settle()
        clock.advance(seconds)
        messages: list[dict[str, Any]] = peer.drain(simulator)
        return messages


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_spaces_its_own_types_and_no_other(dial: Dial, name: str) -> None:
    free = by_stream(heard(VirtualClock(), dial, 20, *ALL))
    limited = by_stream(heard(VirtualClock(), dial, 20, *ALL, **limit(name, 2500)))
    assert limited.keys() == free.keys()
    assert {kind for kind, _ in free} == set(ALL)
    for stream, messages in limited.items():
        if stream[0] not in TYPES[name]:
            assert messages == free[stream]
            continue
        times = [milliseconds(m) for m in messages]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert len(gaps) >= 5
        assert min(gaps) >= 2500
        # The next one comes as soon as it may: by the pace of its stream, not much later.
        assert max(gaps) <= {"exrate": 2500, "book20": 3000, "book50": 3000}.get(stream[0], 4500)


@pytest.mark.parametrize(
    ("name", "kind"), [("quote", "quote"), ("book_snapshot", "book5"), ("book_snapshot", "book20")]
)
def test_sequences_count_what_is_sent_and_each_frame_is_the_state_of_its_time(dial: Dial, name: str, kind: str) -> None:
    free = by_stream(heard(VirtualClock(), dial, 20, kind))
    limited = by_stream(heard(VirtualClock(), dial, 20, kind, **limit(name, 1500)))
    for stream, messages in limited.items():
        assert [m["sequence"] for m in messages] == list(range(1, len(messages) + 1))
        assert len(messages) < len(free[stream])
        contents = [{**m, "sequence": None} for m in free[stream]]
        assert all({**m, "sequence": None} in contents for m in messages)
        # The first is not kept back.
        assert messages[0] == free[stream][0]


def test_streams_are_limited_each_for_itself(dial: Dial) -> None:
    messages = heard(VirtualClock(), dial, 10, "exrate", **limit("exrate", 1000))
    times: dict[str, list[int]] = {"BTC": [], "ETH": []}
    for m in messages:
        times[m["asset_id_base"]].append(milliseconds(m))
    # Both pairs come at the same times: neither takes the other's turn.
    assert times["BTC"] == times["ETH"]
    assert len(times["BTC"]) == 10


@pytest.mark.parametrize(
    ("limit_ms", "count"), [(0, 50), (1, 50), (99, 50), (100, 50), (101, 25), (200, 25), (201, 17), (5000, 1)]
)
def test_a_limit_is_exact_to_the_millisecond(dial: Dial, limit_ms: int, count: int) -> None:
    """Rates come each 100 ms: a limit of 100 ms lets each pass, and one of 101 ms every second one."""
    messages = heard(VirtualClock(), dial, 5, "exrate", **limit("exrate", limit_ms))
    assert len([m for m in messages if m["asset_id_base"] == "BTC"]) == count


def test_a_new_hello_changes_the_limit_and_one_without_ends_it(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    counts = []
    for fields in (limit("exrate", 1000), limit("exrate", 500), {}, limit("exrate", 2000)):
        peer.hello("exrate", asset_id=["BTC/USD"], **fields)
        simulator.settle()
        clock.advance(10)
        counts.append(len(peer.drain(simulator)))
    assert counts == [10, 20, 100, 5]


def test_a_subscribe_limits_what_it_names_and_nothing_else(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("exrate", asset_id=["BTC/USD"])
    peer.subscribe("exrate", asset_id=["ETH/USD"], **limit("exrate", 1000))
    simulator.settle()
    clock.advance(10)
    bases = [m["asset_id_base"] for m in peer.drain(simulator)]
    assert (bases.count("BTC"), bases.count("ETH")) == (100, 10)


def test_clients_are_limited_each_for_itself(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    limited, free = dial(simulator.url), dial(simulator.url)
    limited.hello("exrate", asset_id=["BTC/USD"], **limit("exrate", 1000))
    free.hello("exrate", asset_id=["BTC/USD"])
    simulator.settle()
    clock.advance(10)
    assert (len(limited.drain(simulator)), len(free.drain(simulator))) == (10, 100)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [-1, 1.5, "100", True, [100]])
def test_a_limit_that_is_no_number_of_milliseconds_is_refused(
    simulator: Simulator, dial: Dial, name: str, value: object
) -> None:
    peer = dial(simulator.url)
    peer.hello("trade", **{f"subscribe_update_limit_ms_{name}": value})
    message = f"Field 'subscribe_update_limit_ms_{name}' must be a number of milliseconds"
    assert peer.message() == {"type": "error", "message": message}
    assert peer.close_code() == 1008


def test_the_limits_of_our_client_s_subscription_do_what_they_say(
    simulator: Simulator, clock: VirtualClock, canary_key: str
) -> None:
    rates = Subscription(["exrate"], asset_ids=["BTC/USD"], limit_ms_exrate=2000)
    with connect(canary_key, rates, endpoint=simulator.url, heartbeats=False, pacer=SharedPacer()) as stream:
        simulator.settle()
        clock.advance(10.05)
        simulator.faults.close(1000)
        times = [item.time for item in stream]  # type: ignore[union-attr]
    assert times == [f"2026-01-01T00:00:{second:02d}.1000000Z" for second in (0, 2, 4, 6, 8)]
