"""What a TCP socket is told before it connects."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final, NamedTuple

_PROBES: Final = 5
_LONGEST_INTERVAL_SECONDS: Final = 32_767  # Linux takes no more


class SocketOptions(NamedTuple):
    """``nodelay`` and ``receive_buffer_bytes`` as TCP has them; ``keepalive`` in seconds, see :class:`Options`."""

    nodelay: bool = True
    keepalive: float | None = None
    receive_buffer_bytes: int | None = None

    def apply(self, tcp: socket.socket) -> None:
        """Set what was asked for. Before connecting, since TCP agrees on its window then."""
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, self.nodelay)
        if self.receive_buffer_bytes is not None:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer_bytes)
        if self.keepalive is not None:
            _keep_alive(tcp, self.keepalive)


def _keep_alive(tcp: socket.socket, seconds: float) -> None:
    """Let the system find out within these seconds that nobody is there any more (F8)."""
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = _whole_seconds(seconds / 2)
    interval = _whole_seconds((seconds - idle) / _PROBES)
    for name, setting in (
        ("TCP_KEEPIDLE", idle),  # Linux, BSD, Windows
        ("TCP_KEEPALIVE", idle),  # the same on macOS
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", _PROBES),
        # Linux: for what was sent and not acknowledged, where no probe is sent.
        ("TCP_USER_TIMEOUT", 1000 * (idle + _PROBES * interval)),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            # A system that has the name but not the option keeps its own times.
            with suppress(OSError):
                tcp.setsockopt(socket.IPPROTO_TCP, option, setting)


def _whole_seconds(seconds: float) -> int:
    return max(1, min(_LONGEST_INTERVAL_SECONDS, round(seconds)))
