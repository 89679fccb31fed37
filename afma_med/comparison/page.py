"""The page of a comparison: one HTML file that opens anywhere, without a server and without other files."""

from __future__ import annotations

import base64
import importlib.resources
import os
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple
from urllib.parse import quote

from afma_med.comparison.arms import spell_setting
from afma_med.comparison.results import Comparison
from afma_med.comparison.tables import TextTable, size_headings
from afma_med.handlers.run_files import EXPLORER
from afma_med.networks.hypercolumn_net import has_attention

__all__ = ["Picture", "format_page"]


class Picture(NamedTuple):
    """Hold a picture of the page: names of its file and section, caption, PNG file, and whether it fills the width."""

    name: str
    section: str
    caption: str
    content: bytes
    wide: bool = False


def format_page(
    found: Comparison, tables: Sequence[TextTable], pictures: Sequence[Picture], *, folder: str | os.PathLike[str]
) -> str:
    """Format a comparison as an HTML page that holds its tables and pictures.

    Args:
        found: Comparison.
        tables: Its tables.
        pictures: Its charts and examples.
        folder: Folder of the page, from which it links to the attention explorers of the runs.
    """
    sections = [_section(name, pictures) for name in dict.fromkeys(picture.section for picture in pictures)]
    main, details = ([_figures(table) for table in tables if table.detail == detail] for detail in (False, True))
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    body = [
        f"<p>{escape(_lead(found))}</p>",
        f'<ul class="notes">{notes}</ul>' if notes else "",
        # The first charts belong to the short table, the others follow the long ones.
        *(*main[:1], *sections[:1], *main[1:], *sections[1:]),
        *(
            ("<details><summary>Classes by size and company of objects</summary>", *details, "</details>")
            if details
            else ()
        ),
        _explorers(found, folder),
        _what_was_compared(found),
    ]
    template = importlib.resources.files("afma_med.comparison") / "page.html"
    return Template(template.read_text(encoding="utf-8")).substitute(
        title=escape(f"{found.title}: AFMA and baseline compared"),
        body="\n".join(filter(None, body)),
        resamples=found.resamples,
    )


def _lead(found: Comparison) -> str:
    """What was compared, in two sentences."""
    arms = [f"{one.arm.label} (seeds {', '.join(map(str, one.arm.seeds))})" for one in found.arms]
    shared = _shared_settings(found)
    model = " ".join(str(shared[name]) for name in ("network_name", "encoder") if name in shared)
    classes = len(found.run.counts.classes)
    return f"{found.scope}, {classes} scored classes. {model or 'Networks'}: {'; '.join(arms)}."


def _shared_settings(found: Comparison) -> dict[str, object]:
    first, *others = (one.arm.settings for one in found.arms)
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _what_was_compared(found: Comparison) -> str:
    """The runs of each arm, and the settings that all of them share."""
    runs = [
        (one.arm.label, str(run.seed), str(run.folder), str(run.evaluation.get("checkpoint", "")))
        for one in found.arms
        for run in one.arm.runs
    ]
    shared = [(name.removeprefix("training."), spell_setting(value)) for name, value in _shared_settings(found).items()]
    evaluation = found.run.evaluation
    shared += [("dataset", str(evaluation.get("dataset", ""))), ("section", evaluation["section"])]
    shared += [("objects", ", ".join(size_headings(found.run).values()))] if evaluation["size_groups"]["names"] else []
    return (
        f"<h2>What was compared</h2>{_words(('arm', 'seed', 'run', 'checkpoint'), runs)}"
        f"<h3>The same for all runs</h3>{_words(('setting', 'value'), shared)}"
    )


def _explorers(found: Comparison, folder: str | os.PathLike[str]) -> str:
    """Links to the attention explorers of the runs, or the command that writes one; nothing without a run's folder."""
    runs = [run for one in found.arms for run in one.arm.runs]
    folders = [run.folder for run in runs if has_attention(run.settings) and run.folder.is_dir()]
    if not folders:
        return ""
    written = [one / EXPLORER for one in folders if (one / EXPLORER).is_file()]
    links = "".join(f'<li><a href="{_link(page, folder)}">{escape(str(page))}</a></li>' for page in written)
    command = escape(shlex.join(["afma", "show", str(folders[0]), "--explore", str(folders[0] / EXPLORER)]))
    text = f"Explore the attention of a run, patch by patch: <code>{command}</code> writes a page."
    return f"<h2>Attention explorer</h2><p>{text}</p>{f'<ul>{links}</ul>' if links else ''}"


def _link(page: Path, folder: str | os.PathLike[str]) -> str:
    try:
        return quote(Path(os.path.relpath(page.resolve(), os.path.realpath(folder))).as_posix())
    except ValueError:  # on another drive
        return page.resolve().as_uri()


def _words(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return _grid("words", header, (("", row) for row in rows))


def _figures(table: TextTable) -> str:
    return f"<h2>{escape(table.title)}</h2>{_grid('figures', table.header, table.rows)}"


def _grid(kind: str, header: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table that scrolls by itself where the page is narrow; rows are pairs of a CSS class and cells."""
    lines = [
        f'<tr class="{kind_of_row}">{"".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)}</tr>'
        for tag, kind_of_row, cells in (("th", "", header), *(("td", *row) for row in rows))
    ]
    return f'<div class="scroll"><table class="{kind}">\n{chr(10).join(lines)}\n</table></div>'


def _section(name: str, pictures: Iterable[Picture]) -> str:
    figures = "\n".join(_figure(picture) for picture in pictures if picture.section == name)
    return f'<h2>{escape(name)}</h2><div class="pictures">\n{figures}\n</div>'


def _figure(picture: Picture) -> str:
    source = f"data:image/png;base64,{base64.b64encode(picture.content).decode('ascii')}"
    caption = escape(picture.caption)
    kind = "wide" if picture.wide else "narrow"
    return f'<figure class="{kind}"><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
