"""A diagram of states as SVG, drawn from a table of transitions. Pure text: no program or library draws it.

The states stand below each other in their order. A step to the next one is a straight arrow; any other is an arc, to
the right where it goes down and to the left where it goes up. No step of the table leads back to its own state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from html import escape

BOX_WIDTH, BOX_HEIGHT, ROW = 150, 36, 92
#: How much further out the arc of a longer step is.
ARC_STEP = 84
LETTER_WIDTH = 7.2


def svg_of(transitions: Mapping[tuple[Enum, Enum], Enum]) -> str:
    """Return the diagram: a group for each state and each transition, whose ids name them."""
    states = list(type(next(iter(transitions))[0]))
    rows = {state: row for row, state in enumerate(states)}
    # Steps that lead from one state to the same other one share an arrow.
    arrows: dict[tuple[Enum, Enum], list[Enum]] = {}
    for (before, step), after in transitions.items():
        arrows.setdefault((before, after), []).append(step)
    spans = [rows[after] - rows[before] for before, after in arrows]
    longest = max(len(step.value) for _, step in transitions) * LETTER_WIDTH + 16
    # An arc reaches three quarters of the way to its control points.
    right = max([0, *spans]) * ARC_STEP * 0.75 + longest
    left = -min([0, *spans]) * ARC_STEP * 0.75 + (longest if min(spans) < 0 else 8)
    width, height = left + BOX_WIDTH + right, (len(states) - 1) * ROW + BOX_HEIGHT + 8
    parts = [
        f'<svg class="states" role="img" aria-label="{escape(type(states[0]).__name__)}: states and transitions" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        'xmlns="http://www.w3.org/2000/svg" font-family="inherit" font-size="13" fill="currentColor">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8z"/></marker></defs>',
    ]
    for (before, after), steps in arrows.items():
        path, x, y = _arrow(rows[before], rows[after], left)
        names = ", ".join(str(step.value) for step in steps)
        anchor = "end" if rows[after] < rows[before] else "start"
        ids = " ".join(f"{before.name}-{step.name}-{after.name}" for step in steps)
        parts.append(
            f'<g class="transition" data-transition="{escape(ids)}">'
            f'<path d="{path}" fill="none" stroke="currentColor" marker-end="url(#arrow)"/>'
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-style="italic">{escape(names)}</text></g>'
        )
    for state, row in rows.items():
        parts.append(
            f'<g class="state" data-state="{escape(state.name)}">'
            f'<rect x="{left:g}" y="{_top(row):g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" '
            'fill="none" stroke="currentColor"/>'
            f'<text x="{left + BOX_WIDTH / 2:g}" y="{_middle(row) + 4.5:g}" text-anchor="middle">'
            f"{escape(state.name)}</text></g>"
        )
    return "\n".join([*parts, "</svg>"])


def _top(row: int) -> float:
    return 4 + row * ROW


def _middle(row: int) -> float:
    return _top(row) + BOX_HEIGHT / 2


def _arrow(before: int, after: int, left: float) -> tuple[str, float, float]:
    """Return the path from row to row, and where its label stands."""
    span = after - before
    if span == 1:
        x = left + BOX_WIDTH / 2
        start, end = _top(before) + BOX_HEIGHT, _top(after) - 1
        return f"M{x:g} {start:g}V{end:g}", x + 8, (start + end) / 2 + 4
    side = left + BOX_WIDTH if span > 1 else left
    out = side + span * ARC_STEP
    # Of the arcs of one state a longer one lies outside of the others, at both ends.
    apart = min(abs(span), 4) * 4 - 8
    start, end = _middle(before) - apart, _middle(after) + apart
    middle = (start + end) / 2 + 4
    label = side + span * ARC_STEP * 0.75 + (6 if span > 1 else -6)
    return f"M{side:g} {start:g}C{out:g} {start:g} {out:g} {end:g} {side:g} {end:g}", label, middle
