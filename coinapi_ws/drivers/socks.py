"""SOCKS proxies, by python-socks (``pip install "coinapi-ws[socks]"``).

What that package offers publicly either blocks or needs asyncio, trio or anyio. So this blocks, as name resolution
does.
"""

from __future__ import annotations

import socket
from importlib.util import find_spec
from typing import Final

from ..auth import Secret
from ..endpoints import host_and_port
from ..exceptions import CoinAPIError, ConfigurationError, ConnectTimeout, ProxyError
from ..proxies import Proxy
from .failures import ConnectFailed

_SILENCE: Final = "it did not answer in time"


def check_socks() -> None:
    """Raise ``ConfigurationError`` where python-socks is not installed."""
    if find_spec("python_socks") is None:
        raise ConfigurationError(
            'a SOCKS proxy needs the package python-socks: pip install "coinapi-ws[socks]"; '
            "or pass proxy=None to connect without one"
        )


def dial_socks(proxy: Proxy, host: str, port: int, timeout: float | None) -> socket.socket:
    """Return a socket that the proxy has connected to host and port. Blocks, in each step at most ``timeout`` seconds.

    Raises ``ConnectFailed``.
    """
    from python_socks import ProxyConnectionError, ProxyTimeoutError, ProxyType
    from python_socks import ProxyError as Refused
    from python_socks.sync import Proxy as Dialer

    login = Secret("") if proxy.credentials is None else proxy.credentials
    dialer = Dialer(
        ProxyType.SOCKS5,
        proxy.host,
        proxy.port,
        username=login.reveal().partition(":")[0],
        password=login.reveal().partition(":")[2],
        rdns=proxy.scheme == "socks5h",
    )
    error_type: type[CoinAPIError] = ProxyError
    try:
        connected: socket.socket = dialer.connect(host, port, timeout=timeout)
        return connected
    except (ProxyTimeoutError, TimeoutError):
        error_type, reason = ConnectTimeout, _SILENCE
    except ProxyConnectionError as error:
        cause = error.__cause__
        error_type, reason = (
            (ConnectTimeout, _SILENCE) if isinstance(cause, TimeoutError) else (ProxyError, _reason(cause))
        )
    except (Refused, OSError) as error:
        reason = _reason(error)
    except ValueError:
        reason = "its answer is no SOCKS"
    # Outside of the handlers: the frames of python-socks have user name and password as plain locals (F24).
    raise ConnectFailed(error_type, f"the proxy {proxy} gave no connection to {host_and_port(host, port)}: {reason}")


def _reason(error: BaseException | None) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
