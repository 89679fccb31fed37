"""``afma package``: write a trained bundle for MONAI's model zoo, Label and Deploy."""

from __future__ import annotations

import argparse

from afma_med.bundle.installed import bundle_names
from afma_med.cli.arguments import Commands, add_parser

__all__ = ["add_command"]

_DESCRIPTION = """\
Write a trained bundle as a directory for MONAI's model zoo, MONAI Label and MONAI Deploy."""

_EXAMPLES = """
afma package camvid --checkpoint runs/camvid_afma/model.pt
afma package lits --checkpoint runs/lits_afma/model.pt --version 1.2.0 --overwrite --zip
"""


def add_command(commands: Commands) -> None:
    """Add ``afma package``."""
    names = bundle_names()
    summary = "write a trained bundle as a directory for MONAI's model zoo, Label and Deploy"
    parser = add_parser(commands, "package", summary, description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("name", metavar="NAME", choices=names, help=f"dataset: {', '.join(names)}")
    parser.add_argument("--checkpoint", required=True, help="a run's model.pt, next to its settings.json")
    parser.add_argument("--output_dir", default="packages", help="folder for NAME_afma (default: packages)")
    parser.add_argument("--version", default="0.1.0", help="of the packaged model (default: 0.1.0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier package")
    parser.add_argument("--zip", action="store_true", dest="archive", help="write NAME_afma_vVERSION.zip too")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from afma_med.bundle.package import package_bundle

    folder = package_bundle(
        given.name,
        given.checkpoint,
        output_dir=given.output_dir,
        version=given.version,
        overwrite=given.overwrite,
        archive=given.archive,
    )
    print(
        f"The package is in {folder}. Try it: cd {folder} && "
        "python -m monai.bundle run --config_file configs/inference.json --input FILE_OR_FOLDER"
    )
    return 0
