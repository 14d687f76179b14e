"""The key in what tools show of a running program: locals of each call, state of each object, copies, reports (F24)."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import io
import pickle
import pydoc
import ssl
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from canary import TEST_MACHINERY, TESTS
from client_harness import go_live
from conversation import Conversation
from peers import TRADES, serving
from proxy_servers import ConnectProxy
from websocket_peer import accept, text

import coinapi_ws
from coinapi_ws import (
    AuthenticationError,
    Backoff,
    CertificateError,
    Client,
    CoinAPIError,
    ConnectionClosed,
    Options,
    ProxyError,
    Secret,
    Trade,
    connect,
    endpoint_from,
    metadata,
    proxy_from,
)
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.protocol.websocket import WebSocket
from coinapi_ws.simulator import Simulator, VirtualClock

NoCanary = Callable[[object], None]

PACKAGE: Final = Path(coinapi_ws.__file__).parent
AT_ONCE: Final = Backoff(initial=0.001, maximum=0.001)
WAYS: Final = ["header", "query", "path", "authorization", "basic", "hello"]
EACH_WAY: Final = pytest.mark.parametrize("auth", WAYS)

#: Who is handed the key, or a proxy's URL, as plain text by the caller, and makes a Secret of it before it may raise.
ENTRANCES: Final = frozenset(
    {
        ("blocking.py", "connect", "api_key"),
        ("blocking.py", "connect", "proxy"),
        ("client.py", "__init__", "api_key"),
        ("client.py", "__init__", "proxy"),
        ("client.py", "_read_settings", "api_key"),
        ("options.py", "read_options", "api_key"),
        ("options.py", "read_options", "proxy"),
        ("auth.py", "api_key_secret", "api_key"),
        ("auth.py", "__init__", "value"),
        ("proxies.py", "read_proxy", "given"),
        ("proxies.py", "_read", "url"),
        ("proxies.py", "_read", "parts"),
        ("proxies.py", "_with_credentials", "password"),
        ("proxies.py", "_with_credentials", "words"),
    }
)


class Watched:
    """What the package's own frames had in their locals, and in the attributes of their `self`, at each call."""

    def __init__(self, has_canary: Callable[[str], bool]) -> None:
        self.told: set[tuple[str, str, str]] = set()
        self.calls = 0
        self._is_in = lru_cache(has_canary)

    def __call__(self, frame: types.FrameType, event: str, argument: object) -> None:
        # A call shows the frame that is entered, and the one that called it with its arguments ready.
        for seen in (frame, frame.f_back):
            if seen is not None and is_ours(seen):
                self._look(seen)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at each call of this thread, and of those that it starts."""
        before = sys.getprofile()
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(before)
            threading.setprofile(None)

    def _look(self, frame: types.FrameType) -> None:
        self.calls += 1
        values = dict(frame.f_locals)
        values |= {f"self.{name}": value for name, value in vars_of(values.get("self")).items()}
        for name, value in values.items():
            if self._is_in(shown(value)):
                self.told.add((Path(frame.f_code.co_filename).name, frame.f_code.co_name, name))


def is_ours(frame: types.FrameType) -> bool:
    return _is_ours(frame.f_code.co_filename)


@lru_cache
def _is_ours(filename: str) -> bool:
    path = Path(filename)
    return PACKAGE in path.parents and "simulator" not in path.parts


def vars_of(thing: object) -> dict[str, Any]:
    """All attributes of an object, those in slots too."""
    slots = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
    return {
        **getattr(thing, "__dict__", {}),
        **{name: getattr(thing, name) for name in slots if name != "__weakref__" and hasattr(thing, name)},
    }


def shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  what is half made need not have a repr
        return ""


@pytest.fixture
def watched(has_canary: Callable[[str], bool]) -> Watched:
    return Watched(has_canary)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def contexts(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server that is localhost, and of a client that trusts it."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


# In the locals of every frame: whatever is raised there, a KeyboardInterrupt too, is reported with them.


@EACH_WAY
def test_no_call_of_a_stream_has_the_plain_key_in_its_locals(watched: Watched, canary_key: str, auth: str) -> None:
    with Simulator(clock=VirtualClock(), api_keys=[canary_key]) as simulator, watched.looking():
        with connect(canary_key, TRADES, endpoint=simulator.url, auth=auth, pacer=SharedPacer()) as stream:
            simulator.settle()
            stream.replace(TRADES)
        assert len(simulator.received) == 1
    assert watched.told <= ENTRANCES
    assert ("auth.py", "__init__", "value") in watched.told
    assert watched.calls > 1000


@pytest.mark.parametrize("auth", ["header", "query", "hello"])
def test_no_call_of_a_client_s_threads_has_it(watched: Watched, canary_key: str, auth: str) -> None:
    clock = VirtualClock()
    with Simulator(clock=clock, api_keys=[canary_key]) as simulator, watched.looking():
        with Client(canary_key, TRADES, endpoint=simulator.url, auth=auth, pacer=SharedPacer()) as client:
            go_live(client, clock)
        assert len(simulator.received) == 1
    assert watched.told <= ENTRANCES


def test_no_call_of_a_request_of_rest_has_it(watched: Watched, canary_key: str) -> None:
    with Simulator(clock=VirtualClock(), api_keys=[canary_key]) as simulator, watched.looking():
        assert len(list(metadata.Client(canary_key, endpoint=simulator.rest_url).symbols())) == 10
    assert watched.told <= ENTRANCES
    assert ("client.py", "_read_settings", "api_key") in watched.told


def test_no_call_has_the_jwt(watched: Watched, canary_key: str) -> None:
    with Simulator(clock=VirtualClock()) as simulator, watched.looking():
        made = connect("another-key", TRADES, endpoint=simulator.url, jwt=lambda: canary_key, pacer=SharedPacer())
        made.close()
    assert watched.told <= ENTRANCES


def test_no_call_has_the_password_of_a_proxy(
    watched: Watched, canary_key: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = contexts
    with (
        Simulator(clock=VirtualClock(), ssl_context=server) as simulator,
        ConnectProxy({("localhost", simulator.port): ("127.0.0.1", simulator.port)}) as proxy,
        watched.looking(),
    ):
        url = f"http://coinapi:{canary_key}@127.0.0.1:{proxy.port}"
        more: dict[str, Any] = {"ssl": client, "proxy": url, "pacer": SharedPacer()}
        connect("another-key", TRADES, endpoint=f"wss://localhost:{simulator.port}/", **more).close()
    assert watched.told <= ENTRANCES
    assert ("proxies.py", "_read", "url") in watched.told


# In the state of every object, as a debugger or a dump shows it.


def dump(thing: object, seen: set[int]) -> Iterator[str]:
    """The repr of all that an object of ours, or of wsproto's and h11's, holds at any depth."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, dict):
        yield from (line for pair in list(thing.items()) for part in pair for line in dump(part, seen))
    elif isinstance(thing, (list, tuple, set, frozenset)) or type(thing).__name__ == "deque":
        yield from (line for part in list(thing) for line in dump(part, seen))  # type: ignore[call-overload]
    elif type(thing).__module__.partition(".")[0] in ("coinapi_ws", "wsproto", "h11"):
        yield from (line for value in vars_of(thing).values() for line in dump(value, seen))
    yield shown(thing)


