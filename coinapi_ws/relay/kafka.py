"""A relay's entries to Kafka, by confluent-kafka (``pip install "coinapi-ws[kafka]"``)."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from ..exceptions import ConfigurationError
from .entries import DEFAULT_PREFIX, DEFAULT_STREAMS, Batch, Entry, RelayError

if TYPE_CHECKING:
    from typing_extensions import Self

#: What the producer does unless it is told otherwise: each message once and in order, for as long as it takes.
_DEFAULTS: Final = {"enable.idempotence": True, "message.timeout.ms": 0, "linger.ms": 0}
_LOOK_SECONDS: Final = 0.1
_RECEIVED, _CONNECTION = "received_ns", "connection"


class KafkaPublisher:
    """Puts a relay's entries into one topic, each stream a partition, each entry once; a context manager.

    ``config`` is that of librdkafka, such as ``{"bootstrap.servers": "127.0.0.1:9092"}``. The topic has to have as many
    partitions as there are ``streams``, or more. Values are the frames, headers tell when they were received and of
    which connection; :func:`kafka_entry` reads them. Where Kafka is away :meth:`publish` waits; :meth:`close` from any
    thread ends that, and gives up what Kafka has not taken. Raises ``ConfigurationError``.
    """

    def __init__(
        self, config: Mapping[str, Any], *, topic: str = DEFAULT_PREFIX, streams: int = DEFAULT_STREAMS
    ) -> None:
        if find_spec("confluent_kafka") is None:
            raise ConfigurationError('a relay through Kafka needs confluent-kafka: pip install "coinapi-ws[kafka]"')
        if type(streams) is not int or streams < 1:
            raise ConfigurationError("streams is an int of 1 or more")
        producer = _producer_of(config)
        del config
        if isinstance(producer, ConfigurationError):
            raise producer
        self._producer = producer
        self._topic = topic
        self._streams = streams
        self._closed = threading.Event()

    @property
    def streams(self) -> int:
        """How many partitions are used."""
        return self._streams

    def publish(self, batches: Sequence[Batch]) -> None:
        """Append all of these; see :class:`Publisher`."""
        delivery = _Delivery(sum(len(batch.entries) for batch in batches))
        for batch in batches:
            for entry in batch.entries:
                self._produce(batch, entry, delivery)
        while self._producer.flush(_LOOK_SECONDS):
            self._check(delivery)
        self._check(delivery)

    def close(self) -> None:
        """Let no call wait for Kafka any longer, and send no more of what it has not taken.

        Does not block. Idempotent; from any thread.
        """
        self._closed.set()
        self._purge()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _produce(self, batch: Batch, entry: Entry, delivery: _Delivery) -> None:
        from confluent_kafka import KafkaException

        received_ns, text = entry
        headers: list[tuple[str, str | bytes | None]] = [(_CONNECTION, batch.connection.encode())]
        if received_ns is not None:
            headers.append((_RECEIVED, str(received_ns).encode()))
        while True:
            self._check(delivery)
            try:
                self._producer.produce(
                    self._topic, text.encode(), partition=batch.stream, headers=headers, on_delivery=delivery.note
                )
            except BufferError:  # as many wait as may
                self._producer.poll(_LOOK_SECONDS)
            except KafkaException as error:
                raise RelayError(f"Kafka refused an entry: {error}") from None
            else:
                return

    def _check(self, delivery: _Delivery) -> None:
        if self._closed.is_set() and delivery.left:
            self._purge()
            raise RelayError(f"closed while Kafka was away; {delivery.left} entries are not known to be there")
        if delivery.refusals:
            raise RelayError(f"Kafka refused {len(delivery.refusals)} entries: {delivery.refusals[0]}")

    def _purge(self) -> None:
        """Give up what waits: librdkafka would try for ever, on threads of its own."""
        self._producer.purge()
        self._producer.poll(0)


class _Delivery:
    """What came of one call's entries. A producer's queue refers to it, so it must not refer to the producer."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.refusals: list[str] = []

    def note(self, error: Any, _message: object) -> None:
        if error is None:
            self.left -= 1
        else:
            self.refusals.append(str(error))


def _producer_of(config: Mapping[str, Any]) -> Any:
    """Return a producer, or the error to raise once the caller has dropped the configuration.

    That may hold a password, and a traceback may be printed with its locals (F24).
    """
    from confluent_kafka import KafkaException, Producer

    try:
        return Producer({**_DEFAULTS, **config})
    except KafkaException as error:
        return ConfigurationError(f"config is not one of librdkafka: {error}")


def kafka_entry(message: Any) -> tuple[str, Entry]:
    """Return connection and entry of a ``confluent_kafka.Message``, as :meth:`EntryDecoder.decode` takes them."""
    headers = dict(message.headers() or ())
    received = headers.get(_RECEIVED)
    return headers[_CONNECTION].decode(), Entry(None if received is None else int(received), message.value().decode())
