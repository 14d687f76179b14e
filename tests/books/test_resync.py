"""When books are asked for again: together, no more often than each interval, and ever more seldom."""

from __future__ import annotations

from coinapi_ws.books.resync import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, Resync


def missing(*keys: str, due: float = 0.0) -> Resync[str]:
    resync: Resync[str] = Resync(2.0)
    for key in keys:
        resync.miss(key, due)
    return resync


def test_nothing_is_asked_for_where_nothing_is_missing() -> None:
    resync = missing()
    assert not resync
    assert resync.take(1e9) == []


def test_books_that_are_due_are_asked_for_together() -> None:
    resync = missing("a", "b", due=1.0)
    resync.miss("c", 1.5)
    assert resync
    assert resync.take(0.9) == []
    assert resync.take(1.0) == ["a", "b"]


def test_a_book_that_is_missed_twice_is_due_as_the_first_time() -> None:
    resync = missing("a", due=1.0)
    resync.miss("a", 0.0)
    resync.miss("a", 9.0)
    assert resync.take(0.9) == []
    assert resync.take(1.0) == ["a"]


def test_between_two_askings_is_the_interval() -> None:
    resync = missing("a")
    assert resync.take(0.0) == ["a"]
    resync.miss("b", 0.1)
    assert resync.take(1.9) == []
    assert resync.take(2.0) == ["b"]


def test_a_book_that_does_not_come_is_asked_for_ever_more_seldom() -> None:
    resync, now, waits = missing("a"), 0.0, []
    assert resync.take(now) == ["a"]
    for _ in range(2000):
        before = now
        while not resync.take(now):
            now += 0.5
        waits.append(now - before)
    assert waits[:6] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert waits[0] == FIRST_RETRY_SECONDS
    assert set(waits[5:]) == {LONGEST_RETRY_SECONDS}


def test_what_was_found_is_asked_for_no_more_and_begins_anew_when_it_is_missed_again() -> None:
    resync = missing("a", "b")
    assert resync.take(0.0) == ["a", "b"]
    resync.forget("a")
    resync.forget("a")
    assert resync.take(5.0) == ["b"]
    resync.forget("b")
    assert not resync
    resync.miss("b", 8.0)
    assert resync.take(8.0) == ["b"]
    assert resync.take(12.9) == []
    assert resync.take(13.0) == ["b"]


def test_what_is_found_before_its_time_costs_no_interval() -> None:
    resync = missing("a", due=1.0)
    resync.forget("a")
    resync.miss("b", 1.5)
    assert resync.take(1.0) == []
    assert resync.take(1.5) == ["b"]


def test_after_a_new_connection_nothing_is_missing() -> None:
    resync = missing("a", "b")
    resync.clear()
    assert not resync
    assert resync.take(100.0) == []
    resync.miss("a", 101.0)
    assert resync.take(101.0) == ["a"]


def test_what_is_postponed_is_due_at_the_next_asking_and_was_not_asked_for() -> None:
    resync = missing("a", "b")
    assert resync.take(0.0) == ["a", "b"]
    resync.postpone(["b"])
    resync.postpone([])
    assert resync.take(1.9) == []
    assert resync.take(2.0) == ["b"]
    resync.forget("a")
    assert resync.take(6.9) == []
    assert resync.take(7.0) == ["b"]


def test_how_often_a_book_was_asked_for_is_known() -> None:
    resync = missing("a")
    assert resync.asked("a") == 0
    for now in (0.0, 100.0):
        assert resync.take(now) == ["a"]
    assert resync.asked("a") == 2
    resync.postpone(["a"])
    assert resync.asked("a") == 1
