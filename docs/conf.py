"""Sphinx's settings. Build: `python -m sphinx -W -n -b html docs docs/_build`."""

from importlib.metadata import version as installed_version

project = "Tercet"
author = "The Tercet developers"
copyright = "The Tercet developers"
release = installed_version("tercet")
version = release

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3  # `page.md#a-heading` works, as it does where the source is browsed

html_theme = "furo"
html_title = f"Tercet {release}"
html_copy_source = False
