"""The API key: it never shows, and it travels as the vendor documents."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from coinapi_ws.auth import (
    API_KEY_VARIABLE,
    AUTH_METHODS,
    AUTH_METHODS_WITH_JWT,
    Secret,
    api_key_secret,
    authorization_headers,
    authorized_target,
    check_method,
    check_sendable,
)
from coinapi_ws.endpoints import endpoint_from
from coinapi_ws.exceptions import ConfigurationError
from coinapi_ws.options import Options

TARGET = "/v1/"

#: What a header cannot carry, made of a key.
BROKEN = {
    "empty": lambda key: "",
    "newline": lambda key: f"{key}\n",
    "header injection": lambda key: f"{key}\r\nX-Other: 1",
    "space": lambda key: f" {key}",
    "tab": lambda key: f"{key}\t",
    "not ASCII": lambda key: f"{key}é",
    "half a character": lambda key: f"{key}\udc80",
    "NUL": lambda key: f"{key}\0",
    "bytes": lambda key: key.encode(),
    "None in a list": lambda key: [key],
}


@dataclass
class Holder:
    secret: Secret


def test_a_secret_never_prints(canary_key: str, assert_no_canary: Callable[[object], None]) -> None:
    """F24."""
    secret = Secret(canary_key)
    for thing in (secret, [secret], {"key": secret}, Holder(secret), f"{secret} {secret!r} {secret!s}", f"{[secret]}"):
        assert_no_canary(thing)
    assert (str(secret), repr(secret)) == ("***", "Secret(***)")
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError, match="unsupported format string"):
        format(secret, ">80")
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(secret)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(canary_key: str, protocol: int) -> None:
    with pytest.raises(TypeError, match="pass the key again"):
        pickle.dumps(Holder(Secret(canary_key)), protocol)


def test_a_secret_stays_unseen_in_captured_locals(canary_key: str, assert_no_canary: Callable[[object], None]) -> None:
    """F24: tools that report a traceback report its local variables too."""

    def fail(secret: Secret) -> None:
        holder = Holder(secret)
        raise ValueError(f"no: {holder}")

    with pytest.raises(ValueError, match="no: ") as caught:
        fail(Secret(canary_key))
    inner = caught.value.with_traceback(caught.tb.tb_next)
    report = "".join(traceback.TracebackException.from_exception(inner, capture_locals=True).format())
    assert "secret = Secret(***)" in report
    assert_no_canary(report)


def test_secrets_compare_by_value(canary_key: str) -> None:
    assert Secret(canary_key) == Secret(canary_key)
    assert hash(Secret(canary_key)) == hash(Secret(canary_key))
    assert Secret(canary_key) != Secret(canary_key + "x")
    assert Secret("a") != "a"
    assert Secret(canary_key).reveal() == canary_key


@pytest.mark.parametrize(
    "form",
    [
        lambda key: key,
        lambda key: quote(key, safe=""),
        lambda key: b64encode(f"coinapi:{key}".encode()).decode(),
    ],
    ids=["raw", "percent-encoded", "Basic"],
)
def test_redact_takes_every_form_out(
    canary_key: str, assert_no_canary: Callable[[object], None], form: Callable[[str], str]
) -> None:
    key = f"{canary_key}/+%="
    assert quote(key, safe="") != key
    text = f"before {form(key)} between {form(key)} after"
    assert Secret(key).redact(text) == "before *** between *** after"
    assert_no_canary(Secret(key).redact(text))


def test_redact_leaves_words_alone_where_the_key_is_too_short() -> None:
    assert Secret("a").redact("a banana") == "a banana"
    assert Secret("").redact("a banana") == "a banana"
    assert Secret("banana").redact("a banana") == "a ***"


@pytest.mark.parametrize("kind", BROKEN)
def test_a_key_that_no_header_can_carry_is_refused_unseen(
    canary_key: str, leaks: Callable[[BaseException], bool], kind: str
) -> None:
    """F24: also not in a traceback with captured locals."""
    with pytest.raises(ConfigurationError, match="API key must be a non-empty string of printable ASCII") as caught:
        Options(endpoint=endpoint_from("emea"), api_key=api_key_secret(BROKEN[kind](canary_key)))
    assert not leaks(caught.value)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_key_still_does_not_print(
    canary_key: str, assert_no_canary: Callable[[object], None], kind: str
) -> None:
    secret = Secret(BROKEN[kind](canary_key))
    assert not secret.is_sendable
    assert_no_canary(secret)
    assert secret.redact("nothing of it") == "nothing of it"


def test_a_secret_that_can_be_sent_passes(canary_key: str) -> None:
    secret = Secret(canary_key + "!~")
    check_sendable(secret, "the API key")
    assert secret.is_sendable


def test_the_check_names_what_is_wrong(canary_key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^the JWT must be a non-empty string"):
        check_sendable(Secret(canary_key + " "), "the JWT")


# Where the key comes from


def test_key_of_the_environment(canary_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, canary_key)
    assert api_key_secret(None) == Secret(canary_key)
    assert api_key_secret("another-key") == Secret("another-key")
    monkeypatch.setenv(API_KEY_VARIABLE, "")
    assert api_key_secret(None) is None
    monkeypatch.delenv(API_KEY_VARIABLE)
    assert api_key_secret(None) is None
    assert API_KEY_VARIABLE == "COINAPI_API_KEY"


def test_an_empty_key_is_not_the_one_of_the_environment(canary_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, canary_key)
    assert api_key_secret("") == Secret("")


def test_a_secret_is_taken_as_it_is(canary_key: str) -> None:
    secret = Secret(canary_key)
    assert api_key_secret(secret) is secret


def test_options_with_a_secret_can_be_printed_and_copied(
    canary_key: str, assert_no_canary: Callable[[object], None]
) -> None:
    options = Options(endpoint=endpoint_from("emea"), api_key=Secret(canary_key))
    assert_no_canary(options)
    assert copy.copy(options) == options


# How the key travels (vendor_protocol: "Authentication")


def sent(auth: str, key: str, jwt: str | None = None) -> tuple[str, list[tuple[bytes, bytes]]]:
    secret = Secret(key)
    token = None if jwt is None else Secret(jwt)
    return authorized_target(TARGET, auth, secret), authorization_headers(auth, secret, token)


def test_every_way_by_itself(canary_key: str) -> None:
    key = canary_key.encode()
    assert {auth: sent(auth, canary_key) for auth in AUTH_METHODS} == {
        "header": ("/v1/", [(b"X-CoinAPI-Key", key)]),
        "query": (f"/v1/?apikey={canary_key}", []),
        "path": (f"/v1/APIKEY-{canary_key}", []),
        "authorization": ("/v1/", [(b"Authorization", key)]),
        "basic": ("/v1/", [(b"Authorization", b"Basic " + b64encode(b"coinapi:" + key))]),
        "hello": ("/v1/", []),
    }


def test_a_jwt_goes_beside_the_key(canary_key: str) -> None:
    key, bearer = canary_key.encode(), (b"Authorization", b"Bearer abc.def.ghi")
    assert {auth: sent(auth, canary_key, "abc.def.ghi") for auth in AUTH_METHODS_WITH_JWT} == {
        "header": ("/v1/", [(b"X-CoinAPI-Key", key), bearer]),
        "query": (f"/v1/?apikey={canary_key}", [bearer]),
        "path": (f"/v1/APIKEY-{canary_key}", [bearer]),
        "hello": ("/v1/", [bearer]),
    }


@pytest.mark.parametrize(
    ("target", "auth", "expected"),
    [
        ("/", "query", "/?apikey=a%2Fb%26c"),
        ("/v1/?x=1", "query", "/v1/?x=1&apikey=a%2Fb%26c"),
        ("/", "path", "/APIKEY-a%2Fb%26c"),
        ("/v1", "path", "/v1/APIKEY-a%2Fb%26c"),
        ("/v1/", "path", "/v1/APIKEY-a%2Fb%26c"),
        ("/v1/?x=1&y=/", "path", "/v1/APIKEY-a%2Fb%26c?x=1&y=/"),
    ],
)
def test_a_key_in_the_target_is_quoted(target: str, auth: str, expected: str) -> None:
    assert authorized_target(target, auth, Secret("a/b&c")) == expected


@pytest.mark.parametrize("has_jwt", [False, True])
@pytest.mark.parametrize("auth", [*AUTH_METHODS, "cookie", ""])
def test_methods_that_are_possible(auth: str, has_jwt: bool) -> None:
    """A JWT needs the Authorization header for itself."""
    allowed = {"header", "query", "path", "hello"} | (set() if has_jwt else {"authorization", "basic"})
    if auth in allowed:
        check_method(auth, has_jwt=has_jwt)
        return
    with pytest.raises(ConfigurationError, match="write one of header, query, path") as caught:
        check_method(auth, has_jwt=has_jwt)
    assert ("together with a JWT" in str(caught.value)) is has_jwt
