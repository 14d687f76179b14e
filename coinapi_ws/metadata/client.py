"""The client of the REST API's lists."""

from __future__ import annotations

import ssl as ssl_module
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import timezone
from email.utils import parsedate_to_datetime
from math import inf
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar
from urllib.parse import quote

from ..auth import HiddenBytes, Secret, authorization_headers, redact_json
from ..converting import Refused
from ..decoding import Decoder
from ..drivers.failures import ConnectFailed
from ..drivers.opening import Opening, Resolve
from ..endpoints import REST_ENDPOINT, Endpoint, read_rest_endpoint
from ..events import Cause, Disconnected, Undecodable
from ..exceptions import (
    CoinAPIError,
    ConfigurationError,
    HandshakeRejected,
    ProtocolError,
    ServerRejected,
)
from ..messages import Asset, Exchange, Message, Symbol
from ..options import Options, read_options
from ..protocol.pacing import LIMIT_HEADER_PREFIXES, retry_after_seconds
from ..protocol.reconnect import classify_status
from ..proxies import FROM_ENVIRONMENT, Proxy
from .objects import CutOff, SharedTexts, objects_of
from .request import Answer, Wire

if TYPE_CHECKING:
    from typing_extensions import Unpack

DEFAULT_TIMEOUT_SECONDS: Final = 60.0
#: The list of all symbols has some hundred million bytes.
DEFAULT_MAX_BYTES: Final = 1024 * 1024 * 1024

_LIMIT_HEADER_PREFIXES: Final = (*LIMIT_HEADER_PREFIXES, "x-ratelimit")
_MAX_LIMIT_HEADER_LENGTH: Final = 64
#: Of a wait in seconds; more is nonsense.
_MOST_DIGITS: Final = 9
#: Less than what is read of it: a key at the end of that would be half a key, which is not found.
_MAX_SERVER_TEXT: Final = 1024
_OK: Final = 200
#: What to do about a status, where the class of the error does not say it (vendor_notes.md, "REST").
_ADVICE: Final = {400: "; look at the filters", 550: "; it has no such item now"}

M = TypeVar("M", bound=Message)


class RestOptions(TypedDict, total=False):
    """The options of :class:`Client` that are those of :class:`~coinapi_ws.Options`."""

    numbers: str
    keep_raw: bool
    allow_plaintext: bool
    user_agent: str
    server_hostname: str | None
    keepalive: float | None
    receive_buffer_bytes: int | None
    nodelay: bool


