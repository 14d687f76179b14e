"""The Exchange Rates product: no data types, no filter but by asset, and nothing but rates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Simulator, VirtualClock

Dial = Callable[..., Any]
Pair = tuple[str, str]


@pytest.fixture
def rates(clock: VirtualClock) -> Simulator:
    return Simulator(seed=1, clock=clock, exchange_rates=True)


def pairs(messages: list[dict[str, Any]]) -> set[Pair]:
    assert {message["type"] for message in messages} <= {"exrate"}
    return {(message["asset_id_base"], message["asset_id_quote"]) for message in messages}


@pytest.mark.parametrize("data_types", [(), ("exrate",)])
def test_rates_of_a_pair_and_of_all_that_an_asset_is_in(
    rates: Simulator, clock: VirtualClock, dial: Dial, data_types: tuple[str, ...]
) -> None:
    with rates as simulator:
        peer = dial(simulator.url)
        fields = {"subscribe_data_type": list(data_types)} if data_types else {}
        peer.send(type="hello", subscribe_filter_asset_id=["ETH/USD", "USDT"], **fields)
        simulator.settle()
        clock.advance(5)
        assert pairs(peer.drain(simulator)) == {("ETH", "USD"), ("BTC", "USDT"), ("ETH", "USDT")}


def test_without_a_filter_it_is_all_rates(rates: Simulator, clock: VirtualClock, dial: Dial) -> None:
    with rates as simulator:
        peer = dial(simulator.url)
        peer.send(type="hello")
        simulator.settle()
        clock.advance(5)
        assert {("BTC", "USD"), ("ETH", "USD"), ("ADA", "USD"), ("BTC", "USDT")} <= pairs(peer.drain(simulator))


def test_subscribe_adds_and_unsubscribe_removes(rates: Simulator, clock: VirtualClock, dial: Dial) -> None:
    with rates as simulator:
        peer = dial(simulator.url)
        seen = []
        for kind, asset in (("subscribe", "BTC/USD"), ("subscribe", "ETH/USD"), ("unsubscribe", "BTC/USD")):
            peer.send(type=kind, subscribe_filter_asset_id=[asset])
            simulator.settle()
            clock.advance(2)
            seen.append(pairs(peer.drain(simulator)))
        assert seen == [{("BTC", "USD")}, {("BTC", "USD"), ("ETH", "USD")}, {("ETH", "USD")}]


def test_an_update_limit_leaves_rates_out(rates: Simulator, clock: VirtualClock, dial: Dial) -> None:
    with rates as simulator:
        all_of_them, few = dial(simulator.url), dial(simulator.url)
        all_of_them.send(type="hello", subscribe_filter_asset_id=["BTC/USD"])
        few.send(type="hello", subscribe_filter_asset_id=["BTC/USD"], subscribe_update_limit_ms_exrate=1000)
        simulator.settle()
        clock.advance(10)
        assert 8 <= len(few.drain(simulator)) <= 11 < len(all_of_them.drain(simulator))


def test_heartbeats_come_here_too(rates: Simulator, clock: VirtualClock, dial: Dial) -> None:
    with rates as simulator:
        peer = dial(simulator.url)
        peer.send(type="hello", heartbeat=True, subscribe_filter_asset_id=["NOTHING"])
        simulator.settle()
        clock.advance(3)
        assert peer.drain(simulator) == [{"type": "hearbeat"}] * 3


@pytest.mark.parametrize("data_types", [["trade"], ["exrate", "trade"], ["news"]])
def test_any_other_data_type_is_refused(rates: Simulator, dial: Dial, data_types: list[str]) -> None:
    with rates as simulator:
        peer = dial(simulator.url)
        peer.send(type="hello", subscribe_data_type=data_types, subscribe_filter_asset_id=["BTC"])
        wrong = f"Subscribed data type '{data_types[-1]}' is invalid. Allowed values: exrate"
        assert peer.message() == {"type": "error", "message": wrong}
        assert peer.close_code() == 1008


@pytest.mark.parametrize("name", ["symbol", "exchange", "period"])
def test_any_other_filter_is_refused(rates: Simulator, dial: Dial, name: str) -> None:
    with rates as simulator:
        peer = dial(simulator.url)
        peer.send(type="hello", subscribe_filter_asset_id=["BTC"], **{f"subscribe_filter_{name}_id": ["COINBASE"]})
        wrong = f"Filter 'subscribe_filter_{name}_id' is not supported"
        assert peer.message() == {"type": "error", "message": wrong}
        assert peer.close_code() == 1008


def test_a_key_is_checked_here_too(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, exchange_rates=True, api_keys={"a-key-of-a-test": ["trade"]}) as simulator:
        peer = dial(simulator.url)
        peer.send(type="hello", apikey="a-key-of-a-test", subscribe_filter_asset_id=["BTC"])
        assert peer.message()["message"].startswith("Forbidden")


def test_of_a_recording_it_sends_the_rates(clock: VirtualClock, dial: Dial, tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "mixed.jsonl") as writer:
        writer.write('{"symbol_id":"COINBASE_SPOT_BTC_USD","type":"trade"}', 1)
        writer.write('{"asset_id_base":"BTC","asset_id_quote":"USD","rate":1.5,"type":"exrate"}', 1)
    with Simulator(clock=clock, recording=tmp_path / "mixed.jsonl", exchange_rates=True) as simulator:
        peer = dial(simulator.url)
        peer.send(type="hello")
        assert peer.message()["rate"] == 1.5
        assert peer.close_code() == 1000


def test_it_says_to_our_clients_which_product_it_is(rates: Simulator) -> None:
    with rates as simulator:
        assert simulator.url == f"ws://127.0.0.1:{simulator.port}/v1/"
        assert simulator.endpoint == f"exrates:{simulator.url}"


def test_two_products_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="two products; make a simulator of each"):
        Simulator(exchange_rates=True, direct_source="COINBASE")
