"""``afma show`` and ``afma compare``: look at finished runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from afma_med.cli.arguments import command, read_point

__all__ = ["FORMATS", "add_compare_options", "compare", "print_comparison", "show"]

#: The suffixes of :data:`afma_med.visualize.figure_file.SUFFIXES`, which would load matplotlib.
FORMATS = ("png", "svg")


def _add_show(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--slice", type=int, help="slice of a volume (default: the one with most predicted foreground)")
    parser.add_argument("--montage", action="store_true", help="of a volume, draw slices with their predictions too")
    parser.add_argument(
        "--explore", metavar="FILE.html", help="write a page to explore the attention instead of pictures"
    )
    parser.add_argument("--checkpoint", help="weights next to their settings.json (default: the run's model.pt)")
    parser.add_argument("--output_dir", help="folder for the pictures (default: attention/ in the first RUN)")
    parser.add_argument("--format", choices=FORMATS, default="png", help="format of the pictures (default: png)")
    parser.add_argument("--device", default="cpu", help="device of the networks, such as cuda (default: cpu)")


@command("draw what trained networks attend to in an image", _add_show)
def show(given: argparse.Namespace) -> int:
    """Draw what trained networks attend to at points of an image: one run in full, several side by side.

    examples:
    afma show runs/camvid_afma                            the smallest predicted object of the first test image
    afma show runs/camvid_afma --corrected                the small object that the correction helps most
    afma show runs/camvid_afma --image a.png --point 120,80
    afma show runs/a runs/b --objects car --format svg    two runs side by side, at each predicted car
    afma show runs/lits_afma --image volume-7.nii --montage
    afma show runs/camvid_afma --explore runs/camvid_afma/explorer.html    a page that opens in any browser
    """
    if given.corrected and given.image is not None:
        raise ValueError("`--corrected` must go without --image, since it chooses one; got both. Leave one out.")
    if given.checkpoint is not None and len(given.runs) > 1:
        raise ValueError("`--checkpoint` must go with one run; got several. Name the runs of the weights.")
    if given.explore is not None and (len(given.runs) > 1 or given.montage):
        raise ValueError("`--explore` must go with one run and without --montage; got more. Write one page per run.")

    from afma_med.runs.attention import find_corrected_object, show_attention
    from afma_med.runs.explorer import explore_attention
    from afma_med.runs.trained_network import load_network

    runs = [load_network(run, checkpoint=given.checkpoint, device=given.device) for run in given.runs]
    image, point = given.image, given.point
    if given.corrected:
        image, point = find_corrected_object(runs[0]) or (None, None)
        if point is None:
            print("The correction makes no small object of the test section better; the smallest object instead:")
    if given.explore is not None:
        where, file = point or given.objects, Path(given.explore)
        slices = explore_attention(runs[0], file, image, where=where, slice_number=given.slice)
        held = f" It holds the slices {', '.join(map(str, slices))}." if slices else ""
        print(f"The page is {file} ({file.stat().st_size / 1e6:.1f} MB); open it in a browser.{held}")
        return 0
    files = show_attention(
        runs,
        image,
        where=point or given.objects,
        slice_number=given.slice,
        montage=given.montage,
        output_dir=given.output_dir,
        suffix=f".{given.format}",
    )
    print(*(file.name for file in files), f"The pictures are in {files[0].parent}", sep="\n")
    return 0


def add_compare_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``afma compare``."""
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="--output_dir of a training that was evaluated, or a result file"
    )
    parser.add_argument("--output_dir", type=Path, help="folder for the files (default: comparisons/BUNDLE)")
    parser.add_argument("--resamples", type=int, default=2000, help="resamples of the bootstrap (default: %(default)s)")
    parser.add_argument("--images", type=int, default=8, help="examples of each kind to show (default: %(default)s)")
    parser.add_argument(
        "--baseline", metavar="ARM", help="arm of a list with which the others are compared (default: what has no AFMA)"
    )


@command("compare evaluated runs: tables, charts and pictures of what AFMA adds", add_compare_options)
def compare(given: argparse.Namespace) -> int:
    """Compare finished, evaluated runs: what AFMA adds to its baseline, by class and by size of object.

    examples:
    afma compare runs/baseline runs/camvid_afma
    afma compare runs/* --output_dir comparison --resamples 10000
    afma compare results/camvid/*.json          results of a list of trainings
    afma compare results/camvid_finetune/*.json --baseline plain_head
    """
    from afma_med.comparison import compare_runs

    options = {"resamples": given.resamples, "images": given.images, "baseline": given.baseline}
    print_comparison(compare_runs(given.runs, given.output_dir, **options))
    return 0


def print_comparison(folder: Path) -> None:
    """Print the tables of a comparison, and where it is."""
    print((folder / "comparison.md").read_text(encoding="utf-8"))
    print(f"The comparison is in {folder / 'index.html'}, with comparison.md, .json and the pictures next to it.")
