# ruff: noqa: RUF001
from __future__ import annotations

import pytest

from coinapi_ws import (
    ConnectionGap,
    Dropped,
    Gap,
    Message,
    Scope,
    Secret,
    SequenceGap,
    Subscription,
    Trade,
    Undecodable,
)
from coinapi_ws.cli.text import HEADER, TextLines
from coinapi_ws.decoding import Decoder
from coinapi_ws.messages import MESSAGE_TYPES
from coinapi_ws.timestamps import parse_ns

PUBLISHED = "2026-01-02T03:04:05.6789012Z"
RECEIVED_NS = parse_ns(PUBLISHED) + 1_230_000
SYMBOL = "COINBASE_SPOT_BTC_USD"
COLUMNS = f'"time_coinapi":"{PUBLISHED}","symbol_id":"{SYMBOL}","sequence":7'

LEVELS = '"asks":[{"price":101.5,"size":2},{"price":101.10,"size":0.123456}],"bids":[{"price":99,"size":12345.67}]'

# From a frame to its values; the other columns are those of COLUMNS.
VALUES = {
    '"type":"trade","price":84523.60,"size":0.00310908,"taker_side":"BUY"': "BUY    84523.60 × 0.00311",
    '"type":"trade"': "-             - × -",
    '"type":"quote","ask_price":101.5,"ask_size":3252,"bid_price":760,"bid_size":0': (
        "bid         760 × 0        ask       101.5 × 3252"
    ),
    '"type":"quote","ask_price":101.5,"ask_size":1,"bid_price":null': "bid           - × -        ask       101.5 × 1",
    f'"type":"book5",{LEVELS}': "bid          99 × 12346    ask      101.10 × 0.123",
    f'"type":"book20",{LEVELS}': "bid          99 × 12346    ask      101.10 × 0.123",
    '"type":"book50","asks":[],"bids":null': "bid           - × -        ask           - × -",
    f'"type":"book","is_snapshot":true,{LEVELS}': "snapshot 1 bids ≤ 99, 2 asks ≥ 101.10",
    f'"type":"book","is_snapshot":false,{LEVELS}': "bid          99 × 12346    and 2 more levels",
    '"type":"book","is_snapshot":false,"asks":[{"price":3,"size":0}],"bids":[{"price":2,"size":5}]': (
        "bid           2 × 5        ask           3 gone"
    ),
    '"type":"book","is_snapshot":false': "no change",
    '"type":"book_l3","is_snapshot":true,"asks":[{"id":"a","price":3,"size":1}]': "snapshot 0 bids ≤ -, 1 asks ≥ 3",
    '"type":"book_l3","is_snapshot":false,"bids":[{"id":"0123456789","price":3,"size":1,"update_type":"SUBTRACT"}]': (
        "bid           3 × 1        SUBTRACT 01234567"
    ),
    '"type":"book_l3","asks":[{"price":3,"size":1},{"price":4,"size":1},{"price":5,"size":1}]': (
        "ask           3 × 1        -        - +2"
    ),
    '"type":"book_l3"': "no change",
    (
        '"type":"ohlcv","period_id":"1MIN","price_open":84523.69,"price_high":84523.70,"price_low":84523.68'
        ',"price_close":84523.69,"volume_traded":0.00468951,"trades_count":5'
    ): "1MIN o84523.69 h84523.70 l84523.68 c84523.69 v0.00469",
    '"type":"error","message":"Invalid API key"': "Invalid API key",
    '"type":"reconnect","within_seconds":10': "the server will close this connection within 10 s",
    '"type":"hearbeat"': "",
}


def decoded(text: str, numbers: str = "decimal") -> Message:
    message = Decoder(numbers).decode(text, RECEIVED_NS)
    assert isinstance(message, Message), message
    return message


@pytest.mark.parametrize(("fields", "values"), VALUES.items())
def test_values_of_each_type(fields: str, values: str) -> None:
    message = decoded(f"{{{COLUMNS},{fields}}}")
    line = TextLines().line(message)
    if "symbol_id" in message.kinds:
        assert line == f"03:04:05.678 {message.type:<9} {SYMBOL:<24}  1.23ms  {values}".rstrip()
    else:
        assert line == f"03:04:05.680 {message.type:<9} {'-':<24}       -  {values}".rstrip()
    assert len(line) <= 110


def test_metadata_and_rates_name_what_they_are_about() -> None:
    lines = [
        TextLines().line(decoded(frame))[13:]
        for frame in (
            '{"type":"exrate","asset_id_base":"BTC","asset_id_quote":"USD","time":"2026-01-02T00:00:00Z","rate":10065.0319541}',
            '{"type":"exrate","asset_id_base":"BTC","rate":10065.03195410000000000}',
            '{"type":"asset","asset_id":"BTC","name":"Bitcoin","price_usd":0.01898851515563054,"data_symbols_count":6}',
            '{"type":"asset","asset_id":"FAKT"}',
            '{"type":"exchange","exchange_id":"BITMEX","name":"BitMEX","website":"https://www.bitmex.com/"}',
            '{"type":"symbol","symbol_id":"KRAKEN_SPOT_A_B","symbol_type":"SPOT","asset_id_base":"A",'
            '"asset_id_quote":"B","price":0.5,"price_precision":0.01}',
            '{"type":"exchange","exchange_id":"X","name":"' + "long " * 20 + '"}',
        )
    ]
    assert lines == [
        "exrate    BTC/USD                        -  rate  10065.03195",
        "exrate    BTC/-                          -  rate  10065.03195",
        "asset     BTC                            -  Bitcoin, USD 0.01898851516, 6 symbols",
        "asset     FAKT                           -",
        "exchange  BITMEX                         -  BitMEX, https://www.bitmex.com/",
        "symbol    KRAKEN_SPOT_A_B                -  SPOT, A/B, price 0.5, tick 0.01",
        "exchange  X                              -  " + ("long " * 20)[:52] + "…",
    ]


