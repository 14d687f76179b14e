"""A stream, a connection in one's own loop and a client, against servers that we did not write: one matrix."""

from __future__ import annotations

import json
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

import pytest
from foreign_servers import ForeignServer, that_can
from peers import PATIENCE_SECONDS, QUOTES, TRADES, drive, ending
from websocket_peer import CONTINUATION, TEXT, frame

from coinapi_ws import (
    Backoff,
    Cause,
    Client,
    Connected,
    ConnectionClosed,
    Disconnected,
    Options,
    ProtocolError,
    Scope,
    Secret,
    SelectorConnection,
    Stream,
    Trade,
    Undecodable,
    connect,
    endpoint_from,
)
from coinapi_ws.drivers.pacing import SharedPacer

Step = tuple[Any, ...]

#: How a connection can end without a Close, and by which steps.
ABRUPT_ENDS: Final[dict[str, list[Step]]] = {
    "FIN": [("fin",)],
    "FIN in a head": [("raw", frame(TEXT, b"{" * 1000)[:3].hex()), ("fin",)],
    "FIN in a payload": [("raw", frame(TEXT, b"{" * 1000)[:500].hex()), ("fin",)],
    "FIN between fragments": [("raw", frame(TEXT, b"{", fin=False).hex()), ("fin",)],
    "RST": [("rst",)],
}


@pytest.fixture
def dial(server: ForeignServer, canary_key: str) -> Callable[..., Stream]:
    """Connect a stream whose connection follows the steps."""

    def start(*steps: Step, **options: Any) -> Stream:
        url = server.url(("receive",), *steps)
        return connect(canary_key, TRADES, endpoint=url, ssl=server.ssl, pacer=SharedPacer(), **options)

    return start


@pytest.fixture
def watch(server: ForeignServer, canary_key: str) -> Callable[..., tuple[SelectorConnection, list[Any]]]:
    """Connect a SelectorConnection that follows the steps, and drive it; return it and its items."""

    def start(*steps: Step, until: Any = Connected) -> tuple[SelectorConnection, list[Any]]:
        endpoint = endpoint_from(server.url(("receive",), *steps))
        options = Options(endpoint=endpoint, api_key=Secret(canary_key))
        connection = SelectorConnection(options, Scope(TRADES), ssl_context=server.ssl, pacer=SharedPacer())
        return connection, drive(connection, until, connection.start())

    return start


Dial = Callable[..., Stream]
WatchIt = Callable[..., tuple[SelectorConnection, list[Any]]]


def test_the_handshake_says_who_we_are(server: ForeignServer, dial: Dial, canary_key: str) -> None:
    with dial(("trade", 1), ("close", 1000)) as stream:
        (trade,) = stream
    assert isinstance(trade, Trade)
    assert stream.disconnected is not None
    assert (stream.disconnected.code, stream.disconnected.clean) == (1000, True)
    outcome = server.outcome()
    assert outcome["headers"]["x-coinapi-key"] == canary_key
    assert outcome["headers"]["user-agent"].startswith("coinapi_ws/")
    assert "sec-websocket-extensions" not in outcome["headers"]
    assert outcome["path"].startswith("/v1/")
    assert [json.loads(text) for text in outcome["texts"][:1]] == [
        {
            "type": "hello",
            "heartbeat": True,
            "subscribe_data_type": ["trade"],
            "subscribe_filter_symbol_id": ["COINBASE_SPOT_BTC_USD$"],
        }
    ]


@pytest.mark.parametrize("compression", [False, True])
def test_large_messages(server: ForeignServer, dial: Dial, compression: bool) -> None:
    pads = ["", "x" * 20, "x" * 100, "ü" * 70_000, "y" * 1_000_000, "z" * 6 * 2**20]
    trades = [("trade", sequence, len(pad), pad[:1]) for sequence, pad in enumerate(pads, 1)]
    with dial(*trades, ("close", 1000), compression=compression) as stream:
        received = [item.extra["pad"] for item in stream if isinstance(item, Trade)]
        assert received == pads
        # They compress well, so this tells whether they were.
        assert (stream.stats().bytes < 1_000_000) is compression
    assert ("permessage-deflate" in server.outcome()["headers"].get("sec-websocket-extensions", "")) is compression


