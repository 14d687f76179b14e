"""Takeovers at their edges, which only a server by hand can bring about."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import pytest
from client_harness import HEARTBEAT, Life, at, trade
from peers import Listener, url_of

from coinapi_ws import (
    Cause,
    ClientState,
    ConnectionGap,
    Disconnected,
    HandedOver,
    Heartbeat,
    Quote,
    Reconnecting,
    ReconnectNotice,
    Scope,
    SlowConsumerError,
    Trade,
)
from coinapi_ws.client.takeover import Takeover

LiveIt = Callable[..., Life]
NOTICE: Final = '{"type":"reconnect","within_seconds":10,"before_time":"2026-01-01T00:00:10.0000000Z"}'


def uuids(life: Life) -> list[str | None]:
    return [told.uuid for told in life.of(Trade)]


def gaps(life: Life) -> list[tuple[int | None, int | None]]:
    return [(gap.from_ns, gap.to_ns) for gap in life.of(ConnectionGap)]


def both_up(live_it: LiveIt, listener: Listener, **options: object) -> tuple[Life, object, object]:
    life = live_it(url_of(listener), on_reconnect_notice="handover", **options).start()
    first = life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    return life, first, life.live(listener)


def test_times() -> None:
    takeover = Takeover(ReconnectNotice(within_seconds=10.0), 1000.0, 1004.0)
    assert takeover.next_timeout() == 1004.0
    assert takeover.first_ends_by == 1020.0  # counted from the notice
    assert Takeover(ReconnectNotice(), 1000.0, 1000.0).first_ends_by == 1070.0
    assert Takeover(ReconnectNotice(within_seconds=1.0), 1000.0, 1030.0).first_ends_by == 1040.0
    takeover.stand_still(5.0)
    assert takeover.first_ends_by == 1025.0
    takeover.be_over(1100.0)
    takeover.stand_still(5.0)
    assert (takeover.first_ends_by, takeover.merges_until) == (None, 1135.0)


def test_no_timer_is_left_after_closing(live_it: LiveIt, listener: Listener) -> None:
    life, first, second = both_up(live_it, listener)
    life.supervisor.close()
    life.answer_close(first)
    life.answer_close(second)
    assert life.state is ClientState.CLOSED
    assert life.supervisor.next_timeout() is None
    life.clock.now += 1000
    life.supervisor.handle_timeout()
    assert life.supervisor.failure is None


def test_a_pause_is_no_time_in_which_the_first_could_have_ended(live_it: LiveIt, listener: Listener) -> None:
    life, first, _ = both_up(live_it, listener, slow_consumer_timeout=59.0, options={"silence_timeout": None})
    life.supervisor.pause()
    life.advance(50)
    first.text(trade(1, uuid="1"))
    assert life.supervisor.connections()[0].state.value == "live"
    life.supervisor.resume()
    life.until(Trade)
    life.advance(19)
    assert life.supervisor.connections()[0].state.value == "live"
    life.advance(1)
    assert life.supervisor.connections()[0].state.value == "closing"


def test_a_pause_is_no_time_in_which_a_repetition_could_have_come(live_it: LiveIt, listener: Listener) -> None:
    life, first, second = both_up(live_it, listener, slow_consumer_timeout=59.0, options={"silence_timeout": None})
    first.text(trade(1, uuid="1"))
    life.until(Trade)
    life.hang_up(first, 1001)
    life.supervisor.pause()
    second.text(trade(1, uuid="1"))
    life.advance(50)
    life.supervisor.resume()
    life.supervisor.handle_timeout()
    second.text(trade(2, uuid="2"))
    life.until(lambda: "2" in uuids(life))
    assert uuids(life) == ["1", "2"]


def test_a_first_that_was_behind_when_it_closed_leaves_a_gap(live_it: LiveIt, listener: Listener) -> None:
    life, first, second = both_up(live_it, listener)
    first.text(trade(1, uuid="1"))
    life.until(Trade)
    second.text(trade(4, uuid="4"))
    life.until(Trade)
    life.hang_up(first, 1001)
    assert gaps(life) == [(at(1), at(4))]
    assert [type(item) for item in life.items[-3:]] == [Disconnected, ConnectionGap, HandedOver]


QUOTE: Final = trade(4).replace('"trade"', '"quote"')


def test_a_quote_of_the_second_shows_nothing_of_a_first_that_closed_in_order(
    live_it: LiveIt, listener: Listener
) -> None:
    """It may have been sent because the connection was new, in a market where nothing happens."""
    life, first, second = both_up(live_it, listener)
    first.text(trade(1, uuid="1"))
    life.until(Trade)
    second.text(QUOTE)
    life.until(Quote)
    life.hang_up(first, 1001)
    assert gaps(life) == []
    assert len(life.of(HandedOver)) == 1


def test_a_first_that_broke_leaves_a_gap_up_to_whatever_the_second_brought(live_it: LiveIt, listener: Listener) -> None:
    life, first, second = both_up(live_it, listener)
    first.text(trade(1, uuid="1"))
    life.until(Trade)
    second.text(QUOTE)
    life.until(Quote)
    life.cut(first)
    assert gaps(life) == [(at(1), at(4))]


def test_a_first_that_broke_before_the_second_brought_anything_leaves_a_gap_up_to_what_comes(
    live_it: LiveIt, listener: Listener
) -> None:
    life, first, second = both_up(live_it, listener)
    first.text(trade(1, uuid="1"))
    life.until(Trade)
    life.cut(first)
    assert gaps(life) == []
    second.text(QUOTE)
    life.until(Quote)
    assert gaps(life) == [(at(1), at(4))]


def test_a_second_that_was_live_and_ends_too_is_no_connection_to_wait_for(live_it: LiveIt, listener: Listener) -> None:
    life, first, second = both_up(live_it, listener)
    first.text(trade(1, uuid="1"))
    life.until(Trade)
    second.text(trade(4, uuid="4"))
    life.until(Trade)
    second.close(1001)
    life.until(lambda: life.made[1].state.value == "closed")  # what is left is its end of TCP
    first.socket.close()
    life.ended()
    assert gaps(life) == [(at(1), at(4))]
    assert life.of(Reconnecting) == []
    second.socket.close()
    life.ended()
    assert [event.attempt for event in life.of(Reconnecting)] == [2]  # the takeover was the first


def test_a_notice_is_for_its_connection_alone(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener), on_reconnect_notice="handover").start()
    first = life.live(listener)
    first.text(NOTICE)
    life.until(ReconnectNotice)
    second = life.open(listener)
    second.text(NOTICE)
    life.until(ReconnectNotice)
    life.cut(first)
    life.cut(second)
    life.retry()
    life.live(listener)
    life.advance(100)
    assert len(life.made) == 3


@pytest.mark.parametrize("policy", ["now", "handover"])
def test_a_notice_before_the_first_sign_of_life_is_heeded_after_it(
    live_it: LiveIt, listener: Listener, policy: str
) -> None:
    life = live_it(url_of(listener), on_reconnect_notice=policy).start()
    server = life.open(listener)
    server.text(NOTICE)
    life.until(ReconnectNotice)
    assert len(life.made) == 1
    server.text(HEARTBEAT)
    life.until(Heartbeat)
    if policy == "now":
        assert life.made[0].state.value == "closing"
    else:
        assert len(life.made) == 2


def test_a_planned_takeover_outlives_the_repetitions_of_the_last(live_it: LiveIt, listener: Listener) -> None:
    life, first, second = both_up(live_it, listener, chance=0.99, options={"silence_timeout": None})
    for _ in range(4):
        second.text(NOTICE)
        life.until(ReconnectNotice)
        life.hang_up(first, 1001)
        while len(life.supervisor.connections()) < 2:
            life.advance(1)
        first, second = second, life.live(listener)
    # The wait is longer than the time of repetitions by now; the first still has to end in time.
    life.advance(40)
    assert life.made[-2].state.value == "closing"


def test_who_asks_for_patience_gets_it_where_a_takeover_was_planned(live_it: LiveIt, listener: Listener) -> None:
    life, first, second = both_up(live_it, listener)
    second.text(NOTICE)
    life.until(ReconnectNotice)
    life.hang_up(first, 1001)  # the next is planned now
    life.hang_up(second, 1012)
    assert life.of(Reconnecting)[-1].delay == 10.0


def test_a_server_that_is_behind_makes_no_gap_that_ends_before_it_begins(live_it: LiveIt, listener: Listener) -> None:
    life = live_it(url_of(listener)).start()
    server = life.live(listener)
    server.text(trade(9, uuid="9"))
    life.until(Trade)
    life.cut(server)
    life.retry()
    life.live(listener).text(trade(7, uuid="7"))
    life.until(Trade)
    assert gaps(life) == [(at(9), at(9))]


def test_a_takeover_may_be_parked_in_each_stage(live_it: LiveIt, listener: Listener) -> None:
    life, first, second = both_up(live_it, listener)
    life.supervisor.set_scope(Scope())
    life.answer_close(first)
    life.answer_close(second)
    assert life.state is ClientState.PARKED
    assert [end.cause for end in life.of(Disconnected)] == [Cause.LOCAL] * 2
    assert gaps(life) == []
    assert life.of(HandedOver) == []


def test_each_asker_has_an_error_of_its_own_f26() -> None:
    """F26: what one caller's frames hold is not kept by what the next one is told."""
    from coinapi_ws import Client

    client = Client(None, endpoint="ws://127.0.0.1:1/")
    worker = client._worker
    worker.supervisor.failure = SlowConsumerError("slow")
    assert worker.failure() is not worker.failure()
    assert str(worker.failure()) == "slow"


def test_a_log_handler_that_raises_hides_nothing_f11(
    make_client: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F11: the client ends, and whoever waits for it is told."""
    from coinapi_ws import Client
    from coinapi_ws.client.supervisor import LOGGER

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

    broken = Broken()
    LOGGER.addHandler(broken)
    monkeypatch.setattr("threading.excepthook", lambda told: None)
    try:
        client = make_client("ws://127.0.0.1:1/")
        assert isinstance(client, Client)
        monkeypatch.setattr(client._worker.supervisor, "start", lambda scope: 1 / 0)
        client.start()
        with pytest.raises(ZeroDivisionError):
            client.join(10)
        assert client.state is ClientState.CLOSED
    finally:
        LOGGER.removeHandler(broken)
