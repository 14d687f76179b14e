"""Who comes in: keys, limits, and what faults want said instead. One for all connections of a simulator."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from .keys import NO_KEY, AcceptedKeys
from .limits import ConnectionLimit, Headers, RateLimit, retry_after
from .scope import Refused

#: Our own reading: nobody knows when one of a key's connections will end.
CONNECTION_RETRY_MS: Final = 1000
ACCEPTED: Final = 101


@dataclass(frozen=True)
class Answer:
    """What a request is answered with.

    ``preface`` is sent first, as it is. A status of 0 says nothing else; `ACCEPTED` goes on with the
    handshake; all others refuse, and ``body`` follows in its pieces.
    """

    status: int = ACCEPTED
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: Sequence[bytes] = ()
    preface: bytes = b""


class Visitor(Protocol):
    """What the gate asks of a connection."""

    address: str
    #: Hashes of the API keys that came with the upgrade request.
    keys: list[bytes]

    @property
    def is_over(self) -> bool:
        """True from the first Close, sent or received, or the end of TCP."""
        ...


class Gate:
    """Decides about upgrades and hellos. Times are nanoseconds on the simulator's monotonic clock."""

    def __init__(
        self,
        keys: AcceptedKeys,
        *,
        checks_upgrades: bool,
        upgrade_limit: RateLimit | None,
        hello_limit: RateLimit | None,
        connection_limit: ConnectionLimit | None,
        rest_limit: RateLimit | None,
    ) -> None:
        self._keys = keys
        self._checks_upgrades = checks_upgrades
        self._upgrade_limit = upgrade_limit
        self._hello_limit = hello_limit
        self._connection_limit = connection_limit
        self._rest_limit = rest_limit
        #: What faults want said to the next upgrades, and to how many.
        self._instead: deque[tuple[Answer, float]] = deque()

    def answer_next(self, answer: Answer, count: int | None) -> None:
        """Give this answer to the next ``count`` upgrade requests, None: to all, after those said before."""
        self._instead.append((answer, math.inf if count is None else count))

    def answer_soundly(self) -> None:
        """Forget what `answer_next` was told."""
        self._instead.clear()

    def admit(self, visitor: Visitor, now_ns: int) -> Answer:
        """Return the answer to an upgrade request."""
        preface = b""
        if self._instead:
            answer, left = self._instead.popleft()
            if left > 1:
                self._instead.appendleft((answer, left - 1))
            if answer.status != ACCEPTED:
                return answer
            preface = answer.preface
        if self._upgrade_limit is not None:
            wait_ms = self._upgrade_limit.take(visitor.address, now_ns)
            if wait_ms:
                headers = self._upgrade_limit.headers(visitor.address, now_ns, wait_ms)
                return _refusal(429, "Too many upgrade requests", [*headers, retry_after(wait_ms)])
        key = self._keys.accepted(visitor.keys)
        if self._checks_upgrades and (refusal := self._key_refusal(key)):
            return refusal
        if key is None:
            # Wrong, which will be said at the hello; the limit counts it all the same.
            key = visitor.keys[0] if visitor.keys else NO_KEY
        if self._is_over_connections(key):
            headers = self._connection_headers(key)
            return _refusal(429, "Too many connections", [*headers, retry_after(CONNECTION_RETRY_MS)])
        self._hold(key, visitor)
        return Answer(headers=tuple(self._headers(visitor, key, now_ns)), preface=preface)

    def let_in(self, visitor: Visitor, now_ns: int) -> Answer:
        """Return the refusal of a request of REST, or `ACCEPTED` and what its answer says of the limit."""
        refusal = self._key_refusal(self._keys.accepted(visitor.keys))
        if refusal is not None or self._rest_limit is None:
            return refusal or Answer()
        limit = self._rest_limit
        wait_ms = limit.take(visitor.address, now_ns)
        numbers = {"Limit": limit.limit, "Remaining": limit.remaining(visitor.address, now_ns), "Request-Cost": 1}
        headers = [(b"X-RateLimit-" + name.encode(), b"%d" % number) for name, number in numbers.items()]
        if wait_ms:
            return _refusal(429, "Too many requests", [*headers, retry_after(wait_ms)])
        return Answer(headers=tuple(headers))

    def hear(self, visitor: Visitor, now_ns: int) -> None:
        """Count a hello, subscribe or unsubscribe; raise `Refused` where there were too many."""
        limit = self._hello_limit
        if limit is not None and limit.take(visitor.address, now_ns):
            raise Refused(
                f"Too many hello, subscribe and unsubscribe messages: {limit.limit} in {limit.window_ms} ms are allowed"
            )

    def check_key(self, visitor: Visitor, in_hello: Sequence[bytes]) -> bytes:
        """Return the key of a client at its first message; raise `Refused` where it has none that may be used."""
        key = self._keys.accepted([*visitor.keys, *in_hello])
        if key is None:
            raise Refused("Invalid API key")
        if key not in visitor.keys:
            if self._is_over_connections(key):
                raise Refused("Too many connections with this API key")
            self._hold(key, visitor)
        return key

    def check_privileges(self, key: bytes, data_types: Collection[str]) -> None:
        """Raise `Refused` where a key may not have one of these."""
        for data_type in sorted(data_types):
            if not self._keys.may_have(key, data_type):
                raise Refused(f"Forbidden - Your API key don't have privileges to data type '{data_type}'.")

    def _key_refusal(self, key: bytes | None) -> Answer | None:
        if key is None:
            # RFC 9110, 15.5.2: how it could be done.
            return _refusal(401, "Invalid API key", [(b"WWW-Authenticate", b'Basic realm="CoinAPI"')])
        return _refusal(403, "Forbidden") if self._keys.may_nothing(key) else None

    def _is_over_connections(self, key: bytes) -> bool:
        return self._connection_limit is not None and self._connection_limit.is_reached(key)

    def _hold(self, key: bytes, visitor: Visitor) -> None:
        if key != NO_KEY and self._connection_limit is not None:
            self._connection_limit.hold(key, visitor)

    def _connection_headers(self, key: bytes) -> Headers:
        return [] if self._connection_limit is None else self._connection_limit.headers(key)

    def _headers(self, visitor: Visitor, key: bytes, now_ns: int) -> Headers:
        limits = [limit for limit in (self._upgrade_limit, self._hello_limit) if limit is not None]
        headers = [header for limit in limits for header in limit.headers(visitor.address, now_ns)]
        return headers + self._connection_headers(key)


def _refusal(status: int, text: str, headers: Headers | None = None) -> Answer:
    plain = (b"Content-Type", b"text/plain")
    return Answer(status, (plain, *(headers or [])), (text.encode(),))
