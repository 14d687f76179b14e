"""The pages of docs/: their programs run as they stand, their commands parse, and the reference is whole."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest
from pages import PROJECT, assert_runs, programs_of

import coinapi_ws
from coinapi_ws import books, metadata, metrics, recording, relay, simulator
from coinapi_ws.cli.arguments import parsers
from coinapi_ws.protocol.states import TRANSITIONS, SessionState

DOCS: Final = PROJECT / "docs"
PAGES: Final = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
PROGRAMS: Final = [
    pytest.param(
        program,
        id=f"{page.relative_to(DOCS).with_suffix('')}: {heading}",
        marks=pytest.mark.skipif(
            "redis-server" in program and shutil.which("redis-server") is None, reason="no redis-server"
        ),
    )
    for page in PAGES
    for heading, program in programs_of(page)
]
REFERENCE: Final = "\n".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "reference").glob("*.rst")))
ERRORS: Final = coinapi_ws.CoinAPIError


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs_as_it_stands(program: str, tmp_path: Path) -> None:
    assert_runs(program, tmp_path)


def test_every_sample_of_python_is_one_of_these() -> None:
    """None hides in another form: indented, in a prompt's transcript, or in the reference."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert len(re.findall(r"```\s*\{?(?:code-block\}?\s+)?py", text)) == len(PROGRAMS)
    assert not re.search(r"^\s*>>> ", text + REFERENCE, re.MULTILINE)
    assert not re.search(r"^\.\. (?:code|code-block)::", REFERENCE, re.MULTILINE)


def test_commands_can_be_parsed() -> None:
    """Those of a line each; what stands behind a | is another program's."""
    lines = [
        line
        for page in PAGES
        for block in re.findall(r"^```sh\n(.+?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if line.startswith("coinapi-ws ")
    ]
    assert lines
    for line in lines:
        parsers()[0].parse_args(shlex.split(line.partition(" | ")[0], comments=True)[1:])


def test_each_public_name_is_in_the_reference_once_and_nothing_else_of_these_modules() -> None:
    documented = Counter(re.findall(r"^\.\. auto(?:class|exception|function|data):: (\w+(?:\.\w+)+)", REFERENCE, re.M))
    public = {
        f"{module.__name__}.{name}"
        for module in (coinapi_ws, books, metadata, relay, simulator, recording, metrics)
        for name in module.__all__
    }
    # These are documented member by member as a whole.
    for module in (recording, metrics):
        assert f".. automodule:: {module.__name__}\n   :members:" in REFERENCE
        public -= {f"{module.__name__}.{name}" for name in module.__all__}
    assert public - set(documented) == set()
    assert {name for name, times in documented.items() if times > 1} == set()
    beside = {name for name in set(documented) - public if not name.startswith(("pytest_", "coinapi_ws.protocol."))}
    assert beside == set()


def test_troubleshooting_has_each_error() -> None:
    text = (DOCS / "howto" / "troubleshooting.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^#+ .*?`(\w+)`", text, re.MULTILINE))
    errors = {name for name in coinapi_ws.__all__ if issubclass_of_error(getattr(coinapi_ws, name))}
    assert errors - headings == {"CoinAPIError"}


def issubclass_of_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, ERRORS)


def diagram() -> Any:
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        return importlib.import_module("diagram")
    finally:
        sys.path.remove(str(DOCS / "_ext"))


def test_the_diagram_has_each_state_and_each_transition_of_the_table() -> None:
    picture = ElementTree.fromstring(diagram().svg_of(TRANSITIONS))
    states = [group.get("data-state") for group in picture.iter() if group.get("data-state")]
    assert states == [state.name for state in SessionState]
    drawn = [name for group in picture.iter() for name in (group.get("data-transition") or "").split()]
    wanted = [f"{before.name}-{step.name}-{after.name}" for (before, step), after in TRANSITIONS.items()]
    assert Counter(drawn) == Counter(wanted)


def test_the_diagram_follows_the_table() -> None:
    table = dict(TRANSITIONS)
    removed = table.popitem()
    (before, step), after = removed
    svg = diagram().svg_of(table)
    assert f"{before.name}-{step.name}-{after.name}" not in svg
    assert svg.count("<path d=") == diagram().svg_of(TRANSITIONS).count("<path d=") - 1
