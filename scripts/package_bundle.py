#!/usr/bin/env python
"""Write a trained bundle as a directory for MONAI's model zoo, MONAI Label and MONAI Deploy."""

from __future__ import annotations

import argparse

from afma_med.bundle.package import package_bundle
from afma_med.data import READERS


def main() -> None:
    """Package what the command line names and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", metavar="NAME", choices=READERS, help=f"dataset: {', '.join(READERS)}")
    parser.add_argument("--checkpoint", required=True, help="a run's model.pt, beside its settings.json")
    parser.add_argument("--output_dir", default="packages", help="folder for NAME_afma (default: packages)")
    parser.add_argument("--version", default="0.1.0", help="of the packaged model (default: 0.1.0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier package")
    parser.add_argument("--zip", action="store_true", dest="archive", help="write NAME_afma_vVERSION.zip too")
    args = parser.parse_args()
    try:
        folder = package_bundle(**vars(args))
    except (FileExistsError, FileNotFoundError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    print(
        f"The package is in {folder}. Try it: cd {folder} && "
        "python -m monai.bundle run --config_file configs/inference.json --input FILE_OR_FOLDER"
    )


if __name__ == "__main__":
    main()
