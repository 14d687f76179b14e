# ruff: noqa: RUF001
from __future__ import annotations

import gzip
import io
import json
import sys
from argparse import Namespace
from contextlib import redirect_stdout
from decimal import Decimal
from pathlib import Path

import pytest

from coinapi_ws import ConnectTimeout, Subscription, connect
from coinapi_ws.cli.arguments import parsers
from coinapi_ws.cli.printing import Printer
from coinapi_ws.cli.streaming import _print_all, subscriptions_of
from coinapi_ws.cli.summary import Tally
from coinapi_ws.recording import read_recording
from coinapi_ws.simulator import Simulator, VirtualClock

TRADE = (
    '{"time_coinapi":"2026-01-02T03:04:05.6789012Z","price":770.000000000,"size":1e-8,"novelty":[1.10],'
    '"symbol_id":"A_SPOT_B_C","sequence":%d,"type":"trade"}'
)
BOOK = '{"asks":[],"symbol_id":"A_SPOT_B_C","sequence":%d,"type":"book"}'
HEARTBEAT = '{"type":"hearbeat"}'
GARBAGE = '{"type":"trade","price":NaN}'
SPACED = '{\r\n  "price": 1.50,\n "type":"trade"}'


def replay(run, path: Path, *options: str):
    return run("stream", "trade", "book", "--symbol", "A_", "--recording", path, *options)


def test_text_is_in_columns_and_a_summary_follows(run, recording) -> None:
    result = replay(run, recording(TRADE % 1, BOOK % 1, BOOK % 4, HEARTBEAT, GARBAGE))
    assert result.code == 0
    # Of a replay no latency; when a gap was seen is not known.
    assert result.lines[0] == ("03:04:05.678 trade     A_SPOT_B_C                     -  -    770.0000000 × 0.00000001")
    assert [line.split()[1:3] for line in result.lines] == [
        ["trade", "A_SPOT_B_C"],
        ["book", "A_SPOT_B_C"],
        ["GAP", "A_SPOT_B_C"],
        ["book", "A_SPOT_B_C"],
        ["INVALID", "-"],
    ]
    assert result.err.splitlines()[1:] == [
        "coinapi-ws: book 2, trade 1",
        "coinapi-ws: 1 gaps, 1 undecodable, 0 surplus (book 1)",
    ]
    assert result.err.startswith("coinapi-ws: 3 messages in ")


def test_decimal_shortens_nothing(run, recording) -> None:
    line = replay(run, recording(TRADE % 1), "--decimal").lines[0]
    assert line.endswith(" 770.000000000 × 0.00000001")


def test_json_is_the_message_digit_for_digit_on_one_line(run, recording) -> None:
    result = replay(run, recording(TRADE % 1, SPACED, HEARTBEAT, GARBAGE, BOOK % 1, BOOK % 4), "--format", "json")
    assert result.lines == [TRADE % 1, SPACED.replace("\r", " ").replace("\n", " "), BOOK % 1, BOOK % 4]
    assert json.loads(result.lines[1], parse_float=str) == {"price": "1.50", "type": "trade"}
    notes = [line for line in result.err.splitlines() if "GAP" in line or "INVALID" in line]
    assert len(notes) == 2
    assert all(note.startswith("coinapi-ws: ") for note in notes)


def test_raw_is_every_frame(run, recording) -> None:
    result = replay(run, recording(TRADE % 1, SPACED, HEARTBEAT, GARBAGE, "nonsense"), "--format", "raw")
    assert result.lines == [TRADE % 1, SPACED.replace("\r\n", "  ").replace("\n", " "), HEARTBEAT, GARBAGE, "nonsense"]
    assert "INVALID" not in result.err
    assert "2 undecodable" in result.err


@pytest.mark.parametrize("form", ["text", "json", "raw"])
def test_count_counts_all_messages_but_heartbeats(run, recording, form: str) -> None:
    path = recording(HEARTBEAT, TRADE % 1, HEARTBEAT, GARBAGE, TRADE % 2, TRADE % 3)
    result = replay(run, path, "--count", "2", "--format", form)
    assert result.code == 0
    assert len(result.lines) == {"text": 3, "json": 2, "raw": 5}[form]
    assert "2 messages" in result.err


def test_duration_ends_the_stream(run) -> None:
    result = run("stream", "trade", "--everything", "--simulate", "--duration", "0.05")
    assert result.code == 0
    assert float(result.err.partition(" in ")[2].split()[0]) >= 0.05


def test_recorded_market_comes_out_as_it_went_in(run, shared: Path) -> None:
    path = shared / "recordings" / "coinbase_2021-04-17.jsonl.gz"
    result = run(*("stream", "trade", "quote", "book", "--symbol", "COINBASE_", "--recording", path, "--format", "raw"))
    with gzip.open(path, "rt", encoding="utf-8") as file:
        frames = [json.loads(line)["frame"] for line in file]
    assert result.code == 0
    assert len(frames) == 9943
    assert result.lines == frames
    assert "9,943 messages" in result.err


