"""Keep a finished run in one small JSON file, which can be compared without its folder."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from afma_med.atomic_write import replacing
from afma_med.bundle.settings import check_plain
from afma_med.runs.run import PixelCounts, Run

__all__ = ["read_result", "write_result"]

_VERSION = 1


def write_result(path: str | os.PathLike[str], run: Run, *, details: Mapping[str, Any] | None = None) -> None:
    """Write settings, scores, curve and pixel counts of a run as JSON. Of paths, only the names are kept.

    Args:
        path: File to write.
        run: Run to keep.
        details: More entries of the file, such as commit and machine.

    Example:
        >>> import tempfile
        >>> counts = PixelCounts(("a.png",), ("car",), ("all",), np.ones((1, 1, 1, 4), dtype=np.int64))
        >>> path = tempfile.mkdtemp() + "/result.json"
        >>> write_result(path, Run(Path("run"), {"name": "camvid_afma"}, {"images": 1}, {"IoU/car": 1.0}, counts))
        >>> read_result(path).scores
        {'IoU/car': 1.0}
    """
    shortened = {key: Path(run.evaluation[key]).name for key in ("checkpoint", "dataset") if key in run.evaluation}
    settings = {name: value for name, value in run.settings.items() if name != "dataset_dir"}
    if first := settings.get("training", {}).get("initial_weights"):
        # Runs of a list end with seed and fold, which differ between the runs of an arm.
        named = re.sub(r"_\d+(_fold\d+)?$", "", Path(first).name)
        settings["training"] = {**settings["training"], "initial_weights": named}
    pixels = zlib.compress(run.counts.pixels.astype("<i8").tobytes(), level=9)
    content = {
        "version": _VERSION,
        **(details or {}),
        "settings": settings,
        "evaluation": {**run.evaluation, **shortened},
        # JSON has no NaN.
        "scores": {name: None if math.isnan(value) else value for name, value in run.scores.items()},
        "curve": {str(epoch): value for epoch, value in run.curve.items()},
        "counts": {
            **run.counts._asdict(),
            "pixels": {"shape": run.counts.pixels.shape, "zlib": base64.b64encode(pixels).decode()},
        },
    }
    with replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_result(path: str | os.PathLike[str]) -> Run:
    """Read the file of :func:`write_result`.

    Args:
        path: File to read; it becomes the ``folder`` of the run.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is incomplete or not a result; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"`folder` must be a run or the JSON file of a run; there is no `{path}`. Check the path."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check_plain(content["settings"])
        counts = content["counts"]
        pixels = np.frombuffer(zlib.decompress(base64.b64decode(counts["pixels"]["zlib"])), dtype="<i8")
        return Run(
            path,
            content["settings"],
            content["evaluation"],
            {name: math.nan if value is None else float(value) for name, value in content["scores"].items()},
            PixelCounts(
                images=tuple(counts["images"]),
                classes=tuple(counts["classes"]),
                objects=tuple(counts["objects"]),
                pixels=pixels.reshape(counts["pixels"]["shape"]).astype(np.int64),
            ),
            {int(epoch): float(value) for epoch, value in content["curve"].items()},
            _find_arm(content),
        )
    except (AttributeError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise ValueError(
            f"`{path}` must be the result of a run; got: {type(error).__name__}: {error}. "
            "Name a result of a list of trainings, or the run's folder."
        ) from error


def _find_arm(content: Mapping[str, Any]) -> str:
    """Return the arm of a training of a list, which is named ARM_SEED, and the protocol of its evaluation."""
    training = content.get("training", {})
    arm = str(training.get("pooled") or training.get("name", "")).rpartition("_")[0]
    return ", ".join(filter(None, [arm, content.get("protocol")]))
