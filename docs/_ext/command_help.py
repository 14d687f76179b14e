"""The directive ``command-help``: the help of each command of ``coinapi-ws``, from its parser."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from functools import partial
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from coinapi_ws.cli.arguments import parsers


class CommandHelp(SphinxDirective):
    """A section for each command."""

    def run(self) -> list[nodes.Node]:
        sections: list[nodes.Node] = []
        for name, parser in parsers()[1].items():
            # Not as wide as the terminal that builds this, nor in its colours, which argparse has since 3.14.
            parser.formatter_class, parser.color = partial(RawDescriptionHelpFormatter, width=100), False
            text = parser.format_help()
            section = nodes.section(ids=[f"command-{name}"])
            section += [nodes.title(text=f"coinapi-ws {name}"), nodes.literal_block(text, text, language="text")]
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
