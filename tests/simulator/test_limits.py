"""How often an IP address may upgrade and say hello: told in headers, enforced, and learned by our client."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from peers import QUOTES, TRADES, FakeClock, drive, ending, turn
from websockets.exceptions import InvalidStatus

from coinapi_ws import (
    Cause,
    Connected,
    Disconnected,
    ErrorMessage,
    Live,
    Options,
    RateLimited,
    Scope,
    Secret,
    SelectorConnection,
    connect,
    endpoint_from,
)
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.protocol.pacing import HELLO, MARGIN_SECONDS, UPGRADE
from coinapi_ws.simulator import Simulator, VirtualClock

Dial = Callable[..., Any]

TOO_MANY_HELLOS = "Too many hello, subscribe and unsubscribe messages: 2 in 10000 ms are allowed"
NANOSECOND = 1e-9


def limits(headers: Any) -> dict[str, str]:
    """The headers about limits, by their names as they came."""
    names = ("X-WsRequestsPerIpLimit", "X-WsHelloPerIpLimit", "X-ConcurrencyLimit", "Retry-After")
    return {name: value for name, value in headers.raw_items() if name.startswith(names)}


def refusal(dial: Dial, url: str, **options: Any) -> Any:
    """The response to an upgrade that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        dial(url, **options)
    return caught.value.response


