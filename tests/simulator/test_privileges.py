"""What a key may have: data types, told at the hello as the vendor does, or already at the upgrade."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers import QUOTES, TRADES
from websockets.exceptions import InvalidStatus

from coinapi_ws import (
    AuthenticationError,
    Cause,
    CoinAPIError,
    ErrorMessage,
    PermissionDenied,
    Trade,
    connect,
)
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator, VirtualClock

Dial = Callable[..., Any]

BTC = "COINBASE_SPOT_BTC_USD$"
FORBIDDEN = "Forbidden - Your API key don't have privileges to data type 'quote'."


def keys(canary_key: str) -> dict[str, list[str] | None]:
    """A key for trades and metadata, one for everything, one for nothing."""
    return {canary_key: ["trade", "symbol"], "everything": None, "nothing": []}


def with_key(key: str) -> dict[str, Any]:
    return {"additional_headers": {"X-CoinAPI-Key": key}}


def test_a_hello_for_a_type_that_the_key_lacks_is_forbidden_in_the_vendor_s_words(
    clock: VirtualClock, dial: Dial, canary_key: str, shared: Path
) -> None:
    samples = (shared / "recordings" / "sample_frames.jsonl").read_text("utf-8").splitlines()
    sample = next(frame for line in samples if "Forbidden" in (frame := json.loads(line)["frame"]))
    with Simulator(clock=clock, api_keys=keys(canary_key)) as simulator:
        peer = dial(simulator.url, **with_key(canary_key))
        peer.hello("trade", "quote", "symbol", symbol_id=[BTC])
        text = peer.text()
        assert json.loads(text) == json.loads(sample) == {"type": "error", "message": FORBIDDEN}
        assert text == sample.replace("'", "\\u0027")  # as live errors were captured
        assert peer.close_code() == 1008
        assert simulator.frames_sent == {"error": 1}


@pytest.mark.parametrize("kind", ["hello", "subscribe"])
def test_a_later_change_is_checked_too_and_ends_what_was_running(
    clock: VirtualClock, dial: Dial, canary_key: str, kind: str
) -> None:
    with Simulator(clock=clock, api_keys=keys(canary_key)) as simulator:
        peer = dial(simulator.url, **with_key(canary_key))
        peer.hello("trade", symbol_id=[BTC])
        clock.advance(5)
        assert {m["type"] for m in peer.drain(simulator)} == {"trade"}
        getattr(peer, kind)("quote", symbol_id=[BTC])
        assert peer.message() == {"type": "error", "message": FORBIDDEN}
        assert peer.close_code() == 1008


def test_to_unsubscribe_needs_no_privilege(clock: VirtualClock, dial: Dial, canary_key: str) -> None:
    with Simulator(clock=clock, api_keys=keys(canary_key)) as simulator:
        peer = dial(simulator.url, **with_key(canary_key))
        peer.hello("symbol", symbol_id=[BTC])
        peer.unsubscribe("quote")
        assert [m["type"] for m in peer.drain(simulator)] == ["symbol"]


def test_a_type_that_there_is_not_is_invalid_and_not_forbidden(
    clock: VirtualClock, dial: Dial, canary_key: str
) -> None:
    with Simulator(clock=clock, api_keys=keys(canary_key)) as simulator:
        peer = dial(simulator.url, **with_key(canary_key))
        peer.hello("volume")
        assert peer.message()["message"].startswith("Subscribed data type 'volume' is invalid.")


@pytest.mark.parametrize("in_hello", [False, True], ids=["header", "hello"])
@pytest.mark.parametrize(("key", "lacks"), [("everything", []), ("trades", ["quote"]), ("nothing", ["quote", "trade"])])
def test_each_key_has_its_own_privileges_wherever_it_stands(
    clock: VirtualClock, dial: Dial, in_hello: bool, key: str, lacks: list[str]
) -> None:
    api_keys = {"everything": None, "trades": ("trade",), "nothing": ()}
    with Simulator(clock=clock, api_keys=api_keys) as simulator:
        refused = []
        for data_type in ("quote", "trade"):
            peer = dial(simulator.url, **({} if in_hello else with_key(key)))
            peer.hello(data_type, symbol_id=[BTC], **({"apikey": key} if in_hello else {}))
            simulator.settle()
            clock.advance(5)
            message = peer.message()
            if message["type"] == "error":
                assert message["message"] == FORBIDDEN.replace("quote", data_type)
                refused.append(data_type)
            else:
                assert message["type"] == data_type
        assert refused == lacks


def test_keys_in_a_list_may_have_everything(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, api_keys=iter(["k1"])) as simulator:
        peer = dial(simulator.url, **with_key("k1"))
        peer.hello("symbol", "asset", "exchange")
        assert {m["type"] for m in peer.drain(simulator)} == {"symbol", "asset", "exchange"}


def test_our_client_raises_permission_denied_and_does_not_tell_the_key(
    clock: VirtualClock, canary_key: str, leaks: Callable[[BaseException], bool]
) -> None:
    with (
        Simulator(clock=clock, api_keys=keys(canary_key)) as simulator,
        connect(canary_key, TRADES, endpoint=simulator.url, pacer=SharedPacer()) as stream,
    ):
        simulator.settle()
        clock.advance(1)
        assert isinstance(next(item for item in stream), Trade)
        stream.subscribe(QUOTES)
        simulator.settle()
        with pytest.raises(PermissionDenied, match="privileges to data type 'quote'") as caught:
            list(stream)
        assert (caught.value.stage, caught.value.status, caught.value.server_text) == ("live", None, FORBIDDEN)
        assert stream.disconnected is not None
        assert stream.disconnected.cause is Cause.CREDENTIALS
        assert not leaks(caught.value)


# Keys that are checked at the upgrade


@pytest.mark.parametrize(
    ("options", "status", "body"),
    [
        (with_key("wrong"), 401, b"Invalid API key"),
        ({}, 401, b"Invalid API key"),
        (with_key("nothing"), 403, b"Forbidden"),
    ],
    ids=["wrong key", "no key", "key without any privilege"],
)
def test_a_key_may_be_checked_at_the_upgrade(
    clock: VirtualClock, dial: Dial, canary_key: str, options: dict[str, Any], status: int, body: bytes
) -> None:
    with Simulator(clock=clock, api_keys=keys(canary_key), key_check="upgrade") as simulator:
        with pytest.raises(InvalidStatus) as caught:
            dial(simulator.url, **options)
        response = caught.value.response
        assert (response.status_code, response.body) == (status, body)
        assert "Retry-After" not in response.headers
        assert (len(simulator.requests), len(simulator.requests_refused)) == (0, 1)
        assert simulator.connections == 0


def test_a_key_in_the_hello_comes_too_late_for_a_check_at_the_upgrade(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, api_keys=["k1"], key_check="upgrade") as simulator:
        with pytest.raises(InvalidStatus, match="401"):
            dial(simulator.url)
        peer = dial(simulator.url + "?apikey=k1")
        peer.hello("symbol", symbol_id=[BTC], apikey="wrong")
        assert peer.message()["type"] == "symbol"


def test_single_types_are_checked_at_the_hello_also_then(clock: VirtualClock, dial: Dial, canary_key: str) -> None:
    with Simulator(clock=clock, api_keys=keys(canary_key), key_check="upgrade") as simulator:
        peer = dial(simulator.url, **with_key(canary_key))
        peer.hello("quote")
        assert peer.message() == {"type": "error", "message": FORBIDDEN}


@pytest.mark.parametrize("key_check", ["hello", "upgrade"])
def test_where_all_clients_are_accepted_there_is_nothing_to_check(
    clock: VirtualClock, dial: Dial, key_check: str
) -> None:
    with Simulator(clock=clock, key_check=key_check) as simulator:
        for options in ({}, with_key("any")):
            peer = dial(simulator.url, **options)
            peer.hello("symbol", symbol_id=[BTC])
            assert peer.message()["type"] == "symbol"


@pytest.mark.parametrize(
    ("accepted", "error_type", "status", "text"),
    [
        ({"another": None}, AuthenticationError, 401, "Invalid API key"),
        (None, PermissionDenied, 403, "Forbidden"),
    ],
    ids=["401", "403"],
)
def test_our_client_says_what_an_upgrade_was_refused_for(
    clock: VirtualClock,
    canary_key: str,
    leaks: Callable[[BaseException], bool],
    accepted: dict[str, None] | None,
    error_type: type[CoinAPIError],
    status: int,
    text: str,
) -> None:
    api_keys: dict[str, Any] = {canary_key: []} if accepted is None else dict(accepted)
    with Simulator(clock=clock, api_keys=api_keys, key_check="upgrade") as simulator:
        with pytest.raises(error_type) as caught:
            connect(canary_key, TRADES, endpoint=simulator.url, pacer=SharedPacer())
        error = caught.value
        assert isinstance(error, (AuthenticationError, PermissionDenied))
        assert (error.stage, error.status, error.server_text, error.retry_after) == ("upgrade", status, text, None)
        assert error.disconnected is not None
        assert error.disconnected.cause is Cause.CREDENTIALS
        assert not leaks(error)


def test_our_client_learns_of_a_wrong_key_at_the_hello_by_default(clock: VirtualClock, canary_key: str) -> None:
    with (
        Simulator(clock=clock, api_keys={"another": None}) as simulator,
        connect(canary_key, TRADES, endpoint=simulator.url, pacer=SharedPacer()) as stream,
    ):
        assert isinstance(next(stream), ErrorMessage)
        with pytest.raises(AuthenticationError) as caught:
            next(stream)
        assert caught.value.stage == "hello"


# Options


def test_a_check_at_another_time_is_refused() -> None:
    with pytest.raises(ValueError, match='key_check must be "hello" or "upgrade"'):
        Simulator(key_check="never")


def test_privileges_to_what_there_is_not_are_refused_without_the_key(
    canary_key: str, assert_no_canary: Callable[[object], None]
) -> None:
    with pytest.raises(ValueError, match="2 data types of a key are unknown; there are book5, book20") as caught:
        Simulator(api_keys={canary_key: ["trade", "volume", "quotes"]})
    assert_no_canary(caught.value)


def test_one_name_is_not_a_collection_of_types() -> None:
    with pytest.raises(
        TypeError, match="api_keys must be a list of text or an object \\(text: a list of text or null\\) or null"
    ):
        Simulator(api_keys={"k1": "trade"})
