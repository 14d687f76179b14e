"""A Scope of subscriptions, and the frames that bring a server from one to another.

All values are immutable and pure; any thread. The rules are the vendor's (vendor_notes.md, "Subscribing").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from .endpoints import Endpoint
from .exceptions import ConfigurationError, UsageError
from .messages import Book, Message
from .sharding import shard_of
from .subscription import LIMITED_TYPES, Subscription, subscription_of, types_sent, with_symbols

WIRE_HELLO: Final = "hello"
WIRE_INCREMENTAL: Final = "incremental"

#: What is said of assets and exchanges, and now and then of symbols, goes on as it is when a symbol begins anew.
_TYPES_OF_NO_SYMBOL: Final = frozenset({"exrate", "asset", "exchange", "symbol", "connectivity_status"})
_EMPTY_SCOPE: Final = (
    "an empty scope would ask for everything; name at least one Subscription, or close the connection instead"
)


class Scope:
    """An immutable ordered set of subscriptions: all that is wanted on one connection.

    Equal members count once. It is true where it has any, iterates over them, and compares by its set of members.
    Raises ``ConfigurationError`` for what is no :class:`Subscription`.
    """

    __slots__ = ("_members",)

    def __init__(self, *subscriptions: Subscription) -> None:
        for subscription in subscriptions:
            if not isinstance(subscription, Subscription):
                raise _no_subscription(subscription)
        self._members = tuple(dict.fromkeys(subscriptions))

    def add(self, *subscriptions: Subscription) -> Scope:
        """Return a scope with these as well."""
        return Scope(*self._members, *subscriptions)

    def remove(self, *subscriptions: Subscription) -> Scope:
        """Return a scope without these. Raises ``UsageError`` where an equal member is not in it."""
        for subscription in subscriptions:
            if subscription not in self._members:
                raise UsageError(f"not in the scope: {subscription!r}; its members are {list(self._members)!r}")
        return Scope(*(member for member in self._members if member not in subscriptions))

    def replace(self, *subscriptions: Subscription) -> Scope:
        """Return a scope of these alone."""
        return Scope(*subscriptions)

    def may_match(self, message: Message, product: str = "market") -> bool:
        """Return False only where it is certain that no member asked for the message."""
        return any(member.may_match(message, product) for member in self._members)

    def merged(self) -> Subscription:
        """Return one subscription that asks for all members, and by its cross product perhaps for more.

        Raises ``ConfigurationError`` where members have different kinds of filter or different limits.
        """
        if not self._members:
            raise UsageError(_EMPTY_SCOPE)
        first = self._members[0]
        if len(self._members) == 1:
            return first
        if any(member.filters != first.filters for member in self._members):
            raise ConfigurationError(
                "subscriptions with different kinds of filter do not fit in one hello: "
                f"{[sorted(member.filters) for member in self._members]}; "
                'give them the same kind (symbol_ids), or pass wire="incremental"'
            )
        candles = [member for member in self._members if "ohlcv" in member.data_types]
        every_period = any(not member.period_ids for member in candles)
        every_type = any(not member.data_types for member in self._members)
        fields = {
            "data_types": () if every_type else self._union("data_types"),
            "symbol_ids": self._union("symbol_ids"),
            "exchange_ids": self._union("exchange_ids"),
            "asset_ids": self._union("asset_ids"),
            "period_ids": () if every_period else self._union("period_ids"),
            "limit_ms_quote": self._limit("limit_ms_quote"),
            "limit_ms_book_snapshot": self._limit("limit_ms_book_snapshot"),
            "limit_ms_exrate": self._limit("limit_ms_exrate"),
            "everything": first.everything,
        }
        return subscription_of(fields)

    def without_symbols(self, symbol_ids: Iterable[str], *, wire: str = WIRE_HELLO) -> Scope | None:
        """Return a scope that asks for all but these symbols; None where there is none to be asked for.

        A symbol can be left out where ``ID$`` names it and no other filter asks for anything of it, a prefix or the
        cross product of one hello; and where anything else is left.
        """
        left_out = {f"{symbol_id}$" for symbol_id in symbol_ids}
        members: list[Subscription] = []
        named: set[str] = set()
        for member in self._members:
            left = [symbol_id for symbol_id in member.symbol_ids if symbol_id not in left_out]
            if len(left) == len(member.symbol_ids):
                members.append(member)
                continue
            named |= left_out.intersection(member.symbol_ids)
            if left:
                members.append(with_symbols(member, left))
            elif member.filters != {"symbol_ids"}:
                return None
        if not members or not named or named != left_out:
            return None
        scope = Scope(*members)
        asked = scope.merged() if wire == WIRE_HELLO else scope
        names = {name for member in self._members for name in types_sent(member)} - _TYPES_OF_NO_SYMBOL
        probes = (Book(type=name, symbol_id=symbol_id[:-1]) for symbol_id in left_out for name in names)
        return None if any(map(asked.may_match, probes)) else scope

    def most_that_can_leave(self, symbol_ids: Iterable[str], *, wire: str = WIRE_HELLO) -> set[str]:
        """Return those of these symbols that :meth:`without_symbols` can leave out together, perhaps none.

        Where some have to stay so that anything is left, it is the last of them.
        """
        leaving = sorted(set(symbol_ids))
        if leaving and self.without_symbols(leaving, wire=wire) is None:
            leaving = [symbol_id for symbol_id in leaving if self.without_symbols([symbol_id], wire=wire) is not None]
        while leaving and self.without_symbols(leaving, wire=wire) is None:
            leaving.pop()
        return set(leaving)

    def shards(self, count: int) -> tuple[Scope, ...]:
        """Split what is wanted into so many scopes without a symbol in common, for as many connections or machines.

        A symbol's shard follows from its id and the count alone: all types of a symbol are in one, every process finds
        the same, and one more shard takes its even share of the symbols while all others stay where they are. Each
        member has to name its symbols as ``ID$`` and no other way. A shard may be empty, and is false then.

        Raises ``ConfigurationError`` for a member that cannot be split, and for a count below 1.
        """
        if type(count) is not int or count < 1:
            raise ConfigurationError(f"the count of shards is an int of 1 or more, not {count!r}")
        shards: list[list[Subscription]] = [[] for _ in range(count)]
        for member in self._members:
            if member.filters != {"symbol_ids"} or not all(symbol.endswith("$") for symbol in member.symbol_ids):
                raise ConfigurationError(
                    "only exact symbols can be split into shards; name each of them: "
                    'symbol_ids=["COINBASE_SPOT_BTC_USD$", …], and no other filter'
                )
            parts: dict[int, list[str]] = {}
            for symbol_id in member.symbol_ids:
                parts.setdefault(shard_of(symbol_id[:-1], count), []).append(symbol_id)
            for number, symbol_ids in parts.items():
                shards[number].append(with_symbols(member, symbol_ids))
        return tuple(Scope(*members) for members in shards)

    def check_endpoint(self, endpoint: Endpoint) -> None:
        """Raise ``ConfigurationError`` where the product behind an endpoint cannot serve a member."""
        for member in self._members:
            problem = _problem_at(endpoint, member)
            if problem is not None:
                raise ConfigurationError(problem)

    def _union(self, name: str) -> list[str]:
        return [value for member in self._members for value in getattr(member, name)]

    def _limit(self, name: str) -> int | None:
        limits = {getattr(member, name) for member in self._members if LIMITED_TYPES[name] & types_sent(member)}
        if len(limits) > 1:
            raise ConfigurationError(
                f"subscriptions with different {name} do not fit in one hello; "
                'give them the same limit, or pass wire="incremental"'
            )
        limit: int | None = limits.pop() if limits else None
        return limit

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, subscription: object) -> bool:
        return subscription in self._members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scope) and set(self._members) == set(other._members)

    def __hash__(self) -> int:
        return hash(frozenset(self._members))

    def __repr__(self) -> str:
        # Half made, where a traceback with its locals shows it.
        return f"Scope({', '.join(map(repr, getattr(self, '_members', ())))})"


def _no_subscription(value: object) -> ConfigurationError:
    advice = 'write Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])'
    if isinstance(value, (Scope, list, tuple, set, frozenset)) and any(isinstance(one, Subscription) for one in value):
        advice = "put a * before it, so that each is an argument of its own"
    return ConfigurationError(f"a scope is made of Subscription objects, not {type(value).__name__}; {advice}")


def check_scope(scope: object, endpoint: Endpoint) -> None:
    """Raise ``ConfigurationError`` for what is no scope, and where the product behind an endpoint cannot serve it."""
    if not isinstance(scope, Scope):
        raise ConfigurationError(f"a Scope is what is wanted here, not {type(scope).__name__}; write Scope(...)")
    scope.check_endpoint(endpoint)


def read_scope(subscriptions: tuple[Subscription, ...]) -> Scope | ConfigurationError:
    """Return the scope, or the error to raise once the caller has dropped its own locals: one may be the key (F24)."""
    try:
        return Scope(*subscriptions)
    except ConfigurationError as error:
        return error.with_traceback(None)


@dataclass(frozen=True, slots=True)
class ScopeFrame:
    """A frame that changes the scope at the server: ``type`` is hello, subscribe or unsubscribe."""

    type: str
    subscription: Subscription


def frames_between(sent: Scope, wanted: Scope, *, wire: str = WIRE_HELLO) -> tuple[ScopeFrame, ...]:
    """Return the frames that bring a server from the scope it was sent to the wanted one.

    An empty ``sent`` means a new connection, whose first frame is a hello. Equal scopes need no frame. An empty
    ``wanted`` raises ``UsageError``: it must never be sent, since no filter means everything.

    With ``wire="hello"`` one merged hello replaces the scope. With ``wire="incremental"`` members are subscribed
    and unsubscribed one by one; since it is not documented how groups combine, a member that is kept and shares
    a data type with one that is unsubscribed is subscribed again. Where that leaves no member untouched, a hello
    of one begins anew: unsubscribing might take the last filter from the server, and no filter means everything.
    """
    if wire not in (WIRE_HELLO, WIRE_INCREMENTAL):
        raise ConfigurationError(f'wire={wire!r} is not possible; write "hello" or "incremental"')
    if not wanted:
        raise UsageError(_EMPTY_SCOPE)
    if wanted == sent:
        return ()
    if wire == WIRE_HELLO:
        return (ScopeFrame("hello", wanted.merged()),)
    removed = [member for member in sent if member not in wanted]
    shaken = {data_type for member in removed for data_type in types_sent(member)}
    subscribed = [member for member in wanted if member not in sent or shaken & types_sent(member)]
    first: tuple[ScopeFrame, ...]
    if len(subscribed) == len(wanted):
        first = (ScopeFrame("hello", subscribed.pop(0)),)
    else:
        first = tuple(ScopeFrame("unsubscribe", member) for member in removed)
    return (*first, *(ScopeFrame("subscribe", member) for member in subscribed))


def kept_by(frames: Iterable[ScopeFrame], scope: Scope) -> Scope:
    """Return what of a scope the frames to it do not bring back anew."""
    subscribed = {frame.subscription for frame in frames if frame.type == "subscribe"}
    return Scope(*(member for member in scope if member not in subscribed))


def _problem_at(endpoint: Endpoint, member: Subscription) -> str | None:
    """Return why the product behind an endpoint cannot serve a subscription; None where it can."""
    if endpoint.product == "exrates":
        if set(member.data_types) - {"exrate"}:
            return "the Exchange Rates endpoint has no data types; write Subscription((), asset_ids=[…])"
        if member.filters - {"asset_ids"}:
            return "the Exchange Rates endpoint filters by asset alone; write Subscription((), asset_ids=[…])"
    elif not member.data_types and (endpoint.product == "ds" or endpoint.is_vendor):
        return 'only the Exchange Rates endpoint goes without data types; write Subscription(["exrate"], …)'
    elif endpoint.product == "ds":
        if member.exchange_ids:
            return "WS DS takes no exchange filter, for it is of one exchange; name the symbols"
        if prefixes := [symbol for symbol in member.symbol_ids if not symbol.endswith("$")]:
            return f"WS DS takes whole symbol ids, and {prefixes[0]!r} is a prefix; name the symbols, each with its $"
    return None
