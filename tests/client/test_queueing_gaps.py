"""Jumps of states, which all are told with all_sequence_gaps, in a queue that conflates states."""

from __future__ import annotations

from builders import BTC, quote

from coinapi_ws import Dropped, SequenceGap
from coinapi_ws.client.queueing import CONFLATE, DeliveryQueue


def test_the_jumps_of_a_state_become_one_as_its_messages_do_f12() -> None:
    """F12: else each would stay, though no message is left of most."""
    queue = DeliveryQueue(CONFLATE, 8, 1_000_000, lambda: None)
    for number in range(0, 200, 2):
        gap = SequenceGap(type="quote", symbol_id=BTC, expected=number + 1, received=number + 2)
        queue.put([gap, quote(number % 60, sequence=number + 2)], 10)
    items = queue.take(1000, timeout=0) or []
    gaps = [item for item in items if isinstance(item, SequenceGap)]
    assert len(items) < 20
    assert (gaps[0].expected, gaps[-1].received) == (1, 200)
    assert sum(item.count for item in items if isinstance(item, Dropped)) == queue.conflated