def assert_dumps_nothing(thing: object, assert_no_canary: NoCanary) -> None:
    lines = list(dump(thing, set()))
    assert len(lines) > 10
    assert_no_canary("\n".join(lines))


@EACH_WAY
def test_no_state_of_a_session_has_it(canary_key: str, assert_no_canary: NoCanary, auth: str) -> None:
    talk = Conversation(canary_key, auth=auth)
    assert_dumps_nothing(talk.session, assert_no_canary)
    talk.session.start(talk.now)
    assert_dumps_nothing(talk.session, assert_no_canary)
    request = talk.session.data_to_send()
    assert_no_canary([request])
    assert_dumps_nothing(talk.session, assert_no_canary)
    talk.session.receive_data(accept(bytes(request)), talk.now, 0)
    assert_dumps_nothing(talk.session, assert_no_canary)
    talk.session.data_to_send()
    talk.session.receive_data(text(f'{{"type":"error","message":"Invalid API key {canary_key}"}}'), talk.now, 0)
    assert_dumps_nothing(talk.session, assert_no_canary)


@EACH_WAY
def test_no_state_of_a_stream_or_a_client_has_it(canary_key: str, assert_no_canary: NoCanary, auth: str) -> None:
    clock = VirtualClock()
    with Simulator(clock=clock, api_keys=[canary_key]) as simulator:
        options = {"endpoint": simulator.url, "auth": auth, "pacer": SharedPacer()}
        with connect(canary_key, TRADES, **options) as stream, Client(canary_key, TRADES, **options) as client:
            go_live(client, clock)
            assert_dumps_nothing(stream, assert_no_canary)
            assert_dumps_nothing(client, assert_no_canary)
        assert_dumps_nothing(client, assert_no_canary)


