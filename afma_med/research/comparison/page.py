"""The page of a comparison: one HTML file that opens anywhere, without a server and without other files."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from afma_med.research.comparison.arms import spell_setting
from afma_med.research.comparison.results import Comparison
from afma_med.research.comparison.tables import TextTable, size_headings

__all__ = ["Picture", "format_page"]

_STYLE = """
body { margin: 0 auto; padding: 1rem; max-width: 1400px; background: #fff; color: #1a1a1a;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; } h3 { font-size: 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; font-arm-numeric: tabular-nums; }
th, td { padding: .3rem .45rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #888; vertical-align: bottom; white-space: normal; max-width: 6rem; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
.words th, .words td { text-align: left; white-space: normal; }
tr.difference td { font-weight: 600; border-bottom: 0; } tr.difference td, tr.interval td { background: #eef4fa; }
tr.interval td { font-size: .72rem; } tr.interval td:first-child { padding-left: 1.4rem; }
tr.paper td { color: #555; font-style: italic; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: .5rem 0; flex: 1 1 26rem; max-width: 46rem; } figure.wide { flex: 1 1 100%; max-width: 100%; }
figure.wide { overflow-x: auto; } figure.wide img { min-width: 56rem; }
img { max-width: 100%; height: auto; } figcaption { font-size: .9rem; color: #333; }
.notes { background: #f3f3f3; border-left: 4px solid #888; padding: .6rem 1rem .6rem 2rem; font-size: .9rem; }
summary { cursor: pointer; font-weight: 600; } dt { font-weight: 600; margin-top: .6rem; } dd { margin-left: 1.2rem; }
@media (max-width: 600px) { .figures th:first-child, .figures td:first-child { white-space: normal; min-width: 7rem; } }
"""
_DEFINITIONS = {
    "IoU": "Pixels (voxels) that label and prediction share, divided by those that either has, summed over all images. "
    "mIoU is its mean over the classes that occur; mIoU small and mIoU large are the means over the paper's small and "
    "large classes.",
    "By size of object": "An object is a connected component of a class. IoU counts the pixels of label objects of a "
    "size and of predicted objects of that size; recall is the share of the label objects' pixels that is predicted as "
    "their class, whatever the size of the predicted object. Both are means over the classes that have objects of that "
    "size in the labels.",
    "± and seeds": "Mean over the runs of an arm, which differ in the seed of their training, ± the sample standard "
    "deviation (n − 1).",
    "Difference": "Arm minus baseline, in percentage points: the mean of the differences between runs of the same "
    "seed. Without common seeds it is the difference of the means.",
    "95 % over seeds": "Student's t interval of those differences. It estimates what other seeds would give on these "
    "images. It needs two common seeds, and is wide with few.",
    "95 % over images": "Percentile bootstrap: {resamples} times, as many images as there are were drawn with "
    "replacement, the same for all runs, their pixels summed, the scores computed again and averaged over the seeds. "
    "It estimates what other images of this kind would give for the same trained networks.",
    "Single images": "The mean IoU of an image is the mean over the classes that occur in its label, averaged over the "
    "common seeds.",
}


class Picture(NamedTuple):
    """Hold a picture of the page.

    Args:
        name: of its file.
        section: heading of its section.
        caption: text below it.
        content: of the PNG file.
        wide: whether it takes the whole width of the page.
    """

    name: str
    section: str
    caption: str
    content: bytes
    wide: bool = False


def format_page(found: Comparison, tables: Sequence[TextTable], pictures: Sequence[Picture]) -> str:
    """Format a comparison as an HTML page that holds its pictures.

    Args:
        found: the comparison.
        tables: its tables.
        pictures: in the order of the page.
    """
    title = escape(f"{found.title}: AFMA and baseline compared")
    sections = [_section(name, pictures) for name in dict.fromkeys(picture.section for picture in pictures)]
    main, details = ([_figures(table) for table in tables if table.detail == detail] for detail in (False, True))
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    body = [
        f"<h1>{title}</h1>",
        f"<p>{escape(_lead(found))}</p>",
        f'<ul class="notes">{notes}</ul>' if notes else "",
        # The first charts belong to the short table, the others follow the long ones.
        *(*main[:1], *sections[:1], *main[1:], *sections[1:]),
        *(("<details><summary>Classes by size of object</summary>", *details, "</details>") if details else ()),
        _what_was_compared(found),
        _definitions(found),
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{chr(10).join(filter(None, body))}\n</body>\n</html>\n"
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


def _definitions(found: Comparison) -> str:
    rows = "".join(
        f"<dt>{escape(term)}</dt><dd>{escape(text.format(resamples=found.resamples))}</dd>"
        for term, text in _DEFINITIONS.items()
    )
    return f"<h2>How the numbers are defined</h2><dl>{rows}</dl>"
