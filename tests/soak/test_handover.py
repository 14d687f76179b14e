"""Two servers hand one client back and forth: one stream comes of it, nothing is in it twice, or missing untold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from random import Random
from typing import Final, TypeAlias

import pytest
from chaos import SYMBOL_IDS, WANTED, Dawdler
from footprint import Footprint, footprint
from reference import Reference

from coinapi_ws import Backoff, Client, Event, Message, Pacer
from coinapi_ws.simulator import Simulator

PATIENCE_SECONDS: Final = 30.0
SECONDS: Final = 120.0
WARM_UP_PART: Final = 0.3
MOST_GROWTH_BYTES: Final = 10 * 2**20
ACTIVITY: Final = 10.0
_POLL_SECONDS: Final = 0.02
#: A socket that is still to be closed is closed by then.
_SETTLED_SECONDS: Final = 0.5


Turn: TypeAlias = "Callable[[Pair, Reference, Random], None]"


class Pair:
    """Two servers of one market; the client is at the first one's address, whichever of them serves it."""

    def __init__(self, seed: int, start_ns: int, canary_key: str) -> None:
        self.servers = [
            Simulator(
                seed=seed,
                market_start_ns=start_ns,
                activity=ACTIVITY,
                api_keys=[canary_key],
                ping_interval=0.4,
                pong_timeout=5.0,
                heartbeat_interval=0.3,
            )
            for _ in range(2)
        ]
        self.serving = 0

    def announce(self, within_seconds: int) -> None:
        """Let the other one take over."""
        old, new = self.servers[self.serving], self.servers[1 - self.serving]
        if self.serving == 1:
            new.announce_reconnect(0)  # it has no client to tell; its address is its own again
        old.announce_reconnect(within_seconds, successor=new)
        self.serving = 1 - self.serving


@pytest.fixture
def start_ns() -> int:
    return time.time_ns()


@pytest.fixture
def pair(seed: int, start_ns: int, canary_key: str) -> Iterator[Pair]:
    pair = Pair(seed, start_ns, canary_key)
    with ExitStack() as stack:
        for server in pair.servers:
            stack.enter_context(server)
        yield pair


@pytest.fixture
def reference(seed: int, start_ns: int) -> Reference:
    return Reference(seed, start_ns, ACTIVITY, SYMBOL_IDS)


@pytest.fixture
def client(pair: Pair, reference: Reference, seed: int, canary_key: str) -> Iterator[Client]:
    client = Client(
        canary_key,
        WANTED,
        endpoint=pair.servers[0].url,
        pacer=Pacer(),
        on_reconnect_notice="handover",
        numbers="decimal",
        max_queued_messages=500,
        backoff=Backoff(initial=0.05, maximum=0.2, slow_minimum=0.1),
    )
    client.on(Message, reference.take)
    client.on(Event, reference.take)
    client.on(Message, Dawdler(seed))
    yield client
    client.close()


def hand_over(pair: Pair, reference: Reference, random: Random) -> None:
    """Let the other server take over, and wait until it has."""
    wanted = reference.handovers + 1
    pair.announce(random.choice([2, 2, 3]))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while reference.handovers < wanted and not reference.disagreements:
        assert time.monotonic() < deadline, "the client was not handed over"
        time.sleep(_POLL_SECONDS)


def hand_over_and_cut(pair: Pair, reference: Reference, random: Random) -> None:
    """Let the other server take over, and cut one of the two connections before, meanwhile or after."""
    within = random.choice([1, 1, 2, 3])
    pair.announce(within)
    time.sleep(random.uniform(0, within + 0.5))
    random.choice(pair.servers).faults.drop(reset=random.random() < 0.5)
    time.sleep(within + 0.5)  # the announced end has come


def go_back_and_forth(
    turn: Turn, pair: Pair, reference: Reference, random: Random, seconds: float, log: pytest.LogCaptureFixture
) -> Footprint:
    """Take turn after turn, with servers of which one is behind the other; measure in the end."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not reference.disagreements:
        for server in pair.servers:
            server.faults.delay(random.choice([0.0, 0.0, random.uniform(0.0, 0.4)]))
        turn(pair, reference, random)
        if random.random() < 0.7:
            for server in pair.servers:
                server.faults.clear()
        time.sleep(random.uniform(0.0, 1.5))
        log.clear()  # pytest keeps every record
    for server in pair.servers:
        server.faults.clear()
    return settle(pair)


def settle(pair: Pair) -> Footprint:
    """Measure, once one connection alone is left."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    measured = footprint()
    while True:
        time.sleep(_SETTLED_SECONDS)
        before, measured = measured, footprint()
        if sum(server.connections for server in pair.servers) == 1 and before.descriptors == measured.descriptors:
            return measured
        assert time.monotonic() < deadline, "more than one connection is left"


def check_turns(
    turn: Turn,
    pair: Pair,
    client: Client,
    reference: Reference,
    seed: int,
    seconds: float,
    report: Callable[[str], None],
    log: pytest.LogCaptureFixture,
) -> None:
    random = Random(seed)
    client.start()
    assert client.wait_live(PATIENCE_SECONDS)
    before = go_back_and_forth(turn, pair, reference, random, seconds * WARM_UP_PART, log)
    after = go_back_and_forth(turn, pair, reference, random, seconds * (1 - WARM_UP_PART), log)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (missing := reference.missing_trades()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    assert client.close(PATIENCE_SECONDS)

    counts, stats = reference.counts, client.stats()
    report(f"{turn.__name__}, seed {seed}: {seconds:.0f} s, {reference.handovers} handovers, {dict(stats.gaps)}")
    report(
        f"  {counts['messages']} messages delivered, {counts['trades']} of them trades, {counts['snapshots']} snapshots"
        f"; {counts['duplicates']} duplicates kept back, {counts['books compared']} books compared with the market"
    )
    report(f"  after warm-up: {before}")
    report(f"  at the end:    {after}")
    for disagreement in (*reference.disagreements, *missing):
        report(f"  {disagreement}")
    assert reference.disagreements == []
    assert missing == []
    assert reference.handovers > 0
    assert counts["trades"] > 0
    assert counts["books compared"] > 0
    assert (stats.delivered, stats.dropped) == (counts["messages"], 0)
    assert (after.threads, after.descriptors) == (before.threads, before.descriptors)
    if before.resident_bytes is not None and after.resident_bytes is not None:
        assert after.resident_bytes - before.resident_bytes < MOST_GROWTH_BYTES


def test_trades_come_once_and_books_never_go_back_over_many_handovers(
    pair: Pair,
    client: Client,
    reference: Reference,
    seed: int,
    lasting: Callable[[float], float],
    report: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    seconds = lasting(SECONDS)
    check_turns(hand_over, pair, client, reference, seed, seconds, report, caplog)
    stats = client.stats()
    assert (stats.reconnects, dict(stats.gaps)) == (reference.handovers, {})
    assert reference.counts["Disconnected"] == reference.handovers + 1


def test_what_is_missing_where_handovers_are_cut_is_told(
    pair: Pair,
    client: Client,
    reference: Reference,
    seed: int,
    lasting: Callable[[float], float],
    report: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    reference.may_be_cut = True
    seconds = lasting(SECONDS)
    check_turns(hand_over_and_cut, pair, client, reference, seed, seconds, report, caplog)
