"""Each example can be read, and copied, alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

import coinapi_ws

PROJECT: Final = Path(__file__).resolve().parents[2]
EXAMPLES: Final = sorted((PROJECT / "examples").glob("*.py"))


def imports(path: Path) -> set[tuple[str, str]]:
    """Return what a program imports, as pairs of a module and a name in it."""
    pairs = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            pairs |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            pairs |= {(node.module or "", alias.name) for alias in node.names}
    return pairs


def test_the_tests_know_each(known_examples: set[str]) -> None:
    assert {path.stem for path in EXAMPLES} == known_examples


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_short_and_stands_alone(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    pairs = imports(path)
    assert not {module.partition(".")[0] for module, _ in pairs} & (
        {other.stem for other in EXAMPLES} | {"examples", ""}
    )
    assert {module for module, _ in pairs if module.startswith("coinapi_ws")} == {"coinapi_ws"}
    assert {name for module, name in pairs if module == "coinapi_ws"} <= set(coinapi_ws.__all__)


def test_the_readme_lists_them() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## In your framework")[2].partition("\n## ")[0]
    assert set(re.findall(r"\(examples/(\w+)\.py\)", section)) == {path.stem for path in EXAMPLES}
