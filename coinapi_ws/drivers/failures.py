"""Why no connection came about, on its way from the steps of connecting to the session."""

from __future__ import annotations

from ..exceptions import CoinAPIError


class ConnectFailed(Exception):
    """No connection came about: the error type to raise, and its text. It stays inside the drivers."""

    def __init__(self, error_type: type[CoinAPIError], detail: str) -> None:
        super().__init__(detail)
        self.error_type = error_type
        self.detail = detail
