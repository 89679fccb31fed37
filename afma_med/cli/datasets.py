"""``afma check``, ``afma objects`` and ``afma advise``: look into a dataset before training."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

from afma_med.bundle.installed import bundle_names
from afma_med.cli.arguments import command, positive_int

if TYPE_CHECKING:
    from afma_med.data.dataset_reader import DatasetReader

__all__ = ["MASK_VALUES", "SECTIONS", "advise", "check", "find_reader", "objects"]

#: As :data:`afma_med.data.dataset_reader.SECTIONS`, which would load torch.
SECTIONS = ("train", "val", "test")
#: As :data:`afma_med.data.mask_values.MaskValues`.
MASK_VALUES = ("auto", "instances", "votes")


def find_reader(name: str) -> DatasetReader:
    """Find a dataset of the package by its name, or any DatasetReader by MODULE:NAME.

    Raises:
        ArgumentTypeError: if there is none.
    """
    from afma_med.data.dataset_reader import DatasetReader
    from afma_med.data.readers import READERS

    if name in READERS:
        return READERS[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise argparse.ArgumentTypeError(f"unknown dataset {name!r}; choose of {list(READERS)}, or name MODULE:READER")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise argparse.ArgumentTypeError(f"{name!r} cannot be imported: {error}") from error
    if not isinstance(found, DatasetReader):
        raise argparse.ArgumentTypeError(f"{name!r} must be a DatasetReader; it is a {type(found).__name__}")
    return found


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(bundle_names())
    parser.add_argument("reader", metavar="name", type=find_reader, help=f"{names}, or MODULE:READER for your own")
    parser.add_argument("root", help="folder of the dataset")
    parser.add_argument("--section", choices=SECTIONS, help="look at this section only")
    parser.add_argument("--mask_values", choices=MASK_VALUES, default="auto", help="what the values of masks mean")


def _reader(given: argparse.Namespace) -> DatasetReader:
    from afma_med.data.picture_reader import with_mask_values

    return with_mask_values(given.reader, given.mask_values)


@command("look into every file of a dataset; print counts, sizes, classes, objects, problems", _add_dataset)
def check(given: argparse.Namespace) -> int:
    """Look into every file of a dataset; print sections, image sizes, classes with their weights, objects by
    size, warnings, and every problem. The exit code is 1 if there is a problem, 2 if the dataset is missing.

    examples:
    afma check camvid data/camvid
    afma check lits data/lits --section train
    afma check nuclei data/nuclei --mask_values instances
    afma check mydata:READER data/mine          a DatasetReader of your own, in mydata.py
    """
    from afma_med.advice.dataset_report import report_dataset

    text, sound = report_dataset(_reader(given), given.root, [given.section] if given.section else SECTIONS)
    print(text, end="")
    return 0 if sound else 1


def _add_objects(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument("--output_dir", help="folder for objects.csv and objects.png (default: objects/NAME)")


@command("count the objects of a dataset by class and size; write a table and a bar chart", _add_objects)
def objects(given: argparse.Namespace) -> int:
    """Count the objects of a dataset by class and size; print the table, and write it with a bar chart.

    examples:
    afma objects camvid data/camvid
    afma objects lits data/lits --section train --output_dir lits_objects
    """
    from afma_med.advice.dataset_report import report_objects

    folder = given.output_dir or f"objects/{given.reader.name}"
    print(report_objects(_reader(given), given.root, [given.section] if given.section else SECTIONS, folder), end="")
    return 0


def _add_advise(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument("--network", default="Unet", help="network of segmentation_models_pytorch (default: Unet)")
    parser.add_argument("--encoder", default="resnet34", help="its encoder (default: resnet34)")
    parser.add_argument(
        "--longest_side", type=positive_int, help="pixels that images are resized to (default: their own)"
    )
    parser.add_argument("--output_dir", help="folder for the results (default: advice/NAME)")


@command("say which objects a network would lose, and recommend settings that keep them", _add_advise)
def advise(given: argparse.Namespace) -> int:
    """Measure the objects of a dataset's labels against the cells of a network and AFMA's patches, and recommend
    resolution, crop, feature, patch size, sampling and loss, each with its reason. No training is needed.

    examples:
    afma advise camvid data/camvid
    afma advise isic data/isic --longest_side 256 --encoder resnet50
    """
    from afma_med.advice.advise import advise as look
    from afma_med.advice.advise import write_advice

    advice = look(
        _reader(given),
        given.root,
        section=given.section or "train",
        network=given.network,
        encoder=given.encoder,
        longest_side=given.longest_side,
    )
    print(write_advice(advice, given.reader.title, given.output_dir or f"advice/{given.reader.name}"), end="")
    return 0
