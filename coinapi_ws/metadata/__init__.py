"""What can be subscribed: the vendor's lists of exchanges, assets and symbols, over its REST API.

::

    from coinapi_ws import Subscription
    from coinapi_ws.metadata import Client

    symbols = Client(None).symbols("COINBASE", asset_ids=["USD"])
    wanted = Subscription.for_symbols(["trade"], symbols)

The objects are the messages :class:`~coinapi_ws.Exchange`, :class:`~coinapi_ws.Asset` and
:class:`~coinapi_ws.Symbol`, as a subscription brings them (vendor_notes.md, "REST").
"""

from __future__ import annotations

from .client import Client

__all__ = ["Client"]
