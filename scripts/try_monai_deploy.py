#!/usr/bin/env python
"""Run a packaged bundle of volumes as TorchScript through MONAI Deploy, and compare it with its own inference.

Run it by hand, in an environment of its own, which needs no GPU:

    python -m venv deploy && deploy/bin/pip install monai-deploy-app-sdk pydicom highdicom .
    deploy/bin/python scripts/try_monai_deploy.py packages/lits_afma volume-2.nii

It exits with 0 if both segmentations are the same, voxel by voxel.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application, Fragment, Image, IOType, Operator, OperatorSpec
from monai.deploy.operators.monai_bundle_inference_operator import (
    BundleConfigNames,
    IOMapping,
    MonaiBundleInferenceOperator,
)


def main() -> int:
    """Compare the two segmentations, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="folder that `afma package` wrote")
    parser.add_argument("volume", type=Path, help="NIfTI file")
    given = parser.parse_args()
    package, volume = given.package.resolve(), given.volume.resolve()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.ts")
        inference = ["--config_file", "configs/inference.json"]
        run_bundle(package, "ckpt_export", "network_def", "--filepath", str(model), "--ckpt_file", "models/model.pt",
                   "--meta_file", "configs/metadata.json", *inference)  # fmt: skip
        run_bundle(package, "run", *inference, "--input", str(volume), "--prediction_dir", str(Path(folder, "own")))
        [path] = Path(folder, "own").rglob("*.nii*")
        own = np.asarray(nibabel.load(path).dataobj)
        app = Segmentation(model, volume)
        app.run()
    theirs = np.swapaxes(app.result, 0, 2)  # an Image has its slices first
    if own.shape != theirs.shape:
        print(f"MONAI Deploy's segmentation has the size {theirs.shape}, that of the package {own.shape}.")
        return 1
    agree, classes = float((own == theirs).mean()), np.unique(theirs).tolist()
    print(
        f"MONAI Deploy ran {package.name} as TorchScript: size {theirs.shape}, classes {classes}; {agree:.2%} of the "
        "voxels are those of the package's own prediction."
    )
    return 0 if agree == 1 else 1


def run_bundle(package: Path, *arguments: str) -> None:
    """Run a command of monai.bundle in a package."""
    command = [sys.executable, "-m", "monai.bundle", *arguments]
    done = subprocess.run(
        command, cwd=package, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command[1:4])}` failed:\n{done.stdout[-3000:]}")


class Segmentation(Application):
    """Load a volume, segment it with the bundle operator, and keep the result."""

    def __init__(self, model: Path, volume: Path) -> None:
        self.model, self.volume = model, volume
        self.result: Any = None
        super().__init__()

    def compose(self) -> None:
        """Connect the three operators."""
        segment = MonaiBundleInferenceOperator(
            self,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            app_context=AppContext({}),
            bundle_path=self.model,
            bundle_config_names=BundleConfigNames(config_names=["inference"]),
            name="segment",
        )
        load = Load(self, CountCondition(self, 1), volume=self.volume, name="load")  # once
        self.add_flow(load, segment, {("image", "image")})
        self.add_flow(segment, Keep(self, self, name="keep"), {("pred", "pred")})


class Load(Operator):
    """Load a volume with its affine."""

    def __init__(self, fragment: Fragment, *conditions: Any, volume: Path, **options: Any) -> None:
        self.volume = volume
        super().__init__(fragment, *conditions, **options)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the output."""
        spec.output("image")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Emit the volume with its channel first, as a reader of MONAI gives it."""
        found = nibabel.load(self.volume)
        meta = {"affine": found.affine, "original_affine": found.affine, "spacing": found.header.get_zooms()}
        op_output.emit(Image(np.asarray(found.dataobj, dtype=np.float32)[None], meta), "image")


class Keep(Operator):
    """Keep the segmentation."""

    def __init__(self, fragment: Fragment, app: Segmentation, **options: Any) -> None:
        self.app = app
        super().__init__(fragment, **options)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the input."""
        spec.input("pred")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Receive the segmentation."""
        self.app.result = op_input.receive("pred").asnumpy()


if __name__ == "__main__":
    sys.exit(main())
