"""Build the sdist and the wheel, install each in a fresh environment, run tests from the unpacked sdist.

    python .ci/package.py SCRATCH_DIRECTORY [PYTEST_ARGUMENT...]

All tests are collected there, so none lacks a file, and those of the arguments run, against the wheel. The sdist must
install exactly the same files, so it needs no second run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = "coinapi_ws"
PLUGIN = "pytest_coinapi_ws"


def main() -> None:
    scratch = Path(sys.argv[1]).resolve()
    shutil.rmtree(scratch, ignore_errors=True)
    dist = scratch / "dist"
    run(sys.executable, "-m", "build", "--outdir", str(dist), str(PROJECT))
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")

    shutil.unpack_archive(sdist, scratch / "unpacked")
    (source,) = (scratch / "unpacked").iterdir()

    from_wheel = install(scratch / "from-wheel", f"{wheel}[test]")
    from_sdist = install(scratch / "from-sdist", str(sdist))
    if installed_files(from_wheel) != installed_files(from_sdist):
        sys.exit("the wheel and the sdist install different files")

    for executables in (from_wheel, from_sdist):
        run(str(executables / "coinapi-ws"), "--help", cwd=scratch)
    run(str(from_wheel / "pytest"), "--collect-only", "-qq", cwd=source)
    run(str(from_wheel / "pytest"), *sys.argv[2:], cwd=source)


def install(environment: Path, requirement: str) -> Path:
    """Make a virtual environment with `requirement` in it; return the directory of its executables."""
    venv.create(environment, with_pip=True)
    executables = environment / ("Scripts" if os.name == "nt" else "bin")
    run(str(executables / "python"), "-m", "pip", "install", "--quiet", requirement)
    return executables


def installed_files(executables: Path) -> dict[str, str]:
    """Return the digest of every file of the installed package."""
    # Isolated mode, so that it is the installed package whatever the current directory holds.
    statement = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    python = str(executables / "python")
    init = subprocess.run([python, "-I", "-c", statement], check=True, capture_output=True, text=True).stdout
    root = Path(init.strip()).parent
    if executables.parent not in root.parents:
        sys.exit(f"{PACKAGE} was not imported from its environment")
    return {
        str(path.relative_to(root.parent)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [root.parent / f"{PLUGIN}.py", *sorted(root.rglob("*"))]
        if path.is_file() and "__pycache__" not in path.parts
    }


def run(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd)


if __name__ == "__main__":
    main()
