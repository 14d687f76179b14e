"""The client with its threads: who hears what, and how its scope changes."""

from __future__ import annotations

import json
import logging
import ssl
import threading
from collections.abc import Callable

import pytest
import trustme
from client_harness import BTC, Heard, error, eventually, go_live
from peers import QUOTES, TRADES, ServerSide, serving
from proxy_servers import ConnectProxy

from coinapi_ws import (
    AuthenticationError,
    Client,
    ClientState,
    ConfigurationError,
    Connected,
    Disconnected,
    ErrorMessage,
    Event,
    Heartbeat,
    Live,
    Message,
    Quote,
    Scope,
    Subscription,
    Trade,
    UsageError,
)
from coinapi_ws.simulator import Simulator, VirtualClock

MakeClient = Callable[..., Client]

ETH = "COINBASE_SPOT_ETH_USD"
BOTH = Subscription(["trade"], symbol_ids=[f"{BTC}$", f"{ETH}$"])


def hellos(simulator: Simulator) -> list[list[str]]:
    """The data types of each hello that the simulator got."""
    simulator.settle()
    return [json.loads(text)["subscribe_data_type"] for text in simulator.received]


# Callbacks


def test_who_hears_what(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    client = make_client(simulator.url, BOTH)
    kinds = [(Trade, None), ("trade", None), (Trade, BTC), (Message, None), (Event, None), ("hearbeat", None)]
    heard = [client.on(kind, Heard(), symbol_id=symbol_id) for kind, symbol_id in kinds]
    client.start()
    go_live(client, virtual)
    virtual.advance(10)
    assert simulator.faults.send_text('{"type":"hearbeat"}') == 1
    heard[2].wait(Trade, 5)
    heard[5].wait(Heartbeat)
    assert client.close()
    by_class, by_name, of_one, messages, events, beats = heard
    assert by_class == by_name == [item for item in messages if isinstance(item, Trade)]
    assert of_one == [item for item in by_class if item.symbol_id == BTC]
    assert 0 < len(of_one) < len(by_class)
    assert {type(item) for item in messages} == {Trade, Heartbeat}
    assert [type(event) for event in events] == [Connected, Live, Disconnected]
    assert {type(item) for item in beats} == {Heartbeat}


def test_a_decorator_returns_its_function_and_order_is_kept(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(simulator.url, TRADES)
    calls: list[str] = []

    @client.on(Live)
    def first(live: Live) -> None:
        calls.append(f"first on {threading.current_thread().name}")

    @client.on(Event)
    def second(event: Event) -> None:
        if isinstance(event, Live):
            calls.append("second")

    assert first.__name__ == "first"
    with client:
        go_live(client, virtual)
        eventually(lambda: len(calls) == 2)
    assert calls == ["first on coinapi-ws-dispatch", "second"]


def test_a_callback_that_comes_later_misses_nothing_that_nobody_took(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(simulator.url, TRADES)
    client.start()
    go_live(client, virtual)
    heard = client.on(Event, Heard())
    heard.wait(Live)
    assert [type(event) for event in heard] == [Connected, Live]
    trades = client.on(Trade, Heard())
    virtual.advance(10)
    trades.wait(Trade)
    client.off(Trade, trades)
    heard_later = client.on(Trade, Heard())
    virtual.advance(10)
    heard_later.wait(Trade)
    assert client.close()
    # It may have been called with what was on its way, and no more.
    assert trades[-1] != heard_later[-1]
    with pytest.raises(UsageError):
        client.off(Trade, trades)


def test_inline_callbacks_run_on_the_io_thread(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(simulator.url, TRADES, dispatch="inline")
    names: set[str] = set()
    client.on(Message, lambda message: names.add(threading.current_thread().name))
    with client:
        go_live(client, virtual)
        eventually(lambda: names)
        running = {thread.name for thread in threading.enumerate()}
    assert names == {"coinapi-ws-io"}
    assert "coinapi-ws-dispatch" not in running


def test_what_is_no_callback_is_refused(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    with pytest.raises(ConfigurationError):
        client.on(Trade, "print")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError):
        client.on(int, Heard())


def test_wrong_options_are_told_when_it_is_made(make_client: MakeClient, simulator: Simulator) -> None:
    for wrong in ({"dispatch": "fibre"}, {"when_full": "panic"}, {"ssl": "yes"}, {"numbers": "octal"}):
        with pytest.raises(ConfigurationError):
            make_client(simulator.url, TRADES, **wrong)
    with pytest.raises(ConfigurationError):
        make_client(simulator.url, Subscription(["book"]), TRADES)


# The scope


def test_the_scope_before_and_after_the_start(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock
) -> None:
    client = make_client(simulator.url)
    client.subscribe(TRADES)
    client.subscribe(QUOTES)
    client.unsubscribe(TRADES)
    assert client.scope == Scope(QUOTES)
    client.start()
    go_live(client, virtual)
    changing = threading.Thread(target=client.subscribe, args=[TRADES])
    changing.start()
    changing.join()
    eventually(lambda: len(hellos(simulator)) == 2)
    client.replace(TRADES)
    eventually(lambda: len(hellos(simulator)) == 3)
    assert hellos(simulator) == [["quote"], ["quote", "trade"], ["trade"]]
    assert client.scope == Scope(TRADES)


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_the_scope_from_within_a_callback(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, dispatch: str
) -> None:
    client = make_client(simulator.url, TRADES, dispatch=dispatch)
    client.on(Live, lambda live: client.subscribe(QUOTES))
    quotes = client.on(Quote, Heard())
    with client:
        go_live(client, virtual)
        eventually(lambda: len(hellos(simulator)) == 2)
        virtual.advance(10)
        quotes.wait(Quote)


def test_many_threads_change_it_and_none_is_lost(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url)
    client.start()
    wanted = [Subscription(["trade"], symbol_ids=[f"COINBASE_SPOT_{n}_USD$"]) for n in range(40)]
    threads = [threading.Thread(target=client.subscribe, args=wanted[n::4]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(client.scope, key=repr) == sorted(wanted, key=repr)
    eventually(
        lambda: hellos(simulator) and len(json.loads(simulator.received[-1])["subscribe_filter_symbol_id"]) == 40
    )


def test_without_a_scope_it_is_parked(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    client = make_client(simulator.url)
    client.start()
    eventually(lambda: client.state is ClientState.PARKED)
    assert simulator.connections == 0
    client.subscribe(TRADES)
    go_live(client, virtual)
    client.unsubscribe(TRADES)
    eventually(lambda: client.state is ClientState.PARKED)
    simulator.settle()
    assert simulator.closes_received == [(1000, "")]
    client.subscribe(QUOTES)
    go_live(client, virtual)
    assert hellos(simulator) == [["trade"], ["quote"]]


def test_a_change_that_cannot_be_leaves_the_scope_as_it_was(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    with pytest.raises(UsageError):
        client.unsubscribe(QUOTES)
    with pytest.raises(ConfigurationError):
        client.subscribe(Subscription(["quote"], exchange_ids=["KRAKEN"]))  # one hello cannot hold both
    assert client.scope == Scope(TRADES)


# The connection's options


def test_tls_reaches_the_connection(make_client: MakeClient, virtual: VirtualClock) -> None:
    with Simulator(clock=virtual, tls=True) as simulator:
        client = make_client(simulator.url, TRADES, ssl=simulator.client_context)
        with client:
            go_live(client, virtual)
        refused = make_client(simulator.url, TRADES, ssl=ssl.create_default_context(), max_attempts=1)
        refused.start()
        eventually(lambda: refused.disconnected is not None)
        assert refused.disconnected is not None
        assert "certificate" in refused.disconnected.detail
        assert refused.close()


def test_a_server_hostname_reaches_the_connection(make_client: MakeClient) -> None:
    authority = trustme.CA()
    serving_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("inner.example").configure_cert(serving_context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def handle(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        server.text('{"type":"hearbeat"}')
        server.send(server.until_closed().response())

    with serving(handle, serving_context) as url:
        client = make_client(url, TRADES, ssl=trusting, server_hostname="inner.example")
        client.start()
        assert client.wait_live(10)
        assert client.close()


def test_a_proxy_reaches_the_connection(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    target = ("127.0.0.1", simulator.port)
    with ConnectProxy({target: target}) as proxy, make_client(simulator.url, TRADES, proxy=proxy.url) as client:
        go_live(client, virtual)
        assert proxy.asked == [target]
        assert client.close()


def test_resolve_and_jwt_are_called_on_the_io_thread(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, canary_key: str
) -> None:
    names: list[str] = []

    def token() -> str:
        names.append(threading.current_thread().name)
        return "a.b.c"

    client = make_client(simulator.url, TRADES, jwt=token, auth="header")
    with client:
        go_live(client, virtual)
    assert names == ["coinapi-ws-io"]


# The key (F24)


def test_the_key_is_nowhere_to_be_seen_f24(
    make_client: MakeClient,
    virtual: VirtualClock,
    canary_key: str,
    assert_no_canary: Callable[[object], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with Simulator(clock=virtual) as simulator:
        client = make_client(simulator.url, TRADES, auth="query", max_attempts=1)
        heard = client.on(Event, Heard())
        client.on(ErrorMessage, heard)
        client.start()
        go_live(client, virtual)
        simulator.faults.error(f"Invalid API key {canary_key}")
        eventually(lambda: client.state is ClientState.CLOSED)
    with pytest.raises(AuthenticationError) as raised:
        client.join(10)
    assert "gives up" in caplog.text
    for thing in (client, raised.value, raised.value.disconnected, client.stats(), *heard, vars(client)):
        assert_no_canary(thing)
    assert repr(client) == f"<Client 127.0.0.1:{simulator.port} closed>"


def test_an_error_that_the_server_says_is_a_message_too(make_client: MakeClient) -> None:
    def handle(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        server.text(error("Invalid data type 'trades'"))
        server.close(1008)

    with serving(handle) as url:
        client = make_client(url, TRADES)
        heard = client.on(ErrorMessage, Heard())
        client.start()
        assert heard.wait(ErrorMessage).message == "Invalid data type 'trades'"
        eventually(lambda: client.state is ClientState.CLOSED)