@pytest.mark.parametrize("name", ["market.jsonl", "market.jsonl.gz"])
def test_what_was_recorded_is_replayed(run, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    scope = ("stream", "symbol", "book", "--symbol", "COINBASE_", "--format", "raw")
    live = run(*scope, "--simulate", "--count", "10", "--record", path)
    again = run(*scope, "--recording", path)
    assert len(live.lines) == 10
    # What was read together with the last of them is there too.
    assert again.lines[:10] == live.lines
    assert [frame for _, frame in read_recording(path)] == again.lines
    assert run(*scope, "--simulate", "--record", path).code == 2  # a recording cannot be made again


def test_a_recording_holds_heartbeats_and_what_cannot_be_read(run, recording, tmp_path: Path) -> None:
    frames = [HEARTBEAT, TRADE % 1, GARBAGE, SPACED]
    replay(run, recording(*frames), "--record", str(tmp_path / "again.jsonl"), "--format", "text")
    again = list(read_recording(tmp_path / "again.jsonl"))
    assert [frame for _, frame in again] == frames
    assert all(received_ns > 0 for received_ns, _ in again)


def test_a_stream_that_never_began_leaves_no_recording(run, tmp_path: Path) -> None:
    """So that the same command can be given again."""
    with Simulator() as server:
        url = server.url
    for name in ("a.jsonl", "a.jsonl.gz"):
        assert run("stream", "trade", "--everything", "--endpoint", url, "--record", tmp_path / name).code == 1
    assert not list(tmp_path.iterdir())


def test_replay_keeps_its_times_on_demand(run, recording) -> None:
    path = recording(*(TRADE % number for number in range(50)))
    result = replay(run, path, "--speed", "1")
    assert len(result.lines) == 50
    assert float(result.err.partition(" in ")[2].split()[0]) >= 0.045
    assert len(replay(run, path, "--speed", "max").lines) == 50


def test_exrate_by_asset_goes_beside_trades_by_symbol(run) -> None:
    with Simulator(clock=VirtualClock()) as server:
        result = run(
            *("stream", "asset", "exrate", "--exchange", "KRAKEN", "--asset", "BTC/USD", "--endpoint", server.url),
            *("--count", "5"),
        )
        received = [json.loads(text) for text in server.received]
    assert result.code == 0
    assert [(text["type"], text["subscribe_data_type"]) for text in received] == [
        ("hello", ["asset"]),
        ("subscribe", ["exrate"]),
    ]
    assert received[0]["subscribe_filter_exchange_id"] == ["KRAKEN"]
    assert "subscribe_filter_asset_id" not in received[0]
    assert received[1]["subscribe_filter_asset_id"] == ["BTC/USD"]


def test_types_by_asset_alone_are_one_hello(run) -> None:
    with Simulator(clock=VirtualClock()) as server:
        run("stream", "asset", "exrate", "--asset", "BTC", "--endpoint", server.url, "--count", "1")
        (hello,) = (json.loads(text) for text in server.received)
    assert hello["subscribe_data_type"] == ["asset", "exrate"]
    assert hello["subscribe_filter_asset_id"] == ["BTC"]


@pytest.mark.parametrize(
    ("command", "subscriptions"),
    [
        ("exrate --asset BTC/USD --endpoint exrates", [Subscription((), asset_ids=["BTC/USD"])]),
        ("exrate --asset BTC --endpoint exrates:ws://localhost/", [Subscription((), asset_ids=["BTC"])]),
        ("exrate --everything --endpoint exrates", [Subscription((), everything=True)]),
        ("exrate --asset BTC/USD", [Subscription(["exrate"], asset_ids=["BTC/USD"])]),
        ("exrate trade --asset BTC --endpoint exrates", [Subscription(["exrate", "trade"], asset_ids=["BTC"])]),
        ("trade --asset BTC --symbol A_", [Subscription(["trade"], asset_ids=["BTC"], symbol_ids=["A_"])]),
        (
            "ohlcv exrate --asset BTC --symbol A_ --period 1SEC",
            [
                Subscription(["ohlcv"], symbol_ids=["A_"], period_ids=["1SEC"]),
                Subscription(["exrate"], asset_ids=["BTC"]),
            ],
        ),
    ],
)
def test_what_is_subscribed(command: str, subscriptions: list[Subscription]) -> None:
    arguments = parsers()[0].parse_args(["stream", *command.split()])
    assert subscriptions_of(arguments) == subscriptions


def test_the_embedded_server_is_not_told_the_key(run, monkeypatch, canary_key: str, recording) -> None:
    monkeypatch.setenv("COINAPI_API_KEY", f" {canary_key} ")  # would be refused, were it looked at
    assert replay(run, recording(TRADE % 1)).code == 0


def test_key_comes_from_the_environment(run, monkeypatch, canary_key: str) -> None:
    monkeypatch.setenv("COINAPI_API_KEY", canary_key)
    with Simulator(api_keys=[canary_key], clock=VirtualClock()) as server:
        result = run("stream", "asset", "--everything", "--endpoint", server.url, "--count", "1")
    assert result.code == 0
    assert len(result.lines) == 1


def test_refused_key_is_told_in_one_line(run, monkeypatch, canary_key: str) -> None:
    monkeypatch.setenv("COINAPI_API_KEY", canary_key)
    with Simulator(api_keys=["another"]) as server:
        result = run("stream", "trade", "--everything", "--endpoint", server.url)
    assert result.code == 1
    assert result.lines[-1].endswith("Invalid API key")
    last = result.err.splitlines()[-1]
    assert last.startswith("coinapi-ws: error: ")
    assert "Invalid API key" in last
    assert "check COINAPI_API_KEY" in last
    assert "Traceback" not in result.err


def test_refused_type_is_told_in_one_line_with_a_note_before(run) -> None:
    result = run("stream", "nonsense", "--everything", "--simulate")
    assert result.code == 1
    assert result.err.startswith("coinapi-ws: note: unknown data type 'nonsense'")
    assert result.err.splitlines()[-1].endswith("check the types and filters")


def test_no_connection_is_told_in_one_line(run) -> None:
    with Simulator() as server:
        url = server.url
    result = run("stream", "trade", "--everything", "--endpoint", url)
    assert result.code == 1
    assert not result.out
    (line,) = result.err.splitlines()
    assert line.startswith("coinapi-ws: error: ")
    assert line.endswith("; check the network and --endpoint")


def test_warnings_are_notes(run, recording, tmp_path: Path) -> None:
    path = recording(TRADE % 1)
    with path.open("a") as file:
        file.write('{"received')
    result = run("stream", "trade", "--symbol", "A", "--recording", path)
    notes = [line for line in result.err.splitlines() if line.startswith("coinapi-ws: note: ")]
    assert "matches by prefix" in notes[0]
    assert "the recording ends in the middle" in notes[1]
    assert len(result.lines) == 1


def test_a_key_that_the_server_repeats_is_redacted(
    run, monkeypatch, canary_key: str, recording, tmp_path: Path, assert_no_canary
) -> None:
    """F24: not in the output, and not in a recording."""
    monkeypatch.setenv("COINAPI_API_KEY", canary_key)
    path = recording(f'{{"note":"{canary_key}","type":"novelty"}}', f'{{"type":"error","message":"{canary_key}')
    for form in ("text", "json", "raw"):
        record = tmp_path / f"{form}.jsonl"
        with Simulator(recording=path, speed=None) as server:
            result = run(
                *("stream", "trade", "--everything", "--endpoint", server.url),
                *("--format", form, "--record", record),
            )
        assert "***" in result.out
        assert_no_canary(result.out + result.err)
        assert "***" in record.read_text()
        assert_no_canary(record.read_text())


class Bytes(io.BytesIO):
    def close(self) -> None:
        """Stay readable."""


@pytest.mark.parametrize(
    ("form", "expected"),
    [("text", rb"\xd7 0.00000001 " + b"\n"), ("json", '"note":"é"}\n'.encode())],
)
def test_every_encoding_of_stdout_will_do(run, monkeypatch, recording, form: str, expected: bytes) -> None:
    out = Bytes()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii", newline="\r\n"))
    replay(run, recording('{"type":"trade","size":1e-8,"note":"é"}'), "--format", form)
    sys.stdout.flush()
    assert expected.rstrip() in out.getvalue()
    assert out.getvalue().endswith(b"}\n" if form == "json" else b"\r\n")


def test_stdout_need_not_be_a_file(run, recording) -> None:
    with redirect_stdout(io.StringIO()) as out:
        assert replay(run, recording(TRADE % 1), "--format", "json").code == 0
    assert out.getvalue() == f"{TRADE % 1}\n"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("Reached maximum allowed buffered messages for this connection.", "ask for less, or write it to a file"),
        ("Forbidden - no privileges", "look at your plan"),
        ("Too many connections", "wait before you try again"),
        ("Subscribed data type is invalid", "check the types and filters"),
    ],
)
def test_each_refusal_has_its_advice(run, recording, text: str, advice: str) -> None:
    result = replay(run, recording(TRADE % 1, f'{{"type":"error","message":"{text}"}}'))
    assert result.code == 1
    assert advice in result.err.splitlines()[-1]
    assert text in result.err.splitlines()[-1]


def test_silence_beyond_the_deadline_is_an_error_though_it_is_a_timeout(capsys) -> None:
    """ConnectTimeout is a TimeoutError, as is the one that only means: nothing yet."""
    arguments = Namespace(format="text", decimal=False, recording=None, count=None, duration=None)
    printer = Printer(arguments, Tally(), with_latency=False, redact=str)
    with (
        Simulator(clock=VirtualClock()) as server,
        connect(None, Subscription(["trade"], everything=True), endpoint=server.url, live_timeout=0.05) as stream,
        pytest.raises(ConnectTimeout),
    ):
        _print_all(stream, printer, arguments)
    assert printer.tally.messages == 0


def test_numbers_of_json_survive(run) -> None:
    result = run("stream", "quote", "--everything", "--simulate", "--count", "3", "--format", "json")
    for line in result.lines:
        quote = json.loads(line, parse_float=Decimal)
        assert f'"ask_price":{quote["ask_price"]},' in line
