"""gevent: the threaded client, whose threads are then greenlets. Argument: an endpoint's URL."""
# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()  # before everything else: now the client's threads are greenlets, and its waits let others run

import sys

import gevent
from gevent.event import Event

from coinapi_ws import Client, Disconnected, Live, Subscription, Trade


def watch(url: str) -> str | None:
    """Print some trades of two symbols, until there are enough, or until the first connection ends."""
    wanted = Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$", "COINBASE_SPOT_ETH_USD$"])
    client = Client(None, wanted, endpoint=url, stop_on_callback_error=True)
    done, ends = Event(), []

    @client.on(Trade)
    def on_trade(trade: Trade) -> None:
        """Callbacks run in a greenlet of the client: one that waits holds up the next callback, and nothing else."""
        print(trade)
        if client.stats().delivered >= 10:
            done.set()

    @client.on(Disconnected)
    def on_disconnected(disconnected: Disconnected) -> None:
        """Without this the client would go on: it reconnects by itself."""
        ends.append(disconnected)
        print(disconnected)
        done.set()

    client.on(Live, print)
    with client:  # starts it, and closes it in order
        joining = gevent.spawn(client.join)  # ends before its time where a callback has raised something
        gevent.wait([done, joining], count=1)
        client.close()
        joining.get()  # raises it
    error = ends[0].error()
    return str(error) if error else None


greenlet = gevent.spawn(watch, sys.argv[1])
gevent.joinall([greenlet], raise_error=True)
gevent.get_hub().destroy()  # and its threads, at which Python 3.10 may crash as it ends
sys.exit(greenlet.value)
