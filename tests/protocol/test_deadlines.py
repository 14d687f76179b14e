"""Named deadlines, and those that stand still while nothing is read."""

from __future__ import annotations

import pytest

from coinapi_ws.protocol.deadlines import Deadlines

STANDING = ("live", "silence", "pong")
RUNNING = ("upgrade", "close", "scope", "ping")


@pytest.fixture
def deadlines() -> Deadlines:
    return Deadlines()


def test_without_any_nothing_is_due(deadlines: Deadlines) -> None:
    assert deadlines.next() is None
    assert deadlines.due(1e9) == []


def test_one_that_stands_is_moved_and_no_other(deadlines: Deadlines) -> None:
    deadlines.set("silence", 3)
    deadlines.move("silence", 8)
    deadlines.move("ping", 5)
    assert deadlines.next() == 8
    assert deadlines.due(9) == ["silence"]


def test_the_earliest_is_next_and_all_that_have_passed_are_due(deadlines: Deadlines) -> None:
    deadlines.set("ping", 5)
    deadlines.set("silence", 3)
    deadlines.set("scope", 9)
    assert deadlines.next() == 3
    assert deadlines.due(2.9) == []
    assert sorted(deadlines.due(5)) == ["ping", "silence"]
    assert deadlines.next() == 3  # asking changes nothing


def test_one_can_be_moved_dropped_and_all_forgotten(deadlines: Deadlines) -> None:
    deadlines.set("ping", 5)
    deadlines.set("ping", 7)
    assert deadlines.next() == 7
    deadlines.drop("ping")
    deadlines.drop("ping")
    assert deadlines.next() is None
    deadlines.set("ping", 5)
    deadlines.set("close", 6)
    assert deadlines.due(9) == ["ping", "close"]
    deadlines.clear()
    assert deadlines.due(9) == []
    assert deadlines.due(1e9) == []


@pytest.mark.parametrize("name", STANDING)
def test_what_the_server_does_is_not_counted_while_paused(deadlines: Deadlines, name: str) -> None:
    deadlines.set(name, 110)
    deadlines.pause(100)
    assert deadlines.next() is None
    assert deadlines.due(1e9) == []
    assert deadlines.resume(500) == 400
    assert deadlines.next() == 510


@pytest.mark.parametrize("name", RUNNING)
def test_what_we_do_and_whole_ends_go_on_while_paused(deadlines: Deadlines, name: str) -> None:
    deadlines.set(name, 110)
    deadlines.pause(100)
    assert deadlines.next() == 110
    assert deadlines.due(110) == [name]
    assert deadlines.resume(500) == 400
    assert deadlines.next() == 110


def test_pausing_and_resuming_are_idempotent(deadlines: Deadlines) -> None:
    deadlines.set("silence", 110)
    assert deadlines.resume(50) == 0
    deadlines.pause(100)
    deadlines.pause(105)
    assert deadlines.resume(107) == 7
    assert deadlines.resume(200) == 0
    assert deadlines.next() == 117


def test_pauses_add_up(deadlines: Deadlines) -> None:
    deadlines.set("silence", 110)
    for begin, end in ((100, 101), (102, 104)):
        deadlines.pause(begin)
        assert deadlines.resume(end) == end - begin
    assert deadlines.next() == 113


def test_one_that_is_set_meanwhile_does_not_come_early(deadlines: Deadlines) -> None:
    deadlines.pause(100)
    deadlines.set("pong", 130)
    assert deadlines.next() is None
    deadlines.resume(120)
    assert deadlines.next() is not None
    assert deadlines.next() >= 130  # type: ignore[operator]


def test_one_that_is_dropped_meanwhile_does_not_come_back(deadlines: Deadlines) -> None:
    deadlines.set("pong", 110)
    deadlines.pause(100)
    deadlines.drop("pong")
    deadlines.resume(120)
    assert deadlines.next() is None
