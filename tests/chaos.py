"""Everything that the simulator can do to a client, one thing after the other, at random by seed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

from ledger import Ledger

from coinapi_ws import Message, Subscription
from coinapi_ws.simulator import Simulator

SYMBOL_IDS: Final = ("COINBASE_SPOT_BTC_USD", "COINBASE_SPOT_ETH_USD", "KRAKEN_SPOT_BTC_USD")
TYPES: Final = ("trade", "quote", "book", "book5", "book_l3", "ohlcv")
WANTED: Final = Subscription(list(TYPES), symbol_ids=[f"{symbol_id}$" for symbol_id in SYMBOL_IDS], period_ids=["1SEC"])
#: Only COINBASE has book_l3.
PAIRS: Final = {(name, symbol) for name in TYPES for symbol in SYMBOL_IDS if name != "book_l3" or "COINBASE" in symbol}
STRICT_PAIRS: Final = {pair for pair in PAIRS if pair[0] in ("book", "book_l3")}

#: Larger than this a message may not be, for the client of the run.
MAX_MESSAGE_BYTES: Final = 256 * 1024
#: How many times as busy as usual.
_ACTIVITY: Final = 10.0
_ACTIVITIES: Final = (1.0, 10.0, 10.0, 40.0)
#: Refusals that the client is to try again after; what is wrong with key or scope it may not.
_STATUSES: Final = (429, 500, 502, 503)
_ERRORS: Final = ("Too many requests", "Reached maximum allowed buffered messages for this connection.")


class Chaos:
    """One simulator, or for a moment none, on one port; `step` does the next thing to it.

    ``frames_lost`` are those of all simulators that were closed. `close` ends it.
    """

    def __init__(self, seed: int, ledger: Ledger, **options: Any) -> None:
        self.random = Random(seed)
        #: To be registered with the client.
        self.dawdler = Dawdler(seed)
        self.done: Counter[str] = Counter()
        self.frames_lost = 0
        self._ledger = ledger
        self._options = {
            "activity": _ACTIVITY,
            "ping_interval": 0.4,
            "pong_timeout": 1.0,
            "heartbeat_interval": 0.3,
            "buffer_limit": 2000,
            **options,
        }
        self.simulator = self._started(0)
        self._acts: dict[Callable[[], None], int] = {
            self._drop: 8,
            self._close: 8,
            self._end_while_nothing_is_read: 12,
            self._stall: 6,
            self._starve: 6,
            self._skip: 20,
            self._repeat: 4,
            self._lose: 4,
            self._refuse: 4,
            self._mistake: 3,
            self._dawdle_at_the_door: 2,
            self._delay: 4,
            self._cut_small: 6,
            self._misspeak: 6,
            self._break_the_protocol: 6,
            self._complain: 5,
            self._announce: 4,
            self._restart: 5,
            self._hurry: 5,
        }

    @property
    def port(self) -> int:
        """The port that every simulator of the run listens on."""
        return self.simulator.port

    def step(self) -> None:
        """Do the next thing, and let some time pass."""
        (act,) = self.random.choices(list(self._acts), list(self._acts.values()))
        self.done[act.__name__.strip("_")] += 1
        act()
        self.pass_time(0.02, 0.4)

    def pass_time(self, least: float, most: float) -> None:
        """Wait for some seconds in between."""
        time.sleep(self.random.uniform(least, most))

    def calm(self) -> None:
        """End all that lasts."""
        self.simulator.faults.clear()

    def hush(self) -> None:
        """Let the market say nothing more."""
        self.simulator.halt_trading(SYMBOL_IDS)

    def resume(self) -> None:
        """Let the market speak again."""
        self.simulator.resume_trading(SYMBOL_IDS)

    def close(self) -> None:
        """Close the simulator."""
        self.simulator.close()
        self.frames_lost += sum(self.simulator.frames_lost.values())

    def _started(self, port: int) -> Simulator:
        simulator = Simulator(port=port, seed=self.random.randrange(1000), **self._options)
        simulator.start()
        return simulator

    def _some_connection(self) -> int | None:
        """The number of one that is there, often None for all."""
        return self.random.choice([None, *self.simulator.open_connections])

    def _seen_connection(self, *, strict: bool) -> int | None:
        """The number of one on which everything began, so that a jump is seen; None where there is none."""
        numbers = self._ledger.wires_with(STRICT_PAIRS if strict else PAIRS)
        numbers = [number for number in numbers if number in self.simulator.open_connections]
        return self.random.choice(numbers) if numbers else None

    # Connections that end

    def _drop(self) -> None:
        self.simulator.faults.drop(reset=self.random.random() < 0.5)

    def _close(self) -> None:
        self.simulator.faults.close(self.random.choice([1000, 1001, 1011, 1012, 1013]))

    def _end_while_nothing_is_read(self) -> None:
        """Much is written, then, that the client may never see."""
        self.dawdler.nap(self.random.uniform(0.2, 1.0))
        self.pass_time(0.05, 0.7)
        self.random.choice([self._drop, self._drop, self._close, self._complain, self._break_the_protocol])()

    def _announce(self) -> None:
        self.simulator.announce_reconnect(self.random.choice([0, 0, 1]))

    def _complain(self) -> None:
        self.simulator.faults.error(self.random.choice(_ERRORS), close=self.random.random() < 0.7)

    def _break_the_protocol(self) -> None:
        faults = self.simulator.faults
        self.random.choice(
            [
                faults.invalid_utf8,
                faults.masked_frame,
                lambda: faults.oversized_frame(MAX_MESSAGE_BYTES + 1),
                lambda: faults.oversized_message(MAX_MESSAGE_BYTES + 1),
            ]
        )()

    def _restart(self) -> None:
        port = self.port
        self.close()
        if self.random.random() < 0.5:
            self.pass_time(0.0, 0.6)
        self.simulator = self._started(port)

    def _hurry(self) -> None:
        self.simulator.set_activity(self.random.choice(_ACTIVITIES))

    # Connections that do not come about

    def _refuse(self) -> None:
        headers = {"Retry-After": "1"} if self.random.random() < 0.3 else {}
        self.simulator.faults.refuse_upgrades(
            self.random.choice(_STATUSES),
            body_size=self.random.choice([0, 100, 100_000]),
            headers=headers,
            count=self.random.randint(1, 3),
        )
        self._drop()

    def _mistake(self) -> None:
        count = self.random.randint(1, 2)
        faults = self.simulator.faults
        self.random.choice([faults.garbage_upgrades, faults.continue_upgrades])(count=count)
        self._drop()

    def _dawdle_at_the_door(self) -> None:
        self.simulator.faults.slow_handshakes(self.random.uniform(0.1, 1.5))
        self._drop()
        self.pass_time(0.1, 1.5)
        self.simulator.faults.slow_handshakes(0)

    # Connections that limp

    def _stall(self) -> None:
        """Half-open: for a moment, or so long that the client gives up."""
        connection = self._some_connection()
        self.simulator.faults.go_silent(connection=connection)
        self.pass_time(0.1, 2.5)
        if self.random.random() < 0.5:
            self.simulator.faults.drop(connection=connection, reset=self.random.random() < 0.5)
        self.simulator.faults.clear()

    def _starve(self) -> None:
        """Heartbeats, and no data: the sequences jump."""
        connection = self._seen_connection(strict=False)
        if connection is not None:
            self.simulator.faults.go_silent(heartbeats=True, connection=connection)
            self.pass_time(0.1, 1.0)
            self._perhaps_end()
            self.simulator.faults.resume(connection=connection)

    def _delay(self) -> None:
        self.simulator.faults.delay(self.random.uniform(0.01, 0.3), connection=self._some_connection())
        self.pass_time(0.1, 0.8)
        self._end_of_lasting()

    def _cut_small(self) -> None:
        connection = self._some_connection()
        if self.random.random() < 0.5:
            self.simulator.faults.split(self.random.choice([1, 7, 100, 1000]), connection=connection)
        else:
            self.simulator.faults.fragment(self.random.choice([1, 7, 100, 1000]), connection=connection)
        self.pass_time(0.1, 0.5)
        self._end_of_lasting()

    def _end_of_lasting(self) -> None:
        self._perhaps_end()
        self.simulator.faults.clear()

    def _perhaps_end(self) -> None:
        """Cut the connection in the middle of something else."""
        if self.random.random() < 0.4:
            self._drop()

    # Messages that are missing, come twice, or are none

    def _skip(self) -> None:
        connection = self._seen_connection(strict=True)
        if connection is not None:
            self.simulator.faults.skip_sequence(
                self.random.randint(1, 4),
                types=self.random.choice([["book"], ["book_l3"], ["book", "book_l3"]]),
                connection=connection,
            )
            self._perhaps_end()

    def _repeat(self) -> None:
        connection = self._seen_connection(strict=True)
        if connection is not None:
            self.simulator.faults.repeat_sequence(self.random.randint(1, 3), connection=connection)

    def _lose(self) -> None:
        connection = self._seen_connection(strict=False)
        if connection is not None:
            self.simulator.faults.lose(self.random.uniform(0.05, 0.5), connection=connection)
            self.pass_time(0.1, 1.0)
            self._perhaps_end()
            self.simulator.faults.lose(0.0, connection=connection)

    def _misspeak(self) -> None:
        faults = self.simulator.faults
        self.random.choice(
            [faults.malformed_json, faults.unknown_type, lambda: faults.send_bytes(b"\x82\x03\x00\x01\x02")]
        )()


class Dawdler:
    """A callback that is now and then slow, so that the queue fills up; it can be asked to."""

    def __init__(self, seed: int) -> None:
        self.times = 0
        self._random = Random(seed)
        self._left = 1000
        self._asked = 0.0

    def nap(self, seconds: float) -> None:
        """Be so slow with the next message."""
        self._asked = seconds

    def __call__(self, message: Message) -> None:
        self._left -= 1
        if self._left == 0:
            self._left = self._random.randint(200, 4000)
            self._sleep(self._random.choice([0.02, 0.1, 0.3, 0.8]))
        if self._asked:
            seconds, self._asked = self._asked, 0.0
            self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        self.times += 1
        time.sleep(seconds)
