"""Waking the thread that waits in a selector (F25)."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from peers import PATIENCE_SECONDS

from coinapi_ws.client.wakeup import Wakeup


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    made = Wakeup()
    yield made
    made.close()


def is_readable(wakeup: Wakeup, wait: float = 0) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(wakeup, selectors.EVENT_READ)
        return bool(selector.select(wait))


def test_a_poke_is_seen_until_it_is_drained(wakeup: Wakeup) -> None:
    assert not is_readable(wakeup)
    for _ in range(2):
        wakeup.poke()
        assert is_readable(wakeup)
        wakeup.drain()
        assert not is_readable(wakeup)
    wakeup.drain()  # without a poke it does not block
    assert not is_readable(wakeup)


def test_a_million_pokes_are_one_byte_and_never_block_f25(wakeup: Wakeup) -> None:
    """F25: a full pipe would block, or raise, in whoever pokes."""
    for _ in range(1_000_000):
        wakeup.poke()
    assert wakeup._reader.recv(100) == b"\0"
    wakeup.drain()
    assert not is_readable(wakeup)
    wakeup.poke()
    assert is_readable(wakeup)


def test_no_work_is_overlooked_whoever_is_faster_f25(wakeup: Wakeup) -> None:
    work: list[int] = []
    count, threads = 2_000, 4

    def leave() -> None:
        for number in range(count):
            work.append(number)
            wakeup.poke()

    helpers = [threading.Thread(target=leave) for _ in range(threads)]
    for helper in helpers:
        helper.start()
    seen = 0
    while seen < count * threads:
        assert is_readable(wakeup, PATIENCE_SECONDS), f"asleep after {seen}"
        wakeup.drain()
        seen = len(work)
    for helper in helpers:
        helper.join()


def test_a_poke_in_the_middle_of_draining_does_not_silence_the_next_f25(
    wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F25: as a signal handler's would be; the owner looks for work after draining, and so finds this one's."""

    class Interrupted:
        def __init__(self, reader: socket.socket) -> None:
            self.reader = reader

        def recv(self, size: int) -> bytes:
            wakeup.poke()
            return self.reader.recv(size)

    wakeup.poke()
    with monkeypatch.context() as patch:
        patch.setattr(wakeup, "_reader", Interrupted(wakeup._reader))
        wakeup.drain()
    wakeup.poke()
    assert is_readable(wakeup)


def test_both_ends_are_non_blocking_f25(wakeup: Wakeup) -> None:
    """F25: and a pipe that is full is as good as a poke."""
    with pytest.raises(BlockingIOError):
        wakeup._reader.recv(1)
    with suppress(BlockingIOError):
        while True:
            wakeup._writer.send(b"x" * 65536)
    wakeup.poke()
    assert is_readable(wakeup)
    wakeup.drain()
    assert not is_readable(wakeup)


def test_a_signal_handler_pokes_in_the_middle_of_a_poke_f25(wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch) -> None:
    """F25: a lock that is not reentrant would wait for ever."""

    class Interrupted:
        def __init__(self, writer: socket.socket) -> None:
            self.writer = writer

        def send(self, payload: bytes) -> int:
            patch.setattr(wakeup, "_writer", self.writer)
            wakeup.poke()
            return self.writer.send(payload)

    with monkeypatch.context() as patch:
        patch.setattr(wakeup, "_writer", Interrupted(wakeup._writer))
        wakeup.poke()
    assert is_readable(wakeup)
    wakeup.drain()
    assert not is_readable(wakeup)


def test_once_closed_nothing_happens(wakeup: Wakeup) -> None:
    wakeup.close()
    wakeup.close()
    wakeup.poke()
    wakeup.drain()
    assert wakeup.fileno() == -1


def test_a_forked_child_closes_its_descriptors(wakeup: Wakeup) -> None:
    wakeup.close_after_fork()
    assert wakeup.fileno() == -1
    wakeup.poke()


def test_closing_while_others_poke_f25() -> None:
    """F25: a poke never meets a closed descriptor, nor one that is another's by now."""
    failures: list[BaseException] = []
    for _ in range(50):
        wakeup = Wakeup()
        begun = threading.Event()

        def poke(wakeup: Wakeup = wakeup, begun: threading.Event = begun) -> None:
            try:
                for _ in range(200):
                    wakeup.poke()
                    wakeup.drain()
                    begun.set()
            except BaseException as error:  # noqa: BLE001 - looked at below
                failures.append(error)

        thread = threading.Thread(target=poke)
        thread.start()
        assert begun.wait(PATIENCE_SECONDS)
        wakeup.close()
        thread.join()
        wakeup.close()
        assert wakeup.fileno() == -1
    assert failures == []
