"""Scenario files: a simulator and what happens to it, as a file that shows a program's fault to others.

A scenario is a JSON object::

    {
      "scenario": 1,
      "description": "two refused upgrades, then a lost delta",
      "start_time": "2026-01-01T00:00:00Z",
      "simulator": {"seed": 7, "hello_limit": [10, 10]},
      "timeline": [
        {"at": 0, "do": "refuse_upgrades", "status": 503, "count": 2},
        {"at": 5, "do": "skip_sequence", "types": ["book"]},
        {"at": 20, "every": 60, "times": 3, "do": "drop", "reset": true, "note": "the night before"}
      ]
    }

- ``scenario`` is the version of this format, 1. All else may be left out.
- ``simulator`` has the options of `~coinapi_ws.simulator.Simulator`, but for ``clock``, ``ssl_context`` and
  ``timeline``; the path of a ``recording`` is relative to the file. ``start_time`` is the market's wall clock at the
  first connection.
- ``timeline``: what is done ``at`` so many seconds after the first connection was accepted (0 is before its
  first byte is read), and again ``every`` so many seconds, ``times`` times in all (without it: for ever).
  ``do`` is a method of `~coinapi_ws.simulator.Faults`, or ``announce_reconnect``, ``move_price``,
  ``halt_trading``, ``resume_trading`` or ``set_activity`` of the simulator; the other fields are its parameters,
  bytes in hexadecimal. ``note`` is for the reader. Numbers have at most 64 bits.

The time line runs once: start the simulator again for another run. With a time line the market begins with the
first connection. The same seed, ``start_time`` and requests then give the same frames: all of them with a
`~coinapi_ws.simulator.VirtualClock`; on the machine's clock, as far as the client asks at the same time.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import json
import math
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from coinapi_ws.exceptions import ConfigurationError
from coinapi_ws.timestamps import parse_ns

from .checking import fits, said
from .faults import Faults
from .timeline import Entry, Timeline
from .wire import NS_PER_SECOND

if TYPE_CHECKING:
    from .server import Simulator

__all__ = ["ScenarioError"]

VERSION: Final = 1
_FIELDS: Final = ("scenario", "description", "start_time", "simulator", "timeline")
_ENTRY_FIELDS: Final = ("at", "every", "times", "do", "note")
_NOT_IN_FILES: Final = ("clock", "ssl_context", "timeline", "start_time_ns")
_SIMULATOR_ACTIONS: Final = ("announce_reconnect", "move_price", "halt_trading", "resume_trading", "set_activity")
_FAULTS: Final = tuple(name for name, _ in inspect.getmembers(Faults, inspect.isfunction) if not name.startswith("_"))
#: What concerns the connections to come; at 0, the first one too.
_BEFORE_A_CONNECTION: Final = ("certificate", "slow_handshakes")
#: Not in files: one simulator cannot name another.
_PARAMETERS_NOT_IN_FILES: Final = ("self", "successor")


class ScenarioError(ConfigurationError):
    """A scenario cannot be used; the text names the place and says what may stand there."""


def read_scenario(path: str | os.PathLike[str], simulator: type[Simulator]) -> dict[str, Any]:
    """Return the options for `Simulator` that a scenario file means.

    Raises `ScenarioError`, and OSError where the file cannot be read.
    """
    return _options(_decode(Path(path).read_bytes()), Path(path).parent, simulator)


def timeline_of(
    fields_of_entries: Iterable[Mapping[str, Any]],
    simulator: Simulator,
    rehearse: Callable[[Callable[[], object]], None],
) -> Timeline:
    """Return a time line, each entry of it checked by a rehearsal of its action. Raises `ScenarioError`."""
    made = []
    for position, fields in enumerate(fields_of_entries):
        try:
            if not isinstance(fields, Mapping):
                raise ScenarioError('an entry is an object with "at" and "do"')
            made.append(_entry(position, fields, simulator, rehearse))
        except (ValueError, TypeError) as error:
            raise ScenarioError(f"timeline[{position}]: {error}") from None
    return Timeline(made)


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ScenarioError("this is nested too deeply") from None
    except ScenarioError:
        raise
    except ValueError as error:
        raise ScenarioError(f"this is no JSON: {error}") from None


def _options(scenario: Any, directory: Path, simulator: type[Simulator]) -> dict[str, Any]:
    version = scenario.get("scenario") if isinstance(scenario, dict) else None
    if not fits(version, int):
        raise ScenarioError(f'a scenario is an object with "scenario": {VERSION}')
    if version != VERSION:
        raise ScenarioError(f'"scenario": {version} is another version of the format; this is {VERSION}')
    _check_names("a scenario", scenario, _FIELDS)
    hints = get_type_hints(simulator.__init__)
    allowed = [name for name in hints if name not in (*_NOT_IN_FILES, "return")]
    options = scenario.get("simulator", {})
    if not isinstance(options, dict):
        raise ScenarioError('"simulator" is an object of options')
    _check_names('"simulator"', options, allowed)
    options = {name: _checked(f'"{name}" of "simulator"', value, hints[name]) for name, value in options.items()}
    if options.get("recording") is not None:
        options["recording"] = directory / options["recording"]
    if "start_time" in scenario:
        try:
            options["start_time_ns"] = parse_ns(str(scenario["start_time"]))
        except ValueError:
            raise ScenarioError('"start_time" is a time such as "2026-01-01T00:00:00Z"') from None
    timeline = scenario.get("timeline", [])
    if not isinstance(timeline, list):
        raise ScenarioError('"timeline" is a list of objects')
    return {**options, "timeline": timeline}


def _entry(
    position: int,
    fields: Mapping[str, Any],
    simulator: Simulator,
    rehearse: Callable[[Callable[[], object]], None],
) -> Entry:
    at, every, times = (fields.get(name) for name in ("at", "every", "times"))
    if at is None or not _is_seconds(at):
        raise ScenarioError('"at" is a number of seconds after the first connection')
    if every is not None and not (_is_seconds(every) and every >= 0.001):
        raise ScenarioError('"every" is a number of seconds, 0.001 or more')
    if times is not None and (every is None or not fits(times, int) or times < 1):
        raise ScenarioError('"times" is a whole number of 1 or more, and goes with "every"')
    act = _action(fields, simulator)
    rehearse(act)
    every_ns = None if every is None else round(every * NS_PER_SECOND)
    precedes = fields["do"] in _BEFORE_A_CONNECTION
    return Entry(round(at * NS_PER_SECOND), position, act, every_ns, times, precedes)


def _action(fields: Mapping[str, Any], simulator: Simulator) -> Callable[[], object]:
    name = fields.get("do")
    if name in _FAULTS:
        method = getattr(simulator.faults, name)
    elif name in _SIMULATOR_ACTIONS:
        method = getattr(simulator, name)
    else:
        actions = (*_FAULTS, *_SIMULATOR_ACTIONS)
        raise ScenarioError(
            f'"do" cannot be {reprlib.repr(name)}{_guess(name, actions)}; there are {", ".join(actions)}'
        )
    hints = get_type_hints(method)
    parameters = [p for p in inspect.signature(method).parameters.values() if p.name not in _PARAMETERS_NOT_IN_FILES]
    given = {key: value for key, value in fields.items() if key not in _ENTRY_FIELDS}
    _check_names(name, given, [p.name for p in parameters])
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in given]
    if missing:
        raise ScenarioError(f"{name} needs {', '.join(missing)}")
    arguments = {key: _checked(f'"{key}" of {name}', value, hints[key]) for key, value in given.items()}
    return lambda: method(**arguments)


def _check_names(what: str, given: Iterable[str], allowed: Sequence[str]) -> None:
    unknown = [name for name in given if name not in allowed]
    if unknown:
        guess = _guess(unknown[0], allowed)
        raise ScenarioError(f"{what} has no {', '.join(unknown)}{guess}; it has {', '.join(allowed) or 'nothing'}")


def _guess(name: object, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1) if isinstance(name, str) else []
    return f" (did you mean {close[0]}?)" if close else ""


def _checked(what: str, value: Any, hint: Any) -> Any:
    """Return a value of JSON as one of this type."""
    if hint is bytes and not isinstance(value, bytes):
        with contextlib.suppress(ValueError, TypeError):
            return bytes.fromhex(value)
        raise ScenarioError(f"{what} must be text of hexadecimal digits")
    if not fits(value, hint):
        raise ScenarioError(f"{what} must be {said(hint)}")
    return value


def _is_seconds(value: Any) -> bool:
    return fits(value, float) and 0 <= value < math.inf


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        # Not which: it may be an API key.
        raise ScenarioError("one name stands twice in the same object")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ScenarioError(f"{name} is no JSON")
