"""WS DS, the source of one exchange: exact symbols, and an unknown one ends nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers import TRADES

from coinapi_ws import ErrorMessage, Heartbeat, Scope, Subscription, Trade, connect
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Simulator, VirtualClock

Dial = Callable[..., Any]
Source = Callable[..., Simulator]

BTC, ETH, ADA = (f"COINBASE_SPOT_{asset}_USD" for asset in ("BTC", "ETH", "ADA"))
KRAKEN = "KRAKEN_SPOT_BTC_USD"


def unknown(symbol_id: str) -> dict[str, str]:
    return {"type": "error", "message": f"Symbol '{symbol_id}' is unknown"}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A second of trades and rates of two exchanges, ten of each symbol."""
    path = tmp_path / "two_exchanges.jsonl"
    with RecordingWriter(path) as writer:
        for n in range(1, 11):
            for symbol_id in (BTC, ETH, ADA, KRAKEN):
                writer.write(
                    f'{{"price":{n}.5,"symbol_id":"{symbol_id}","sequence":{n},"type":"trade"}}', n * 100_000_000
                )
            writer.write('{"asset_id_base":"BTC","asset_id_quote":"USD","rate":1.5,"type":"exrate"}', n * 100_000_000)
    return path


@pytest.fixture(params=["market", "recording"])
def source(request: pytest.FixtureRequest, clock: VirtualClock, recording: Path) -> Source:
    """Make a simulator of the direct source of COINBASE: of the market, and of a recording that goes on and on."""

    def make(**options: Any) -> Simulator:
        replayed = {"recording": recording, "loop": True} if request.param == "recording" else {}
        return Simulator(seed=1, clock=clock, direct_source="COINBASE", **replayed, **options)

    return make


def symbols(messages: list[dict[str, Any]]) -> set[str]:
    return {m["symbol_id"] for m in messages}


@pytest.mark.parametrize("suffix", ["", "$"])
def test_symbols_are_exact_with_or_without_a_dollar(
    source: Source, clock: VirtualClock, dial: Dial, suffix: str
) -> None:
    with source() as simulator:
        peer = dial(simulator.url)
        peer.hello("trade", symbol_id=[BTC + suffix, ADA + suffix])
        clock.advance(5)
        assert symbols(peer.drain(simulator)) == {BTC, ADA}


@pytest.mark.parametrize("prefix", ["COINBASE_", "COINBASE_SPOT_BTC_US", ""])
def test_a_prefix_is_an_unknown_symbol(source: Source, clock: VirtualClock, dial: Dial, prefix: str) -> None:
    with source() as simulator:
        peer = dial(simulator.url)
        peer.hello("trade", symbol_id=[prefix])
        clock.advance(5)
        assert peer.drain(simulator) == [unknown(prefix)]
        assert simulator.connections == 1


def test_unknown_symbols_get_an_error_each_and_known_ones_stream(
    source: Source, clock: VirtualClock, dial: Dial
) -> None:
    with source() as simulator:
        peer = dial(simulator.url)
        peer.hello("trade", symbol_id=["COINBASE_SPOT_BTC_EUR", BTC, KRAKEN + "$"])
        assert peer.messages(2) == [unknown("COINBASE_SPOT_BTC_EUR"), unknown(KRAKEN)]
        clock.advance(5)
        assert symbols(peer.drain(simulator)) == {BTC}
        # So it goes on, also for what is asked for later.
        peer.subscribe("trade", symbol_id=["NOTHING", ETH])
        simulator.settle()
        clock.advance(5)
        first, *others = peer.drain(simulator)
        assert first == unknown("NOTHING")
        assert symbols(others) == {BTC, ETH}
        peer.unsubscribe("trade", symbol_id=[BTC])
        simulator.settle()
        clock.advance(5)
        assert symbols(peer.drain(simulator)) == {ETH}
        assert simulator.connections == 1
        assert simulator.frames_sent["error"] == 3


@pytest.mark.parametrize("suffix", ["", "$"])
def test_the_exchange_s_own_name_of_a_symbol_will_do(clock: VirtualClock, dial: Dial, suffix: str) -> None:
    with Simulator(clock=clock, direct_source="COINBASE") as simulator:
        peer = dial(simulator.url)
        peer.hello("trade", symbol_id=["ETH-USD" + suffix, BTC, "XBT/USD" + suffix])
        assert peer.message() == unknown("XBT/USD")  # Kraken's
        clock.advance(5)
        assert symbols(peer.drain(simulator)) == {BTC, ETH}
        peer.unsubscribe("trade", symbol_id=[ETH])
        simulator.settle()
        clock.advance(5)
        assert symbols(peer.drain(simulator)) == {BTC}


