"""The core has no socket, clock, thread, log or chance of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import coinapi_ws.protocol

MODULES = sorted(Path(coinapi_ws.protocol.__file__).parent.glob("*.py"))
FORBIDDEN = {"socket", "ssl", "selectors", "select", "threading", "time", "random", "secrets", "logging", "asyncio"}


def imported_by(source: str) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Name) and node.id in ("__import__", "open", "print", "input"):
            names.add(node.id)
    return names


@pytest.mark.parametrize("module", MODULES, ids=[module.name for module in MODULES])
def test_the_core_imports_nothing_impure(module: Path) -> None:
    imported = imported_by(module.read_text(encoding="utf-8"))
    assert "__future__" in imported or module.name == "__init__.py"
    assert imported.isdisjoint(FORBIDDEN | {"__import__", "open", "print", "input", "importlib", "os"})


def test_there_are_modules_to_look_at() -> None:
    assert {"session.py", "websocket.py", "pacing.py", "reconnect.py"} <= {module.name for module in MODULES}


@pytest.mark.parametrize(
    "impure", ["import time", "def f():\n from time import sleep", "import os.path as p", "print()"]
)
def test_the_search_finds_what_it_looks_for(impure: str) -> None:
    assert imported_by(impure) & (FORBIDDEN | {"os", "print"})
