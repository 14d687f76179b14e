"""A client lives through anything that a server can do, loses nothing unseen, and leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

import pytest
from chaos import MAX_MESSAGE_BYTES, WANTED, Chaos
from footprint import Footprint, footprint
from ledger import Ledger
from sums import check_stats, check_sums, told_sums

from coinapi_ws import Backoff, Client, ClientState, Event, Message, Pacer

SECONDS: Final = 600.0
#: Nothing that is to come back takes that long.
PATIENCE_SECONDS: Final = 30.0
#: After this part of the run all caches are warm.
WARM_UP_PART: Final = 0.2
MOST_GROWTH_BYTES: Final = 10 * 2**20
MAX_QUEUED_MESSAGES: Final = 100
_POLL_SECONDS: Final = 0.02


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The books, with what all simulators from here on write."""
    ledger = Ledger()
    ledger.install(monkeypatch)
    return ledger


@pytest.fixture
def chaos(ledger: Ledger, seed: int, canary_key: str) -> Iterator[Chaos]:
    with closing(Chaos(seed, ledger, api_keys=[canary_key])) as chaos:
        yield chaos


@pytest.fixture
def client(chaos: Chaos, ledger: Ledger, canary_key: str) -> Iterator[Client]:
    """A client that gives up early and comes back soon, so that much happens."""
    client = Client(
        canary_key,
        WANTED,
        endpoint=f"ws://127.0.0.1:{chaos.port}/v1/",
        pacer=Pacer(),
        jwt=ledger.token,
        keep_raw=True,
        max_queued_messages=MAX_QUEUED_MESSAGES,
        backoff=Backoff(initial=0.05, maximum=0.5, reset_after=2.0, slow_minimum=0.1),
        open_timeout=1.2,
        live_timeout=1.5,
        silence_timeout=1.5,
        close_timeout=0.5,
        ping_interval=0.7,
        ping_timeout=1.5,
        max_message_bytes=MAX_MESSAGE_BYTES,
        receive_buffer_bytes=16 * 1024,
    )
    client.on(Message, ledger.take)
    client.on(Event, ledger.take)
    client.on(Message, chaos.dawdler)
    yield client
    client.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
        time.sleep(_POLL_SECONDS)


def settle(chaos: Chaos, client: Client, ledger: Ledger) -> Footprint:
    """Come to rest with one sound connection, and measure."""
    chaos.calm()
    # What was written before may be such that the connection ends once it is read.
    written = ledger.counts["written"]
    wait_until(
        lambda: client.state is ClientState.LIVE and ledger.has_one_sound_connection(written),
        "one connection, which is sound and live",
    )
    return footprint()


def rage(chaos: Chaos, client: Client, ledger: Ledger, seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    """Let one thing happen after the other; mostly, but not always, once the client is back."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not ledger.disagreements:
        chaos.step()
        if chaos.random.random() < 0.8:
            wait_until(lambda: client.state is ClientState.LIVE, "the client is live again")
        caplog.clear()  # pytest keeps every record


def test_every_message_is_delivered_or_told_missing_and_nothing_grows(
    chaos: Chaos,
    client: Client,
    ledger: Ledger,
    seed: int,
    lasting: Callable[[float], float],
    report: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """F5 to F9, F12: dropped, stalled, refused, starved, restarted, at random by seed."""
    seconds = lasting(SECONDS)
    client.start()
    began = time.monotonic()
    rage(chaos, client, ledger, seconds * WARM_UP_PART, caplog)
    before = settle(chaos, client, ledger)
    rage(chaos, client, ledger, seconds * (1 - WARM_UP_PART), caplog)
    after = settle(chaos, client, ledger)
    took = time.monotonic() - began

    chaos.hush()
    wait_until(lambda: ledger.outstanding == 0, "all that was written is delivered or covered")
    ledger.is_closing = True
    assert client.close(PATIENCE_SECONDS)
    chaos.close()

    for line in summary(chaos, client, ledger, seed, took):
        report(line)
    report(f"  after warm-up: {before}")
    report(f"  at the end:    {after}")
    for disagreement in ledger.disagreements:
        report(f"  {disagreement}")
    check_sums(ledger)
    check_stats(client.stats(), ledger)
    assert ledger.counts["skipped"] == chaos.frames_lost
    assert chaos.dawdler.times > 0
    assert client.stats().queued_most >= MAX_QUEUED_MESSAGES
    assert (after.threads, after.descriptors) == (before.threads, before.descriptors)
    if before.resident_bytes is not None and after.resident_bytes is not None:
        assert after.resident_bytes - before.resident_bytes < MOST_GROWTH_BYTES


def summary(chaos: Chaos, client: Client, ledger: Ledger, seed: int, seconds: float) -> Iterator[str]:
    counts, stats = ledger.counts, client.stats()
    yield f"chaos, seed {seed}: {seconds:.0f} s, {sum(ledger.cuts.values())} attempts, {counts['Live']} went live"
    yield "  done: " + ", ".join(f"{count} {name}" for name, count in sorted(chaos.done.items()))
    for kind, count in ledger.cuts.most_common():
        yield f"  {count:6} ended: {kind}"
    yield from told_sums(ledger)
    yield f"  {chaos.dawdler.times} slow callbacks, {stats.queued_most} messages queued at most"
    yield f"  {dict(stats.gaps)}, {sum(stats.jumps.values())} jumps of {len(stats.jumps)} sequences"
