"""`simulate --scenario`, `--tls` and `--ca-file`: a server for other programs that does what a file says."""

from __future__ import annotations

import builtins
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

COINBASE = ("trade", "book", "--symbol", "COINBASE_SPOT_BTC_USD$", "--format", "json")


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """A market of 2026-01-01 that loses a delta early, and is cut off."""
    path = tmp_path / "cut.json"
    timeline = [
        {"at": 0, "do": "set_activity", "factor": 50},
        {"at": 1, "do": "skip_sequence", "types": ["book"]},  # a program may take a moment to ask for it
        {"at": 1.5, "do": "drop", "reset": True},
    ]
    fields = {"scenario": 1, "start_time": "2026-01-01T00:00:00Z", "simulator": {"seed": 5}, "timeline": timeline}
    path.write_text(json.dumps(fields))
    return path


def test_a_scenario_runs_for_any_program(start, scenario: Path) -> None:
    server = start("simulate", "--scenario", scenario)
    url = server.line().strip()
    code, out, err = start("stream", *COINBASE, "--endpoint", url).result()
    server.interrupt()
    assert server.result().code == 130
    assert code == 1
    messages = [json.loads(line) for line in out.splitlines()]
    assert messages[0]["time_coinapi"].startswith("2026-01-01T00:00:0")
    sequences = [m["sequence"] for m in messages if m["type"] == "book"]
    assert len(set(range(1, sequences[-1] + 1)) - set(sequences)) == 1
    assert "Connection reset by peer" in err
    assert "1 gaps" in err


def test_the_line_that_it_suggests_works_over_tls(start, scenario: Path, tmp_path: Path) -> None:
    fields = json.loads(scenario.read_text())
    del fields["timeline"][-1]  # a program that is slow to start must not meet the cut
    scenario.write_text(json.dumps(fields))
    server = start("simulate", "--scenario", scenario, "--tls", "--ca-file", tmp_path / "ca.pem")
    url = server.line().strip()
    assert url.startswith("wss://localhost:")
    suggested = shlex.split(server.line())
    assert suggested[-2:] == ["--ca-file", str(tmp_path / "ca.pem")]
    # Who does not trust the file refuses the server.
    code, _, err = start("stream", *COINBASE, "--endpoint", url).result()
    assert code == 1
    assert "the certificate of localhost is not valid" in err
    assert len(start(*suggested[1:], "--count", "2").result().out.splitlines()) == 2


def test_without_a_name_the_authority_is_in_a_file_that_goes_with_the_server(start) -> None:
    server = start("simulate", "--tls")
    server.line()
    suggested = shlex.split(server.line())
    authority = Path(suggested[-1])
    assert "BEGIN CERTIFICATE" in authority.read_text()
    assert start(*suggested[1:], "--count", "2").result().code == 0
    server.interrupt()
    assert server.result().code == 130
    assert not authority.exists()


def test_sigterm_ends_it_and_leaves_nothing_behind(start) -> None:
    server = start("simulate", "--tls")
    server.line()
    authority = Path(shlex.split(server.line())[-1])
    assert authority.exists()
    server.process.terminate()
    code, out, err = server.result()
    assert (code, out, err) == (143, "", "")
    assert not authority.parent.exists()


def test_options_beside_a_scenario_take_the_place_of_its_own(start, scenario: Path) -> None:
    fields = json.loads(scenario.read_text())
    # The market's first book, whenever the program asks for it.
    fields["timeline"] = [{"at": 0, "do": "halt_trading", "symbol_ids": ["COINBASE_SPOT_BTC_USD"]}]
    scenario.write_text(json.dumps(fields))
    firsts = []
    for options in ((), ("--seed", "5"), ("--seed", "6")):
        server = start("simulate", "--scenario", scenario, *options)
        out = start("stream", *COINBASE, "--count", "1", "--endpoint", server.line().strip()).result().out
        firsts.append(json.loads(out)["bids"])
    assert firsts[0] == firsts[1] != firsts[2]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("simulate --scenario no/such.json", "cannot read no/such.json: No such file"),
        ("simulate --scenario wrong.json", "wrong.json: timeline[0]: \"do\" cannot be 'explode'; there are "),
        ("simulate --scenario lost.json", "absent.jsonl: No such file"),
        ("simulate --speed 2", "--speed is the one of a recording"),
        ("simulate --ca-file ca.pem", "--ca-file goes with --tls"),
        ("simulate --tls --ca-file no/such/ca.pem", "cannot write no/such/ca.pem: No such file"),
        ("stream trade --everything --endpoint wss://127.0.0.1:1 --ca-file no.pem", "cannot read no.pem: No such file"),
        ("stream trade --everything --endpoint wss://127.0.0.1:1 --ca-file wrong.json", "has no certificate in PEM"),
    ],
)
def test_what_cannot_be_used_is_told(
    run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.json").write_text('{"scenario": 1, "timeline": [{"at": 0, "do": "explode"}]}')
    Path("lost.json").write_text('{"scenario": 1, "simulator": {"recording": "absent.jsonl"}}')
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert complaint in err


def test_without_the_extra_tls_says_what_to_install(run, monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def without_trustme(name: str, *more: Any) -> Any:
        if name == "trustme":
            raise ImportError(name)
        return import_module(name, *more)

    monkeypatch.setattr(builtins, "__import__", without_trustme)
    code, _, err = run("simulate", "--tls")
    assert code == 2
    assert 'pip install "coinapi-ws[tls]"' in err
