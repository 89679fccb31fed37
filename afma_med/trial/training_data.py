"""The data that the trainings of a list were trained on, so that they are not mixed with trainings on other data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from afma_med.bundle.installed import bundles_folder
from afma_med.data.dataset_digest import describe_change, digest_dataset
from afma_med.trial.training_list import Training, result_path

__all__ = ["check_data", "data_file", "digest_data"]

# Ids that decide which files are read, and how.
_OF_READER = ("dataset_dir", "reader", "fold", "mask_values")


def digest_data(trainings: Sequence[Training], options: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Digest the dataset of each training, by name; nothing for datasets whose folder is not given.

    Args:
        trainings: Trainings of a list.
        options: Further ids and their values for all of them.
    """
    known: dict[str, dict[str, str]] = {}
    digests = {}
    for one in trainings:
        given = {**one.options, **options}
        of_reader: dict[str, Any] = {name: given[name] for name in _OF_READER if name in given}
        key = json.dumps([one.bundle, one.overlays, of_reader])
        if key not in known:
            parser = ConfigParser()
            parser.read_config([str(bundles_folder() / f"{name}.json") for name in (one.bundle, *one.overlays)])
            parser.update(of_reader)
            folder = of_reader.get("dataset_dir")
            known[key] = {} if folder is None else digest_dataset(parser.get_parsed_content("reader"), str(folder))
        digests[one.name] = known[key]
    return digests


def check_data(
    trainings: Sequence[Training], data: Mapping[str, Mapping[str, str]], runs_dir: Path, results_dir: Path
) -> None:
    """Refuse to add to results, or to go on with trainings, of other data.

    Args:
        trainings: Trainings of a list.
        data: Digests of :func:`digest_data`.
        runs_dir: Folder of the runs.
        results_dir: Folder of the results.

    Raises:
        ValueError: If the dataset has changed since a training began; the message names both.
    """
    for training in trainings:
        for path in (result_path(training, results_dir), data_file(runs_dir / training.name)):
            earlier, now = _read_data(path), data[training.name]
            if earlier and now and (change := describe_change(earlier, now)):
                raise ValueError(
                    f"the dataset must be that of the earlier trainings; since {training.name}, it has changed: "
                    f"{change}. Name new folders for the trainings and their results, or restore the dataset."
                )


def _read_data(path: Path) -> dict[str, str]:
    """Return the digest in a result or in a file of its own; nothing from older or damaged files."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content.get("data", {}) if path.suffix == ".json" else content)
    except (FileNotFoundError, AttributeError, TypeError, ValueError):
        return {}  # whoever reads a damaged result reports it


def data_file(folder: Path) -> Path:
    """Return the file that keeps the digest of the data of a training."""
    return folder.with_name(f"{folder.name}.data")
