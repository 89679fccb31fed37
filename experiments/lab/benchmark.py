"""Time AFMA against its dense form and the bare backbone; measure peak memory and count multiply-adds.

Groups: "alone", AFMA and its loss on a made-up image, feature map and logits; "unet", steps of a whole Unet; "growth",
"classes" and "batch", alone with growing images, numbers of classes and batches. Bare is the same without AFMA: alone,
the segmentation loss of the logits. A whole Unet is also measured with a hypercolumn head in place of AFMA. Labels and
logits are regions of about 60 pixels across, like those of scenes, in which every class occurs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from afma_med.functional import modulate_logits
from afma_med.losses import AFMALoss
from afma_med.networks import AFMABlock, AFMANet, HypercolumnNet
from experiments.lab import dense
from experiments.lab.benchmark_cases import GROWING, BenchmarkOptions, Case
from experiments.lab.benchmark_report import summarise
from experiments.lab.child_process import available_bytes, in_child, limit_memory, peak_bytes

__all__ = [
    "count_macs",
    "measure_case",
    "measure_cases",
    "measure_step",
    "peak_memory",
    "smooth_regions",
    "time_variants",
]

_PATCH = (10, 10)
_MODES = ("train", "inference")
_PAIRS = (("ours", "dense"), ("ours", "bare"), ("dense", "bare"), ("head", "bare"))
_MIB = 2**20


def measure_cases(
    cases: Sequence[Case], given: BenchmarkOptions
) -> Iterator[tuple[Case, str, Callable[[], dict[str, Any]]]]:
    """Yield case, mode, and a function that measures them; growth is measured in training only."""
    for case in cases:
        for mode in _MODES[: 1 if case.group in GROWING else 2]:
            yield case, mode, partial(measure_case, case, mode, given._replace(batch=case.batch or given.batch))


def measure_case(case: Case, mode: str, given: BenchmarkOptions) -> dict[str, Any]:
    """Measure the memory of each variant that fits, then the times of those.

    Each measurement runs in a process of its own.

    Args:
        case: what is measured.
        mode: ``"train"`` or ``"inference"``.
        given: options of all cases.

    Returns:
        A row of results; its ``note`` says what was skipped and why.
    """
    row: dict[str, Any] = {"case": str(case), "mode": mode, "pixels": math.prod(case.size), "classes": case.classes}
    row |= {"images": given.batch, **in_child(count_macs, case, given.batch)}
    maps, training = case.classes * given.batch, mode == "train"
    notes: list[str] = []
    peaks: dict[str, int] = {}
    matrices = dense.matrix_bytes(case.size, 2**case.depth, patch=_PATCH, maps=maps, training=training)
    for name in _variants(case):
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
        row |= in_child(time_variants, case, mode, given, [name for name in _variants(case) if name in peaks])
        # Alone, bare takes next to no time, and a ratio to it means nothing.
        row |= summarise(row["seconds"], _PAIRS if case.group == "unet" else _PAIRS[:1])
    except MemoryError as error:
        notes.append(f"times skipped: {error}")
    return row | {"note": "; ".join(notes)}


def count_macs(case: Case, batch: int) -> dict[str, float]:
    """Count the multiply-adds (G) of each variant's forward pass, attention products included, without data."""
    counts = {}
    with torch.device("meta"), torch.no_grad():
        network, _, forward = _build(case, batch, torch.contiguous_format)
        network.eval()
        for name in _variants(case):
            with FlopCounterMode(display=False) as counter:
                forward(name, torch.zeros(batch, 3, *case.size))
            counts[f"{name}_gmacs"] = counter.get_total_flops() / 2e9
    return counts


def peak_memory(case: Case, mode: str, given: BenchmarkOptions, name: str) -> int:
    """Return the most bytes that this process, or the allocator of its GPU, has held after one step of a variant."""
    for other in _variants(case):  # a tiny size, so that what libraries load once counts for no variant
        _prepare(case._replace(size=(64, 64)), mode, given)(other)
    _prepare(case, mode, given)(name)
    return peak_bytes(given.device)


