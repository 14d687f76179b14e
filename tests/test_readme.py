"""README's programs run as they stand, and what it says of the public names is true."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Final

import pytest
from pages import assert_runs, programs_of

import coinapi_ws
from coinapi_ws import Client, HandshakeRejected, Options, Subscription, connect
from coinapi_ws.simulator import Faults, Simulator, VirtualClock

README: Final = Path(__file__).resolve().parent.parent / "README.md"
TEXT: Final = README.read_text(encoding="utf-8")
PROGRAMS: Final = programs_of(README)


def test_there_is_a_program_for_each_way_to_use_it() -> None:
    assert [title for title, _ in PROGRAMS] == [
        "Callbacks, on threads of their own",
        "A stream to iterate",
        "A connection for your own loop",
        "A connection without a loop",
        "No I/O at all",
        "A WebSocket and nothing else",
        "Your own tests, without an account",
        "Record and replay",
        "Order books",
        "All order books of a client, kept true",
        "What there is",
        "Testing with the simulator",
        "In pytest",
    ]
    for title, program in PROGRAMS:
        assert len(program.splitlines()) <= 20, title


def test_the_readme_lists_every_fault() -> None:
    table = TEXT.partition("### Faults")[2].partition("###")[0]
    named = set(re.findall(r"`(\w+)\(", table))
    assert named == {name for name in vars(Faults) if not name.startswith("_")}


def test_the_options_of_the_readme_are_those_of_connect() -> None:
    table = TEXT.partition("## Proxies, TLS and sockets")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)=", table, re.MULTILINE))
    assert named == {"proxy", "ssl", "server_hostname", "keepalive", "receive_buffer_bytes", "nodelay"}
    parameters = {**inspect.signature(connect).parameters, **inspect.signature(Options).parameters}
    assert named <= set(parameters)
    for name, default in re.findall(r"^\| `(\w+)=([^`…]+)`", table, re.MULTILINE):
        if name not in ("ssl", "server_hostname") and "://" not in default and (name, default) != ("proxy", "None"):
            assert parameters[name].default == ast.literal_eval(default), name


def test_the_options_of_the_readme_are_those_of_the_client() -> None:
    table = TEXT.partition("## The threaded client")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"`(\w+)=([^`]+)`(?:, | \|)", table.partition("| option |")[2]))
    parameters = inspect.signature(Client).parameters
    own = set(parameters) - {"api_key", "subscriptions", "options"} - set(inspect.signature(connect).parameters)
    assert set(shown) == own
    for name, default in shown.items():
        if name != "backoff":
            assert parameters[name].default == ast.literal_eval(default), name
    methods = set(re.findall(r"`(\w+)[(`]", table.partition("| option |")[0])) - {
        "Client",
        "ClientState",
        "ClientStats",
    }
    public = {name for name in vars(Client) if not name.startswith("_")}
    assert public <= methods


def test_the_scenario_of_the_readme_can_be_run(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```json\n(.+?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "scenario.json").write_text(text)
    with Simulator.from_scenario(tmp_path / "scenario.json", clock=VirtualClock()) as simulator:
        wanted = Subscription(["trade"], symbol_ids=["KRAKEN_"])
        for _ in range(2):
            with pytest.raises(HandshakeRejected):
                connect("any", wanted, endpoint=simulator.url)
        connect("any", wanted, endpoint=simulator.url).close()


@pytest.mark.parametrize(("title", "program"), PROGRAMS, ids=[title for title, _ in PROGRAMS])
def test_a_program_of_the_readme_runs_as_it_stands(title: str, program: str, tmp_path: Path) -> None:
    assert_runs(program, tmp_path)


def test_the_readme_names_every_public_class() -> None:
    unnamed = [name for name in coinapi_ws.__all__ if name != "__version__" and not re.search(rf"\b{name}\b", TEXT)]
    assert unnamed == []


def test_the_vendor_notes_name_only_files_that_exist() -> None:
    notes = (README.parent / "vendor_notes.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:coinapi_ws|tests)/[\w/]+(?:\.py|/))`", notes))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (README.parent / name).exists()] == []


def test_each_entry_of_the_vendor_notes_is_whole() -> None:
    notes = (README.parent / "vendor_notes.md").read_text(encoding="utf-8")
    entries = notes.split("- **Rule.**")[1:]
    assert len(entries) > 25
    for entry in entries:
        for part in ("**Source.**", "**How sure:**", "**Encoded in**", "**A change shows as**"):
            assert part in entry, entry[:80]


def test_each_reference_to_the_vendor_notes_has_its_heading() -> None:
    notes = (README.parent / "vendor_notes.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^## (.+)$", notes, re.MULTILINE))
    package = Path(coinapi_ws.__file__).parent
    referred = {
        heading
        for module in package.rglob("*.py")
        for heading in re.findall(r'vendor_notes\.md, "(\w+)"', module.read_text(encoding="utf-8"))
    }
    assert referred
    assert referred <= headings
