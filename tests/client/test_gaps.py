"""One gap for each time without a connection, and none where nothing was on its way."""

from __future__ import annotations

import pytest
from builders import heartbeat, ns, quote, trade

from coinapi_ws import (
    Asset,
    Cause,
    ConnectionGap,
    Disconnected,
    ErrorMessage,
    Live,
    ReconnectNotice,
    Scope,
    Subscription,
)
from coinapi_ws.client.gaps import ConnectionGaps
from coinapi_ws.decoding import Decoder
from coinapi_ws.protocol.frames import Frame, Frames, FrameType

SCOPE = Scope(Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"]))
OTHER = Scope(Subscription(["quote"], symbol_ids=["COINBASE_SPOT_BTC_USD$"]))


def ended(cause: Cause = Cause.NETWORK, stage: str = "live", detail: str = "it broke") -> Disconnected:
    return Disconnected(cause=cause, initiator="network", detail=detail, stage=stage)


def gap(from_ns: int | None, to_ns: int | None, ending: Disconnected | None = None) -> ConnectionGap:
    return ConnectionGap(from_ns=from_ns, to_ns=to_ns, reason=(ending or ended()).summary(), scope=SCOPE)


def test_without_a_cut_items_pass_as_they_are() -> None:
    gaps, items = ConnectionGaps(), [heartbeat(), trade(1), trade(2)]
    assert gaps.deliver(items) == items
    assert gaps.end() == []


def test_the_gap_comes_right_before_the_first_market_data_after_the_cut() -> None:
    gaps = ConnectionGaps()
    gaps.deliver([trade(1), trade(5), heartbeat()])
    gaps.cut(ended(), SCOPE)
    before = [Live(received_ns=0), heartbeat(), ErrorMessage(message="x"), ReconnectNotice()]
    assert gaps.deliver(before) == before
    assert gaps.deliver([heartbeat(), trade(9), quote(10)]) == [heartbeat(), gap(ns(5), ns(9)), trade(9), quote(10)]
    assert gaps.deliver([trade(11)]) == [trade(11)]
    assert gaps.end() == []


def test_the_items_given_are_left_alone() -> None:
    gaps, items = ConnectionGaps(), [trade(1)]
    gaps.cut(ended(), SCOPE)
    assert len(gaps.deliver(items)) == 2
    assert len(items) == 1


def test_failed_attempts_do_not_begin_another_gap() -> None:
    gaps = ConnectionGaps()
    gaps.deliver([trade(1)])
    gaps.cut(ended(detail="first"), SCOPE)
    gaps.cut(ended(stage="connect", detail="second"), SCOPE)
    gaps.cut(ended(detail="third"), OTHER)
    assert gaps.deliver([trade(9)]) == [gap(ns(1), ns(9), ended(detail="first")), trade(9)]


def test_each_cut_has_a_gap_of_its_own() -> None:
    gaps = ConnectionGaps()
    found = []
    for moment in (1, 5, 9):
        found += gaps.deliver([trade(moment), trade(moment + 1)])
        gaps.cut(ended(), SCOPE)
    assert [item for item in found if isinstance(item, ConnectionGap)] == [gap(ns(2), ns(5)), gap(ns(6), ns(9))]


@pytest.mark.parametrize("stage", ["connect", "upgrade"])
def test_a_connection_without_a_hello_loses_nothing(stage: str) -> None:
    gaps = ConnectionGaps()
    gaps.cut(ended(stage=stage), SCOPE)
    assert gaps.deliver([trade(9)]) == [trade(9)]


@pytest.mark.parametrize("cause", [Cause.CREDENTIALS, Cause.SCOPE])
def test_where_key_or_scope_were_refused_nothing_was_on_its_way(cause: Cause) -> None:
    gaps = ConnectionGaps()
    gaps.cut(ended(cause, stage="hello"), SCOPE)
    assert gaps.end() == []


def test_a_connection_that_broke_after_its_hello_has_a_gap_without_a_beginning() -> None:
    gaps = ConnectionGaps()
    gaps.cut(ended(stage="hello"), SCOPE)
    assert gaps.deliver([trade(9)]) == [gap(None, ns(9), ended(stage="hello")), trade(9)]


def test_a_message_without_a_time_counts_from_when_it_was_received() -> None:
    gaps = ConnectionGaps()
    gaps.deliver([Asset(asset_id="BTC", received_ns=7)])
    gaps.cut(ended(), SCOPE)
    [first, _] = gaps.deliver([Asset(asset_id="BTC", received_ns=8)])
    assert first == gap(7, 8)


def test_the_gap_begins_with_the_last_message_that_says_when_it_was_made() -> None:
    """What has no time may have waited at the server until it was received, and so may what is missing."""
    late = Asset(asset_id="BTC", received_ns=ns(1000))
    for batches in ([[trade(1), late]], [[trade(1)], [late, late]], [[late], [trade(1), late]]):
        gaps = ConnectionGaps()
        for batch in batches:
            gaps.deliver([*batch])
        gaps.cut(ended(), SCOPE)
        assert gaps.deliver([trade(9)])[0] == gap(ns(1), ns(9))


def test_at_the_end_the_gap_is_open_and_then_all_begins_anew() -> None:
    gaps = ConnectionGaps()
    gaps.deliver([trade(1)])
    gaps.cut(ended(), SCOPE)
    assert gaps.end() == [gap(ns(1), None)]
    assert gaps.end() == []
    gaps.cut(ended(), SCOPE)
    assert gaps.deliver([trade(9)]) == [gap(None, ns(9)), trade(9)]


@pytest.mark.parametrize(("from_ns", "to_ns"), [(7, 7), (7, 5), (None, 5)])
def test_between_two_connections_that_overlap_there_is_none(from_ns: int | None, to_ns: int) -> None:
    gaps = ConnectionGaps()
    assert gaps.between(from_ns, to_ns, ended(), SCOPE) == []
    assert gaps.deliver([trade(9)]) == [trade(9)]


def test_between_two_connections_that_do_not_overlap_there_is_one() -> None:
    gaps = ConnectionGaps()
    assert gaps.between(5, 7, ended(), SCOPE) == [gap(5, 7)]
    assert gaps.deliver([trade(9)]) == [trade(9)]


def test_where_the_second_connection_has_brought_nothing_the_gap_comes_with_its_first_message() -> None:
    gaps = ConnectionGaps()
    gaps.deliver([trade(1)])
    assert gaps.between(ns(1), None, ended(), SCOPE) == []
    assert gaps.deliver([trade(9)]) == [gap(ns(1), ns(9)), trade(9)]


def frames(*payloads: str, is_timed: bool = True) -> Frames:
    following: dict[str, int] | None = {} if is_timed else None
    frame_type = FrameType("any", quick=None, following=following, is_delta=False, wanted=None)
    return Frames(ns(0), [frame_type] * len(payloads), list(payloads))


def text(ticks: int, type_name: str = "trade") -> str:
    return f'{{"time_coinapi":"{trade(ticks).time_coinapi}","type":"{type_name}"}}'


@pytest.mark.parametrize(
    "passed",
    [
        [frames(text(1), text(5))],
        [frames(text(1)), frames(text(5))],
        [frames(text(5)), frames(text(2, "asset"), is_timed=False)],
        [frames(text(5), '{"type":"trade"}')],
        [frames(text(1)), Frame(text(5), ns(0), trade(5))],
        [frames(text(5)), Frame("{", ns(0), heartbeat())],
    ],
)
def test_of_what_went_on_undecoded_the_last_is_looked_at_when_it_matters(passed: list[Frames | Frame]) -> None:
    gaps = ConnectionGaps()
    gaps.deliver([trade(0)])
    for item in passed:
        gaps.passed([Live(received_ns=0), item])
    assert not gaps.is_open
    gaps.cut(ended(), SCOPE)
    assert gaps.is_open
    assert gaps.deliver([trade(9)]) == [gap(ns(5), ns(9)), trade(9)]
    assert not gaps.is_open


def test_of_rates_which_go_on_undecoded_one_of_each_read_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    decode = Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda *given: decoded.append(given[1]) or decode(*given))  # type: ignore[func-returns-value]
    gaps = ConnectionGaps()
    rates = [f'{{"time":"{trade(ticks).time_coinapi}","type":"exrate"}}' for ticks in range(6)]
    gaps.passed([frames(*rates[:3], is_timed=False)])
    gaps.passed([frames(*rates[3:], is_timed=False)])
    gaps.cut(ended(), SCOPE)
    assert decoded == [rates[2], rates[5]]
    assert gaps.deliver([trade(9)])[0] == gap(ns(5), ns(9))


def test_of_what_went_on_undecoded_before_the_end_nothing_is_kept() -> None:
    gaps = ConnectionGaps()
    gaps.passed([frames(text(5))])
    assert gaps.end() == []
    gaps.cut(ended(), SCOPE)
    assert gaps.deliver([trade(9)]) == [gap(None, ns(9)), trade(9)]
