"""Tornado: a coroutine waits for the descriptor and the timer on the IOLoop. Argument: an endpoint's URL."""

import asyncio
import os
import sys
import time
from contextlib import ExitStack

from tornado.ioloop import IOLoop
from tornado.locks import Event
from tornado.netutil import Resolver

from coinapi_ws import Options, Scope, Secret, SelectorConnection, Subscription, endpoint_from


async def until_ready(connection: SelectorConnection) -> None:
    """Wait until the connection has work. It may close its descriptor then, so nothing stays registered."""
    loop, descriptor, ready = IOLoop.current(), connection.fileno(), Event()
    wants = IOLoop.READ * connection.want_read() | IOLoop.WRITE * connection.want_write()
    with ExitStack() as stack:
        if wants:
            loop.add_handler(descriptor, lambda *_: ready.set(), wants)
            stack.callback(loop.remove_handler, descriptor)
        due = connection.next_timeout()
        if due is not None:  # on the monotonic clock, which is not the IOLoop's
            timer = loop.call_later(max(0.0, due - time.monotonic()), ready.set)
            stack.callback(loop.remove_timeout, timer)
        await ready.wait()


async def main(url: str) -> str | None:
    key = os.environ.get("COINAPI_API_KEY")
    options = Options(endpoint=endpoint_from(url), api_key=Secret(key) if key else None, proxy=None)
    scope = Scope(Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$", "COINBASE_SPOT_ETH_USD$"]))
    addresses = await Resolver().resolve(options.endpoint.host, options.endpoint.port)
    connection = SelectorConnection(options, scope, resolve=lambda *_: addresses)
    try:
        connection.start()
        while connection.disconnected is None:
            await until_ready(connection)
            for item in connection.handle_read() + connection.handle_write() + connection.handle_timeout():
                print(item)  # messages and events, Disconnected last
            if connection.stats().messages >= 10:
                connection.close()  # goes on until the server has answered
    finally:
        connection.abandon()  # nothing is left to do, unless something was raised
    error = connection.disconnected.error()
    return str(error) if error else None


sys.exit(asyncio.run(main(sys.argv[1])))
