"""What the kernel is told of a socket."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from peers import Listener, accept, url_of

from coinapi_ws import SelectorConnection
from coinapi_ws.drivers.socket_options import SocketOptions
from coinapi_ws.drivers.transport import Transport

Make = Callable[..., SelectorConnection]
LINUX = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="as Linux has them")


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


def told(tcp: socket.socket, name: str) -> int:
    level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
    return tcp.getsockopt(level, getattr(socket, name))


def test_small_frames_leave_at_once_unless_otherwise_asked(tcp: socket.socket) -> None:
    SocketOptions().apply(tcp)
    assert told(tcp, "TCP_NODELAY")
    SocketOptions(nodelay=False).apply(tcp)
    assert not told(tcp, "TCP_NODELAY")


def test_without_keepalive_the_system_s_habit_stays(tcp: socket.socket) -> None:
    before = {name: told(tcp, name) for name in ("SO_KEEPALIVE", "SO_RCVBUF")}
    SocketOptions().apply(tcp)
    assert {name: told(tcp, name) for name in before} == before
    assert before["SO_KEEPALIVE"] == 0


@LINUX
@pytest.mark.parametrize(
    ("seconds", "idle", "interval", "user_timeout"),
    [
        (60, 30, 6, 60_000),
        (1, 1, 1, 6_000),
        (0.1, 1, 1, 6_000),
        (7200, 3600, 720, 7_200_000),
        (1e9, 32767, 32767, None),
    ],
)
def test_keepalive_finds_within_so_many_seconds_that_nobody_is_there_f8(
    tcp: socket.socket, seconds: float, idle: int, interval: int, user_timeout: int
) -> None:
    """F8: half of the time idle, then five probes; and as long for what was sent and not acknowledged."""
    SocketOptions(keepalive=seconds).apply(tcp)
    assert told(tcp, "SO_KEEPALIVE") == 1
    assert told(tcp, "TCP_KEEPIDLE") == idle
    assert told(tcp, "TCP_KEEPINTVL") == interval
    assert told(tcp, "TCP_KEEPCNT") == 5
    assert told(tcp, "TCP_USER_TIMEOUT") == (user_timeout or 1000 * (idle + 5 * interval))


def test_a_system_without_one_of_the_options_goes_without(tcp: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has another name, and other systems have the name of what they do not know."""
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    monkeypatch.setattr(socket, "TCP_KEEPCNT", 9999, raising=False)
    SocketOptions(keepalive=60).apply(tcp)
    assert told(tcp, "SO_KEEPALIVE") == 1


def test_the_receive_buffer_is_set_before_connecting(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards the window is agreed on."""
    seen = []
    connect_ex = socket.socket.connect_ex

    class Watched(socket.socket):
        def connect_ex(self, address: object) -> int:  # type: ignore[override]
            seen.append(told(self, "SO_RCVBUF"))
            return connect_ex(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "socket", Watched)
    for size in (8192, 16384):
        address = (socket.AF_INET, listener.getsockname())
        transport = Transport("localhost", [address], socket_options=SocketOptions(receive_buffer_bytes=size))  # type: ignore[list-item]
        transport.step(0.0)
        transport.close()
    assert seen[0] >= 8192
    assert seen[1] == 2 * seen[0]


def test_a_connection_passes_them_on(make: Make, listener: Listener) -> None:
    more = {"receive_buffer_bytes": 16384, "keepalive": 60, "nodelay": False}
    for options, expected in ((more, [1, 0]), ({}, [1, 1]), ({"keepalive": None}, [0, 1])):
        connection = make(url_of(listener), **options)
        connection.start()
        accept(listener)
        with socket.socket(fileno=socket.dup(connection.fileno())) as watched:
            assert [told(watched, "SO_KEEPALIVE"), int(bool(told(watched, "TCP_NODELAY")))] == expected
            assert (told(watched, "SO_RCVBUF") in (16384, 32768)) is ("receive_buffer_bytes" in options)
