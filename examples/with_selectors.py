"""A loop of one's own: two connections, one selector. Argument: an endpoint's URL."""

import os
import selectors
import sys
import time
from contextlib import ExitStack

from coinapi_ws import Options, Scope, Secret, SelectorConnection, Subscription, endpoint_from


def wanted(connection: SelectorConnection) -> int:
    """Return what to watch the descriptor for; nothing but the connection's own methods change it."""
    return selectors.EVENT_READ * connection.want_read() | selectors.EVENT_WRITE * connection.want_write()


def work(connection: SelectorConnection, selector: selectors.BaseSelector) -> None:
    """Let a connection work. It may close its descriptor, so it is not registered meanwhile."""
    if wanted(connection):
        selector.unregister(connection)
    for item in connection.handle_read() + connection.handle_write() + connection.handle_timeout():
        print(item)  # messages and events, Disconnected last
    if connection.stats().messages >= 5:
        connection.close()  # goes on until the server has answered
    if wanted(connection):
        selector.register(connection, wanted(connection))


def main(url: str) -> str | None:
    key = os.environ.get("COINAPI_API_KEY")
    options = Options(endpoint=endpoint_from(url), api_key=Secret(key) if key else None)
    scopes = [Scope(Subscription(["trade"], symbol_ids=[f"{name}_SPOT_BTC_USD$"])) for name in ("COINBASE", "KRAKEN")]
    connections = [SelectorConnection(options, scope) for scope in scopes]
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for connection in connections:
            stack.callback(connection.abandon)  # nothing is left to do then, unless something was raised
            connection.start()  # resolves the name, which may block
            if wanted(connection):
                selector.register(connection, wanted(connection))
        while unfinished := [connection for connection in connections if connection.disconnected is None]:
            due = {connection: connection.next_timeout() for connection in unfinished}
            first = min((when for when in due.values() if when is not None), default=None)
            events = selector.select(None if first is None else max(0.0, first - time.monotonic()))
            ready, now = {key.fileobj for key, _ in events}, time.monotonic()
            for connection, when in due.items():
                if connection in ready or (when is not None and when <= now):
                    work(connection, selector)
    errors = [error for connection in connections if (error := connection.disconnected.error())]
    return str(errors[0]) if errors else None


sys.exit(main(sys.argv[1]))