@pytest.mark.parametrize("compression", [False, True])
@that_can("fragments")
def test_fragments_with_a_ping_between_them_w14(server: ForeignServer, dial: Dial, compression: bool) -> None:
    """W14: a control frame between the fragments of a compressed message is not part of it."""
    with dial(("fragments", 1, 200_000, 7), ("close", 1000), compression=compression) as stream:
        (trade,) = stream
    assert isinstance(trade, Trade)
    assert trade.extra["pad"] == "z" * 200_000
    assert server.outcome()["done"] == ["receive", "fragments", "close"]


@that_can("flood")
def test_a_flood_of_pings(server: ForeignServer, dial: Dial) -> None:
    with dial(("flood", 5000), ("trade", 1), ("close", 1000)) as stream:
        assert [type(item) for item in stream] == [Trade]
    # The last one was answered.
    assert server.outcome()["done"] == ["receive", "flood", "trade", "close"]


def test_binary_messages_are_undecodable(dial: Dial) -> None:
    with dial(("binary", "0001"), ("close", 1000)) as stream:
        (item,) = stream
    assert isinstance(item, Undecodable)
    assert item.payload == b"\x00\x01"


@pytest.mark.parametrize(
    ("code", "reason", "cause"),
    [
        (1000, "", None),
        (1001, "going", None),
        (1008, "a policy", Cause.UNKNOWN),
        (1011, "an internal error", Cause.UNKNOWN),
        (1012, "a restart", Cause.NOTICE),
        (1013, "later", Cause.NOTICE),
        (4321, "Ω", Cause.UNKNOWN),
    ],
)
def test_the_server_s_close(server: ForeignServer, dial: Dial, code: int, reason: str, cause: Cause | None) -> None:
    with dial(("close", code, reason)) as stream:
        if cause is None:
            assert list(stream) == []
        else:
            with pytest.raises(ConnectionClosed) as caught:
                next(stream)
            assert (caught.value.code, caught.value.reason) == (code, reason)
        end = stream.disconnected
    assert end is not None
    assert (end.code, end.reason, end.clean, end.initiator) == (code, reason, True, "server")
    assert cause is None or end.cause is cause
    # Our answer came before the end of TCP.
    heard = server.outcome()["heard"]
    assert heard is None or heard[0] == code
    assert "hears" not in server.can or heard is not None
    assert "hears_why" not in server.can or heard == [code, reason]


@that_can("codeless")
def test_a_close_without_a_code(server: ForeignServer, dial: Dial) -> None:
    with dial(("close", None)) as stream:
        assert list(stream) == []
    assert stream.disconnected is not None
    assert (stream.disconnected.code, stream.disconnected.clean) == (1005, True)
    assert server.outcome()["done"] == ["receive", "close"]


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (1008, "a policy"), (3000, ""), (4999, "Ω")])
@that_can("hears")
def test_our_close(server: ForeignServer, watch: WatchIt, code: int, reason: str) -> None:
    connection, items = watch(("closed",))
    end = ending(drive(connection, Disconnected, items + connection.close(code, reason)))
    assert end.code in (code, 1000)  # the code of the answer; aiohttp has one for all
    assert (end.clean, end.initiator, end.cause) == (True, "client", Cause.LOCAL)
    assert server.outcome()["heard"] == [code, reason]


def test_the_end_of_a_with_block_is_a_close(server: ForeignServer, dial: Dial) -> None:
    dial(("closed",)).close()
    outcome = server.outcome()
    assert outcome["done"] == ["receive", "closed"]
    assert "hears" not in server.can or outcome["heard"][0] == 1000


