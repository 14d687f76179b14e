"""Connected, but no data: said once for each type, until something comes."""

from __future__ import annotations

import pytest

from coinapi_ws import Quiet, Scope, Subscription
from coinapi_ws.client.quiet import QuietWatch

BTC = Subscription(["trade", "quote"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
ADA = Subscription(["trade"], symbol_ids=["COINBASE_SPOT_ADA_USD$"])
RATES = Subscription((), asset_ids=["BTC/USD"])


def watching(*members: Subscription, quiet_after: float | None = 60) -> QuietWatch:
    """A watch of what is live since 0."""
    watch = QuietWatch(quiet_after)
    watch.ask(Scope(*members), 0)
    watch.live(0)
    return watch


def named(events: list[Quiet]) -> list[str]:
    return sorted(event.type for event in events)


def test_each_type_is_reported_once() -> None:
    watch = watching(BTC, ADA)
    assert watch.next_timeout() == 60
    assert watch.report(59.9) == []
    assert sorted(watch.report(60), key=lambda event: event.type) == [
        Quiet(type="quote", seconds=60, asked=Scope(BTC)),
        Quiet(type="trade", seconds=60, asked=Scope(BTC, ADA)),
    ]
    assert watch.report(1e6) == []
    assert watch.next_timeout() is None


def test_a_message_begins_the_time_anew_for_its_type_alone() -> None:
    watch = watching(BTC)
    watch.received({"trade": 2, "heartbeat": 5}, 50, 123)
    [event] = watch.report(60)
    assert event == Quiet(type="quote", seconds=60, asked=Scope(BTC), received=(("heartbeat", 5), ("trade", 2)))
    assert watch.next_timeout() == 110
    [event] = watch.report(110)
    assert (event.type, event.last_ns) == ("trade", 123)


def test_what_was_reported_is_watched_again_after_its_next_message() -> None:
    watch = watching(ADA)
    assert named(watch.report(60)) == ["trade"]
    watch.received({"trade": 1}, 100, 5)
    watch.received({"trade": 1}, 101, 6)
    assert watch.report(160.9) == []
    [event] = watch.report(161)
    assert (event.last_ns, event.received) == (6, (("trade", 2),))


def test_types_that_nobody_asked_for_are_not_watched() -> None:
    watch = watching(ADA)
    watch.received({"book": 1}, 1, 5)
    assert named(watch.report(1e6)) == ["trade"]


def test_exchange_rates_are_a_type_too() -> None:
    assert watching(RATES).report(60) == [Quiet(type="exrate", seconds=60, asked=Scope(RATES))]


def test_nothing_is_watched_without_a_live_connection() -> None:
    watch = QuietWatch(60)
    watch.ask(Scope(ADA), 0)
    watch.received({"trade": 1}, 0, 1)
    assert watch.next_timeout() is None
    watch.live(100)
    watch.down()
    assert watch.next_timeout() is None
    assert watch.report(1e6) == []


def test_a_new_connection_counts_anew_and_remembers_the_last_message() -> None:
    watch = watching(ADA)
    watch.received({"trade": 3}, 10, 7)
    watch.down()
    watch.live(1000)
    assert watch.next_timeout() == 1060
    [event] = watch.report(1060)
    assert (event.last_ns, event.received) == (7, ())


def test_a_changed_scope_keeps_what_is_known_of_the_types_in_both() -> None:
    watch = watching(ADA)
    watch.ask(Scope(BTC), 30)
    assert [event.asked for event in watch.report(60)] == [Scope(BTC)]
    assert named(watch.report(90)) == ["quote"]
    watch.ask(Scope(ADA), 91)
    watch.ask(Scope(BTC), 92)
    assert watch.next_timeout() == 152


def test_a_type_that_left_the_scope_is_not_reported() -> None:
    watch = watching(BTC)
    watch.ask(Scope(), 30)
    assert watch.next_timeout() is None
    assert watch.report(1e6) == []


@pytest.mark.parametrize("moment", [0.0, 1e9])
def test_none_watches_nothing(moment: float) -> None:
    watch = watching(BTC, quiet_after=None)
    assert watch.next_timeout() is None
    assert watch.report(moment) == []


def test_seconds_in_which_nothing_was_read_do_not_count() -> None:
    watch = watching(BTC)
    watch.received({"trade": 1}, 10, 1)
    watch.stand_still(100)
    assert watch.report(159.9) == []
    assert named(watch.report(160)) == ["quote"]
    assert named(watch.report(170)) == ["trade"]
    watch.stand_still(100)
    assert watch.next_timeout() is None
