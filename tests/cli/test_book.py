"""`book` in lines, and what its ladder has to show; on a terminal it is in test_screen.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from book_messages import SYMBOL, l2

from coinapi_ws import Cause, Disconnected, Live, Quiet, Reconnecting, Scope, SequenceGap, Subscription
from coinapi_ws.books import BookState
from coinapi_ws.cli.book import Renewal, WatchedBook
from coinapi_ws.simulator import Simulator

LIVE = Live(received_ns=1)
CUT = Disconnected(cause=Cause.NETWORK, initiator="network", detail="it broke", stage="connect")
SNAPSHOT = l2([(3, 1)], [(2, 1)], sequence=1, is_snapshot=True)


def frame(sequence: int, *, is_snapshot: bool = False, bid: str = "1.10", symbol: str = "A_SPOT_B_C") -> str:
    return (
        f'{{"type":"book","symbol_id":"{symbol}","sequence":{sequence},"is_snapshot":{str(is_snapshot).lower()},'
        f'"asks":[{{"price":2.00,"size":1}}],"bids":[{{"price":{bid},"size":5}}]}}'
    )


def watched(*items: Any) -> WatchedBook:
    book = WatchedBook(SYMBOL)
    for item in items:
        book.take(item)
    return book


@pytest.mark.parametrize(
    ("items", "state", "reason"),
    [
        ((), BookState.EMPTY, "connecting"),
        ((LIVE,), BookState.EMPTY, "waiting for a snapshot"),
        ((LIVE, SNAPSHOT), BookState.LIVE, ""),
        ((LIVE, SNAPSHOT, CUT), BookState.STALE, "disconnected: it broke"),
        (
            (LIVE, SNAPSHOT, CUT, Reconnecting(attempt=2, delay=1.25, cause=Cause.NETWORK)),
            BookState.STALE,
            "disconnected, attempt 2 in 1.2 s: it broke",
        ),
        ((LIVE, SNAPSHOT, CUT, LIVE), BookState.STALE, "waiting for a snapshot"),
        ((LIVE, SNAPSHOT, CUT, LIVE, l2(sequence=2)), BookState.STALE, "waiting for a snapshot"),
        ((LIVE, SNAPSHOT, CUT, LIVE, SNAPSHOT), BookState.LIVE, ""),
        (
            (LIVE, SNAPSHOT, SequenceGap(type="book", symbol_id=SYMBOL, expected=2, received=3)),
            BookState.STALE,
            "sequence 3 came where 2 was expected; waiting for a snapshot",
        ),
        (
            (LIVE, SNAPSHOT, l2(sequence=9), CUT),
            BookState.STALE,
            "sequence 9 came where 2 was expected; disconnected: it broke",
        ),
    ],
)
def test_why_a_book_is_not_true(items: tuple[Any, ...], state: BookState, reason: str) -> None:
    shown = watched(*items).shown(10)
    assert (shown.book.state, shown.reason) == (state, reason)


def test_updates_are_those_that_the_book_took() -> None:
    book = watched(LIVE, l2(sequence=1), SNAPSHOT, l2([(4, 1)], sequence=2), l2(sequence=9), l2(sequence=10))
    assert book.updates == 2
    assert book.shown(1).levels == (2, 1)
    assert len(book.shown(1).book.asks) == 1


def test_what_belongs_to_others_is_left_alone() -> None:
    other = SequenceGap(type="trade", symbol_id=SYMBOL, expected=2, received=3)
    assert watched(LIVE, SNAPSHOT, other, l2(symbol_id="Y")).book.state is BookState.LIVE


def test_quiet_is_told_until_something_comes() -> None:
    quiet = Quiet(type="book", seconds=10, asked=Scope(Subscription(["book"], symbol_ids=["X$"])))
    book = watched(LIVE)
    assert "perhaps the filter matches nothing" in str(book.take(quiet))
    assert book.connection.text == quiet.summary()
    book.take(SNAPSHOT)
    assert book.connection.text == "connected"


def test_a_book_with_a_gap_is_renewed_at_once_and_again_after_ten_seconds() -> None:
    renewal, gapped = Renewal(), watched(LIVE, SNAPSHOT, l2(sequence=9))
    assert [now for now in range(25) if renewal.is_due(gapped, float(now))] == [0, 10, 20]


@pytest.mark.parametrize(
    "items",
    [
        (LIVE,),
        (LIVE, SNAPSHOT),
        (LIVE, SNAPSHOT, CUT),
        (LIVE, SNAPSHOT, CUT, LIVE),
        (LIVE, SNAPSHOT, l2(sequence=9), CUT, LIVE, l2(sequence=1)),
    ],
)
def test_a_snapshot_that_comes_by_itself_is_waited_for(items: tuple[Any, ...]) -> None:
    assert not Renewal().is_due(watched(*items), 0.0)


def test_a_gap_after_the_snapshot_of_a_new_connection_counts_again() -> None:
    assert Renewal().is_due(watched(LIVE, SNAPSHOT, CUT, LIVE, SNAPSHOT, l2(sequence=9)), 0.0)


def replay(run, path: Path, *options: str):
    return run("book", "A_SPOT_B_C", "--recording", path, *options)


def test_a_line_a_change_of_the_best_or_the_state(run, recording) -> None:
    path = recording(
        *(frame(1), frame(1, is_snapshot=True), frame(2), frame(3, bid="1.2"), frame(4, bid="1.0")),
        *(frame(6, bid="1.3"), frame(7, bid="1.4"), frame(7, is_snapshot=True)),
    )
    code, out, err = replay(run, path)
    assert code == 0
    assert [" ".join(line.split()[2:9]) for line in out.splitlines()] == [
        "LIVE 1 1.10 5 2.00 1 0.90",
        "LIVE 3 1.2 5 2.00 1 0.80",
        "STALE 4 - - - - -",
        "LIVE 7 1.10 5 2.00 1 0.90",
    ]
    assert "sequence 6 came where 5 was expected; waiting for a snapshot" in out
    assert "8 messages in" in err


def test_count_counts_lines(run, recording) -> None:
    path = recording(frame(1, is_snapshot=True), frame(2), frame(3), frame(4, bid="1.2"), frame(5, bid="1.3"))
    assert len(replay(run, path, "--count", "2").lines) == 2


def test_the_recorded_book_ends_as_the_golden_file_says(run, shared: Path) -> None:
    recordings = shared / "recordings"
    golden = json.loads((recordings / "coinbase_2021-04-17.golden.json").read_text())["symbols"]
    for symbol_id, book in list(golden.items())[:3]:
        result = run("book", symbol_id, "--recording", recordings / "coinbase_2021-04-17.jsonl.gz")
        assert result.code == 0
        assert result.lines[-1].split()[4:8] == [*book["best_bids"][0], *book["best_asks"][0]]


def test_one_symbol_of_one_type_is_asked_for(run) -> None:
    with Simulator() as server:
        result = run("book", "COINBASE_SPOT_BTC_USD$", "--type", "book5", "--endpoint", server.url, "--count", "1")
        (hello,) = (json.loads(text) for text in server.received)
    assert result.code == 0
    assert hello["subscribe_data_type"] == ["book5"]
    assert hello["subscribe_filter_symbol_id"] == ["COINBASE_SPOT_BTC_USD$"]


@pytest.mark.parametrize("name", ["BTC-USD", "COINBASE_SPOT_BTC_USD"])
def test_ws_ds_has_two_names_for_a_symbol(run, name: str) -> None:
    with Simulator(direct_source="COINBASE") as server:
        result = run("book", name, "--endpoint", f"ds:{server.url}", "--count", "2")
    assert result.code == 0
    assert [line.split()[1:3] for line in result.lines] == [["COINBASE_SPOT_BTC_USD", "LIVE"]] * 2


def test_elsewhere_a_book_of_another_name_is_another_book() -> None:
    assert watched(LIVE, l2([(3, 1)], sequence=1, is_snapshot=True, symbol_id="Y")).book.state is BookState.EMPTY


def test_duration_ends_it(run) -> None:
    result = run("book", "COINBASE_SPOT_BTC_USD", "--simulate", "--duration", "0.3")
    assert result.code == 0
    assert float(result.err.partition(" in ")[2].split()[0]) >= 0.3


def test_a_lost_delta_makes_it_stale_and_a_new_connection_brings_it_back(start) -> None:
    with Simulator(seed=1, activity=20) as server:
        command = start("book", "COINBASE_SPOT_BTC_USD", "--endpoint", server.url)
        assert command.line().split()[2] == "LIVE"
        server.faults.skip_sequence(types=["book"])
        states = []
        while states[-2:] != ["STALE", "LIVE"]:
            state = command.line().split()[2]
            states += [state] * (states[-1:] != [state])
        command.interrupt()
        code, _, err = command.result()
        hellos = len(server.received)
    assert code == 130
    assert hellos == 2
    assert "coinapi-ws: connected again" in err


def test_a_cut_is_told_and_it_reconnects(start) -> None:
    with Simulator(seed=1, activity=20) as server:
        command = start("book", "COINBASE_SPOT_BTC_USD", "--endpoint", server.url)
        assert command.line().split()[2] == "LIVE"
        server.faults.drop(reset=True)
        line = command.line()
        while " STALE " not in line:
            line = command.line()
        while " LIVE " not in line:
            line = command.line()
        command.interrupt()
        assert "disconnected: the connection broke" in command.result().err
        assert len(server.received) == 2


@pytest.mark.parametrize("command", ["book", "candles"])
def test_what_fails_at_first_is_one_line(run, monkeypatch, canary_key: str, command: str) -> None:
    monkeypatch.setenv("COINAPI_API_KEY", canary_key)
    with Simulator(api_keys=["another"]) as server:
        refused = run(command, "A_SPOT_B_C", "--endpoint", server.url)
    away = run(command, "A_SPOT_B_C", "--endpoint", server.url)
    assert (refused.code, away.code) == (1, 1)
    assert not refused.out + away.out
    assert "Invalid API key" in refused.err.splitlines()[-1]
    assert "check COINAPI_API_KEY" in refused.err.splitlines()[-1]
    (line,) = away.err.splitlines()
    assert line.endswith("; check the network and --endpoint")


@pytest.mark.parametrize("command", ["book", "candles"])
def test_a_recording_that_ends_in_an_error(run, recording, command: str) -> None:
    path = recording(frame(1, is_snapshot=True), '{"type":"error","message":"Forbidden - no privileges"}')
    code, _, err = run(command, "A_SPOT_B_C", "--recording", path)
    assert code == 1
    assert "look at your plan" in err.splitlines()[-1]


@pytest.mark.parametrize("command", ["book", "candles"])
def test_a_closed_pipe_is_no_error(start, command: str) -> None:
    process = start(command, "COINBASE_SPOT_BTC_USD", "--simulate", *(["--period", "1SEC"] * (command == "candles")))
    assert process.line()
    process.process.stdout.close()
    assert process.process.wait(30) == 0
    assert "Traceback" not in process.process.stderr.read()
