#!/usr/bin/env python
"""Time AFMA against its dense form and the bare backbone, interleaved in one run; peak memory and multiply-adds.

Groups: "alone", AFMA and its loss on a random image, feature map and logits; "unet", steps of a whole Unet; "growth",
alone at growing sizes. Bare is the same without AFMA: alone, the segmentation loss of the logits.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from afma_med import AFMABlock, AFMALoss, AFMANet, modulate_logits

# By path: the dense form serves comparison only, so it lies with the tests, which are no package and not installed.
_spec = importlib.util.spec_from_file_location("dense", Path(__file__).parents[1] / "tests" / "dense.py")
dense = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dense)

PATCH, MIB = (10, 10), 2**20
VARIANTS, PAIRS = ("ours", "dense", "bare"), (("ours", "dense"), ("ours", "bare"), ("dense", "bare"))
MODES = ("train", "inference")
# (height, width), depth, classes of a case; quick ones are for tests.
GEOMETRIES = (((480, 640), 2, 12), ((480, 640), 3, 12), ((640, 960), 1, 12), ((1024, 2048), 2, 20))
GROWTH = tuple((size, 2, 12) for size in ((240, 320), (360, 480), (480, 640), (720, 960), (1024, 2048)))
QUICK_GEOMETRIES, QUICK_GROWTH = (((64, 96), 2, 3),), (((160, 160), 2, 3), ((320, 320), 2, 3))
# What the printed table shows, and its titles: / of the medians, ~ the median of the paired ratios, + beyond bare.
COLUMNS = {"ours_ms": "ours ms", "ours_iqr_ms": "IQR", "dense_ms": "dense", "bare_ms": "bare"}
COLUMNS |= {"ours/dense": "/dense", "ours~dense": "~dense", "ours/bare": "/bare", "ours~bare": "~bare"}
COLUMNS |= {"ours_added_mib": "+MiB", "dense_added_mib": "dense", "ours_gmacs": "GMACs", "dense_gmacs": "dense"}


class Case(NamedTuple):
    """What is measured; the encoder sets the channels of the feature map."""

    group: str
    encoder: str
    size: tuple[int, int]
    depth: int
    classes: int

    def __str__(self) -> str:
        return f"{self.group}-{self.encoder}-{self.size[0]}x{self.size[1]}-d{self.depth}"


def list_cases(quick: bool) -> list[Case]:
    encoders, geometries = (("resnet18",), QUICK_GEOMETRIES) if quick else (("resnet34", "resnet101"), GEOMETRIES)
    cases = [Case(group, encoder, *g) for group in ("alone", "unet") for encoder in encoders for g in geometries]
    return cases + [Case("growth", encoders[-1], *g) for g in (QUICK_GROWTH if quick else GROWTH)]


def build(case: Case, batch: int) -> tuple[nn.Module, list[Tensor], Callable[[str, Tensor], Any]]:
    """The network, what gets gradients, and what runs a variant on an image: one set of parameters for all."""
    if case.group == "unet":
        host = smp.Unet(case.encoder, encoder_weights=None, classes=case.classes)
        net = AFMANet(host, case.classes, feature=case.depth, patch_size=PATCH, attention_supervision=True)
        block, leaves = net.afma_block, [*net.parameters()]
    else:
        with torch.device("meta"):
            channels = smp.encoders.get_encoder(case.encoder, weights=None).out_channels[case.depth]
        net = block = AFMABlock(channels, case.classes, patch_size=PATCH)
        logits = torch.randn(batch, case.classes, *case.size, requires_grad=True)
        feature = torch.randn(batch, channels, *(side // 2**case.depth for side in case.size), requires_grad=True)
        host = SimpleNamespace(encoder=lambda _image: {case.depth: feature}, decoder=lambda _maps: logits)
        host.segmentation_head, leaves = (lambda x: x), [logits, feature, *block.parameters()]

    def run(name: str, image: Tensor) -> Any:
        if name == "ours" and net is not block:
            return net(image)
        maps = host.encoder(image)
        plain = host.segmentation_head(host.decoder(maps))
        if name == "bare":
            return plain
        if name == "dense":
            return dense.run(block, image, maps[case.depth], plain, PATCH)
        attention = block(image, maps[case.depth])
        return modulate_logits(plain, attention), attention

    return net, leaves, run


def prepare(case: Case, mode: str, given: argparse.Namespace) -> Callable[[str], float]:
    """Build a case in this process and return what runs one step of a variant and gives its loss."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    if given.device == "cpu":  # what does not fit shall fail here, before the system ends some other process
        hard, free = resource.getrlimit(resource.RLIMIT_DATA)[1], available_bytes("cpu")
        resource.setrlimit(resource.RLIMIT_DATA, (free if hard == resource.RLIM_INFINITY else min(free, hard), hard))
    with torch.device(given.device):
        network, leaves, forward = build(case, given.batch)
        image, label = (
            torch.randn(given.batch, 3, *case.size),
            torch.randint(case.classes, (given.batch, 1, *case.size)),
        )
    network.train(mode == "train")
    loss_of = AFMALoss()
    # The update costs the same at any learning rate; at 0 all variants keep the same parameters, hence losses.
    optimizer = torch.optim.SGD(leaves, lr=0.0, momentum=0.9)

    def run(variant: str) -> float:
        with torch.autocast(given.device, enabled=given.amp), torch.inference_mode(mode == "inference"):
            output = forward(variant, image)
            if mode == "inference":
                return math.nan
            is_dense = variant == "dense"
            loss = dense.loss(*output, label, 2**case.depth, patch=PATCH) if is_dense else loss_of(output, label)
        loss.backward()
        if case.group == "unet":
            optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return run