@EACH_WAY
def test_no_pickle_or_copy_has_it(canary_key: str, auth: str, assert_no_canary: NoCanary) -> None:
    """What cannot be pickled without the key cannot be pickled."""
    talk = Conversation(canary_key, auth=auth)
    proxy = proxy_from(f"http://coinapi:{canary_key}@127.0.0.1:3128")
    things = [talk.options, talk.options.api_key, talk.session, proxy]
    talk.session.start(talk.now)
    for thing in things:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="is not pickled; pass the key again"):
                pickle.dumps(thing, protocol)
    for one in (talk.options, talk.options.api_key, proxy):
        for twin in (copy.copy(one), copy.deepcopy(one)):
            assert twin == one
            assert_no_canary(twin)
    assert_no_canary(dataclasses.asdict(talk.options))
    assert_no_canary(dataclasses.astuple(talk.options))
    assert talk.options.api_key is not None
    with pytest.raises(TypeError, match="not pickled"):
        talk.options.api_key.__getstate__()


def test_a_websocket_is_not_pickled_with_the_request_in_it(canary_key: str) -> None:
    """Its parts can be, so a key in it would go along."""
    pickle.dumps(WebSocket("example.test"))
    talk = Conversation(canary_key, auth="query")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(talk.session._websocket)
    talk = Conversation(canary_key)
    talk.session.start(talk.now)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(talk.session._websocket)


# In what tools that report exceptions make of them, after an error of each layer.


def frames_of_ours(error: BaseException) -> list[tuple[types.FrameType, int]]:
    """The frames of a traceback that do not hold the key by right."""
    return [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if TESTS not in Path(frame.f_code.co_filename).parents
        and TEST_MACHINERY.isdisjoint(Path(frame.f_code.co_filename).parts)
    ]


def by_traceback(error: BaseException) -> str:
    stack = traceback.StackSummary.extract(iter(frames_of_ours(error)), capture_locals=True)
    return "".join((*stack.format(), *traceback.format_exception_only(error)))


def by_cgitb(error: BaseException) -> str:
    """As the standard library did up to 3.12: the locals, by pydoc, and the text around each line."""
    lines = [f"{type(error).__name__}: {error} {pydoc.text.repr(error)} {pydoc.text.repr(vars(error))}"]
    for frame, _ in frames_of_ours(error):
        lines += [f"{name} = {pydoc.text.repr(value)}" for name, value in inspect.getargvalues(frame).locals.items()]
        lines += [
            f"self.{name} = {pydoc.text.repr(each)}" for name, each in vars_of(frame.f_locals.get("self")).items()
        ]
    return "\n".join(lines)


def by_rich(error: BaseException) -> str:
    console_of = pytest.importorskip("rich.console").Console
    report_of = pytest.importorskip("rich.traceback").Traceback
    long: Any = {"show_locals": True, "locals_max_length": None, "locals_max_string": None}
    trace = report_of.extract(type(error), error, error.__traceback__, **long)
    for stack in trace.stacks:
        stack.frames = [frame for frame in stack.frames if TESTS not in Path(frame.filename).parents]
    console = console_of(file=io.StringIO(), width=1000)
    console.print(report_of(trace, **long))
    report: str = console.file.getvalue()
    return report


def by_stackprinter(error: BaseException) -> str:
    """It shows the attributes too that a line names, as better_exceptions does."""
    stackprinter = pytest.importorskip("stackprinter")
    report: str = stackprinter.format(
        error, show_vals="all", truncate_vals=100_000, suppressed_paths=[str(TESTS), *TEST_MACHINERY]
    )
    return report


REPORTS: Final = {"traceback": by_traceback, "cgitb": by_cgitb, "rich": by_rich, "stackprinter": by_stackprinter}


