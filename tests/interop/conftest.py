"""The foreign servers, one after the other, and the npm package `ws`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import foreign_servers
import pytest
from foreign_servers import SERVERS, ForeignServer

INSTALL_SECONDS: Final = 60.0


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignServer]:
    """A server that we did not write."""
    installation = request.getfixturevalue("installed_ws")[1] if request.param == "ws" else None
    with foreign_servers.running(request.param, tmp_path_factory.mktemp(request.param), installation) as running:
        yield running


@pytest.fixture(scope="session")
def installed_ws(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The node executable, and a directory in which the npm package `ws` is installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("the tests with the npm package ws need node and npm on the PATH")
    directory = tmp_path_factory.mktemp("npm")
    quiet = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--fetch-retries=1"]
    command = [npm, "install", *quiet, "--prefix", str(directory), "ws@8"]
    try:
        subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install ws@8 within {INSTALL_SECONDS:.0f} s; is the registry out of reach?")
    except subprocess.CalledProcessError as error:
        code = next((line for line in error.stderr.splitlines() if " code " in line), "no code")
        pytest.skip(f"npm could not install ws@8 ({code}); is the registry out of reach?")
    return node, directory
