"""Text tables for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

__all__ = ["format_table"]


def format_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,), style: str = "plain"
) -> str:
    """Align the columns of a table.

    Args:
        head: Titles of the columns.
        rows: Cells of each row.
        left: Indices of the columns that are aligned on the left; the others are aligned on the right.
        style: ``"plain"``, or ``"github"`` for Markdown.

    Example:
        >>> print(format_table(("class", "images"), [("car", "7")]))
        class      images
        car             7
    """
    align = ["left" if column in left else "right" for column in range(len(head))]
    return str(tabulate(rows, head, tablefmt=style, colalign=align if rows else None, disable_numparse=True))
