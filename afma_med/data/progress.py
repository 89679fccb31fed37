"""Many files at once, with a bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

__all__ = ["map_with_progress"]

T = TypeVar("T")
R = TypeVar("R")


def map_with_progress(function: Callable[[T], R], items: Sequence[T], *, title: str, unit: str) -> Iterator[R]:
    """Call a function for every item in threads, since decoders release the interpreter's lock, and show a bar.

    Args:
        function: of one item.
        items: what to call it with.
        title: of the bar.
        unit: what the bar counts.

    Returns:
        The results in the order of the items.

    Example:
        >>> list(map_with_progress(str, [1, 2], title="Writing", unit="number"))
        ['1', '2']
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # None: no bar where stderr is no terminal.
        yield from tqdm(pool.map(function, items), total=len(items), desc=title, unit=unit, disable=None)