class Client:
    """Lists exchanges, assets and symbols, as the same messages that a subscription to these types brings.

    ``api_key`` None takes the key from the environment variable COINAPI_API_KEY; it travels in the header
    ``X-CoinAPI-Key``. ``endpoint`` is an ``https://`` or ``http://`` URL, such as ``Simulator.rest_url``. ``timeout``:
    seconds for a whole request, from the name's resolution to the last object, without those that the caller takes
    between two objects; the name service, and a step of a SOCKS proxy, are not cut short. ``proxy``, ``ssl`` and
    ``resolve`` are those of :func:`~coinapi_ws.connect`; of its other options there are ``numbers``, ``keep_raw``,
    ``allow_plaintext``, ``user_agent``, ``server_hostname``, ``keepalive``, ``receive_buffer_bytes`` and ``nodelay``.

    An answer of more than ``max_bytes``, inflated, is an error. An object in it that does not fit its type, such as one
    whose price is a text, is an error too; or, with ``on_undecodable``, it is given to this callback, and the others
    follow.

    Each method returns an iterator. The request is made when the first object is asked for, and objects come as the
    body arrives, so that a list of any length needs little memory; ``list(client.symbols())`` keeps them all. Leave it
    early by its ``close()``, or by dropping it: that closes the connection. Every iteration blocks. Any thread may call
    any method, and iterate; one iterator is for one thread at a time. Each request has a connection of its own, and
    nothing is tried again by itself: ``RateLimited.retry_after`` says when to.

    The iteration raises ``ConnectError`` and its kinds (``ConnectTimeout`` also for an answer that takes too long),
    ``AuthenticationError`` (401), ``PermissionDenied`` (403), ``RateLimited`` (429), ``ServerRejected`` (all other
    statuses but 200; redirects are not followed), ``ConnectionClosed`` for an answer that was cut off, and
    ``ProtocolError`` for one that is no list; each with ``disconnected``, whose ``stage`` is "connect" until the
    request is sent, and then "rest". A constructor or a method raises ``ConfigurationError``.
    """

    def __init__(
        self,
        api_key: str | Secret | None,
        *,
        endpoint: str | Endpoint = REST_ENDPOINT,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        max_bytes: int = DEFAULT_MAX_BYTES,
        on_undecodable: Callable[[Undecodable], object] | None = None,
        proxy: str | Proxy | None = FROM_ENVIRONMENT,
        ssl: ssl_module.SSLContext | None = None,
        resolve: Resolve | None = None,
        **options: Unpack[RestOptions],
    ) -> None:
        settings = _read_settings(api_key, endpoint, proxy, timeout, max_bytes, **options)
        if not isinstance(settings, Options):
            del api_key, endpoint, proxy, timeout, max_bytes, options  # no plain key is to be seen in a traceback (F24)
            raise settings
        del api_key, endpoint, proxy, options
        self._options = settings
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._on_undecodable = on_undecodable
        self._opening = Opening(settings, ssl_context=ssl, resolve=resolve, dial=None)
        self._decoder = Decoder(settings.numbers, keep_raw=settings.keep_raw)
        #: The limit headers of the last answer, with names in lower case, such as ``x-ratelimit-remaining``.
        self.limits: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        options = getattr(self, "_options", None)
        return "<metadata.Client half made>" if options is None else f"<metadata.Client of {options.endpoint}>"

    def exchanges(self, *, exchange_ids: Iterable[str] = ()) -> Generator[Exchange, None, None]:
        """Iterate over the exchanges; with ``exchange_ids``, those with such ids."""
        return self._objects(Exchange, self._target("/v1/exchanges", exchange_ids=exchange_ids))

    def assets(self, *, asset_ids: Iterable[str] = ()) -> Generator[Asset, None, None]:
        """Iterate over the assets; with ``asset_ids``, those with such ids."""
        return self._objects(Asset, self._target("/v1/assets", asset_ids=asset_ids))

    def symbols(
        self,
        exchange_id: str | None = None,
        *,
        symbol_ids: Iterable[str] = (),
        exchange_ids: Iterable[str] = (),
        asset_ids: Iterable[str] = (),
    ) -> Generator[Symbol, None, None]:
        """Iterate over the active symbols of one exchange, or of all.

        ``symbol_ids`` are ids or parts of them, any of which a symbol's id has to have; ``exchange_ids`` and
        ``asset_ids`` narrow it further. Without any filter it is a list of several 100,000.
        """
        path = "/v1/symbols"
        if exchange_id is not None:
            path = f"{path}/{_quoted('exchange_id', exchange_id)}"
        filters = {"symbol_ids": symbol_ids, "exchange_ids": exchange_ids, "asset_ids": asset_ids}
        return self._objects(Symbol, self._target(path, **filters))

    def _target(self, path: str, **filters: Iterable[str]) -> str:
        texts = {name: _joined(name, ids) for name, ids in filters.items()}
        query = "&".join(f"filter_{name.removesuffix('s')}={text}" for name, text in texts.items() if text)
        return f"{self._options.endpoint.path.rstrip('/')}{path}{'?' if query else ''}{query}"

    def _objects(self, message_class: type[M], target: str) -> Generator[M, None, None]:
        """Make the request, and yield the objects of its answer."""
        stage = "connect"
        try:
            deadline = time.monotonic() + self._timeout
            with Wire(self._opening.begin(deadline), deadline=deadline, max_bytes=self._max_bytes) as wire:
                wire.send(self._request(target))
                stage = "rest"
                answer = Answer(wire, max_bytes=self._max_bytes)
                self.limits = self._limits_of(answer)
                if answer.status != _OK:
                    raise self._refusal(answer)
                for message in self._messages(message_class, answer):
                    given = time.monotonic()
                    yield message
                    wire.deadline += time.monotonic() - given
        except ConnectFailed as failure:
            raise self._error(failure, stage) from None

    def _messages(self, message_class: type[M], answer: Answer) -> Iterator[M]:
        name, texts = message_class.wire_names[0], SharedTexts()
        try:
            for number, (fields, text) in enumerate(objects_of(answer.texts(), self._decoder.scan), 1):
                texts.share(fields)
                item = self._decoder.decode_fields(name, fields, text, time.time_ns())
                if isinstance(item, message_class):
                    yield item
                elif isinstance(item, Undecodable):
                    self._tell(item, f"{name} {number}")
        except Refused as refusal:
            if isinstance(refusal, CutOff) and not answer.has_end:
                raise answer.cut(f"the answer was cut off: {refusal}") from None
            raise ConnectFailed(ProtocolError, f"the answer is no JSON array of objects: {refusal}") from None

    def _tell(self, undecodable: Undecodable, what: str) -> None:
        if self._on_undecodable is None:
            advice = "pass on_undecodable=… to go on without it"
            raise ConnectFailed(ProtocolError, f"{what} cannot be read: {undecodable.reason}; {advice}")
        self._on_undecodable(undecodable)

    def _request(self, target: str) -> bytes:
        options = self._options
        lines = [
            f"GET {target} HTTP/1.1".encode("ascii"),
            f"Host: {options.endpoint.authority}".encode("ascii"),
            f"User-Agent: {options.user_agent}".encode("ascii"),
            b"Accept: application/json",
            b"Accept-Encoding: gzip",
            b"Connection: close",
        ]
        if options.api_key is not None:
            headers = authorization_headers(options.auth, options.api_key, None)
            lines += [HiddenBytes(name + b": " + value) for name, value in headers]
        return HiddenBytes(b"\r\n".join([*lines, b"", b""]))

    def _limits_of(self, answer: Answer) -> tuple[tuple[str, str], ...]:
        return tuple(
            (name, self._redact(value)[:_MAX_LIMIT_HEADER_LENGTH])
            for name, value in answer.headers
            if name.startswith(_LIMIT_HEADER_PREFIXES) and value.isprintable()
        )

    def _refusal(self, answer: Answer) -> CoinAPIError:
        """Return the error of a status that is none of success."""
        status = answer.status
        cause, error_type = classify_status(status)
        if error_type is HandshakeRejected:
            error_type = ServerRejected
        # Not where to: the address is the server's word, and may repeat ours.
        advice = "; redirects are not followed" if 300 <= status <= 399 else _ADVICE.get(status, "")
        return Disconnected(
            cause=cause,
            initiator="server",
            detail=f"the REST API answered with HTTP status {status}{advice}",
            stage="rest",
            server_text=self._redact(answer.error_text())[:_MAX_SERVER_TEXT].strip() or None,
            status=status,
            retry_after=_retry_after(answer.headers),
            limits=self.limits,
            host=self._options.endpoint.authority,
        ).as_error(error_type)

    def _error(self, failure: ConnectFailed, stage: str) -> CoinAPIError:
        """Return the error of an answer that did not come, or is no list."""
        is_ours = failure.error_type is ProtocolError
        return Disconnected(
            cause=Cause.PROTOCOL if is_ours else Cause.NETWORK,
            initiator="client" if is_ours else "network",
            detail=failure.detail,
            stage=stage,
            limits=self.limits if stage == "rest" else (),
            host=self._options.endpoint.authority,
        ).as_error(failure.error_type)

    def _redact(self, text: str) -> str:
        key = self._options.api_key
        return text if key is None else key.redact(redact_json(text, key.redact))


