"""Certificates for the simulator: one that clients can trust, and those that they must refuse."""

from __future__ import annotations

import datetime
import ssl
from typing import TYPE_CHECKING, Final

from coinapi_ws.exceptions import ConfigurationError

if TYPE_CHECKING:
    import trustme

KINDS: Final = ("valid", "wrong_name", "expired", "self_signed")
_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_WRONG_NAME: Final = "somebody-else.example"


class Certificates:
    """An authority of its own, and a server context for each kind of certificate.

    Raises ``ConfigurationError`` where trustme, the extra ``tls``, is not installed.
    """

    def __init__(self) -> None:
        try:
            import trustme
        except ImportError:
            raise ConfigurationError('certificates need an extra: pip install "coinapi-ws[tls]"') from None
        self._authority: trustme.CA = trustme.CA()
        self._stranger: trustme.CA = trustme.CA()
        self._contexts: dict[str, ssl.SSLContext] = {}
        #: The authority's certificate, for clients that shall trust it.
        self.ca_pem: bytes = self._authority.cert_pem.bytes()

    def server_context(self, kind: str) -> ssl.SSLContext:
        """Return the context of a server that presents this kind of certificate."""
        if kind not in self._contexts:
            self._contexts[kind] = self._new_context(kind)
        return self._contexts[kind]

    def client_context(self) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority and no other."""
        return ssl.create_default_context(cadata=self.ca_pem.decode("ascii"))

    def _new_context(self, kind: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if kind == "self_signed":
            # A root that nobody trusts, used as the server's own certificate.
            with self._stranger.cert_pem.tempfile() as certificate, self._stranger.private_key_pem.tempfile() as key:
                context.load_cert_chain(certificate, key)
            return context
        names = (_WRONG_NAME,) if kind == "wrong_name" else _NAMES
        yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
        expiry = yesterday if kind == "expired" else None
        self._authority.issue_cert(*names, not_after=expiry).configure_cert(context)
        return context
