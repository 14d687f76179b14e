"""A CoinAPI Market Data WebSocket API V1 in your own process, to test programs without account or network.

    from coinapi_ws.simulator import Simulator

    with Simulator(seed=1) as simulator:
        ...  # connect your program to simulator.url, with any API key or none

It sends a synthetic market, the same for the same seed, or replays a recording (see `coinapi_ws.recording`).

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
- A connection for which more than 131,072 messages wait gets an error and is closed.

What is our own reading, since the vendor leaves it open or we could not see it:

- ``api_keys=None`` accepts every client, also one without a key. With ``api_keys``, one right key among those
  a client presents is enough.
- Different *kinds* of filter must all match (the documentation's table; its first example reads as "any"). A
  filter says nothing about streams without such a property: a symbol filter does not touch ``exrate``. An
  asset filter matches the base or the quote.
- Of the messages since the last hello, the last one that names a stream decides whether it is in scope.
- An error's close has the code 1008. Only the texts for an invalid data type, an invalid API key and the
  overflow are the vendor's; the other errors have texts of ours.
- An update limit leaves frames out, and the sequence counts those that are sent.
- L3 entries of MATCH and SUBTRACT say how much was taken off, UPDATE the new size, DELETE the size that is
  gone.
- It is the Market Data product alone: a hello without data types, as the Exchange Rates product takes it, is
  refused, and an exchange filter, which WS DS does not take, is not.
- Only ``COINBASE`` has ``book_l3``. ``connectivity_status`` is accepted and sends nothing. Periods are 1SEC,
  5SEC, 1MIN, 5MIN, 15MIN, 1HRS, 1DAY. Metadata is sent again every five minutes.
- The market begins with the first scope that any client sets. Candles are summed by ``time_exchange``.
- A replay begins for each client with its first message, keeps its times (divided by ``speed``), and ends
  with a close 1000. Frames are sent byte for byte, ``sequence`` included; those of no subscribable type go to
  everybody. A scope that grows gets no snapshot but those in the recording.

With a `VirtualClock` nothing happens until the test advances it. A Ping that became due in the middle of an
advance may be answered until ``pong_timeout`` after its end.
"""

from __future__ import annotations

from .clock import Clock, SystemClock, VirtualClock
from .keys import UpgradeRequest
from .server import Simulator

__all__ = ["Simulator", "VirtualClock", "Clock", "SystemClock", "UpgradeRequest"]
