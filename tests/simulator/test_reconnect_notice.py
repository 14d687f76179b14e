"""A server that goes away: what it announces, when it closes, and who takes over."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from peers import TRADES

from coinapi_ws import Cause, ReconnectNotice, Trade, connect
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator, VirtualClock
from coinapi_ws.simulator.market import Market

Dial = Callable[..., Any]

BTC = "COINBASE_SPOT_BTC_USD"
START_NS = VirtualClock().time_ns()


def same_market(clock: VirtualClock, **options: Any) -> Simulator:
    """One of several simulators of one market, which began when the clock did."""
    return Simulator(seed=7, clock=clock, market_start_ns=START_NS, **options)


def trades(messages: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """What identifies each trade, without what a connection adds."""
    return [(m["time_exchange"], m["uuid"], str(m["price"])) for m in messages if m["type"] == "trade"]


# The notice and the close


def test_the_notice_is_the_vendor_s_to_the_letter(
    simulator: Simulator, clock: VirtualClock, dial: Dial, shared: Path
) -> None:
    peer = dial(simulator.url)
    peer.hello("connectivity_status")
    clock.advance(1.2345678)
    simulator.announce_reconnect(10)
    notice = peer.text()
    assert notice == '{"type":"reconnect","within_seconds":10,"before_time":"2026-01-01T00:00:11.2345678Z"}'
    samples = (shared / "recordings" / "sample_frames.jsonl").read_text("utf-8").splitlines()
    sample = next(frame for line in samples if '"reconnect"' in (frame := json.loads(line)["frame"]))
    assert re.sub(r"\d", "0", notice) == re.sub(r"\d", "0", sample)
    assert simulator.frames_sent == {"reconnect": 1}


def test_the_close_comes_at_the_announced_time_and_not_before(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("exrate", asset_id=["BTC/USD"])
    simulator.announce_reconnect(5)
    assert peer.message()["type"] == "reconnect"
    clock.advance(4.999_999_999)
    # Until then market data goes on.
    assert [m["type"] for m in peer.drain(simulator)] == ["exrate"] * 49
    assert simulator.connections == 1
    clock.advance(0.000_000_001)
    assert simulator.connections == 0
    # What happens at the same time comes first.
    assert peer.message()["type"] == "exrate"
    assert peer.close_code() == 1001


def test_everybody_is_told_who_is_connected(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peers = [dial(simulator.url) for _ in range(3)]
    peers[0].hello("connectivity_status")
    simulator.announce_reconnect(2)
    notices = [peer.text() for peer in peers]
    assert len(set(notices)) == 1
    clock.advance(2)
    assert [peer.close_code() for peer in peers] == [1001] * 3


def test_within_no_seconds_the_close_follows_the_notice(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    simulator.announce_reconnect(0)
    assert json.loads(peer.text()) == {
        "type": "reconnect",
        "within_seconds": 0,
        "before_time": "2026-01-01T00:00:00.0000000Z",
    }
    assert peer.close_code() == 1001


def test_the_last_announcement_counts(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    peer = dial(simulator.url)
    simulator.announce_reconnect(10)
    clock.advance(1)
    simulator.announce_reconnect(3)
    assert [m["before_time"][17:19] for m in peer.messages(2)] == ["10", "04"]
    clock.advance(2.9)
    assert simulator.connections == 1
    clock.advance(0.1)
    assert peer.close_code() == 1001


def test_who_comes_after_the_notice_is_served_and_stays(simulator: Simulator, clock: VirtualClock, dial: Dial) -> None:
    old = dial(simulator.url)
    simulator.announce_reconnect(5)
    new = dial(simulator.url)
    new.hello("exrate", asset_id=["BTC/USD"])
    clock.advance(30)
    assert [json.loads(text)["type"] for text in old.rest_until_closed()] == ["reconnect"]
    assert [m["type"] for m in new.drain(simulator)] == ["exrate"] * 300
    assert simulator.connections == 1


@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
def test_an_announcement_to_nobody_concerns_nobody(clock: VirtualClock, dial: Dial, started: bool) -> None:
    simulator = Simulator(clock=clock)
    if not started:
        simulator.announce_reconnect(1)
    with simulator:
        if started:
            simulator.announce_reconnect(1)
        peer = dial(simulator.url)
        peer.hello("exrate", asset_id=["BTC/USD"])
        clock.advance(5)
        assert {m["type"] for m in peer.drain(simulator)} == {"exrate"}


def test_who_is_still_at_the_upgrade_was_not_told_and_stays(simulator: Simulator, clock: VirtualClock) -> None:
    request = (
        b"GET /v1/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as client:
        client.sendall(request[:40])
        simulator.settle()
        simulator.announce_reconnect(1)
        clock.advance(5)
        client.sendall(request[40:])
        simulator.settle()
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        clock.advance(20)
        assert simulator.connections == 1
        assert simulator.frames_sent == {}


def test_announcements_that_make_no_sense_are_refused(simulator: Simulator) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        simulator.announce_reconnect(-1)
    with pytest.raises(ValueError, match="another simulator"):
        simulator.announce_reconnect(1, successor=simulator)


def test_a_successor_must_be_running_or_nothing_is_announced(
    simulator: Simulator, clock: VirtualClock, dial: Dial
) -> None:
    peer = dial(simulator.url)
    peer.hello("connectivity_status")
    with same_market(clock) as closed:
        pass
    for successor in (same_market(clock), closed):
        with pytest.raises(ValueError, match=r"^the successor must be running$"):
            simulator.announce_reconnect(1, successor=successor)
    clock.advance(10)
    assert peer.drain(simulator) == []
    dial(simulator.url)
    assert simulator.connections == 2


def test_our_client_gets_the_notice_and_its_end_says_so(
    simulator: Simulator, clock: VirtualClock, canary_key: str
) -> None:
    with connect(canary_key, TRADES, endpoint=simulator.url, pacer=SharedPacer()) as stream:
        simulator.announce_reconnect(3)
        clock.advance(3)
        items = list(stream)  # no exception: it was announced, and closed well
        notices = [item for item in items if isinstance(item, ReconnectNotice)]
        assert [(n.within_seconds, n.before_time) for n in notices] == [(3, "2026-01-01T00:00:03.0000000Z")]
        ended = stream.disconnected
        assert ended is not None
        assert (ended.cause, ended.code, ended.clean, ended.initiator) == (Cause.NOTICE, 1001, True, "server")
        assert ended.error() is None


# Taking over


def test_two_simulators_with_one_start_have_the_same_market(clock: VirtualClock, dial: Dial) -> None:
    with same_market(clock) as first:
        one = dial(first.url)
        one.hello("trade", "quote", symbol_id=[BTC + "$"])
        clock.advance(10)
        # The other one starts late, and catches up.
        with same_market(clock) as second:
            other = dial(second.url)
            other.hello("trade", "quote", symbol_id=[BTC + "$"])
            early = one.drain(first)
            clock.advance(10)
            late, others = one.drain(first), other.drain(second)
    assert len(trades(early)) > 10
    assert len(trades(late)) > 10
    assert trades(late) == trades(others)
    assert not set(trades(early)) & set(trades(others))

    def without_sequence(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in m.items() if name != "sequence"} for m in messages]

    assert without_sequence(late) == without_sequence(others)
    # Each connection counts for itself.
    assert next(m["sequence"] for m in others if m["type"] == "trade") == 1
    assert next(m["sequence"] for m in late if m["type"] == "trade") == len(trades(early)) + 1


def test_other_seeds_or_starts_are_other_markets(clock: VirtualClock, dial: Dial) -> None:
    seen = []
    for seed, start_ns in ((7, START_NS), (7, START_NS), (8, START_NS), (7, START_NS - 1_000_000_000)):
        with Simulator(seed=seed, clock=VirtualClock(), market_start_ns=start_ns) as simulator:
            peer = dial(simulator.url)
            peer.hello("book", symbol_id=[BTC + "$"])
            seen.append(peer.message())
    assert seen[0] == seen[1]
    assert seen[2] != seen[0] != seen[3]


def test_a_simulator_that_starts_later_has_the_market_of_one_that_was_there(clock: VirtualClock, dial: Dial) -> None:
    with same_market(clock) as first:
        clock.advance(30)
        with same_market(clock) as second:
            peers = dial(first.url), dial(second.url)
            for peer in peers:
                peer.hello("book", "book_l3", "trade", symbol_id=[BTC + "$"])
            for simulator in (first, second):
                simulator.settle()
            clock.advance(10)
            of_first, of_second = peers[0].texts(first), peers[1].texts(second)
    assert of_first == of_second
    assert len(of_first) > 50


def test_start_itself_walks_the_market_to_where_it_is_now(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    step, walkers = Market.step, []

    def watched(market: Market, *arguments: Any) -> Any:
        walkers.append(threading.current_thread())
        return step(market, *arguments)

    monkeypatch.setattr(Market, "step", watched)
    with Simulator(clock=clock, market_start_ns=START_NS - 10_000_000_000) as simulator:
        simulator.settle()
        assert len(walkers) > 100
        assert set(walkers) == {threading.current_thread()}


HOUR_NS = 3_600_000_000_000


def test_a_market_begins_an_hour_ago_at_most(clock: VirtualClock) -> None:
    Simulator(clock=clock, market_start_ns=START_NS - HOUR_NS)
    for start_ns in (START_NS - HOUR_NS - 1, 0, -1):
        with pytest.raises(ValueError, match=r"^market_start_ns must be at most an hour ago"):
            Simulator(clock=clock, market_start_ns=start_ns).start()
    clock.advance(0.001)
    with pytest.raises(ValueError, match=r"^market_start_ns must be at most an hour ago"):
        Simulator(clock=clock, market_start_ns=START_NS - HOUR_NS).start()


def test_a_market_may_begin_in_the_future(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, market_start_ns=START_NS + 5_000_000_000) as simulator:
        peer = dial(simulator.url)
        peer.hello("quote", symbol_id=[BTC + "$"])
        clock.advance(4.9)
        assert peer.drain(simulator) == []
        clock.advance(5)
        assert len(peer.drain(simulator)) > 5


def test_a_successor_takes_new_connections_at_the_same_address(clock: VirtualClock, dial: Dial) -> None:
    with same_market(clock) as first, same_market(clock) as second:
        old = dial(first.url)
        old.hello("trade", symbol_id=[BTC + "$"])
        clock.advance(2)
        first.announce_reconnect(5, successor=second)
        new = dial(first.url)
        new.hello("trade", symbol_id=[BTC + "$"])
        assert (first.connections, second.connections) == (1, 1)
        clock.advance(5)
        assert (first.connections, second.connections) == (0, 1)
        of_old = [json.loads(text) for text in old.rest_until_closed()]
        clock.advance(20)
        of_new = new.drain(second)
    both = set(trades(of_old)) & set(trades(of_new))
    assert len(both) > 5
    # Together they are one market without a hole: the old one's end is the new one's beginning.
    assert trades(of_old)[-len(both) :] == trades(of_new)[: len(both)]


def test_a_program_of_ours_moves_to_the_successor_without_losing_a_trade(
    clock: VirtualClock, dial: Dial, canary_key: str
) -> None:
    with same_market(clock) as first, same_market(clock) as second:
        watcher = dial(second.url)
        watcher.hello("trade", symbol_id=[BTC + "$"])
        with connect(canary_key, TRADES, endpoint=first.url, pacer=SharedPacer()) as old:
            # Heartbeats and data prove that the hello was heard.
            first.settle()
            clock.advance(3)
            first.announce_reconnect(10, successor=second)
            clock.advance(4)
            with connect(canary_key, TRADES, endpoint=first.url, pacer=SharedPacer()) as new:
                second.settle()
                clock.advance(6)
                before = [item.uuid for item in old if isinstance(item, Trade)]
                assert old.disconnected is not None
                assert old.disconnected.cause is Cause.NOTICE
                clock.advance(4)
                everything = [m["uuid"] for m in watcher.drain(second)]
                first_of_new = next(item.uuid for item in new if isinstance(item, Trade))
                after = [first_of_new]
                while after[-1] != everything[-1]:
                    item = new.recv(timeout=10)
                    after += [item.uuid] if isinstance(item, Trade) else []
    assert len(set(before) & set(after)) > 5
    assert list(dict.fromkeys(before + after)) == everything


def test_without_a_successor_the_next_announcement_takes_the_place_back(clock: VirtualClock, dial: Dial) -> None:
    with same_market(clock) as first, same_market(clock) as second:
        first.announce_reconnect(1, successor=second)
        dial(first.url)
        first.announce_reconnect(1)
        dial(first.url)
        assert (first.connections, second.connections) == (1, 1)


def test_a_successor_that_was_closed_takes_nobody(clock: VirtualClock) -> None:
    with same_market(clock) as first:
        with same_market(clock) as second:
            first.announce_reconnect(1, successor=second)
        with socket.create_connection(("127.0.0.1", first.port), timeout=10) as client:
            assert client.recv(1) == b""


def test_a_successor_over_tls_shows_a_certificate_that_the_same_clients_trust(clock: VirtualClock, dial: Dial) -> None:
    with same_market(clock, tls=True) as first, same_market(clock, tls=True) as second:
        trusting = first.client_context
        old = dial(first.url, ssl=trusting)
        first.announce_reconnect(1, successor=second)
        new = dial(first.url, ssl=trusting)
        assert (first.connections, second.connections) == (1, 1)
        clock.advance(1)
        assert old.message()["type"] == "reconnect"
        assert old.close_code() == 1001
        new.hello("symbol", symbol_id=[BTC + "$"])
        assert new.message()["symbol_id"] == BTC
        # At its own address it goes on with its own.
        assert dial(second.url, ssl=second.client_context).websocket.getstatus() == 101
        with pytest.raises(ssl.SSLCertVerificationError):
            dial(second.url, ssl=trusting)


def test_a_successor_over_tls_with_a_context_of_one_s_own(clock: VirtualClock, dial: Dial) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with same_market(clock, ssl_context=server) as first, same_market(clock, ssl_context=server) as second:
        first.announce_reconnect(1, successor=second)
        new = dial(first.url, ssl=trusting)
        new.hello("symbol", symbol_id=[BTC + "$"])
        assert new.message()["symbol_id"] == BTC
        assert second.connections == 1


def test_the_address_decides_about_tls(clock: VirtualClock, dial: Dial) -> None:
    with same_market(clock) as first, same_market(clock, tls=True) as second:
        first.announce_reconnect(1, successor=second)
        new = dial(first.url)
        new.hello("symbol", symbol_id=[BTC + "$"])
        assert new.message()["symbol_id"] == BTC
        assert second.connections == 1
