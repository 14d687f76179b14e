"""What is loaded when: names when they are asked for, and then all that they need."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import coinapi_ws
from coinapi_ws.simulator import Simulator

SOURCE: Final = Path(coinapi_ws.__file__).read_text(encoding="utf-8")


def run(program: str, *arguments: str, flags: tuple[str, ...] = ()) -> str:
    """Run a program in an interpreter of its own, without the extra `speed`; return what it prints."""
    hidden = "import sys; sys.modules['msgspec'] = None\n"
    command = [sys.executable, *flags, "-c", hidden + program, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def loaded_by(statement: str) -> set[str]:
    """Return the modules of the package that a statement loads."""
    printed = run(f"{statement}\nprint(*(name for name in sys.modules if name.startswith('coinapi_ws')))")
    return set(printed.split())


def names_for_type_checkers() -> dict[str, str]:
    """Return the homes of the names that the imports for type checkers tell."""
    imports = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    found: dict[str, str] = {}
    for node in imports.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        found.update({alias.name: node.module for alias in node.names})
    return found


def test_all_lists_of_names_agree() -> None:
    assert names_for_type_checkers() == coinapi_ws._HOMES
    assert sorted([*coinapi_ws._HOMES, "__version__"]) == sorted(coinapi_ws.__all__)


@pytest.mark.parametrize("home", coinapi_ws._NAMES_OF)
def test_every_module_can_be_the_first(home: str) -> None:
    names = coinapi_ws._NAMES_OF[home].split()
    program = f"""
from coinapi_ws import {", ".join(names)}
home = sys.modules["coinapi_ws.{home}"]
print(all(value is getattr(home, name) for name, value in zip({names}, [{", ".join(names)}])))
"""
    assert run(program) == "True"


def test_package_alone_loads_nothing() -> None:
    assert loaded_by("import coinapi_ws") == {"coinapi_ws", "coinapi_ws._version"}


def test_stream_needs_no_threads_of_ours() -> None:
    loaded = loaded_by("from coinapi_ws import connect")
    assert "coinapi_ws.protocol.session" in loaded
    assert not any(name.startswith("coinapi_ws.client") for name in loaded)


@pytest.mark.parametrize("module", ["recording", "simulator"])
def test_recordings_and_the_simulator_load_nothing_of_the_client_s_side(module: str) -> None:
    loaded = loaded_by(f"import coinapi_ws.{module}")
    assert "coinapi_ws.recording.reading" in loaded
    assert not any(name.startswith(("coinapi_ws.drivers", "coinapi_ws.protocol")) for name in loaded)


def test_everything_at_once() -> None:
    program = """
before = set(globals())
from coinapi_ws import *
import coinapi_ws
print(set(coinapi_ws.__all__) - {"__version__"} <= set(globals()))
"""
    assert run(program, flags=("-W", "error")) == "True"


def test_dir_and_help_know_all_names() -> None:
    assert run("import coinapi_ws\nprint(set(coinapi_ws.__all__) <= set(dir(coinapi_ws)))") == "True"
    printed = run("import coinapi_ws\nhelp(coinapi_ws)", flags=("-W", "error"))
    for name in ("class Client", "class SlowConsumerError", "endpoint_from(", "proxy_from("):
        assert name in printed


def test_modules_of_public_names_are_attributes() -> None:
    program = """
import coinapi_ws
print(coinapi_ws.exceptions.UsageError is coinapi_ws.UsageError, coinapi_ws.client.__name__)
"""
    assert run(program) == "True coinapi_ws.client"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'coinapi_ws' has no attribute 'Cleint'") as caught:
        _ = coinapi_ws.Cleint
    assert (caught.value.name, caught.value.obj) == ("Cleint", coinapi_ws)
    with pytest.raises(ImportError, match="cannot import name 'Cleint' from 'coinapi_ws'"):
        from coinapi_ws import Cleint  # noqa: F401
    assert not hasattr(coinapi_ws, "__path_hooks__")


def test_pickles_are_read_where_nothing_is_loaded_yet() -> None:
    values = [coinapi_ws.Trade(price=1.5), coinapi_ws.Live(received_ns=3), coinapi_ws.Cause.NETWORK]
    program = "import pickle\nprint(pickle.loads(bytes.fromhex(sys.argv[1])))"
    assert run(program, pickle.dumps(values).hex()) == repr(values)


def test_threads_that_ask_at_once_get_the_same() -> None:
    # One thread for each name, so that packages and their modules are asked for in many orders at the same time.
    program = """
import random, threading
import coinapi_ws
sys.setswitchinterval(1e-6)
names = coinapi_ws.__all__ * 2
random.Random(int(sys.argv[1])).shuffle(names)
start, found = threading.Barrier(len(names)), {name: [] for name in names}
def ask(name):
    start.wait()
    found[name].append(getattr(coinapi_ws, name))
threads = [threading.Thread(target=ask, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join(30)
print(all(len(values) == 2 and values[0] is values[1] for values in found.values()))
"""
    for seed in range(3):
        assert run(program, str(seed), flags=("-W", "error")) == "True"


CLIENT: Final = """
from coinapi_ws import Client, Subscription
wanted = Subscription(["trade", "quote", "book", "book5"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
client = Client("a-key-of-a-test", wanted, endpoint=sys.argv[1])
before = set(sys.modules)
client.start()
client.wait_live(10)
for item in client:
    if getattr(item, "type", "") == "book5":
        break
client.stats()
client.close()
"""
STREAM: Final = """
from coinapi_ws import Subscription, connect
wanted = Subscription(["trade", "quote", "book", "book5"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
stream = connect("a-key-of-a-test", wanted, endpoint=sys.argv[1])
before = set(sys.modules)
for item in stream:
    if getattr(item, "type", "") == "book5":
        break
stream.stats()
stream.close()
"""

#: The default context is made, and its roots are found, before anything is started.
UNTRUSTED: Final = """
from coinapi_ws import Options, Scope, Secret, SelectorConnection, Subscription, endpoint_from
options = Options(endpoint=endpoint_from(sys.argv[1]), api_key=Secret("a-key-of-a-test"))
connection = SelectorConnection(options, Scope(Subscription(["trade"], exchange_ids=["COINBASE"])))
before = set(sys.modules)
connection.start()
while connection.disconnected is None:
    connection.step(5)
assert connection.disconnected.error_type.__name__ == "CertificateError", connection.disconnected
"""


@pytest.mark.parametrize("program", [CLIENT, STREAM], ids=["client", "stream"])
def test_session_imports_nothing(program: str) -> None:
    # An import takes locks, which a fork in another thread leaves locked in the child for ever.
    with Simulator() as simulator:
        assert run(program + "print(*sorted(set(sys.modules) - before))", simulator.url) == ""


def test_handshake_with_the_default_context_imports_nothing() -> None:
    with Simulator(tls=True) as simulator:
        assert run(UNTRUSTED + "print(*sorted(set(sys.modules) - before))", simulator.url) == ""


@pytest.mark.parametrize("variable", ["no_proxy", "https_proxy"])
def test_proxies_of_the_environment_are_looked_for_where_there_are_any(variable: str) -> None:
    # What reads them imports http.client, email and more.
    program = """
import os
from coinapi_ws import Client, Subscription
wanted = Subscription(["trade"], exchange_ids=["COINBASE"])
Client("a-key-of-a-test", wanted, endpoint="emea")
before = "urllib.request" in sys.modules
os.environ[sys.argv[1]] = "http://proxy.example:3128"
Client("a-key-of-a-test", wanted, endpoint="emea")
print(before, "urllib.request" in sys.modules)
"""
    assert run(program, variable) == "False True"
