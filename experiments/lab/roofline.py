"""Compare the time of each part of AFMA with the least time that this machine could need for it: a roofline.

The floor of a part is the larger of two times: its multiply-adds at the rate of the machine's own matrix product in
float32, and the bytes that it must at least read and write at the rate of the machine's own copy. Both rates are
measured in the same run, between the parts. A part counts each input and each output once, no intermediate result, and
float32 throughout. So does the backward pass, for which it has what the forward pass read and wrote.

==================  ==========================================================================================
part                computation
==================  ==========================================================================================
image embedding     step 1: image (B,C,H,W) to (B,K,H,W), as one 9×9 convolution
feature embedding   step 2: feature map (B,F,h,w) to (B,K,h,w)
projections         steps 3-4: patches of both maps, each times a D×D matrix
compression         steps 6-7: the logits' arg max, pooled to the size of the feature map
correction          steps 8-9: attention times values, and logits + logits · X, with the count of non-zeros
count of non-zeros  the part of step 8 that the correction includes, alone
attention loss      step 10: the gold attention of a label, and the squared distance to it
hypercolumn head    HypercolumnNet's addition: scores of three maps (B,F,h,w), enlarged and added to the logits
==================  ==========================================================================================

Reference:
    Williams, Waterman, Patterson: Roofline: An Insightful Visual Performance Model, CACM 2009.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from afma_med._ops.modulation import row_scale
from afma_med.functional import (
    PatchAttention,
    PatchGrid,
    compress_prediction,
    gold_attention_from_index,
    modulate_logits,
    split_patches,
)
from afma_med.networks import AFMABlock
from afma_med.networks.hypercolumn_net import HypercolumnHead
from experiments.lab.benchmark import smooth_regions
from experiments.lab.benchmark_cases import BenchmarkOptions, Case

__all__ = ["Part", "Rates", "Work", "build_head", "build_parts", "measure_roofline"]

_FLOAT, _INTEGER = 4, 8  # bytes
_SIDE = 1024  # of the matrices whose product is timed
_COPIED = 2**26  # numbers that are copied
_PATCH = (10, 10)


class Work(NamedTuple):
    """Count the multiply-adds of a part, and the numbers that it at least reads and writes, in bytes."""

    macs: float
    bytes: float


class Rates(NamedTuple):
    """Hold what the machine reaches: multiply-adds a second in float32 and float64, and bytes a second of a copy."""

    float32: float
    float64: float
    copy: float

    def floor(self, work: Work) -> float:
        """Return the least seconds for some work in float32."""
        return max(work.macs / self.float32, work.bytes / self.copy)


class Part(NamedTuple):
    """Describe a part.

    Args:
        name: as in the table of this module.
        run: computes it.
        inputs: the tensors that get gradients.
        forward: the least work of the forward pass.
        backward: that of the backward pass; None without gradients.
    """

    name: str
    run: Callable[[], Sequence[Tensor]]
    inputs: Sequence[Tensor]
    forward: Work
    backward: Work | None


def measure_roofline(case: Case, given: BenchmarkOptions) -> dict[str, Any]:
    """Measure the parts of AFMA and the machine's rates, one after the other in each round.

    Returns:
        ``rates`` of the machine, in multiply-adds and bytes a second, and ``parts``: for each part and pass the
        multiply-adds, the bytes, the median and the interquartile range of its time and its floor in milliseconds, and
        the ratio of the two.
    """
    torch.set_num_threads(given.threads)
    parts = [*build_parts(case, given), build_head(case, given)]
    probes = _probes(given.device)
    passes = [one for part in parts for one in _passes(part)]
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(given.repeats + 1):  # the first round warms up
        for name, run in probes.items():
            _time(seconds, (name, ""), run, given.device, number > 0)
        for name, direction, _, prepare in passes:
            _time(seconds, (name, direction), prepare(), given.device, number > 0)
    work = {"float32": _SIDE**3, "float64": _SIDE**3, "copy": 2 * _FLOAT * _COPIED}
    rates = Rates(**{name: work[name] / statistics.median(seconds[name, ""]) for name in probes})
    rows = [_summarise(name, direction, done, seconds[name, direction], rates) for name, direction, done, _ in passes]
    return {"case": str(case), "rates": rates._asdict(), "parts": rows}


def build_parts(case: Case, given: BenchmarkOptions) -> list[Part]:
    """Build the parts of AFMA for made-up data of a case's size and a batch of the options."""
    torch.manual_seed(0)
    batch, classes, stride = given.batch, case.classes, 2**case.depth
    with torch.device("meta"):
        channels = smp.encoders.get_encoder(case.encoder, weights=None).out_channels[case.depth]
    grid = PatchGrid(case.size, stride, _PATCH)
    with torch.device(given.device):
        block = AFMABlock(channels, classes, patch_size=_PATCH)
        image = smooth_regions(batch, 3, case.size)
        feature = torch.randn(batch, channels, *(side // stride for side in case.size)).relu_().requires_grad_()
        logits = (5 * smooth_regions(batch, classes, case.size)).requires_grad_()
        index = smooth_regions(batch, classes, case.size).argmax(dim=1)
    with torch.no_grad():
        maps = [block.embed_image(image), block.embed_feature(feature, stride)]
        factors = [block._project(one) for one in maps]
    for one in (*maps, *factors):
        one.requires_grad_()
    query, key = factors
    attention = PatchAttention(query, key, grid)

    def compress() -> Tensor:
        return split_patches(compress_prediction(logits, grid), _PATCH)

    values = compress()
    convolutions = [*block.image_conv1.parameters(), *block.image_conv2.parameters()]
    linears = [block.patch_linear1.weight, block.patch_linear2.weight]
    # Numbers in a map of the logits' size, in all patches of both sides, and in the products with a D×D matrix.
    pixels, cells, depth = batch * case.size[0] * case.size[1], feature[:, 0].numel(), query.shape[-1]
    large, small = query.numel(), key.numel()
    filters = 3 * classes * 9 * 9
    return [
        Part(
            "image embedding",
            lambda: [block.embed_image(image)],
            convolutions,
            _work(pixels * filters, pixels * (3 + classes)),
            _work(pixels * filters, pixels * (3 + classes)),
        ),
        Part(
            "feature embedding",
            lambda: [block.embed_feature(feature, stride)],
            [feature, *block.feature_conv.parameters()],
            _work(cells * channels * classes, cells * (channels + classes)),
            _work(2 * cells * channels * classes, cells * (2 * channels + classes)),
        ),
        Part(
            "projections",
            lambda: [block._project(one) for one in maps],
            [*maps, *linears],
            _work((large + small) * depth, 2 * (large + small)),
            _work(2 * (large + small) * depth, 4 * (large + small)),
        ),
        Part("compression", lambda: [compress()], [], _work(0, pixels * classes + small), None),
        Part(
            "correction",
            lambda: [modulate_logits(logits, attention, values=values)],
            [logits, query, key],
            _work((large + small) * depth, 2 * pixels * classes + large + 2 * small),
            _work((3 * large + 2 * small) * depth, 3 * pixels * classes + 2 * large + 3 * small),
        ),
        Part(
            "count of non-zeros",
            lambda: [row_scale(*pair) for pair in zip(query.unbind(1), key.unbind(1), strict=True)],
            [],
            _work(0, large + small + large / depth),
            None,
        ),
        Part(
            "attention loss",
            lambda: [attention.squared_distance(gold_attention_from_index(index, grid, classes))],
            factors,
            _work(2 * (large + small) * depth, large + small + pixels * _INTEGER / _FLOAT),
            _work(2 * (large + small) * depth, 2 * (large + small) + pixels * _INTEGER / _FLOAT),
        ),
    ]


def build_head(case: Case, given: BenchmarkOptions) -> Part:
    """Build the hypercolumn head on encoder depths 2, 3 and 4, for made-up data of a case's size."""
    hidden, depths, classes = 128, (2, 3, 4), case.classes
    with torch.device("meta"):
        channels = [smp.encoders.get_encoder(case.encoder, weights=None).out_channels[depth] for depth in depths]
    with torch.device(given.device):
        head = HypercolumnHead(channels, classes, hidden_channels=hidden)
        maps = [
            torch.randn(given.batch, count, *(side // 2**depth for side in case.size)).relu_()
            for count, depth in zip(channels, depths, strict=True)
        ]
        logits = smooth_regions(given.batch, classes, case.size).requires_grad_()
    for one in maps:
        one.requires_grad_()
    read, scored = sum(one.numel() for one in maps), maps[0][:, 0].numel()
    macs = read * hidden + scored * (hidden * hidden // 2 + hidden // 2 * classes)
    return Part(
        "hypercolumn head",
        lambda: [logits + interpolate(head(maps), case.size, mode="bilinear")],
        [logits, *maps, *head.parameters()],
        _work(macs, read + 2 * logits.numel()),
        _work(2 * macs, 2 * read + logits.numel()),
    )


def _work(macs: float, numbers: float) -> Work:
    return Work(macs, _FLOAT * numbers)


def _passes(part: Part) -> Iterator[tuple[str, str, Work, Callable[[], Callable[[], Any]]]]:
    """Yield name, direction, work, and a function that prepares a run of it."""
    yield part.name, "forward", part.forward, lambda: part.run
    if part.backward is not None:
        yield part.name, "backward", part.backward, partial(_prepare_backward, part)


def _prepare_backward(part: Part) -> Callable[[], Any]:
    outputs = part.run()
    gradients = [torch.ones_like(one) for one in outputs]
    return lambda: torch.autograd.grad(outputs, part.inputs, gradients, allow_unused=True)


def _probes(device: str) -> dict[str, Callable[[], Any]]:
    """The products and the copy by which the machine's rates are measured."""
    single, double = (torch.rand(_SIDE, _SIDE, dtype=dtype, device=device) for dtype in (torch.float32, torch.float64))
    source = torch.rand(_COPIED, device=device)
    target = torch.empty_like(source)
    return {
        "float32": lambda: single @ single,
        "float64": lambda: double @ double,
        "copy": lambda: target.copy_(source),
    }


def _time(
    seconds: dict[tuple[str, str], list[float]], name: tuple[str, str], run: Callable[[], Any], device: str, kept: bool
) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = run()  # kept until the clock stops: freeing it is not part of the work
    if device == "cuda":
        torch.cuda.synchronize()
    if kept:
        seconds.setdefault(name, []).append(time.perf_counter() - start)
    del result


def _summarise(name: str, direction: str, done: Work, seconds: Sequence[float], rates: Rates) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    floor = rates.floor(done)
    return {
        "part": name,
        "pass": direction,
        "macs": done.macs,
        "bytes": done.bytes,
        "ms": 1e3 * middle,
        "iqr_ms": 1e3 * (high - low),
        "floor_ms": 1e3 * floor,
        "ratio": middle / floor,
    }
