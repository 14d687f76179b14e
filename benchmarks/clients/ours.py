"""Our ways to use our package, by its public names alone."""

from __future__ import annotations

import selectors
import socket
import time
from typing import Any, Final

from coinapi_ws import (
    Book,
    Client,
    Connected,
    Disconnected,
    Message,
    Options,
    Quote,
    Scope,
    SelectorConnection,
    Subscription,
    Trade,
    WebSocket,
    connect,
    endpoint_from,
)
from coinapi_ws.protocol.websocket import TextReceived

from . import HELLO, SYMBOL_IDS, Job

WANTED: Final = Subscription(["quote", "trade", "book", "book20"], symbol_ids=SYMBOL_IDS)
READ_BYTES: Final = 64 * 1024


def options(job: Job) -> dict[str, Any]:
    """Return the options that all ways share."""
    return {"numbers": "decimal" if "decimal" in job.options else "float", "compression": job.deflate}


def stream(job: Job) -> None:
    """Iterate on this thread."""
    on_message = job.meter.for_objects()
    with connect(None, WANTED, endpoint=job.url, ssl=job.context, **options(job)) as messages:
        job.meter.begin()
        for message in messages:
            on_message(message)


def selector(job: Job) -> None:
    """Run a connection in a loop of one's own."""
    on_message = job.meter.for_objects()
    settings = Options(endpoint=endpoint_from(job.url), **options(job))
    connection = SelectorConnection(settings, Scope(WANTED), ssl_context=job.context)

    def wanted() -> int:
        return selectors.EVENT_READ * connection.want_read() | selectors.EVENT_WRITE * connection.want_write()

    connection.start()
    with selectors.DefaultSelector() as loop:
        while connection.disconnected is None:
            # It may close its descriptor, or go on with another, whenever it works.
            if events := wanted():
                loop.register(connection, events)
            due = connection.next_timeout()
            ready = loop.select(None if due is None else max(0.0, due - time.monotonic()))
            if events:
                loop.unregister(connection)
            items = connection.handle_read() if ready else []
            for item in items + connection.handle_write() + connection.handle_timeout():
                if isinstance(item, Message):
                    on_message(item)
                elif isinstance(item, Connected):
                    job.meter.begin()
    if error := connection.disconnected.error():
        raise error


def client(job: Job, dispatch: str) -> None:
    """Run the threaded client, its callbacks registered by class."""
    on_message, done = job.meter.for_objects(), job.meter.done
    threaded = Client(None, WANTED, endpoint=job.url, ssl=job.context, dispatch=dispatch, **options(job))
    for kind in (Quote, Trade, Book):
        threaded.on(kind, on_message)
    threaded.on(Connected, lambda _: job.meter.begin())
    ends: list[Disconnected] = []  # after the first the blaster is gone
    threaded.on(Disconnected, ends.append)
    threaded.on(Disconnected, lambda _: done.set())
    with threaded:
        done.wait()
        jumps = sum(threaded.stats().jumps.values())
    if jumps or (ends and ends[0].error()):
        raise RuntimeError(f"{jumps} jumps of sequences; {ends[:1]}")


def inline(job: Job) -> None:
    """Call back on the I/O thread."""
    client(job, "inline")


def dispatched(job: Job) -> None:
    """Call back on the dispatcher's thread."""
    client(job, "thread")


def framing(job: Job) -> None:
    """Cut frames out of what a socket gives, and nothing else."""
    on_frame = job.meter.for_frames()
    websocket = WebSocket(f"{job.host}:{job.port}")
    websocket.start()
    with socket.create_connection((job.host, job.port)) as peer:
        peer.sendall(websocket.data_to_send())
        while not list(websocket.events()):
            websocket.receive_data(peer.recv(READ_BYTES))
        websocket.send(HELLO)
        peer.sendall(websocket.data_to_send())
        job.meter.begin()
        while received := peer.recv(READ_BYTES):
            websocket.receive_data(received)
            for event in websocket.events():
                if type(event) is TextReceived:
                    for payload in event.payloads:
                        on_frame(len(payload))
            if answer := websocket.data_to_send():
                peer.sendall(answer)


WAYS: Final = {
    "stream": stream,
    "selector": selector,
    "inline": inline,
    "dispatched": dispatched,
    "framing": framing,
}
