"""How a session ended, as the ``Disconnected`` that says so; the session adds what it has counted and heard."""

from __future__ import annotations

from typing import Final

from ..events import Cause, Disconnected
from ..exceptions import CoinAPIError, ConnectError, ConnectionClosed, ConnectTimeout, ProtocolError
from ..options import Options
from .pacing import retry_after_seconds
from .reconnect import Verdict, classify_close, classify_status
from .states import SessionState
from .websocket import ABNORMAL_CLOSURE, Closed, Rejected

#: Close codes that are no error (RFC 6455, 7.4.1); 1005 stands for a Close frame without a code.
_CLEAN_CODES: Final = frozenset({1000, 1001, 1005})


def lost(
    detail: str, error_type: type[CoinAPIError], *, notified: bool, retry_after: float | None = None
) -> Disconnected:
    """The connection could not be had, or broke; or, with ``retry_after``, the server's limits forbid it for now."""
    cause = Cause.RATE_LIMIT if retry_after is not None else classify_close(ABNORMAL_CLOSURE, notified=notified)
    return Disconnected(cause=cause, initiator="network", detail=detail, error_type=error_type, retry_after=retry_after)


def expired(deadline: str, options: Options, verdict: Verdict | None) -> Disconnected:
    """A deadline passed: "upgrade", "live", "silence", "pong" or "close"."""
    details = {
        "upgrade": "the server did not answer the upgrade in time",
        "live": f"neither data nor a heartbeat within {options.live_timeout} s of the hello",
        "silence": f"no message for {options.silence_timeout} s, though heartbeats were asked for",
        "pong": f"no Pong within {options.ping_timeout} s",
        "close": f"the server did not answer our Close within {options.close_timeout:g} s",
    }
    cause: Cause
    error_type: type[CoinAPIError] | None
    if deadline == "close":
        cause, error_type = Cause.LOCAL, None
    elif verdict is not None:
        cause, error_type = verdict  # an error that nothing followed says more than the silence after it
    else:
        cause = Cause.NETWORK
        error_type = ConnectTimeout if deadline in ("upgrade", "live") else ConnectionClosed
    return Disconnected(cause=cause, initiator="client", detail=details[deadline], error_type=error_type)


def rejected(answer: Rejected) -> Disconnected:
    """The server answered the upgrade with something else than 101."""
    cause, error_type = classify_status(answer.status)
    # Not where to: the address is the server's word, and may repeat ours with the key in it.
    advice = "; redirects are not followed" if 300 <= answer.status <= 399 else ""
    return Disconnected(
        cause=cause,
        initiator="server",
        detail=f"the server refused the upgrade with HTTP status {answer.status}{advice}",
        error_type=error_type,
        server_text=answer.body.decode("utf-8", "replace"),
        status=answer.status,
        retry_after=retry_after_seconds(answer.headers),
    )


def closed(
    end: Closed, state: SessionState, *, upgraded: bool, verdict: Verdict | None, notified: bool
) -> Disconnected:
    """The WebSocket ended, in whichever way."""
    cause: Cause
    error_type: type[CoinAPIError] | None
    initiator = "server" if end.by_peer else "network"
    if end.violation is not None:
        cause, error_type, initiator = Cause.PROTOCOL, ProtocolError, "client"
        detail = end.violation
    elif state is SessionState.CLOSING:
        cause, error_type, initiator = Cause.LOCAL, None, "client"
        detail = "closed by us" if end.clean else "the server dropped the connection while we closed"
    elif verdict is not None:
        cause, error_type = verdict
        detail = "the server sent an error and closed"
    elif end.by_peer:
        cause = classify_close(end.code, notified=notified)
        error_type = None if end.code in _CLEAN_CODES else ConnectionClosed
        detail = "the server closed the connection"
    else:
        cause = classify_close(ABNORMAL_CLOSURE, notified=notified)
        error_type = ConnectionClosed if upgraded else ConnectError
        detail = "the connection ended without a Close frame"
    return Disconnected(
        cause=cause,
        initiator=initiator,
        detail=detail,
        error_type=error_type,
        code=end.code,
        reason=end.reason,
        clean=end.clean,
    )
