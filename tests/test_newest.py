"""What is kept of what one thread notes and another looks at."""

from __future__ import annotations

import threading

from coinapi_ws.newest import Newest


def test_the_newest_are_kept_and_memory_is_bounded() -> None:
    newest: Newest[int] = Newest(3)
    assert newest.items() == []
    for number in range(100):
        newest.append(number)
        assert newest.items() == list(range(max(0, number - 2), number + 1))
        assert len(newest._kept) < 6


def test_another_thread_may_look_meanwhile() -> None:
    """A free-threaded interpreter refuses to copy a deque that grows."""
    newest: Newest[int] = Newest(1000)
    is_over = threading.Event()

    def note() -> None:
        for number in range(50_000):
            newest.append(number)
        is_over.set()

    thread = threading.Thread(target=note)
    thread.start()
    while not is_over.is_set():
        items = newest.items()
        begin = items[0] if items else 0
        assert items == list(range(begin, begin + len(items)))
    thread.join()
    assert newest.items() == list(range(49_000, 50_000))
