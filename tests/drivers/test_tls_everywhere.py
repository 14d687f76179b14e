"""TLS that is refused, cut off or heavy, for each of the three ways to have a connection: T1 to T5 from above."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

import pytest
import trustme
from peers import PATIENCE_SECONDS, ServerSide, serving
from wsproto.events import Message as WireMessage

from coinapi_ws import (
    Backoff,
    Cause,
    CertificateError,
    Client,
    CoinAPIError,
    ConnectError,
    ConnectionClosed,
    Disconnected,
    Message,
    Options,
    Reconnecting,
    Scope,
    Secret,
    SelectorConnection,
    Subscription,
    connect,
    endpoint_from,
)
from coinapi_ws.drivers.opening import default_ssl_context
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.simulator import Simulator, VirtualClock

Leaks = Callable[[BaseException], bool]

AT_ONCE: Final = Backoff(initial=0.001, maximum=0.001)
VERSIONS: Final = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
#: Its hello is some hundred TLS records, more than a socket takes at once.
HUGE_SCOPE: Final = Subscription(["trade"], symbol_ids=[f"COINBASE_SPOT_{n:050}_USD$" for n in range(20_000)])


class Way(Protocol):
    """Connect, take messages until the end, and return them and the error that the end was."""

    def __call__(
        self, key: str, wanted: Subscription, url: str, context: ssl.SSLContext
    ) -> tuple[list[Message], CoinAPIError]: ...


def by_stream(key: str, wanted: Subscription, url: str, context: ssl.SSLContext) -> tuple[list[Message], CoinAPIError]:
    messages: list[Any] = []
    with pytest.raises(CoinAPIError) as caught:  # noqa: PT012
        for item in connect(key, wanted, endpoint=url, ssl=context, pacer=SharedPacer()):
            messages.append(item)
    return messages, caught.value


def by_selector(
    key: str, wanted: Subscription, url: str, context: ssl.SSLContext
) -> tuple[list[Message], CoinAPIError]:
    options = Options(endpoint=endpoint_from(url), api_key=Secret(key))
    connection = SelectorConnection(options, Scope(wanted), ssl_context=context, pacer=SharedPacer())
    items: list[Any] = connection.start()
    while connection.disconnected is None:
        items += connection.step(PATIENCE_SECONDS)
    error = connection.disconnected.error()
    assert error is not None
    return [item for item in items if isinstance(item, Message)], error


def by_client(key: str, wanted: Subscription, url: str, context: ssl.SSLContext) -> tuple[list[Message], CoinAPIError]:
    """It tries once more, as after any failure of the network; both ends and the wait between them are told."""
    client = Client(key, wanted, endpoint=url, ssl=context, pacer=SharedPacer(), max_attempts=1, backoff=AT_ONCE)
    messages, ends, waits = [], [], []
    client.on(Message, messages.append)
    client.on(Disconnected, ends.append)
    client.on(Reconnecting, waits.append)
    client.start()
    with pytest.raises(CoinAPIError) as caught:
        client.join(PATIENCE_SECONDS)
    assert client.close()
    assert len(ends) == len(waits) + 1 == 2
    assert len({(end.detail, end.cause) for end in ends}) == 1
    return messages, caught.value


EACH_WAY: Final = pytest.mark.parametrize("way", [by_stream, by_selector, by_client])


# Refused in the handshake


@contextmanager
def bad_certificate(kind: str) -> Iterator[tuple[str, ssl.SSLContext]]:
    with Simulator(clock=VirtualClock(), tls=True) as simulator:
        simulator.faults.certificate(kind)
        yield simulator.url, simulator.client_context
        simulator.settle()
        assert simulator.requests == []


@contextmanager
def unknown_issuer() -> Iterator[tuple[str, ssl.SSLContext]]:
    with Simulator(clock=VirtualClock(), tls=True) as simulator:
        yield simulator.url, default_ssl_context()
        assert simulator.requests == []


@contextmanager
def only_tls_1_1() -> Iterator[tuple[str, ssl.SSLContext]]:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    except (ValueError, ssl.SSLError):
        pytest.skip("this OpenSSL has no TLS 1.1")
    with Simulator(clock=VirtualClock(), ssl_context=context) as simulator:
        yield f"wss://localhost:{simulator.port}/", default_ssl_context()


@contextmanager
def no_tls() -> Iterator[tuple[str, ssl.SSLContext]]:
    with Simulator(clock=VirtualClock()) as simulator:
        yield f"wss://localhost:{simulator.port}/", default_ssl_context()


@contextmanager
def gone() -> Iterator[tuple[str, ssl.SSLContext]]:
    def hang_up(server: ServerSide) -> None:
        server.socket.recv(65536)

    with serving(hang_up) as url:
        yield url.replace("ws://127.0.0.1", "wss://localhost"), default_ssl_context()


INVALID: Final = "the certificate of localhost is not valid: "
FAILED: Final = "the TLS handshake with localhost failed: "
REFUSALS: Final[dict[str, tuple[Callable[[], Any], type[CoinAPIError], str]]] = {
    "expired": (lambda: bad_certificate("expired"), CertificateError, f"{INVALID}certificate has expired"),
    "self-signed": (lambda: bad_certificate("self_signed"), CertificateError, f"{INVALID}self.signed certificate"),
    "wrong name": (lambda: bad_certificate("wrong_name"), CertificateError, f"{INVALID}Hostname mismatch"),
    "unknown issuer": (unknown_issuer, CertificateError, f"{INVALID}.*certificate"),
    "TLS 1.1": (only_tls_1_1, ConnectError, f"{FAILED}.*(protocol|version)"),
    "no TLS": (no_tls, ConnectError, f"{FAILED}.*(record|version|unknown protocol)"),
    "gone": (gone, ConnectError, f"{FAILED}(the server closed the connection|Connection reset by peer)"),
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@EACH_WAY
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_is_refused_names_host_and_reason(way: Way, canary_key: str, leaks: Leaks, refusal: str) -> None:
    server, error_type, message = REFUSALS[refusal]
    with server() as (url, context):
        messages, error = way(canary_key, Subscription(["trade"], symbol_ids=["KRAKEN_"]), url, context)
    assert messages == []
    with pytest.raises(error_type, match=message):
        raise error
    assert type(error) is error_type
    assert error.disconnected is not None
    assert (error.disconnected.stage, error.disconnected.cause) == ("connect", Cause.NETWORK)
    assert not leaks(error)


# Cut off


@VERSIONS
@EACH_WAY
@pytest.mark.parametrize("has_notify", [False, True])
def test_an_end_without_a_close_frame_is_abnormal_with_close_notify_or_without_t5(
    way: Way,
    canary_key: str,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    version: ssl.TLSVersion,
    has_notify: bool,
) -> None:
    """T5: what came before is delivered; whoever cuts the path does not make a clean end."""
    client_context.minimum_version = client_context.maximum_version = version

    def cut(server: ServerSide) -> None:
        server.upgrade()
        server.event()
        server.text('{"type":"trade","symbol_id":"KRAKEN_X"}')
        if has_notify:
            assert isinstance(server.socket, ssl.SSLSocket)
            with suppress(OSError):  # it waits for an answer, and gets an end
                server.socket.unwrap()
        else:
            socket.socket(fileno=server.socket.detach()).close()

    with serving(cut, server_context) as url:
        messages, error = way(canary_key, Subscription(["trade"], symbol_ids=["KRAKEN_"]), url, client_context)
    assert {message.type for message in messages} == {"trade"}
    assert isinstance(error, ConnectionClosed)
    assert error.code == 1006
    assert error.disconnected is not None
    assert not error.disconnected.clean
    assert "without a Close frame" in str(error)
    assert str(error).endswith(f"; host {endpoint_from(url).authority}")


# Heavy


@VERSIONS
@EACH_WAY
def test_a_hello_of_many_records_and_a_message_of_many_t1_t2_t3_t4(
    way: Way,
    canary_key: str,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    version: ssl.TLSVersion,
) -> None:
    """T1 to T4: what a socket does not take at once follows in order; no record waits unseen; tickets are no data."""
    client_context.minimum_version = client_context.maximum_version = version
    hellos: list[str] = []
    notes = ["x" * 8_000_000, "y" * 16_384, "z"]

    def serve(server: ServerSide) -> None:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        server.upgrade()
        parts = []
        while not (isinstance(event := server.event(), WireMessage) and event.message_finished):
            parts.append(event.data)  # type: ignore[attr-defined]
        hellos.append("".join((*parts, event.data)))  # type: ignore[arg-type]
        for note in notes:
            server.text(json.dumps({"note": note, "type": "trade"}))
        server.close(4000)
        server.until_closed()

    with serving(serve, server_context) as url:
        messages, error = way(canary_key, HUGE_SCOPE, url, client_context)
    trades = [message for message in messages if message.type == "trade"]
    assert [trade.extra["note"] for trade in trades[:3]] == notes
    assert isinstance(error, ConnectionClosed)
    assert error.code == 4000
    assert len(hellos[0]) > 1_000_000
    assert json.loads(hellos[0])["subscribe_filter_symbol_id"] == list(HUGE_SCOPE.symbol_ids)