def time_variants(case: Case, mode: str, given: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Seconds of each variant, interleaved, and the losses."""
    run, seconds = prepare(case, mode, given), {name: [] for name in names}
    wait = torch.cuda.synchronize if given.device == "cuda" else lambda: None
    for _ in range(3 if given.device == "cuda" else 1):  # warm-up
        losses = {f"{name}_loss": run(name) for name in names}
    for name in names * given.repeats:
        wait()
        start = time.perf_counter()
        run(name)
        wait()
        seconds[name].append(time.perf_counter() - start)
    return {"seconds": seconds} | (losses if mode == "train" else {})


def peak_memory(case: Case, mode: str, given: argparse.Namespace, name: str) -> int:
    """The most bytes that this process, or the allocator of its GPU, held until one step was done."""
    for other in VARIANTS:  # a tiny size loads what libraries need but once, which is no variant's own
        prepare(case._replace(size=(64, 64)), mode, given)(other)
    prepare(case, mode, given)(name)
    if given.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def count_macs(case: Case, batch: int) -> dict[str, float]:
    """Multiply-adds (G) of each variant's forward pass, attention products included, on tensors without data."""
    counts = {}
    with torch.device("meta"), torch.no_grad():
        network, _, forward = build(case, batch)
        network.eval()
        for name in VARIANTS:
            with FlopCounterMode(display=False) as counter:
                forward(name, torch.zeros(batch, 3, *case.size))
            counts[f"{name}_gmacs"] = counter.get_total_flops() / 2e9
    return counts


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a process of its own, forked from a small one that has imported but not run anything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segmentation_models_pytorch", "torch.utils.flop_counter", "afma_med"])
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(function, *arguments).result()
    except BrokenProcessPool:
        raise MemoryError("its process was ended from outside, as systems do when memory runs out") from None
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise MemoryError("memory ran out") from None


def available_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    if (info := Path("/proc/meminfo")).exists():  # counts what the page cache would give up, unlike sysconf
        return 1024 * int(info.read_text().split("MemAvailable:")[1].split()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def measure(case: Case, mode: str, given: argparse.Namespace) -> dict[str, Any]:
    """One row of results: memory of each variant that fits, then times of those."""
    row = {"case": str(case), "mode": mode, "pixels": math.prod(case.size), **in_child(count_macs, case, given.batch)}
    maps, training, notes, peaks = case.classes * given.batch, mode == "train", [], {}
    matrices = dense.matrix_bytes(case.size, 2**case.depth, patch=PATCH, maps=maps, training=training)
    for name in ("bare", "ours", "dense"):
        needed, free = peaks.get("bare", 0) + matrices * (name == "dense"), available_bytes(given.device)
        try:
            if needed > free:
                raise MemoryError(f"it needs at least {needed / MIB:.0f} MiB, {free / MIB:.0f} MiB are available")
            peaks[name] = in_child(peak_memory, case, mode, given, name)
        except MemoryError as error:
            notes.append(f"{name} skipped: {error}")
    row |= {f"{name}_peak_mib": peak / MIB for name, peak in peaks.items()}
    row |= {f"{name}_added_mib": (peaks[name] - peaks["bare"]) / MIB for name in peaks if "bare" in peaks}
    try:
        row |= in_child(time_variants, case, mode, given, [name for name in VARIANTS if name in peaks])
        row |= summarise(row["seconds"], alone=case.group != "unet")
    except MemoryError as error:
        notes.append(f"times skipped: {error}")
    return row | {"note": "; ".join(notes)}


def summarise(seconds: dict[str, list[float]], *, alone: bool) -> dict[str, float]:
    """Medians, interquartile ranges and ratios; AFMA alone is not compared with next to nothing."""
    result = {}
    for name, times in seconds.items():
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
        result |= {f"{name}_ms": 1e3 * middle, f"{name}_iqr_ms": 1e3 * (high - low)}
    for one, other in PAIRS:
        if one in seconds and other in seconds:
            pairs = list(zip(seconds[one], seconds[other], strict=True))
            if other == "bare":
                result[f"{one}_added_ms"] = 1e3 * statistics.median(a - b for a, b in pairs)
            if not (alone and other == "bare"):
                result[f"{one}/{other}"] = result[f"{one}_ms"] / result[f"{other}_ms"]
                result[f"{one}~{other}"] = statistics.median(a / b for a, b in pairs)
    return result


def fit_growth(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each variant adds at each size, and the exponent: the slope of a line through the logarithms."""
    series = {}
    for key in [f"{name}_added_{unit}" for unit in ("ms", "mib") for name in VARIANTS[:2]]:
        points = [(row["pixels"], row[key]) for row in rows if row["case"].startswith("growth") and key in row]
        logs = [(math.log(pixels), math.log(added)) for pixels, added in points if added > 0]
        slope = statistics.linear_regression(*zip(*logs, strict=True)).slope if len(logs) > 1 else math.nan
        series[key] = {"points": points, "exponent": None if math.isnan(slope) else slope}
    return series


def draw_growth(series: dict[str, dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure  # here, for nothing else needs it

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for i, (key, (points, exponent)) in enumerate((key, found.values()) for key, found in series.items()):
        label = key.split("_")[0] + (f", pixels^{exponent:.2f}" if exponent is not None else "")
        drawn = [(pixels, added if added > 0 else math.nan) for pixels, added in points]
        panels[i // 2].loglog(*zip(*drawn, strict=True), "s--" if i % 2 else "o-", label=label)
    for panel, title in zip(panels, ("added time, ms", "added peak memory, MiB"), strict=True):
        panel.set(xlabel="pixels", ylabel=title)
        panel.legend()
    figure.savefig(path, dpi=150)


def describe_machine(given: argparse.Namespace) -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    machine = {"cpu": models[0] if models else platform.processor(), "cores": os.cpu_count(), "threads": given.threads}
    machine["device"] = torch.cuda.get_device_name() if given.device == "cuda" else "cpu"
    date = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return machine | {"torch": torch.__version__, "date": date, "load_average": os.getloadavg()}


def write_results(rows: list[dict[str, Any]], machine: dict[str, Any], given: argparse.Namespace) -> None:
    result = {"machine": machine, "options": vars(given), "growth": fit_growth(rows), "rows": rows}
    (given.output_dir / "benchmark.json").write_text(json.dumps(result, indent=1, default=str), encoding="utf-8")
    names = dict.fromkeys(name for row in rows for name in row if name != "seconds")
    with (given.output_dir / "benchmark.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*names], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[Case]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list_cases(quick=False)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default %(default)s")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help=f"groups, or of {', '.join(map(str, known))}")
    parser.add_argument("--repeats", type=int, default=10, help="timed rounds, default %(default)s")
    parser.add_argument("--batch", type=int, default=1, help="default %(default)s")
    parser.add_argument("--amp", action="store_true", help="autocast, without gradient scaling")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU, default %(default)s")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/benchmark"), help="default %(default)s")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for tests: the figures mean nothing")
    given = parser.parse_args(arguments)
    known = list_cases(given.quick)
    unknown = {*(given.cases or [])} - {name for case in known for name in (str(case), case.group)}
    if unknown:
        parser.error(f"--cases must be alone, unet, growth or of {', '.join(map(str, known))}; got {sorted(unknown)}")
    if given.repeats < 2 or min(given.batch, given.threads) < 1:
        parser.error("--repeats must be at least 2, --batch and --threads at least 1")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a CUDA device, and torch sees none; take --device cpu")
    try:
        given.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output_dir must be a folder that can be written; {error}")
    return given, [case for case in known if not given.cases or {str(case), case.group} & set(given.cases)]


def main(arguments: list[str] | None = None) -> None:
    """Measure the cases, print a row and write the files after each."""
    given, cases = parse(arguments)
    machine, rows, drawable = describe_machine(given), [], importlib.util.find_spec("matplotlib") is not None
    tasks = [(case, mode) for case in cases for mode in MODES[: 1 if case.group == "growth" else 2]]
    print("" if drawable else "No plot will be drawn: matplotlib is missing. `pip install matplotlib`, for the plot.")
    print(json.dumps(machine), f"{'':<48}" + "".join(f"{title:>8}" for title in COLUMNS.values()), sep="\n")
    for i, (case, mode) in enumerate(tasks, 1):
        print(f"{f'[{i}/{len(tasks)}]':<8}{case!s:<30}{mode:<10}", end="", flush=True)
        rows.append(row := measure(case, mode, given))
        cells = [row.get(name, math.nan) for name in COLUMNS]  # three digits, all digits of large numbers, or nan
        print("".join(f"{x:>8.0f}" if x >= 100 else f"{x:>8.3g}" for x in cells), row["note"])
        write_results(rows, machine, given)
    if drawable and any(case.group == "growth" for case in cases):
        draw_growth(fit_growth(rows), given.output_dir / "growth.png")
    print(f"The results are in {given.output_dir}")


if __name__ == "__main__":
    main()
