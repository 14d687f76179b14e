"""Settings of the client: each refusal says what to write instead."""

from __future__ import annotations

import dataclasses
import warnings

import pytest

from coinapi_ws.client.settings import ClientSettings
from coinapi_ws.exceptions import ConfigurationError


def test_the_defaults_are_silent() -> None:
    settings = ClientSettings()
    assert (settings.dispatch, settings.when_full, settings.on_reconnect_notice) == ("thread", "pause", "wait")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.dispatch = "inline"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("dispatch", ("thread", "inline")),
        ("when_full", ("pause", "conflate", "drop_oldest")),
        ("on_reconnect_notice", ("wait", "now", "handover")),
    ],
)
def test_a_choice_is_one_of_the_named(name: str, choices: tuple[str, ...]) -> None:
    for choice in choices:
        assert getattr(ClientSettings(**{name: choice}), name) == choice
    for wrong in ("Pause", "", None, 1, []):
        with pytest.raises(ConfigurationError) as refused:
            ClientSettings(**{name: wrong})
        assert str(refused.value).startswith(f"{name}={wrong!r} ")
        assert all(repr(choice) in str(refused.value) for choice in choices)


@pytest.mark.parametrize("name", ["max_queued_messages", "max_queued_bytes", "max_attempts"])
def test_a_count_is_an_int_of_one_or_more(name: str) -> None:
    assert getattr(ClientSettings(**{name: 1}), name) == 1
    for wrong in (0, -1, 1.0, "1", True, float("inf")):
        with pytest.raises(ConfigurationError, match=f"^{name} is an int of 1 or more, not"):
            ClientSettings(**{name: wrong})


@pytest.mark.parametrize("name", ["max_queued_messages", "max_queued_bytes"])
def test_the_queue_has_bounds(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ClientSettings(**{name: None})


@pytest.mark.parametrize("name", ["slow_consumer_timeout", "fresh_key_grace", "quiet_after"])
def test_a_time_is_a_positive_number_of_seconds(name: str) -> None:
    for seconds in (1, 0.5):
        assert getattr(ClientSettings(**{name: seconds}), name) == seconds
    for wrong in (0, -1, "1", True, float("inf"), float("nan")):
        with pytest.raises(ConfigurationError, match=f"^{name} is a positive number of seconds, or None, not"):
            ClientSettings(**{name: wrong})


@pytest.mark.parametrize("name", ["fresh_key_grace", "quiet_after", "max_attempts"])
def test_none_is_possible(name: str) -> None:
    assert getattr(ClientSettings(**{name: None}), name) is None


@pytest.mark.parametrize("patience", [60, 600.5, None])
def test_patience_beyond_the_servers_ping_period_is_warned_of(patience: float | None) -> None:
    def as_the_client_does() -> ClientSettings:
        return ClientSettings(slow_consumer_timeout=patience)

    with pytest.warns(RuntimeWarning, match=f"slow_consumer_timeout={patience!r} .* Pings") as warned:
        settings = as_the_client_does()
    assert settings.slow_consumer_timeout == patience
    # Of who made the client, not of the client itself.
    assert warned[0].filename == __file__
    assert warned[0].lineno > as_the_client_does.__code__.co_firstlineno + 1


def test_patience_below_the_servers_ping_period_is_not() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClientSettings(slow_consumer_timeout=59.9)


@pytest.mark.parametrize("wrong", [None, 1, "yes"])
def test_whether_a_callbacks_error_stops_the_client_is_true_or_false(wrong: object) -> None:
    assert ClientSettings(stop_on_callback_error=True).stop_on_callback_error
    with pytest.raises(ConfigurationError, match="stop_on_callback_error is True or False, not"):
        ClientSettings(stop_on_callback_error=wrong)  # type: ignore[arg-type]
