"""What clients count, as OpenMetrics text and in a registry: one declaration, and a parser that is not ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from client_harness import eventually
from peers import TRADES
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from coinapi_ws import Backoff, Cause, Client, ClientState, ClientStats, Latency
from coinapi_ws.drivers.pacing import SharedPacer
from coinapi_ws.metrics import CONTENT_TYPE, FAMILIES, Collector, openmetrics
from coinapi_ws.simulator import Simulator

PROJECT: Final = Path(__file__).resolve().parent.parent
DASHBOARD: Final = PROJECT / "examples" / "grafana_dashboard.json"
PAGE: Final = PROJECT / "docs" / "howto" / "metrics.md"

COUNTS: Final = ClientStats(
    messages={"trade": 7, "quote": 2, 'a "type"\\ of\nnobody\ud800': 1},
    bytes={"trade": 1_400, "quote": 200},
    rate=0.9,
    queued=3,
    queued_bytes=600,
    queued_most=12,
    delivered=5,
    unhandled=1,
    dropped=4,
    conflated=6,
    duplicates=8,
    undelivered=9,
    surplus=10,
    jumps={("book", "COINBASE_SPOT_BTC_USD"): 1, ("book", "KRAKEN_SPOT_BTC_USD"): 2, ("quote", "A"): 4},
    reconnects=11,
    disconnects={"network": 12, "rate_limit": 1},
    gaps={"SequenceGap": 13, "ConnectionGap": 11},
    callback_failures=14,
    last_message_ns=1_764_288_000_500_000_000,
    last_message_age=0.25,
    latency=Latency(p50=-0.001, p99=0.5, max=1.25, count=100),
    disconnected=None,
)
NOTHING: Final = replace(
    COUNTS, messages={}, bytes={}, jumps={}, disconnects={}, gaps={}, last_message_ns=None, latency=None
)


class Counted:
    """What was measured once, so that two readings are of the same."""

    def __init__(self, state: ClientState = ClientState.LIVE, counts: ClientStats = COUNTS) -> None:
        self.state = state
        self._counts = counts

    def stats(self) -> ClientStats:
        return self._counts


def parsed(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


def values(metrics: list[Metric], name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return the samples of this name, by their labels."""
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for metric in metrics
        for sample in metric.samples
        if sample.name == name
    }


def test_every_count_is_there() -> None:
    metrics = parsed(openmetrics(Counted()))
    assert values(metrics, "coinapi_ws_state") == {
        (("coinapi_ws_state", state.value),): float(state is ClientState.LIVE) for state in ClientState
    }
    assert values(metrics, "coinapi_ws_messages_received_total") == {
        (("type", "trade"),): 7,
        (("type", "quote"),): 2,
        (("type", 'a "type"\\ of\nnobody\\ud800'),): 1,
    }
    assert values(metrics, "coinapi_ws_received_bytes_total") == {(("type", "trade"),): 1400, (("type", "quote"),): 200}
    assert values(metrics, "coinapi_ws_gaps_total") == {
        (("kind", "SequenceGap"),): 13,
        (("kind", "ConnectionGap"),): 11,
    }
    assert values(metrics, "coinapi_ws_disconnects_total") == {
        (("cause", cause.value),): {"network": 12, "rate_limit": 1}.get(cause.value, 0) for cause in Cause
    }
    assert values(metrics, "coinapi_ws_latency_seconds") == {
        (("stat", "p50"),): -0.001,
        (("stat", "p99"),): 0.5,
        (("stat", "max"),): 1.25,
    }
    single = {
        "messages_delivered_total": 5,
        "messages_unhandled_total": 1,
        "messages_dropped_total": 4,
        "messages_conflated_total": 6,
        "messages_duplicate_total": 8,
        "messages_undelivered_total": 9,
        "messages_surplus_total": 10,
        "queued_messages": 3,
        "queued_messages_peak": 12,
        "queued_bytes": 600,
        "reconnects_total": 11,
        "callback_failures_total": 14,
        "last_message_timestamp_seconds": 1_764_288_000.5,
    }
    for name, value in single.items():
        assert values(metrics, f"coinapi_ws_{name}") == {(): value}, name


