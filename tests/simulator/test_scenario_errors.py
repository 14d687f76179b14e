"""A wrong scenario says which file, which place in it, and what may stand there; before anything is started."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coinapi_ws import ConfigurationError
from coinapi_ws.simulator import Faults, ScenarioError, Simulator

Write = Callable[[Any], Path]

FIELDS = "scenario, description, start_time, simulator, timeline"
SHAPE = 'a scenario is an object with "scenario": 1'


def at_0(do: object, **fields: object) -> dict[str, Any]:
    return {"scenario": 1, "timeline": [{"at": 0, "do": do, **fields}]}


def option(**options: object) -> dict[str, Any]:
    return {"scenario": 1, "simulator": options}


def entry(**fields: object) -> dict[str, Any]:
    return {"scenario": 1, "timeline": [{"at": 0, "do": "drop"}, fields]}


def error_of(path: Path, **options: Any) -> str:
    """What the error says after the name of the file."""
    with pytest.raises(ScenarioError) as refused:
        Simulator.from_scenario(path, **options)
    text = str(refused.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 1000
    return text.removeprefix(f"{path}: ")


def deep(levels: int) -> bytes:
    return b'{"scenario": 1, "simulator": {"seed": ' + b"[" * levels + b"]" * levels + b"}}"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "this is no JSON: Expecting value: line 1 column 1"),
        (b"scenario = 1", "this is no JSON: Expecting value: line 1 column 1"),
        (b'{"scenario": 1', "this is no JSON: Expecting ',' delimiter: line 1 column 15"),
        (b'{"scenario": 1,}', "this is no JSON: "),
        (b'{"scenario": 1} {}', "this is no JSON: Extra data: line 1 column 17"),
        (b'{"scenario": "\xff"}', "this is no JSON: 'utf-8' codec can't decode byte 0xff"),
        (b"\xff\xfe{", "this is no JSON: "),
        (b'{"scenario": NaN}', "NaN is no JSON"),
        (b'{"scenario": 1, "timeline": [{"at": Infinity}]}', "Infinity is no JSON"),
        (b'{"scenario": 1, "timeline": [{"at": -Infinity}]}', "-Infinity is no JSON"),
        (b'{"scenario": 1, "scenario": 1}', "one name stands twice in the same object"),
        (b'{"scenario": 1, "timeline": [{"at": 0, "do": "drop", "at": 1}]}', "one name stands twice"),
        (b'{"scenario": 1, "x": ' + b"9" * 5000 + b"}", "this is no JSON: "),
        (b"[" * 100_000, "this is nested too deeply"),
        (b'{"a":' * 100_000, "this is nested too deeply"),
    ],
)
def test_what_is_no_json_is_said_so(write: Write, content: bytes, text: str) -> None:
    if b"9999" in content and not hasattr(__import__("sys"), "set_int_max_str_digits"):
        pytest.skip("this Python reads numbers of any length")
    assert error_of(write(content)).startswith(text)


@pytest.mark.parametrize("levels", [10, 100, 500, *range(900, 1000, 7)])
def test_what_is_nested_deeply_is_no_problem_of_the_error_either(write: Write, levels: int) -> None:
    assert error_of(write(deep(levels))) in (
        "this is nested too deeply",
        '"seed" of "simulator" must be a whole number (of 64 bits)',
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([], SHAPE),
        (None, SHAPE),
        ("scenario", SHAPE),
        ({}, SHAPE),
        ({"scenario": 2}, '"scenario": 2 is another version of the format; this is 1'),
        ({"scenario": 0}, '"scenario": 0 is another version of the format; this is 1'),
        ({"scenario": "1"}, SHAPE),
        ({"scenario": True}, SHAPE),
        ({"scenario": None}, SHAPE),
        ({"scenario": 1, "events": []}, f"a scenario has no events; it has {FIELDS}"),
        ({"scenario": 1, "simulator": []}, '"simulator" is an object of options'),
        ({"scenario": 1, "simulator": None}, '"simulator" is an object of options'),
        ({"scenario": 1, "timeline": {}}, '"timeline" is a list of objects'),
        ({"scenario": 1, "timeline": None}, '"timeline" is a list of objects'),
        ({"scenario": 1, "timeline": [5]}, 'timeline[0]: an entry is an object with "at" and "do"'),
        ({"scenario": 1, "start_time": 5}, '"start_time" is a time such as "2026-01-01T00:00:00Z"'),
        ({"scenario": 1, "start_time": None}, '"start_time" is a time such as "2026-01-01T00:00:00Z"'),
        ({"scenario": 1, "start_time": "2026-02-30"}, '"start_time" is a time such as "2026-01-01T00:00:00Z"'),
        ({"scenario": 1, "start_time": "today"}, '"start_time" is a time such as "2026-01-01T00:00:00Z"'),
    ],
)
def test_the_shape_of_a_scenario_is_said(write: Write, content: object, text: str) -> None:
    assert error_of(write(content)) == text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sed": 1}, '"simulator" has no sed (did you mean seed?); it has host, port, seed, recording, '),
        ({"seed": "x"}, '"seed" of "simulator" must be a whole number (of 64 bits)'),
        ({"seed": 1.5}, '"seed" of "simulator" must be a whole number (of 64 bits)'),
        ({"seed": True}, '"seed" of "simulator" must be a whole number (of 64 bits)'),
        ({"seed": 10**30}, '"seed" of "simulator" must be a whole number (of 64 bits)'),
        ({"loop": 1}, '"loop" of "simulator" must be true or false'),
        ({"recording": 5}, '"recording" of "simulator" must be text or null'),
        ({"host": None}, '"host" of "simulator" must be text'),
        ({"speed": "fast"}, '"speed" of "simulator" must be a number (of 64 bits) or null'),
        ({"speed": -1}, "speed must be above 0"),
        ({"ping_interval": 1e308}, '"ping_interval" of "simulator" must be a number (of 64 bits)'),
        ({"ping_interval": -(10**400)}, '"ping_interval" of "simulator" must be a number (of 64 bits)'),
        ({"ping_interval": 0}, "ping_interval must be 0.001 seconds or more"),
        ({"hello_limit": 10}, '"hello_limit" of "simulator" must be [a whole number (of 64 bits), a number (of 64'),
        ({"hello_limit": [10]}, '"hello_limit" of "simulator" must be ['),
        ({"hello_limit": [10, 10, 10]}, '"hello_limit" of "simulator" must be ['),
        ({"hello_limit": [10, "10"]}, '"hello_limit" of "simulator" must be ['),
        ({"hello_limit": [0, 10]}, "hello_limit is a number of 1 or more, and the seconds"),
        ({"api_keys": "secret"}, '"api_keys" of "simulator" must be a list of text or an object (text: a list of text'),
        ({"api_keys": {"secret": "trade"}}, '"api_keys" of "simulator" must be a list of text or an object'),
        ({"api_keys": {"secret": ["trades"]}}, "1 data types of a key are unknown; there are book5"),
        ({"key_check": "never"}, 'key_check must be "hello" or "upgrade"'),
        ({"direct_source": "NYSE"}, "there is no exchange 'NYSE'; there are BITSTAMP"),
        ({"direct_source": "KRAKEN", "exchange_rates": True}, "exchange_rates and direct_source are two products"),
        ({"port": -1}, "port must be between 0 and 65535"),
        ({"port": 65_536}, "port must be between 0 and 65535"),
        ({"buffer_limit": 0}, "buffer_limit must be 1 or more"),
        ({"connection_limit": -1}, "connection_limit must be 1 or more"),
        ({"loop": True}, "loop is for a recording"),
        ({"activity": "high"}, '"activity" of "simulator" must be a number (of 64 bits)'),
        ({"activity": 0}, "factor must be between 0.001 and 1000"),
        ({"market_start_ns": 0}, "market_start_ns must be at most an hour ago"),
        ({"xyz": 1, "sed": 1}, '"simulator" has no xyz, sed; it has host, '),
    ],
)
def test_a_wrong_option_is_named_with_what_it_may_be(write: Write, options: dict[str, Any], text: str) -> None:
    error = error_of(write(option(**options)))
    assert error.startswith(text)
    # A mistyped list of keys shows none.
    assert "secret" not in error


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"do": "drop"}, '"at" is a number of seconds after the first connection'),
        ({"at": -1, "do": "drop"}, '"at" is a number of seconds'),
        ({"at": "1", "do": "drop"}, '"at" is a number of seconds'),
        ({"at": True, "do": "drop"}, '"at" is a number of seconds'),
        ({"at": 1e308, "do": "drop"}, '"at" is a number of seconds'),
        ({"at": 10**400, "do": "drop"}, '"at" is a number of seconds'),
        ({"at": 1, "every": 0, "do": "drop"}, '"every" is a number of seconds, 0.001 or more'),
        ({"at": 1, "every": 1e308, "do": "drop"}, '"every" is a number of seconds, 0.001 or more'),
        ({"at": 1, "every": [], "do": "drop"}, '"every" is a number of seconds, 0.001 or more'),
        ({"at": 1, "times": 2, "do": "drop"}, '"times" is a whole number of 1 or more, and goes with "every"'),
        ({"at": 1, "every": 1, "times": 0, "do": "drop"}, '"times" is a whole number of 1 or more'),
        ({"at": 1, "every": 1, "times": 1.5, "do": "drop"}, '"times" is a whole number of 1 or more'),
        ({"at": 1}, '"do" cannot be None; there are certificate, clear, close, '),
        ({"at": 1, "do": "explode"}, "\"do\" cannot be 'explode'; there are certificate, clear, close, "),
        ({"at": 1, "do": ["drop"]}, "\"do\" cannot be ['drop']; there are certificate, clear, close, "),
        ({"at": 1, "do": "drp"}, "\"do\" cannot be 'drp' (did you mean drop?); there are certificate, clear, close, "),
        ({"at": 1, "do": "halt"}, "\"do\" cannot be 'halt'; there are certificate, clear, close, "),
        # Neither what is not public nor what would end it.
        ({"at": 1, "do": "_once"}, "\"do\" cannot be '_once'; there are certificate, clear, close, "),
        ({"at": 1, "do": "start"}, "\"do\" cannot be 'start'; there are certificate, clear, close, "),
        ({"at": 1, "do": "settle"}, "\"do\" cannot be 'settle'; there are certificate, clear, close, "),
        ({"at": 1, "do": "drop", "rest": True}, "drop has no rest (did you mean reset?); it has reset, connection"),
        ({"at": 1, "do": "drop", "self": 1}, "drop has no self; it has reset, connection"),
        ({"at": 1, "do": "clear", "all": 1}, "clear has no all; it has nothing"),
        (
            {"at": 1, "do": "announce_reconnect", "successor": None},
            "announce_reconnect has no successor; it has within",
        ),
        ({"at": 1, "do": "lose"}, "lose needs rate"),
        ({"at": 1, "do": "move_price"}, "move_price needs asset_id, percent"),
        ({"at": 1, "do": "drop", "reset": 1}, '"reset" of drop must be true or false'),
        (
            {"at": 1, "do": "drop", "connection": "1"},
            '"connection" of drop must be a whole number (of 64 bits) or null',
        ),
        ({"at": 1, "do": "lose", "rate": "0.5"}, '"rate" of lose must be a number (of 64 bits)'),
        ({"at": 1, "do": "delay", "seconds": 10**400}, '"seconds" of delay must be a number (of 64 bits)'),
        ({"at": 1, "do": "skip_sequence", "types": "book"}, '"types" of skip_sequence must be a list of text or null'),
        ({"at": 1, "do": "skip_sequence", "types": [1]}, '"types" of skip_sequence must be a list of text or null'),
        ({"at": 1, "do": "send_bytes", "raw": "8g"}, '"raw" of send_bytes must be text of hexadecimal digits'),
        ({"at": 1, "do": "send_bytes", "raw": 81}, '"raw" of send_bytes must be text of hexadecimal digits'),
        (
            {"at": 1, "do": "refuse_upgrades", "headers": ["a"]},
            '"headers" of refuse_upgrades must be an object (text: text)',
        ),
        # Values that are right by their kind are looked at too.
        ({"at": 1, "do": "lose", "rate": 1.5}, "rate must be between 0 and 1"),
        ({"at": 1, "do": "skip_sequence", "types": ["books"]}, "unknown types: books; there are book5"),
        ({"at": 1, "do": "skip_sequence", "symbol_ids": ["X"]}, "unknown symbol_ids: X; there are BITSTAMP_SPOT_BTC"),
        ({"at": 1, "do": "refuse_upgrades", "headers": {"a": "b\n"}}, "headers are printable ASCII, each on one line"),
        (
            {"at": 1, "do": "redirect_upgrades", "location": "/", "status": 200},
            "the status of a redirect is 300 to 399",
        ),
        ({"at": 1, "do": "close", "code": 1005}, "1005 is no code of a Close frame"),
        ({"at": 1, "do": "delay", "seconds": -1}, "seconds must be 0 or more"),
        ({"at": 1, "do": "oversized_frame", "size": 2**62}, "size must be 4294967296 bytes at most"),
        ({"at": 1, "do": "oversized_message", "frame_size": 1}, "size must be 100000 times frame_size at most"),
        ({"at": 1, "do": "refuse_upgrades", "body_size": 2**62}, "body_size must be 4294967296 bytes at most"),
        ({"at": 1, "do": "close", "reason": "\ud800"}, "reason must be printable text of at most 123 bytes"),
        ({"at": 1, "do": "move_price", "asset_id": "XBT", "percent": 1}, "there is no asset 'XBT'; there are BTC, "),
        ({"at": 1, "do": "move_price", "asset_id": "BTC", "percent": 1e18}, "percent must be above -100, and 10000 at"),
        ({"at": 1, "do": "halt_trading", "symbol_ids": ["BTC"]}, "unknown symbols: BTC; there are BITSTAMP_SPOT_BTC"),
        ({"at": 1, "do": "set_activity", "factor": 0}, "factor must be between 0.001 and 1000"),
        (
            {"at": 1, "do": "announce_reconnect", "within_seconds": 10**17},
            "within_seconds must be 0 or more, and 86400",
        ),
        ({"at": 1, "do": "certificate", "kind": "expired"}, "certificates are for a simulator with tls=True"),
        ({"at": 1, "do": "certificate", "kind": "x"}, "there is no certificate 'x'; there are "),
    ],
)
def test_a_wrong_entry_is_named_with_what_may_stand_there(write: Write, fields: dict[str, Any], text: str) -> None:
    assert error_of(write(entry(**fields))).startswith(f"timeline[1]: {text}")


def test_long_and_deep_values_do_not_fill_the_screen(write: Write) -> None:
    name: Any = "x" * 1_000_000
    for _ in range(300):
        name = [name]
    assert '"do" cannot be [[[[[[[...]]]]]]]; there are ' in error_of(write(at_0(name)))
    assert "xx...xx" in error_of(write(at_0("x" * 1_000_000)))


def test_an_option_beside_the_file_that_contradicts_it_names_the_file_too(write: Write) -> None:
    path = write({"scenario": 1, "start_time": "2026-01-01", "simulator": {"tls": False}})
    assert error_of(path, market_start_ns=1) == (
        "the market begins at market_start_ns, or at start_time_ns with the first connection"
    )


def test_a_scenario_error_is_one_of_configuration_and_has_no_long_story(write: Write) -> None:
    assert issubclass(ScenarioError, ConfigurationError)
    with pytest.raises(ScenarioError) as refused:
        Simulator.from_scenario(write(b"{"))
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("timeline", [[5], ["drop"], [None], [{1: 2}], [{"at": 0, "do": "drop", 5: 5}]])
def test_a_wrong_time_line_of_an_option_is_a_scenario_error_too(timeline: Any) -> None:
    with pytest.raises(ScenarioError, match=re.escape("timeline[0]: ")):
        Simulator(timeline=timeline)


# Anything at all.

ACTIONS = [name for name in dir(Faults) if not name.startswith("_")]
ACTIONS += ["announce_reconnect", "move_price", "halt_trading", "resume_trading", "set_activity"]
PARAMETERS = [
    *("count", "types", "symbol_ids", "connection", "rate", "seconds", "size", "interval", "status", "body", "code"),
    *("body_size", "headers", "location", "kind", "raw", "text", "name", "message", "reason", "asset_id", "percent"),
    *("factor", "within_seconds", "frame_size", "reset", "heartbeats", "keep_sending", "close"),
]
OPTION_NAMES = [
    *("host", "port", "seed", "recording", "speed", "loop", "direct_source", "exchange_rates", "api_keys"),
    *("key_check", "upgrade_limit", "hello_limit", "connection_limit", "buffer_limit", "ping_interval"),
    *("pong_timeout", "heartbeat_interval", "market_start_ns", "clock", "timeline"),
]
NUMBERS = st.sampled_from([0, 1, -1, 2, 0.5, 1e-300, 1e18, 1e308, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**400])
TEXTS = st.text(max_size=5) | st.sampled_from(
    ["BTC", "COINBASE", "COINBASE_SPOT_BTC_USD", "book", "valid", "upgrade", "8100", "\ud800", "a\r\nb", "2026-01-01"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=5
)
ENTRIES = st.fixed_dictionaries(
    {"at": VALUES | st.just(0), "do": VALUES | st.sampled_from(ACTIONS)},
    optional=dict.fromkeys(("every", "times", "note", *PARAMETERS), VALUES),
) | st.tuples(st.sampled_from(ACTIONS), st.dictionaries(st.sampled_from(PARAMETERS), VALUES, max_size=3)).map(
    lambda pair: {**pair[1], "at": 0, "do": pair[0]}
)
SCENARIOS = VALUES | st.fixed_dictionaries(
    {"scenario": st.just(1) | VALUES},
    optional={
        "start_time": VALUES,
        "description": VALUES,
        "simulator": VALUES | st.dictionaries(st.sampled_from(OPTION_NAMES), VALUES, max_size=3),
        "timeline": VALUES | st.lists(ENTRIES, max_size=3),
        "more": VALUES,
    },
)


@settings(max_examples=300)
@given(content=SCENARIOS)
@example(content=at_0("oversized_frame", size=2**62))
@example(content=at_0("oversized_message", size=2**62, frame_size=2**61))
@example(content=at_0("oversized_message", size=2**30, frame_size=1))
@example(content=at_0("refuse_upgrades", body_size=2**62))
@example(content=at_0("close", reason="\ud800"))
@example(content=at_0("redirect_upgrades", location="\ud800"))
@example(content=at_0("refuse_upgrades", headers={"": "\ud800"}))
@example(content=option(api_keys=["\ud800"]))
@example(content=option(api_keys={"\ud800": None}))
def test_any_json_makes_a_simulator_or_a_scenario_error(content: Any, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    said = f"{path}: "
    try:
        assert repr(Simulator.from_scenario(path)) == "<Simulator not started>"
    except ScenarioError as error:
        said = str(error)
    assert said.startswith(f"{path}: ")


@settings(max_examples=200)
@given(content=st.binary(max_size=40))
@example(content=b"\xef\xbb\xbf")
@example(content=b'{"scenario": 1}'.decode().encode("utf-16")[:-1])
@example(content=b"1e400")
@example(content=b"\x00")
def test_any_bytes_make_a_scenario_error(content: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any_bytes.json"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match=re.escape(f"{path}: ")):
        Simulator.from_scenario(path)
