"""What waits for one client, piece by piece: its order, its times, and that it is counted rightly."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coinapi_ws.simulator.behaviour import SOUND, Behaviour
from coinapi_ws.simulator.outgoing import Outgoing
from coinapi_ws.simulator.wire import NEVER_NS

ALL = 1 << 20


def filled(*contents: bytes, goes_on: bool = False) -> Outgoing:
    """Messages of one piece, or one message in pieces, that wait since time 0."""
    outgoing = Outgoing()
    for number, content in enumerate(contents, 1):
        is_last = number == len(contents)
        has_more = goes_on and not is_last
        outgoing.add(content, 0 if has_more else 1, 0, goes_on=has_more)
    return outgoing


def counted(outgoing: Outgoing) -> tuple[int, int]:
    return outgoing.bytes, outgoing.messages


def test_nothing_waits_at_first() -> None:
    outgoing = Outgoing()
    assert not outgoing
    assert counted(outgoing) == (0, 0)
    assert outgoing.due_ns(SOUND) == outgoing.due_ns(Behaviour(delay_ns=5)) == NEVER_NS
    assert outgoing.take(100, ALL, SOUND) == b""
    outgoing.discard()
    outgoing.clear()
    assert counted(outgoing) == (0, 0)


def test_a_piece_of_nothing_does_not_wait() -> None:
    outgoing = Outgoing()
    outgoing.add(b"", 1, 0)
    assert not outgoing
    assert counted(outgoing) == (0, 0)


def test_whole_pieces_are_taken_up_to_the_limit_and_one_at_least() -> None:
    outgoing = filled(b"aaaa", b"bbbb", b"c", b"dddddddddd")
    assert outgoing.due_ns(SOUND) == 0
    assert outgoing.take(0, 9, SOUND) == b"aaaabbbbc"
    assert counted(outgoing) == (10, 1)
    assert outgoing.take(0, 9, SOUND) == b"dddddddddd"
    assert counted(outgoing) == (0, 0)


def test_what_is_delayed_waits_and_counts_until_its_time() -> None:
    late = Behaviour(delay_ns=10)
    outgoing = filled(b"first")
    outgoing.add(b"second", 1, 4)
    assert outgoing.due_ns(late) == 10
    assert outgoing.take(9, ALL, late) == b""
    assert counted(outgoing) == (11, 2)
    assert outgoing.take(13, ALL, late) == b"first"
    assert outgoing.due_ns(late) == 14
    assert outgoing.take(13, ALL, late) == b""
    assert outgoing.take(14, ALL, late) == b"second"
    assert counted(outgoing) == (0, 0)


def test_without_the_delay_all_is_due_at_once() -> None:
    outgoing = filled(b"first", b"second")
    assert outgoing.take(1, ALL, Behaviour(delay_ns=10)) == b""
    assert outgoing.due_ns(SOUND) <= 1
    assert outgoing.take(1, ALL, SOUND) == b"firstsecond"


def test_chunks_are_due_one_after_another_however_late_they_are_asked_for() -> None:
    split = Behaviour(chunk_bytes=2, chunk_interval_ns=10)
    outgoing = filled(b"abcde")
    assert outgoing.take(3, ALL, split) == b"ab"
    assert (counted(outgoing), outgoing.due_ns(split)) == ((3, 1), 10)
    assert outgoing.take(9, ALL, split) == b""
    assert outgoing.take(25, ALL, split) == b"cd"
    assert outgoing.take(25, ALL, split) == b"e"
    assert counted(outgoing) == (0, 0)


def test_without_chunks_the_rest_of_a_piece_comes_first() -> None:
    outgoing = filled(b"abcde", b"next")
    assert outgoing.take(0, ALL, Behaviour(chunk_bytes=2, chunk_interval_ns=10)) == b"ab"
    assert outgoing.take(0, ALL, SOUND) == b"cde"
    assert outgoing.take(0, ALL, SOUND) == b"next"


@pytest.mark.parametrize("behaviour", [SOUND, Behaviour(delay_ns=5), Behaviour(chunk_bytes=1)])
def test_nothing_is_left_of_what_was_not_begun(behaviour: Behaviour) -> None:
    outgoing = filled(b"a", b"bbb", b"ccc")
    assert outgoing.take(5, 1, behaviour) == b"a"
    outgoing.discard()
    assert not outgoing
    assert counted(outgoing) == (0, 0)


def test_the_rest_of_a_message_that_was_begun_stays() -> None:
    outgoing = filled(b"head", b"middle", b"tail", goes_on=True)
    outgoing.add(b"another", 1, 0)
    assert counted(outgoing) == (21, 2)
    assert outgoing.take(0, 1, SOUND) == b"head"
    outgoing.discard()
    assert counted(outgoing) == (10, 1)
    outgoing.add(b"and the Close", 0, 0)
    assert outgoing.take(0, ALL, SOUND) == b"middletailand the Close"
    assert counted(outgoing) == (0, 0)


def test_the_rest_of_a_piece_that_was_begun_stays() -> None:
    outgoing = filled(b"abcde", b"another")
    assert outgoing.take(0, ALL, Behaviour(chunk_bytes=2)) == b"ab"
    outgoing.discard()
    assert counted(outgoing) == (3, 1)
    assert outgoing.take(0, ALL, SOUND) == b"cde"
    assert not outgoing


def test_cleared_is_also_what_was_begun() -> None:
    outgoing = filled(b"abcde", b"another")
    assert outgoing.take(0, ALL, Behaviour(chunk_bytes=2)) == b"ab"
    outgoing.clear()
    assert not outgoing
    assert counted(outgoing) == (0, 0)
    assert outgoing.take(0, ALL, SOUND) == b""


class Waiting(NamedTuple):
    """One byte as the model keeps it."""

    value: int
    queued_ns: int
    piece: int
    message: int


class Against(RuleBasedStateMachine):
    """The queue beside a list of single bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.outgoing = Outgoing()
        self.behaviour = SOUND
        self.now_ns = 0
        self.bytes: list[Waiting] = []
        #: How many messages end with each piece.
        self.ends: list[int] = []
        self.message = 0
        #: The message whose byte was taken last.
        self.begun: int | None = None
        self.has_begun_piece = False
        self.last_due_ns = -NEVER_NS
        self.value = 0

    @rule(size=st.integers(1, 12), messages=st.integers(0, 3), goes_on=st.booleans())
    def add(self, size: int, messages: int, goes_on: bool) -> None:
        content = bytes((self.value + n) % 256 for n in range(size))
        self.value += size
        self.outgoing.add(content, messages, self.now_ns, goes_on=goes_on)
        self.bytes += [Waiting(value, self.now_ns, len(self.ends), self.message) for value in content]
        self.ends.append(messages)
        self.message += not goes_on

    @rule(ns=st.integers(1, 20))
    def wait(self, ns: int) -> None:
        self.now_ns += ns

    @rule(
        behaviour=st.builds(
            Behaviour,
            delay_ns=st.sampled_from([0, 0, 7]),
            chunk_bytes=st.sampled_from([0, 1, 3]),
            chunk_interval_ns=st.sampled_from([0, 4]),
        )
    )
    def behave(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    @rule(limit=st.integers(1, 20))
    def take(self, limit: int) -> None:
        due_ns = self.due_ns()
        size = self.expected_size(limit, due_ns)
        taken = self.outgoing.take(self.now_ns, limit, self.behaviour)
        assert list(taken) == [each.value for each in self.bytes[:size]]
        if size:
            if self.behaviour.shapes_bytes or self.has_begun_piece:
                self.last_due_ns = due_ns
            last = self.bytes[size - 1]
            self.begun = last.message
            self.has_begun_piece = any(each.piece == last.piece for each in self.bytes[size:])
            del self.bytes[:size]

    @rule()
    def discard(self) -> None:
        self.outgoing.discard()
        self.bytes = [each for each in self.bytes if each.message == self.begun]

    def teardown(self) -> None:
        """Whatever was asked for before, in the end all comes, and in order."""
        self.behaviour = SOUND
        self.now_ns += 1000
        while self.bytes:
            self.take(5)
        assert counted(self.outgoing) == (0, 0)

    def due_ns(self) -> int:
        if not self.bytes:
            return NEVER_NS
        return max(
            self.bytes[0].queued_ns + self.behaviour.delay_ns, self.last_due_ns + self.behaviour.chunk_interval_ns
        )

    def expected_size(self, limit: int, due_ns: int) -> int:
        if not self.bytes:
            return 0
        sizes: dict[int, int] = {}
        for each in self.bytes:
            sizes[each.piece] = sizes.get(each.piece, 0) + 1
        first, *others = sizes.values()
        if self.behaviour.shapes_bytes or self.has_begun_piece:
            return min(first, self.behaviour.chunk_bytes or limit) if due_ns <= self.now_ns else 0
        size = first
        for other in others:
            if size + other > limit:
                break
            size += other
        return size

    @invariant()
    def is_counted_rightly(self) -> None:
        assert bool(self.outgoing) == bool(self.bytes)
        assert self.outgoing.bytes == len(self.bytes)
        assert self.outgoing.messages == sum(self.ends[piece] for piece in {each.piece for each in self.bytes})
        assert self.outgoing.due_ns(self.behaviour) == self.due_ns()


TestAgainstSingleBytes: Any = Against.TestCase
