"""Events: frozen, picklable, and each end of a connection builds its own error."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Final

import pytest

from coinapi_ws import events, exceptions
from coinapi_ws.events import (
    CallbackFailed,
    Cause,
    Connected,
    ConnectionGap,
    Disconnected,
    Dropped,
    Event,
    Gap,
    HandedOver,
    HandoverFailed,
    Live,
    Quiet,
    Reconnecting,
    SequenceGap,
    Undecodable,
)
from coinapi_ws.scope import Scope
from coinapi_ws.subscription import Subscription

SCOPE: Final = Scope(Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"]))

EVENTS: Final[tuple[Event, ...]] = (
    Connected(limits=(("X-ConcurrencyLimit-Limit", "1"),), compression=True),
    Live(received_ns=1),
    Disconnected(cause=Cause.NETWORK, initiator="network", stage="live", detail="gone", error_type=OSError),  # type: ignore[arg-type]
    Reconnecting(attempt=1, delay=0.5, cause=Cause.NETWORK),
    SequenceGap(type="book", symbol_id="A", expected=2, received=4),
    ConnectionGap(from_ns=None, to_ns=2, reason="gone", scope=SCOPE),
    Dropped(type="trade", symbol_id=None, count=3, first_ns=1, last_ns=2),
    Undecodable(reason="not valid JSON", received_ns=1, payload="{"),
    CallbackFailed(callback=print, argument="a trade", error=exceptions.UsageError("no")),
    Quiet(type="trade", seconds=5.0, asked=SCOPE),
    HandedOver(duplicates=1, pairs_left=0),
    HandoverFailed(reason="one connection a key"),
)


def name(event: Event) -> str:
    return type(event).__name__


def test_every_event_is_tried() -> None:
    declared = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind not in (Event, Gap)
    }
    assert {type(event) for event in EVENTS} == declared


@pytest.mark.parametrize("event", EVENTS, ids=name)
def test_frozen(event: Event) -> None:
    first = dataclasses.fields(event)[0].name  # type: ignore[arg-type]
    before = getattr(event, first)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, first, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(event, first)
    assert getattr(event, first) == before
    assert not hasattr(event, "__dict__")


@pytest.mark.parametrize("event", EVENTS, ids=name)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickle_and_copy(event: Event, protocol: int) -> None:
    copies = [pickle.loads(pickle.dumps(event, protocol)), copy.copy(event)]
    if not isinstance(event, CallbackFailed):  # an exception equals itself alone
        assert copies == [event, event]
    assert [repr(twin) for twin in copies] == [repr(event)] * 2


def test_all_kinds_of_gap_are_gaps() -> None:
    gaps = {type(event) for event in EVENTS if isinstance(event, Gap)}
    assert gaps == {SequenceGap, ConnectionGap, Dropped}


def test_no_payload_in_a_repr() -> None:
    undecodable = Undecodable(reason="not valid JSON", received_ns=1, payload="PAYLOAD")
    failed = CallbackFailed(callback=print, argument="PAYLOAD", error=ValueError("no"))
    assert "PAYLOAD" not in repr(undecodable) + repr(failed)
    assert (undecodable.payload, failed.argument) == ("PAYLOAD", "PAYLOAD")


# Disconnected


def disconnected(**facts: object) -> Disconnected:
    required = {"cause": Cause.UNKNOWN, "initiator": "server", "stage": "live", "detail": "the server closed"}
    return Disconnected(**(required | facts))  # type: ignore[arg-type]


def test_a_clean_end_is_no_error() -> None:
    assert disconnected(clean=True, code=1000).error() is None


@pytest.mark.parametrize("error_name", exceptions.__all__)
def test_each_call_builds_a_new_error(error_name: str) -> None:
    """F26: an exception that is used again pins memory by its traceback."""
    kind = getattr(exceptions, error_name)
    end = disconnected(error_type=kind, code=1011, reason="oops")
    first, second = end.error(), end.error()
    assert first is not second
    for error in (first, second):
        assert type(error) is kind
        assert error.disconnected is end
        assert str(error) == end.summary()
        assert error.__traceback__ is None


def test_summary_says_all_that_is_known() -> None:
    """Code 1006 without a reason is the most frequent complaint: say what is known."""
    end = disconnected(
        server_text="Invalid API key",
        code=1008,
        reason="policy",
        messages_received=3,
        bytes_received=512,
        silent_for=0.25,
        retry_after=2.0,
        limits=(("X-ConcurrencyLimit-Limit", "1"),),
        host="ws.example.com:8443",
    )
    assert end.summary() == (
        "the server closed; the server said: 'Invalid API key'; close code 1008 'policy'; "
        "3 messages, 512 bytes received; last bytes 0.2 s before; retry after 2 s; X-ConcurrencyLimit-Limit: 1; "
        "host ws.example.com:8443"
    )


@pytest.mark.parametrize("word", ["x", "<p> "])
def test_summary_shows_the_beginning_of_a_long_answer(word: str) -> None:
    whole = word * 500
    end = disconnected(stage="upgrade", server_text=whole)
    assert end.summary() == f"the server closed; the server said: '{whole[:200]} …'"
    assert end.server_text == whole
    short = disconnected(stage="upgrade", server_text=whole[:200])
    assert short.summary() == f"the server closed; the server said: '{whole[:200]}'"


def test_summary_leaves_out_what_is_not_known() -> None:
    assert disconnected(stage="upgrade").summary() == "the server closed"
    assert disconnected(stage="connect", code=1011).summary() == "the server closed; close code 1011"
    assert disconnected(stage="hello").summary() == "the server closed; 0 messages, 0 bytes received"


def test_summary_names_the_host_once() -> None:
    end = disconnected(stage="connect", detail="no connection to example.com: refused", host="example.com")
    assert end.summary() == "no connection to example.com: refused"