def _read_settings(
    api_key: str | Secret | None,
    endpoint: str | Endpoint,
    proxy: str | Proxy | None,
    timeout: float,
    max_bytes: int,
    **options: Unpack[RestOptions],
) -> Options | ConfigurationError | TypeError:
    """Return the options, or the error to raise once the caller has dropped its own locals."""
    if unknown := sorted(options.keys() - RestOptions.__annotations__.keys()):
        return TypeError(f"metadata.Client takes no option {unknown[0]}")
    given: dict[str, object] = {"timeout": timeout, "max_bytes": max_bytes}
    for name, number in given.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < inf:
            return ConfigurationError(f"{name} is a positive number")
    place = read_rest_endpoint(endpoint)
    if not isinstance(place, Endpoint):
        return place
    return read_options(api_key, place, proxy, open_timeout=timeout, **options)


def _retry_after(headers: tuple[tuple[str, str], ...]) -> float | None:
    """Return how many seconds to wait, from seconds or a date; of a day's quota they are many."""
    seconds = retry_after_seconds(headers)
    text = dict(headers).get("retry-after")
    if seconds is not None or text is None:
        return seconds
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        # A date of HTTP is in UTC, also in the old form that does not say so (RFC 9110, 5.6.7).
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):  # no date, or none that there is
        return None


def _joined(name: str, ids: Iterable[str]) -> str:
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise ConfigurationError(f"{name} is a list of str, not one {type(ids).__name__}")
    return ",".join(_quoted(name, each) for each in ids)


def _quoted(name: str, value: str) -> str:
    # What is wrong is not repeated: it may be the key.
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} takes ids as str, not {type(value).__name__}")
    if not value or not value.isprintable() or any(character in value for character in " ,;"):
        raise ConfigurationError(f"{name} takes ids that are not empty and have no blank, comma or semicolon in them")
    return quote(value, safe="")