def test_no_label_is_of_symbols() -> None:
    metrics = parsed(openmetrics(Counted(counts=replace(COUNTS, messages={"quote": 9, "trade": 9}))))
    assert values(metrics, "coinapi_ws_sequence_jumps_total") == {
        (("type", "book"),): 3,
        (("type", "quote"),): 4,
        (("type", "trade"),): 0,
    }
    labels = {label for metric in metrics for sample in metric.samples for label in sample.labels}
    assert labels == {"coinapi_ws_state", "type", "kind", "cause", "stat"}


def test_what_is_not_known_has_no_sample() -> None:
    metrics = parsed(openmetrics(Counted(ClientState.IDLE, NOTHING)))
    empty = {metric.name.removeprefix("coinapi_ws_") for metric in metrics if not metric.samples}
    assert empty == {
        *("messages_received", "received_bytes", "sequence_jumps"),
        *("last_message_timestamp_seconds", "latency_seconds"),
    }


def test_what_can_happen_is_zero_before_it_does() -> None:
    """Or nobody saw its first increase."""
    metrics = parsed(openmetrics(Counted(ClientState.IDLE, NOTHING)))
    gaps, ends = (values(metrics, f"coinapi_ws_{name}_total") for name in ("gaps", "disconnects"))
    assert gaps == {(("kind", "SequenceGap"),): 0, (("kind", "ConnectionGap"),): 0}
    assert ends == {(("cause", cause.value),): 0 for cause in Cause}


@pytest.mark.parametrize(
    "clients",
    [Counted(), Counted(ClientState.IDLE, NOTHING), {}, {"a": Counted(), 'b "2"\n': Counted(ClientState.CLOSED)}],
    ids=["one", "nothing yet", "none", "two"],
)
def test_text_and_collector_are_the_same(clients: Any) -> None:
    text = openmetrics(clients)
    assert text.encode().decode() == text
    assert text.endswith("\n# EOF\n")
    assert parsed(text) == list(Collector(clients).collect())
    registry = CollectorRegistry()
    registry.register(Collector(clients))
    assert parsed(exposition.generate_latest(registry).decode()) == parsed(text)


def test_clients_are_told_apart_by_their_names_and_may_come_and_go() -> None:
    clients = {"left": Counted(), "right": Counted(ClientState.WAITING)}
    collector = Collector(clients)
    live = (("client", "left"), ("coinapi_ws_state", "live"))
    assert values(parsed(openmetrics(clients)), "coinapi_ws_state")[live] == 1
    assert values(list(collector.collect()), "coinapi_ws_state")[live] == 1
    del clients["left"]
    found = values(list(collector.collect()), "coinapi_ws_reconnects_total")
    assert found == {(("client", "right"),): 11} == values(parsed(openmetrics(clients)), "coinapi_ws_reconnects_total")


def test_names_and_units_are_as_the_convention_has_them() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert re.fullmatch(r"coinapi_ws(_[a-z]+)+", family.name)
        assert not family.name.endswith(("_total", "_count", "_sum", "_info", "_created", "_bucket"))
        assert family.name.endswith(family.unit)
        assert family.unit in ("", "bytes", "seconds")
        assert re.fullmatch(r'[A-Z][^"\\\n]+\.', family.help)
    # Without a unit, no name looks as if it had one.
    assert not [f.name for f in FAMILIES if not f.unit and f.name.endswith(("bytes", "seconds", "ms", "ns"))]


def test_the_registry_knows_which_names_are_taken() -> None:
    registry = CollectorRegistry()
    registry.register(Collector({}))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(Collector({}))


def test_the_content_type_is_what_prometheus_asks_for() -> None:
    assert CONTENT_TYPE == "application/openmetrics-text; version=1.0.0; charset=utf-8"


