"""Which shard a name belongs to: the same in every process, on every machine and in every version, pure."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

_MULTIPLIER: Final = 2862933555777941757
_MASK: Final = 2**64 - 1


def shard_of(name: str, count: int) -> int:
    """Return the shard of a name, from 0 to ``count - 1``.

    By jump consistent hashing (Lamping and Veach, 2014, arXiv:1406.2294): of ``count + 1`` shards the new one takes its
    even share of the names from all others, and no name moves between those.
    """
    key = int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    shard, following = 0, 0
    while following < count:
        shard = following
        key = (key * _MULTIPLIER + 1) & _MASK
        following = int((shard + 1) * (2**31 / ((key >> 33) + 1)))
    return shard
