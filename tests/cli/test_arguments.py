from __future__ import annotations

from pathlib import Path

import pytest

from coinapi_ws import ConfigurationError, Options, Scope, Subscription, __version__, endpoint_from
from coinapi_ws.cli.arguments import as_options, parsers


@pytest.mark.parametrize("command", ["stream", "demo", "book", "candles", "relay", "simulate", None])
def test_help_of_each_command(run, command: str | None) -> None:
    result = run(*[command] * (command is not None), "--help")
    assert result.code == 0
    assert result.out.startswith(f"usage: coinapi-ws {command or '[-h]'}")
    assert not result.err


def test_help_says_what_a_user_cannot_guess(run) -> None:
    text = run("stream", "--help").out
    for fact in ("COINAPI_API_KEY", "130 Ctrl-C", "Heartbeats are in raw", "--count does not count them", "book_l3"):
        assert fact in text
    text = run("book", "--help").out
    for fact in ("COINAPI_API_KEY", "130 Ctrl-C", "EMPTY before its first snapshot", "NO_COLOR", "reconnects"):
        assert fact in text
    text = run("candles", "--help").out
    for fact in ("COINAPI_API_KEY", "130 Ctrl-C", "5 seconds after its end", '"corrected"', "default: 1MIN"):
        assert fact in text
    assert "Ctrl-C (exit code 130) or SIGTERM (143" in run("simulate", "--help").out
    assert "COINAPI_API_KEY" in run("--help").out


def test_version(run) -> None:
    assert run("--version") == (0, f"coinapi-ws {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("", "required"),
        ("nonsense", "invalid choice"),
        ("stream", "TYPE"),
        ("stream trade --simulate --everything --count 0", "'0' is not a positive whole number"),
        ("stream trade --simulate --everything --count 1.5", "'1.5' is not a positive whole number"),
        ("stream trade --simulate --everything --duration -1", "'-1' is not a positive number of seconds"),
        ("stream trade --simulate --everything --duration inf", "'inf' is not a positive number of seconds"),
        ("stream trade --recording x --everything --speed fast", "'fast' is not a positive factor"),
        ("stream trade --simulate --everything --speed 2", "add --recording FILE"),
        ("stream trade --simulate --recording x", "not allowed with"),
        ("stream trade --simulate --endpoint geo", "not allowed with"),
        ("stream trade --sim --everything", "unrecognized arguments: --sim"),
        ("stream trade --simulate", "no filter means everything, billed by volume; add --symbol ID, or --everything"),
        ("stream book --simulate", "book needs a filter; add --symbol ID"),
        ("stream exrate --simulate", "exrate needs an asset filter; add --asset BTC/USD"),
        ("stream trade --simulate --symbol $", "--symbol has '$' in it"),
        ("stream trade --simulate --symbol A_ --everything", "--everything and a filter contradict"),
        ("stream trade --simulate --symbol A_ --period 1MIN", "--period narrows ohlcv alone"),
        ("stream trade --symbol A_ --endpoint mars", "unknown endpoint; write geo, ncsa"),
        ("stream trade --symbol A_ --endpoint ws://u:p@h/", "set COINAPI_API_KEY instead"),
        ("stream trade --symbol A_ --endpoint ws://h/?apikey=1", "set COINAPI_API_KEY instead"),
        ("stream trade --everything --recording no/such.jsonl", "cannot read no/such.jsonl: No such file"),
        ("stream trade --everything --simulate --record no/such.jsonl", "cannot write no/such.jsonl: No such file"),
        (f"stream trade --everything --simulate --record {'x' * 300}", "File name too long"),
        ("book", "SYMBOL"),
        ("book A_B C_D --simulate", "unrecognized arguments: C_D"),
        ("book A_ --simulate", "'A_' is no symbol id; write a whole one, such as COINBASE_SPOT_BTC_USD"),
        ("book $ --simulate", "'$' is no symbol id"),
        ("book A$B --simulate", "'A$B' is no symbol id"),
        ("book A_B --simulate --depth 0", "'0' is not a positive whole number"),
        ("book A_B --simulate --type book_l3", "invalid choice: 'book_l3'"),
        ("book A_B --simulate --count 0", "'0' is not a positive whole number"),
        ("book A_B --simulate --endpoint geo", "not allowed with"),
        ("book A_B --simulate --speed 2", "add --recording FILE"),
        ("book A_B --endpoint mars", "unknown endpoint; write geo, ncsa"),
        ("book A_B --recording no/such.jsonl", "cannot read no/such.jsonl: No such file"),
        ("book A_B --endpoint ws://localhost/ --ca-file no/such.pem", "cannot read no/such.pem: No such file"),
        ("candles", "SYMBOL"),
        ("candles A_B C_ --simulate", "'C_' is no symbol id"),
        ("candles A_B --simulate --format raw", "invalid choice: 'raw'"),
        ("candles A_B --simulate --duration 0", "'0' is not a positive number of seconds"),
        ("candles A_B --simulate --speed 2", "add --recording FILE"),
        ("demo --simulate", "unrecognized arguments"),
        ("simulate --port 65536", "'65536' is no port"),
        ("simulate --port x", "'x' is no port"),
        ("simulate --speed 0", "'0' is not a positive factor"),
        ("simulate --recording no/such.jsonl", "cannot read no/such.jsonl"),
    ],
)
def test_wrong_usage(run, arguments: str, complaint: str) -> None:
    code, out, err = run(*arguments.split())
    assert code == 2
    assert not out
    assert err.startswith("usage: coinapi-ws")
    assert complaint in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["stream trade --symbol A_", "book A_B", "candles A_B"])
