"""The tables as a picture: CPU time a message on each wire, and latencies."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from .blaster import WIRES
from .clients import FRAMING, OUR_WAYS
from .report import LATENCIES, Results, middle

OURS_COLOR: Final = "#c4512d"
PEER_COLOR: Final = "#5b7c99"
SHADES: Final = (1.0, 0.5, 0.25)  # of p50, p99, p99.9
ROW_INCHES: Final = 0.22


def draw(results: Results, path: Path, title: str) -> None:
    """Write a PNG, if there is anything to draw. Raises ``ImportError`` without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sections: dict[str, list[str]] = {}
    for section, client in results:
        if section in WIRES or section.startswith("latency"):
            sections.setdefault(section, []).append(client)
    if not sections:
        return
    pairs = [list(sections)[place : place + 2] for place in range(0, len(sections), 2)]
    heights = [max(len(sections[section]) for section in pair) for pair in pairs]
    columns = len(pairs[0])
    figure, axes = pyplot.subplots(
        len(pairs),
        columns,
        squeeze=False,
        figsize=(8 * columns, ROW_INCHES * sum(heights) + 1.1 * len(pairs) + 0.5),
        height_ratios=heights,
        layout="constrained",
    )
    for axis in axes.flat[len(sections) :]:
        axis.set_axis_off()
    for (section, clients), axis in zip(sections.items(), axes.flat, strict=False):
        dots(axis, results, section, [client for client in clients if client not in FRAMING])
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def dots(axis: Any, results: Results, section: str, clients: list[str]) -> None:
    """Draw one section, the best client on top. Not bars: they would mean nothing on a logarithmic scale."""
    metrics = ("cpu_us",) if section in WIRES else LATENCIES
    clients = sorted(clients, key=lambda client: middle(results, section, client, metrics[0]) or 0.0, reverse=True)
    colors = [OURS_COLOR if client.split("+")[0] in OUR_WAYS else PEER_COLOR for client in clients]
    axis.set_xscale("log")
    axis.grid(axis="x", which="both", alpha=0.2)
    for metric, shade in zip(metrics, SHADES, strict=False):
        values = [middle(results, section, client, metric) or 0.0 for client in clients]
        axis.scatter(values, clients, color=colors, alpha=shade, s=22)
        if metric == metrics[0]:
            for client, value, color in zip(clients, values, colors, strict=True):
                label = f"{value:,.{2 if section in WIRES else 0}f}"
                axis.annotate(label, (value, client), (6, -2.5), textcoords="offset points", fontsize=7, color=color)
    axis.tick_params(labelsize=7)
    if section in WIRES:
        axis.set_title(f"CPU µs a message, {WIRES[section].title}", fontsize=9, loc="left")
    else:
        rate = int(section.split("-")[1])
        axis.set_title(f"Latency at {rate:,} messages/s, µs: {', '.join(LATENCIES)}", fontsize=9, loc="left")
