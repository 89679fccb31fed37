"""Text tables for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

__all__ = ["format_share", "format_table"]


def format_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,), style: str = "plain"
) -> str:
    """Align the columns of a table of texts: ``left`` lists those on the left; ``style`` is that of tabulate.

    Example:
        >>> print(format_table(("class", "images"), [("car", "7")]))
        class      images
        car             7
    """
    align = ["left" if column in left else "right" for column in range(len(head))]
    return str(tabulate(rows, head, tablefmt=style, colalign=align if rows else None, disable_numparse=True))


def format_share(share: float, digits: int = 0) -> str:
    """Format a share in percent, so that only nothing is 0% and only all is 100%.

    Example:
        >>> format_share(0.25), format_share(0.001), format_share(0.999), format_share(1), format_share(0.00001, 2)
        ('25%', '<1%', '>99%', '100%', '<0.01%')
    """
    text, least = f"{share:.{digits}%}", 10.0**-digits
    if share > 0 and float(text[:-1]) == 0:
        return f"<{least:.{digits}f}%"
    return f">{100 - least:.{digits}f}%" if share < 1 and float(text[:-1]) == 100 else text
