"""How Sphinx builds these pages: ``tox -e docs``, or ``sphinx-build -W --keep-going -n docs docs/_build/html``."""

from __future__ import annotations

import sys
from pathlib import Path

from coinapi_ws import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "coinapi_ws"
author = "The coinapi_ws authors"
project_copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "public_names", "message_fields", "state_diagram", "command_help"]
exclude_patterns = ["_build"]
nitpicky = True

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
python_display_short_literal_types = True
#: Single backticks in docstrings name something of the same module.
default_role = "py:obj"

nitpick_ignore = [
    ("py:class", "ssl_module.SSLContext"),  # as Client and connect call ssl, beside their parameter of that name
    ("py:class", "Decimal"),
    ("py:class", "Unpack"),
    ("py:class", "pytest.FixtureRequest"),
    ("py:class", "Metric"),  # of prometheus-client, which need not be there
]
nitpick_ignore_regex = [("py:class", r"coinapi_ws\.(client\.client|books\.\w+)\.[CEM]")]  # TypeVars

html_theme = "furo"
html_title = f"coinapi_ws {version}"
html_show_copyright = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
