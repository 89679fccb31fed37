#!/usr/bin/env python
"""Tell whether trained networks' attention is learnt and whether its correction helps: a line for each run.

What scripts/run_experiments.py has measured already is read from its results.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from afma_med.attention_report import (
    AttentionReport,
    attention_from_json,
    measure_attention,
    report_attention,
    report_classes,
)
from afma_med.command_line import positive_int
from afma_med.finished_run import load_run


def main() -> None:
    """Measure the runs that the command line names and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder, such as runs/camvid_afma, or result file")
    parser.add_argument("--section", default="val", help="of the dataset (default: %(default)s)")
    parser.add_argument("--by_class", action="store_true", help="print a table of the classes of each run too")
    parser.add_argument("--limit", type=positive_int, help="look at so many images only")
    parser.add_argument("--device", default="cpu", help="for the networks, such as cuda (default: %(default)s)")
    args = parser.parse_args()
    try:
        reports = [(_name(Path(run)), _report(Path(run), args)) for run in args.runs]
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


def _name(path: Path) -> str:
    """Of results, which have the same names in several lists, with that of the list."""
    return f"{path.parent.name}/{path.stem}" if path.suffix == ".json" else path.name


def _report(path: Path, args: argparse.Namespace) -> AttentionReport:
    if path.suffix != ".json":
        return measure_attention(load_run(path, device=args.device), section=args.section, limit=args.limit)
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8"))).get("attention")
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{path}` must be the result of a run; got: {error}. Name another file.") from error
    if found is None or args.section != "val" or args.limit:
        raise ValueError(
            f"`{path}` has figures of AFMA's attention on all validation images only, or none. Name a run."
        )
    return attention_from_json(found)


if __name__ == "__main__":
    main()
