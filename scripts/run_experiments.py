#!/usr/bin/env python
"""Run a list of trainings: skip finished ones, resume interrupted ones, and write one JSON file for each.

Start the same command several times to run as many trainings at once.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from afma_med.cli.arguments import positive_number
from afma_med.research.stopping import TimeIsUp, stop_after, stop_on_signals
from afma_med.research.trainings import count_done, list_trainings, run_trainings

# That of sysexits.h for a failure that another try may end.
_NOT_DONE = 75
_RESULTS = Path(__file__).parents[1] / "experiments" / "results"


def main() -> None:
    """Run the list and print where the results are."""
    parser = argparse.ArgumentParser(description=__doc__)
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
    args = parser.parse_args()
    if not Path(args.dataset_dir).is_dir():
        parser.error(f"--dataset_dir must be a folder; there is none at {args.dataset_dir}. Check the path.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    runs = args.runs_dir or Path("runs", "experiments", args.list.stem)
    results = args.results_dir or _RESULTS / args.list.stem
    try:
        trainings = list_trainings(args.list, only=args.only, seeds=args.seeds)
        # However the list ends, its running training ends too and saves a checkpoint.
        with stop_on_signals(), stop_after(args.minutes):
            failed = run_trainings(
                trainings,
                runs_dir=runs,
                results_dir=results,
                options={"dataset_dir": args.dataset_dir, "num_workers": args.num_workers},
            )
    except TimeIsUp:
        done = f"{count_done(trainings, results)} of {len(trainings)} trainings are done"
        parser.exit(
            _NOT_DONE,
            f"{args.minutes:g} minutes are over: {done}. The next one has saved its state in {runs}. "
            "Run the same command again to go on.\n",
        )
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    if failed:
        parser.exit(1, f"error: {len(failed)} trainings failed: {', '.join(failed)}. Run the same command again.\n")
    print(f"The results are in {results}. Compare them: afma compare {results}/*.json")


if __name__ == "__main__":
    main()