def test_promtool_finds_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool; it is in the Debian package prometheus")
    registry = CollectorRegistry()
    registry.register(Collector({"a": Counted(), "b": Counted()}))
    check = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(registry), capture_output=True, timeout=60, check=False
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_the_base_install_writes_text_and_says_what_a_collector_needs() -> None:
    program = """
import sys
sys.modules["prometheus_client"] = None
from coinapi_ws import ConfigurationError
from coinapi_ws.metrics import Collector, openmetrics
print(openmetrics({}).splitlines()[-1])
try:
    Collector({})
except ConfigurationError as error:
    print(error)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert finished.stdout == '# EOF\na Collector needs prometheus-client: pip install "coinapi-ws[prometheus]"\n'


@pytest.fixture
def make_client(canary_key: str) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(url: str) -> Client:
        clients.append(Client(canary_key, TRADES, endpoint=url, pacer=SharedPacer(), backoff=Backoff(initial=0.05)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def counters(metrics: list[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in metrics
        if metric.type == "counter"
        for sample in metric.samples
    }


def test_a_client_is_scraped_before_during_and_after_its_life_from_many_threads(
    make_client: Callable[..., Client],
) -> None:
    with Simulator(seed=1, activity=300) as simulator:
        client = make_client(simulator.url)
        client.on("trade", lambda trade: None)
        assert values(parsed(openmetrics(client)), "coinapi_ws_state")[(("coinapi_ws_state", "idle"),)] == 1
        readings: list[list[list[Metric]]] = [[], []]
        stop = threading.Event()

        def scrape(into: list[list[Metric]], read: Callable[[], list[Metric]]) -> None:
            while not stop.is_set() or len(into) < 10:
                into.append(read())

        collector = Collector(client)
        scrapers = [
            threading.Thread(target=scrape, args=(readings[0], lambda: parsed(openmetrics(client)))),
            threading.Thread(target=scrape, args=(readings[1], lambda: list(collector.collect()))),
        ]
        for scraper in scrapers:
            scraper.start()
        try:
            client.start()
            assert client.wait_live(10)
            for reconnects in (1, 2):
                simulator.faults.drop(reset=True)
                eventually(lambda least=reconnects: client.stats().reconnects >= least)
            assert client.close()
        finally:
            stop.set()
            for scraper in scrapers:
                scraper.join(30)
    for of_one in readings:
        before: dict[Any, float] = {}
        for metrics in of_one:
            now = counters(metrics)
            assert {name: value for name, value in before.items() if now[name] < value} == {}
            before = now
    after = parsed(openmetrics(client))
    assert values(after, "coinapi_ws_state")[(("coinapi_ws_state", "closed"),)] == 1
    received = values(after, "coinapi_ws_messages_received_total")[(("type", "trade"),)]
    assert received == client.stats().messages["trade"] > 0
    assert values(after, "coinapi_ws_last_message_timestamp_seconds")[()] * 1e9 == pytest.approx(
        client.stats().last_message_ns, abs=1e3
    )


# The dashboard, and the page


def expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def names_in(expression: Any) -> set[str]:
    """Return the names of all metrics in a parsed expression."""
    name = getattr(expression, "name", None)
    parts = [getattr(expression, part, None) for part in ("expr", "lhs", "rhs", "vector_selector", "param")]
    found = {name} if name is not None else set()
    for part in [*parts, *getattr(expression, "args", [])]:
        if part is not None:
            found |= names_in(part)
    return found


def test_the_dashboard_names_only_metrics_that_exist_and_each_of_them() -> None:
    promql_parser = pytest.importorskip("promql_parser", reason="no promql-parser for this interpreter")
    named: set[str] = set()
    for expression in expressions():
        # Grafana puts its own variables in before anybody parses it.
        tree = promql_parser.parse(expression.replace("$__rate_interval", "1m").replace("$client", ".*"))
        named |= names_in(tree)
    assert named == {family.sample_name for family in FAMILIES}


def test_the_dashboard_is_one_that_grafana_can_read() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text(encoding="utf-8")))
    assert used - {"__rate_interval", "__all"} == variables == {"datasource", "client"}
    label_values = [v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    assert label_values == ["label_values(coinapi_ws_state, client)"]
    labels = {label for panel in panels for target in panel["targets"] for label in _shown(target["legendFormat"])}
    assert labels <= {"client", *(family.label for family in FAMILIES)}


def _shown(legend: str) -> list[str]:
    return re.findall(r"\{\{(\w+)\}\}", legend)


def test_the_page_lists_each_metric() -> None:
    rows = re.findall(r"^\| `(coinapi_ws_\w+)` \| (\w+) \|([^|]*)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [(name, kind) for name, kind, _ in rows] == [(family.sample_name, family.kind) for family in FAMILIES]
    for family, (_, _, shown) in zip(FAMILIES, rows, strict=True):
        assert shown.strip() == ("" if family.label is None else f"`{family.label}`")
