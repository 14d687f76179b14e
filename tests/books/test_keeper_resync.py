"""How books come back: by taking their symbols out of the scope and putting them back, by reconnecting, or not."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

import pytest
from client_harness import Heard, eventually
from peers import PATIENCE_SECONDS

from coinapi_ws import Backoff, Connected, Disconnected, HandedOver, HandoverFailed, Reconnecting, Subscription
from coinapi_ws.books import BookKeeper, BookLive, BookStale, BookState
from coinapi_ws.books import keeper as keeper_module
from coinapi_ws.books import resync as resync_module

from .conftest import ONE, TWO, Desk, frame

OpenDesk = Callable[..., Desk]

EMPTY, LIVE, STALE = BookState.EMPTY, BookState.LIVE, BookState.STALE
THREE = "X_SPOT_THREE_USD"
SOON: dict[str, Any] = {"backoff": Backoff(initial=0.01)}


def symbols(hello: dict[str, Any]) -> list[str]:
    return sorted(symbol[:-1] for symbol in hello["subscribe_filter_symbol_id"])


def subscription(*symbol_ids: str) -> Subscription:
    return Subscription(["book"], symbol_ids=[f"{symbol_id}$" for symbol_id in symbol_ids])


def lose(it: Desk, *symbol_ids: str) -> None:
    """Let each of these books miss a change."""
    it.say(*(frame(1, symbol_id, snapshot=True) for symbol_id in symbol_ids))
    it.say(*(frame(3, symbol_id) for symbol_id in symbol_ids))
    assert it.keeper.stale() == [("book", symbol_id) for symbol_id in symbol_ids]


def next_hello(it: Desk) -> list[str]:
    """Wait for a hello with heartbeats alone, which is how time comes in a quiet market; return its symbols."""
    for _ in range(round(PATIENCE_SECONDS * 10)):
        it.server.text('{"type":"hearbeat"}')
        if select.select([it.server.socket], [], [], 0.1)[0]:
            break
    return symbols(it.hello())


def asks_for_nothing(it: Desk, seconds: float = 0.3) -> bool:
    it.settle()
    return not select.select([it.server.socket], [], [], seconds)[0]


def test_a_stale_book_is_taken_out_and_put_back_and_comes(desk: OpenDesk) -> None:
    it = desk()
    lose(it, ONE)
    assert next_hello(it) == [TWO]
    assert symbols(it.hello()) == [ONE, TWO]
    it.say(frame(4), frame(1, snapshot=True), frame(2))
    assert it.keeper.state(ONE) is LIVE
    assert it.kinds()[-3:] == [("live", ONE), ("updated", ONE), ("updated", ONE)]
    assert (it.keeper.stats().resubscribed, it.keeper.stats().held_back) == (1, 2)
    assert asks_for_nothing(it)
    assert it.client.stats().reconnects == 0


def test_books_that_are_stale_together_are_asked_for_together(desk: OpenDesk) -> None:
    it = desk(subscription(ONE, TWO, THREE))
    lose(it, ONE, TWO)
    assert next_hello(it) == [THREE]
    assert symbols(it.hello()) == sorted([ONE, TWO, THREE])


def test_where_all_are_stale_one_waits_for_the_others(desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resync_module, "FIRST_RETRY_SECONDS", 1000.0)  # only the first asking counts
    it = desk(keep={"resync_interval": 0.2})
    lose(it, ONE, TWO)
    assert next_hello(it) == [TWO]
    assert symbols(it.hello()) == [ONE, TWO]
    it.say(frame(1, snapshot=True))
    assert next_hello(it) == [ONE]
    assert symbols(it.hello()) == [ONE, TWO]
    it.say(frame(1, TWO, snapshot=True))
    assert set(it.keeper.states().values()) == {LIVE}
    assert (it.keeper.stats().resubscribed, it.keeper.stats().reconnected) == (2, 0)


def test_other_messages_bring_the_time_too(desk: OpenDesk) -> None:
    it = desk(Subscription(["book", "trade"], symbol_ids=[f"{ONE}$", f"{TWO}$"]))
    it.say(frame(1, snapshot=True), frame(3))
    for _ in range(100):
        it.server.text('{"type":"trade","symbol_id":"X_SPOT_ONE_USD"}')
        if select.select([it.server.socket], [], [], 0.1)[0]:
            break
    assert symbols(it.hello()) == [TWO]
    it.hello()
    before = it.client.stats().unhandled
    it.say(frame(1, snapshot=True), '{"type":"trade"}', '{"type":"trade"}')
    assert it.client.stats().unhandled == before + 2, "they are nobody's business any more"


def test_a_symbol_that_was_subscribed_by_a_prefix_comes_by_reconnecting(desk: OpenDesk) -> None:
    it = desk(Subscription(["book"], symbol_ids=["X_SPOT_"]), keep={"reconnect_interval": 60.0}, **SOON)
    lose(it, ONE)
    reconnects(it)
    assert it.keeper.stats().resubscribed == 0


def test_a_book_that_does_not_come_for_all_askings_comes_by_reconnecting(
    desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resync_module, "FIRST_RETRY_SECONDS", 0.01)
    it = desk(keep={"resync_interval": 0.01}, **SOON)
    lose(it, ONE)
    for _ in range(3):
        assert next_hello(it) == [TWO]
        assert symbols(it.hello()) == [ONE, TWO]
    reconnects(it)
    assert it.keeper.stats().resubscribed == 3


def test_what_cannot_leave_alone_keeps_no_other_from_coming(desk: OpenDesk) -> None:
    it = desk(
        Subscription(["book"], symbol_ids=["X_SPOT_ONE_", f"{TWO}$", f"{THREE}$"]),
        keep={"resync_interval": 0.1},
        **SOON,
    )
    lose(it, ONE)
    reconnects(it)
    it.say(frame(3))
    it.say(frame(1, TWO, snapshot=True), frame(3, TWO))
    assert it.keeper.stale() == [("book", ONE), ("book", TWO)]
    assert TWO not in next_hello(it)
    assert TWO in symbols(it.hello())
    it.say(frame(1, TWO, snapshot=True))
    assert (it.keeper.state(ONE), it.keeper.state(TWO)) == (STALE, LIVE)
    assert (it.keeper.stats().resubscribed, it.keeper.stats().reconnected) == (1, 1)


def reconnects(it: Desk) -> None:
    """Wait until the client closes its connection, let it come back, and the book with it."""
    ended = it.client.on(Disconnected, Heard())
    closing = None
    for _ in range(round(PATIENCE_SECONDS * 10)):
        it.server.text('{"type":"hearbeat"}')
        if select.select([it.server.socket], [], [], 0.1)[0]:
            closing = it.server.until_closed()
            break
    assert closing is not None
    it.server.send(closing.response())
    it.server.socket.close()
    ended.wait(Disconnected)
    it.connect()
    it.settle()
    assert it.keeper.state(ONE) is EMPTY
    it.say(frame(1, snapshot=True))
    assert it.keeper.state(ONE) is LIVE
    assert it.keeper.stats().reconnected == 1


def test_by_reconnecting_where_that_was_chosen_and_not_soon_again(desk: OpenDesk) -> None:
    it = desk(keep={"resync": "reconnect", "resync_interval": 0.1}, **SOON)
    lose(it, ONE)
    reconnects(it)
    it.say(frame(3))
    assert it.keeper.state(ONE) is STALE
    eventually(lambda: it.settle() or not it.keeper._resync or it.keeper._resync._missing["book", ONE].asked)
    assert asks_for_nothing(it)
    assert it.keeper.stats().reconnected == 1


def test_without_resync_it_waits_for_a_snapshot(desk: OpenDesk) -> None:
    it = desk(keep={"resync": "none"})
    lose(it, ONE)
    assert asks_for_nothing(it)
    it.say(frame(4, snapshot=True))
    assert it.keeper.state(ONE) is LIVE


def test_a_book_whose_snapshot_does_not_come_is_asked_for(desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "_SNAPSHOT_SECONDS", 0.1)
    it = desk()
    it.say(frame(7))
    assert next_hello(it) == [TWO]
    it.hello()
    it.say(frame(1, snapshot=True))
    assert it.keeper.state(ONE) is LIVE


def test_a_cut_empties_all_books_until_they_come_again(desk: OpenDesk) -> None:
    it = desk(**SOON)
    it.say(frame(1, snapshot=True), frame(1, TWO, snapshot=True), frame(3, TWO))
    again = it.client.on(Reconnecting, Heard())
    it.server.socket.close()
    again.wait(Reconnecting)
    assert it.keeper.states() == {("book", ONE): EMPTY, ("book", TWO): EMPTY}
    assert it.keeper.snapshot(ONE).asks == ()
    stale = it.told.of(BookStale)
    assert [event.symbol_id for event in stale] == [TWO, ONE], "what was stale has been told"
    assert stale[1].reason.startswith("the connection ended: ")
    it.connect()
    it.say(frame(2), frame(3, snapshot=True))
    assert it.keeper.states() == {("book", ONE): LIVE, ("book", TWO): EMPTY}
    assert asks_for_nothing(it), "all come by themselves"
    assert [event.symbol_id for event in it.told.of(BookLive)] == [ONE, TWO, ONE]


def test_a_handover_leaves_them_be(desk: OpenDesk) -> None:
    it = desk(on_reconnect_notice="handover")
    it.say(frame(1, snapshot=True, time_coinapi="2026-01-01T00:00:01Z"))
    first = it.server
    handed = it.client.on(HandedOver, Heard())
    first.text('{"type":"reconnect","within_seconds":10}')
    second = it.connect()
    eventually(lambda: len(it.client._worker.supervisor.connections()) == 2)
    first.close(1001)
    first.until_closed()
    first.socket.close()
    handed.wait(HandedOver)
    assert it.keeper.state(ONE) is LIVE
    assert it.told.of(BookStale) == []
    assert it.server is second
    it.say(frame(1, snapshot=True, ask=12.0, time_coinapi="2026-01-01T00:00:02Z"))
    assert it.keeper.snapshot(ONE).asks[0].price == 12.0
    ended = it.client.on(Reconnecting, Heard())
    second.socket.close()
    ended.wait(Reconnecting)
    assert it.keeper.state(ONE) is EMPTY


def test_a_handover_that_came_too_late_empties_them(desk: OpenDesk) -> None:
    it = desk(on_reconnect_notice="handover")
    it.say(frame(1, snapshot=True))
    first = it.server
    connected, again = it.client.on(Connected, Heard()), it.client.on(Reconnecting, Heard())
    first.text('{"type":"reconnect","within_seconds":10}')
    it.connect(beat=False)
    connected.wait(Connected)
    first.socket.close()
    again.wait(Reconnecting)
    it.settle()
    assert it.keeper.state(ONE) is EMPTY
    it.say(frame(1, snapshot=True))
    assert it.keeper.state(ONE) is LIVE


def test_a_second_connection_that_waited_in_vain_for_its_hello_takes_no_book_along(desk: OpenDesk) -> None:
    it = desk(on_reconnect_notice="handover")
    it.say(frame(1, snapshot=True))
    failed = it.client.on(HandoverFailed, Heard())
    it.server.text('{"type":"reconnect","within_seconds":60}')
    it.meet([(b"X-WsHelloPerIpLimit-RetryAfterMs", b"3600000")])
    assert "limits allow the next hello" in failed.wait(HandoverFailed).reason
    it.say(frame(2))
    assert it.keeper.state(ONE) is LIVE
    assert it.told.of(BookStale) == []
    ended = it.client.on(Reconnecting, Heard())
    it.server.socket.close()
    ended.wait(Reconnecting)
    assert it.keeper.state(ONE) is EMPTY


def test_after_the_end_no_book_is_live(desk: OpenDesk) -> None:
    it = desk()
    it.say(frame(1, snapshot=True))
    it.server.socket.close()
    it.client.close()
    assert it.keeper.state(ONE) is EMPTY


def test_a_client_that_was_closed_is_asked_for_nothing(desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "_COLLECTING_SECONDS", 0.0)
    it = desk()
    it.say(frame(1, snapshot=True))
    it.keeper.on(BookStale, lambda _: it.client._worker.ask_to_close())
    it.server.text(frame(3))
    it.server.send(it.server.until_closed().response())
    it.server.socket.close()
    assert it.client.join(PATIENCE_SECONDS)
    assert it.client.stats().callback_failures == 0
    assert it.keeper.stats().resubscribed == 0


def test_a_keeper_that_came_late_gets_its_books_too(desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "_SNAPSHOT_SECONDS", 0.1)
    it = desk(keep={"resync": "none"})
    it.say(frame(1, snapshot=True))
    late = BookKeeper(it.client)
    it.say(frame(2))
    assert (it.keeper.state(ONE), late.state(ONE)) == (LIVE, EMPTY)
    assert next_hello(it) == [TWO]
    it.hello()
    it.say(frame(1, snapshot=True))
    assert late.state(ONE) is LIVE
