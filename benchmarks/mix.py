"""Payloads as CoinAPI sends them, each with the sequence that follows: a synthetic mix, or a recording."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Final, NamedTuple

from coinapi_ws.recording import read_recording

#: Of 100 messages. Their payloads have about 250, 260, 290 and 1,600 bytes.
SHARES: Final = {"quote": 45, "trade": 25, "book": 20, "book20": 10}
#: Of so many messages the sequence of one goes into the checksum; the first and the last are among these.
SAMPLED_EACH: Final = 64
#: All of a market's prices stay within so many ticks of where they began.
SWING: Final = 400


class Market(NamedTuple):
    """A symbol, its price in ticks, and the decimals of price and size."""

    symbol_id: str
    price: int
    price_decimals: int
    largest_size: int
    size_decimals: int

    def level(self, tick: int, size: float) -> str:
        return f'{{"price":{self.number(tick)},"size":{self.size(size)}}}'

    def number(self, tick: int) -> str:
        whole, fraction = divmod(tick, 10**self.price_decimals)
        return f"{whole}.{fraction:0{self.price_decimals}d}"

    def size(self, share: float) -> str:
        whole, fraction = divmod(1 + int(self.largest_size * share * share), 10**self.size_decimals)
        return f"{whole}.{fraction:0{self.size_decimals}d}"


MARKETS: Final = (
    Market("COINBASE_SPOT_BTC_USD", 9_549_596, 2, 300_000_000, 8),
    Market("COINBASE_SPOT_ETH_USD", 327_145, 2, 9_000_000_000, 8),
    Market("BITSTAMP_SPOT_BTC_USD", 9_549_100, 2, 400_000_000, 8),
    Market("KRAKEN_SPOT_ETH_USD", 327_167, 2, 20_000_000_000, 8),
    Market("KRAKEN_SPOT_ADA_USD", 501_723, 6, 900_000_000_000, 8),
    Market("BINANCEFTS_PERP_BTC_USDT", 954_961, 1, 60_000, 3),
)
#: How often a market speaks, beside the others.
_ACTIVITY: Final = (4, 3, 2, 2, 1, 4)
_START: Final = 1_736_873_398_000_000_0  # in units of 100 ns
_EXCHANGE_LAG: Final = 51_648
_TIME: Final = re.compile(rb'"time_coinapi":"([^"]*)"')
_SEQUENCE: Final = re.compile(rb'"symbol_id":"([^"]*)","sequence":(\d+),"type":"([^"]*)"}$')


class Expected(NamedTuple):
    """What a client has to have counted at the end."""

    messages: int
    by_type: dict[str, int]
    checksum: int
    #: The same of those who see frames alone: the lengths of the payloads.
    length_checksum: int


def rounded(messages: int) -> int:
    """Return the next higher number of messages of which the last is a sampled one, as the first is."""
    return -(-(messages - 1) // SAMPLED_EACH) * SAMPLED_EACH + 1


def expected(payloads: list[bytes]) -> Expected:
    """Return what a client has to count in these."""
    messages = [json.loads(payload) for payload in payloads]
    return Expected(
        len(payloads),
        dict(Counter(message["type"] for message in messages)),
        sum(message["sequence"] for message in messages[::SAMPLED_EACH]),
        sum(map(len, payloads[::SAMPLED_EACH])),
    )


def mixed(messages: int, seed: int = 1) -> list[bytes]:
    """Return so many payloads of the mix; a longer list begins with the shorter one."""
    rng = random.Random(seed)
    names = [name for name, share in SHARES.items() for _ in range(share)]
    sequences = {(name, market.symbol_id): rng.randrange(10**6, 9 * 10**6) for name in SHARES for market in MARKETS}
    offsets = {market.symbol_id: 0 for market in MARKETS}
    payloads, now = list[bytes](), _START
    while len(payloads) < messages:
        rng.shuffle(names)
        for name, market in zip(names, rng.choices(MARKETS, _ACTIVITY, k=len(names)), strict=True):
            now += rng.randrange(1, 20_000)
            key = (name, market.symbol_id)
            sequences[key] += 1
            offset = max(-SWING, min(SWING, offsets[market.symbol_id] + rng.randrange(-2, 3)))
            offsets[market.symbol_id] = offset
            times = f'{{"time_exchange":"{_time(now - _EXCHANGE_LAG)}","time_coinapi":"{_time(now)}"'
            body = _BODIES[name](market, market.price + offset, rng)
            end = f'"symbol_id":"{key[1]}","sequence":{sequences[key]},"type":"{name}"}}'
            payloads.append(f"{times},{body},{end}".encode())
    return payloads[:messages]


def recorded(path: Path, messages: int) -> list[bytes]:
    """Return so many payloads of a recording, again and again from its beginning, the sequences going on."""
    frames = [frame.frame.encode() for frame in read_recording(path)]
    found = [_SEQUENCE.search(frame) for frame in frames]
    if not frames or not all(found):
        raise ValueError(f"{path}: not all frames end with symbol_id, sequence and type")
    highest = {match.group(3, 1): int(match[2]) for match in found if match}
    return list(islice(_passes(frames, highest), messages))


def stamp_at(payload: bytes) -> int:
    """Return where the text of ``time_coinapi`` begins."""
    match = _TIME.search(payload)
    if match is None:
        raise ValueError("a payload without time_coinapi")
    return match.start(1)


def _passes(frames: list[bytes], highest: dict[tuple[bytes, ...], int]) -> Iterator[bytes]:
    for number in count():

        def moved(found: re.Match[bytes], number: int = number) -> bytes:
            sequence = int(found[2]) + number * highest[found.group(3, 1)]
            return b'"symbol_id":"%b","sequence":%d,"type":"%b"}' % (found[1], sequence, found[3])

        for frame in frames:
            yield _SEQUENCE.sub(moved, frame)


def _time(instant: int) -> str:
    seconds, fraction = divmod(instant, 10**7)
    hours, minutes = divmod(seconds // 60, 60)
    return f"2025-01-14T{hours % 24:02d}:{minutes:02d}:{seconds % 60:02d}.{fraction:07d}Z"


def _quote(market: Market, tick: int, rng: random.Random) -> str:
    return (
        f'"ask_price":{market.number(tick + 1)},"ask_size":{market.size(rng.random())},'
        f'"bid_price":{market.number(tick)},"bid_size":{market.size(rng.random())}'
    )


def _trade(market: Market, tick: int, rng: random.Random) -> str:
    bits = f"{rng.getrandbits(128):032x}"
    uuid = f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"
    side = "BUY" if rng.random() < 0.5 else "SELL"
    return f'"uuid":"{uuid}","price":{market.number(tick)},"size":{market.size(rng.random())},"taker_side":"{side}"'


def _book(market: Market, tick: int, rng: random.Random) -> str:
    sides: tuple[list[str], list[str]] = ([], [])
    for _ in range(rng.randrange(1, 5)):
        is_bid = rng.random() < 0.5
        away = 1 + int(rng.expovariate(0.05))
        gone = rng.random() < 0.3
        price = market.number(tick + (-away if is_bid else away))
        size = "0.0" if gone else market.size(rng.random())
        sides[is_bid].append(f'{{"price":{price},"size":{size}}}')
    return f'"is_snapshot":false,"asks":[{",".join(sides[0])}],"bids":[{",".join(sides[1])}]'


def _book20(market: Market, tick: int, rng: random.Random) -> str:
    asks, bids = (
        ",".join([market.level(tick + way * place, rng.random()) for place in range(1, 21)]) for way in (1, -1)
    )
    return f'"asks":[{asks}],"bids":[{bids}]'


_BODIES: Final = {"quote": _quote, "trade": _trade, "book": _book, "book20": _book20}
