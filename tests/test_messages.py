"""Messages as values: frozen, compared by content, with companions for times and levels built on first use."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final

import pytest

from coinapi_ws.decoding import Decoder
from coinapi_ws.messages import (
    MESSAGE_TYPES,
    Asset,
    Book,
    BookL3,
    ErrorMessage,
    Exchange,
    ExchangeRate,
    Heartbeat,
    Level,
    LevelL3,
    Message,
    Ohlcv,
    Quote,
    ReconnectNotice,
    Symbol,
    Trade,
    UnknownMessage,
)

CLASSES: Final = tuple(dict.fromkeys([*MESSAGE_TYPES.values(), UnknownMessage]))

#: A JSON value for each kind of field.
SAMPLES: Final = {
    "Text": '"text"',
    "Time": '"2024-04-21T13:26:34.6972320Z"',
    "Number": "12.770",
    "Count": "7",
    "Flag": "true",
    "Items": '[1.5,{"a":null}]',
    "Json": '{"a":[1.5]}',
    "Levels": '[{"price":1.50,"size":2},{"price":null}]',
    "LevelsL3": '[{"id":"a","price":1.50,"size":2,"update_type":"ADD"},{"size":1}]',
}


def frame_of(name: str) -> str:
    """Return a frame of this type with every declared field, and one that is not."""
    kinds = MESSAGE_TYPES.get(name, UnknownMessage).kinds
    fields = "".join(f',"{field}":{SAMPLES[kind]}' for field, kind in kinds.items())
    return f'{{"type":"{name}"{fields},"new":[1.0,"x"]}}'


def decoded(text: str, numbers: str = "float", received_ns: int = 0, *, keep_raw: bool = False) -> Any:
    message = Decoder(numbers, keep_raw=keep_raw).decode(text, received_ns)
    assert isinstance(message, Message), message
    return message


EVERY_TYPE: Final = pytest.mark.parametrize("name", [*MESSAGE_TYPES, "connectivity_status"])
EVERY_CLASS: Final = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
NUMBERS: Final = pytest.mark.parametrize("numbers", ["float", "decimal"])


def test_wire_names() -> None:
    assert {
        "trade": Trade,
        "quote": Quote,
        "book": Book,
        "book5": Book,
        "book20": Book,
        "book50": Book,
        "book_l3": BookL3,
        "ohlcv": Ohlcv,
        "exrate": ExchangeRate,
        "asset": Asset,
        "exchange": Exchange,
        "symbol": Symbol,
        "error": ErrorMessage,
        "reconnect": ReconnectNotice,
        "heartbeat": Heartbeat,
        "hearbeat": Heartbeat,
    } == MESSAGE_TYPES


@EVERY_CLASS
def test_what_is_absent_reads_as_none_and_lists_as_empty(kind: type[Message]) -> None:
    message = kind()
    for field, field_kind in kind.kinds.items():
        expected = () if field_kind in ("Items", "Levels", "LevelsL3") else None
        assert getattr(message, field) == expected, field
        if field_kind == "Time":
            assert (getattr(message, f"{field}_ns"), getattr(message, f"{field}_datetime")) == (None, None)
    assert message.extra == {}
    assert (message.received_ns, message.raw) == (0, None)
    assert message == kind()
    assert repr(message) == f"{kind.__name__}(type={message.type!r})"


@EVERY_CLASS
def test_every_time_has_its_companions(kind: type[Message]) -> None:
    times = [field for field, field_kind in kind.kinds.items() if field_kind == "Time"]
    message = kind(**dict.fromkeys(times, "2020-09-13T12:26:40.1234567Z"))
    for field in times:
        assert getattr(message, f"{field}_ns") == 1_600_000_000_123_456_700
        expected = datetime(2020, 9, 13, 12, 26, 40, 123_456, tzinfo=timezone.utc)
        assert getattr(message, f"{field}_datetime") == expected
    companions = {
        name for name in dir(kind) if name.endswith("_datetime") or (name.endswith("_ns") and name != "received_ns")
    }
    assert companions == {f"{field}_{what}" for field in times for what in ("ns", "datetime")}


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.1", 100_000_000),
        ("1970-01-01T00:00:00.123456789Z", 123_456_789),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-02", 86_400_000_000_000),
        ("1969-12-31T23:59:60Z", 0),
        ("1969-12-31T23:59:59.9999999Z", -100),
        ("soon", None),
        ("", None),
        ("1970-01-01T00:00:00.1234567890Z", None),
    ],
)
def test_companions_read_what_the_api_may_write(text: str, ns: int | None) -> None:
    trade = Trade(time_exchange=text)
    assert trade.time_exchange == text
    assert trade.time_exchange_ns == ns
    assert (trade.time_exchange_datetime is None) is (ns is None)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:60Z", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"])
def test_a_time_that_no_datetime_can_hold(text: str) -> None:
    trade = Trade(time_exchange=text)
    assert trade.time_exchange_ns is not None
    assert trade.time_exchange_datetime is None


# Frozen


@EVERY_TYPE
def test_frozen(name: str) -> None:
    message = decoded(frame_of(name))
    before = pickle.dumps(message)
    times = [field for field, kind in message.kinds.items() if kind == "Time"]
    companions = [f"{field}_{what}" for field in times for what in ("ns", "datetime")]
    for field in [*message.kinds, *companions, "type", "received_ns", "raw", "extra", "other"]:
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to field '{field}'"):
            setattr(message, field, None)
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot delete field '{field}'"):
            delattr(message, field)
    with pytest.raises(TypeError, match="does not support item assignment"):
        message.extra["new"] = None
    assert pickle.dumps(message) == before


@pytest.mark.parametrize("field", ["asks", "bids"])
def test_the_sides_of_a_book_cannot_be_forced(field: str) -> None:
    book = Book(asks=[Level(1.0, 2.0)])
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        object.__setattr__(book, field, ())
    assert book.asks == (Level(1.0, 2.0),)


def test_not_hashable() -> None:
    with pytest.raises(TypeError, match="unhashable type: 'Trade'"):
        hash(Trade())


# Equality, pickling


@EVERY_TYPE
@NUMBERS
def test_equal_by_content(name: str, numbers: str) -> None:
    text = frame_of(name)
    first = decoded(text, numbers, 1)
    second = decoded(f" {text} ", numbers, 2, keep_raw=True)
    assert first == second
    assert (first != second) is False  # which a class may answer on its own
    assert second.raw == f" {text} "
    assert (first.received_ns, first.raw, second.received_ns) == (1, None, 2)
    for field in [*first.kinds, "new"]:
        other = decoded(text.replace(f'"{field}":', f'"not_{field}":'), numbers)
        assert other != first, field
    assert first != text


def test_classes_and_types_differ() -> None:
    assert Trade() != Quote()
    assert Trade() != UnknownMessage(type="trade")
    assert Book() != Book(type="book5")
    assert UnknownMessage(type="a") != UnknownMessage(type="b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"type":"book","asks":[]}', '{"type":"book"}'),
        ('{"type":"book","asks":null}', '{"type":"book"}'),
        ('{"type":"trade","price":null}', '{"type":"trade"}'),
        ('{"type":"asset","chain_addresses":[]}', '{"type":"asset"}'),
        ('{"type":"book5","is_snapshot":true}', '{"type":"book5"}'),
        ('{"type":"hearbeat"}', '{"type":"heartbeat"}'),
        ('{"type":"book_l3","asks":[{"id":null}]}', '{"type":"book_l3","asks":[{}]}'),
    ],
)
def test_what_reads_equal_is_equal(one: str, other: str) -> None:
    assert decoded(one) == decoded(other)
    assert repr(decoded(one)) == repr(decoded(other))


@EVERY_TYPE
@NUMBERS
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_before_and_after_levels_were_built(name: str, numbers: str, protocol: int) -> None:
    message = decoded(frame_of(name), numbers, 5, keep_raw=True)
    before = pickle.loads(pickle.dumps(message, protocol))
    text = repr(message)  # builds the levels
    after = pickle.loads(pickle.dumps(message, protocol))
    for twin in (before, after, copy.copy(message), copy.deepcopy(message)):
        assert twin == message
        assert repr(twin) == text
        assert (twin.received_ns, twin.raw, twin.type) == (5, message.raw, message.type)
        assert type(twin) is type(message)
        with pytest.raises(TypeError, match="does not support item assignment"):
            twin.extra["new"] = None
        with pytest.raises(dataclasses.FrozenInstanceError):
            twin.type = "other"


@EVERY_CLASS
def test_pickle_of_an_empty_message(kind: type[Message]) -> None:
    assert pickle.loads(pickle.dumps(kind())) == kind()


# By hand


@EVERY_TYPE
def test_a_message_can_be_built_with_keywords(name: str) -> None:
    message = decoded(frame_of(name), "decimal", 5)
    fields = {field: getattr(message, field) for field in message.kinds}
    kind = type(message)
    twin = kind(type=message.type, received_ns=5, extra=message.extra, raw="x", **fields)
    assert twin == message
    assert (twin.received_ns, twin.raw) == (5, "x")


@pytest.mark.parametrize("name", ["prize", "time_exchange_ns", "kinds", "_content", "__dict__"])
def test_a_field_that_is_not_there(name: str) -> None:
    with pytest.raises(TypeError, match=f"Trade has no field {name}"):
        Trade(**{name: 1})


def test_what_is_given_stays_closed_to_change() -> None:
    levels, chains, extra = [Level(1.0, 2.0)], ["a"], {"new": 1}
    book, asset = Book(asks=levels, extra=extra), Asset(chain_addresses=chains)
    levels.clear()
    chains.clear()
    extra.clear()
    assert book.asks == (Level(1.0, 2.0),)
    assert asset.chain_addresses == ("a",)
    assert book.extra == {"new": 1}


def test_repr_names_what_is_there() -> None:
    trade = Trade(symbol_id="A_SPOT_B_C", price=Decimal("1.50"), size=None, extra={"new": 1})
    assert repr(trade) == "Trade(type='trade', symbol_id='A_SPOT_B_C', price=Decimal('1.50'), extra={'new': 1})"


# Books


def test_levels_are_built_once() -> None:
    book = decoded(frame_of("book"))
    assert book.asks is book.asks
    assert book.asks == (Level(1.5, 2.0), Level(None, None))
    orders = decoded(frame_of("book_l3"))
    assert orders.bids is orders.bids
    assert orders.bids == (LevelL3(1.5, 2.0, "a", "ADD"), LevelL3(None, 1.0, None, None))
    assert orders.bids[0].update_type == "ADD"


@pytest.mark.parametrize("side", ["asks", "bids"])
@pytest.mark.parametrize("value", [None, "null", "[]"])
def test_a_side_may_be_empty_null_or_missing(side: str, value: str | None) -> None:
    for name in ("book", "book5", "book20", "book50", "book_l3"):
        text = f'{{"type":"{name}"}}' if value is None else f'{{"type":"{name}","{side}":{value}}}'
        assert getattr(decoded(text), side) == ()


SNAPSHOTS: Final = [
    ("true", True),
    ("false", False),
    ('"true"', True),
    ('"False"', False),
    ("1", True),
    ("0", False),
    ('"1"', True),
    ("null", None),
    (None, None),
]


@pytest.mark.parametrize(("value", "expected"), SNAPSHOTS)
@NUMBERS
def test_is_snapshot(value: str | None, expected: bool | None, numbers: str) -> None:
    field = "" if value is None else f',"is_snapshot":{value}'
    for name in ("book", "book_l3"):
        assert decoded(f'{{"type":"{name}"{field}}}', numbers).is_snapshot is expected
    for name in ("book5", "book20", "book50"):
        assert decoded(f'{{"type":"{name}"{field}}}', numbers).is_snapshot is True


HOSTILE: Final = [
    "extra",
    "raw",
    "received_ns",
    "kinds",
    "_content",
    "__dict__",
    "__class__",
    "__eq__",
    "time_exchange_ns",
    "time_exchange_datetime",
    "asks",
    "is_snapshot",
    "",
    "Type",
]


@NUMBERS
def test_unknown_fields_never_shadow_anything(numbers: str) -> None:
    text = '{"type":"trade","price":1.5,' + ",".join(f'"{name}":[1]' for name in HOSTILE) + "}"
    trade = decoded(text, numbers, 5)
    assert set(trade.extra) == set(HOSTILE)
    plain = Trade(price=trade.price, received_ns=5)
    for name in ("raw", "received_ns", "kinds", "time_exchange_ns", "time_exchange_datetime", "__class__"):
        assert getattr(trade, name) == getattr(plain, name)
    assert trade != plain
    assert trade == pickle.loads(pickle.dumps(trade))
    assert not hasattr(trade, "asks")
    unknown = decoded(text.replace("trade", "new"), numbers)
    assert set(unknown.extra) == {*HOSTILE, "price"}
    assert unknown.kinds == {}


def test_unknown_fields_of_levels() -> None:
    text = '{"type":"book","asks":[{"price":1},{"price":2,"orders":3,"venue":{"a":1}}],"bids":[{"price":1,"id":"x"}]}'
    book = decoded(text)
    assert book.asks == (Level(1.0, None), Level(2.0, None))
    assert book.extra == {"asks": {1: {"orders": 3, "venue": {"a": 1}}}, "bids": {0: {"id": "x"}}}
    assert pickle.loads(pickle.dumps(book)).extra == book.extra
    assert list(book.extra["asks"][1]) == ["orders", "venue"]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ('{"id":"a-b"}', "a-b"),
        ('{"id":""}', ""),
        ('{"id":12345678901234567890}', "12345678901234567890"),
        ('{"id":1.5}', "1.5"),
        ('{"id":null}', None),
        ("{}", None),
    ],
)
def test_order_ids_are_opaque(level: str, expected: str | None) -> None:
    for numbers in ("float", "decimal"):
        orders = decoded(f'{{"type":"book_l3","asks":[{level}]}}', numbers)
        assert orders.asks[0].id == expected
        assert orders.extra == {}


@pytest.mark.parametrize("update_type", ["ADD", "UPDATE", "SUBTRACT", "DELETE", "MATCH", "SET", "SUB", "NEW"])
def test_update_types_are_open_ended(update_type: str) -> None:
    orders = decoded(f'{{"type":"book_l3","bids":[{{"update_type":"{update_type}"}}]}}')
    assert orders.bids == (LevelL3(None, None, None, update_type),)
