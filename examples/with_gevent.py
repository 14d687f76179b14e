"""gevent: two greenlets, each with a connection of its own. Argument: an endpoint's URL."""
# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()  # before everything else: now resolving a name and select() let other greenlets run

import os
import select
import sys
import time

import gevent

from coinapi_ws import Options, Scope, Secret, SelectorConnection, Subscription, endpoint_from


def until_ready(connection: SelectorConnection) -> None:
    """Wait until the connection has work. gevent's select() takes any descriptor, and watches none afterwards."""
    due = connection.next_timeout()
    wait = None if due is None else max(0.0, due - time.monotonic())
    select.select([connection] * connection.want_read(), [connection] * connection.want_write(), [], wait)


def watch(url: str, symbol_id: str) -> str | None:
    """Print some trades of a symbol. A connection belongs to the greenlet that made it."""
    key = os.environ.get("COINAPI_API_KEY")
    options = Options(endpoint=endpoint_from(url), api_key=Secret(key) if key else None)
    connection = SelectorConnection(options, Scope(Subscription(["trade"], symbol_ids=[symbol_id])))
    try:
        connection.start()
        while connection.disconnected is None:
            until_ready(connection)
            for item in connection.handle_read() + connection.handle_write() + connection.handle_timeout():
                print(item)  # messages and events, Disconnected last
            if connection.stats().messages >= 5:
                connection.close()  # goes on until the server has answered
    finally:
        connection.abandon()  # nothing is left to do, unless something was raised
    error = connection.disconnected.error()
    return str(error) if error else None


greenlets = [gevent.spawn(watch, sys.argv[1], f"COINBASE_SPOT_{asset}_USD$") for asset in ("BTC", "ETH")]
gevent.joinall(greenlets, raise_error=True)
gevent.get_hub().destroy()  # and its threads, at which Python 3.10 may crash as it ends
sys.exit(next((greenlet.value for greenlet in greenlets if greenlet.value), None))
