"""Call a function for many files, in threads, with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

__all__ = ["map_files"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Seconds between two reports of the progress in a log file; shorter work is not reported there.
_LOG_INTERVAL = 30


def map_files(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, title: str, unit: str = "file"
) -> list[_Result]:
    """Return ``[function(item) for item in items]``, computed in threads.

    The terminal shows the progress and the remaining time; a log file gets them every 30 seconds. An exception, or
    Ctrl-C, ends the work after the items that were begun.

    Args:
        function: called once for each item; it should spend its time outside of Python, as decoders do.
        items: such as paths.
        title: of the progress bar.
        unit: name of one item.
    """
    intervals = ("mininterval", "maxinterval", "delay")
    pace = {} if sys.stderr.isatty() else dict.fromkeys(intervals, _LOG_INTERVAL)
    with ThreadPoolExecutor() as pool, tqdm(total=len(items), desc=title, unit=unit, **pace) as progress:
        try:
            results = []
            for result in pool.map(function, items):
                results.append(result)
                progress.update()
            return results
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
