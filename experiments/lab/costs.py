"""``table5`` and ``benchmark``: parameters, multiply-adds, time and memory of AFMA."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afma_med.cli.arguments import command, positive_int
from experiments.lab.benchmark_cases import BenchmarkOptions, Case, choose_cases, list_cases, list_gpu_steps
from experiments.lab.table5 import PAPER, TABLE_5

__all__ = ["benchmark", "table5"]

# Columns of the printed table: / ratio of the medians, ~ median of the paired ratios, head a hypercolumn head in place
# of AFMA, as a ratio to bare, + more than bare.
_COLUMNS = {"ours_ms": "ours ms", "ours_iqr_ms": "IQR", "dense_ms": "dense", "bare_ms": "bare"}
_COLUMNS |= {"ours/dense": "/dense", "ours~dense": "~dense", "ours/bare": "/bare", "ours~bare": "~bare"}
_COLUMNS |= {"head/bare": "head"}
_COLUMNS |= {"ours_added_mib": "+MiB", "dense_added_mib": "dense", "ours_gmacs": "GMACs", "dense_gmacs": "dense"}

_GPU = {"ours_ms": "ours ms", "ours_iqr_ms": "IQR", "bare_ms": "bare", "ours/bare": "/bare", "ours~bare": "~bare"}
_GPU |= {"head/bare": "head", "ours_peak_mib": "MiB", "bare_peak_mib": "bare"}
_ROOFLINE = {"ms": "ms", "iqr_ms": "IQR", "floor_ms": "floor", "ratio": "/floor"}


def _add_table5(parser: argparse.ArgumentParser) -> None:
    for name, default in PAPER.items():
        kind = positive_int if isinstance(default, int) else str
        parser.add_argument(f"--{name}", type=kind, default=default, help="default: %(default)s, the paper's")
    parser.add_argument(
        "--size", type=positive_int, nargs=2, default=[640, 960], metavar=("H", "W"), help="default: 640 960"
    )
    parser.add_argument("--hosts", nargs="+", default=[*TABLE_5], choices=TABLE_5, metavar="HOST", help="%(choices)s")
    parser.add_argument("--csv", type=Path, default=Path("runs/model_table.csv"), help="default: %(default)s")


@command("parameters and multiply-adds of the paper's hosts next to its Table 5", _add_table5)
def table5(given: argparse.Namespace) -> int:
    """Print and write parameters and multiply-adds of the paper's hosts, with and without AFMA, next to its
    Table 5, and name every difference. Nothing is trained and nothing is downloaded.

    examples:
    python -m experiments.lab table5
    python -m experiments.lab table5 --hosts Unet FPN --encoder resnet18 --size 512 512 --csv unet_fpn.csv
    """
    from experiments.lab.model_table import HostSettings, format_model_table, measure_hosts, write_model_table

    settings = HostSettings(given.encoder, given.classes, given.feature, given.patch_size, tuple(given.size))
    rows = list(measure_hosts(given.hosts, settings))
    try:
        write_model_table(rows, given.csv)
    except OSError as error:
        raise ValueError(f"--csv must be a file that can be written; {error}. Name another file.") from error
    print(format_model_table(rows))
    print(f"The table is in {given.csv}")
    return 0


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    known = ", ".join(map(str, list_cases(quick=False)))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help=f"groups, or of {known}")
    parser.add_argument("--repeats", type=int, default=10, help="timed rounds, at least 2 (default: %(default)s)")
    parser.add_argument("--batch", type=positive_int, default=1, help="images in a step (default: %(default)s)")
    parser.add_argument("--amp", action="store_true", help="autocast, without gradient scaling")
    parser.add_argument("--channels_last", action="store_true", help="the memory layout of the bundles")
    parser.add_argument("--threads", type=positive_int, help="threads of the CPU (default: as many as torch uses)")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/benchmark"), help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for tests: the figures mean nothing")
    parser.add_argument(
        "--roofline",
        action="store_true",
        help="each part of AFMA against the least time that this machine needs for it",
    )
    parser.add_argument(
        "--gpu", action="store_true", help="whole steps in float32, TF32 and AMP, with --device cuda: minutes"
    )


@command("time AFMA against its dense form and the bare backbone; memory and multiply-adds", _add_benchmark)
def benchmark(given: argparse.Namespace) -> int:
    """Time AFMA against its dense form and the bare backbone, interleaved in one run; measure peak memory
    and count multiply-adds.

    Groups: "alone", AFMA and its loss on a made-up image, feature map and logits; "unet", steps of a whole
    Unet; "growth", "classes" and "batch", alone with growing images, numbers of classes and batches.
    Bare is the same without AFMA: alone, the segmentation loss of the logits. A whole Unet is also timed
    with a hypercolumn head in place of AFMA. Labels and logits are regions of about 60 pixels across, in
    which every class occurs.

    examples:
    python -m experiments.lab benchmark --cases unet --repeats 5
    python -m experiments.lab benchmark --cases unet-resnet101-480x640-d2 --device cuda --batch 4 --amp
    python -m experiments.lab benchmark --roofline --cases alone-resnet101-480x640-d2
    python -m experiments.lab benchmark --gpu --device cuda     whole training steps of a ResNet-101 Unet, in minutes
    python -m experiments.lab benchmark --quick                 tiny sizes, to see that it runs
    """
    cases = choose_cases(given.cases, quick=given.quick)
    options = _check_options(given)

    from afma_med.trial.machine import describe_machine
    from experiments.lab.benchmark import measure_cases
    from experiments.lab.benchmark_report import save_benchmark

    if given.gpu:
        return _run_gpu_steps(options, given.output_dir, quick=given.quick)
    if given.roofline:
        return _run_roofline(cases, options, given.output_dir)
    machine = describe_machine(given.device) | {"threads": options.threads}
    print(json.dumps(machine), f"{'':<54}" + "".join(f"{title:>8}" for title in _COLUMNS.values()), sep="\n")
    stated = {name: value for name, value in vars(given).items() if name != "run"} | options._asdict()
    rows: list[dict[str, Any]] = []
    tasks = list(measure_cases(cases, options))
    for i, (case, mode, measure) in enumerate(tasks, 1):
        print(f"{f'[{i}/{len(tasks)}]':<8}{case!s:<36}{mode:<10}", end="", flush=True)
        rows.append(measure())
        print(_cells(rows[-1]), rows[-1]["note"])
        save_benchmark(given.output_dir, rows, machine=machine, options=stated)  # the next may take long
    print(f"The results are in {given.output_dir}")
    return 0


def _run_gpu_steps(options: BenchmarkOptions, folder: Path, *, quick: bool) -> int:
    """Measure training steps of the paper's sizes in each precision, print a row for each, and write gpu.json."""
    from afma_med.trial.machine import describe_machine
    from experiments.lab.benchmark import measure_step
    from experiments.lab.child_process import in_child

    if options.device != "cuda" and not quick:
        raise ValueError(f"--gpu needs --device cuda; got {options.device}. On a CPU, take --cases unet.")
    content: dict[str, Any] = {"machine": describe_machine(options.device), "steps": {}}
    print(json.dumps(content["machine"]), f"{'':<28}" + "".join(f"{title:>9}" for title in _GPU.values()), sep="\n")
    for name, case, chosen in list_gpu_steps(options, quick=quick):
        row = in_child(measure_step, case, chosen)
        content["steps"][name] = {"case": str(case), "options": chosen._asdict(), **row}
        print(f"{name:<28}" + "".join(f"{row.get(column, math.nan):>9.4g}" for column in _GPU), flush=True)
        (folder / "gpu.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(f"The results are in {folder / 'gpu.json'}")
    return 0


def _run_roofline(cases: Sequence[Case], options: BenchmarkOptions, folder: Path) -> int:
    """Measure each case of AFMA alone, print a table for each, and write roofline.json."""
    from afma_med.trial.machine import describe_machine
    from experiments.lab.child_process import in_child
    from experiments.lab.roofline import measure_roofline

    chosen = [case for case in cases if case.group == "alone"]
    if not chosen:
        raise ValueError("--roofline needs cases of AFMA alone; got none. Name the group alone, or one of its cases.")
    content: dict[str, Any] = {"machine": describe_machine(options.device), "options": options._asdict(), "cases": []}
    for case in chosen:
        found = in_child(measure_roofline, case, options)
        content["cases"].append(found)
        rates = found["rates"]
        print(
            f"{case}: {rates['float32'] / 1e9:.0f} G multiply-adds/s in float32, {rates['float64'] / 1e9:.0f} in "
            f"float64, copies {rates['copy'] / 1e9:.1f} GB/s"
        )
        print(f"{'part':<20}{'pass':<10}" + "".join(f"{title:>10}" for title in _ROOFLINE.values()))
        for row in found["parts"]:
            print(f"{row['part']:<20}{row['pass']:<10}" + "".join(f"{row[name]:>10.3g}" for name in _ROOFLINE))
        (folder / "roofline.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(f"The results are in {folder / 'roofline.json'}")
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
    return BenchmarkOptions(
        given.device, given.repeats, given.batch, given.amp, threads, channels_last=given.channels_last
    )


def _cells(row: dict[str, Any]) -> str:
    """Three digits, all digits of large numbers, or nan."""
    values = [row.get(name, math.nan) for name in _COLUMNS]
    return "".join(f"{x:>8.0f}" if x >= 100 else f"{x:>8.3g}" for x in values)
