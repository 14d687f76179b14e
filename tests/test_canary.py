"""The canary itself: it sings for each kind of leak, and for nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from canary import TESTS

LEAKING = """
import base64, logging, subprocess, sys, threading, urllib.parse, warnings
import pytest

def explode(secret):
    raise RuntimeError("nothing to see")

def run_thread(target, *args):
    thread = threading.Thread(target=target, args=args)
    thread.start()
    thread.join()

def test_log(canary_key):
    logging.getLogger("coinapi_ws.protocol").debug("upgrade with %s", canary_key)

def test_log_argument_that_is_not_printed(canary_key):
    logging.getLogger("coinapi_ws").debug("upgrade", extra={"headers": {"X-CoinAPI-Key": canary_key}})

def test_log_that_does_not_propagate(canary_key, monkeypatch):
    logger = logging.getLogger("coinapi_ws")
    monkeypatch.setattr(logger, "propagate", False)
    logger.debug(canary_key)

def test_log_of_an_exception(canary_key):
    try:
        raise RuntimeError(canary_key)
    except RuntimeError:
        logging.getLogger("coinapi_ws").exception("callback failed")

def test_basic(canary_key):
    print(base64.b64encode(f"coinapi:{canary_key}".encode()).decode())

def test_percent_encoded(canary_key):
    print(canary_key.replace("A", "%41").replace("-", "%2D"))

def test_cut_short(canary_key):
    print(canary_key[:24] + "...")

def test_stderr_read_by_the_test(canary_key, capsys):
    print(canary_key, file=sys.stderr)
    assert capsys.readouterr().err

def test_output_of_a_subprocess(canary_key):
    program = "import os; print(os.environ['KEY'])"
    child = [sys.executable, "-c", program]
    assert subprocess.run(child, env={"KEY": canary_key}, capture_output=True).returncode == 0

def test_expected_warning(canary_key):
    with pytest.warns(UserWarning):
        warnings.warn(canary_key)

def test_expected_exception(canary_key):
    with pytest.raises(ValueError):
        raise ValueError("hidden") from RuntimeError(canary_key)

def test_assertion(canary_key, assert_no_canary):
    assert_no_canary({"key": canary_key})

def test_fixture_teardown(canary_key, late):
    late.append(canary_key)

@pytest.fixture
def late():
    texts = []
    yield texts
    print(texts)

def test_our_thread(canary_key):
    threading.Thread(target=threading.Event().wait, name="coinapi-ws io", daemon=True).start()
"""

CLEAN = """
import logging, os, sys, threading, types, warnings
import pytest

def test_clean(canary_key, capsys, caplog):
    logging.getLogger("coinapi_ws").debug("connecting")
    assert caplog.messages == ["connecting"]
    print("connected")
    assert capsys.readouterr().out == "connected\\n"
    with pytest.warns(UserWarning, match="slow") as caught:
        warnings.warn("slow")
    assert caught[0].filename == __file__
    with pytest.raises(ValueError, match="nothing"):
        raise ValueError("nothing")

def test_frames_of_tests_hold_the_key_by_right(canary_key, leaks):
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0
    assert not leaks(caught.value)

def test_frames_of_the_package_do_not(canary_key, leaks):
    package = {}
    exec(compile("def send(frame): raise OSError('broken pipe')", "coinapi_ws/transport.py", "exec"), package)
    with pytest.raises(OSError) as caught:
        package["send"](canary_key)
    assert leaks(caught.value)
    with pytest.raises(RuntimeError) as chained:
        try:
            package["send"](canary_key)
        except OSError as error:
            raise RuntimeError("closed") from error
    assert leaks(chained.value)
    with pytest.raises(RuntimeError) as parted:
        try:
            package["send"](canary_key)
        except OSError:
            raise RuntimeError("closed") from None
    assert not leaks(parted.value)

def test_a_broken_repr_is_no_obstacle(leaks):
    class Broken:
        def __repr__(self):
            raise AttributeError("half built")
    with pytest.raises(ValueError) as caught:
        raise ValueError(Broken())
    assert not leaks(caught.value)

def test_server_of_another_project(canary_key):
    logging.getLogger("websockets.server").warning("> X-CoinAPI-Key: %s", canary_key)

def test_foreign_thread():
    threading.Thread(target=threading.Event().wait, name="other", daemon=True).start()

def test_no_real_key():
    assert "COINAPI_API_KEY" not in os.environ
"""

DODGING = """
import pytest

@pytest.fixture(autouse=True)
def canary():
    yield

def test_another_fixture_of_its_name(canary_key):
    pass
"""

THREADS = """
import threading
import pytest

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

def test_locals_of_a_dying_thread(canary_key):
    package = {}
    exec(compile("def send(frame): raise OSError('broken pipe')", "coinapi_ws/transport.py", "exec"), package)
    thread = threading.Thread(target=package["send"], args=(canary_key,))
    thread.start()
    thread.join()
"""


def run_suite(directory: Path, source: str) -> dict[str, list[str]]:
    """Run `source` as a test file beside copies of our conftest.py; return why each test failed."""
    for name in ("conftest.py", "canary.py"):
        shutil.copy(TESTS / name, directory)
    (directory / "test_inner.py").write_text(source, encoding="utf-8")
    (directory / "pytest.ini").write_text("[pytest]\npythonpath = .\nfilterwarnings = error\n", encoding="utf-8")
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--tb=line", "--color=no"],
        cwd=directory,
        # pytest shortens the reasons to the width of the terminal, unless this is set.
        env={**os.environ, "CI": "true"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    reasons: dict[str, list[str]] = {name: [] for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}
    summary = re.findall(r"^(PASSED|FAILED|ERROR) test_inner\.py::(\w+)(.*)", completed.stdout, re.MULTILINE)
    assert {name for _, name, _ in summary} == set(reasons), completed.stdout + completed.stderr
    for outcome, name, reason in summary:
        # A test may pass and then fail in its teardown.
        if outcome != "PASSED":
            reasons[name].append(reason)
    return reasons


@pytest.mark.parametrize("source", [LEAKING, THREADS, DODGING], ids=["leaking", "threads", "dodging"])
def test_every_leak_fails_its_test(tmp_path: Path, source: str) -> None:
    reasons_to_fail = (
        "the API key leaked",
        "no canary listened",
        "the canary key is in this dict",
        "threads left behind: coinapi-ws io",
    )
    for name, reasons in run_suite(tmp_path, source).items():
        assert any(told in reason for reason in reasons for told in reasons_to_fail), f"{name}: {reasons}"
        assert "CANARY-" not in "".join(reasons), name


def test_no_false_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINAPI_API_KEY", "a developer's own")
    assert {name: reasons for name, reasons in run_suite(tmp_path, CLEAN).items() if reasons} == {}
