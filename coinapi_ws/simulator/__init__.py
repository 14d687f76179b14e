"""A CoinAPI Market Data WebSocket API V1 in your own process, to test programs without account or network.

::

    from coinapi_ws.simulator import Simulator

    with Simulator(seed=1) as simulator:
        ...  # connect your program to simulator.url, with any API key or none

It sends a synthetic market, the same for the same seed, or replays a recording (see `coinapi_ws.recording`).
`Faults`, the attribute ``faults``, makes things go wrong at any moment; a file can do so on a time line (see
`coinapi_ws.simulator.scenario`).

What the vendor documents or was captured from the live service:

- Upgrade at any path. The API key is taken from the ``X-CoinAPI-Key`` header, ``?apikey=``, a last path
  segment ``APIKEY-...``, ``Authorization``, Basic authentication of the user ``coinapi``, or ``apikey`` in
  the first message; a JWT does not replace it. It is checked at the first message: a successful upgrade
  proves nothing.
- The first message is ``hello`` or ``subscribe``. ``hello`` replaces the scope, ``subscribe`` adds,
  ``unsubscribe`` removes. Nothing is acknowledged. Data types, symbols and periods are a cross product;
  within one list, any entry matches.
- ``subscribe_filter_symbol_id`` is a prefix, exact with a trailing ``$``; ``subscribe_filter_asset_id`` is
  ``BTC`` or ``BTC/USD``. Book types need some filter, ``exrate`` an asset filter. Errors come as an ``error``
  message and a close.
- ``heartbeat: true`` brings ``{"type":"hearbeat"}`` (so spelled) after each second in which nothing else was
  sent. A Ping comes each minute; a client that does not answer is closed.
- ``type`` is the last field, JSON is compact, times have seven digits. ``sequence`` counts each (type,
  symbol_id) of a connection from 1, and restarts when the pair leaves the scope and comes back. Sending the
  same scope again replays nothing. ``book`` and ``book_l3`` begin with a snapshot; in L2 a level takes the
  new size, and 0 removes it.
- ``book5`` comes when anything changed, ``book20`` and ``book50`` each second, ``ohlcv`` each one to five
  seconds while it changes and once when its period closed, ``exrate`` each 100 ms, metadata as snapshots and
  from time to time.
- A connection for which more than 131,072 messages wait (``buffer_limit``) gets an error where it can still be
  sent, and is closed; what waited is lost.
- Upgrades and hellos for each IP address, and connections for each key, can be limited, and the upgrade's response
  says so in headers: ``X-WsRequestsPerIpLimit-``, ``X-WsHelloPerIpLimit-`` (Limit, Remaining, WindowSizeMs, on errors
  RetryAfterMs) and ``X-ConcurrencyLimit-`` (Limit, Remaining).
- A ``reconnect`` notice says that the server will close within so many seconds; a new connection stays.
- WS DS (``direct_source``) takes exact symbol ids, or the exchange's own names of them, and no exchange filter, and
  stays open after an unknown symbol.
- Exchange Rates (``exchange_rates``) takes no data types, an asset filter or none for all rates, and sends ``exrate``.

What is our own reading, since the vendor leaves it open or we could not see it:

- ``api_keys=None`` accepts every client, also one without a key. With ``api_keys``, one right key among those
  a client presents is enough.
- Different *kinds* of filter must all match (the documentation's table; its first example reads as "any"). A
  filter says nothing about streams without such a property: a symbol filter does not touch ``exrate``. An
  asset filter matches the base or the quote.
- Of the messages since the last hello, the last one that names a stream decides whether it is in scope.
- An error's close has the code 1008. Only the texts for an invalid data type, an invalid API key, a missing
  privilege and the overflow are the vendor's; the other errors have texts of ours.
- No limit holds unless it is asked for. Windows slide, and what was refused does not count. Too many upgrades are
  refused with 429 and ``Retry-After``, rounded up to seconds; so are too many connections, where nobody knows how
  long it will take: with 1 second. A hello too much gets an error and a close, and so does a key that comes in the
  hello and has too many connections. A key is counted from the upgrade on, right or wrong.
- With ``key_check="upgrade"`` a wrong or missing key is refused with 401, one without any privilege with 403.
- The close after a ``reconnect`` notice has the code 1001.
- WS DS has no rates. A symbol id may end in ``$`` there too. An error for each unknown symbol comes first, then what
  is known. The simulator takes any path and has one exchange, and of a recording it knows the ids of symbols alone.
- An update limit leaves frames out, and the sequence counts those that are sent.
- L3 entries of MATCH and SUBTRACT say how much was taken off, UPDATE the new size, DELETE the size that is
  gone.
- Exchange Rates takes the data type ``exrate`` too, and refuses any other one, and every filter but the one by asset.
- Only ``COINBASE`` has ``book_l3``. ``connectivity_status`` is accepted and sends nothing. Periods are 1SEC,
  5SEC, 1MIN, 5MIN, 15MIN, 1HRS, 1DAY. Metadata is sent again every five minutes.
- The market begins with the first scope that any client sets. Candles are summed by ``time_exchange``.
- A replay begins for each client with its first message, keeps its times (divided by ``speed``), and ends
  with a close 1000. Only without a pace (``speed=None``) it waits for a slow client.
  Frames are sent byte for byte, ``sequence`` included; those of no subscribable type go to
  everybody. A scope that grows gets no snapshot but those in the recording.

With a `VirtualClock` nothing happens until the test advances it. A Ping that became due in the middle of an
advance may be answered until ``pong_timeout`` after its end.
"""

from __future__ import annotations

from .clock import Clock, SystemClock, VirtualClock
from .faults import Faults
from .keys import UpgradeRequest
from .scenario import ScenarioError
from .server import Simulator

__all__ = ["Simulator", "Faults", "ScenarioError", "VirtualClock", "Clock", "SystemClock", "UpgradeRequest"]
