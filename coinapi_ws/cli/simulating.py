"""The command that runs the embedded server, and how the other commands start one."""

from __future__ import annotations

import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Final, NoReturn

from ..decoding import Decoder
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


def simulate(arguments: Namespace) -> int:
    """Run the embedded server until Ctrl-C."""
    with ExitStack() as stack:
        try:
            simulator = stack.enter_context(
                running_simulator(arguments.recording, port=arguments.port, speed=arguments.speed, seed=arguments.seed)
            )
        except OSError as error:
            problem = f"cannot listen: {error.strerror}; choose another --port"
            print(f"coinapi-ws: error: {problem}", file=sys.stderr)
            return _FAILED
        print(simulator.url)
        print(shlex.join(_example(arguments.recording, simulator.url)), flush=True)
        _wait_for_ctrl_c(simulator)


@contextmanager
def running_simulator(recording: str | None, **options: Any) -> Iterator[Simulator]:
    """Yield a simulator that is up. Raises ``ConfigurationError`` where the recording cannot be opened."""
    simulator = Simulator(recording=recording, **options)
    try:
        simulator.start()
    except OSError as error:
        if error.filename is None:
            raise
        raise ConfigurationError(f"cannot read {recording}: {error.strerror}") from None
    try:
        yield simulator
    finally:
        simulator.close()


def _wait_for_ctrl_c(simulator: Simulator) -> NoReturn:
    while True:
        time.sleep(_LOOK_SECONDS)
        simulator.settle()


def _example(recording: str | None, url: str) -> list[str]:
    """Return a command that shows what this server has."""
    types, filters = ["trade", "quote", "book5"], ["--symbol", "COINBASE_SPOT_BTC_USD$", "--symbol", "KRAKEN_"]
    if recording is not None:
        decoder = Decoder()
        frames = [decoder.decode(frame.frame) for frame in islice(read_recording(recording), _LOOK_FRAMES)]
        messages = [frame for frame in frames if isinstance(frame, Message) and frame.type in KNOWN_DATA_TYPES]
        types = sorted({message.type for message in messages}) or ["trade"]
        symbols = {symbol for message in messages if (symbol := getattr(message, "symbol_id", None))}
        exchanges = sorted({f"{symbol.partition('_')[0]}_" for symbol in symbols})
        assets = sorted({str(rate.asset_id_base) for rate in messages if isinstance(rate, ExchangeRate)})
        filters = [part for exchange in exchanges for part in ("--symbol", exchange)]
        filters += [part for asset in assets for part in ("--asset", asset)]
    return ["coinapi-ws", "stream", *types, *(filters or ["--everything"]), "--endpoint", url]
