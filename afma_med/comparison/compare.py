"""Compare finished runs, and write figures, tables and pictures into one folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from afma_med.comparison.arms import (
    group_by_name,
    group_runs,
    pair_with,
    pair_with_baselines,
    spell_setting,
    usual_settings,
)
from afma_med.comparison.charts import draw_charts
from afma_med.comparison.comparable import check_comparable
from afma_med.comparison.files import check_replaceable, write_folder
from afma_med.comparison.gallery import draw_galleries
from afma_med.comparison.results import Comparison, Published, compare_with_baselines, summarise_arm
from afma_med.comparison.tables import find_reader, group_classes
from afma_med.runs.result_file import read_result
from afma_med.runs.run import Run, read_run
from afma_med.samples import is_sample

__all__ = ["compare_runs", "read_evaluated"]

logger = logging.getLogger(__name__)

_FEW_SEEDS = {
    0: "no common seeds; the difference is that of the means, without an interval over seeds.",
    1: "one common seed, so that there is no interval over seeds; the difference may be that of any two trainings, "
    "whatever the interval over images.",
}


def compare_runs(
    folders: Sequence[str | os.PathLike[str] | Run],
    output_dir: str | os.PathLike[str] | None = None,
    *,
    resamples: int = 2000,
    images: int = 8,
    seed: int = 0,
    baseline: str | None = None,
    published: Published | None = None,
) -> Path:
    """Compare finished runs, and write the results as a page, tables and pictures.

    Runs that differ in nothing but their seed form an arm. Each arm with AFMA is compared with the baseline of the
    same network, encoder and training. The folder appears when it is complete, in place of an earlier comparison.

    Args:
        folders: one or more runs that were evaluated in the same way: their folders or result files (JSON), or runs
            that were read from them.
        output_dir: folder for the files; default: ``comparisons/NAME``, after the bundle.
        resamples: number of resamples of the bootstrap over images.
        images: number of images to show that AFMA helped most, and that it hurt most; 0 for none.
        seed: of the bootstrap.
        baseline: name of the arm of a list of trainings with which every other arm is compared, such as a control;
            the arms then have the names of the list. Default: what has no AFMA.
        published: scores of the same images that were published elsewhere, to show below those of the arms.

    Returns:
        The folder: ``index.html`` (everything), ``comparison.md``, ``details.md``,
        ``comparison.json`` (every figure), and the pictures.

    Raises:
        FileNotFoundError: if a folder is not an evaluated run.
        ValueError: if a run's files are malformed, the runs cannot be compared, or a number is out of range.
        FileExistsError: if ``output_dir`` holds other files.

    Example:
        >>> compare_runs(["runs/none"])
        Traceback (most recent call last):
        FileNotFoundError: `folder` must be the folder of a run; there is no `runs/none`. Check the path.
    """
    for name, value, least in (("resamples", resamples, 1), ("images", images, 0)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}; got {value}. Pass a larger number.")
    runs = [one if isinstance(one, Run) else read_evaluated(one) for one in folders]
    check_comparable(runs, named=baseline is not None)
    target = Path(output_dir or Path("comparisons", runs[0].settings["name"]))
    check_replaceable(target)
    published = published or Published()
    found = _compute(runs, resamples=resamples, seed=seed, baseline=baseline)
    found = found._replace(published=published, notes=[*found.notes, *filter(None, [published.note])])
    charts, left_out = draw_charts(found)
    galleries, reasons = draw_galleries(found, images=images)
    for warning in (*left_out, *reasons):
        logger.warning(warning)
    write_folder(target, found._replace(notes=[*found.notes, *left_out, *reasons]), [*charts, *galleries])
    return target


def read_evaluated(path: str | os.PathLike[str]) -> Run:
    """Read an evaluated run from its folder, or from its result file (JSON)."""
    return read_result(path) if Path(path).suffix == ".json" else read_run(path)


def _compute(runs: Sequence[Run], *, resamples: int, seed: int, baseline: str | None) -> Comparison:
    if baseline is None:
        arms = group_runs(runs)
        pairings, alone = pair_with_baselines(arms)
    else:
        arms = group_by_name(runs)
        pairings, alone = pair_with(arms, baseline), []
    gains = compare_with_baselines(pairings, groups=group_classes(runs[0]), resamples=resamples, seed=seed)
    notes = []
    if baseline is None and (usual := usual_settings([arm.settings for arm in arms])):
        named = (f"{name.removeprefix('training.')} {spell_setting(value)}" for name, value in usual.items())
        notes.append(f"Where a row does not say otherwise: {'; '.join(named)}.")
    notes += [
        f"{label}: no baseline of the same network, encoder and training is among the runs, so that nothing is said of "
        "what AFMA adds."
        for label in alone
    ]
    common = [(gain.pairing.label, len(gain.pairing.common_seeds)) for gain in gains]
    notes += [f"{label}: {_FEW_SEEDS[count]}" for label, count in common if count in _FEW_SEEDS]
    title, scope = _describe(runs[0])
    return Comparison(
        title=title,
        scope=scope,
        run=runs[0],
        arms=[summarise_arm(arm) for arm in arms],
        gains=gains,
        published=Published(),
        notes=notes,
        resamples=resamples,
        seed=seed,
    )


def _describe(run: Run) -> tuple[str, str]:
    """The name of the dataset, and the number of images and their section."""
    reader, count = find_reader(run), run.evaluation["images"]
    name = run.settings["name"] if reader is None else reader.title
    sample = ", embedded synthetic sample" if is_sample(run.evaluation.get("dataset", "")) else ""
    kind = "image" if reader is None or reader.read_volume is None else "volume"
    return name + sample, f"{count} {kind}{'s' * (count != 1)} of the section {run.evaluation['section']}"
