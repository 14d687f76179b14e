"""Programs that stand in pages, and how they are run: as they stand, in a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parent.parent

_BLOCK_OR_HEADING: Final = re.compile(r"^```([^\n]*)\n(.*?)^```$|^#{1,4} ([^\n]+)$", re.MULTILINE | re.DOTALL)


def programs_of(page: Path) -> list[tuple[str, str]]:
    """Return the Python programs of a Markdown page, each with the heading that it stands under."""
    heading, programs = "", []
    for language, block, title in _BLOCK_OR_HEADING.findall(page.read_text(encoding="utf-8")):
        if title:
            heading = title
        elif language == "python":
            programs.append((heading, block))
    return programs


def assert_runs(program: str, directory: Path) -> None:
    """Run a program, or tests, with warnings as errors; what prints must have printed something."""
    (directory / "test_program.py").write_text(program)
    runner = ["-m", "pytest", "-q"] if "def test_" in program else []
    # asyncio would log each step that took long, and on a busy machine any may.
    development = [] if "import asyncio" in program else ["-X", "dev"]
    finished = subprocess.run(
        [sys.executable, *development, "-W", "error", *runner, "test_program.py"],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if name != "COINAPI_API_KEY"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, ""), f"{finished.stdout}\n{finished.stderr}"
    if "print(" in program:
        assert finished.stdout.strip()
