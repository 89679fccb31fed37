"""The results of a trial: the page of the comparison, the table of paired differences, and what they can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scipy import stats

from afma_med.atomic_write import replacing
from afma_med.comparison.arms import Arm, Pairing, group_by_name
from afma_med.comparison.compare import compare_runs
from afma_med.comparison.results import CONFIDENCE, compare_with_baselines, summarise_arm
from afma_med.comparison.tables import TableLayout, format_markdown, group_classes, write_table
from afma_med.runs.run import read_run
from afma_med.trial.training_list import Training

__all__ = ["TrialReport", "explain_seeds", "report_trial"]

_SCORES = {"mIoU": "mIoU", "mIoU_small": "mIoU small"}
_KINDS = ("IoU", "recall")


class TrialReport(NamedTuple):
    """Hold the page, the file of the table, and its text with what the seeds can tell."""

    page: Path
    table: Path
    text: str


def report_trial(
    trainings: Sequence[Training], output_dir: Path, *, images: int = 8, resamples: int = 2000
) -> TrialReport:
    """Compare the finished runs of a trial, and write the page and the table of paired differences.

    Args:
        trainings: Trainings of :func:`afma_med.trial.trial.run_trial`.
        output_dir: Folder of the trial. The page goes to ``comparison/index.html`` in it, the table to ``table.md``.
        images: Number of examples of each kind on the page.
        resamples: Resamples of the bootstrap over images.

    Raises:
        FileNotFoundError: If a run is not evaluated.
        ValueError: If the runs cannot be compared.
    """
    folders = {one.name: output_dir / "runs" / one.name for one in trainings}
    page = compare_runs(list(folders.values()), output_dir / "comparison", images=images, resamples=resamples)
    arms = group_by_name([read_run(folder)._replace(arm=name.rpartition("_")[0]) for name, folder in folders.items()])
    text = f"{_paired_table(arms, resamples)}\n\n{explain_seeds(len(arms[0].runs))}\n"
    table = output_dir / "table.md"
    with replacing(table) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return TrialReport(page / "index.html", table, text)


def explain_seeds(count: int) -> str:
    """Explain what a number of seeds can tell.

    Example:
        >>> print(explain_seeds(1))
        One seed gives no interval over seeds: the difference may be that of any two trainings.
    """
    if count == 1:
        return "One seed gives no interval over seeds: the difference may be that of any two trainings."
    reach, of_five = (_reach(number) for number in (count, 5))
    return (
        f"With {count} seeds, the 95 % interval over seeds is the mean difference ± {reach:.1f} standard deviations of "
        f"the paired differences (± {of_five:.1f} with 5 seeds). If it holds 0, the trial shows neither that a form "
        "helps nor that it does not. Few seeds and short trainings can rule out a large gain or loss, and can hardly "
        "prove a small one. The interval over images is about other images for these networks, not about other "
        "trainings. Attention helps only if `released` is better than `hypercolumn` too, which has none."
    )


def _reach(count: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) / math.sqrt(count)


def _paired_table(arms: Sequence[Arm], resamples: int) -> str:
    """Format the scores of all arms, and the differences of each pair of them, the later one minus the earlier."""
    run = arms[0].runs[0]
    pairings = [Pairing(arm, other) for place, arm in enumerate(arms) for other in arms[:place]]
    gains = compare_with_baselines(pairings, groups=group_classes(run), resamples=resamples)
    sizes = run.evaluation["size_groups"]["names"]
    of_sizes = {f"{kind}_by_size/{size}": f"{kind}, {size} objects" for kind in _KINDS for size in sizes}
    columns = {score: heading for score, heading in (_SCORES | of_sizes).items() if score in run.scores}
    layout = TableLayout("Paired differences", columns)
    return format_markdown(write_table(layout, map(summarise_arm, arms), gains))
