"""The lists of exchanges, assets and symbols on the command line."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from coinapi_ws import Asset, Symbol
from coinapi_ws.cli import listing
from coinapi_ws.simulator import Simulator


def test_text(run: Any) -> None:
    code, out, err = run("symbols", "--simulate", "--exchange", "KRAKEN", "--asset", "BTC", "--asset", "ADA")
    assert (code, err) == (0, "coinapi-ws: 2 found\n")
    bitcoin, ada = out.splitlines()
    assert bitcoin.split() == ["KRAKEN_SPOT_BTC_USD", "SPOT", "BTC", "USD", "-", "84523.6"]
    assert ada.split()[-1] == "0.501700"  # the digits of the wire


def test_exchanges_and_assets(run: Any) -> None:
    assert run("exchanges", "--simulate", "--exchange", "COINBASE").out.split() == [
        *("COINBASE", "3", "-", "https://pro.coinbase.com/", "Coinbase", "Pro", "(GDAX)")
    ]
    assert run("assets", "--simulate", "--asset", "USD").out.split() == ["USD", "8", "-", "1.000000", "US", "Dollar"]


def test_json_is_the_server_s_own(run: Any) -> None:
    result = run("symbols", "--simulate", "--symbol", "_SPOT_BTC_", "--format", "json")
    assert [json.loads(line)["exchange_id"] for line in result.lines] == ["BITSTAMP", "COINBASE", "KRAKEN"]
    assert '"price_precision":0.01,' in result.lines[0]


def test_nothing_found(run: Any) -> None:
    assert run("assets", "--simulate", "--asset", "btc") == (0, "", f"coinapi-ws: {listing._NOTHING_FOUND}\n")


def test_as_a_process_over_tls_with_a_key(start: Any, canary_key: str, tmp_path: Any) -> None:
    with Simulator(tls=True, api_keys=[canary_key]) as server:
        (tmp_path / "ca.pem").write_bytes(server.ca_pem)
        there = ("--endpoint", server.rest_url, "--ca-file", tmp_path / "ca.pem")
        code, out, err = start("symbols", *there, key=canary_key).result()
        assert (code, len(out.splitlines()), err) == (0, 10, "coinapi-ws: 10 found\n")
        code, out, err = start("symbols", *there, key=f"{canary_key}x").result()
    assert (code, out) == (1, "")
    assert "error: the REST API answered with HTTP status 401; the server said: 'Invalid API key'" in err
    assert "check COINAPI_API_KEY" in err


def test_a_reader_who_has_seen_enough(start: Any) -> None:
    command = start("assets", "--simulate", stdout=subprocess.PIPE)
    command.process.stdout.close()
    assert command.process.wait(30) == 0
    assert "Traceback" not in command.process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["symbols"], 2, "rest.coinapi.io needs an API key: set the environment variable COINAPI_API_KEY"),
        (["symbols", "--endpoint", "geo"], 2, "must begin with https:// or http://"),
        (["symbols", "--endpoint", "http://127.0.0.1:1"], 1, "Connection refused; check the network and --endpoint"),
        (["symbols", "--simulate", "--asset", "A,B"], 2, "--asset takes ids that are not empty"),
        (["assets", "--simulate", "--exchange", "KRAKEN"], 2, "unrecognized arguments: --exchange KRAKEN"),
        (["assets", "--simulate", "--ca-file", "no/such/file"], 2, "cannot read no/such/file"),
        (["assets", "--simulate", "--timeout", "0"], 2, "not a positive number of seconds"),
    ],
)
def test_what_is_wrong(run: Any, arguments: list[str], code: int, text: str) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (code, "")
    assert text in result.err


def test_what_cannot_be_read_is_noted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def body(*_: object) -> str:
        return '{"asset_id":"A\\u0007","name":null},{"name":5'

    monkeypatch.setattr("coinapi_ws.simulator.encoding.asset_body", body)
    code, out, err = run("assets", "--simulate", "--asset", "USD")
    assert (code, out.split()) == (0, ["A\\x07", *"----"])
    assert err == "coinapi-ws: one could not be read: name: not a text (length 10)\ncoinapi-ws: 1 found\n"


def test_every_column_is_a_field() -> None:
    for columns in listing._COLUMNS.values():
        for _, _, field in columns:
            assert any(field in kind.kinds for kind in (Asset, Symbol)) or field in ("exchange_id", "website")
