#!/usr/bin/env python
"""Draw what trained networks attend to at points of an image: of one run in full, of several side by side."""

from __future__ import annotations

import argparse

from afma_med.research.run_attention import find_corrected_object, show_attention
from afma_med.runs.finished_run import load_run
from afma_med.visualize.figure_file import SUFFIXES


def main() -> None:
    """Draw what the command line names and say where it is."""
    parser = make_parser()
    args = parser.parse_args()
    if args.corrected and args.image is not None:
        parser.exit(1, "error: `--corrected` must go without --image, since it chooses one; got both. Leave one out.\n")
    if args.checkpoint is not None and len(args.runs) > 1:
        parser.exit(1, "error: `--checkpoint` must go with one run; got several. Name the runs of the weights.\n")
    try:
        runs = [load_run(run, checkpoint=args.checkpoint, device=args.device) for run in args.runs]
        if args.corrected:
            args.image, args.point = find_corrected_object(runs[0]) or (None, None)
            if args.point is None:
                print("The correction makes no small object of the test section better; the smallest object instead:")
        files = show_attention(
            runs,
            args.image,
            where=args.point or args.objects,
            slice_number=args.slice,
            montage=args.montage,
            output_dir=args.output_dir,
            suffix=f".{args.format}",
        )
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    for file in files:
        print(file.name)
    print(f"The pictures are in {files[0].parent}")


def make_parser() -> argparse.ArgumentParser:
    """Say what the command line may hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder of a run, such as runs/camvid_afma")
    parser.add_argument("--image", help="image or volume (default: the first one of the dataset's test section)")
    point = parser.add_mutually_exclusive_group()
    point.add_argument(
        "--point", type=read_point, metavar="ROW,COLUMN", help="in pixels, as the network sees the image"
    )
    point.add_argument("--smallest", action="store_true", help="the smallest predicted object (default)")
    point.add_argument(
        "--corrected", action="store_true", help="the small object of the test section that the correction helps most"
    )
    point.add_argument("--objects", metavar="CLASS", help="every predicted object of a class, at most eight")
    parser.add_argument("--slice", type=int, help="of a volume (default: the one with most predicted foreground)")
    parser.add_argument("--montage", action="store_true", help="of a volume, draw slices with what is predicted too")
    parser.add_argument("--checkpoint", help="weights beside their settings.json (default: the run's model.pt)")
    parser.add_argument("--output_dir", help="folder for the pictures (default: attention/ in the first RUN)")
    parser.add_argument("--format", choices=[suffix[1:] for suffix in SUFFIXES], default="png")
    parser.add_argument("--device", default="cpu", help="for the networks, such as cuda (default: cpu)")
    return parser


def read_point(text: str) -> tuple[int, int]:
    """Read ROW,COLUMN."""
    try:
        row, column = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be ROW,COLUMN in pixels; got {text!r}") from None
    return row, column


if __name__ == "__main__":
    main()
