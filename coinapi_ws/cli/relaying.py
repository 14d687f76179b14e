"""The command that publishes what comes to Redis."""

from __future__ import annotations

import logging
import os
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import inf
from queue import Empty, SimpleQueue
from typing import Any, Final

from ..client.client import Client
from ..events import Disconnected, Event, Live
from ..exceptions import ConfigurationError
from ..messages import ErrorMessage
from ..relay import RedisPublisher, Relay
from ..scope import WIRE_HELLO, WIRE_INCREMENTAL, Scope
from .arguments import REDIS_VARIABLE
from .feed import ConnectionText, silenced_log
from .running import CLOSE_SECONDS, check_source, note, opened_source, run_to_the_end
from .streaming import subscriptions_of
from .summary import Tally

_LOOK_SECONDS: Final = 0.1


def relay(arguments: Namespace) -> int:
    """Publish until the count, the duration, the end of a recording or the user ends it."""
    check_source(arguments)
    return run_to_the_end(lambda: _relay(arguments), Tally())


def _relay(arguments: Namespace) -> None:
    scope = Scope(*subscriptions_of(arguments))
    if arguments.shard is not None:
        number, count = arguments.shard
        scope = scope.shards(count)[number - 1]
        if not scope:
            note(f"shard {number}/{count} has none of these symbols, so there is nothing to do")
            return
    with ExitStack() as stack:
        source = stack.enter_context(opened_source(arguments))
        publisher = stack.enter_context(_publisher(arguments))
        stack.enter_context(silenced_log())
        stack.enter_context(_noted_log())
        with warnings.catch_warnings():
            # That the server ends a connection which is not read is what a relay wants, rather than to end itself.
            warnings.simplefilter("ignore", RuntimeWarning)
            client = Client(
                source.key,
                *scope,
                endpoint=source.endpoint,
                keep_raw=True,
                wire=WIRE_HELLO if len(scope) == 1 else WIRE_INCREMENTAL,
                slow_consumer_timeout=None,
                close_timeout=CLOSE_SECONDS,
                ssl=source.ssl_context,
            )
        events: SimpleQueue[Event | ErrorMessage] = SimpleQueue()
        client.on(Event, events.put)
        client.on(ErrorMessage, events.put)
        relay, start = Relay(client, publisher), time.monotonic()
        try:
            with client:
                _watch(arguments, client, relay, events, ConnectionText(source.redact))
        finally:
            publisher.close()  # so that what waits for a Redis that is away gives up
            client.close(CLOSE_SECONDS)
            stats, seconds = relay.stats(), time.monotonic() - start
            note(
                f"{stats.published:,} messages published in {seconds:.2f} s "
                f"({stats.published / seconds:,.0f} a second), {stats.gaps} gaps told, {stats.unpublished} given up"
            )


@contextmanager
def _noted_log() -> Iterator[None]:
    """Say what the relay logs, such as that Redis is away: unlike what the client logs, it comes as no event."""
    logger, notes = logging.getLogger("coinapi_ws.relay"), logging.StreamHandler()
    notes.setLevel(logging.WARNING)
    notes.setFormatter(logging.Formatter("coinapi-ws: %(message)s"))
    logger.addHandler(notes)
    try:
        yield
    finally:
        logger.removeHandler(notes)


def _publisher(arguments: Namespace) -> RedisPublisher:
    url = arguments.redis or os.environ.get(REDIS_VARIABLE)
    if not url:
        raise ConfigurationError(f"where to? Write --redis URL, or set the environment variable {REDIS_VARIABLE}")
    limits: dict[str, Any] = {"max_age": arguments.max_age}
    if arguments.max_length is not None:
        limits = {"max_age": None, "max_length": arguments.max_length}
    return RedisPublisher(url, cluster=arguments.cluster, prefix=arguments.prefix, streams=arguments.streams, **limits)


def _watch(
    arguments: Namespace,
    client: Client,
    relay: Relay,
    events: SimpleQueue[Event | ErrorMessage],
    connection: ConnectionText,
) -> None:
    """Tell what happens to the connection, until one of the ends; raise what ended it."""
    count = inf if arguments.count is None else arguments.count
    end = inf if arguments.duration is None else time.monotonic() + arguments.duration
    was_live = False
    while relay.stats().published < count and time.monotonic() < end:
        try:
            event = events.get(timeout=_LOOK_SECONDS)
        except Empty:
            if client.join(0):
                return
            continue
        if (text := connection.take(event)) is not None:
            note(text)
        was_live = was_live or isinstance(event, Live)
        if isinstance(event, Disconnected) and (arguments.recording is not None or not was_live):
            # A recording would begin anew; and what fails at once, such as a wrong address, is better told at once.
            if (error := event.error()) is not None or not was_live:
                raise error or event.as_error()
            return
