"""The directive ``session-states``: a session's transitions as a diagram and a table, from what the code reads."""

from __future__ import annotations

from enum import Enum
from typing import Any

from diagram import svg_of
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from coinapi_ws.protocol import states


def comment_on(member: Enum) -> str:
    """Return the ``#:`` comment that stands beside a member of an enum."""
    kind = type(member)
    comments = ModuleAnalyzer.for_module(kind.__module__).find_attr_docs()
    return " ".join(comments[kind.__name__, member.name]).strip()


class SessionStates(SphinxDirective):
    """Diagram, then a table with what each step and each state means."""

    def run(self) -> list[nodes.Node]:
        picture = nodes.raw("", f'<div class="states">{svg_of(states.TRANSITIONS)}</div>', format="html")
        rows = ["", ".. list-table::", "   :header-rows: 1", "", "   * - from", "     - step", "     - to"]
        for (before, step), after in states.TRANSITIONS.items():
            rows += [
                f"   * - {before.name}",
                f"     - *{step.value}*: {comment_on(step)}",
                f"     - {after.name}: {comment_on(after)}",
            ]
        table = nodes.container()
        self.state.nested_parse(StringList([*rows, ""], self.get_source_info()[0]), self.content_offset, table)
        return [picture, *table.children]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("session-states", SessionStates)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
