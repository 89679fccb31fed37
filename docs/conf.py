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

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "bundle_ids"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

highlight_language = "text"
html_theme = "furo"
html_title = "afma_med"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sourcelink = False


def link_files(app: Any, name: str, source: list[str]) -> None:
    """Link names of the package to the API reference, and Markdown files outside this folder as downloads."""
    source[0] = re.sub(r"\]\((\.\./[^)#\s]+\.md)(#[^)]*)?\)", r"](path:\1)", source[0])
    if name != "api":
        source[0] = re.sub(r"(?<![`\w}])`(afma_med\.[A-Za-z_.]+)`", r"{py:obj}`\1`", source[0])


def setup(app: Any) -> None:
    """Register the hook."""
    app.connect("source-read", link_files)
