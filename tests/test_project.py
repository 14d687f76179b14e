"""The project's frame: what its pages and its settings promise to each other."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from coinapi_ws._version import __version__

PROJECT: Final = Path(__file__).resolve().parent.parent
TEST_COMMAND: Final = "python3 -m venv .venv && .venv/bin/python -m pip install --quiet tox && .venv/bin/tox"


def committed_files() -> list[Path]:
    """Return the files under version control; skip where there is none, as in an unpacked sdist."""
    if not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("git does not list the files of this checkout")
    paths = [PROJECT / name for name in listed.stdout.decode().split("\0")]
    return [path for path in paths if path.is_file()]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert f"```sh\n{TEST_COMMAND}\n```" in (PROJECT / "README.md").read_text(encoding="utf-8")
    assert (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == TEST_COMMAND


def test_changelog_knows_this_version() -> None:
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{re.escape(__version__)}\]?", changelog, re.MULTILINE)


def test_runtime_requirements_are_two() -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(PROJECT / "setup.cfg", encoding="utf-8")
    requirements = settings["options"]["install_requires"].strip().splitlines()
    names = {re.split(r"[<>=!~;\[ ]", requirement)[0] for requirement in requirements}
    assert names == {"certifi", "wsproto"}


def test_import_needs_nothing_else() -> None:
    # Compared with what was there before: a coverage run or a .pth file imports its own. The extra `speed` is not used.
    statements = (
        "import sys; sys.modules['msgspec'] = None; before = set(sys.modules); import coinapi_ws; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    command = [sys.executable, "-c", statements]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    ours = {"coinapi_ws", "wsproto", "h11", "certifi"}
    assert set(run.stdout.split()) - ours - sys.stdlib_module_names == set()


def test_no_path_of_a_machine_is_committed() -> None:
    machine = re.compile(rb"(?<![\w.$}~/-])/(?:home|Users|root|work|tmp|var/folders)/[\w.-]+")
    found = [
        f"{path.relative_to(PROJECT)}:{number}"
        for path in committed_files()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if machine.search(line)
    ]
    assert found == []
