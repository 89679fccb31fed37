"""Time AFMA against its dense form and the bare backbone, interleaved in one run; peak memory and multiply-adds.

Groups: "alone", AFMA and its loss on a made-up image, feature map and logits; "unet", steps of a whole Unet; "growth",
alone at growing sizes. Bare is the same without AFMA: alone, the segmentation loss of the logits. Labels and logits are
regions of about 60 pixels across, as labels of scenes are regions, in which every class occurs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from afma_med.functional import modulate_logits
from afma_med.losses import AFMALoss
from afma_med.networks import AFMABlock, AFMANet
from afma_med.research import dense
from afma_med.research.benchmark import (
    available_bytes,
    draw_growth,
    fit_growth,
    in_child,
    limit_memory,
    peak_bytes,
    summarise,
    time_interleaved,
    write_results,
)
from afma_med.research.benchmark_cases import BenchmarkOptions, Case

__all__ = [
    "MODES",
    "VARIANTS",
    "count_macs",
    "measure_case",
    "measure_cases",
    "peak_memory",
    "save_benchmark",
    "time_variants",
]

#: Sides of a patch.
PATCH = (10, 10)
#: What is measured, and how.
VARIANTS, MODES = ("ours", "dense", "bare"), ("train", "inference")
_PAIRS = (("ours", "dense"), ("ours", "bare"), ("dense", "bare"))
_MIB = 2**20


def _regions(batch: int, maps: int, size: tuple[int, int]) -> Tensor:
    """Smooth random maps, with a little noise of single pixels."""
    coarse = torch.randn(batch, maps, *(side // 60 + 2 for side in size))
    return F.interpolate(coarse, size, mode="bilinear") + 0.1 * torch.randn(batch, maps, *size)


def _build(case: Case, batch: int) -> tuple[nn.Module, list[Tensor], Callable[[str, Tensor], Any]]:
    """The network, what gets gradients, and what runs a variant on an image: one set of parameters for all."""
    host: Any
    net: nn.Module
    block: AFMABlock
    leaves: list[Tensor]
    if case.group == "unet":
        host = smp.Unet(case.encoder, encoder_weights=None, classes=case.classes)
        net = wrapped = AFMANet(host, case.classes, feature=case.depth, patch_size=PATCH, attention_supervision=True)
        block, leaves = wrapped.afma_block, [*net.parameters()]
    else:
        with torch.device("meta"):
            channels = smp.encoders.get_encoder(case.encoder, weights=None).out_channels[case.depth]
        net = block = AFMABlock(channels, case.classes, patch_size=PATCH)
        logits = (5 * _regions(batch, case.classes, case.size)).requires_grad_()
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


def _prepare(case: Case, mode: str, given: BenchmarkOptions) -> Callable[[str], float]:
    """Build a case in this process and return what runs one step of a variant and gives its loss."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    if given.device == "cpu":
        limit_memory()
    with torch.device(given.device):
        network, leaves, forward = _build(case, given.batch)
        image = _regions(given.batch, 3, case.size)
        label = _regions(given.batch, case.classes, case.size).argmax(dim=1, keepdim=True)
    network.train(mode == "train")
    loss_of = AFMALoss()
    # The update costs the same at any learning rate; at 0 all variants keep the same parameters, hence losses.
    optimizer = torch.optim.SGD(leaves, lr=0.0, momentum=0.9)

    def run(variant: str) -> float:
        loss: Any
        with torch.autocast(given.device, enabled=given.amp), torch.inference_mode(mode == "inference"):
            output = forward(variant, image)
            if mode == "inference":
                return math.nan
            if variant == "dense":
                logits, attention = output
                loss = dense.loss(logits, attention, label, 2**case.depth, patch=PATCH)
            else:
                loss = loss_of(output, label)
        loss.backward()
        if case.group == "unet":
            optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return run


def time_variants(case: Case, mode: str, given: BenchmarkOptions, names: list[str]) -> dict[str, Any]:
    """Return the seconds of each variant, interleaved, and the losses.

    Args:
        case: what is measured.
        mode: one of :data:`MODES`.
        given: for all cases.
        names: of the variants.
    """
    run = _prepare(case, mode, given)
    for _ in range(3 if given.device == "cuda" else 1):  # warm-up
        losses = {f"{name}_loss": run(name) for name in names}
    seconds = time_interleaved(run, names, repeats=given.repeats, device=given.device)
    return {"seconds": seconds} | (losses if mode == "train" else {})


