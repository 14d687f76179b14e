"""A tunnel through an HTTP proxy, by CONNECT (RFC 9110, 9.3.6), as bytes in, bytes out.

Nothing that the proxy says is repeated in an error but the status and the names of its authentication schemes, since it
has seen the user name and the password. Never blocks; knows no socket.
"""

from __future__ import annotations

import re
from base64 import b64encode
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from ..auth import HiddenBytes, HiddenText
from ..endpoints import Endpoint, host_and_port
from ..exceptions import ProxyError
from ..proxies import Proxy
from .failures import ConnectFailed

#: Proxies send a few hundred bytes; nothing larger is an answer.
MAX_HEAD_BYTES: Final = 16 * 1024

_BEGINNING: Final = b"HTTP/1."
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_AUTH_SCHEME: Final = re.compile(
    rb"^Proxy-Authenticate:[ \t]*([A-Za-z-]{1,20})(?=[ \t\r\n,])", re.IGNORECASE | re.MULTILINE
)


class Tunnel:
    """One request for a tunnel to the endpoint's host and port, and the proxy's answer.

    :meth:`receive_data` and :meth:`receive_eof` raise ``ConnectFailed`` where the proxy does not grant it.
    """

    def __init__(self, proxy: Proxy, endpoint: Endpoint, *, user_agent: str) -> None:
        self.proxy = proxy
        self._target = host_and_port(endpoint.host, endpoint.port)
        self._user_agent = user_agent
        self._head = bytearray()
        self.established = False

    def request(self) -> bytes:
        """Return what to send once TCP to the proxy is up."""
        lines = [f"CONNECT {self._target} HTTP/1.1", f"Host: {self._target}", f"User-Agent: {self._user_agent}"]
        if self.proxy.credentials is not None:
            basic = HiddenText(b64encode(self.proxy.credentials.reveal().encode()).decode())  # RFC 7617, UTF-8
            lines.append(HiddenText(f"Proxy-Authorization: Basic {basic}"))
        return HiddenBytes("\r\n".join([*lines, "", ""]).encode("ascii"))

    def receive_data(self, received: bytes) -> None:
        """Take bytes from the proxy; ``established`` once the tunnel is there."""
        self._head += received
        beginning = self._head[: len(_BEGINNING)]
        if not _BEGINNING.startswith(beginning):
            raise self._failed("what answers there is no HTTP proxy; check host and port")
        end = _HEAD_END.search(self._head)
        if end is None:
            if len(self._head) > MAX_HEAD_BYTES:
                raise self._failed("its answer has no end; check host and port")
            return
        status_line = _STATUS_LINE.match(self._head)
        if status_line is None:
            raise self._failed("its answer is no HTTP; check host and port")
        status = int(status_line[1])
        if not 200 <= status <= 299:
            raise self._failed(self._refusal(status, bytes(self._head[: end.end()])))
        if end.end() != len(self._head):
            # In TLS and in HTTP the client speaks first.
            raise self._failed("it sent more than its answer, before anything was sent through the tunnel")
        self.established = True

    def receive_eof(self, broken: str | None) -> None:
        """Take note that the proxy ended TCP, perhaps for a reason that the system gave."""
        reason = "closed the connection" if broken is None else f"broke the connection ({broken})"
        advice = "; it may expect TLS, or refuse this client" if not self._head else ""
        raise self._failed(f"it {reason} before its answer was complete{advice}")

    def _refusal(self, status: int, head: bytes) -> str:
        answer = f"it answered {status}"
        with suppress(ValueError):
            answer += f" {HTTPStatus(status).phrase}"
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return f"{answer}: {self._login_advice(head)}"
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return f"{answer}: it does not allow a tunnel to {self._target}; ask those who run it, or go without"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return f"{answer}: it could not reach {self._target}; try again, or ask those who run it"
        return f"{answer} to CONNECT; it may be no proxy for tunnels"

    def _login_advice(self, head: bytes) -> str:
        schemes = [scheme.decode() for scheme in _AUTH_SCHEME.findall(head)]
        if schemes and "basic" not in map(str.lower, schemes):
            return f"it wants {' or '.join(schemes)}, and only Basic is supported"
        if self.proxy.credentials is None:
            return "it wants a user name and a password; write proxy='http://user:password@host:port'"
        return "it did not accept user name and password; check both, and percent-encode what is no letter or digit"

    def _failed(self, reason: str) -> ConnectFailed:
        return ConnectFailed(ProxyError, f"the proxy {self.proxy} gave no tunnel to {self._target}: {reason}")
