"""What makes two messages updates of the same thing, and when they happened."""

from __future__ import annotations

from typing import Final, TypeGuard

from ..messages import ErrorMessage, ExchangeRate, Heartbeat, Message, Ohlcv, ReconnectNotice
from ..timestamps import parse_ns

#: Of these the newest says all that the older ones said.
STATE_TYPES: Final = frozenset({"quote", "book5", "book20", "book50", "ohlcv", "exrate"})

Key = tuple[object, ...]


def is_market_data(item: object) -> TypeGuard[Message]:
    """Return whether this is a message that the scope asked for, and not the conversation's own."""
    return isinstance(item, Message) and not isinstance(item, (Heartbeat, ErrorMessage, ReconnectNotice))


def key_of(message: Message) -> Key:
    """Return what a message is about: type and symbol, of candles also the period, of rates the pair and its kind."""
    if isinstance(message, Ohlcv):
        return ("ohlcv", message.symbol_id, message.period_id)
    if isinstance(message, ExchangeRate):
        return ("exrate", message.asset_id_base, message.asset_id_quote, message.rate_type)
    return (message.type, getattr(message, "symbol_id", None))


def time_text_of(message: Message) -> str | None:
    """Return ``time_coinapi``, or the ``time`` of a rate, as the wire has it; None where there is none."""
    text: str | None = getattr(message, "time_coinapi", None) or getattr(message, "time", None)
    return text


def time_ns_of(message: Message) -> int:
    """Return the time of :func:`time_text_of` in nanoseconds since the epoch; without one, when it was received."""
    text = time_text_of(message)
    try:
        return message.received_ns if text is None else parse_ns(text)
    except ValueError:
        return message.received_ns