def peak_memory(case: Case, mode: str, given: BenchmarkOptions, name: str) -> int:
    """Return the most bytes that this process, or the allocator of its GPU, held until one step was done.

    Args:
        case: what is measured.
        mode: one of :data:`MODES`.
        given: for all cases.
        name: of the variant.
    """
    for other in VARIANTS:  # a tiny size loads what libraries need but once, which is no variant's own
        _prepare(case._replace(size=(64, 64)), mode, given)(other)
    _prepare(case, mode, given)(name)
    return peak_bytes(given.device)


def count_macs(case: Case, batch: int) -> dict[str, float]:
    """Count the multiply-adds (G) of each variant's forward pass, attention products included, without data.

    Args:
        case: what is measured.
        batch: B.
    """
    counts = {}
    with torch.device("meta"), torch.no_grad():
        network, _, forward = _build(case, batch)
        network.eval()
        for name in VARIANTS:
            with FlopCounterMode(display=False) as counter:
                forward(name, torch.zeros(batch, 3, *case.size))
            counts[f"{name}_gmacs"] = counter.get_total_flops() / 2e9
    return counts


def measure_case(case: Case, mode: str, given: BenchmarkOptions) -> dict[str, Any]:
    """Measure the memory of each variant that fits, then the times of those.

    Args:
        case: what is measured.
        mode: one of :data:`MODES`.
        given: for all cases.

    Returns:
        A row of results; its ``note`` says what was skipped and why.
    """
    row: dict[str, Any] = {
        "case": str(case),
        "mode": mode,
        "pixels": math.prod(case.size),
        **in_child(count_macs, case, given.batch),
    }
    maps, training = case.classes * given.batch, mode == "train"
    notes: list[str] = []
    peaks: dict[str, int] = {}
    matrices = dense.matrix_bytes(case.size, 2**case.depth, patch=PATCH, maps=maps, training=training)
    for name in ("bare", "ours", "dense"):
        needed, free = peaks.get("bare", 0) + matrices * (name == "dense"), available_bytes(given.device)
        try:
            if needed > free:
                raise MemoryError(f"it needs at least {needed / _MIB:.0f} MiB, {free / _MIB:.0f} MiB are available")
            peaks[name] = in_child(peak_memory, case, mode, given, name)
        except MemoryError as error:
            notes.append(f"{name} skipped: {error}")
    row |= {f"{name}_peak_mib": peak / _MIB for name, peak in peaks.items()}
    row |= {f"{name}_added_mib": (peaks[name] - peaks["bare"]) / _MIB for name in peaks if "bare" in peaks}
    try:
        row |= in_child(time_variants, case, mode, given, [name for name in VARIANTS if name in peaks])
        # Alone, bare is next to nothing, and no ratio to it says anything.
        row |= summarise(row["seconds"], _PAIRS[: 3 if case.group == "unet" else 1])
    except MemoryError as error:
        notes.append(f"times skipped: {error}")
    return row | {"note": "; ".join(notes)}


def measure_cases(
    cases: Sequence[Case], given: BenchmarkOptions
) -> Iterator[tuple[Case, str, Callable[[], dict[str, Any]]]]:
    """Go through cases and modes, growth in training only.

    Args:
        cases: what is measured.
        given: for all cases.

    Returns:
        Case, mode, and a function that measures them and returns a row of results.

    Example:
        >>> from afma_med.research.benchmark_cases import list_cases
        >>> [mode for _, mode, _ in measure_cases(list_cases(quick=True)[:1], BenchmarkOptions())]
        ['train', 'inference']
    """
    for case in cases:
        for mode in MODES[: 1 if case.group == "growth" else 2]:
            yield case, mode, partial(measure_case, case, mode, given)


def save_benchmark(
    folder: Path, rows: list[dict[str, Any]], *, machine: dict[str, Any], options: dict[str, Any]
) -> None:
    """Write the rows that there are, the machine and the options, and the chart of growth.

    Args:
        folder: for the files.
        rows: of :func:`measure_case`.
        machine: what :func:`~afma_med.research.benchmark.describe_machine` says.
        options: of the measurement.
    """
    growing = [row for row in rows if row["case"].startswith("growth")]
    growth = fit_growth(growing, [f"{name}_{unit}" for name in VARIANTS[:2] for unit in ("added_ms", "added_mib")])
    write_results(folder, {"machine": machine, "options": options, "growth": growth, "rows": rows})
    if growing:
        units = {"added time, ms": "added_ms", "added peak memory, MiB": "added_mib"}
        panels = {title: [f"{name}_{unit}" for name in VARIANTS[:2]] for title, unit in units.items()}
        draw_growth(growth, panels, folder / "growth.png")
