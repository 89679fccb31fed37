"""``afma benchmark``: time AFMA against its dense form and the bare backbone."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from afma_med.cli.arguments import Commands, add_parser, positive_int
from afma_med.research.benchmark_cases import BenchmarkOptions, choose_cases, list_cases

__all__ = ["add_command"]

_DESCRIPTION = """\
Time AFMA against its dense form and the bare backbone, interleaved in one run; measure peak memory
and count multiply-adds.

Groups: "alone", AFMA and its loss on a made-up image, feature map and logits; "unet", steps of a whole
Unet; "growth", alone at growing sizes. Bare is the same without AFMA: alone, the segmentation loss of
the logits. Labels and logits are regions of about 60 pixels across, in which every class occurs."""

_EXAMPLES = """
afma benchmark --cases unet --repeats 5
afma benchmark --cases unet-resnet101-480x640-d2 --device cuda --batch 4 --amp
afma benchmark --quick                      tiny sizes, to see that it runs
"""
# What the printed table shows, and its titles: / of the medians, ~ the median of the paired ratios, + beyond bare.
_COLUMNS = {"ours_ms": "ours ms", "ours_iqr_ms": "IQR", "dense_ms": "dense", "bare_ms": "bare"}
_COLUMNS |= {"ours/dense": "/dense", "ours~dense": "~dense", "ours/bare": "/bare", "ours~bare": "~bare"}
_COLUMNS |= {"ours_added_mib": "+MiB", "dense_added_mib": "dense", "ours_gmacs": "GMACs", "dense_gmacs": "dense"}


def add_command(commands: Commands) -> None:
    """Add ``afma benchmark``."""
    summary = "time AFMA against its dense form and the bare backbone; memory and multiply-adds"
    parser = add_parser(commands, "benchmark", summary, description=_DESCRIPTION, examples=_EXAMPLES)
    known = ", ".join(map(str, list_cases(quick=False)))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help=f"groups, or of {known}")
    parser.add_argument("--repeats", type=int, default=10, help="timed rounds, at least 2 (default: %(default)s)")
    parser.add_argument("--batch", type=positive_int, default=1, help="images of a step (default: %(default)s)")
    parser.add_argument("--amp", action="store_true", help="autocast, without gradient scaling")
    parser.add_argument("--threads", type=positive_int, help="of the CPU (default: as many as torch takes)")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/benchmark"), help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for tests: the figures mean nothing")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    cases = choose_cases(given.cases, quick=given.quick)
    options = _check_options(given)

    from afma_med.research.afma_benchmark import measure_cases, save_benchmark
    from afma_med.research.benchmark import describe_machine

    machine = describe_machine(given.device) | {"threads": options.threads}
    print(json.dumps(machine), f"{'':<48}" + "".join(f"{title:>8}" for title in _COLUMNS.values()), sep="\n")
    stated = {name: value for name, value in vars(given).items() if name != "run"} | options._asdict()
    rows: list[dict[str, Any]] = []
    tasks = list(measure_cases(cases, options))
    for i, (case, mode, measure) in enumerate(tasks, 1):
        print(f"{f'[{i}/{len(tasks)}]':<8}{case!s:<30}{mode:<10}", end="", flush=True)
        rows.append(measure())
        print(_cells(rows[-1]), rows[-1]["note"])
        save_benchmark(given.output_dir, rows, machine=machine, options=stated)  # the next may take long
    print(f"The results are in {given.output_dir}")
    return 0


def _check_options(given: argparse.Namespace) -> BenchmarkOptions:
    if given.repeats < 2:
        raise ValueError(f"--repeats must be at least 2; got {given.repeats}. Take 2 or more.")

    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a CUDA device; torch sees none. Take --device cpu.")
    try:
        given.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output_dir must be a folder that can be written; {error}. Name another folder.") from error
    threads = given.threads or torch.get_num_threads()
    return BenchmarkOptions(given.device, given.repeats, given.batch, given.amp, threads)


def _cells(row: dict[str, Any]) -> str:
    """Three digits, all digits of large numbers, or nan."""
    values = [row.get(name, math.nan) for name in _COLUMNS]
    return "".join(f"{x:>8.0f}" if x >= 100 else f"{x:>8.3g}" for x in values)
