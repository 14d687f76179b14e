"""What a client said must add up to what its servers wrote."""

from __future__ import annotations

from collections.abc import Iterator

from ledger import Ledger

from coinapi_ws import ClientStats


def check_sums(ledger: Ledger) -> None:
    """Each message is in one place, nothing is left, and nothing was wrong on the way."""
    counts = ledger.counts
    assert ledger.disagreements == []
    assert counts["written"] == (
        counts["delivered"]
        + counts["covered by connection gaps"]
        + counts["written too late"]
        + counts["written to nobody"]
        + counts["left over at the close"]
    )
    assert counts["skipped"] == (
        counts["skipped, told by sequence gaps"]
        + counts["skipped, counted as jumps"]
        + counts["skipped, covered by connection gaps"]
    )
    assert ledger.outstanding == ledger.open_wires == 0


def check_stats(stats: ClientStats, ledger: Ledger) -> None:
    """What a client that is closed has counted is what was entered."""
    counts = ledger.counts
    assert stats.delivered == counts["messages"]
    assert stats.undelivered == counts["left over at the close"]
    assert (stats.dropped, stats.conflated, stats.unhandled, stats.surplus, stats.queued) == (0, 0, 0, 0, 0)
    assert stats.reconnects == counts["Live"] - 1
    assert dict(stats.gaps) == {name: counts[name] for name in ("SequenceGap", "ConnectionGap") if counts[name]}
    assert dict(stats.jumps) == dict(ledger.jumps)
    assert sum(stats.messages.values()) == counts["delivered"] + stats.undelivered
    assert stats.callback_failures == 0


def told_sums(ledger: Ledger) -> Iterator[str]:
    """Say what became of the messages."""
    counts = ledger.counts
    yield (
        f"  {counts['written']} messages written = {counts['delivered']} delivered"
        f" + {counts['covered by connection gaps']} covered by {counts['ConnectionGap']} connection gaps"
        f" + {counts['written too late']} written to connections that the client had left, after their successors began"
        f" + {counts['written to nobody']} errors and notices before a hello"
        f" + {counts['left over at the close']} left over at the close"
    )
    yield (
        f"  {counts['skipped']} messages skipped = {counts['skipped, told by sequence gaps']} told by sequence gaps"
        f" + {counts['skipped, counted as jumps']} counted as jumps"
        f" + {counts['skipped, covered by connection gaps']} covered by connection gaps;"
        f" {counts['SequenceGap']} sequence gaps, those of repetitions included"
    )
