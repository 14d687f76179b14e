"""Tables of what was measured, and whether the project's targets are met."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any, Final, NamedTuple

from .blaster import WIRES
from .clients import gives

SYNC: Final = "websockets-sync+json"
PICOWS: Final = "picows+json"
LATENCIES: Final = ("p50", "p99", "p99.9")
MIB: Final = 1024 * 1024

#: From (section, client) to what each round measured.
Results = defaultdict[tuple[str, str], list[dict[str, float]]]


class Target(NamedTuple):
    """What a client shall need of what another one needs, at most; of ``rate`` at least."""

    what: str
    section: str
    client: str
    limit: float
    reference: str
    metric: str = "cpu_us"
    #: So much is enough, whatever the reference needs.
    enough: float = 0.0


def over_tls(section: str) -> Iterator[Target]:
    for way in ("stream", "inline", "dispatched"):
        what = f"{way}, {WIRES[section].title}"
        yield Target(what, section, way, 1.0, PICOWS)
        yield Target(what, section, f"{way}+speed", 1.0, "picows+uvloop+orjson")


TARGETS: Final = (
    Target("blocking stream, base install", "plain", "stream", 0.5, SYNC),
    Target("blocking stream, base install", "plain", "stream", 1.0, PICOWS),
    Target("blocking stream, speed extra", "plain", "stream+speed", 0.95, "picows+msgspec"),
    Target("blocking stream, speed extra", "plain", "stream+speed", 0.2, SYNC),
    Target("client, inline callbacks", "plain", "inline", 1.35, "stream"),
    Target("client, inline callbacks", "plain", "inline+speed", 1.35, "stream+speed"),
    Target("client, dispatched", "plain", "dispatched", 1.7, "stream"),
    Target("client, dispatched", "plain", "dispatched+speed", 1.7, "stream+speed"),
    Target("client, dispatched: throughput", "plain", "dispatched", 1.0, PICOWS, "rate"),
    *over_tls("tls"),
    *over_tls("records"),
    Target("permessage-deflate, context kept", "deflate", "stream", 0.6, SYNC),
    Target("permessage-deflate, no context takeover", "deflate-fresh", "stream", 0.6, SYNC),
    Target("decimal mode, base install", "plain", "stream+decimal", 0.7, "websockets-sync+json+decimal"),
    Target("framing alone", "plain", "framing", 1.3, "picows-framing", enough=0.5),
    *(
        Target(f"latency at 1,000 messages/s, inline: {metric}", "latency-1000", "inline", 1.0, reference, metric)
        for reference in (SYNC, PICOWS)
        for metric in ("p50", "p99")
    ),
    Target("peak RSS, grown from few to many messages, MiB", "memory", "stream", 10.0, "", "growth_mib"),
    Target("peak RSS, grown from few to many messages, MiB", "memory", "inline", 10.0, "", "growth_mib"),
    Target("peak RSS, grown from few to many messages, MiB", "memory", "dispatched", 10.0, "", "growth_mib"),
    Target(
        "import time",
        "imports",
        "import coinapi_ws",
        1.5,
        "import wsproto, ssl, json, selectors, threading",
        "import_ms",
    ),
)


def middle(results: Results, section: str, client: str, metric: str) -> float | None:
    """Return the median of the rounds, None where nothing was measured."""
    values = [sample[metric] for sample in results.get((section, client), []) if metric in sample]
    return median(values) if values else None


def ratio(results: Results, section: str, client: str, reference: str, metric: str) -> float | None:
    """Return one client's median by another's."""
    above, below = (middle(results, section, name, metric) for name in (client, reference))
    return above / below if above is not None and below else None


def section_table(results: Results, section: str) -> str:
    """Return a section's title and table, nothing where nothing was measured."""
    names = [client for where, client in results if where == section]
    if not names:
        return ""
    if section in WIRES:
        return wire_table(results, section, names)
    if section.startswith("latency"):
        return latency_table(results, section, names)
    return {"memory": memory_table, "imports": import_table}[section](results, names)


def wire_table(results: Results, section: str, names: list[str]) -> str:
    names.sort(key=lambda name: middle(results, section, name, "cpu_us") or 0.0)
    head = ["client", "gives", "CPU µs/message", f"/ {SYNC}", f"/ {PICOWS}", "messages/s", "peak RSS, MiB"]
    rows = []
    for name in names:
        costs = middle(results, section, name, "cpu_us")
        ratios = [ratio(results, section, name, reference, "cpu_us") for reference in (SYNC, PICOWS)]
        memory = (middle(results, section, name, "peak_rss_bytes") or 0.0) / MIB
        pauses = [middle(results, section, name, f"gc_{which}_ms") for which in ("longest", "total")]
        rate = middle(results, section, name, "rate")
        cells = [number(costs, 2), *(number(value, 2) for value in ratios), number(rate, 0), number(memory, 0)]
        rows.append([name, gives(name), *cells, " / ".join(number(pause, 1) for pause in pauses)])
    return f"## {WIRES[section].title}\n\n{table([*head, 'GC ms, longest / all'], rows, texts=2)}"


def latency_table(results: Results, section: str, names: list[str]) -> str:
    names.sort(key=lambda name: middle(results, section, name, "p50") or 0.0)
    rows = [
        [name, gives(name), *(number(middle(results, section, name, metric), 0) for metric in LATENCIES)]
        for name in names
    ]
    title = f"## Latency at {int(section.split('-')[1]):,} messages/s, µs from sending to the callback"
    return f"{title}\n\n{table(['client', 'gives', *LATENCIES], rows, texts=2)}"


def memory_table(results: Results, names: list[str]) -> str:
    metrics = ("few_mib", "many_mib", "growth_mib")
    rows = [[name, *(number(middle(results, "memory", name, metric), 1) for metric in metrics)] for name in names]
    return f"## Peak RSS, MiB\n\n{table(['client', 'few messages', 'many messages', 'growth'], rows, texts=1)}"


def import_table(results: Results, names: list[str]) -> str:
    rows = [[name, number(middle(results, "imports", name, "import_ms"), 1)] for name in names]
    return f"## Import time\n\n{table(['statement', 'ms'], rows, texts=1)}"


def target_table(results: Results) -> str:
    """Return which of the targets were measured, and how they stand."""
    rows = []
    for what, section, client, limit, reference, metric, enough in TARGETS:
        value = middle(results, section, client, metric)
        measured = ratio(results, section, client, reference, metric) if reference else value
        if value is None or measured is None:
            continue
        is_met = measured >= limit if metric == "rate" else measured <= limit or value <= enough
        wanted = f"{'at least' if metric == 'rate' else 'at most'} {limit:g}{' of' if reference else ''} {reference}"
        wanted += f", or {enough:g} µs" if enough else ""
        shown = number(measured, 2) + (f" ({number(value, 2)} µs)" if enough else "")
        rows.append([what, client, wanted.strip(), shown, "yes" if is_met else "no"])
    if not rows:
        return ""
    return f"## Targets\n\n{table(['what', 'client', 'target', 'measured', 'met'], rows, texts=3)}"


def table(head: list[str], rows: list[list[str]], texts: int) -> str:
    """Return a table in Markdown, the first columns texts, the others numbers."""
    rules = ["---"] * texts + ["---:"] * (len(head) - texts)
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rules)}|", *lines[1:], ""])


def number(value: Any, decimals: int) -> str:
    return "" if value is None else f"{value:,.{decimals}f}"
