"""Hostile input takes no more memory than docs/limits.md says, and ends as it says, in both lanes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent.parent
if not (PROJECT / "benchmarks" / "hostile.py").exists():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)
sys.path.append(str(PROJECT))  # behind the package that is tested

from conversation import Conversation  # noqa: E402
from websocket_peer import CONTINUATION, TEXT, frame  # noqa: E402

from benchmarks import hostile  # noqa: E402
from benchmarks.hostile import ATTACKS, Attack, peak_of, variants  # noqa: E402

LIMIT = 128 * 1024
CASES = [
    pytest.param(attack, options, id=f"{attack.name}-{'-'.join(map(str, options.values()))}")
    for attack in ATTACKS
    for options in variants(attack)
]


@pytest.mark.parametrize(("attack", "options"), CASES)
def test_it_is_bounded(attack: Attack, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("PINGS", 10_000), ("FRAGMENTS", 10_000), ("SCOPES", 300)):
        monkeypatch.setattr(hostile, name, count)
    limit = LIMIT if "million digits" not in attack.name else 2 * hostile.MIB
    peak, told = peak_of(attack.prepare(limit, **options))
    assert attack.end in told
    assert peak < attack.bound(limit)


def test_a_message_that_never_ends_is_no_sign_of_life() -> None:
    """Empty fragments take no memory, so that nothing but time can end them."""
    talk = Conversation("a-key-of-nobody").live()
    talk.receive(frame(TEXT, b"{", fin=False))
    for _ in range(31):
        talk.advance(1)
        if talk.session.state.value == "closed":
            break
        talk.receive(frame(CONTINUATION, b"", fin=False) * 100)
    assert talk.disconnected.detail == "no message for 30.0 s, though heartbeats were asked for"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_page_names_it(attack: Attack) -> None:
    assert f"| {attack.name} |" in (PROJECT / "docs" / "limits.md").read_text(encoding="utf-8")
