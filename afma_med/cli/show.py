"""``afma show``: draw what trained networks attend to."""

from __future__ import annotations

import argparse

from afma_med.cli.arguments import Commands, add_parser, read_point

__all__ = ["FORMATS", "add_command"]

#: The suffixes of :data:`afma_med.visualize.figure_file.SUFFIXES`, which would load matplotlib.
FORMATS = ("png", "svg")

_DESCRIPTION = """\
Draw what trained networks attend to at points of an image: one run in full, several side by side."""

_EXAMPLES = """
afma show runs/camvid_afma                            the smallest predicted object of the first test image
afma show runs/camvid_afma --corrected                the small object that the correction helps most
afma show runs/camvid_afma --image a.png --point 120,80
afma show runs/a runs/b --objects car --format svg    two runs side by side, at each predicted car
afma show runs/lits_afma --image volume-7.nii --montage
"""


def add_command(commands: Commands) -> None:
    """Add ``afma show``."""
    summary = "draw what trained networks attend to in an image"
    parser = add_parser(commands, "show", summary, description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder of a run, such as runs/camvid_afma")
    parser.add_argument("--image", help="image or volume (default: the first one of the dataset's test section)")
    _add_points(parser)
    parser.add_argument("--slice", type=int, help="of a volume (default: the one with most predicted foreground)")
    parser.add_argument("--montage", action="store_true", help="of a volume, draw slices with their predictions too")
    parser.add_argument("--checkpoint", help="weights next to their settings.json (default: the run's model.pt)")
    parser.add_argument("--output_dir", help="folder for the pictures (default: attention/ in the first RUN)")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the pictures (default: png)")
    parser.add_argument("--device", default="cpu", help="for the networks, such as cuda (default: cpu)")
    parser.set_defaults(run=_run)


def _add_points(parser: argparse.ArgumentParser) -> None:
    point = parser.add_mutually_exclusive_group()
    point.add_argument(
        "--point", type=read_point, metavar="ROW,COLUMN", help="in pixels, as the network sees the image"
    )
    point.add_argument("--smallest", action="store_true", help="the smallest predicted object (default)")
    point.add_argument(
        "--corrected", action="store_true", help="the small object of the test section that the correction helps most"
    )
    point.add_argument("--objects", metavar="CLASS", help="every predicted object of a class, at most eight")


def _run(given: argparse.Namespace) -> int:
    if given.corrected and given.image is not None:
        raise ValueError("`--corrected` must go without --image, since it chooses one; got both. Leave one out.")
    if given.checkpoint is not None and len(given.runs) > 1:
        raise ValueError("`--checkpoint` must go with one run; got several. Name the runs of the weights.")

    from afma_med.research.run_attention import find_corrected_object, show_attention
    from afma_med.runs.trained_network import load_network

    runs = [load_network(run, checkpoint=given.checkpoint, device=given.device) for run in given.runs]
    image, point = given.image, given.point
    if given.corrected:
        image, point = find_corrected_object(runs[0]) or (None, None)
        if point is None:
            print("The correction makes no small object of the test section better; the smallest object instead:")
    files = show_attention(
        runs,
        image,
        where=point or given.objects,
        slice_number=given.slice,
        montage=given.montage,
        output_dir=given.output_dir,
        suffix=f".{given.format}",
    )
    for file in files:
        print(file.name)
    print(f"The pictures are in {files[0].parent}")
    return 0
