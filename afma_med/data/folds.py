"""Folds for cross-validation of datasets whose neighbouring images belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable

from afma_med.data.datalist import check_section

__all__ = ["FOLDS", "check_fold", "fold_names", "natural_key"]

#: How many folds there are.
FOLDS = 5


def fold_names(names: Iterable[str], section: str, *, fold: int) -> set[str]:
    """Return the names of a section; each name is in the test section of exactly one of the five folds.

    Names are cut into five runs of neighbours, because neighbouring slices often show one patient. The test section is
    the run of the fold. The val section is an eighth of all names, at least one, from the start of the run after the
    next (the first run follows the last), so it never borders on the test section. The train section is the rest.

    Args:
        names: of the images.
        section: ``"train"``, ``"val"`` or ``"test"``.
        fold: 0 to 4.

    Raises:
        ValueError: if the section or the fold is unknown, or there are fewer than five names.

    Example:
        >>> names = [f"slice{number}" for number in range(20)]
        >>> sorted(fold_names(names, "test", fold=0), key=natural_key)
        ['slice0', 'slice1', 'slice2', 'slice3']
        >>> sorted(fold_names(names, "val", fold=0), key=natural_key)
        ['slice8', 'slice9']
    """
    check_section(section)
    check_fold(fold)
    ordered = sorted(set(names), key=natural_key)
    if len(ordered) < FOLDS:
        raise ValueError(f"A dataset in {FOLDS} folds must have at least {FOLDS} images; got {ordered}. Add files.")
    starts = [len(ordered) * number // FOLDS for number in range(FOLDS + 1)]
    val = starts[(fold + 2) % FOLDS]
    parts = {
        "test": set(ordered[starts[fold] : starts[fold + 1]]),
        "val": set(ordered[val : val + max(1, len(ordered) // 8)]),
    }
    return parts[section] if section in parts else set(ordered).difference(*parts.values())


def check_fold(fold: object) -> None:
    """Raise a ValueError if a fold is not a whole number from 0 to 4.

    Example:
        >>> check_fold(5)
        Traceback (most recent call last):
        ValueError: `fold` must be a whole number from 0 to 4; got 5. For example: --fold 0
    """
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < FOLDS:
        raise ValueError(f"`fold` must be a whole number from 0 to {FOLDS - 1}; got {fold!r}. For example: --fold 0")


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts names by the numbers in them, ``"a9"`` before ``"a10"``."""
    # Every second part is a number, so numbers are compared with numbers.
    parts: list[str | int] = [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]
    return parts, name