def test_its_url_is_that_of_a_cross_connect(clock: VirtualClock) -> None:
    with Simulator(clock=clock, direct_source="COINBASE", tls=True) as simulator:
        assert simulator.url == simulator.endpoint == f"wss://localhost:{simulator.port}/md/ws-ds-coinbase/"


def test_without_a_symbol_it_is_all_of_the_exchange_and_nothing_else(
    source: Source, clock: VirtualClock, dial: Dial
) -> None:
    with source() as simulator:
        peer = dial(simulator.url)
        peer.hello("trade")
        clock.advance(5)
        assert symbols(peer.drain(simulator)) == {BTC, ETH, ADA}


def test_an_asset_filter_still_works(source: Source, clock: VirtualClock, dial: Dial) -> None:
    with source() as simulator:
        peer = dial(simulator.url)
        peer.hello("trade", asset_id=["ADA", "ETH/USD"])
        clock.advance(5)
        assert symbols(peer.drain(simulator)) == {ADA, ETH}


@pytest.mark.parametrize("exchange_id", ["COINBASE", "KRAKEN"])
def test_an_exchange_filter_is_refused(source: Source, dial: Dial, exchange_id: str) -> None:
    with source() as simulator:
        peer = dial(simulator.url)
        peer.hello("trade", exchange_id=[exchange_id])
        message = "Filter 'subscribe_filter_exchange_id' is not supported"
        assert peer.message() == {"type": "error", "message": message}
        assert peer.close_code() == 1008


def test_there_are_no_rates(source: Source, dial: Dial) -> None:
    with source() as simulator:
        peer = dial(simulator.url)
        peer.hello("exrate", asset_id=["BTC/USD"])
        message = peer.message()["message"]
        assert message.startswith("Subscribed data type 'exrate' is invalid. Allowed values: book5, ")
        assert "exrate" not in message.partition("Allowed values")[2]
        assert peer.close_code() == 1008


def test_books_need_a_filter_here_too(source: Source, dial: Dial) -> None:
    with source() as simulator:
        peer = dial(simulator.url)
        peer.hello("book")
        assert peer.message()["message"] == "Data type 'book' requires at least one filter"
        assert peer.close_code() == 1008


def test_metadata_is_the_exchange_s_own(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, direct_source="KRAKEN") as simulator:
        peer = dial(simulator.url)
        peer.hello("symbol", "exchange")
        messages = peer.drain(simulator)
        assert {m["exchange_id"] for m in messages} == {"KRAKEN"}
        assert [m["type"] for m in messages].count("symbol") == 3


def test_a_recording_may_be_of_an_exchange_that_the_market_has_not(
    clock: VirtualClock, dial: Dial, tmp_path: Path
) -> None:
    path = tmp_path / "bitso.jsonl"
    with RecordingWriter(path) as writer:
        writer.write('{"symbol_id":"BITSO_SPOT_BTC_MXN","type":"trade"}', 1)
    with Simulator(clock=clock, recording=path, direct_source="BITSO") as simulator:
        peer = dial(simulator.url)
        peer.hello("trade", symbol_id=["BITSO_SPOT_BTC_MXN", "BITSO_SPOT_ETH_MXN"])
        assert [m.get("message") for m in peer.messages(2)] == ["Symbol 'BITSO_SPOT_ETH_MXN' is unknown", None]
        assert peer.close_code() == 1000


def test_an_exchange_that_the_market_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no exchange 'BITSO'; there are BITSTAMP, COINBASE, KRAKEN, BINANCEFTS"):
        Simulator(direct_source="BITSO")


def test_our_client_gets_the_error_as_a_message_and_streams_on(
    source: Source, clock: VirtualClock, canary_key: str
) -> None:
    missing = Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_EUR$"])
    with (
        source() as simulator,
        connect(canary_key, *Scope(TRADES, missing), endpoint=simulator.url, pacer=SharedPacer()) as stream,
    ):
        simulator.settle()
        clock.advance(5)
        item = next(stream)
        assert isinstance(item, ErrorMessage)
        assert item.message == "Symbol 'COINBASE_SPOT_BTC_EUR' is unknown"
        item = next(item for item in stream if not isinstance(item, Heartbeat))
        assert isinstance(item, Trade)
        assert item.symbol_id == BTC
        assert stream.disconnected is None
