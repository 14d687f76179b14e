"""The lists of REST on the port of the WebSocket, asked for by clients that we did not write."""

from __future__ import annotations

import gzip
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Simulator, VirtualClock


def get(simulator: Simulator, target: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers with their names in lower case, and body."""
    connection = http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=10)
    try:
        connection.request("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def listed(simulator: Simulator, target: str) -> list[Any]:
    status, headers, body = get(simulator, target)
    assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
    objects = json.loads(body)
    assert isinstance(objects, list)
    return objects


def symbol_ids(simulator: Simulator, target: str) -> list[str]:
    return [symbol["symbol_id"] for symbol in listed(simulator, target)]


def test_lists_and_filters() -> None:
    with Simulator() as simulator:
        assert [each["exchange_id"] for each in listed(simulator, "/v1/exchanges")] == [
            *("BITSTAMP", "COINBASE", "KRAKEN", "BINANCEFTS")
        ]
        assert [each["asset_id"] for each in listed(simulator, "/v1/assets?filter_asset_id=BTC;USD")] == ["BTC", "USD"]
        assert len(listed(simulator, "/v1/symbols")) == 10
        kraken = [f"KRAKEN_SPOT_{asset}_USD" for asset in ("BTC", "ETH", "ADA")]
        assert symbol_ids(simulator, "/v1/symbols/KRAKEN") == kraken
        assert symbol_ids(simulator, "/v1/symbols/KRAKEN?filter_asset_id=ADA,BTC&x=y") == [kraken[0], kraken[2]]
        assert symbol_ids(simulator, "/v1/symbols?filter_exchange_id=KRAKEN&filter_symbol_id=BTC_") == kraken[:1]
        assert symbol_ids(simulator, "/v1/symbols/KRAK") == []
        assert listed(simulator, "/v1/symbols/KRAKEN")[0]["price_precision"] == 0.1
        assert simulator.requests == simulator.requests_refused == []


def test_gzip_for_those_who_ask() -> None:
    with Simulator() as simulator:
        _, plain_headers, plain = get(simulator, "/v1/symbols")
        _, headers, body = get(simulator, "/v1/symbols", Accept_Encoding="br, gzip")
    assert "content-encoding" not in plain_headers
    assert headers["content-encoding"] == "gzip"
    assert len(body) < len(plain) / 3
    assert [symbol["symbol_id"] for symbol in json.loads(gzip.decompress(body))] == [
        symbol["symbol_id"] for symbol in json.loads(plain)
    ]


def test_prices_are_those_of_the_market() -> None:
    clock = VirtualClock()
    with Simulator(clock=clock) as simulator:
        before = listed(simulator, "/v1/assets?filter_asset_id=BTC")[0]["price_usd"]
        simulator.move_price("BTC", 10)
        clock.advance(1)
        (after,) = listed(simulator, "/v1/assets?filter_asset_id=BTC")
    assert after["price_usd"] == pytest.approx(1.1 * before)
    assert after["data_end"] >= after["data_start"] > "2020"


def test_the_key_is_checked_at_once() -> None:
    keys: dict[str, Any] = {"good": None, "some": ["trade"], "none": []}
    with Simulator(api_keys=keys) as simulator:
        for key, status in (("good", 200), ("some", 200), ("none", 403), ("bad", 401)):
            assert get(simulator, "/v1/assets", X_CoinAPI_Key=key)[0] == status
            assert get(simulator, f"/v1/assets?apikey={key}")[0] == status
        status, headers, body = get(simulator, "/v1/assets")
        assert (status, body) == (401, b"Invalid API key")
        assert headers["www-authenticate"].startswith("Basic")
        request = urllib.request.Request(f"{simulator.rest_url}/v1/assets", headers={"Authorization": "none"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10)


def test_the_limit() -> None:
    clock = VirtualClock()
    with Simulator(clock=clock, rest_limit=(2, 10.0), upgrade_limit=(1, 10.0)) as simulator:
        for remaining in ("1", "0"):
            status, headers, _ = get(simulator, "/v1/assets")
            assert (status, headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == (200, "2", remaining)
        status, headers, body = get(simulator, "/v1/assets")
        assert (status, headers["retry-after"], body) == (429, "10", b"Too many requests")
        clock.advance(11)
        assert get(simulator, "/v1/assets")[0] == 200


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/v1/orderbooks", {}),
        ("/v1/exchanges/KRAKEN", {}),
        ("/v2/assets", {}),
        ("/v1/assets", {"Upgrade": "h2c"}),
    ],
)
def test_all_else_is_for_websockets(target: str, headers: dict[str, str]) -> None:
    with Simulator() as simulator:
        assert get(simulator, target, **headers)[0] == 400


def test_the_same_path_upgrades(dial: Callable[..., Any]) -> None:
    with Simulator() as simulator:
        peer = dial(simulator.url.replace("/v1/", "/v1/symbols"))
        peer.hello("asset")
        assert peer.message()["type"] == "asset"


def test_every_product_has_the_lists() -> None:
    for options in ({"direct_source": "COINBASE"}, {"exchange_rates": True}):
        with Simulator(**options) as simulator:
            assert simulator.rest_url == f"http://127.0.0.1:{simulator.port}"
            assert len(listed(simulator, "/v1/symbols")) == 10


def test_a_recording_has_none(tmp_path: Any) -> None:
    with RecordingWriter(tmp_path / "a.jsonl") as recording:
        recording.write('{"type":"trade","symbol_id":"A_SPOT_B_C"}', 1)
    with Simulator(recording=tmp_path / "a.jsonl") as simulator:
        assert get(simulator, "/v1/symbols")[0] == 404
