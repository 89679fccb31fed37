"""Sphinx settings: MyST pages, the furo theme, autodoc of the public API. The build needs no internet."""

from __future__ import annotations

import re
import shutil
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

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "bundle_ids", "command_reference"]
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


def copy_laboratory() -> None:
    """Copy the pages of the laboratory and their pictures into this folder, so that they are pages of the site."""
    source, target = ROOT / "experiments", Path(__file__).parent / "experiments"
    shutil.rmtree(target, ignore_errors=True)
    for path in (*source.glob("*.md"), *source.glob("reports/*/*.png")):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


copy_laboratory()


def link_files(app: Any, name: str, source: list[str]) -> None:
    """Link names of the package to the API reference, and files outside this folder as downloads."""
    text, outside = source[0], "../"
    if name.startswith("experiments/"):
        outside = "../../"
        text = text.replace("](../", f"]({outside}").replace(f"]({outside}docs/", "](../")
        text = re.sub(r"\]\(((?:reports|results)/[^)]+\.(?:md|csv|txt)\))", rf"]({outside}experiments/\1", text)
    else:
        text = text.replace("](../experiments/", "](experiments/")
    if name == "experiments/README":
        text += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
    text = re.sub(rf"\]\(({re.escape(outside)}[^)#\s]+\.(?:md|csv|txt))(#[^)]*)?\)", r"](path:\1)", text)
    if name != "api":
        text = re.sub(r"(?<![`\w}])`(afma_med\.[A-Za-z_.]+)`", r"{py:obj}`\1`", text)
    source[0] = text


def setup(app: Any) -> None:
    """Register the hook."""
    app.connect("source-read", link_files)
