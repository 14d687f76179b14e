"""How many connections a key may hold: told in headers, enforced wherever the key stands, freed by every end."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import websocket
from peers import QUOTES, TRADES
from websockets.exceptions import InvalidStatus

from coinapi_ws import Cause, ErrorMessage, RateLimited, connect
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator, VirtualClock

Dial = Callable[..., Any]


def with_key(way: str, key: str) -> tuple[str, list[str]]:
    """What to add to the URL, and the headers, that bring a key this way."""
    return {
        "header": ("", [f"X-CoinAPI-Key: {key}"]),
        "query": (f"?apikey={key}", []),
        "path": (f"APIKEY-{key}", []),
        "Authorization": ("", [f"Authorization: {key}"]),
        "Basic": ("", ["Authorization: Basic " + base64.b64encode(f"coinapi:{key}".encode()).decode()]),
    }[way]


WAYS = ["header", "query", "path", "Authorization", "Basic"]


def open_with(simulator: Simulator, way: str, key: str) -> Any:
    suffix, headers = with_key(way, key)
    return websocket.create_connection(simulator.url + suffix, header=headers, timeout=10)


@pytest.mark.parametrize("way", WAYS)
def test_a_key_holds_so_many_connections_however_it_comes(clock: VirtualClock, way: str) -> None:
    with Simulator(clock=clock, connection_limit=2) as simulator:
        first, second = open_with(simulator, way, "k1"), open_with(simulator, "header", "k1")
        assert [c.headers["x-concurrencylimit-limit"] for c in (first, second)] == ["2", "2"]
        assert [c.headers["x-concurrencylimit-remaining"] for c in (first, second)] == ["1", "0"]
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            open_with(simulator, way, "k1")
        refused = caught.value
        assert (refused.status_code, refused.resp_body) == (429, b"Too many connections")
        assert refused.resp_headers["x-concurrencylimit-limit"] == "2"
        assert refused.resp_headers["x-concurrencylimit-remaining"] == "0"
        assert refused.resp_headers["retry-after"] == "1"
        # Another key has places of its own.
        other = open_with(simulator, way, "k2")
        assert other.headers["x-concurrencylimit-remaining"] == "1"
        for client in (first, second, other):
            client.close()


def test_a_key_in_the_hello_is_counted_with_the_hello(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, connection_limit=1) as simulator:
        # The upgrade cannot know.
        first, second = dial(simulator.url), dial(simulator.url)
        assert first.websocket.response.headers["X-ConcurrencyLimit-Remaining"] == "1"
        first.hello("connectivity_status", apikey="k1")
        assert first.drain(simulator) == []
        second.subscribe("connectivity_status", apikey="k1")
        assert second.message() == {"type": "error", "message": "Too many connections with this API key"}
        assert second.close_code() == 1008
        with pytest.raises(InvalidStatus, match="429"):
            dial(simulator.url, additional_headers={"X-CoinAPI-Key": "k1"})
        other = dial(simulator.url)
        other.hello("connectivity_status", apikey="k2")
        assert other.drain(simulator) == []


def test_a_key_that_comes_twice_on_one_connection_counts_once(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, connection_limit=2, api_keys=["k1"]) as simulator:
        for remaining in ("1", "0"):
            peer = dial(simulator.url + "?apikey=k1", additional_headers={"X-CoinAPI-Key": "k1"})
            assert peer.websocket.response.headers["X-ConcurrencyLimit-Remaining"] == remaining
            for _ in range(2):
                peer.hello("connectivity_status", apikey="k1")
            assert peer.drain(simulator) == []


def close_well(simulator: Simulator, client: Any) -> None:
    client.close()


def vanish(simulator: Simulator, client: Any) -> None:
    client.shutdown()


def be_dropped(simulator: Simulator, client: Any) -> None:
    simulator.faults.drop()


def be_refused(simulator: Simulator, client: Any) -> None:
    client.send("nonsense")


def be_closed(simulator: Simulator, client: Any) -> None:
    simulator.faults.close(1012)


@pytest.mark.parametrize("end", [close_well, vanish, be_dropped, be_refused, be_closed])
@pytest.mark.parametrize("in_hello", [False, True], ids=["key in the header", "key in the hello"])
def test_a_connection_that_ended_frees_its_place_at_once(
    clock: VirtualClock, dial: Dial, end: Callable[[Simulator, Any], None], in_hello: bool
) -> None:
    with Simulator(clock=clock, connection_limit=1) as simulator:
        client = websocket.create_connection(simulator.url, header=[] if in_hello else ["X-CoinAPI-Key: k1"])
        try:
            hello = {"type": "hello", "subscribe_data_type": ["connectivity_status"]}
            client.send(json.dumps(hello | ({"apikey": "k1"} if in_hello else {})))
            simulator.settle()
            with pytest.raises(InvalidStatus):
                dial(simulator.url, additional_headers={"X-CoinAPI-Key": "k1"})
            end(simulator, client)
            simulator.settle()
            again = dial(simulator.url, additional_headers={"X-CoinAPI-Key": "k1"})
            assert again.websocket.response.headers["X-ConcurrencyLimit-Remaining"] == "0"
        finally:
            client.shutdown()


def test_clients_without_a_key_are_not_counted(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, connection_limit=1) as simulator:
        peers = [dial(simulator.url) for _ in range(5)]
        for peer in peers:
            peer.hello("connectivity_status")
            assert peer.drain(simulator) == []
        assert {peer.websocket.response.headers["X-ConcurrencyLimit-Remaining"] for peer in peers} == {"1"}
        assert simulator.connections == 5


def test_a_wrong_key_is_counted_too(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, connection_limit=1, api_keys=["k1"]) as simulator:
        dial(simulator.url, additional_headers={"X-CoinAPI-Key": "wrong"})
        with pytest.raises(InvalidStatus, match="429"):
            dial(simulator.url, additional_headers={"X-CoinAPI-Key": "wrong"})
        dial(simulator.url, additional_headers={"X-CoinAPI-Key": "k1"})


def test_the_limit_is_the_key_s_and_not_the_address_s(
    clock: VirtualClock, dial: Dial, second_address: tuple[str, int]
) -> None:
    with Simulator(clock=clock, connection_limit=1) as simulator:
        for key in ("k1", "k2", "k3"):
            dial(simulator.url, additional_headers={"X-CoinAPI-Key": key})
        with pytest.raises(InvalidStatus, match="429"):
            dial(simulator.url, additional_headers={"X-CoinAPI-Key": "k1"}, source_address=second_address)


def test_a_connection_that_is_refused_for_its_key_was_an_upgrade(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, connection_limit=1, upgrade_limit=(2, 10)) as simulator:
        key = {"X-CoinAPI-Key": "k1"}
        dial(simulator.url, additional_headers=key)
        bodies = []
        for _ in range(2):
            with pytest.raises(InvalidStatus, match="429") as refused:
                dial(simulator.url, additional_headers=key)
            bodies.append(refused.value.response.body)
        assert bodies == [b"Too many connections", b"Too many upgrade requests"]


def test_our_client_raises_rate_limited_for_a_connection_too_much(clock: VirtualClock, canary_key: str) -> None:
    with (
        Simulator(clock=clock, connection_limit=1, api_keys=[canary_key]) as simulator,
        connect(canary_key, TRADES, endpoint=simulator.url, pacer=SharedPacer()) as stream,
    ):
        with pytest.raises(RateLimited, match="Too many connections") as caught:
            connect(canary_key, TRADES, endpoint=simulator.url, pacer=SharedPacer())
        assert (caught.value.status, caught.value.retry_after) == (429, 1.0)
        assert caught.value.disconnected is not None
        assert caught.value.disconnected.cause is Cause.RATE_LIMIT
        # With the key in the hello the server learns it later.
        with connect(canary_key, QUOTES, endpoint=simulator.url, auth="hello", pacer=SharedPacer()) as second:
            assert isinstance(next(second), ErrorMessage)
            with pytest.raises(RateLimited, match="Too many connections with this API key"):
                next(second)
        stream.close()
        simulator.settle()
        with connect(canary_key, TRADES, endpoint=simulator.url, pacer=SharedPacer()):
            assert simulator.connections == 1


@pytest.mark.parametrize("value", [0, -1])
def test_a_connection_limit_of_none_at_all_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="connection_limit must be 1 or more"):
        Simulator(connection_limit=value)
