"""Compare finished runs: figures, tables and pictures, into one folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from afma_med.research.comparison.arms import (
    Arm,
    check_comparable,
    group_runs,
    pair_with_baselines,
    spell_setting,
    usual_settings,
)
from afma_med.research.comparison.files import Comparison
from afma_med.research.comparison.layout import find_reader, group_classes, lay_out_tables
from afma_med.research.comparison.output_folder import check_replaceable, write_folder
from afma_med.research.comparison.paper import describe_paper, find_paper_tables
from afma_med.research.comparison.pictures import draw_charts, draw_galleries
from afma_med.research.comparison.results import Gain, compare_with_baselines, summarise_arm
from afma_med.research.comparison.tables import write_table
from afma_med.runs.result_file import read_result
from afma_med.runs.run import Run, read_run
from afma_med.samples import is_sample

__all__ = ["compare_runs"]

logger = logging.getLogger(__name__)


def compare_runs(
    folders: Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str] | None = None,
    *,
    resamples: int = 2000,
    images: int = 8,
    seed: int = 0,
) -> Path:
    """Compare finished runs, and write what was found as a page, tables and pictures.

    Runs that differ in nothing but their seed are gathered to arms; each arm with AFMA is compared with the
    baseline of the same network, encoder and training. The folder appears when it is complete, in place of an earlier
    comparison.

    Args:
        folders: of runs that were evaluated alike, or the JSON files of such runs; one or more.
        output_dir: folder for the files; default: ``comparisons/NAME``, after the bundle.
        resamples: of the bootstrap over images.
        images: that AFMA helped most, and hurt most, to show; 0 for none.
        seed: of the bootstrap.

    Returns:
        The folder: ``index.html`` (all of it), ``comparison.md``, ``details.md``, ``comparison.csv``,
        ``comparison.json``, and the pictures.

    Raises:
        FileNotFoundError: if a folder is not an evaluated run.
        ValueError: if a run's files are malformed, the runs cannot be compared, or a number is out of range.
        FileExistsError: if ``output_dir`` holds something else.

    Example:
        >>> compare_runs(["runs/none"])
        Traceback (most recent call last):
        FileNotFoundError: `folder` must be the folder of a run; there is no `runs/none`. Check the path.
    """
    for name, value, least in (("resamples", resamples, 1), ("images", images, 0)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}; got {value}. Pass a larger number.")
    runs = [read_result(folder) if Path(folder).suffix == ".json" else read_run(folder) for folder in folders]
    check_comparable(runs)
    target = Path(output_dir or Path("comparisons", runs[0].settings["name"]))
    check_replaceable(target)
    found = _compute(runs, resamples=resamples, seed=seed)
    charts, left_out = draw_charts(found)
    galleries, reasons = draw_galleries(found, images=images)
    for warning in (*left_out, *reasons):
        logger.warning(warning)
    write_folder(target, found._replace(notes=[*found.notes, *left_out, *reasons]), [*charts, *galleries])
    return target


def _compute(runs: Sequence[Run], *, resamples: int, seed: int) -> Comparison:
    """All figures, and the tables of them."""
    arms = group_runs(runs)
    pairings, alone = pair_with_baselines(arms)
    groups = group_classes(runs[0])
    gains = compare_with_baselines(pairings, groups=groups, resamples=resamples, seed=seed)
    scores = [summarise_arm(arm) for arm in arms]
    paper, why_not = find_paper_tables(runs[0], {arm.settings["network_name"] for arm in arms})
    layouts = lay_out_tables(runs[0], (name for one in scores for name in one.scores))
    notes = [
        f"{label}: no baseline of the same network, encoder and training is among the runs, so that nothing is said of "
        "what AFMA adds."
        for label in alone
    ]
    return Comparison(
        title=_title(runs[0]),
        scope=_scope(runs[0]),
        run=runs[0],
        arms=scores,
        gains=gains,
        paper=paper,
        tables=[write_table(layout, scores, gains, paper) for layout in layouts],
        notes=[*_usual_notes(arms), *notes, *_seed_notes(gains), *filter(None, [why_not, describe_paper(paper)])],
        resamples=resamples,
        seed=seed,
    )


def _title(run: Run) -> str:
    reader = find_reader(run)
    name = run.settings["name"] if reader is None else reader.title
    return f"{name}, embedded synthetic sample" if is_sample(run.evaluation.get("dataset", "")) else name


def _scope(run: Run) -> str:
    reader = find_reader(run)
    what = "volume" if reader is not None and reader.read_volume is not None else "image"
    count = run.evaluation["images"]
    return f"{count} {what}{'s' * (count != 1)} of the section {run.evaluation['section']}"


def _usual_notes(arms: Iterable[Arm]) -> list[str]:
    usual = usual_settings([arm.settings for arm in arms])
    named = (f"{name.removeprefix('training.')} {spell_setting(value)}" for name, value in usual.items())
    return [f"Where a row does not say otherwise: {'; '.join(named)}."] if usual else []


def _seed_notes(gains: Iterable[Gain]) -> list[str]:
    """What people should know of comparisons with few seeds."""
    notes = []
    for gain in gains:
        common = len(gain.pairing.common_seeds)
        if common == 0:
            notes.append(
                f"{gain.pairing.label}: no common seeds; the difference is that of the means, without an interval over "
                "seeds."
            )
        if common == 1:
            notes.append(
                f"{gain.pairing.label}: one common seed, so that there is no interval over seeds; the difference may "
                "be that of any two trainings, whatever the interval over images."
            )
    return notes
