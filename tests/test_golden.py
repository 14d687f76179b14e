"""A real exchange feed, through real sockets, against books and totals that were computed independently."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from coinapi_ws import Book, Gap, Message, Quote, Subscription, Trade, connect
from coinapi_ws.recording import read_recording
from coinapi_ws.simulator import Simulator

Side = dict[Decimal, Decimal]


class Ledger:
    """Books and trades as a user would keep them, with nothing but the messages' own fields."""

    def __init__(self) -> None:
        self.asks: dict[str, Side] = defaultdict(dict)
        self.bids: dict[str, Side] = defaultdict(dict)
        self.book_sequence: dict[str, int] = {}
        self.trades: Counter[str] = Counter()
        self.traded: dict[str, Decimal] = defaultdict(Decimal)

    def take(self, message: Message) -> None:
        if isinstance(message, Trade):
            assert message.symbol_id is not None
            assert isinstance(message.size, Decimal)
            self.trades[message.symbol_id] += 1
            self.traded[message.symbol_id] += message.size
        elif isinstance(message, Book):
            assert message.symbol_id is not None
            assert message.sequence is not None
            self.book_sequence[message.symbol_id] = message.sequence
            for side, levels in ((self.asks, message.asks), (self.bids, message.bids)):
                if message.is_snapshot:
                    side[message.symbol_id] = {}
                for price, size in levels:
                    assert isinstance(price, Decimal)
                    assert isinstance(size, Decimal)
                    side[message.symbol_id].pop(price, None)
                    if size:
                        side[message.symbol_id][price] = size

    def summary(self, symbol_id: str) -> dict[str, Any]:
        asks = sorted(self.asks[symbol_id].items())
        bids = sorted(self.bids[symbol_id].items(), reverse=True)
        return {
            "ask_levels": len(asks),
            "bid_levels": len(bids),
            "best_asks": [[str(price), str(size)] for price, size in asks[:10]],
            "best_bids": [[str(price), str(size)] for price, size in bids[:10]],
            "ask_size": str(sum(size for _, size in asks)),
            "bid_size": str(sum(size for _, size in bids)),
            "trades": self.trades[symbol_id],
            "traded": str(self.traded[symbol_id]),
            "book_sequence": self.book_sequence[symbol_id],
        }


@pytest.fixture(scope="module")
def golden(shared: Path) -> Any:
    return json.loads((shared / "recordings" / "coinbase_2021-04-17.golden.json").read_text())


@pytest.fixture(scope="module")
def recording(shared: Path) -> Path:
    return shared / "recordings" / "coinbase_2021-04-17.jsonl.gz"


def test_a_recorded_market_arrives_whole_and_its_books_equal_the_golden_file(
    recording: Path, golden: Any, canary_key: str
) -> None:
    everything = Subscription(["trade", "quote", "book"], symbol_ids=["COINBASE_"])
    ledger, types, raw, gaps = Ledger(), Counter[str](), [], []
    with (
        Simulator(recording=recording, speed=None) as simulator,
        connect(canary_key, everything, endpoint=simulator.url, numbers="decimal", keep_raw=True) as stream,
    ):
        for item in stream:
            if isinstance(item, Gap):
                gaps.append(item)
                continue
            assert isinstance(item, (Trade, Quote, Book))
            types[item.type] += 1
            raw.append(item.raw)
            ledger.take(item)
        stats = stream.stats()

    assert raw == [frame.frame for frame in read_recording(recording)]
    assert len(raw) == 9943
    assert dict(types) == golden["frames"]
    assert gaps == []
    assert stats.jumps == {}
    assert {symbol: ledger.summary(symbol) for symbol in ledger.book_sequence} == golden["symbols"]


def test_a_frame_that_is_missing_is_told_from_the_golden_feed(recording: Path, tmp_path: Path, canary_key: str) -> None:
    """The same feed with one delta cut out: the gap is reported at its place, so the test above can fail."""
    lines = [(frame.received_ns, frame.frame) for frame in read_recording(recording)]
    cut = next(i for i, (_, text) in enumerate(lines) if '"is_snapshot":false' in text and '"sequence":50,' in text)
    lost = json.loads(lines.pop(cut)[1])
    shorter = tmp_path / "cut.jsonl"
    shorter.write_text("".join(json.dumps({"received_ns": ns, "frame": text}) + "\n" for ns, text in lines))
    books = Subscription(["book"], symbol_ids=["COINBASE_"])
    with (
        Simulator(recording=shorter, speed=None) as simulator,
        connect(canary_key, books, endpoint=simulator.url) as stream,
    ):
        gaps = [item for item in stream if isinstance(item, Gap)]
    assert [(gap.symbol_id, gap.expected, gap.received) for gap in gaps] == [(lost["symbol_id"], 50, 51)]  # type: ignore[attr-defined]
