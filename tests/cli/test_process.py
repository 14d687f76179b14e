"""The command as a user runs it: processes, pipes, terminals, Ctrl-C."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from coinapi_ws import cli
from coinapi_ws.cli import simulating
from coinapi_ws.cli.simulating import _example
from coinapi_ws.recording import read_recording
from coinapi_ws.simulator import Simulator, VirtualClock
from coinapi_ws.simulator.engine import Engine

#: What a server sends at once, after which its clock stands still.
ASSETS = ("stream", "asset", "--everything", "--format", "json")
ASSET_COUNT = 5


def test_demo(start) -> None:
    code, out, err = start("demo", "--count", "1000", "--format", "json").result()
    assert code == 0
    messages = [json.loads(line) for line in out.splitlines()]
    assert len(messages) == 1000
    assert len(Counter(message["type"] for message in messages)) >= 6
    assert len({message["symbol_id"].partition("_")[0] for message in messages if "symbol_id" in message}) >= 3
    assert "1,000 messages" in err
    assert "0 gaps, 0 undecodable, 0 surplus" in err


def test_demo_says_which_stream_it_is(start, run) -> None:
    code, out, err = start("demo", "--count", "20").result()
    assert code == 0
    assert len(out.splitlines()) == 20
    command = shlex.split(err.splitlines()[0].partition("the same as: coinapi-ws ")[2])
    again = run(*command, "--count", "20")
    assert again.code == 0
    # The same seed gives the same market; only the times differ.
    assert [line.split()[1:3] for line in again.lines[:9]] == [line.split()[1:3] for line in out.splitlines()[:9]]


def test_output_comes_while_nothing_more_does(start) -> None:
    with Simulator(clock=VirtualClock()) as server:
        command = start(*ASSETS, "--endpoint", server.url)
        lines = [command.line() for _ in range(ASSET_COUNT)]
        command.interrupt()
        code, out, err = command.result()
    assert {json.loads(line)["type"] for line in lines} == {"asset"}
    assert not out
    assert code == 130
    assert "Traceback" not in err
    assert err.splitlines()[1:] == ["coinapi-ws: asset 5", "coinapi-ws: 0 gaps, 0 undecodable, 0 surplus"]


def test_ctrl_c_under_load(start) -> None:
    """F17, F18: at once, with a summary of all that was printed, whatever it interrupts."""
    command = start("demo", "--format", "json")
    first = command.line()
    command.interrupt()
    code, out, err = command.result()
    assert code == 130
    assert "Traceback" not in err
    printed = 1 + len(out.splitlines())
    counted = int(err.partition(" message")[0].rpartition(" ")[2].replace(",", ""))
    # The one message that it interrupted may be printed or not.
    assert abs(printed - counted) <= 1
    assert json.loads(first)


def test_sigterm_leaves_a_whole_recording_and_a_summary(start, tmp_path: Path) -> None:
    """As service managers and containers end it."""
    path = tmp_path / "market.jsonl.gz"
    command = start(
        "stream", "trade", "quote", "--symbol", "COINBASE_", "--simulate", "--format", "json", "--record", path
    )
    first = command.line()
    command.process.terminate()
    code, out, err = command.result()
    assert code == 143
    assert "Traceback" not in err
    assert "0 gaps" in err
    printed = [json.loads(line) for line in (first, *out.splitlines())]
    recorded = [json.loads(recorded.frame) for recorded in read_recording(path)]
    assert [message for message in recorded if "symbol_id" in message][: len(printed)] == printed


def test_a_closed_pipe_is_no_error(start) -> None:
    command = start("demo", "--format", "raw")
    assert command.line()
    assert command.process.stdout is not None
    command.process.stdout.close()
    assert command.process.stderr is not None
    err = command.process.stderr.read()
    assert command.process.wait(30) == 0
    # Neither a summary nor a traceback, nor the interpreter's own complaint.
    assert [line.partition(": ")[2].partition(":")[0] for line in err.splitlines()] == ["the same as"]


def test_a_pipe_that_was_closed_before_is_no_error(start) -> None:
    """Here all that was printed is still waiting when the interpreter flushes stdout for the last time."""
    reader, writer = os.pipe()
    os.close(reader)
    command = start("stream", "asset", "--everything", "--simulate", stdout=writer)
    os.close(writer)
    assert command.result() == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(("closed", "count"), [(">&-", 0), ("2>&-", 5)])
def test_a_stream_that_the_shell_closed_is_no_error(closed: str, count: int) -> None:
    command = f"{shlex.quote(sys.executable)} -m coinapi_ws demo --count 5 --format json {closed}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    # Notes that are meant for stderr do not come between the messages.
    assert len([json.loads(line)["type"] for line in ended.stdout.splitlines()]) == count


def test_a_full_disk_is_one_line(start) -> None:
    with open("/dev/full", "w") as full:
        code, _, err = start("demo", "--count", "20", stdout=full.fileno()).result()
    assert code == 1
    assert err.splitlines()[-1] == "coinapi-ws: error: No space left on device"
    assert "Traceback" not in err


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals of this kind")
def test_a_terminal_gets_a_header(start) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        command = start("demo", "--count", "1", stdout=theirs)
        os.close(theirs)
        text = b""
        while text.count(b"\n") < 2:
            text += terminal.read(4096)
        assert command.result().code == 0
    header, line = text.decode().splitlines()
    assert header.split() == ["TIME", "(UTC)", "TYPE", "SYMBOL", "LATENCY", "VALUES"]
    assert header.index("SYMBOL") == re.search(r"[A-Z]+_", line).start()  # type: ignore[union-attr]


def test_simulate_and_stream(start, canary_key: str, assert_no_canary) -> None:
    """F24 too: the key is neither in the output nor where `ps` looks."""
    server = start("simulate", "--seed", "3")
    url, example = server.line().strip(), shlex.split(server.line())
    assert url.startswith("ws://127.0.0.1:")
    assert example[:2] == ["coinapi-ws", "stream"]
    client = start(*example[1:], key=canary_key)
    assert url in example
    line = client.line()
    assert line.split()[1] in {"trade", "quote", "book5"}
    if Path("/proc/self/cmdline").exists():
        assert_no_canary(Path(f"/proc/{client.process.pid}/cmdline").read_bytes())
    server.interrupt()
    served, seen = server.result(), client.result()
    assert served == (130, "", "")
    assert seen.code == 0
    assert "the server ended the stream: " in seen.err
    assert_no_canary(seen.out + seen.err + line)


def test_simulate_replays_a_recording(start, recording) -> None:
    frames = [f'{{"symbol_id":"{name}_SPOT_A_B","sequence":1,"type":"quote"}}' for name in ("X", "Y")]
    server = start("simulate", "--recording", recording(*frames, '{"type":"hearbeat"}'), "--speed", "max")
    url, example = server.line().strip(), shlex.split(server.line())
    assert example == ["coinapi-ws", "stream", "quote", "--symbol", "X_", "--symbol", "Y_", "--endpoint", url]
    client = start(*example[1:], "--format", "json").result()
    assert client.code == 0
    assert client.out.splitlines() == frames
    server.interrupt()
    assert server.result() == (130, "", "")


@pytest.mark.parametrize(
    ("frames", "scope"),
    [
        (
            ['{"type":"exrate","asset_id_base":"BTC"}', '{"type":"book","symbol_id":"X_A_B"}'],
            "book exrate --symbol X_ --asset BTC",
        ),
        (['{"type":"asset","asset_id":"BTC"}'], "asset --everything"),
        (["nonsense", '{"type":"hearbeat"}'], "trade --everything"),
    ],
)
def test_simulate_suggests_what_a_recording_has(recording, frames: list[str], scope: str) -> None:
    with Simulator(recording=recording(*frames)) as simulator:
        assert _example(simulator) == ["coinapi-ws", "stream", *scope.split(), "--endpoint", simulator.url]


@pytest.mark.parametrize(("product", "count"), [(["--direct-source", "KRAKEN"], 5), (["--exchange-rates"], 3)])
def test_simulate_suggests_what_another_product_has(start, product: list[str], count: int) -> None:
    server = start("simulate", *product)
    url, example = server.line().strip(), shlex.split(server.line())
    assert example[-1].endswith(url)
    client = start(*example[1:], "--count", str(count), "--format", "json")
    messages = [json.loads(line) for line in client.result().out.splitlines()]
    assert len(messages) == count
    shown = {message.get("symbol_id", message["type"]) for message in messages}
    assert shown <= {"KRAKEN_SPOT_BTC_USD", "exrate"}
    server.interrupt()
    assert server.result().code == 130


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--direct-source", "NYSE"], "there is no exchange 'NYSE'; there are BITSTAMP"),
        (["--direct-source", "KRAKEN", "--exchange-rates"], "are two products; make a simulator of each"),
        (["--seed", "-1"], "seed must be 0 or more"),
    ],
)
def test_what_simulate_cannot_be_is_wrong_usage(run, arguments: list[str], problem: str) -> None:
    result = run("simulate", *arguments)
    assert result.code == 2
    assert problem in result.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            "trade --symbol COINBASE_ --endpoint ds:coinbase",
            "'COINBASE_' is a prefix; name the symbols, each with its $",
        ),
        ("trade --exchange COINBASE --endpoint ds:coinbase", "WS DS takes no exchange filter"),
        ("trade --asset BTC --endpoint exrates", "write: stream exrate --asset BTC/USD --endpoint exrates"),
        ("exrate --asset BTC --symbol A_ --endpoint exrates", "filters by asset alone"),
        ("exrate --endpoint exrates", "exrate needs an asset filter; add --asset BTC/USD"),
    ],
)
def test_what_a_product_cannot_serve_is_wrong_usage(run, monkeypatch, canary_key, arguments: str, problem: str) -> None:
    monkeypatch.setenv("COINAPI_API_KEY", canary_key)
    result = run("stream", *arguments.split())
    assert (result.code, problem in result.err) == (2, True), result.err


def test_a_server_whose_thread_died_does_not_stay_silent(run, monkeypatch) -> None:
    def fail(engine: Engine, timeout: float | None) -> bool:
        raise LookupError("a bug")

    monkeypatch.setattr(Engine, "_turn", fail)
    monkeypatch.setattr(simulating, "_LOOK_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="died of an exception") as caught:
        run("simulate")
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_server_that_dies_is_one_line(start) -> None:
    server = start("simulate")
    server.line()
    client = start(*shlex.split(server.line())[1:])
    assert client.line()
    server.process.kill()
    code, _, err = client.result()
    assert code == 1
    assert "messages in" in err or "1 message in" in err
    assert err.splitlines()[-1].startswith("coinapi-ws: error: ")
    assert "Traceback" not in err


def test_exit_codes_of_the_process(start) -> None:
    wrong = start("stream", "trade")
    with Simulator(api_keys=["another"]) as server:
        refused = start(*ASSETS, "--endpoint", server.url).result()
    assert refused.code == 1
    assert wrong.result().code == 2


def test_a_port_that_is_taken_is_one_line(run) -> None:
    with Simulator() as server:
        result = run("simulate", "--port", server.port)
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith("coinapi-ws: error: cannot listen: Address already in use")
    assert line.endswith("; choose another --port")


def test_the_module_can_be_looked_at_without_being_run() -> None:
    assert importlib.import_module("coinapi_ws.__main__").main is cli.main


def test_the_entry_point_is_installed() -> None:
    script = Path(sys.executable).with_name("coinapi-ws")
    if not script.exists():
        pytest.skip("the package is not installed with its script")
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert shown.stdout.startswith("coinapi-ws ")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can limit another process's files")
def test_a_recording_that_cannot_be_written_ends_the_stream(start, tmp_path: Path) -> None:
    """A disk that is full, as far as the process can tell."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "a.jsonl"
    with Simulator(activity=100) as server:
        command = start("stream", "trade", "--everything", "--endpoint", server.url, "--record", path)
        assert command.line()
        resource.prlimit(command.process.pid, resource.RLIMIT_FSIZE, (50_000, 50_000))
        result = command.result()
    assert result.code == 1
    assert result.err.splitlines()[-1] == f"coinapi-ws: error: cannot write {path}: File too large"
    assert path.stat().st_size == 50_000
