"""``run``, ``compare``, ``measure``, ``negative_cases`` and ``rivals``: lists of trainings, and what came out."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from afma_med.cli.arguments import command, positive_int, positive_number
from afma_med.cli.runs import add_compare_options

__all__ = ["compare", "measure", "negative_cases", "rivals", "run"]

# That of sysexits.h for a failure that another try may end.
_NOT_DONE = 75
_RESULTS = Path(__file__).parents[1] / "results"


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("list", metavar="LIST", type=Path, help="such as experiments/lists/camvid.json")
    parser.add_argument("--dataset_dir", required=True, help="folder of the dataset")
    parser.add_argument("--only", metavar="ARM", nargs="+", help="these arms of the list only")
    parser.add_argument("--seeds", type=int, nargs="+", help="these seeds only")
    parser.add_argument("--runs_dir", type=Path, help="folder for the runs (default: runs/experiments/LIST)")
    parser.add_argument("--results_dir", type=Path, help="folder for the results (default: experiments/results/LIST)")
    parser.add_argument("--num_workers", type=int, default=1, help="of each training (default: %(default)s)")
    parser.add_argument(
        "--minutes",
        type=positive_number,
        help=f"stop after this time and exit with {_NOT_DONE}; the same command goes on (default: no limit)",
    )


@command("run a list of trainings, and write one result file for each", _add_run)
def run(given: argparse.Namespace) -> int:
    """Run a list of trainings: skip finished ones, resume interrupted ones, and write one JSON file for each.

    Start the same command several times to run as many trainings at once. Stop with Ctrl-C, and type the same
    command again to go on.

    examples:
    python -m experiments.lab run experiments/lists/camvid_fast.json --dataset_dir data/camvid
    python -m experiments.lab run experiments/lists/depth.json --dataset_dir data/camvid --only depth_3 --seeds 1 2
    """
    from afma_med.trial.stopping import TimeIsUp, stop_after, stop_on_signals
    from afma_med.trial.trainings import count_done, list_trainings, run_trainings
    from experiments.lab.figures import measure_result
    from experiments.lab.pooled_folds import pool_if_complete
    from experiments.lab.studies import complete_arm

    if not Path(given.dataset_dir).is_dir():
        raise ValueError(f"--dataset_dir must be a folder; there is none at {given.dataset_dir}. Check the path.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    runs = given.runs_dir or Path("runs", "experiments", given.list.stem)
    results = given.results_dir or _RESULTS / given.list.stem
    trainings = list_trainings(given.list, only=given.only, seeds=given.seeds, complete=complete_arm)
    try:
        # However the list ends, its running training ends too and saves a checkpoint.
        with stop_on_signals(), stop_after(given.minutes):
            failed = run_trainings(
                trainings,
                runs_dir=runs,
                results_dir=results,
                options={"dataset_dir": given.dataset_dir, "num_workers": given.num_workers},
                measure=measure_result,
                pool=pool_if_complete,
            )
    except TimeIsUp:
        sys.stderr.write(
            f"{given.minutes:g} minutes are over: {count_done(trainings, results)} of {len(trainings)} trainings are "
            f"done. The next one has saved its state in {runs}. Run the same command again to go on.\n"
        )
        return _NOT_DONE
    if failed:
        sys.stderr.write(f"error: {len(failed)} trainings failed: {', '.join(failed)}. Run the same command again.\n")
        return 1
    print(f"The results are in {results}. Compare them: python -m experiments.lab compare {results}/*.json")
    return 0


@command("compare results as `afma compare` does, next to the rows of the paper", add_compare_options)
def compare(given: argparse.Namespace) -> int:
    """Compare finished, evaluated runs as `afma compare` does, with the paper's rows where they fit.

    examples:
    python -m experiments.lab compare experiments/results/camvid/*.json --output_dir comparison
    """
    from afma_med.cli.runs import print_comparison
    from afma_med.comparison.compare import compare_runs, read_evaluated
    from experiments.lab.paper import publish_paper

    runs = [read_evaluated(path) for path in given.runs]
    options = {"resamples": given.resamples, "images": given.images, "baseline": given.baseline}
    print_comparison(compare_runs(runs, given.output_dir, published=publish_paper(runs), **options))
    return 0


def _add_measure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder, such as runs/camvid_afma, or result file")
    parser.add_argument("--section", default="val", help="section of the dataset (default: %(default)s)")
    parser.add_argument("--by_class", action="store_true", help="print a table of the classes of each run too")
    parser.add_argument("--limit", type=positive_int, help="use only the first LIMIT images")
    parser.add_argument("--device", default="cpu", help="device of the networks, such as cuda (default: %(default)s)")
    parser.add_argument(
        "--weights",
        choices=("model", "ema"),
        default="model",
        help="weights of run folders: model.pt, or the moving average in last.pt (default: %(default)s)",
    )


@command("measure whether the attention of runs is learnt, and whether it helps", _add_measure)
def measure(given: argparse.Namespace) -> int:
    """Measure whether trained networks' attention is learnt, whether its correction helps, and whether it
    helps as claimed.

    A line for each run on its attention, a table for each run with the attention left out, swapped with
    another image's or made from the label, and a line for each evaluated run, baselines too, on small
    objects with and without a large one. The result files of a list of trainings hold these figures.

    examples:
    python -m experiments.lab measure runs/camvid_afma --section test
    python -m experiments.lab measure runs/camvid_afma --limit 20 --by_class
    python -m experiments.lab measure experiments/results/camvid/*.json
    """
    from experiments.lab.figures import measure_folder, read_figures, report_figures

    options = {"section": given.section, "limit": given.limit, "device": given.device, "weights": given.weights}
    found = []
    for path in map(Path, given.runs):
        is_result = path.suffix == ".json"
        found.append(read_figures(path) if is_result else measure_folder(path, **options))
        if is_result and (given.section != "val" or given.limit):
            raise ValueError(f"`{path}` has figures of all validation images only. Name a run's folder instead.")
    print(report_figures(found, by_class=given.by_class))
    return 0


def _add_negative_cases(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arm", metavar="RUN", help="folder of an evaluated run with AFMA")
    parser.add_argument("baseline", metavar="BASELINE", help="folder of the evaluated run that it is compared with")
    parser.add_argument("--images", type=positive_int, default=8, help="images that it hurts most (default: 8)")


@command("sort what AFMA harms by the paper's kinds of negative cases", _add_negative_cases)
def negative_cases(given: argparse.Namespace) -> int:
    """Sort the pixels that AFMA harms in the images that it hurts most by the paper's kinds (Sec. 4.8).

    examples:
    python -m experiments.lab negative_cases runs/camvid_afma runs/baseline --images 20
    """
    from afma_med.runs.run import read_run
    from experiments.lab.negative_cases import describe_cases

    print(describe_cases(read_run(given.arm), read_run(given.baseline), images=given.images))
    return 0


def _add_rivals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=("camvid", "cityscapes"))


@command("print published figures of the other systems that the paper compares with", _add_rivals)
def rivals(given: argparse.Namespace) -> int:
    """Print published figures of the systems of the paper's Sec. 4.3. They have other protocols than our runs.

    examples:
    python -m experiments.lab rivals camvid
    """
    from experiments.lab.rivals import write_rivals

    print(write_rivals(given.dataset))
    return 0