def test_a_vendor_endpoint_needs_a_key(run, command: str) -> None:
    result = run(*command.split())
    assert result.code == 2
    for help_offered in ("COINAPI_API_KEY", "--simulate", "coinapi-ws demo"):
        assert help_offered in result.err.partition("error:")[2]


def test_a_key_that_cannot_be_one_is_not_repeated(run, monkeypatch, canary_key: str) -> None:
    monkeypatch.setenv("COINAPI_API_KEY", f"{canary_key}\n")
    result = run("stream", "trade", "--symbol", "A_")
    assert result.code == 2
    assert "the API key must be" in result.err


@pytest.mark.parametrize("option", ["--api-key", "--apikey", "--key", "--api_key="])
def test_a_key_as_an_argument_is_told_where_it_belongs_and_not_repeated(run, option: str, canary_key: str) -> None:
    given = [f"{option}{canary_key}"] if option.endswith("=") else [option, canary_key]
    result = run("stream", "trade", "--symbol", "A_", *given)
    assert result.code == 2
    assert "set the environment variable COINAPI_API_KEY" in result.err
    assert canary_key not in result.err


def test_a_key_does_not_cross_the_network_in_plaintext(run, monkeypatch, canary_key: str) -> None:
    monkeypatch.setenv("COINAPI_API_KEY", canary_key)
    result = run("stream", "trade", "--symbol", "A_", "--endpoint", "ws://example.com/")
    assert result.code == 2
    assert "unencrypted; use wss://\n" in result.err


def test_an_unsound_recording_is_wrong_usage(run, tmp_path: Path) -> None:
    path = tmp_path / "unsound.jsonl"
    path.write_text("nonsense\n")
    result = run("stream", "trade", "--everything", "--recording", path)
    assert result.code == 2
    assert "unsound.jsonl, line 1: not JSON" in result.err


def test_options_may_come_before_and_after_the_types() -> None:
    parser, _ = parsers()
    for text in ("stream --symbol A_ trade quote", "stream trade quote --symbol A_"):
        arguments = parser.parse_args(text.split())
        assert (arguments.types, arguments.symbol) == (["trade", "quote"], ["A_"])


def test_a_symbol_may_have_its_dollar() -> None:
    parser, _ = parsers()
    assert parser.parse_args(["book", "A_B$"]).symbol == "A_B"
    candles = parser.parse_args(["candles", "A_B", "C_D$", "--period", "1SEC", "--period", "1MIN"])
    assert (candles.symbols, candles.period) == (["A_B", "C_D"], ["1SEC", "1MIN"])


@pytest.mark.parametrize(
    ("endpoint", "subscription"),
    [
        ("exrates", lambda: Subscription(["trade"], asset_ids=["BTC"])),
        ("geo", lambda: Subscription((), asset_ids=["BTC"])),
        ("geo", lambda: Subscription([], symbol_ids=[])),
        ("geo", lambda: Subscription(["exrate"])),
        ("geo", lambda: Subscription(["book"])),
        ("geo", lambda: Subscription(["trade"])),
        ("geo", lambda: Subscription(["trade"], period_ids=["1SEC"], exchange_ids=["A"])),
        ("geo", lambda: Subscription(["trade"], asset_ids=[" "])),
    ],
)
def test_advice_names_options_and_no_python(endpoint: str, subscription) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Scope(subscription()).check_endpoint(endpoint_from(endpoint))
    advice = as_options(str(caught.value))
    if "needs data types" not in advice:  # which argparse says before
        assert not any(python in advice for python in ("Subscription(", "_ids", "=[", "=True"))


def test_advice_on_the_key_names_the_environment(canary_key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Options(endpoint=endpoint_from("geo"))
    assert "COINAPI_API_KEY" in as_options(str(caught.value))
