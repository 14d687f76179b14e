"""The command line: ``coinapi-ws``, or ``python -m coinapi_ws``.

`arguments` says what can be written; `streaming`, `book`, `candles`, `listing`, `replaying`, `inspecting` and
`simulating` do it, on `running` and `feed`; `printing`, `text` and `ladder` write for people, `screen` draws, `summary`
counts. The exit codes are in the help of each command.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from ..exceptions import ConfigurationError
from ..recording import RecordingError, RecordingWarning
from ..subscription import SubscriptionWarning
from .arguments import as_options, complaint, parsers
from .book import book
from .candles import candles
from .inspecting import inspect
from .listing import show_list
from .relaying import relay
from .replaying import replay
from .simulating import simulate
from .streaming import demo, stream

__all__ = ["main"]

_DONE: Final = 0
_FAILED: Final = 1
_INTERRUPTED: Final = 130  # 128 and the number of SIGINT, as shells have it

_COMMANDS: Final = {
    "stream": stream,
    "demo": demo,
    "book": book,
    "candles": candles,
    "exchanges": show_list,
    "assets": show_list,
    "symbols": show_list,
    "replay": replay,
    "inspect": inspect,
    "relay": relay,
    "simulate": simulate,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, by default the one of ``sys.argv``; return its exit code. For the main thread.

    Raises ``SystemExit`` where argparse does: after ``--help`` and ``--version``, and with 2 for wrong usage.
    """
    parser, commands = parsers()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        commands[arguments.command].error(complaint(unknown))
    _open_missing_streams()
    try:
        with _notes_on_stderr():
            try:
                return _COMMANDS[arguments.command](arguments)
            except (ConfigurationError, RecordingError) as error:
                usage_error = as_options(str(error))
            commands[arguments.command].error(usage_error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Who read our output has seen enough (`| head`). The interpreter flushes once more when it ends.
        _point_at_devnull(sys.stdout)
        return _DONE
    except OSError as error:
        # A full disk, most likely; what stdout still holds cannot be written either.
        _point_at_devnull(sys.stdout)
        print(f"coinapi-ws: error: {error.strerror or error}", file=sys.stderr)
        return _FAILED


@contextmanager
def _notes_on_stderr() -> Iterator[None]:
    """Print warnings as notes of one line, without the place in our code that warned."""

    def note(message: Warning | str, *_place: object, **_more: object) -> None:
        print(f"coinapi-ws: note: {as_options(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        for category in (SubscriptionWarning, RecordingWarning):
            warnings.simplefilter("always", category)
        show: Callable[..., None] = note
        warnings.showwarning = show
        yield


def _open_missing_streams() -> None:
    """Give what is printed a place to go where the caller closed stdout or stderr (``>&-``)."""
    # print() takes None for stdout, so that without this our notes would be between the messages.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _point_at_devnull(stream: TextIO) -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
