"""Scopes: sets of subscriptions, their merge, and the frames from one to another."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise, permutations
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coinapi_ws.endpoints import endpoint_from
from coinapi_ws.exceptions import ConfigurationError, UsageError
from coinapi_ws.messages import MESSAGE_TYPES, Message, Quote, Trade
from coinapi_ws.scope import Scope, ScopeFrame, frames_between
from coinapi_ws.subscription import Subscription, SubscriptionWarning

TRADES: Final = Subscription(["trade"], symbol_ids=["A_SPOT_B_C$"])
QUOTES: Final = Subscription(["quote"], symbol_ids=["D_SPOT_E_F$"])
BOOKS: Final = Subscription(["book", "trade"], symbol_ids=["G_SPOT_H_I$"])


def test_members_are_kept_in_order_and_once() -> None:
    scope = Scope(TRADES, QUOTES, TRADES)
    assert list(scope) == [TRADES, QUOTES]
    assert len(scope) == 2
    assert TRADES in scope
    assert BOOKS not in scope
    assert not Scope()


def test_add_remove_and_replace_leave_the_original() -> None:
    scope = Scope(TRADES)
    assert list(scope.add(QUOTES, TRADES)) == [TRADES, QUOTES]
    assert list(scope.add(QUOTES).remove(TRADES)) == [QUOTES]
    assert list(scope.remove(TRADES)) == []
    assert list(scope.replace(BOOKS)) == [BOOKS]
    assert list(scope) == [TRADES]


def test_an_equal_member_is_removed() -> None:
    assert not Scope(TRADES).remove(Subscription(("trade",), symbol_ids=("A_SPOT_B_C$",)))


def test_removing_what_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"not in the scope: Subscription\(.*its members are \[Subscription") as caught:
        Scope(TRADES, QUOTES).remove(TRADES, BOOKS)
    assert repr(BOOKS) in str(caught.value)


@pytest.mark.parametrize("wrong", ["trade", ["trade"], None, Trade])
def test_a_member_is_a_subscription(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"write Subscription\(\[\"trade\"\]"):
        Scope(TRADES, wrong)


@pytest.mark.parametrize("wrong", [Scope(TRADES), [TRADES], (TRADES, QUOTES)])
def test_members_are_given_one_by_one(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"not (Scope|list|tuple); put a \* before it"):
        Scope(wrong)


def test_scopes_compare_as_sets() -> None:
    assert {Scope(*members) for members in permutations([TRADES, QUOTES, BOOKS])} == {Scope(TRADES, QUOTES, BOOKS)}
    assert Scope(TRADES) != Scope(QUOTES)
    assert Scope(TRADES) != {TRADES}
    assert hash(Scope(TRADES, QUOTES)) == hash(Scope(QUOTES, TRADES))


def test_pickle_copy_and_repr() -> None:
    scope = Scope(TRADES, QUOTES)
    assert [pickle.loads(pickle.dumps(scope)), copy.copy(scope), copy.deepcopy(scope)] == [scope] * 3
    assert eval(repr(scope)) == scope
    assert repr(Scope()) == "Scope()"


def test_a_scope_may_match_what_a_member_may_match() -> None:
    scope = Scope(TRADES, QUOTES)
    assert scope.may_match(Trade(symbol_id="A_SPOT_B_C"))
    assert not scope.may_match(Trade(symbol_id="D_SPOT_E_F"))
    assert not Scope().may_match(Trade(symbol_id="A_SPOT_B_C"))


def test_a_name_of_the_exchange_s_own_may_match_any_of_its_symbols_on_ws_ds() -> None:
    scope = Scope(
        Subscription(["trade"], symbol_ids=["B-C$", "D_SPOT_E_F$"]), Subscription(["quote"], symbol_ids=["A_SPOT_B_C$"])
    )
    assert scope.may_match(Trade(symbol_id="A_SPOT_B_C"), "ds")
    assert not scope.may_match(Trade(symbol_id="A_SPOT_B_C"))
    assert not scope.may_match(Quote(symbol_id="A_SPOT_X_Y"), "ds")


# Merging into one hello


def test_merge_is_a_cross_product() -> None:
    merged = Scope(TRADES, QUOTES).merged()
    assert merged == Subscription(["quote", "trade"], symbol_ids=["A_SPOT_B_C$", "D_SPOT_E_F$"])
    assert Scope(TRADES).merged() is TRADES


def test_merge_does_not_warn_again() -> None:
    with pytest.warns(match="matches by prefix"):
        member = Subscription(["trade"], symbol_ids=["A"])
    assert Scope(member, QUOTES).merged().symbol_ids == ("A", "D_SPOT_E_F$")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((TRADES, Subscription(["trade"], exchange_ids=["A"])), r"different kinds of filter .* wire=\"incremental\""),
        ((TRADES, Subscription(["trade"], everything=True)), "different kinds of filter"),
        (
            (
                Subscription(["quote"], symbol_ids=["A$"], limit_ms_quote=1),
                Subscription(["quote"], symbol_ids=["B$"], limit_ms_quote=2),
            ),
            r"different limit_ms_quote .* wire=\"incremental\"",
        ),
        (
            (Subscription(["quote"], symbol_ids=["A$"], limit_ms_quote=1), QUOTES),
            "different limit_ms_quote",
        ),
        (
            (
                Subscription((), asset_ids=["BTC"], limit_ms_exrate=1),
                Subscription((), asset_ids=["ETH"]),
            ),
            "different limit_ms_exrate",
        ),
    ],
)
def test_what_does_not_fit_in_one_hello(members: tuple[Subscription, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Scope(*members).merged()


def test_limits_survive_a_merge() -> None:
    limited = Subscription(["quote"], symbol_ids=["A$"], limit_ms_quote=1)
    assert Scope(limited, TRADES).merged().limit_ms_quote == 1
    rates = [Subscription((), asset_ids=[asset], limit_ms_exrate=100) for asset in ("BTC", "ETH")]
    assert Scope(*rates).merged() == Subscription((), asset_ids=["BTC", "ETH"], limit_ms_exrate=100)
    everything = [Subscription([data_type], everything=True) for data_type in ("trade", "quote")]
    assert Scope(*everything).merged() == Subscription(["trade", "quote"], everything=True)


def test_one_candle_without_a_period_asks_for_every_period() -> None:
    minutes = Subscription(["ohlcv"], symbol_ids=["A$"], period_ids=["1MIN"])
    seconds = Subscription(["ohlcv"], symbol_ids=["B$"], period_ids=["1SEC"])
    every = Subscription(["ohlcv"], symbol_ids=["C$"])
    assert Scope(minutes, seconds, TRADES).merged().period_ids == ("1MIN", "1SEC")
    assert Scope(minutes, every).merged().period_ids == ()


def test_one_member_without_types_asks_for_every_type() -> None:
    rates, typed = Subscription((), asset_ids=["BTC"]), Subscription(["exrate"], asset_ids=["ETH"])
    assert Scope(typed, rates).merged() == Subscription((), asset_ids=["BTC", "ETH"])


def test_an_empty_scope_is_never_merged() -> None:
    with pytest.raises(UsageError, match="would ask for everything"):
        Scope().merged()


# The product behind an endpoint


@pytest.mark.parametrize(
    ("endpoint", "member", "message"),
    [
        (
            "ds:coinbase",
            Subscription(["trade"], exchange_ids=["COINBASE"]),
            "no exchange filter, for it is of one exchange; name",
        ),
        ("ds:coinbase", Subscription(["trade"], symbol_ids=["COINBASE_"]), "'COINBASE_' is a prefix; name the symbols"),
        ("wss://x.example/md/ws-ds-coinbase/", Subscription(["trade"], symbol_ids=["COINBASE_"]), "is a prefix"),
        ("ds:ws://localhost/", Subscription(["trade"], symbol_ids=["COINBASE_"]), "is a prefix"),
        (
            "ds:coinbase",
            Subscription((), asset_ids=["BTC"]),
            "only the Exchange Rates endpoint goes without data types",
        ),
        ("exrates", TRADES, r"no data types; write Subscription\(\(\), asset_ids="),
        ("exrates", Subscription(["exrate", "trade"], asset_ids=["BTC"]), "no data types"),
        ("exrates:ws://localhost/", TRADES, "no data types"),
        ("exrates", Subscription(["exrate"], asset_ids=["BTC"], exchange_ids=["A"]), "filters by asset alone"),
        ("exrates", Subscription((), asset_ids=["BTC"], symbol_ids=["A_"]), "filters by asset alone"),
        ("emea", Subscription((), everything=True), r"write Subscription\(\[\"exrate\"\]"),
        ("emea", Subscription((), asset_ids=["BTC"]), r"write Subscription\(\[\"exrate\"\]"),
    ],
)
def test_what_an_endpoint_cannot_serve(endpoint: str, member: Subscription, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Scope(member).check_endpoint(endpoint_from(endpoint))


def test_a_whole_id_without_its_dollar_is_a_prefix_on_ws_ds_too() -> None:
    with pytest.warns(SubscriptionWarning, match=r"write 'A_SPOT_B_C\$' for this one"):
        scope = Scope(Subscription(["trade"], symbol_ids=["A_SPOT_B_C"]))
    with pytest.raises(ConfigurationError, match=r"'A_SPOT_B_C' is a prefix; name the symbols, each with its \$"):
        scope.check_endpoint(endpoint_from("ds:a"))


@pytest.mark.parametrize(
    ("endpoint", "member"),
    [
        ("ds:coinbase", TRADES),
        ("ds:coinbase", Subscription(["trade"], symbol_ids=["ETH-USD$"])),
        ("ds:coinbase", Subscription(["trade"], asset_ids=["BTC"])),
        ("ds:coinbase", Subscription(["trade"], everything=True)),
        ("exrates:wss://x.example/", Subscription((), everything=True, limit_ms_exrate=500)),
        ("exrates", Subscription((), asset_ids=["BTC"])),
        ("exrates", Subscription(["exrate"], asset_ids=["BTC"])),
        ("emea", Subscription(["trade"], exchange_ids=["COINBASE"])),
        ("ws://localhost/", Subscription((), asset_ids=["BTC"])),
        ("ws://localhost/", TRADES),
    ],
)
def test_what_an_endpoint_serves(endpoint: str, member: Subscription) -> None:
    scope = Scope(member)
    scope.check_endpoint(endpoint_from(endpoint))
    assert list(scope) == [member]


# Frames


def test_hello_replaces_the_whole_scope() -> None:
    both = Scope(TRADES, QUOTES)
    assert frames_between(Scope(), both) == (ScopeFrame("hello", both.merged()),)
    assert frames_between(both, Scope(QUOTES)) == (ScopeFrame("hello", QUOTES),)
    assert frames_between(both, Scope(QUOTES, TRADES)) == ()


def test_incremental_says_the_difference() -> None:
    def frames(sent: Scope, wanted: Scope) -> tuple[ScopeFrame, ...]:
        return frames_between(sent, wanted, wire="incremental")

    both = Scope(TRADES, QUOTES)
    assert frames(Scope(), both) == (ScopeFrame("hello", TRADES), ScopeFrame("subscribe", QUOTES))
    assert frames(Scope(TRADES), both) == (ScopeFrame("subscribe", QUOTES),)
    assert frames(both, Scope(QUOTES)) == (ScopeFrame("unsubscribe", TRADES),)
    assert frames(both, Scope(QUOTES, TRADES)) == ()


def test_a_kept_member_that_shares_a_type_is_subscribed_again() -> None:
    """How groups combine is not documented: unsubscribing trades of one may take those of another."""
    frames = frames_between(Scope(TRADES, QUOTES, BOOKS), Scope(QUOTES, BOOKS), wire="incremental")
    assert frames == (ScopeFrame("unsubscribe", TRADES), ScopeFrame("subscribe", BOOKS))


@pytest.mark.parametrize("sent", [Scope(TRADES), Scope(TRADES, BOOKS)])
def test_where_nothing_is_kept_untouched_a_hello_replaces(sent: Scope) -> None:
    """Unsubscribing all would leave the server without a filter, and no filter means everything."""
    frames = frames_between(sent, Scope(BOOKS, QUOTES), wire="incremental")
    assert frames == (ScopeFrame("hello", BOOKS), ScopeFrame("subscribe", QUOTES))


@pytest.mark.parametrize("wire", ["hello", "incremental"])
def test_an_empty_scope_is_never_sent(wire: str) -> None:
    for sent in (Scope(), Scope(TRADES)):
        with pytest.raises(UsageError, match="close the connection instead"):
            frames_between(sent, Scope(), wire=wire)


def test_wire_is_one_of_two() -> None:
    with pytest.raises(ConfigurationError, match='write "hello" or "incremental"'):
        frames_between(Scope(), Scope(TRADES), wire="subscribe")


# Properties: a server that we model from the documentation alone


class Server:
    """What a server does with frames: hello replaces, subscribe adds, unsubscribe removes.

    `cautious` takes with an unsubscribe all that shares a data type, since how groups combine is not documented.
    """

    def __init__(self, *, cautious: bool) -> None:
        self.groups: set[Subscription] = set()
        self.cautious = cautious

    def receive(self, frame: ScopeFrame) -> None:
        group = frame.subscription
        assert group.filters or group.everything, "an unfiltered frame"
        if frame.type == "hello":
            self.groups = {group}
        elif frame.type == "subscribe":
            assert self.groups, "subscribed before a hello"
            self.groups.add(group)
        else:
            assert frame.type == "unsubscribe"
            assert self.cautious or group in self.groups
            types = set(group.data_types)
            self.groups = {g for g in self.groups if g != group and not (self.cautious and types & set(g.data_types))}

    def wants(self, data_type: str, symbol: str, period: str | None) -> bool:
        return any(
            data_type in group.data_types
            and (
                group.everything
                or any(symbol == f[:-1] if f.endswith("$") else symbol.startswith(f) for f in group.symbol_ids)
                or any(symbol.startswith(f"{exchange}_") for exchange in group.exchange_ids)
            )
            and (period is None or not group.period_ids or period in group.period_ids)
            for group in self.groups
        )


SYMBOLS: Final = ("A_SPOT_B_C", "A_SPOT_B_CD", "A_PERP_B_C", "AA_SPOT_B_C", "D_SPOT_E_F")
PERIODS: Final = ("1SEC", "1MIN")
TYPES: Final = ("trade", "quote", "ohlcv")
POSSIBLE: Final[list[tuple[str, str, str | None]]] = [
    (data_type, symbol, period)
    for data_type in TYPES
    for symbol in SYMBOLS
    for period in (PERIODS if data_type == "ohlcv" else (None,))
]


def some(values: tuple[str, ...], least: int = 1) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=3, unique=True)


@st.composite
def subscriptions(draw: st.DrawFn, kinds: str = "symbol exchange both everything") -> Subscription:
    types = draw(some(TYPES))
    kind = draw(st.sampled_from(kinds.split()))
    fields: dict[str, Any] = {"everything": True} if kind == "everything" else {}
    if kind in ("symbol", "both"):
        fields["symbol_ids"] = draw(some((*(f"{symbol}$" for symbol in SYMBOLS), "A_", "A_SPOT_")))
    if kind in ("exchange", "both"):
        fields["exchange_ids"] = draw(some(("A", "AA", "D")))
    if "ohlcv" in types:
        fields["period_ids"] = draw(some(PERIODS, least=0))
    return Subscription(types, **fields)


def scopes(kinds: str) -> st.SearchStrategy[Scope]:
    return st.lists(subscriptions(kinds), min_size=1, max_size=4).map(lambda members: Scope(*members))


#: Each example is a whole history; more of them take more time than they find.
FEW: Final = settings(max_examples=50)

ONE_KIND: Final = st.sampled_from(["symbol", "exchange", "both", "everything"])


@given(st.lists(scopes("symbol exchange both everything"), min_size=1, max_size=5), st.booleans())
@FEW
def test_incremental_frames_lead_to_the_wanted_scope(wanted: list[Scope], cautious: bool) -> None:
    server = Server(cautious=cautious)
    for sent, scope in pairwise([Scope(), *wanted]):
        for frame in frames_between(sent, scope, wire="incremental"):
            server.receive(frame)
            assert server.groups, "the last filter is gone, and no filter means everything"
        assert server.groups == set(scope)


@given(ONE_KIND.flatmap(lambda kind: st.lists(scopes(kind), min_size=1, max_size=5)))
@FEW
def test_a_hello_covers_the_wanted_scope(wanted: list[Scope]) -> None:
    server, members = Server(cautious=True), Server(cautious=True)
    for sent, scope in pairwise([Scope(), *wanted]):
        frames = frames_between(sent, scope)
        assert len(frames) == (sent != scope)
        for frame in frames:
            server.receive(frame)
        members.groups = set(scope)
        assert not [ask for ask in POSSIBLE if members.wants(*ask) and not server.wants(*ask)]


def message_of(data_type: str, symbol: str, period: str | None) -> Message:
    fields = {"symbol_id": symbol} | ({"period_id": period} if period else {})
    return MESSAGE_TYPES[data_type](**fields)


@FEW
@given(scopes("symbol exchange both everything"))
def test_may_match_rejects_nothing_that_a_member_asks_for(scope: Scope) -> None:
    server = Server(cautious=False)
    server.groups = set(scope)
    assert {ask: scope.may_match(message_of(*ask)) for ask in POSSIBLE} == {ask: server.wants(*ask) for ask in POSSIBLE}