def test_unknown_type_shows_its_fields() -> None:
    line = TextLines().line(decoded('{"type":"connectivity_status","symbol_id":"A_B","exchange_id":"A","up":true}'))
    assert line == f"03:04:05.680 connecti… {'A_B':<24}       -  exchange_id=A up=True"


def test_every_message_type_has_a_line() -> None:
    for name in MESSAGE_TYPES:
        line = TextLines().line(decoded(f'{{"type":"{name}"}}'))
        assert line.startswith(f"03:04:05.680 {name.replace('hearbeat', 'heartbeat')[:9]}")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (SequenceGap(type="book", symbol_id=SYMBOL, expected=5, received=9), "book: expected 5, received 9: 4 missing"),
        (SequenceGap(type="book", symbol_id=SYMBOL, expected=5, received=2), "book: expected 5, received 2: went back"),
        (
            ConnectionGap(
                from_ns=RECEIVED_NS,
                to_ns=RECEIVED_NS,
                reason="network",
                scope=Scope(Subscription(["trade"], symbol_ids=["A_"])),
            ),
            "nothing from 03:04:05.680 on: network",
        ),
        (
            Dropped(type="quote", symbol_id=None, count=3, first_ns=RECEIVED_NS, last_ns=RECEIVED_NS),
            "quote: 3 not delivered since 03:04:05.680",
        ),
        (Undecodable(reason="not valid JSON", received_ns=RECEIVED_NS, payload="{"), "not valid JSON (length 1)"),
        (Undecodable(reason="a binary frame", received_ns=RECEIVED_NS, payload=b"12"), "a binary frame (length 2)"),
    ],
)
def test_events_have_lines(event: Gap | Undecodable, line: str) -> None:
    columns = TextLines().line(event).split(maxsplit=4)
    assert columns[0] == ("-" if isinstance(event, SequenceGap) else "03:04:05.680")
    assert columns[1] == ("GAP" if isinstance(event, Gap) else "INVALID")
    assert columns[2] == getattr(event, "symbol_id", None) or columns[2] == "-"
    assert columns[4] == line


@pytest.mark.parametrize(
    ("number", "price", "size"),
    [
        ("0.00001294", "0.00001294", "0.0000129"),
        ("1E-8", "0.00000001", "0.00000001"),
        ("1e-30", "1E-30", "1E-30"),
        ("770.000000000", "770.0000000", "770"),
        ("1234.5678", "1234.5678", "1235"),
        ("1E+5", "100000", "100000"),
        ("1e999999", "1E+999999", "1E+999999"),
        ("-37.63", "-37.63", "-37.6"),
        ("0", "0", "0"),
    ],
)
def test_numbers_are_shortened_and_shown_whole_on_demand(number: str, price: str, size: str) -> None:
    trade = decoded(f'{{"type":"trade","taker_side":"SELL","price":{number},"size":{number}}}')
    assert TextLines().line(trade).split()[4:] == ["SELL", price, "×", size]
    whole = TextLines(all_digits=True).line(trade).split()
    assert whole[5] == whole[7]
    assert whole[5] in {number, f"{number.upper()}", price}


def test_all_digits_are_those_of_the_wire() -> None:
    trade = decoded('{"type":"trade","taker_side":"BUY","price":770.000000000,"size":0.0189885151556305438646080756}')
    assert TextLines(all_digits=True).line(trade).split()[5:] == [
        "770.000000000",
        "×",
        "0.0189885151556305438646080756",
    ]


def test_floats_are_shown_too() -> None:
    trade = decoded('{"type":"trade","taker_side":"BUY","price":0.00001294,"size":12345.6}', "float")
    assert TextLines().line(trade).split()[5:] == ["0.00001294", "×", "12346"]


def test_header_stands_above_its_columns() -> None:
    line = TextLines().line(decoded(f'{{{COLUMNS},"type":"trade","taker_side":"BUY"}}'))
    for name, value in (("TIME", "03:04"), ("TYPE", "trade"), ("SYMBOL", SYMBOL), ("VALUES", "BUY")):
        assert HEADER.index(name) == line.index(value)
    assert HEADER.index("LATENCY") + len("LATENCY") == line.index("1.23ms") + len("1.23ms")


@pytest.mark.parametrize("days", [-1, 1])
def test_no_latency_where_the_clocks_are_of_different_days(days: int) -> None:
    trade = Trade(time_coinapi=PUBLISHED, received_ns=RECEIVED_NS + days * 86_400 * 10**9)
    assert TextLines().line(trade).split()[3] == "-"


def test_no_latency_in_a_replay() -> None:
    trade = Trade(symbol_id="A_B", time_coinapi=PUBLISHED, received_ns=RECEIVED_NS)
    assert TextLines().line(trade).split()[3] == "1.23ms"
    assert TextLines(with_latency=False).line(trade).split()[3] == "-"


def test_a_terminal_gets_no_control_characters() -> None:
    line = TextLines().line(decoded('{"type":"error","message":"a\\u001b[2Jb\\nc\\u0085é"}'))
    assert line.endswith("a\\x1b[2Jb\\nc\\x85é")


def test_key_is_redacted_before_a_long_text_is_cut(canary_key: str, assert_no_canary) -> None:
    padding = "x" * 20
    line = TextLines(redact=Secret(canary_key).redact).line(
        decoded(f'{{"type":"novelty","note":"{padding}{canary_key}{padding}"}}')
    )
    assert_no_canary(line)
    assert f"note={padding}***" in line