@pytest.mark.parametrize(
    ("step", "code", "text"),
    [
        (("raw", frame(TEXT, b"{}", mask=b"abcd").hex()), 1002, "does not allow"),
        (("raw", frame(0x3).hex()), 1002, "does not allow"),
        (("raw", frame(TEXT, b"{}", rsv=4).hex()), 1002, "does not allow"),
        (("raw", frame(CONTINUATION, b"{}").hex()), 1002, "does not allow"),
        (("raw", frame(TEXT, b"\xff").hex()), 1007, "not UTF-8"),
        (("trade", 1, 100_000), 1009, "more than 50000 bytes"),
    ],
    ids=["masked", "opcode", "RSV1", "continuation", "UTF-8", "too big"],
)
@that_can("hears")
def test_what_breaks_a_rule_or_a_limit_is_told_to_the_server(
    server: ForeignServer, dial: Dial, step: Step, code: int, text: str
) -> None:
    with (
        dial(step, ("closed",), max_message_bytes=50_000) as stream,
        pytest.raises(ProtocolError, match=text),
    ):
        next(stream)
    assert stream.disconnected is not None
    assert (stream.disconnected.code, stream.disconnected.cause) == (code, Cause.PROTOCOL)
    assert server.outcome()["heard"] == [code, ""]


@pytest.mark.parametrize("end", ABRUPT_ENDS)
def test_a_stream_whose_connection_ends_abruptly(dial: Dial, end: str) -> None:
    with dial(("trade", 1), ("receive",), *ABRUPT_ENDS[end]) as stream:
        assert isinstance(next(stream), Trade)
        stream.subscribe(QUOTES)  # the server waits for it, so that nothing is lost with the RST
        with pytest.raises(ConnectionClosed) as caught:
            next(stream)
    assert (caught.value.code, caught.value.reason) == (1006, "")
    assert stream.disconnected is not None
    assert (stream.disconnected.cause, stream.disconnected.clean) == (Cause.NETWORK, False)
    assert stream.disconnected.messages_received == 1


@pytest.mark.parametrize("end", ABRUPT_ENDS)
def test_a_selector_connection_that_ends_abruptly(watch: WatchIt, end: str) -> None:
    connection, items = watch(("trade", 1), ("receive",), *ABRUPT_ENDS[end], until=Trade)
    items += connection.set_scope(Scope(TRADES, QUOTES))
    disconnected = ending(drive(connection, Disconnected, items))
    assert (disconnected.code, disconnected.cause, disconnected.stage) == (1006, Cause.NETWORK, "live")
    assert connection.fileno() == -1


@pytest.mark.parametrize("end", [*ABRUPT_ENDS, "a Close"])
def test_a_client_comes_back_after_any_end(server: ForeignServer, canary_key: str, end: str) -> None:
    """Each connection has one trade and then that end."""
    steps = ABRUPT_ENDS.get(end, [("close", 1001)])
    told: SimpleQueue[Any] = SimpleQueue()
    client = Client(
        canary_key,
        TRADES,
        endpoint=server.url(("receive",), ("trade", 1), *steps),
        ssl=server.ssl,
        pacer=SharedPacer(),
        backoff=Backoff(initial=0.01, maximum=0.01),
    )
    client.on(Connected, told.put)
    client.on(Disconnected, told.put)
    client.on(Trade, told.put)
    items: list[Any] = []
    with client:
        while [type(item) for item in items].count(Connected) < 3:
            items.append(told.get(timeout=PATIENCE_SECONDS))
            assert len(items) < 10
    ends = [item for item in items if isinstance(item, Disconnected)]
    assert [each.code for each in ends] == [1001 if end == "a Close" else 1006] * 2
    assert {each.cause for each in ends} == {Cause.NOTICE if end == "a Close" else Cause.NETWORK}
    if end != "RST":  # which may overtake
        assert [type(item) for item in items] == [Connected, Trade, Disconnected] * 2 + [Connected]


@pytest.mark.parametrize("compression", [False, True])
def test_a_client_takes_large_messages_and_says_good_bye(
    server: ForeignServer, canary_key: str, compression: bool
) -> None:
    trades = [("trade", sequence, 2**21) for sequence in (1, 2, 3)]
    told: SimpleQueue[Any] = SimpleQueue()
    url = server.url(("receive",), *trades, ("closed",))
    client = Client(canary_key, TRADES, endpoint=url, ssl=server.ssl, pacer=SharedPacer(), compression=compression)
    client.on(Trade, told.put)
    with client:
        received = [told.get(timeout=PATIENCE_SECONDS) for _ in trades]
    assert [(trade.sequence, len(trade.extra["pad"])) for trade in received] == [(1, 2**21), (2, 2**21), (3, 2**21)]
    assert "hears" not in server.can or server.outcome()["heard"] == [1000, ""]
