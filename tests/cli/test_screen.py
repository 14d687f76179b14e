"""The ladder on a real terminal, which gets its cursor back on every exit."""

from __future__ import annotations

import codecs
import os
import re
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from coinapi_ws.simulator import Simulator, VirtualClock

fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

PATIENCE_SECONDS = 60
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
SYMBOL = "COINBASE_SPOT_BTC_USD"
HOME = "\x1b[H"
LADDER = ("book", SYMBOL)


def set_size(terminal: int, columns: int, lines: int) -> None:
    # termios.tcsetwinsize is there from 3.11 on.
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


class Terminal:
    """A command on a terminal of its own, and all that it wrote there; stderr goes elsewhere."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int) -> None:
        self.process = process
        self.ours = ours
        self.text = ""
        # A signal may come in the middle of a character, which a terminal takes as we do.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def resize(self, columns: int, lines: int) -> None:
        set_size(self.ours, columns, lines)

    def read_until(self, is_enough: Callable[[str], object]) -> str:
        """Read on until it is enough; fail where nothing more comes."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_enough(self.text):
            assert time.monotonic() < deadline, self.text[-2000:]
            self._read(0.1)
        return self.text

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self.process.poll() is None or select.select([self.ours], [], [], 0)[0]:
            if not self._read(0.1) and self.process.poll() is not None:
                break
        return self.process.wait(PATIENCE_SECONDS)

    @property
    def pictures(self) -> list[list[str]]:
        """All that was drawn, each as its lines without attributes."""
        drawn = self.text.partition(LEAVE)[0].split(HOME)[1:]
        return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", picture).replace("\r", "").split("\n") for picture in drawn]

    def _read(self, timeout: float) -> bool:
        if not select.select([self.ours], [], [], timeout)[0]:
            return False
        try:
            read = os.read(self.ours, 65536)
        except OSError:  # Linux says so when nobody has the other end open
            return False
        self.text += self._decoder.decode(read)
        return bool(read)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Start a command on a terminal of 80 columns and 24 lines; ended at the end of the test."""
    with ExitStack() as stack:

        def start(*arguments: object, **variables: str) -> Terminal:
            ours, theirs = os.openpty()
            stack.callback(os.close, ours)
            set_size(ours, 80, 24)
            # A process group of its own stops for Ctrl-Z, that of the tests only where it is not orphaned (POSIX).
            group: dict[str, Any] = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
            left_out = ("COVERAGE_PROCESS", "NO_COLOR", "COLUMNS", "LINES", "COINAPI_API_KEY")
            inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "coinapi_ws", *map(str, arguments)],
                    stdout=theirs,
                    stderr=subprocess.PIPE,
                    env={**inherited, "PYTHONIOENCODING": "utf-8", "TERM": "xterm", **variables},
                    **group,
                )
            )
            os.close(theirs)
            stack.callback(process.kill)
            watchdog = threading.Timer(PATIENCE_SECONDS, process.kill)
            watchdog.start()
            stack.callback(watchdog.join)
            stack.callback(watchdog.cancel)
            return Terminal(process, ours)

        yield start


def is_whole(pictures: list[list[str]]) -> bool:
    """Whether the last one is of a book, and has come to its end."""
    return bool(pictures) and "Ctrl-C ends" in pictures[-1][-1] and any("spread" in line for line in pictures[-1])


def is_given_back(text: str) -> bool:
    """Whether the terminal is as it was, nothing but plain text after that."""
    before, left, after = text.partition(LEAVE)
    return before.count(ENTER) == 1 and bool(left) and "\x1b" not in re.sub(r"\x1b\[[0-9;]*m", "", after)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_cursor_is_back_after_a_signal(terminal, number: int, code: int) -> None:
    shown = terminal(*LADDER, "--simulate")
    shown.read_until(lambda text: "spread" in text)
    assert LEAVE not in shown.text
    shown.process.send_signal(number)
    assert shown.end() == code
    assert is_given_back(shown.text)
    # The last picture stays.
    assert shown.text.partition(LEAVE)[2].startswith(f"{SYMBOL}  book  ")
    assert b"Traceback" not in shown.process.stderr.read()


def test_the_cursor_is_back_after_an_error(terminal) -> None:
    with Simulator(clock=VirtualClock()) as server:
        shown = terminal(*LADDER, "--endpoint", server.url)
        shown.read_until(lambda text: "spread" in text)
        server.faults.error("Forbidden - no privileges")
        assert shown.end() == 1
    assert is_given_back(shown.text)
    assert b"look at your plan" in shown.process.stderr.read()


def test_the_cursor_is_back_after_the_count(terminal) -> None:
    shown = terminal(*LADDER, "--simulate", "--count", "3")
    assert shown.end() == 0
    assert is_given_back(shown.text)
    assert " 3 updates " in shown.text.partition(LEAVE)[2]


def test_a_ladder_is_as_high_as_the_terminal_and_follows_its_size(terminal) -> None:
    with Simulator(clock=VirtualClock()) as server:
        shown = terminal(*LADDER, "--depth", "50", "--endpoint", server.url)
        shown.read_until(lambda _: is_whole(shown.pictures) and len(shown.pictures[-1]) > 20)
        first = shown.pictures[-1]
        shown.resize(40, 10)
        shown.read_until(lambda _: is_whole(shown.pictures) and len(shown.pictures[-1]) <= 10)
        second = shown.pictures[-1]
    assert len(first) in (23, 24)
    assert [len([line for line in first if line.startswith(f"  {side} ")]) for side in ("ask", "bid")] == [9, 9]
    assert len([line for line in second if line.startswith("  ask ")]) == 2
    assert max(map(len, second)) <= 40


def test_the_same_picture_is_drawn_again_only_where_the_window_has_another_size(terminal) -> None:
    with Simulator(clock=VirtualClock()) as server:
        shown = terminal(*LADDER, "--endpoint", server.url)
        shown.read_until(lambda _: is_whole(shown.pictures) and "connected; " in shown.pictures[-1][-1])
        drawn = len(shown.pictures)
        time.sleep(0.5)  # some five chances to draw
        shown.resize(100, 24)
        shown.read_until(lambda _: len(shown.pictures) > drawn and is_whole(shown.pictures))
        assert len(shown.pictures) == drawn + 1
        assert shown.pictures[-1] == shown.pictures[-2]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_ctrl_z_gives_the_terminal_back_and_fg_draws_again(terminal) -> None:
    with Simulator(clock=VirtualClock()) as server:
        shown = terminal(*LADDER, "--endpoint", server.url)
        shown.read_until(lambda text: "spread" in text)
        shown.process.send_signal(signal.SIGTSTP)
        text = shown.read_until(lambda text: LEAVE in text)
        assert text.endswith(LEAVE)
        status = Path(f"/proc/{shown.process.pid}/stat")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while status.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        shown.process.send_signal(signal.SIGCONT)
        shown.read_until(lambda text: "spread" in text.partition(LEAVE)[2])
        after = shown.text.partition(LEAVE)[2]
        assert after.startswith(ENTER)  # what comes next may be the rest of a picture that was interrupted
        assert HOME in after
        shown.process.send_signal(signal.SIGINT)
        assert shown.end() == 130
    assert shown.text.count(LEAVE) == 2


def test_at_most_ten_pictures_a_second(terminal, recording) -> None:
    levels = '"asks":[{"price":2,"size":1}],"bids":[{"price":1,"size":%d}]'
    frames = [f'{{"type":"book5","symbol_id":"A_B","is_snapshot":true,{levels % (n + 1)}}}' for n in range(3000)]
    began = time.monotonic()
    shown = terminal("book", "A_B", "--type", "book5", "--recording", recording(*frames), "--speed", "3")
    assert shown.end() == 0
    pictures = shown.pictures
    assert 2 <= len(pictures) <= 10 * (time.monotonic() - began) + 2
    # The last one has all of it.
    assert "3,000 updates" in pictures[-1][1]


@pytest.mark.parametrize(("variables", "colored"), [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_honoured(terminal, variables: dict[str, str], colored: bool) -> None:
    shown = terminal(*LADDER, "--simulate", "--count", "1", **variables)
    assert shown.end() == 0
    assert ("\x1b[31m" in shown.text) is colored
    assert (re.search(r"\x1b\[[1-9;]+m", shown.text) is not None) is colored


def test_another_encoding_has_bars_as_well(terminal) -> None:
    shown = terminal(*LADDER, "--simulate", "--count", "1", PYTHONIOENCODING="ascii")
    assert shown.end() == 0
    assert "###" in shown.text


def test_a_dumb_terminal_gets_lines_with_a_header(terminal) -> None:
    shown = terminal(*LADDER, "--simulate", "--count", "2", TERM="dumb")
    assert shown.end() == 0
    header, *lines = shown.text.splitlines()
    assert header.startswith("TIME (UTC)")
    assert len(lines) == 2
    assert "\x1b" not in shown.text


def test_a_stale_book_is_marked_on_the_screen(terminal) -> None:
    with Simulator(clock=VirtualClock()) as server:
        shown = terminal(*LADDER, "--endpoint", server.url)
        shown.read_until(lambda text: "spread" in text)
        server.faults.slow_handshakes(60)
        server.faults.drop(reset=True)
        shown.read_until(
            lambda _: (
                len(shown.pictures[-1]) > 2 and all("disconnected, attempt " in shown.pictures[-1][n] for n in (0, -1))
            )
        )
        picture = shown.pictures[-1]
    assert any("no longer true" in line for line in picture)
    assert not any("spread" in line for line in picture)
    assert " STALE: disconnected, attempt " in picture[0]