@contextmanager
def refused_by_a_proxy(key: str) -> Iterator[tuple[str, type[CoinAPIError], dict[str, Any]]]:
    with ConnectProxy({}, login="Basic another") as proxy:
        url = f"http://coinapi:{key}@127.0.0.1:{proxy.port}"
        yield "ws://localhost:9/", ProxyError, {"proxy": url}


@contextmanager
def refused_by_tls(key: str) -> Iterator[tuple[str, type[CoinAPIError], dict[str, Any]]]:
    with Simulator(clock=VirtualClock(), tls=True, api_keys=[key]) as simulator:
        simulator.faults.certificate("expired")
        yield simulator.url, CertificateError, {"ssl": simulator.client_context}


@contextmanager
def refused_at_the_upgrade(key: str) -> Iterator[tuple[str, type[CoinAPIError], dict[str, Any]]]:
    with Simulator(clock=VirtualClock(), api_keys=["another key"], key_check="upgrade") as simulator:
        yield simulator.url, AuthenticationError, {}


@contextmanager
def refused_at_the_hello(key: str) -> Iterator[tuple[str, type[CoinAPIError], dict[str, Any]]]:
    with Simulator(clock=VirtualClock(), api_keys=["another key"]) as simulator:
        yield simulator.url, AuthenticationError, {}


@contextmanager
def closed_with_the_key_as_the_reason(key: str) -> Iterator[tuple[str, type[CoinAPIError], dict[str, Any]]]:
    def close(server: Any) -> None:
        server.upgrade()
        server.event()
        server.close(4000, f"no data for {key}")
        server.until_closed()

    with serving(close) as url:
        yield url, ConnectionClosed, {}


LAYERS: Final = {
    "proxy": refused_by_a_proxy,
    "tls": refused_by_tls,
    "upgrade": refused_at_the_upgrade,
    "hello": refused_at_the_hello,
    "close": closed_with_the_key_as_the_reason,
}


@pytest.mark.parametrize("auth", ["header", "query", "hello"])
@pytest.mark.parametrize("layer", LAYERS)
def test_no_report_of_an_error_has_it(canary_key: str, assert_no_canary: NoCanary, layer: str, auth: str) -> None:
    if (layer, auth) == ("upgrade", "hello"):
        return  # no key is there yet
    with LAYERS[layer](canary_key) as (url, error_type, options):
        options |= {"endpoint": url, "auth": auth}
        with pytest.raises(error_type) as by_stream:
            list(connect(canary_key, TRADES, pacer=SharedPacer(), **options))
        client = Client(canary_key, TRADES, max_attempts=1, backoff=AT_ONCE, pacer=SharedPacer(), **options)
        client.start()
        with pytest.raises(error_type) as by_client:
            client.join(10)
        client.close()
    for error in (by_stream.value, by_client.value):
        for tool, report in REPORTS.items():
            told = report(error)
            assert error_type.__name__ in told, tool
            assert_no_canary(told)


@pytest.mark.parametrize("tool", REPORTS)
def test_the_reports_would_show_it(
    canary_key: str, has_canary: Callable[[str], bool], tmp_path: Path, tool: str
) -> None:
    """What a report would say if a frame of the package did hold the plain key."""
    module, package = tmp_path / "transport.py", {}
    module.write_text("def send(frame):\n    raise OSError('broken pipe', len(frame))\n", encoding="utf-8")
    exec(compile(module.read_text(encoding="utf-8"), str(module), "exec"), package)
    with pytest.raises(OSError, match="broken pipe") as caught:
        package["send"](canary_key)
    assert has_canary(REPORTS[tool](caught.value))


def test_a_server_that_takes_the_key_for_a_trade_shows_it_to_who_asked(
    canary_key: str, has_canary: Callable[[str], bool]
) -> None:
    """Only errors are redacted: the data is the server's, and comes as it is."""
    talk = Conversation(canary_key).live()
    trade = talk.say(f'{{"symbol_id":"{canary_key}","type":"trade"}}')[-1]
    assert isinstance(trade, Trade)
    assert has_canary(repr(trade))


def test_the_options_of_a_client_that_is_printed(canary_key: str, assert_no_canary: NoCanary) -> None:
    options = Options(endpoint=endpoint_from("geo"), api_key=Secret(canary_key))
    rich = pytest.importorskip("rich.pretty")
    assert_no_canary(rich.pretty_repr(options))
    assert_no_canary(rich.pretty_repr(options, expand_all=True))
