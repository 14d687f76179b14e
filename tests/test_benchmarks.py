"""The benchmarks run. How fast is for whoever runs them to read: no test looks at the clock."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

BENCHMARKS: Final = Path(__file__).resolve().parent.parent / "benchmarks"


pytestmark = pytest.mark.skipif(
    not BENCHMARKS.is_dir(), reason="the benchmarks are not beside the tests, as in an unpacked sdist"
)


def output_of(directory: Path, name: str, *options: str) -> str:
    # Run from the project's own directory it would measure the package there, not the installed one.
    shutil.copytree(BENCHMARKS, directory / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", f"benchmarks.{name}", *options]
    finished = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def test_the_simulator_benchmark_prints_a_rate(tmp_path: Path) -> None:
    output = output_of(tmp_path, "simulator", "--seconds", "0.2", "--rounds", "1")
    rates = re.search(r"^median: ([\d,]+) frames/s, ([\d,]+) frames per CPU second", output, re.MULTILINE)
    assert rates is not None, output
    assert all(int(rate.replace(",", "")) > 0 for rate in rates.groups())


def test_the_books_benchmark_prints_its_tables(tmp_path: Path, shared: Path) -> None:
    """It ends with an error where two candidates hold different levels."""
    recording = shared / "recordings" / "coinbase_2021-04-17.jsonl.gz"
    small = ("--levels", "50", "100", "--updates", "100", "--seconds", "2", "--rounds", "1")
    output = output_of(tmp_path, "books", *small, "--recording", str(recording))
    rows = re.findall(r"^\| coinapi_ws: .* \| ([\d,.]+) \| ([\d,.]+) \|$", output, re.MULTILINE)
    assert len(rows) == 6, output
    assert all(float(micros.replace(",", "")) > 0 for row in rows for micros in row)