@contextmanager
def raw_upgrade(port: int, head: bytes = b"") -> Iterator[bytes]:
    """The head of the answer to an upgrade, byte for byte."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(
            b"GET /v1/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + head + b"\r\n"
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            received = client.recv(4096)
            assert received, "the connection ended within the answer"
            answer += received
        yield answer.partition(b"\r\n\r\n")[0]


def hellos(dial: Dial, simulator: Simulator, count: int, **options: Any) -> Any:
    """A client that has said so many hellos."""
    peer = dial(simulator.url, **options)
    for _ in range(count):
        peer.hello("connectivity_status")
    assert peer.drain(simulator) == []
    return peer


# Upgrades


def test_an_upgrade_says_how_many_are_left(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, upgrade_limit=(3, 2.5)) as simulator:
        assert [limits(dial(simulator.url).websocket.response.headers) for _ in range(3)] == [
            {
                "X-WsRequestsPerIpLimit-Limit": "3",
                "X-WsRequestsPerIpLimit-Remaining": remaining,
                "X-WsRequestsPerIpLimit-WindowSizeMs": "2500",
            }
            for remaining in ("2", "1", "0")
        ]


def test_an_upgrade_too_much_is_refused_with_429_and_says_how_long_to_wait(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, upgrade_limit=(1, 10.0)) as simulator:
        dial(simulator.url)
        clock.advance(2.9999)
        response = refusal(dial, simulator.url)
        assert (response.status_code, response.reason_phrase) == (429, "Too Many Requests")
        assert response.body == b"Too many upgrade requests"
        assert limits(response.headers) == {
            "X-WsRequestsPerIpLimit-Limit": "1",
            "X-WsRequestsPerIpLimit-Remaining": "0",
            "X-WsRequestsPerIpLimit-WindowSizeMs": "10000",
            "X-WsRequestsPerIpLimit-RetryAfterMs": "7001",  # 7000.1, rounded up so that the wait is long enough
            "Retry-After": "8",
        }
        assert (len(simulator.requests), len(simulator.requests_refused)) == (1, 1)
        assert simulator.connections == 1


def test_the_headers_have_the_vendor_s_spelling(clock: VirtualClock) -> None:
    with Simulator(clock=clock, upgrade_limit=(1, 10), hello_limit=(7, 8), connection_limit=9) as simulator:
        with raw_upgrade(simulator.port) as accepted:
            pass
        with raw_upgrade(simulator.port) as refused:
            pass
    assert accepted.startswith(b"HTTP/1.1 101 ")
    assert [line for line in accepted.split(b"\r\n") if b"imit-" in line] == [
        b"X-WsRequestsPerIpLimit-Limit: 1",
        b"X-WsRequestsPerIpLimit-Remaining: 0",
        b"X-WsRequestsPerIpLimit-WindowSizeMs: 10000",
        b"X-WsHelloPerIpLimit-Limit: 7",
        b"X-WsHelloPerIpLimit-Remaining: 7",
        b"X-WsHelloPerIpLimit-WindowSizeMs: 8000",
        b"X-ConcurrencyLimit-Limit: 9",
        b"X-ConcurrencyLimit-Remaining: 9",
    ]
    assert refused.split(b"\r\n") == [
        b"HTTP/1.1 429 Too Many Requests",
        b"Content-Type: text/plain",
        b"X-WsRequestsPerIpLimit-Limit: 1",
        b"X-WsRequestsPerIpLimit-Remaining: 0",
        b"X-WsRequestsPerIpLimit-WindowSizeMs: 10000",
        b"X-WsRequestsPerIpLimit-RetryAfterMs: 10000",
        b"Retry-After: 10",
        b"Content-Length: 25",
        b"Connection: close",
    ]


def test_without_limits_there_are_no_headers_and_no_refusals(simulator: Simulator, dial: Dial) -> None:
    peers = [hellos(dial, simulator, 15) for _ in range(15)]
    assert [limits(peer.websocket.response.headers) for peer in peers] == [{}] * 15


def test_the_window_slides_to_the_nanosecond(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, upgrade_limit=(2, 10)) as simulator:
        dial(simulator.url)
        clock.advance(4)
        dial(simulator.url)
        clock.advance(6 - NANOSECOND)
        response = refusal(dial, simulator.url)
        assert limits(response.headers)["X-WsRequestsPerIpLimit-RetryAfterMs"] == "1"
        assert limits(response.headers)["Retry-After"] == "1"
        clock.advance(NANOSECOND)
        dial(simulator.url)
        # The one of the fourth second is still in the window.
        response = refusal(dial, simulator.url)
        assert limits(response.headers)["X-WsRequestsPerIpLimit-RetryAfterMs"] == "4000"
        clock.advance(4)
        dial(simulator.url)
        assert len(simulator.requests) == 4


def test_what_was_refused_does_not_count(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, upgrade_limit=(1, 10)) as simulator:
        dial(simulator.url)
        for _ in range(5):
            clock.advance(1.5)
            refusal(dial, simulator.url)
        clock.advance(2.5)
        dial(simulator.url)
        assert (len(simulator.requests), len(simulator.requests_refused)) == (2, 5)


def test_a_closed_connection_was_an_upgrade_all_the_same(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, upgrade_limit=(1, 10)) as simulator:
        dial(simulator.url).websocket.close()
        assert refusal(dial, simulator.url).status_code == 429


def test_each_address_has_upgrades_of_its_own(clock: VirtualClock, dial: Dial, second_address: tuple[str, int]) -> None:
    with Simulator(clock=clock, upgrade_limit=(1, 10)) as simulator:
        dial(simulator.url)
        clock.advance(5)
        dial(simulator.url, source_address=second_address)
        assert refusal(dial, simulator.url, source_address=second_address).headers["Retry-After"] == "10"
        assert refusal(dial, simulator.url).headers["Retry-After"] == "5"


def test_our_client_is_told_how_long_to_wait_and_then_does_not_even_knock(
    clock: VirtualClock, dial: Dial, canary_key: str
) -> None:
    with Simulator(clock=clock, upgrade_limit=(1, 3600)) as simulator:
        dial(simulator.url)
        clock.advance(600.5)
        pacer = SharedPacer()
        with pytest.raises(RateLimited) as caught:
            connect(canary_key, TRADES, endpoint=simulator.url, pacer=pacer)
        error = caught.value
        assert (error.stage, error.status, error.retry_after) == ("upgrade", 429, 3000.0)
        assert error.server_text == "Too many upgrade requests"
        assert error.disconnected is not None
        assert error.disconnected.cause is Cause.RATE_LIMIT
        assert dict(error.disconnected.limits) == {
            "x-wsrequestsperiplimit-limit": "1",
            "x-wsrequestsperiplimit-remaining": "0",
            "x-wsrequestsperiplimit-windowsizems": "3600000",
            "x-wsrequestsperiplimit-retryafterms": "2999500",
            "retry-after": "3000",
        }
        with pytest.raises(RateLimited, match="allow the next connect in"):
            connect(canary_key, TRADES, endpoint=simulator.url, pacer=pacer)
        assert len(simulator.requests_refused) == 1


# What the client's pacer learns, with its clock and the simulator's side by side


class Side:
    """Our client and a simulator, whose clocks go together."""

    def __init__(self, simulator: Simulator, clock: VirtualClock, key: str) -> None:
        self.simulator = simulator
        self.pacer = SharedPacer()
        self._virtual = clock
        self._clock = FakeClock()
        self._offset = self._clock.now - clock.now()
        self._options = Options(endpoint=endpoint_from(simulator.url), api_key=Secret(key), silence_timeout=None)
        self._made: list[SelectorConnection] = []

    def connection(self) -> SelectorConnection:
        made = SelectorConnection(self._options, Scope(TRADES), pacer=self.pacer, clock=self._clock)
        self._made.append(made)
        return made

    def advance(self, seconds: float) -> None:
        self._virtual.advance(seconds)
        self._clock.now = self._offset + self._virtual.now()

    def wait(self, kind: str) -> float:
        """How long the pacer lets a client wait."""
        now = self._clock.now
        return self.pacer.next_allowed(f"127.0.0.1:{self.simulator.port}", kind, now, is_vendor=False) - now

    def wait_of(self, connection: SelectorConnection) -> float:
        timeout = connection.next_timeout()
        assert timeout is not None
        return timeout - self._clock.now

    def close(self) -> None:
        for connection in self._made:
            connection.abandon()


@pytest.fixture
def side_by_side(clock: VirtualClock, canary_key: str) -> Iterator[Callable[[Simulator], Side]]:
    sides: list[Side] = []

    def make(simulator: Simulator) -> Side:
        sides.append(Side(simulator, clock, canary_key))
        return sides[-1]

    yield make
    for side in sides:
        side.close()


MakeSide = Callable[[Simulator], Side]


def test_our_pacer_learns_the_upgrades_from_the_first_answer_and_is_never_refused(
    clock: VirtualClock, side_by_side: MakeSide
) -> None:
    with Simulator(clock=clock, upgrade_limit=(2, 8)) as simulator:
        side = side_by_side(simulator)
        first, second, third = (side.connection() for _ in range(3))
        drive(first, Connected, first.start())
        side.advance(3)
        drive(second, Connected, second.start())
        assert third.start() == []
        assert third.fileno() == -1
        # "Remaining: 0" does not say since when, so that it waits for a whole window.
        assert side.wait_of(third) == side.wait(UPGRADE) == 8.0
        side.advance(8)
        drive(third, Connected, third.handle_timeout())
        assert (len(simulator.requests), len(simulator.requests_refused)) == (3, 0)


def test_our_pacer_learns_from_a_429_when_to_come_again(
    clock: VirtualClock, dial: Dial, side_by_side: MakeSide
) -> None:
    with Simulator(clock=clock, upgrade_limit=(1, 10)) as simulator:
        dial(simulator.url)
        clock.advance(4)
        side = side_by_side(simulator)
        refused, again = side.connection(), side.connection()
        end = ending(drive(refused, Disconnected, refused.start()))
        assert (end.cause, end.error_type, end.retry_after) == (Cause.RATE_LIMIT, RateLimited, 6.0)
        assert again.start() == []
        assert side.wait_of(again) == 6.0
        side.advance(6)
        drive(again, Connected, again.handle_timeout())
        assert simulator.connections == 2


def test_our_pacer_learns_the_hellos_and_is_never_refused(clock: VirtualClock, side_by_side: MakeSide) -> None:
    with Simulator(clock=clock, hello_limit=(2, 10)) as simulator:
        side = side_by_side(simulator)
        connection = side.connection()
        items = drive(connection, Connected, connection.start())
        simulator.settle()
        side.advance(1)
        drive(connection, Live, items)
        for scope in (Scope(QUOTES), Scope(TRADES), Scope(TRADES, QUOTES)):
            items += connection.set_scope(scope)
        simulator.settle()
        assert [json.loads(text)["subscribe_data_type"] for text in simulator.received] == [["trade"], ["quote"]]
        assert side.wait(HELLO) == 9.0 + MARGIN_SECONDS
        side.advance(9 + MARGIN_SECONDS)
        items += connection.handle_timeout()
        simulator.settle()
        # The scopes in between were never sent.
        assert json.loads(simulator.received[-1])["subscribe_data_type"] == ["quote", "trade"]
        assert len(simulator.received) == 3
        side.advance(1)
        items += turn(connection)
        assert not any(isinstance(item, (ErrorMessage, Disconnected)) for item in items)
        assert simulator.connections == 1


def test_a_new_connection_of_ours_waits_with_its_hello_where_none_is_left(
    clock: VirtualClock, dial: Dial, side_by_side: MakeSide
) -> None:
    with Simulator(clock=clock, hello_limit=(1, 10)) as simulator:
        hellos(dial, simulator, 1)
        side = side_by_side(simulator)
        connection = side.connection()
        items = connection.start()
        while side.wait(HELLO) == 0:
            items += turn(connection)
        assert items == []
        assert side.wait(HELLO) == 10.0
        side.advance(10)
        items += connection.handle_timeout()
        drive(connection, Connected, items)
        simulator.settle()
        side.advance(1)
        drive(connection, Live, items)


# Hellos


def test_an_upgrade_says_how_many_hellos_are_left(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, hello_limit=(10, 10)) as simulator:
        told = []
        for _ in range(3):
            peer = dial(simulator.url)
            told.append(limits(peer.websocket.response.headers))
            peer.hello("connectivity_status")
            peer.unsubscribe("connectivity_status")
            simulator.settle()
    assert told == [
        {
            "X-WsHelloPerIpLimit-Limit": "10",
            "X-WsHelloPerIpLimit-Remaining": remaining,
            "X-WsHelloPerIpLimit-WindowSizeMs": "10000",
        }
        for remaining in ("10", "8", "6")
    ]


@pytest.mark.parametrize("kind", ["hello", "subscribe", "unsubscribe"])
def test_a_hello_too_much_gets_an_error_and_a_close(clock: VirtualClock, dial: Dial, kind: str) -> None:
    with Simulator(clock=clock, hello_limit=(2, 10)) as simulator:
        peer = hellos(dial, simulator, 1)
        getattr(peer, kind)("connectivity_status")
        assert peer.drain(simulator) == []
        getattr(peer, kind)("connectivity_status")
        assert peer.message() == {"type": "error", "message": TOO_MANY_HELLOS}
        assert peer.close_code() == 1008


def test_all_connections_of_an_address_share_its_hellos_also_closed_ones(clock: VirtualClock, dial: Dial) -> None:
    with Simulator(clock=clock, hello_limit=(2, 10)) as simulator:
        hellos(dial, simulator, 1).websocket.close()
        quiet = hellos(dial, simulator, 1)
        peer = dial(simulator.url)
        peer.hello("trade")
        assert peer.message()["message"] == TOO_MANY_HELLOS
        # Who said nothing too much goes on.
        assert quiet.drain(simulator) == []
        assert simulator.connections == 1


def test_each_address_has_hellos_of_its_own(clock: VirtualClock, dial: Dial, second_address: tuple[str, int]) -> None:
    with Simulator(clock=clock, hello_limit=(2, 10)) as simulator:
        hellos(dial, simulator, 2)
        headers = limits(hellos(dial, simulator, 2, source_address=second_address).websocket.response.headers)
        assert headers["X-WsHelloPerIpLimit-Remaining"] == "2"
        headers = limits(dial(simulator.url).websocket.response.headers)
        assert headers["X-WsHelloPerIpLimit-Remaining"] == "0"


def test_the_window_of_hellos_slides_to_the_nanosecond_and_refused_ones_do_not_count(
    clock: VirtualClock, dial: Dial
) -> None:
    with Simulator(clock=clock, hello_limit=(2, 10)) as simulator:
        peer = hellos(dial, simulator, 1)
        clock.advance(4)
        hellos(dial, simulator, 1)
        clock.advance(6 - NANOSECOND)
        refused = dial(simulator.url)
        refused.hello("connectivity_status")
        assert refused.message()["message"] == TOO_MANY_HELLOS
        clock.advance(NANOSECOND)
        peer.hello("connectivity_status")
        assert peer.drain(simulator) == []
        clock.advance(4)
        peer.hello("connectivity_status")
        assert peer.drain(simulator) == []
        peer.hello("connectivity_status")
        assert peer.message()["message"] == TOO_MANY_HELLOS


def test_our_client_raises_rate_limited_for_a_hello_too_much(clock: VirtualClock, dial: Dial, canary_key: str) -> None:
    with Simulator(clock=clock, hello_limit=(2, 10)) as simulator:
        other = dial(simulator.url)
        with connect(canary_key, TRADES, endpoint=simulator.url, pacer=SharedPacer()) as stream:
            simulator.settle()
            # Another program behind the same address takes what ours thinks is left.
            other.hello("connectivity_status")
            simulator.settle()
            stream.subscribe(QUOTES)
            item = next(stream)
            assert isinstance(item, ErrorMessage)
            assert item.message == TOO_MANY_HELLOS
            with pytest.raises(RateLimited, match="Too many hello") as caught:
                next(stream)
            assert (caught.value.status, caught.value.server_text) == (None, TOO_MANY_HELLOS)
            assert stream.disconnected is not None
            assert (stream.disconnected.cause, stream.disconnected.code) == (Cause.RATE_LIMIT, 1008)


# Options


@pytest.mark.parametrize("name", ["upgrade_limit", "hello_limit"])
@pytest.mark.parametrize(
    "value", [(0, 10), (-1, 10), (1, 0), (1, -1), (1, 0.0009), (1, float("inf")), (1, float("nan"))]
)
def test_limits_that_make_no_sense_are_refused(name: str, value: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match=f"{name} is a number of 1 or more, and the seconds"):
        Simulator(**{name: value})  # type: ignore[arg-type]
