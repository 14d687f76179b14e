"""Whoever gives a simulator something of a wrong type is told so at once; nothing changes and nobody waits for ever."""

from __future__ import annotations

import inspect
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from raw_client import RawClient

from coinapi_ws.simulator import Faults, Simulator, VirtualClock

BTC = "COINBASE_SPOT_BTC_USD"

#: What a parameter needs where another one is wrong.
SOUND: dict[str, Any] = {
    "message": "no",
    "seconds": 1,
    "rate": 0.5,
    "text": "{}",
    "raw": b"\x81\x00",
    "location": "wss://elsewhere.example/",
    "kind": "valid",
    "asset_id": "BTC",
    "percent": 1,
    "symbol_ids": [BTC],
    "factor": 1,
}
NUMBERS = ["1", b"1", True, [1], 2**63, -(2**63), 10**400, Decimal(1), 1j]
#: What is wrong beside an object of no use, and its class, for all types but Any.
WRONG: dict[Any, list[Any]] = {
    bool: [0, 1, "true", []],
    int: [*NUMBERS, 1.0, float("nan")],
    float: [*NUMBERS, 1e19, -1e308],
    str: [1, b"text", ["text"], Path("text")],
    bytes: ["8100", 8100, [1], bytearray(b"\x81\x00")],
    Iterable[str]: ["text", b"text", {"text": "text"}, 1, [1], ("a", None), {b"a"}, frozenset([2])],
    Mapping[str, str]: ["text", [("a", "b")], {"a": 1}, {"a": None}],
    Simulator: ["a simulator", Faults],
}


def methods_of(kind: type) -> dict[str, Callable[..., Any]]:
    """The public methods that take anything, beside those that make a simulator."""
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: f for name, f in found if not name.startswith("_") and len(inspect.signature(f).parameters) > 1}


PARAMETERS = [
    (kind, name, parameter)
    for kind in (Faults, Simulator)
    for name, method in methods_of(kind).items()
    for parameter in list(inspect.signature(method).parameters)[1:]
]


def wrong_for(hint: Any) -> list[Any]:
    is_optional = type(None) in getattr(hint, "__args__", ())
    [kind] = [kind for kind in WRONG if hint == kind or (is_optional and hint == kind | None)]
    return [object(), object, *WRONG[kind], *([] if is_optional else [None])]