def time_variants(case: Case, mode: str, given: BenchmarkOptions, names: list[str]) -> dict[str, Any]:
    """Return the seconds of each variant, and the losses.

    Each variant runs once a round, so that a disturbance of the machine affects all of them.
    """
    run = _prepare(case, mode, given)
    for _ in range(3 if given.device == "cuda" else 1):  # warm-up
        losses = {f"{name}_loss": run(name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names * given.repeats:
        _wait(given.device)
        start = time.perf_counter()
        run(name)
        _wait(given.device)
        seconds[name].append(time.perf_counter() - start)
    return {"seconds": seconds} | (losses if mode == "train" else {})


def measure_step(case: Case, given: BenchmarkOptions) -> dict[str, float]:
    """Measure the training step of a whole network: bare, with AFMA and with a head, in this process.

    Returns:
        What :func:`summarise` gives; on a GPU also the most memory that the allocator holds for each,
        ``ours_peak_mib`` and so on.
    """
    names = ["bare", "ours", "head"]
    row = summarise(time_variants(case, "train", given, names)["seconds"], _PAIRS)
    if given.device == "cuda":
        run = _prepare(case, "train", given)
        for name in names:
            run(name)
            torch.cuda.reset_peak_memory_stats()
            run(name)
            row[f"{name}_peak_mib"] = peak_bytes(given.device) / _MIB
    return row


def _variants(case: Case) -> tuple[str, ...]:
    """The bare network, AFMA and its dense form; of a whole network, a head in place of AFMA too."""
    return ("bare", "ours", "head", "dense") if case.group == "unet" else ("bare", "ours", "dense")


def _build(
    case: Case, batch: int, layout: torch.memory_format
) -> tuple[nn.Module, list[Tensor], Callable[[str, Tensor], Any]]:
    """The networks, the tensors that get gradients, and a function that runs a variant on an image."""
    host: Any
    net: nn.Module
    leaves: list[Tensor]
    wholes: dict[str, nn.Module] = {}
    if case.group == "unet":
        host = smp.Unet(case.encoder, encoder_weights=None, classes=case.classes)
        afma = AFMANet(host, case.classes, feature=case.depth, patch_size=_PATCH, attention_supervision=True)
        wholes = {"ours": afma, "head": HypercolumnNet(host, case.classes)}
        block, net = afma.afma_block, nn.ModuleDict(wholes).to(memory_format=layout)
        leaves = [*net.parameters()]
    else:
        with torch.device("meta"):
            channels = smp.encoders.get_encoder(case.encoder, weights=None).out_channels[case.depth]
        block = AFMABlock(channels, case.classes, patch_size=_PATCH).to(memory_format=layout)
        logits = 5 * smooth_regions(batch, case.classes, case.size)
        feature = torch.randn(batch, channels, *(side // 2**case.depth for side in case.size)).relu_()
        logits, feature = (x.contiguous(memory_format=layout).requires_grad_() for x in (logits, feature))
        host = SimpleNamespace(encoder=lambda _image: {case.depth: feature}, decoder=lambda _maps: logits)
        host.segmentation_head, net, leaves = nn.Identity(), block, [logits, feature, *block.parameters()]

    def run(name: str, image: Tensor) -> Any:
        if name in wholes:
            return wholes[name](image)
        maps = host.encoder(image)
        plain = host.segmentation_head(host.decoder(maps))
        if name == "bare":
            return plain
        if name == "dense":
            return dense.run(block, image, maps[case.depth], plain, _PATCH)
        attention = block(image, maps[case.depth])
        return modulate_logits(plain, attention), attention

    return net, leaves, run


def smooth_regions(batch: int, maps: int, size: tuple[int, int]) -> Tensor:
    """Draw (B,K,H,W) smooth random maps, with a little noise of single pixels."""
    coarse = torch.randn(batch, maps, *(side // 60 + 2 for side in size))
    return F.interpolate(coarse, size, mode="bilinear") + 0.1 * torch.randn(batch, maps, *size)


def _prepare(case: Case, mode: str, given: BenchmarkOptions) -> Callable[[str], float]:
    """Build a case in this process; the function runs one step of a variant and returns its loss."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = given.tf32
    if given.device == "cpu":
        limit_memory()
    layout = torch.channels_last if given.channels_last else torch.contiguous_format
    with torch.device(given.device):
        network, leaves, forward = _build(case, given.batch, layout)
        image = smooth_regions(given.batch, 3, case.size).contiguous(memory_format=layout)
        regions = smooth_regions(given.batch, case.classes, case.size)
        label = (regions > 0).long() if case.classes == 1 else regions.argmax(dim=1, keepdim=True)
    network.train(mode == "train")
    forward = torch.compile(forward) if given.compiled else forward
    loss_of, loss_of_logits = AFMALoss(), AFMALoss(attention_weight=0.0)
    # A learning rate of 0 costs the same, and all variants keep the same parameters and so the same losses.
    optimizer = torch.optim.SGD(leaves, lr=0.0, momentum=0.9)

    def run(variant: str) -> float:
        loss: Any
        with torch.autocast(given.device, enabled=given.amp), torch.inference_mode(mode == "inference"):
            output = forward(variant, image)
            if mode == "inference":
                return math.nan
            if variant == "dense":
                logits, attention = output
                loss = dense.loss(logits, attention, label, 2**case.depth, patch=_PATCH)
            else:
                loss = (loss_of if variant == "ours" else loss_of_logits)(output, label)
        loss.backward()
        if case.group == "unet":
            optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return run


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
