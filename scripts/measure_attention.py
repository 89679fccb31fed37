#!/usr/bin/env python
"""Tell whether trained networks' attention is learnt and whether its correction helps: a line for each run."""

from __future__ import annotations

import argparse

from afma_med.attention_report import measure_attention, report_attention, report_classes
from afma_med.finished_run import load_run


def main() -> None:
    """Measure the runs that the command line names and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder of a run, such as runs/camvid_afma")
    parser.add_argument("--section", default="val", help="of the dataset (default: %(default)s)")
    parser.add_argument("--by_class", action="store_true", help="print a table of the classes of each run too")
    parser.add_argument("--limit", type=int, help="look at so many images only")
    parser.add_argument("--device", default="cpu", help="for the networks, such as cuda (default: %(default)s)")
    args = parser.parse_args()
    try:
        runs = [load_run(folder, device=args.device) for folder in args.runs]
        reports = [(run.folder.name, measure_attention(run, section=args.section, limit=args.limit)) for run in runs]
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    print(report_attention(reports))
    print(
        "error: squared distance to the gold attention, 1 for an attention of zeros; cosine: 1 for the gold one up to\n"
        "a factor; changed: pixels that the correction gives another class; mended, harmed: of these, what it makes\n"
        "right and wrong."
    )
    for name, report in reports if args.by_class else ():
        print(f"\n{name}\n{report_classes(report)}")
    if args.by_class:
        print(
            "share: of the gold attention's square; AUC: how well the strongest attention of a patch tells whether it\n"
            "has the class, 0.5 for not at all."
        )


if __name__ == "__main__":
    main()
