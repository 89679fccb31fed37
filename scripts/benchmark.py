#!/usr/bin/env python
"""Time AFMA against its dense form and the bare backbone, interleaved in one run; peak memory and multiply-adds.

Groups: "alone", AFMA and its loss on a made-up image, feature map and logits; "unet", steps of a whole Unet; "growth",
alone at growing sizes. Bare is the same without AFMA: alone, the segmentation loss of the logits. Labels and logits are
regions of about 60 pixels across, as labels of scenes are regions, in which every class occurs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from afma_med import AFMABlock, AFMALoss, AFMANet, modulate_logits
from afma_med.bundle.command_line import positive_int
from afma_med.research.benchmark import (
    available_bytes,
    describe_machine,
    draw_growth,
    fit_growth,
    in_child,
    limit_memory,
    peak_bytes,
    summarise,
    time_interleaved,
    write_results,
)

# By path: the dense form serves comparison only, so it lies with the tests, which are no package and not installed.
_spec = importlib.util.spec_from_file_location("dense", Path(__file__).parents[1] / "tests" / "_helpers" / "dense.py")
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


def regions(batch: int, maps: int, size: tuple[int, int]) -> Tensor:
    """Smooth random maps, with a little noise of single pixels."""
    coarse = torch.randn(batch, maps, *(side // 60 + 2 for side in size))
    return F.interpolate(coarse, size, mode="bilinear") + 0.1 * torch.randn(batch, maps, *size)


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
        logits = (5 * regions(batch, case.classes, case.size)).requires_grad_()
        feature = torch.randn(batch, channels, *(side // 2**case.depth for side in case.size)).relu_().requires_grad_()
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
    if given.device == "cpu":
        limit_memory()
    with torch.device(given.device):
        network, leaves, forward = build(case, given.batch)
        image = regions(given.batch, 3, case.size)
        label = regions(given.batch, case.classes, case.size).argmax(dim=1, keepdim=True)
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
    run = prepare(case, mode, given)
    for _ in range(3 if given.device == "cuda" else 1):  # warm-up
        losses = {f"{name}_loss": run(name) for name in names}
    seconds = time_interleaved(run, names, repeats=given.repeats, device=given.device)
    return {"seconds": seconds} | (losses if mode == "train" else {})


def peak_memory(case: Case, mode: str, given: argparse.Namespace, name: str) -> int:
    """The most bytes that this process, or the allocator of its GPU, held until one step was done."""
    for other in VARIANTS:  # a tiny size loads what libraries need but once, which is no variant's own
        prepare(case._replace(size=(64, 64)), mode, given)(other)
    prepare(case, mode, given)(name)
    return peak_bytes(given.device)


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
        # Alone, bare is next to nothing, and no ratio to it says anything.
        row |= summarise(row["seconds"], PAIRS[: 3 if case.group == "unet" else 1])
    except MemoryError as error:
        notes.append(f"times skipped: {error}")
    return row | {"note": "; ".join(notes)}


def save(rows: list[dict[str, Any]], machine: dict[str, Any], given: argparse.Namespace) -> None:
    """Write what there is: after each row, for the next may take long."""
    growing = [row for row in rows if row["case"].startswith("growth")]
    growth = fit_growth(growing, [f"{name}_{unit}" for name in VARIANTS[:2] for unit in ("added_ms", "added_mib")])
    write_results(given.output_dir, {"machine": machine, "options": vars(given), "growth": growth, "rows": rows})
    if growing:
        units = {"added time, ms": "added_ms", "added peak memory, MiB": "added_mib"}
        panels = {title: [f"{name}_{unit}" for name in VARIANTS[:2]] for title, unit in units.items()}
        draw_growth(growth, panels, given.output_dir / "growth.png")


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[Case]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list_cases(quick=False)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default %(default)s")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help=f"groups, or of {', '.join(map(str, known))}")
    parser.add_argument("--repeats", type=int, default=10, help="timed rounds, default %(default)s")
    parser.add_argument("--batch", type=positive_int, default=1, help="default %(default)s")
    parser.add_argument("--amp", action="store_true", help="autocast, without gradient scaling")
    parser.add_argument(
        "--threads", type=positive_int, default=torch.get_num_threads(), help="of the CPU, default %(default)s"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("runs/benchmark"), help="default %(default)s")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for tests: the figures mean nothing")
    given = parser.parse_args(arguments)
    known = list_cases(given.quick)
    unknown = {*(given.cases or [])} - {name for case in known for name in (str(case), case.group)}
    if unknown:
        parser.error(f"--cases must be alone, unet, growth or of {', '.join(map(str, known))}; got {sorted(unknown)}")
    if given.repeats < 2:
        parser.error(f"--repeats must be at least 2; got {given.repeats}")
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
    machine, rows = describe_machine(given.device) | {"threads": given.threads}, []
    tasks = [(case, mode) for case in cases for mode in MODES[: 1 if case.group == "growth" else 2]]
    print(json.dumps(machine), f"{'':<48}" + "".join(f"{title:>8}" for title in COLUMNS.values()), sep="\n")
    for i, (case, mode) in enumerate(tasks, 1):
        print(f"{f'[{i}/{len(tasks)}]':<8}{case!s:<30}{mode:<10}", end="", flush=True)
        rows.append(row := measure(case, mode, given))
        cells = [row.get(name, math.nan) for name in COLUMNS]  # three digits, all digits of large numbers, or nan
        print("".join(f"{x:>8.0f}" if x >= 100 else f"{x:>8.3g}" for x in cells), row["note"])
        save(rows, machine, given)
    print(f"The results are in {given.output_dir}")


if __name__ == "__main__":
    main()
