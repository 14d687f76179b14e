from __future__ import annotations

import logging
import threading
import time
from contextlib import closing

import pytest

from coinapi_ws import AuthenticationError, Client, Connected, ConnectError, Disconnected, Message, Subscription
from coinapi_ws.cli.feed import Feed
from coinapi_ws.cli.summary import Tally
from coinapi_ws.simulator import Simulator, VirtualClock

ASSETS = Subscription(["asset"], everything=True)
TRADES = Subscription(["trade"], everything=True)
TRADE = '{"type":"trade","symbol_id":"A_B","price":1}'


def feed_of(server: Simulator, wanted: Subscription = ASSETS, tally: Tally | None = None, **options: bool) -> Feed:
    client = Client(None, endpoint=server.url, keep_raw=True, close_timeout=1.0)
    return Feed(client, wanted, tally or Tally(), **options)


def test_none_comes_while_nothing_does() -> None:
    with Simulator(clock=VirtualClock()) as server, feed_of(server) as feed:
        seen = []
        for item in feed.items(pause=0.01):
            seen.append(item)
            if item is None and any(isinstance(other, Message) for other in seen):
                break
        assert feed.was_connected


def test_messages_are_counted_once() -> None:
    tally = Tally()
    with Simulator(clock=VirtualClock()) as server, feed_of(server, tally=tally) as feed:
        for _ in feed.items(pause=0.01):
            if tally.messages == 5:
                break


def test_duration_ends_it_though_nothing_comes() -> None:
    with Simulator(clock=VirtualClock()) as server, feed_of(server) as feed:
        began = time.monotonic()
        assert all(not isinstance(item, Disconnected) for item in feed.items(pause=60, duration=0.2))
        assert time.monotonic() - began >= 0.2


def test_leaving_a_feed_that_nobody_takes_from_ends_all_threads(recording) -> None:
    with Simulator(recording=recording(*[TRADE] * 5000), speed=None) as server:
        with feed_of(server, TRADES) as feed, closing(feed.items(pause=10)) as items:
            assert isinstance(next(items), Connected)
            # More than may wait for us.
            while feed._items.qsize() < 1000:
                time.sleep(0.001)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("coinapi-ws-feed")]
        assert feed._items.qsize() <= 1001


def test_a_recording_ends_with_its_connection(recording) -> None:
    with (
        Simulator(recording=recording(TRADE, TRADE), speed=None) as server,
        feed_of(server, TRADES, ends_with_connection=True) as feed,
    ):
        items = list(feed.items(pause=10))
    assert sum(isinstance(item, Message) for item in items) == 2
    assert not feed.can_renew


def test_nobody_at_the_address_is_an_error_at_once() -> None:
    with Simulator() as server:
        pass
    with feed_of(server) as feed, pytest.raises(ConnectError):
        list(feed.items(pause=10))
    assert not feed.was_connected


def test_what_ends_the_client_later_is_raised() -> None:
    with Simulator(clock=VirtualClock()) as server, feed_of(server) as feed:
        items = feed.items(pause=10)
        while not isinstance(next(items), Message):
            pass
        server.faults.error("Invalid API key")
        with pytest.raises(AuthenticationError):
            list(items)


def test_renewing_brings_everything_again_on_one_new_connection() -> None:
    with Simulator(clock=VirtualClock()) as server, feed_of(server) as feed:
        connections = messages = 0
        for item in feed.items(pause=10):
            connections += isinstance(item, Connected)
            messages += isinstance(item, Message)
            if messages == 10:
                break
            if connections == 1 and isinstance(item, Message):
                feed.renew()  # five times, of which one counts
        assert connections == 2
        assert len(server.received) == 2


def test_what_the_client_logs_does_not_spoil_a_screen() -> None:
    logger = logging.getLogger("coinapi_ws")
    before = list(logger.handlers)
    with Simulator(clock=VirtualClock()) as server, feed_of(server):
        assert any(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
    assert logger.handlers == before
