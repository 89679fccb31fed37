"""Sphinx settings: MyST pages, the furo theme, autodoc of the public API. The build needs no internet."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "_ext")]

from afma_med import __version__  # noqa: E402

project = "afma_med"
author = "the authors of afma_med"
copyright = "the authors of afma_med"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "bundle_ids"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
# The links in tables of ids and steps name Python objects and files; autodoc's targets are checked by the tests.
nitpicky = False

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "afma_med"
html_copy_source = False
html_show_sourcelink = False


def link_files(app: Any, name: str, source: list[str]) -> None:
    """Make downloads of the Markdown files outside this folder, which are not pages."""
    source[0] = re.sub(r"\]\((\.\./[^)#\s]+\.md)(#[^)]*)?\)", r"](path:\1)", source[0])


def setup(app: Any) -> None:
    """Register the hook."""
    app.connect("source-read", link_files)
