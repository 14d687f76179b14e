"""A key in the wrong place is an easy mistake, and not told by the error that says so (F24)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from coinapi_ws import Client, Scope, Subscription, connect
from coinapi_ws.exceptions import ConfigurationError

Leaks = Callable[[BaseException], bool]
TRADES: Final = Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])


@pytest.mark.parametrize("make", [connect, Client])
@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["geo", "KEY"], {}),
        (["KEY", "KEY"], {}),
        ([None, TRADES], {"endpoint": "KEY"}),
        (["KEY", TRADES], {"auth": "KEY"}),
        (["KEY", TRADES], {"jwt": "KEY", "auth": "query"}),
        (["KEY", TRADES], {"no_such_option": "KEY"}),
        (["KEY", TRADES], {"proxy": "KEY"}),
        (["KEY", TRADES], {"user_agent": "KEY\n"}),
        (["KEY", TRADES], {"open_timeout": -1}),
    ],
    ids=str,
)
def test_a_misplaced_key_is_not_told_f24(
    canary_key: str, leaks: Leaks, make: Callable[..., Any], arguments: list[Any], options: dict[str, Any]
) -> None:
    def put(value: Any) -> Any:
        return value.replace("KEY", canary_key) if isinstance(value, str) else value

    with pytest.raises((ConfigurationError, TypeError)) as caught:
        make(*map(put, arguments), **{name: put(value) for name, value in options.items()})
    assert not leaks(caught.value)


def test_what_is_half_made_can_be_shown() -> None:
    """A traceback with captured locals shows what was being made when it failed."""
    assert repr(object.__new__(Scope)) == "Scope()"
    assert repr(object.__new__(Client)) == "<Client half made>"
