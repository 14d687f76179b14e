"""From one client to many readers, on other machines too: what a client receives goes through Redis or Kafka.

A :class:`Relay` publishes what a client receives, unchanged; a :class:`RedisReader` gives the same messages and gaps as
the client would. Redis needs redis-py (``pip install "coinapi-ws[redis]"``), Kafka confluent-kafka
(``pip install "coinapi-ws[kafka]"``).
"""

from .entries import Batch, Entry, EntryDecoder, Publisher, RelayError, Trimmed
from .kafka import KafkaPublisher, kafka_entry
from .redis_publisher import RedisPublisher
from .redis_reader import ReaderStats, RedisReader
from .relay import Relay, RelayStats

__all__ = [
    "Batch",
    "Entry",
    "EntryDecoder",
    "KafkaPublisher",
    "Publisher",
    "ReaderStats",
    "RedisPublisher",
    "RedisReader",
    "Relay",
    "RelayError",
    "RelayStats",
    "Trimmed",
    "kafka_entry",
]
