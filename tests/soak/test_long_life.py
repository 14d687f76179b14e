"""Clients that live long, at thousands of messages a second: all is accounted for, and what they take stays flat."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from footprint import Footprint, footprint_of
from long_life import ACTIVITY, WAYS_TO_END, LongLife
from sums import check_stats, check_sums, told_sums

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="measures processes by /proc")

#: All connections end this often, or six times in a shorter run.
RECONNECT_SECONDS: Final = 60.0
MEASURE_SECONDS: Final = 10.0
#: By then ten clients' threads have the memory that malloc keeps for them; in a short run half of it has to do.
WARM_UP_SECONDS: Final = 600.0
#: What the line through the measurements may climb from then on to the end.
MOST_GROWTH_BYTES: Final = 4 * 2**20
#: Half of what the market makes, for machines that do other things as well.
LEAST_RATE: Final = 2_500.0


class Measured(NamedTuple):
    """What both processes took at a time of the run."""

    seconds: float
    clients: Footprint
    server: Footprint


def measure(life: LongLife, seconds: float, every: float) -> Iterator[Measured]:
    """Measure both processes, as long as all is well."""
    began = time.monotonic()
    for number in range(1, int(seconds / every)):
        at = (number + 0.5) * every  # mostly not when the connections end
        while (wait := began + at - time.monotonic()) > 0 and life.is_sound:
            time.sleep(min(wait, 1.0))
        if not life.is_sound:
            return
        yield Measured(at, footprint_of(life.clients_pid), footprint_of(life.server_pid))


def most_open(series: Sequence[Measured]) -> list[int]:
    """Return the most threads and descriptors of the clients' process, and of the server's."""
    footprints = [footprint for measured in series for footprint in (measured.clients, measured.server)]
    counts = [(each.threads, each.descriptors or 0) for each in footprints]
    return [max(count[n] for count in counts[process::2]) for process in (0, 1) for n in (0, 1)]


def growth_bytes(series: Sequence[Measured], resident: Callable[[Measured], int | None]) -> float:
    """Fit a line to the resident memory, and return how much it climbs."""
    seconds = [measured.seconds for measured in series]
    slope = statistics.linear_regression(seconds, [resident(measured) or 0 for measured in series]).slope
    return slope * (seconds[-1] - seconds[0])


def told_memory(name: str, series: Sequence[Measured], resident: Callable[[Measured], int | None]) -> str:
    """Say how the memory of a process went."""
    mib = [(resident(measured) or 0) / 2**20 for measured in series]
    growth = growth_bytes(series, resident)
    slope = growth / 2**10 / (series[-1].seconds - series[0].seconds) * 3600
    tenths = " ".join(f"{mib[n * (len(mib) - 1) // 10]:.1f}" for n in range(11))
    return (
        f"  {name}: {min(mib):.1f} to {max(mib):.1f} MiB resident in {len(mib)} measurements, fitted"
        f" {growth / 2**10:+.0f} KiB ({slope:+.0f} KiB an hour); from tenth to tenth of the time {tenths}"
    )


def of_clients(measured: Measured) -> int | None:
    return measured.clients.resident_bytes


def of_server(measured: Measured) -> int | None:
    return measured.server.resident_bytes


def live(clients: int, seconds: float, seed: int, key: str, report: Callable[[str], None]) -> None:
    """Run so many clients for so long, and check all."""
    every = min(RECONNECT_SECONDS, seconds / 6)
    with LongLife(seed, key, clients, seconds, every) as life:
        life.wait_until(lambda ledger: ledger.counts["Live"] > 0, "all are live")
        began = time.monotonic()
        series = list(measure(life, seconds, min(MEASURE_SECONDS, every / 4)))
        took, delivered = time.monotonic() - began, sum(ledger.counts["delivered"] for ledger in life.ledgers)
        if life.is_sound:
            life.end()
    rate = delivered / took
    report(
        f"{clients} clients, seed {seed}, {platform.python_implementation()} {platform.python_version()}: {took:.0f} s,"
        f" {rate:.0f} messages a second ({ACTIVITY:g} times the usual market)"
    )
    for number, ledger in enumerate(life.ledgers, 1):
        live_count, most = ledger.counts["Live"], life.stats[number - 1].queued_most if life.stats else -1
        report(f"  client {number}: {live_count} connections live, {most} messages queued at most")
        for line in (*told_sums(ledger), *(f"  {count:4} ended: {kind}" for kind, count in ledger.cuts.most_common())):
            report(f"  {line}")
        for disagreement in ledger.disagreements:
            report(f"    {disagreement}")
    assert [d for ledger in life.ledgers for d in ledger.disagreements] == []
    assert len(life.stats) == clients
    warm = [measured for measured in series if measured.seconds >= min(WARM_UP_SECONDS, seconds / 2)]
    report(told_memory("clients", warm, of_clients))
    report(told_memory("server", warm, of_server))
    halves = most_open(warm[: len(warm) // 2]), most_open(warm[len(warm) // 2 :])
    report(f"  most threads and descriptors of clients, and of the server, in both halves: {halves}")

    for stats, ledger in zip(life.stats, life.ledgers, strict=True):
        check_sums(ledger)
        check_stats(stats, ledger)
        assert ledger.counts["skipped, told by sequence gaps"] > 0
        # Those of all ways: on a machine that is too slow for the market its time goes slower, too.
        assert ledger.counts["Live"] > WAYS_TO_END
    assert sum(ledger.counts["skipped"] for ledger in life.ledgers) == life.frames_lost
    assert halves[0] == halves[1]
    assert growth_bytes(warm, of_clients) < MOST_GROWTH_BYTES
    assert rate > LEAST_RATE


def test_a_client_for_an_hour(
    lasting: Callable[[float], float], seed: int, canary_key: str, report: Callable[[str], None]
) -> None:
    """A reconnect each minute, in five ways by turns."""
    live(1, lasting(3600.0), seed, canary_key, report)


def test_ten_clients_in_one_process_for_ten_minutes(
    lasting: Callable[[float], float], seed: int, canary_key: str, report: Callable[[str], None]
) -> None:
    """After a warm-up as long. Each has a symbol of its own, so that together they have what the one has."""
    live(10, lasting(2 * WARM_UP_SECONDS), seed, canary_key, report)
