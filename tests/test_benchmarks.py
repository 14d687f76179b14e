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


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the benchmarks are not beside the tests, as in an unpacked sdist")
def test_the_simulator_benchmark_prints_a_rate(tmp_path: Path) -> None:
    # Run from the project's own directory it would measure the package there, not the installed one.
    shutil.copytree(BENCHMARKS, tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    command = ["-X", "dev", "-W", "error", "-m", "benchmarks.simulator", "--seconds", "0.2", "--rounds", "1"]
    finished = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    rates = re.search(r"^median: ([\d,]+) frames/s, ([\d,]+) frames per CPU second", finished.stdout, re.MULTILINE)
    assert rates is not None, finished.stdout
    assert all(int(rate.replace(",", "")) > 0 for rate in rates.groups())
