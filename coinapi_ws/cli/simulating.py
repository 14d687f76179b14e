"""The command that runs the embedded server, and how the other commands start one."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NoReturn

from ..decoding import Decoder
from ..endpoints import endpoint_from
from ..exceptions import ConfigurationError
from ..messages import ExchangeRate, Message
from ..recording import read_recording
from ..simulator import Simulator
from ..subscription import KNOWN_DATA_TYPES

#: As often it is seen to whether the server still lives.
_LOOK_SECONDS: Final = 1.0
#: So much of a recording shows what it is of.
_LOOK_FRAMES: Final = 1000
_FAILED: Final = 1
TERMINATED: Final = 143  # 128 and the number of SIGTERM, as shells have it


def simulate(arguments: Namespace) -> int:
    """Run the embedded server until Ctrl-C or SIGTERM."""
    options = {name: value for name, value in vars(arguments).items() if name != "command"}
    ca_file: str | None = options.pop("ca_file", None)
    simulator = _simulator(options.pop("scenario", None), options)
    if "speed" in options and simulator.recording is None:
        raise ConfigurationError("--speed is the one of a recording; add --recording FILE")
    with ExitStack() as stack:
        stack.enter_context(ended_by_sigterm())
        try:
            stack.enter_context(_running(simulator))
        except OSError as error:
            problem = f"cannot listen: {error.strerror}; choose another --port"
            print(f"coinapi-ws: error: {problem}", file=sys.stderr)
            return _FAILED
        example = _example(simulator)
        if simulator.has_certificates:
            example += ["--ca-file", _write_authority(simulator, ca_file, stack)]
        elif ca_file is not None:
            raise ConfigurationError("--ca-file goes with --tls")
        print(simulator.url)
        print(shlex.join(example), flush=True)
        _wait_for_the_end(simulator)


@contextmanager
def running_simulator(recording: str | None, **options: Any) -> Iterator[Simulator]:
    """Yield a simulator that is up. Raises ``ConfigurationError`` where the recording cannot be opened."""
    with _running(Simulator(recording=recording, **options)) as simulator:
        yield simulator


def _simulator(scenario: str | None, options: dict[str, Any]) -> Simulator:
    try:
        return Simulator(**options) if scenario is None else Simulator.from_scenario(scenario, **options)
    except ConfigurationError:
        raise
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {scenario}: {error.strerror}") from None


@contextmanager
def _running(simulator: Simulator) -> Iterator[Simulator]:
    try:
        simulator.start()
    except OSError as error:
        if error.filename is None:
            raise
        raise ConfigurationError(f"cannot read {os.fspath(error.filename)}: {error.strerror}") from None
    try:
        yield simulator
    finally:
        simulator.close()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end what runs here as an exception does, so that nothing is left behind."""

    def end(*_: object) -> NoReturn:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_authority(simulator: Simulator, ca_file: str | None, stack: ExitStack) -> str:
    if ca_file is None:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="coinapi-ws-"))
        ca_file = str(Path(directory) / "ca.pem")
    try:
        Path(ca_file).write_bytes(simulator.ca_pem)
    except OSError as error:
        raise ConfigurationError(f"cannot write {ca_file}: {error.strerror}") from None
    return ca_file


def _wait_for_the_end(simulator: Simulator) -> NoReturn:
    while True:
        time.sleep(_LOOK_SECONDS)
        simulator.settle()


def _example(simulator: Simulator) -> list[str]:
    """Return a command that shows what this server has."""
    types, filters = ["trade", "quote", "book5"], ["--symbol", "COINBASE_SPOT_BTC_USD$", "--symbol", "KRAKEN_"]
    product = endpoint_from(simulator.endpoint).product
    if product == "exrates":
        types, filters = ["exrate"], ["--asset", "BTC"]
    elif product == "ds":
        filters = ["--asset", "BTC"]  # which is possible with any exchange
    elif simulator.recording is not None:
        decoder = Decoder()
        frames = [decoder.decode(frame.frame) for frame in islice(read_recording(simulator.recording), _LOOK_FRAMES)]
        messages = [frame for frame in frames if isinstance(frame, Message) and frame.type in KNOWN_DATA_TYPES]
        types = sorted({message.type for message in messages}) or ["trade"]
        symbols = {symbol for message in messages if (symbol := getattr(message, "symbol_id", None))}
        exchanges = sorted({f"{symbol.partition('_')[0]}_" for symbol in symbols})
        assets = sorted({str(rate.asset_id_base) for rate in messages if isinstance(rate, ExchangeRate)})
        filters = [part for exchange in exchanges for part in ("--symbol", exchange)]
        filters += [part for asset in assets for part in ("--asset", asset)]
    return ["coinapi-ws", "stream", *types, *(filters or ["--everything"]), "--endpoint", simulator.endpoint]
