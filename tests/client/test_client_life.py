"""From start to end: waiting, joining, running, and every call in every state."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from client_harness import Heard, eventually, go_live, on_a_thread
from peers import QUOTES, TRADES, listening, url_of

from coinapi_ws import (
    AuthenticationError,
    Client,
    ClientState,
    ConnectError,
    Disconnected,
    Live,
    Trade,
    UsageError,
)
from coinapi_ws.simulator import Simulator, VirtualClock

MakeClient = Callable[..., Client]


def test_a_whole_life(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    client = make_client(simulator.url, TRADES)
    assert client.state is ClientState.IDLE
    assert client.disconnected is None
    client.start()
    go_live(client, virtual)
    assert client.close()
    assert client.state is ClientState.CLOSED
    assert client.disconnected is not None
    assert client.disconnected.clean
    assert client.join()
    assert not [thread for thread in threading.enumerate() if thread.name in ("coinapi-ws-io", "coinapi-ws-dispatch")]


def test_as_a_context_manager(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    with make_client(simulator.url, TRADES) as client:
        go_live(client, virtual)
    assert client.state is ClientState.CLOSED
    with pytest.raises(LookupError, match="mine"), make_client(simulator.url, TRADES) as client:
        raise LookupError("mine")
    assert client.state is ClientState.CLOSED


def test_it_is_started_once(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    client.start()
    with pytest.raises(UsageError, match="make a new one"):
        client.start()
    assert client.close()
    with pytest.raises(UsageError, match="the client is closed"):
        client.start()
    with pytest.raises(UsageError), client:
        pass


def test_closed_before_the_start(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    assert client.close()
    assert client.state is ClientState.CLOSED
    with pytest.raises(UsageError):
        client.start()
    with pytest.raises(UsageError):
        client.subscribe(QUOTES)
    assert client.join()


def test_every_call_after_the_end(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    heard = client.on(Trade, Heard())
    client.start()
    assert client.close()
    for call in (client.subscribe, client.unsubscribe, client.replace):
        with pytest.raises(UsageError, match="the client is closed"):
            call(TRADES)
    for again in (client.start, client.run, client.wait_live):
        with pytest.raises(UsageError):
            again()
    assert client.close()
    assert client.close(timeout=0)
    assert client.join()
    client.on(Live, Heard())
    client.off(Trade, heard)
    assert client.stats().disconnected is client.disconnected
    assert "closed" in repr(client)


# wait_live


def test_waiting_until_it_is_live(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    client = make_client(simulator.url, TRADES)
    assert client.wait_live(0) is False
    client.start()
    assert client.wait_live(0.01) is False
    waiting = on_a_thread(client.wait_live)
    go_live(client, virtual)
    assert waiting() is True
    assert client.wait_live(0) is True


def test_a_life_that_ended_before_it_was_looked_at_was_one(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(simulator.url, TRADES)
    client.start()
    wait = client._worker.wait_for_state

    def wait_and_be_cut(wanted: Callable[[ClientState], bool], timeout: float | None) -> bool:
        came = wait(wanted, timeout)
        simulator.faults.drop()
        eventually(lambda: client.state is not ClientState.LIVE)
        return came

    monkeypatch.setattr(client._worker, "wait_for_state", wait_and_be_cut)
    go_live(client, virtual)
    assert client.wait_live(10) is True


def test_waiting_for_what_is_refused(make_client: MakeClient, virtual: VirtualClock) -> None:
    with Simulator(clock=virtual, api_keys=[]) as simulator:
        client = make_client(simulator.url, TRADES)
        waiting = on_a_thread(client.wait_live)
        client.start()
        with pytest.raises(AuthenticationError):
            waiting()
        with pytest.raises(AuthenticationError):
            client.wait_live()


def test_a_close_wakes_who_waits(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    client.start()
    waiting, joining = on_a_thread(client.wait_live), on_a_thread(client.join)
    assert client.close()
    with pytest.raises(UsageError, match="was closed"):
        waiting()
    assert joining() is True


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_waiting_in_a_callback(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, dispatch: str
) -> None:
    client = make_client(simulator.url, TRADES, dispatch=dispatch)
    outcome: list[object] = []

    def wait(live: Live) -> None:
        try:
            outcome.append(client.wait_live(10))
        except UsageError as error:
            outcome.append(type(error))

    client.on(Live, wait)
    with client:
        go_live(client, virtual)
        eventually(lambda: outcome)
    # Inline it is the thread that would make it live.
    assert outcome == [True if dispatch == "thread" else UsageError]


# join and run


def test_joining_before_the_start(make_client: MakeClient, simulator: Simulator) -> None:
    with pytest.raises(UsageError, match="after start"):
        make_client(simulator.url, TRADES).join()


def test_joining_has_a_timeout(make_client: MakeClient, simulator: Simulator) -> None:
    client = make_client(simulator.url, TRADES)
    client.start()
    assert client.join(0) is False
    assert client.join(0.01) is False
    assert client.close()
    assert client.join(0) is True


@pytest.mark.parametrize("dispatch", ["thread", "inline"])
def test_joining_in_a_callback_is_refused_f1(
    make_client: MakeClient, simulator: Simulator, virtual: VirtualClock, dispatch: str
) -> None:
    client = make_client(simulator.url, TRADES, dispatch=dispatch)
    raised: list[str] = []

    def join(live: Live) -> None:
        with pytest.raises(UsageError, match="wait for itself"):
            client.join()
        raised.append(threading.current_thread().name)

    client.on(Live, join)
    with client:
        go_live(client, virtual)
        eventually(lambda: raised)


def test_joining_raises_what_ended_it(make_client: MakeClient) -> None:
    with listening() as closed:
        url = url_of(closed)
    client = make_client(url, TRADES, max_attempts=1)
    ended = client.on(Disconnected, Heard())
    client.start()
    # The first reconnect comes within a second.
    with pytest.raises(ConnectError) as raised:
        client.join(10)
    assert raised.value.disconnected is ended[-1] is client.disconnected
    assert len(ended) == 2
    assert client.close()


def test_running_in_the_foreground(make_client: MakeClient, simulator: Simulator, virtual: VirtualClock) -> None:
    client = make_client(simulator.url, TRADES)
    heard = client.on(Live, Heard())
    client.on(Live, lambda live: client.close())
    running = on_a_thread(client.run)
    eventually(lambda: client.state is not ClientState.IDLE)
    eventually(lambda: virtual.advance(0.5) or client.state is ClientState.CLOSED)  # type: ignore[func-returns-value]
    assert running() is None
    assert len(heard) == 1


def test_running_raises_what_ended_it(make_client: MakeClient, virtual: VirtualClock) -> None:
    with Simulator(clock=virtual, api_keys=[]) as simulator:
        client = make_client(simulator.url, TRADES)
        with pytest.raises(AuthenticationError):
            client.run()
        assert client.state is ClientState.CLOSED
        with pytest.raises(UsageError):
            client.run()


def test_an_interrupt_closes_what_runs_in_the_foreground(
    make_client: MakeClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(simulator.url, TRADES)

    def interrupted(timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.run()
    assert client.state is ClientState.CLOSED
