"""What every test stands on: a key that sings when it leaks, shared recordings, no thread left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
from canary import Canary, Watch

PROJECT: Final = Path(__file__).resolve().parent.parent

# A thread that was told to end may still be on its last lines, and the machine busy.
THREAD_GRACE_SECONDS: Final = 5.0

WATCH: Final = pytest.StashKey[Watch]()

# How long an example takes says something about the machine only.
hypothesis.settings.register_profile(
    "coinapi_ws", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("coinapi_ws")


@pytest.fixture(scope="session", autouse=True)
def no_real_key() -> Iterator[None]:
    """Keep a developer's own key, and proxy, out of every test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COINAPI_API_KEY", raising=False)
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def no_threads_left(no_real_key: None) -> Iterator[None]:
    """Fail the test that leaves one of our threads running."""
    before = set(threading.enumerate())
    yield
    ours = [t for t in threading.enumerate() if t not in before and t.name.startswith("coinapi-ws")]
    for thread in ours:
        thread.join(THREAD_GRACE_SECONDS)
    left = [thread.name for thread in ours if thread.is_alive()]
    assert not left, f"threads left behind: {', '.join(left)}"


@pytest.fixture(autouse=True)
def canary(request: pytest.FixtureRequest, _canary: Canary) -> Iterator[None]:
    """Fail the test in which the canary key appears where no key may.

    Looked at are log records of every level, warnings, output, that of subprocesses which end too, exceptions that
    nobody caught, and those that `pytest.raises` expects. A repr, a file or a line that a subprocess says while it
    runs, the test shows to `assert_no_canary`.
    """
    watch = request.node.stash[WATCH] = Watch(_canary)
    with watch.listening():
        yield


@pytest.fixture(scope="session")
def _canary() -> Canary:
    return Canary()


@pytest.fixture(scope="session")
def canary_key(_canary: Canary) -> str:
    """The API key to use in every test."""
    return _canary.key


@pytest.fixture(scope="session")
def has_canary(_canary: Canary) -> Callable[[str], bool]:
    """A function that says whether a text holds the key, or half of it, in any form."""
    return _canary.is_in


@pytest.fixture(scope="session")
def assert_no_canary(_canary: Canary) -> Callable[[object], None]:
    """A function that fails when a text, bytes, or the str or repr of anything else hold the key."""

    def check(thing: object) -> None:
        texts = [thing.decode("utf-8", "replace")] if isinstance(thing, bytes) else [str(thing), repr(thing)]
        # The message must not repeat it.
        if any(_canary.is_in(text) for text in texts):
            pytest.fail(f"the canary key is in this {type(thing).__name__}")

    return check


@pytest.fixture(scope="session")
def leaks(_canary: Canary) -> Callable[[BaseException], bool]:
    """A function that says whether an exception tells the key, in its traceback with captured locals too."""
    return _canary.is_told_by


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory of recordings that several projects share: `COINAPI_WS_SHARED`, or ../shared."""
    named = os.environ.get("COINAPI_WS_SHARED")
    path = Path(named) if named else PROJECT.parent / "shared"
    if not (path / "recordings").is_dir():
        pytest.skip("no shared recordings: set COINAPI_WS_SHARED, or put them into ../shared")
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    watch = item.stash.get(WATCH, None)
    if watch is None:
        # A fixture of the same name, nearer to the test, would take its place.
        if call.when == "call":
            report.outcome, report.longrepr = "failed", "no canary listened: another fixture has its name"
        return report
    for title, text in report.sections:
        # Log records were looked at one by one, before formatting and whatever the level.
        if not title.startswith("Captured log"):
            watch.look(title, text)
    if watch.leaks and call.when != "setup":
        places = ", ".join(dict.fromkeys(watch.leaks))
        watch.leaks.clear()
        if report.failed:
            report.sections.append(("Canary", f"the API key leaked too: {places}"))
        else:
            report.outcome = "failed"
            report.longrepr = f"the API key leaked: {places}"
    return report
