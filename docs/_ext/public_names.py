"""Public names: each stands in the reference, what refers to where it is defined finds it, defaults are shown."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

LOGGER = logging.getLogger(__name__)
PUBLIC_MODULES = (
    "coinapi_ws",
    "coinapi_ws.metadata",
    "coinapi_ws.books",
    "coinapi_ws.relay",
    "coinapi_ws.simulator",
    "coinapi_ws.recording",
    "coinapi_ws.metrics",
)


def public_names() -> dict[str, object]:
    """From the full public name of each object to the object."""
    modules = {name: import_module(name) for name in PUBLIC_MODULES}
    return {
        f"{name}.{public}": getattr(module, public) for name, module in modules.items() for public in module.__all__
    }


def find_public(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.Node | None:
    """Resolve a name of a module that is not public; leave the standard library's as text, as all that is foreign."""
    if node.get("refdomain") != "py":
        return None
    target: str = node.get("reftarget", "")
    if target.partition(".")[0] in sys.stdlib_module_names:
        return contnode
    module, _, name = target.rpartition(".")
    wanted = getattr(sys.modules.get(module), name, None)
    # One that is not public may be explained under its bare name.
    names = [public for public, obj in public_names().items() if wanted is not None and obj is wanted] or [name]
    entry = env.domains["py"].objects.get(names[0])
    if entry is None:
        return None
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, names[0])


def show_defaults(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Put the value in the place of a constant that is a default."""
    module = vars(sys.modules[obj.__module__]) if hasattr(obj, "__module__") else {}

    def value_of(found: re.Match[str]) -> str:
        value = module.get(found[1])
        return f"= {value!r}" if isinstance(value, (str, int, float)) else found[0]

    return None if not signature else (re.sub(r"= ([A-Z][A-Z_]+)\b", value_of, signature), returns)


def check_public(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of a public name that the reference lacks."""
    described = {name for name, *_ in env.domains["py"].get_objects()}
    for name in public_names():
        if name not in described:
            LOGGER.warning("public, but not in the reference: %s", name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all three."""
    app.connect("missing-reference", find_public)
    app.connect("autodoc-process-signature", show_defaults)
    app.connect("env-check-consistency", check_public)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
