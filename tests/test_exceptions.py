"""The tree of errors, as its docstring draws it, and that errors travel between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Final

import pytest

import coinapi_ws
from coinapi_ws import exceptions
from coinapi_ws.events import Cause, Disconnected
from coinapi_ws.exceptions import CoinAPIError, ConnectionClosed, ConnectTimeout

CLASSES: Final = {name: getattr(exceptions, name) for name in exceptions.__all__}

DISCONNECTED: Final = Disconnected(
    cause=Cause.CREDENTIALS,
    initiator="server",
    stage="hello",
    detail="the server sent an error and closed",
    code=1008,
    reason="policy",
    server_text="Invalid API key",
    status=401,
    retry_after=1.5,
)


def drawn_tree() -> dict[str, tuple[str, ...]]:
    """Return the bases of each class as the module's docstring draws them."""
    line = re.compile(r"^    ((?:[│ ]   )*(?:[├└]── )?)(\w+)(?: \((\w+)\))?", re.MULTILINE)
    path: list[str] = []
    bases: dict[str, tuple[str, ...]] = {}
    for indent, name, builtin in line.findall(inspect.getdoc(exceptions) or ""):
        depth = len(indent) // 4
        del path[depth:]
        bases[name] = (path[-1] if path else "Exception", *([builtin] if builtin else []))
        path.append(name)
    return bases


def test_tree_is_as_drawn() -> None:
    tree = drawn_tree()
    assert set(tree) == set(CLASSES)
    for name, bases in tree.items():
        builtins = [base.__name__ for base in CLASSES[name].__mro__ if base.__module__ == "builtins"]
        ours = [base.__name__ for base in CLASSES[name].__mro__[1:] if base.__name__ in tree]
        assert (ours or ["Exception"])[0] == bases[0], name
        assert set(bases[1:]) <= set(builtins), name
        # Nobody who catches a built-in error gets one of ours unawares.
        drawn = {builtin for base in [name, *ours] for builtin in tree[base][1:]}
        assert {b for b in builtins if b not in ("Exception", "BaseException", "object")} <= drawn | {"OSError"}, name


def test_every_error_is_public() -> None:
    assert set(exceptions.__all__) <= set(coinapi_ws.__all__)
    assert all(getattr(coinapi_ws, name) is CLASSES[name] for name in CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_built_by_hand_it_knows_of_no_connection(name: str) -> None:
    error = CLASSES[name]("what happened")
    assert str(error) == "what happened"
    assert error.disconnected is None
    facts = [
        fact for fact in ("stage", "status", "server_text", "retry_after", "code", "reason") if hasattr(error, fact)
    ]
    assert [getattr(error, fact) for fact in facts] == [None] * len(facts)


@pytest.mark.parametrize("name", sorted(CLASSES))
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_it_pickles_with_all_that_is_known(name: str, protocol: int) -> None:
    error = DISCONNECTED.as_error(CLASSES[name])
    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is CLASSES[name]
        assert str(twin) == str(error)
        assert twin.disconnected == DISCONNECTED


@pytest.mark.parametrize(
    "name", ["AuthenticationError", "PermissionDenied", "RateLimited", "HandshakeRejected", "ServerRejected"]
)
def test_a_refusal_tells_its_facts(name: str) -> None:
    error = DISCONNECTED.as_error(CLASSES[name])
    facts = (error.stage, error.status, error.server_text, error.retry_after)  # type: ignore[attr-defined]
    assert facts == ("hello", 401, "Invalid API key", 1.5)


def test_a_closed_connection_tells_code_and_reason() -> None:
    error = DISCONNECTED.as_error()
    assert isinstance(error, ConnectionClosed)
    assert (error.code, error.reason) == (1008, "policy")


def test_a_timeout_is_caught_as_the_builtin() -> None:
    with pytest.raises(TimeoutError) as caught:
        raise ConnectTimeout("no answer")
    assert isinstance(caught.value, CoinAPIError)