def error_of(call: Callable[[], object]) -> BaseException | None:
    """What a call raises; it may not take for ever."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert raised, "the call hangs"
    return raised[0]


def assert_is_of_type(error: BaseException | None, parameter: str) -> None:
    assert type(error) is TypeError
    assert re.fullmatch(rf"{parameter} must be [a-zA-Z0-9 ().,:\[\]]+", str(error))


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Simulator, RawClient]]:
    """A simulator with one client that is in the middle of its stream: no wrong type may harm it."""
    with Simulator(seed=1, clock=VirtualClock()) as simulator, RawClient(simulator.port) as raw:
        raw.upgrade().hello("symbol")
        simulator.settle()  # or else the Pong may come before the snapshots
        assert len(raw.ping()) == 10
        yield simulator, raw


def test_the_methods_that_are_tried_are_all_that_take_anything() -> None:
    assert {name for kind, name, _ in PARAMETERS if kind is Simulator} == {
        *("announce_reconnect", "move_price", "halt_trading", "resume_trading", "set_activity"),
    }
    tried = {name for kind, name, _ in PARAMETERS if kind is Faults}
    assert {name for name in dir(Faults) if not name.startswith("_")} - tried == {"clear"}


@pytest.mark.parametrize(("kind", "name", "parameter"), PARAMETERS)
def test_a_wrong_type_is_a_type_error_that_names_the_parameter_and_harms_nobody(
    served: tuple[Simulator, RawClient], kind: type, name: str, parameter: str
) -> None:
    simulator, raw = served
    not_started = Simulator(clock=VirtualClock())
    sent, engine_behaviour = simulator.frames_sent, simulator._engine.behaviour
    for target in (simulator, not_started):
        owner = target.faults if kind is Faults else target
        method = getattr(owner, name)
        needed = {
            p.name: SOUND[p.name]
            for p in inspect.signature(method).parameters.values()
            if p.default is p.empty and p.name != parameter
        }
        for wrong in wrong_for(get_type_hints(method)[parameter]):
            assert_is_of_type(error_of(partial(method, **{**needed, parameter: wrong})), parameter)
    # It lives on, and the client has seen nothing of this.
    assert raw.ping() == []
    simulator.settle()
    assert (simulator.connections, simulator.frames_sent) == (1, sent)
    assert simulator._engine.behaviour == engine_behaviour
    with RawClient(simulator.port) as other:
        other.upgrade()
        assert other.ping() == []


@pytest.mark.parametrize("name", methods_of(Faults))
def test_a_wrong_type_is_told_to_whoever_is_too_late_too(name: str) -> None:
    with Simulator() as simulator:
        pass
    method = getattr(simulator.faults, name)
    parameter = list(inspect.signature(method).parameters)[-1]
    needed = {n: SOUND[n] for n, p in inspect.signature(method).parameters.items() if p.default is p.empty}
    assert_is_of_type(error_of(partial(method, **{**needed, parameter: object()})), parameter)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s: s.faults.send_text("x", connection=1.5), "connection must be a whole number (of 64 bits) or null"),
        (lambda s: s.faults.split(1.5), "size must be a whole number (of 64 bits)"),
        (lambda s: s.faults.fragment(2.5), "size must be a whole number (of 64 bits)"),
        (lambda s: s.faults.repeat_sequence(0.5), "count must be a whole number (of 64 bits)"),
        (lambda s: s.faults.close(1000.5), "code must be a whole number (of 64 bits)"),
        (lambda s: s.faults.delay("1"), "seconds must be a number (of 64 bits)"),
        (lambda s: s.faults.drop(reset=1), "reset must be true or false"),
        (lambda s: s.faults.error(b"no"), "message must be text"),
        (lambda s: s.faults.send_bytes("8100"), "raw must be bytes"),
        (lambda s: s.faults.repeat_sequence(types="book"), "types must be a list of text or null"),
        (lambda s: s.faults.lose(0.1, symbol_ids=BTC), "symbol_ids must be a list of text or null"),
        (
            lambda s: s.faults.refuse_upgrades(headers=["a"]),
            "headers must be an object (text: text) or null",
        ),
        (lambda s: s.halt_trading(BTC), "symbol_ids must be a list of text"),
        (lambda s: s.resume_trading(BTC), "symbol_ids must be a list of text"),
        (lambda s: s.move_price("BTC", 1e308), "percent must be a number (of 64 bits)"),
        (lambda s: s.move_price("BTC", 10**400), "percent must be a number (of 64 bits)"),
        (lambda s: s.announce_reconnect(1.5), "within_seconds must be a whole number (of 64 bits)"),
        (lambda s: s.announce_reconnect(1, successor=Simulator), "successor must be a Simulator or null"),
    ],
)
def test_the_error_says_what_it_must_be(
    served: tuple[Simulator, RawClient], call: Callable[[Simulator], object], text: str
) -> None:
    simulator, raw = served
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        call(simulator)
    assert raw.ping() == []


@pytest.mark.parametrize(
    "symbol_ids", [[BTC], (BTC,), {BTC}, frozenset([BTC]), {BTC: 1}.keys(), iter([BTC]), (name for name in [BTC])]
)
def test_any_iterable_of_names_will_do(clock: VirtualClock, symbol_ids: Iterable[str]) -> None:
    with Simulator(seed=1, clock=clock) as simulator, RawClient(simulator.port) as raw:
        raw.upgrade().hello("trade", "quote", subscribe_filter_symbol_id=[BTC + "$"])
        simulator.settle()
        simulator.halt_trading(symbol_ids)
        clock.advance(5)
        assert raw.ping() == []


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [((1,), {}), ((), {"reste": True}), ((), {"self": 1})],
)
def test_arguments_that_a_method_does_not_have_are_type_errors_as_ever(
    served: tuple[Simulator, RawClient], arguments: tuple[Any, ...], fields: dict[str, Any]
) -> None:
    simulator, raw = served
    with pytest.raises(TypeError):
        simulator.faults.drop(*arguments, **fields)
    assert raw.ping() == []


# Options.

OPTIONS = list(inspect.signature(Simulator).parameters)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_a_wrong_type_is_named(name: str) -> None:
    wrong = {
        "recording": [b"frames.jsonl", 1, ["frames.jsonl"]],
        "api_keys": ["a key", b"a key", [1], {"a key": "trade"}, {"a key": [1]}, {"a key": 1}],
        "upgrade_limit": [10, [10], (10, 10.0, 1), ("10", 10), (1.5, 10), {10: 10}],
        "clock": ["now", VirtualClock, 0],
        "timeline": ["drop", {"at": 0, "do": "drop"}, 1],
        "ssl_context": [True, ssl.SSLContext, "context"],
    }
    wrong["hello_limit"] = wrong["rest_limit"] = wrong["upgrade_limit"]
    hint = get_type_hints(Simulator.__init__)[name]
    values = [object(), object, *wrong[name]] if name in wrong else wrong_for(hint)
    for value in values:
        with pytest.raises(TypeError) as refused:
            Simulator(**{name: value})
        assert type(refused.value) is TypeError
        assert str(refused.value).startswith(f"{name} must be ")
        assert "a key" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        *(
            ({name: value}, "above 0")
            for name, value in (
                *(("speed", 0), ("speed", -1.0), ("ping_interval", 0), ("pong_timeout", -1), ("heartbeat_interval", 0)),
            )
        ),
        ({"buffer_limit": 0}, "^buffer_limit must be 1 or more$"),
        ({"connection_limit": 0}, "^connection_limit must be 1 or more$"),
        ({"loop": True}, "^loop is for a recording$"),
        ({"activity": 0}, "between 0.001 and 1000"),
        ({"activity": 1000.5}, "between 0.001 and 1000"),
        ({"activity": float("nan")}, "between 0.001 and 1000"),
        ({"port": 65_536}, "port must be between 0 and 65535"),
        ({"key_check": "never"}, 'key_check must be "hello" or "upgrade"'),
        ({"tls": True, "ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "leave ssl_context out"),
        ({"upgrade_limit": (0, 1)}, "^upgrade_limit is a number of 1 or more"),
        ({"hello_limit": [1, 0]}, "^hello_limit is a number of 1 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Simulator(**options)


def test_what_was_refused_has_opened_no_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for options in ({"seed": "1"}, {"loop": True}, {"timeline": [5]}):
        with pytest.raises((TypeError, ValueError)):
            Simulator(port=port, **options)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
