"""What clients count, for Prometheus and what reads its formats.

:func:`openmetrics` writes it as OpenMetrics text (version 1.0.0), with the base install. With the extra ``prometheus``,
``registry.register(Collector(client))`` gives the same to `prometheus-client <https://prometheus.github.io/client_python/>`_.

Both take one client, or a mapping from names to clients, which may change, and whose names become the label ``client``.
They read :meth:`~coinapi_ws.Client.stats` when they are called: any thread may do so at any time, also before a client
is started and after it has ended, and it does not block. No label is of symbols, so that the number of series is bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .client.states import ClientState
from .client.statistics import ClientStats, Latency
from .events import Cause, ConnectionGap, SequenceGap
from .exceptions import ConfigurationError
from .timestamps import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from prometheus_client import Metric

    from .client.client import Client

__all__ = ["CONTENT_TYPE", "Collector", "openmetrics"]

#: What an HTTP response with this text says it is.
CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: ``name`` without what a counter's samples end in, ``kind`` and ``unit`` as OpenMetrics has them.

    ``read`` returns its value from state and counts of a client; where it has a ``label``, the values by those of the
    label; None where nothing is known.
    """

    name: str
    kind: str
    unit: str = ""
    help: str
    label: str | None = None
    read: Callable[[ClientState, ClientStats], float | Mapping[str, float] | None]

    @property
    def sample_name(self) -> str:
        """The name of its samples."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


#: A series that is there at 0 shows its first increase; one that comes with it does not.
_NO_GAPS: Final = {SequenceGap.__name__: 0, ConnectionGap.__name__: 0}
_NO_DISCONNECTS: Final = {cause.value: 0 for cause in Cause}


def _jumps_by_type(stats: ClientStats) -> Mapping[str, int]:
    counts = dict.fromkeys(stats.messages, 0)
    for (data_type, _), count in stats.jumps.items():
        counts[data_type] = counts.get(data_type, 0) + count
    return counts


def _latencies(latency: Latency | None) -> Mapping[str, float] | None:
    return None if latency is None else {"p50": latency.p50, "p99": latency.p99, "max": latency.max}


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / NANOSECONDS_PER_SECOND


#: What is measured, in the order in which it is written.
FAMILIES: Final = (
    Family(
        name="coinapi_ws_state",
        kind="stateset",
        help="Where the client stands; only while live does data come.",
        label="coinapi_ws_state",
        read=lambda state, _: {each.value: int(each is state) for each in ClientState},
    ),
    Family(
        name="coinapi_ws_messages_received",
        kind="counter",
        help="Messages that came, by the type on the wire.",
        label="type",
        read=lambda _, stats: stats.messages,
    ),
    Family(
        name="coinapi_ws_received_bytes",
        kind="counter",
        unit="bytes",
        help="Text of the messages that came, any character as one byte, by the type on the wire.",
        label="type",
        read=lambda _, stats: stats.bytes,
    ),
    Family(
        name="coinapi_ws_messages_delivered",
        kind="counter",
        help="Messages that were given to a callback or an iteration.",
        read=lambda _, stats: stats.delivered,
    ),
    Family(
        name="coinapi_ws_messages_unhandled",
        kind="counter",
        help="Messages that no callback listens to.",
        read=lambda _, stats: stats.unhandled,
    ),
    Family(
        name="coinapi_ws_messages_dropped",
        kind="counter",
        help="Messages that the queue's policy left out, or closing with a full queue.",
        read=lambda _, stats: stats.dropped,
    ),
    Family(
        name="coinapi_ws_messages_conflated",
        kind="counter",
        help="Messages in whose place a newer one was delivered.",
        read=lambda _, stats: stats.conflated,
    ),
    Family(
        name="coinapi_ws_messages_undelivered",
        kind="counter",
        help="Messages that came, or waited, when no callback might start any more.",
        read=lambda _, stats: stats.undelivered,
    ),
    Family(
        name="coinapi_ws_messages_surplus",
        kind="counter",
        help="Messages that the cross product of one hello brought beyond the scope.",
        read=lambda _, stats: stats.surplus,
    ),
    Family(
        name="coinapi_ws_messages_duplicate",
        kind="counter",
        help="Messages that came over both connections of a handover, the second time.",
        read=lambda _, stats: stats.duplicates,
    ),
    Family(
        name="coinapi_ws_queued_messages",
        kind="gauge",
        help="Messages that wait for callbacks.",
        read=lambda _, stats: stats.queued,
    ),
    Family(
        name="coinapi_ws_queued_messages_peak",
        kind="gauge",
        help="The most messages that ever waited for callbacks.",
        read=lambda _, stats: stats.queued_most,
    ),
    Family(
        name="coinapi_ws_queued_bytes",
        kind="gauge",
        unit="bytes",
        help="Text that waits for callbacks.",
        read=lambda _, stats: stats.queued_bytes,
    ),
    Family(
        name="coinapi_ws_gaps",
        kind="counter",
        help="Places where messages are missing, by the class of the event that told of it.",
        label="kind",
        read=lambda _, stats: {**_NO_GAPS, **stats.gaps},
    ),
    Family(
        name="coinapi_ws_sequence_jumps",
        kind="counter",
        help="Messages whose sequence did not follow, by type.",
        label="type",
        read=lambda _, stats: _jumps_by_type(stats),
    ),
    Family(
        name="coinapi_ws_reconnects",
        kind="counter",
        help="Connections that went live after the first one.",
        read=lambda _, stats: stats.reconnects,
    ),
    Family(
        name="coinapi_ws_disconnects",
        kind="counter",
        help="Connections that ended, and attempts that failed, by cause.",
        label="cause",
        read=lambda _, stats: {**_NO_DISCONNECTS, **stats.disconnects},
    ),
    Family(
        name="coinapi_ws_callback_failures",
        kind="counter",
        help="How often a callback raised.",
        read=lambda _, stats: stats.callback_failures,
    ),
    Family(
        name="coinapi_ws_last_message_timestamp_seconds",
        kind="gauge",
        unit="seconds",
        help="When the last message came, since the epoch.",
        read=lambda _, stats: _seconds(stats.last_message_ns),
    ),
    Family(
        name="coinapi_ws_latency_seconds",
        kind="gauge",
        unit="seconds",
        help="From time_coinapi to the arrival here, over the last minute.",
        label="stat",
        read=lambda _, stats: _latencies(stats.latency),
    ),
)


def openmetrics(clients: Client | Mapping[str, Client]) -> str:
    """Return what clients count, as OpenMetrics text."""
    measured = _measured(clients)
    lines: list[str] = []
    for family in FAMILIES:
        lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        if family.unit:
            lines.append(f"# UNIT {family.name} {family.unit}")
        for labels, value in _samples(family, measured):
            shown = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            lines.append(f"{family.sample_name}{f'{{{shown}}}' if shown else ''} {value}")
    return "\n".join([*lines, "# EOF\n"])


class Collector:
    """What clients count, for a registry of ``prometheus-client``: ``registry.register(Collector(client))``.

    Raises ``ConfigurationError`` where that is not installed.
    """

    def __init__(self, clients: Client | Mapping[str, Client]) -> None:
        try:
            from prometheus_client import Metric
        except ImportError:
            raise ConfigurationError(
                'a Collector needs prometheus-client: pip install "coinapi-ws[prometheus]"'
            ) from None
        self._new_metric = Metric
        self._clients = clients

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without values, for the registry to see which names are taken."""
        for family in FAMILIES:
            yield self._new_metric(family.name, family.help, family.kind, family.unit)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        measured = _measured(self._clients)
        for family, metric in zip(FAMILIES, self.describe(), strict=True):
            for labels, value in _samples(family, measured):
                metric.add_sample(family.sample_name, labels, value)
            yield metric


_Reading = tuple[dict[str, str], ClientState, ClientStats]


def _measured(clients: Client | Mapping[str, Client]) -> list[_Reading]:
    """Return labels, state and counts of each client, all read once."""
    if isinstance(clients, Mapping):
        return [({"client": name}, client.state, client.stats()) for name, client in dict(clients).items()]
    return [({}, clients.state, clients.stats())]


def _samples(family: Family, measured: list[_Reading]) -> Iterator[tuple[dict[str, str], float]]:
    for of_client, state, stats in measured:
        value = family.read(state, stats)
        if isinstance(value, Mapping):
            for name, one in value.items():
                yield _as_utf8(of_client | {str(family.label): name}), one
        elif value is not None:
            yield _as_utf8(of_client), value


def _as_utf8(labels: dict[str, str]) -> dict[str, str]:
    """Return the labels without half characters, which a name of a server's, or of a client, may have."""
    return {name: text.encode(errors="backslashreplace").decode() for name, text in labels.items()}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
