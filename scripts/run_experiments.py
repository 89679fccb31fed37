#!/usr/bin/env python
"""Run a list of trainings: skip finished ones, resume interrupted ones, and write one JSON file for each."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

from afma_med.research.trainings import list_trainings, run_trainings


def main() -> None:
    """Run the list and print where the results are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", metavar="LIST", type=Path, help="such as bundles/experiments/camvid.json")
    parser.add_argument("--dataset_dir", required=True, help="folder of the dataset")
    parser.add_argument("--only", metavar="ARM", nargs="+", help="these arms of the list only")
    parser.add_argument("--seeds", type=int, nargs="+", help="these seeds only")
    parser.add_argument("--runs_dir", type=Path, help="folder for the runs (default: runs/experiments/LIST)")
    parser.add_argument("--results_dir", type=Path, help="folder for the results (default: results/LIST next to LIST)")
    parser.add_argument("--num_workers", type=int, default=1, help="of each training (default: %(default)s)")
    args = parser.parse_args()
    if not Path(args.dataset_dir).is_dir():
        parser.error(f"--dataset_dir must be a folder; there is none at {args.dataset_dir}. Check the path.")
    # The running training must stop with the list: as on Ctrl-C, it saves a checkpoint.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    results = args.results_dir or args.list.parent / "results" / args.list.stem
    try:
        failed = run_trainings(
            list_trainings(args.list, only=args.only, seeds=args.seeds),
            runs_dir=args.runs_dir or Path("runs", "experiments", args.list.stem),
            results_dir=results,
            options={"dataset_dir": args.dataset_dir, "num_workers": args.num_workers},
        )
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    if failed:
        parser.exit(1, f"error: {len(failed)} trainings failed: {', '.join(failed)}. Run the same command again.\n")
    print(f"The results are in {results}. Compare them: afma compare {results}/*.json")


if __name__ == "__main__":
    main()
