"""Twisted: a coroutine waits for the descriptor and the timer on the reactor. Argument: an endpoint's URL."""

import os
import sys
import time
from socket import SOCK_STREAM, getaddrinfo

from twisted.internet import defer, interfaces, reactor, task, threads
from zope.interface import implementer

from coinapi_ws import Options, Scope, Secret, SelectorConnection, Subscription, endpoint_from


@implementer(interfaces.IReadWriteDescriptor)
class Ready(defer.Deferred):  # once the connection has work; it may close its descriptor then, so none stays registered
    def __init__(self, connection: SelectorConnection) -> None:
        super().__init__(canceller=Ready.unregister)
        descriptor = connection.fileno()
        self.fileno, self.logPrefix = lambda: descriptor, lambda: "coinapi_ws"
        if connection.want_read():
            reactor.addReader(self)
        if connection.want_write():
            reactor.addWriter(self)
        if (due := connection.next_timeout()) is not None:
            self.addTimeout(max(0.0, due - time.monotonic()), reactor, onTimeoutCancel=lambda *_: None)

    def unregister(self) -> None:
        reactor.removeReader(self)
        reactor.removeWriter(self)

    def fire(self, *_: object) -> None:
        self.unregister()
        if not self.called:
            self.callback(None)

    doRead = doWrite = connectionLost = fire  # noqa: N815


async def main(_: object, url: str) -> None:
    key = os.environ.get("COINAPI_API_KEY")
    options = Options(endpoint=endpoint_from(url), api_key=Secret(key) if key else None, proxy=None)
    scope = Scope(Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$", "COINBASE_SPOT_ETH_USD$"]))
    found = await threads.deferToThread(getaddrinfo, options.endpoint.host, options.endpoint.port, type=SOCK_STREAM)
    connection = SelectorConnection(options, scope, resolve=lambda *_: [(info[0], info[4]) for info in found])
    try:
        connection.start()
        while connection.disconnected is None:
            await Ready(connection)
            for item in connection.handle_read() + connection.handle_write() + connection.handle_timeout():
                print(item)  # messages and events, Disconnected last
            if connection.stats().messages >= 10:
                connection.close()  # goes on until the server has answered
    finally:
        connection.abandon()  # nothing is left to do, unless something was raised
    error = connection.disconnected.error()
    sys.exit(str(error) if error else None)


task.react(main, sys.argv[1:])
