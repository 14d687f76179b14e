"""API keys are read in all seven ways, checked at the first message, and never shown."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import websocket
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coinapi_ws.simulator import Simulator, VirtualClock
from coinapi_ws.simulator.keys import shown_request, shown_text

Dial = Callable[..., Any]


def basic(user: str, password: str) -> list[str]:
    return ["Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()]


#: How a key travels: what is added to the URL, the headers, the fields of the hello.
Way = Callable[[str], tuple[str, list[str], dict[str, str]]]
WAYS: dict[str, Way] = {
    "header": lambda key: ("", [f"X-CoinAPI-Key: {key}"], {}),
    "header in lower case": lambda key: ("", [f"x-coinapi-key: {key}"], {}),
    "query": lambda key: (f"?a=b&apikey={quote(key)}&c", [], {}),
    "path": lambda key: (f"APIKEY-{quote(key)}", [], {}),
    "Authorization": lambda key: ("", [f"Authorization: {key}"], {}),
    "Basic": lambda key: ("", basic("coinapi", key), {}),
    "JWT and header": lambda key: ("", ["Authorization: Bearer ey.jwt.x", f"X-CoinAPI-Key: {key}"], {}),
    "hello": lambda key: ("", [], {"apikey": key}),
}


def talk(simulator: Simulator, way: tuple[str, list[str], dict[str, str]], kind: str = "hello") -> Any:
    """Return the first message that a client gets who brings its key this way."""
    suffix, headers, fields = way
    client = websocket.create_connection(simulator.url + suffix, header=headers)
    try:
        client.send(json.dumps({"type": kind, "subscribe_data_type": ["symbol"], **fields}))
        return json.loads(client.recv())
    finally:
        client.close()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_way_is_read_and_never_shown(
    canary_key: str, assert_no_canary: Callable[[object], None], clock: VirtualClock, way: Way
) -> None:
    # The client's library logs what it sends; that is its own matter.
    logging.getLogger("websocket").setLevel(logging.CRITICAL)
    with Simulator(clock=clock, api_keys=(canary_key, "another")) as simulator:
        assert talk(simulator, way(canary_key))["type"] == "symbol"
        wrong = talk(simulator, way("wrong-" + canary_key))
        assert wrong == {"type": "error", "message": "Invalid API key"}
        assert_no_canary(simulator)
        assert_no_canary(simulator.received)
        assert_no_canary(simulator.requests)
        assert_no_canary(vars(simulator))
        assert "***" in repr(simulator.received) + repr(simulator.requests)


@pytest.mark.parametrize(
    "way",
    [
        ("", [], {}),
        ("", [], {"apikey": ""}),
        ("?apikey=", [], {}),
        ("", basic("someone", "k1"), {}),
        ("", ["Authorization: Basic !!!"], {}),
        ("", ["Authorization: Bearer k1"], {}),
        ("APIKEY-k1/other", [], {}),
    ],
)
def test_no_key_is_an_invalid_one_where_keys_are_asked_for(
    clock: VirtualClock, way: tuple[str, list[str], dict[str, str]]
) -> None:
    with Simulator(clock=clock, api_keys=("k1",)) as simulator:
        assert talk(simulator, way)["message"] == "Invalid API key"


def test_one_right_key_is_enough_and_a_subscribe_is_checked_too(clock: VirtualClock) -> None:
    with Simulator(clock=clock, api_keys=("k1",)) as simulator:
        assert talk(simulator, ("?apikey=wrong", [], {"apikey": "k1"}))["type"] == "symbol"
        assert talk(simulator, ("", [], {"apikey": "wrong"}), "subscribe")["message"] == "Invalid API key"


def test_without_api_keys_everybody_may_come(simulator: Simulator) -> None:
    assert talk(simulator, ("", [], {}))["type"] == "symbol"
    assert talk(simulator, ("any/path?x", [], {"apikey": "whatever"}))["type"] == "symbol"
    assert [request.target for request in simulator.requests] == ["/v1/", "/v1/any/path?x"]


def test_the_upgrade_proves_nothing(clock: VirtualClock) -> None:
    with Simulator(clock=clock, api_keys=("k1",)) as simulator:
        client = websocket.create_connection(simulator.url, header=["X-CoinAPI-Key: wrong"])
        simulator.settle()
        assert simulator.connections == 1
        client.close()


@pytest.mark.parametrize(
    "way",
    [
        lambda key: ("", [], {"api-key": key}),
        lambda key: ("", [], {"X-CoinAPI-Key": key}),
        lambda key: (f"?api_key={key}", [], {}),
        lambda key: (f"?%61pikey={key}", [], {}),
        lambda key: ("", [f"X-API-Key: {key}"], {}),
    ],
)
def test_a_key_under_a_wrong_name_is_not_shown_either(
    clock: VirtualClock, canary_key: str, way, assert_no_canary
) -> None:
    with Simulator(clock=clock, api_keys=(canary_key,)) as simulator:
        assert talk(simulator, way(canary_key))["message"] == "Invalid API key"
        assert_no_canary(simulator.received)
        assert_no_canary(simulator.requests)


def test_one_string_is_not_a_collection_of_keys() -> None:
    with pytest.raises(
        TypeError, match="api_keys must be a list of text or an object \\(text: a list of text or null\\) or null"
    ):
        Simulator(api_keys="k1")


@settings(max_examples=50)
@given(st.text(min_size=1).map(lambda text: "KEY" + text + "YEK"), st.integers(0, 40), st.booleans())
@example('KEY\\"YEK', 0, True)
def test_a_text_is_shown_without_its_key_even_when_malformed(key: str, cut: int, escaped: bool) -> None:
    hello = json.dumps({"type": "hello", "apikey": key, "heartbeat": True}, ensure_ascii=escaped)
    shown = shown_text(hello[: len(hello) - cut])
    assert "KEY" not in shown
    assert "YEK" not in shown
    if cut:
        assert shown == f"({len(hello) - cut} characters that are no JSON object)"
    else:
        assert json.loads(shown) == {"type": "hello", "apikey": "***", "heartbeat": True}


@pytest.mark.parametrize(
    "template",
    [
        "K",
        '"K"',
        "{'apikey': 'K'}",
        '{apikey: "K"}',
        '{"apikey":["K"]}',
        '{"apikey":{"v":"K"}}',
        '{"api\\u006bey":"K"}',
        '{"token":"K"}',
    ],
)
def test_a_key_in_no_place_that_there_is_for_one_is_not_shown(
    template: str, canary_key: str, assert_no_canary: Callable[[object], None]
) -> None:
    assert_no_canary(shown_text(template.replace("K", canary_key)))


def test_a_text_without_a_key_is_shown_as_it_came() -> None:
    text = '{ "type":"hello", "subscribe_filter_symbol_id":["COINBASE_SPOT_BTC_USD$"], "note":"short" }'
    assert shown_text(text) == text


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/v1/K", []),
        ("/%41PIKEY-K", []),
        ("/v1/?token=K", []),
        ("/v1/?K", []),
        ("/v1/", [(b"Referer", b"https://x/?apikey=K"), (b"X-Token", b"K"), (b"Cookie", b"K")]),
        ("/v1/", [(b"host", b"coinapi:K@localhost")]),
    ],
)
def test_a_request_is_shown_without_what_may_be_a_key(
    target: str, headers: list[tuple[bytes, bytes]], canary_key: str, assert_no_canary: Callable[[object], None]
) -> None:
    key = canary_key.encode()
    assert_no_canary(shown_request(target.replace("K", canary_key, 1), [(n, v.replace(b"K", key)) for n, v in headers]))


@pytest.mark.parametrize("keys", [iter([5]), {5: None}, (key for key in [b"key"])])
def test_a_key_that_is_no_text_is_a_type_error_wherever_it_hides(keys: Any) -> None:
    with pytest.raises(TypeError, match="text"):
        Simulator(api_keys=keys)
