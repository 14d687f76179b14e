"""What the commands that receive messages have in common: where from, how they end, and what they say on stderr."""

from __future__ import annotations

import os
import ssl
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Final

from ..auth import API_KEY_VARIABLE, Secret, api_key_secret
from ..drivers.opening import default_ssl_context
from ..endpoints import Endpoint, endpoint_from, read_rest_endpoint
from ..events import Cause
from ..exceptions import (
    AuthenticationError,
    CertificateError,
    CoinAPIError,
    ConfigurationError,
    ConnectError,
    HandshakeRejected,
    PermissionDenied,
    RateLimited,
    ServerRejected,
    SlowConsumerError,
)
from ..relay import RelayError
from .simulating import running_simulator
from .summary import Tally

#: The server's answer to our Close is worth no longer wait to somebody at a terminal.
CLOSE_SECONDS: Final = 1.0
#: The embedded server wants no key, and is not told the vendor's. Too short to be taken for a key in a text.
_NO_KEY: Final = Secret("none")

_DONE, _FAILED, _INTERRUPTED = 0, 1, 130

_NOT_TAKEN: Final = "the output was not taken in time; ask for less, or write it to a file"

#: What to do next, by the class of the error; the first that fits.
_ADVICE: Final[tuple[tuple[type[CoinAPIError], str], ...]] = (
    (AuthenticationError, f"check {API_KEY_VARIABLE}; a new key works after some minutes"),
    (PermissionDenied, "your plan does not include this; leave it out, or look at your plan"),
    (RateLimited, "wait before you try again, and look for other programs that use this key or address"),
    (ServerRejected, "check the types and filters"),
    (CertificateError, "check the host, your clock, and what decrypts TLS between you and the server"),
    (HandshakeRejected, "check --endpoint; something else may answer at this address"),
    (ConnectError, "check the network and --endpoint"),
    (SlowConsumerError, _NOT_TAKEN),
    (RelayError, "check --redis"),
    (CoinAPIError, "run it again; another --endpoint may do better"),
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where messages come from; ``key`` as ``connect`` and ``Client`` take it."""

    endpoint: Endpoint
    key: Secret | None
    ssl_context: ssl.SSLContext | None

    def redact(self, text: str) -> str:
        """Return a text of the server without the key."""
        return text if self.key is None else self.key.redact(text)


def check_source(arguments: Namespace) -> None:
    """Raise ``ConfigurationError`` for what argparse cannot know to be wrong."""
    if arguments.speed is not None and arguments.recording is None:
        raise ConfigurationError("--speed is the one of a recording; add --recording FILE")


@contextmanager
def opened_source(arguments: Namespace) -> Iterator[Source]:
    """Yield where messages come from, with the embedded server running where that is asked for."""
    with ExitStack() as stack:
        key: Secret | None
        if arguments.simulate or arguments.recording is not None:
            simulator = stack.enter_context(running_simulator(arguments.recording, speed=arguments.speed))
            endpoint, key = endpoint_from(simulator.url), _NO_KEY
        else:
            endpoint = endpoint_from(arguments.endpoint)
            key = _key_for(endpoint)
        yield Source(endpoint=endpoint, key=key, ssl_context=_ssl_context(arguments.ca_file))


@contextmanager
def opened_rest(arguments: Namespace) -> Iterator[Source]:
    """Yield where lists come from, with the embedded server running where that is asked for."""
    ssl_context = _ssl_context(arguments.ca_file)
    with running_simulator(None) if arguments.simulate else nullcontext() as simulator:
        endpoint = read_rest_endpoint(arguments.endpoint if simulator is None else simulator.rest_url)
        if isinstance(endpoint, ConfigurationError):
            raise endpoint
        key = _key_for(endpoint) if simulator is None else _NO_KEY
        yield Source(endpoint=endpoint, key=key, ssl_context=ssl_context)


def run_to_the_end(work: Callable[[], None], tally: Tally) -> int:
    """Do the work of a command, print its summary and what ended it on stderr, and return the exit code."""
    code, problem = _DONE, None
    try:
        work()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except ConfigurationError:
        raise
    except CoinAPIError as error:
        code, problem = _FAILED, f"error: {error}; {_advice(error)}"
    sys.stdout.flush()
    for line in (*tally.lines(), problem):
        if line is not None:
            note(line)
    return code


def prepare_stdout(*, as_text: bool) -> None:
    """Let stdout take every character."""
    if isinstance(sys.stdout, TextIOWrapper):
        if as_text:
            # A terminal of another encoding gets what it can show.
            sys.stdout.reconfigure(errors="backslashreplace")
        else:
            # The same bytes on every system: JSON is UTF-8 (RFC 8259, 8.1).
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")


def note(text: str) -> None:
    """Say something beside the output."""
    print(f"coinapi-ws: {text}", file=sys.stderr)


def _advice(error: CoinAPIError) -> str:
    if error.disconnected is not None and error.disconnected.cause is Cause.OVERFLOW:
        return _NOT_TAKEN
    return next(advice for kind, advice in _ADVICE if isinstance(error, kind))


def _key_for(endpoint: Endpoint) -> Secret | None:
    key = api_key_secret(None)
    if key is None and endpoint.is_vendor:
        raise ConfigurationError(
            f"{endpoint.host} needs an API key: set the environment variable {API_KEY_VARIABLE}; "
            'or try "coinapi-ws demo", or --simulate, which need none'
        )
    return key


def _ssl_context(ca_file: str | None) -> ssl.SSLContext | None:
    if ca_file is None:
        return None
    context = default_ssl_context()
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError:
        raise ConfigurationError(f"{ca_file} has no certificate in PEM form") from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {ca_file}: {os.strerror(error.errno or 0)}") from None
    return context
