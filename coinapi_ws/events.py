"""What happens around the messages: connections, gaps, and what could not be read. All frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from . import exceptions
from .exceptions import CoinAPIError

if TYPE_CHECKING:
    from .scope import Scope

#: Of what the server said, a line shows so many characters; ``server_text`` has more.
_SHOWN_TEXT: Final = 200


class Cause(Enum):
    """Why a connection ended, as far as it decides what to do next."""

    CREDENTIALS = "credentials"  #: the key was refused or lacks a privilege
    SCOPE = "scope"  #: the server refused what was asked for
    RATE_LIMIT = "rate_limit"  #: too many upgrades, hellos or connections
    OVERFLOW = "overflow"  #: messages were not read in time and the server gave up
    NOTICE = "notice"  #: the server had announced it, or closed as one that goes away
    NETWORK = "network"  #: the connection broke, fell silent, or never came about
    PROTOCOL = "protocol"  #: one side broke the protocol
    LOCAL = "local"  #: this program closed it
    UNKNOWN = "unknown"  #: none of these


class Event:
    """Base of all events."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Event):
    """The upgrade succeeded and the hello is on its way; it proves nothing yet, see :class:`Live`.

    ``limits`` are the limit headers of the response, ``compression`` whether permessage-deflate was agreed.
    """

    limits: tuple[tuple[str, str], ...] = ()
    compression: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Live(Event):
    """The first data or heartbeat came: key and scope are accepted."""

    received_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(Event):
    """The connection ended: exactly one for each session, and its last event.

    ``initiator`` is "server", "client" or "network"; ``code`` the close code, 1006 without a Close frame;
    ``clean`` True after a whole close handshake. ``stage`` is "connect", "upgrade", "hello" or "live": how
    far it had come; "rest" for a request of :class:`coinapi_ws.metadata.Client`. ``status`` is the HTTP status of a
    refused upgrade or request and ``server_text`` its short body or the last ``error`` message, ``retry_after`` in
    seconds, ``silent_for`` the seconds since the last bytes. ``host`` is the endpoint's host, with its port where that
    is not the scheme's own. Every text from the server has the key redacted.
    """

    cause: Cause
    initiator: str
    detail: str
    stage: str = "connect"
    code: int = 1006
    reason: str = ""
    clean: bool = False
    server_text: str | None = None
    status: int | None = None
    retry_after: float | None = None
    limits: tuple[tuple[str, str], ...] = ()
    silent_for: float | None = None
    bytes_received: int = 0
    messages_received: int = 0
    host: str = ""
    error_type: type[CoinAPIError] | None = None

    def error(self) -> CoinAPIError | None:
        """Build the exception that stands for this end; None after a clean close without an error.

        A new exception each time, so that none pins memory by its traceback.
        """
        if self.error_type is None:
            return None
        return self.as_error(self.error_type)

    def as_error(self, error_type: type[CoinAPIError] = exceptions.ConnectionClosed) -> CoinAPIError:
        """Build an exception of this type with this event as its ``disconnected``."""
        error = error_type(self.summary())
        error.disconnected = self
        return error

    def summary(self) -> str:
        """Say in one line what happened and what is known."""
        facts = [self.detail]
        if self.server_text:
            cut = " …" if len(self.server_text) > _SHOWN_TEXT else ""
            facts.append(f"the server said: {self.server_text[:_SHOWN_TEXT] + cut!r}")
        if self.code != 1006:
            facts.append(f"close code {self.code}" + (f" {self.reason!r}" if self.reason else ""))
        if self.stage in ("hello", "live"):
            facts.append(f"{self.messages_received} messages, {self.bytes_received} bytes received")
        if self.silent_for is not None:
            facts.append(f"last bytes {self.silent_for:.1f} s before")
        if self.retry_after is not None:
            facts.append(f"retry after {self.retry_after:g} s")
        facts.extend(f"{name}: {value}" for name, value in self.limits)
        if self.host and self.host not in self.detail:
            facts.append(f"host {self.host}")
        return "; ".join(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnecting(Event):
    """The threaded client will try again: ``attempt`` counts from 1, ``delay`` is in seconds."""

    attempt: int
    delay: float
    cause: Cause


class Gap(Event):
    """Base of all events that say: something is missing here."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceGap(Gap):
    """The sequence of a (type, symbol_id) jumped, or went back where ``received < expected``."""

    type: str
    symbol_id: str
    expected: int
    received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionGap(Gap):
    """What came between two connections of the client is missing: times from ``from_ns`` on, before ``to_ns``.

    Both are ``time_coinapi`` in nanoseconds since the epoch (``time`` of an exrate): of the last message before the cut
    that has it, and of the first one after it, of which ``received_ns`` counts where it has none, as it does before the
    cut where no message had one. ``from_ns`` is None where there was no message before the cut, ``to_ns`` is None
    where the client ended before one came. ``reason`` says how the connection ended, ``scope`` what it had asked for.
    """

    from_ns: int | None
    to_ns: int | None
    reason: str
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(Gap):
    """``count`` messages of a (type, symbol_id) were not delivered, by the queue policy that was chosen.

    ``first_ns`` and ``last_ns`` are the times of the first and the last of them, such as :class:`ConnectionGap` has.
    """

    type: str
    symbol_id: str | None
    count: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecodable(Event):
    """A frame that is no message: ``payload`` as it came, ``reason`` what is wrong with it."""

    reason: str
    received_ns: int
    payload: str | bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackFailed(Event):
    """A callback of the threaded client raised ``error`` on ``argument``."""

    callback: Callable[..., Any]
    argument: object = field(repr=False)
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet(Event):
    """Connected, but nothing of a data type came for ``seconds``; once, until something comes.

    ``asked`` are the subscriptions that ask for it, ``last_ns`` when the last message of it was received (nanoseconds
    since the epoch), None where none ever was; ``received`` are the messages by type since the connection is live.
    """

    type: str
    seconds: float
    asked: Scope
    last_ns: int | None = None
    received: tuple[tuple[str, int], ...] = ()

    def summary(self) -> str:
        """Say in one line what is known."""
        counts = ", ".join(f"{count} {name}" for name, count in self.received) or "nothing at all"
        advice = "" if self.last_ns is not None else "; perhaps the filter matches nothing, or nothing is traded"
        asked = repr(self.asked)
        asked = asked if len(asked) <= _SHOWN_TEXT else f"{asked[:_SHOWN_TEXT]} …"
        return f"no {self.type} for {self.seconds:g} s, asked for by {asked}; received: {counts}{advice}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver(Event):
    """A second connection took over from one that the server had announced to close.

    Nothing is missing, but for what a ``ConnectionGap`` just before this says, where the first one broke.
    ``duplicates`` messages came on both and were delivered once; ``pairs_left`` (type, symbol_id) pairs had not
    shown themselves on the second connection when the first one closed.
    """

    duplicates: int
    pairs_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverFailed(Event):
    """No second connection could be had, or kept, before the first one closes, which is waited for.

    ``reason`` says why.
    """

    reason: str
