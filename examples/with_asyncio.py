"""asyncio: a coroutine waits for the descriptor and the timer. Argument: an endpoint's URL."""

import asyncio
import os
import socket
import sys
from contextlib import ExitStack

from coinapi_ws import Options, Scope, Secret, SelectorConnection, Subscription, endpoint_from


async def until_ready(connection: SelectorConnection) -> None:
    """Wait until the connection has work. It may close its descriptor then, so nothing stays registered."""
    loop, descriptor, ready = asyncio.get_running_loop(), connection.fileno(), asyncio.Event()
    with ExitStack() as stack:
        if connection.want_read():
            loop.add_reader(descriptor, ready.set)
            stack.callback(loop.remove_reader, descriptor)
        if connection.want_write():
            loop.add_writer(descriptor, ready.set)
            stack.callback(loop.remove_writer, descriptor)
        due = connection.next_timeout()
        if due is not None:
            stack.callback(loop.call_at(due, ready.set).cancel)
        await ready.wait()


async def main(url: str) -> str | None:
    key = os.environ.get("COINAPI_API_KEY")
    options = Options(endpoint=endpoint_from(url), api_key=Secret(key) if key else None, proxy=None)
    scope = Scope(Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$", "COINBASE_SPOT_ETH_USD$"]))
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(options.endpoint.host, options.endpoint.port, type=socket.SOCK_STREAM)
    addresses = [(family, address) for family, _, _, _, address in found]
    connection = SelectorConnection(options, scope, resolve=lambda *_: addresses, clock=loop.time)
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
