"""The benchmarks run. How fast is for whoever runs them to read: no test looks at the clock."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

BENCHMARKS: Final = Path(__file__).resolve().parent.parent / "benchmarks"


pytestmark = pytest.mark.skipif(
    not BENCHMARKS.is_dir(), reason="the benchmarks are not beside the tests, as in an unpacked sdist"
)


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "dev", "-W", "error", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)


def copied_to(directory: Path) -> Path:
    # Run from the project's own directory it would measure the package there, not the installed one.
    shutil.copytree(BENCHMARKS, directory / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    return directory


def output_of(directory: Path, name: str, *options: str) -> str:
    finished = run(copied_to(directory), "-m", f"benchmarks.{name}", *options)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def comparison(directory: Path, *options: str) -> str:
    return output_of(directory, "__main__", *options, "--messages", "300", "--rounds", "1", "--quiet")


def rows_of(output: str, client: str) -> list[list[float]]:
    """The numbers in the tables' rows of this client."""
    rows = re.findall(rf"^\| {re.escape(client)} \| (?:\w+ \| )?([\d,.| -]+) \|", output, re.MULTILINE)
    return [[float(cell.replace(",", "")) for cell in row.split("|") if cell.strip()] for row in rows]


def test_the_simulator_benchmark_prints_a_rate(tmp_path: Path) -> None:
    output = output_of(tmp_path, "simulator", "--seconds", "0.2", "--rounds", "1")
    rates = re.search(r"^median: ([\d,]+) frames/s, ([\d,]+) frames per CPU second", output, re.MULTILINE)
    assert rates is not None, output
    assert all(int(rate.replace(",", "")) > 0 for rate in rates.groups())


def test_the_recording_benchmark_prints_its_table(tmp_path: Path) -> None:
    """It ends with an error where a recording lacks a message."""
    output = output_of(tmp_path, "recording", "--messages", "300", "--rounds", "1")
    for way in ("no recording", "plain", "gzip", "zstd"):
        assert rows_of(output, way)[0][0] > 0


def test_the_books_benchmark_prints_its_tables(tmp_path: Path, shared: Path) -> None:
    """It ends with an error where two candidates hold different levels."""
    recording = shared / "recordings" / "coinbase_2021-04-17.jsonl.gz"
    small = ("--levels", "50", "100", "--updates", "100", "--seconds", "2", "--rounds", "1")
    output = output_of(tmp_path, "books", *small, "--recording", str(recording))
    rows = re.findall(r"^\| coinapi_ws: .* \| ([\d,.]+) \| ([\d,.]+) \|$", output, re.MULTILINE)
    assert len(rows) == 6, output
    assert all(float(micros.replace(",", "")) > 0 for row in rows for micros in row)


def test_a_client_of_ours_counts_what_was_sent_on_every_wire(tmp_path: Path) -> None:
    output = comparison(tmp_path, "plain", "tls", "records", "deflate", "deflate-fresh", "--only", "stream")
    assert output.count("\n| stream | typed |") == 5, output
    assert all(cell > 0 for row in rows_of(output, "stream") for cell in row)


@pytest.mark.parametrize("way", ["selector", "inline", "dispatched", "framing", "stream+decimal"])
def test_each_way_of_ours_counts_what_was_sent(tmp_path: Path, way: str) -> None:
    assert rows_of(comparison(tmp_path, "plain", "--only", way), way)


def test_latency_memory_and_imports_are_measured(tmp_path: Path) -> None:
    small = ("--only", "stream", "--seconds", "0.1", "--memory-messages", "200")
    output = comparison(tmp_path, "latency", "memory", "imports", *small)
    slower, faster, memory = rows_of(output, "stream")
    for p50, p99, most in (slower, faster):
        assert 0 < p50 <= p99 <= most
    assert memory[0] > 0
    assert rows_of(output, "import coinapi_ws")[0][0] > 0


def test_each_part_whose_instructions_are_counted_can_be_done(tmp_path: Path) -> None:
    """Counting them takes valgrind, and minutes."""
    program = (
        "from benchmarks.instructions import parts, repeat; [repeat(part, 2) for part in parts()]; print(len(parts()))"
    )
    finished = run(copied_to(tmp_path), "-c", program)
    assert (finished.returncode, finished.stderr, int(finished.stdout)) == (0, "", 6)


def test_a_recording_goes_on_with_its_sequences(tmp_path: Path) -> None:
    """It has fewer frames than are sent, and a client that sees a jump fails."""
    recording = tmp_path / "short.jsonl"
    frames = [f'{{"symbol_id":"X","sequence":{number},"type":"trade"}}' for number in range(1, 8)]
    lines = [json.dumps({"received_ns": 1, "frame": frame}) for frame in frames]
    recording.write_text("\n".join([*lines, ""]), "utf-8")
    assert rows_of(comparison(tmp_path, "plain", "--only", "inline", "--recording", str(recording)), "inline")


def test_a_client_that_loses_a_message_fails(tmp_path: Path) -> None:
    ours = copied_to(tmp_path) / "benchmarks" / "clients" / "ours.py"
    text = ours.read_text("utf-8")
    broken = text.replace(
        "        for message in messages:\n", "        messages.recv()\n        for message in messages:\n"
    )
    assert broken != text
    ours.write_text(broken, "utf-8")
    finished = run(
        tmp_path, "-m", "benchmarks", "plain", "--only", "stream", "--messages", "300", "--rounds", "1", "--quiet"
    )
    assert finished.returncode == 1, finished.stderr
    assert re.search(r"^## Failed\n\n- plain, round 1: stream: counted ", finished.stdout, re.MULTILINE)


def test_the_mix_is_what_it_says(tmp_path: Path) -> None:
    """Its sequences follow, and the longer one begins with the shorter."""
    script = (
        "from benchmarks.mix import mixed; payloads = mixed(2000); "
        "print(*[payload.decode() for payload in payloads], mixed(50) == payloads[:50], sep='\\n')"
    )
    finished = run(copied_to(tmp_path), "-c", script)
    *payloads, is_same = finished.stdout.splitlines()
    messages = [json.loads(payload) for payload in payloads]
    assert Counter(message["type"] for message in messages) == {"quote": 900, "trade": 500, "book": 400, "book20": 200}
    assert is_same == "True"
    last: dict[tuple[str, str], int] = {}
    for message in messages:
        pair = (message["type"], message["symbol_id"])
        assert message["sequence"] == last.get(pair, message["sequence"] - 1) + 1
        last[pair] = message["sequence"]
