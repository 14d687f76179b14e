"""The books of a chaos run: every message that the servers wrote, and what became of it.

Each message written is either delivered, in its order and once, or was written after the last delivered one of its
connection and falls into the time of a ``ConnectionGap``. Each message skipped on purpose is told by a ``SequenceGap``
with exactly its numbers, counted as a jump where gaps of its type are not reported, or came after the last delivered
one of its (type, symbol_id) on a connection whose end a ``ConnectionGap`` told.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from wire_tap import Tap, Wire

from coinapi_ws import (
    CallbackFailed,
    Connected,
    ConnectionGap,
    Disconnected,
    Dropped,
    Event,
    Live,
    Message,
    Reconnecting,
    SequenceGap,
    Undecodable,
)
from coinapi_ws.simulator.streams import Stream

Pair = tuple[str, "str | None"]

#: Types of which a jump is reported; of others it is counted.
_STRICT: Final = frozenset({"book", "book_l3"})
_CONVERSATION: Final = frozenset({"heartbeat", "error", "reconnect"})
_TIME: Final = re.compile(r'"time_coinapi":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{7})Z"')
_NUMBERED: Final = re.compile(r'"symbol_id":"(\w+)","sequence":\d+,"type":"(\w+)"\}$')
_MOST_DISAGREEMENTS: Final = 20


@dataclass
class Cut:
    """The time without messages from one delivered one to the next, over as many connections as it took."""

    from_ns: int | None
    to_ns: int | None = None
    is_told: bool = False
    is_over: bool = False
    #: The times of what was written in vain while it is not over.
    written_ns: list[int] = field(default_factory=list)


@dataclass
class Account:
    """One connection: what was written and not delivered yet, and what was skipped and not told yet.

    With each text goes its number among all that were written.
    """

    wire: Wire
    texts: deque[tuple[int, str]] = field(default_factory=deque)
    skipped: dict[Pair, deque[int]] = field(default_factory=dict)
    #: The pairs of which something was written.
    pairs: set[Pair] = field(default_factory=set)
    is_left: bool = False
    cut: Cut | None = None


class Ledger(Tap):
    """Give each attempt of the client a `token`, and `take` every message and event that it delivers."""

    def __init__(self) -> None:
        super().__init__()
        self.disagreements: list[str] = []
        self.counts: Counter[str] = Counter()
        self.delivered_by_type: Counter[str] = Counter()
        self.jumps: Counter[tuple[str, str]] = Counter()
        self.cuts: Counter[str] = Counter()
        self.is_closing = False
        self._delivered_number = 0
        self._tokens = 0
        self._accounts: dict[int, Account] = {}
        self._attempt = 1  # whose messages are delivered now
        self._next: dict[Pair, int] = {}
        self._gap: SequenceGap | None = None  # told, and its message is awaited
        self._last_ns: int | None = None  # of the last message with a time of its own
        self._cut: Cut | None = None

    # The client's side

    def token(self) -> str:
        """Return the next attempt's token; for the client, as its ``jwt``."""
        with self.lock:
            self._tokens += 1
            return f"attempt-{self._tokens}"

    def take(self, item: Message | Event) -> None:
        """Enter what the client delivered."""
        with self.lock:
            if isinstance(item, Message):
                self.counts["messages"] += 1
                self._take_text(item.raw or "")
                self._take_message(item)
            elif isinstance(item, Undecodable):
                self.counts["undecodable"] += 1
                payload = item.payload
                self._take_text(payload if isinstance(payload, str) else payload.decode("utf-8", "surrogateescape"))
            else:
                self._take_event(item)

    # The servers' side

    def opened(self, wire: Wire) -> None:
        assert wire.attempt is not None
        self.counts["upgrade requests"] += 1
        self._accounts[wire.attempt] = Account(wire, is_left=wire.attempt < self._attempt)

    def wrote(self, wire: Wire, text: str) -> None:
        self.counts["written"] += 1
        account = self._account_of(wire)
        if (found := _NUMBERED.search(text)) is not None:
            account.pairs.add((found[2], found[1]))
        if account.is_left:
            self._enter_in_vain(account, text)
        else:
            account.texts.append((self.counts["written"], text))

    def skipped(self, wire: Wire, stream: Stream, sequence: int) -> None:
        self.counts["skipped"] += 1
        account = self._account_of(wire)
        if account.is_left:
            self._enter_skipped_in_vain(account, 1)
        else:
            account.skipped.setdefault((stream.type, stream.symbol_id), deque()).append(sequence)

    def closed(self, wire: Wire) -> None:
        self._forget(wire.attempt)

    # What is known

    @property
    def open_wires(self) -> int:
        """How many connections are not closed on both sides."""
        with self.lock:
            return len(self._accounts)

    def has_one_sound_connection(self, after: int) -> bool:
        """Tell whether there is one alone, and it delivered what was written after so many messages."""
        with self.lock:
            accounts = list(self._accounts.values())
            is_open = len(accounts) == 1 and accounts[0].wire.is_open and not accounts[0].is_left
            return is_open and self._delivered_number > after

    @property
    def outstanding(self) -> int:
        """How many messages were written and neither delivered nor covered so far."""
        with self.lock:
            held = 0 if self._cut is None else len(self._cut.written_ns)
            return held + sum(len(account.texts) for account in self._accounts.values())

    @property
    def awaits_a_message(self) -> bool:
        """Tell whether something that was written to the present connection can be delivered."""
        with self.lock:
            account = self._accounts.get(self._attempt)
            return account is not None and bool(account.texts)

    def wires_with(self, pairs: set[Pair]) -> list[int]:
        """Return the numbers of the connections on which all of these began: what is skipped then can be seen."""
        with self.lock:
            accounts = self._accounts.values()
            return [a.wire.number for a in accounts if not a.is_left and a.wire.is_open and pairs <= a.pairs]

    def disagree(self, what: str) -> None:
        """Take note of something that must not be."""
        self.counts["disagreements"] += 1
        if len(self.disagreements) < _MOST_DISAGREEMENTS:
            self.disagreements.append(f"attempt {self._attempt}: {what}")

    # Messages

    def _take_text(self, text: str) -> None:
        """The next message of a connection is the next one that was written to it."""
        account = self._accounts.get(self._attempt)
        if account is None or not account.texts:
            self.disagree(f"delivered and never written: {text[:300]}")
            return
        self._delivered_number, expected = account.texts.popleft()
        self.counts["delivered"] += 1
        if text != expected:
            self.disagree(f"delivered: {text[:300]}\n    written: {expected[:300]}")

    def _take_message(self, message: Message) -> None:
        self.delivered_by_type[message.type] += 1
        if message.type in _CONVERSATION:
            return
        time_ns = _time_ns(message.raw or "")
        self._end_cut(message.received_ns if time_ns is None else time_ns)
        if time_ns is not None:
            self._last_ns = time_ns
        fields: dict[str, Any] = json.loads(message.raw or "{}")
        if "sequence" in fields:
            self._follow((fields["type"], fields["symbol_id"]), fields["sequence"])
        if self._gap is not None:
            self.disagree(f"a gap that was none: {self._gap}")
            self._gap = None

    def _follow(self, pair: Pair, sequence: int) -> None:
        expected = self._next.get(pair)
        self._next[pair] = sequence + 1
        skipped = self._accounts[self._attempt].skipped.get(pair, deque())
        told, self._gap = self._gap, None
        if expected is None or sequence == expected:
            if told is not None:
                self.disagree(f"a gap that was none, before {pair} {sequence}: {told}")
            if skipped and skipped[0] < sequence:
                self.disagree(f"{pair} {skipped[0]} was skipped, and {sequence} came as if nothing was missing")
            return
        missing = [skipped.popleft() for _ in range(sequence - expected) if skipped and skipped[0] < sequence]
        if missing != list(range(expected, sequence)):
            self.disagree(f"{pair} {expected} to {sequence} is missing, and skipped on purpose was {missing}")
        self.jumps[pair] += 1
        if pair[0] in _STRICT:
            if told is None or (told.type, told.symbol_id, told.expected, told.received) != (*pair, expected, sequence):
                self.disagree(f"{pair} jumped from {expected} to {sequence}, and the client said {told}")
            self.counts["skipped, told by sequence gaps"] += len(missing)
        else:
            if told is not None:
                self.disagree(f"a gap of what has none, {pair} {sequence}: {told}")
            self.counts["skipped, counted as jumps"] += len(missing)

    # Events

    def _take_event(self, event: Event) -> None:
        if isinstance(event, SequenceGap):
            self.counts["SequenceGap"] += 1
            if self._gap is not None:
                self.disagree(f"two gaps before one message: {self._gap}, {event}")
            self._gap = event
        elif isinstance(event, ConnectionGap):
            self.counts["ConnectionGap"] += 1
            self._take_connection_gap(event)
        elif isinstance(event, Disconnected):
            self._end_attempt(event)
        elif isinstance(event, (CallbackFailed, Dropped)):
            self.disagree(str(event))
        elif isinstance(event, (Connected, Live, Reconnecting)):
            self.counts[type(event).__name__] += 1

    def _end_attempt(self, ending: Disconnected) -> None:
        status = f" {ending.status}" if ending.status else f" {ending.code}" if ending.code != 1006 else ""
        self.cuts[f"{ending.cause.value}, {ending.stage}: {ending.detail.partition(':')[0]}{status}"] += 1
        if ending.stage == "connect" and ending.retry_after is not None:
            return  # the client never tried, and so took no token
        if ending.stage in ("hello", "live") and not self.is_closing:
            self._cut = self._cut or Cut(self._last_ns)
        account = self._accounts.get(self._attempt)
        if account is not None:
            account.is_left, account.cut = True, self._cut
            for _, text in account.texts:
                self._enter_in_vain(account, text)
            account.texts.clear()
            self._enter_skipped_in_vain(account, sum(map(len, account.skipped.values())))
            account.skipped.clear()
            self._forget(self._attempt)
        self._attempt += 1
        self._next.clear()

    def _take_connection_gap(self, gap: ConnectionGap) -> None:
        cut = self._cut
        if cut is None or cut.is_told:
            self.disagree(f"a gap that was none: {gap}")
            return
        cut.is_told, cut.to_ns = True, gap.to_ns
        if cut.from_ns != gap.from_ns:
            self.disagree(f"the last message before the cut was of {cut.from_ns}, and the client said {gap}")
        if gap.to_ns is None:
            self._settle(cut)

    def _end_cut(self, time_ns: int) -> None:
        """Market data of this time has come."""
        cut = self._cut
        if cut is None:
            return
        if not cut.is_told:
            self.disagree(f"a cut after {cut.from_ns} that the client did not tell")
        elif cut.to_ns != time_ns:
            self.disagree(f"the first message after the cut is of {time_ns}, and the client said {cut.to_ns}")
        self._settle(cut)

    def _settle(self, cut: Cut) -> None:
        self._cut, cut.is_over = None, True
        for written_ns in cut.written_ns:
            self._cover(cut, written_ns)
        cut.written_ns.clear()

    # What was written or skipped in vain

    def _enter_in_vain(self, account: Account, text: str) -> None:
        written_ns = _time_ns(text)
        if account.cut is None:
            # No hello was sent, or the client was closed: then nobody waits for it.
            self.counts["left over at the close" if self.is_closing else "written to nobody"] += 1
            if not self.is_closing and written_ns is not None:
                self.disagree(f"market data, though nothing was asked for: {text[:300]}")
        elif written_ns is None:
            self.counts["covered by connection gaps"] += 1  # by its place: it has no time
        elif account.cut.is_over:
            self._cover(account.cut, written_ns)
        else:
            account.cut.written_ns.append(written_ns)

    def _cover(self, cut: Cut, written_ns: int) -> None:
        if cut.to_ns is not None and written_ns >= cut.to_ns:
            # The client had another connection by then, which was sent the same.
            self.counts["written too late"] += 1
            return
        self.counts["covered by connection gaps"] += 1
        if cut.from_ns is not None and written_ns < cut.from_ns:
            self.disagree(
                f"written at {written_ns} and not delivered, before the gap from {cut.from_ns} to {cut.to_ns}"
            )

    def _enter_skipped_in_vain(self, account: Account, count: int) -> None:
        self.counts["skipped, covered by connection gaps"] += count
        if count and account.cut is None and not self.is_closing:
            self.disagree(f"{count} skipped, though nothing was asked for")

    def _account_of(self, wire: Wire) -> Account:
        if wire.attempt is None:
            self.disagree("written to a client that asked for nothing")
            wire.attempt = -1
        if wire.attempt not in self._accounts:
            self._accounts[wire.attempt] = Account(wire, is_left=True)
        return self._accounts[wire.attempt]

    def _forget(self, attempt: int | None) -> None:
        """Close an account that both sides have left."""
        account = None if attempt is None else self._accounts.get(attempt)
        if account is not None and account.is_left and not account.wire.is_open:
            assert attempt is not None
            del self._accounts[attempt]


def _time_ns(text: str) -> int | None:
    """Return the ``time_coinapi`` of a message in nanoseconds since the epoch."""
    found = _TIME.search(text)
    if found is None:
        return None
    return _seconds(found[1]) * 1_000_000_000 + int(found[2]) * 100


@lru_cache(maxsize=16)
def _seconds(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
