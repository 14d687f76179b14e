"""gevent: two greenlets, each with a stream of its own. Argument: an endpoint's URL."""
# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()  # before everything else: now a stream that waits lets other greenlets run

import sys
from itertools import islice

import gevent

from coinapi_ws import CoinAPIError, Subscription, connect


def watch(url: str, symbol_id: str) -> str | None:
    """Print some trades of a symbol. A stream belongs to the greenlet that made it."""
    try:
        with connect(None, Subscription(["trade"], symbol_ids=[symbol_id]), endpoint=url) as stream:
            for item in islice(stream, 5):
                print(item)  # messages and gaps; an end that nobody wanted is raised
    except CoinAPIError as error:
        return str(error)
    return None


greenlets = [gevent.spawn(watch, sys.argv[1], f"COINBASE_SPOT_{asset}_USD$") for asset in ("BTC", "ETH")]
gevent.joinall(greenlets, raise_error=True)
gevent.get_hub().destroy()  # and its threads, at which Python 3.10 may crash as it ends
sys.exit(next((greenlet.value for greenlet in greenlets if greenlet.value), None))
