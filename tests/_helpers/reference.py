"""The paper as deliberately naive loops in float64: what the package is held to.

It imports nothing from the package. A tensor is taken apart into its numbers, every formula is written out over images,
classes, patches and pixels, and the numbers are stacked again; only convolutions are left to torch. Numbers of tensors
that require a gradient stay 0-d tensors, so that autograd differentiates the loops; all others are Python floats.

Letters: B images, K classes, H and W image sides, h and w feature map sides, s stride, ph and pw patch sides,
D = ph * pw, N image patches, M feature patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

COUNT_EPSILON = 1e-5

Size = tuple[int, int]


# Between tensors and nested lists of numbers.


def numbers(x: Any) -> Any:
    """Take a tensor apart into nested lists of numbers."""
    if not isinstance(x, Tensor):
        return x
    if not x.requires_grad:
        return x.double().tolist()
    return _unbind(x.double())


def _unbind(x: Tensor) -> Any:
    return x if x.ndim == 0 else [_unbind(part) for part in x.unbind()]


def tensor(nested: Any) -> Tensor:
    """Stack nested lists of numbers to a float64 tensor."""
    if isinstance(nested, list):
        return torch.stack([tensor(part) for part in nested])
    return nested if isinstance(nested, Tensor) else torch.tensor(nested, dtype=torch.float64)


def exp(x: Any) -> Any:
    return x.exp() if isinstance(x, Tensor) else math.exp(x)


def log(x: Any) -> Any:
    return x.log() if isinstance(x, Tensor) else math.log(x)


def relu(x: Any) -> Any:
    return x if x > 0 else 0.0 * x


def for_each_map(function: Callable[..., Any], *maps: Any) -> Tensor:
    """Apply a function to the maps of each image and class."""
    images = zip(*(numbers(x) for x in maps), strict=True)
    return tensor([[function(*classes) for classes in zip(*image, strict=True)] for image in images])


# Steps 3, 4, 7 and 9: patches.


def split_patches(maps: Tensor, patch: Size) -> Tensor:
    """(B,K,H,W) -> (B,K,N,D): row-major over the grid and inside a patch, zeros beyond the bottom and right."""

    def split(x: Any) -> list[list[Any]]:
        height, width = len(x), len(x[0])
        patches = []
        for top in range(0, height, patch[0]):
            for left in range(0, width, patch[1]):
                inside = []
                for i in range(top, top + patch[0]):
                    for j in range(left, left + patch[1]):
                        inside.append(x[i][j] if i < height and j < width else 0.0)
                patches.append(inside)
        return patches

    return for_each_map(split, maps)


def join_patches(patches: Tensor, size: Size, patch: Size) -> Tensor:
    """(B,K,N,D) -> (B,K,H,W), without what lies beyond the bottom and right."""
    columns = math.ceil(size[1] / patch[1])

    def join(x: Any) -> list[list[Any]]:
        joined = []
        for i in range(size[0]):
            row = []
            for j in range(size[1]):
                n = (i // patch[0]) * columns + j // patch[1]
                row.append(x[n][(i % patch[0]) * patch[1] + j % patch[1]])
            joined.append(row)
        return joined

    return for_each_map(join, patches)


# Steps 5 and 8: attention and spreading.


def attention(query: Tensor, key: Tensor) -> Tensor:
    """(B,K,N,D), (B,K,M,D) -> (B,K,N,M): dot products of patches, divided by D, without softmax."""

    def dots(q: Any, k: Any) -> list[list[Any]]:
        depth = len(q[0])
        return [[sum(q[n][d] * k[m][d] for d in range(depth)) / depth for m in range(len(k))] for n in range(len(q))]

    return for_each_map(dots, query, key)


def spread(dense: Tensor, values: Tensor) -> Tensor:
    """(B,K,N,M), (B,K,M,D) -> (B,K,N,D): each row of A divided by its count of non-zeros, times V."""

    def rows(a: Any, v: Any) -> list[list[Any]]:
        result = []
        for row in a:
            count = sum(1 for entry in row if entry != 0)
            shares = [entry / (count + COUNT_EPSILON) for entry in row]
            result.append([sum(share * v[m][d] for m, share in enumerate(shares)) for d in range(len(v[0]))])
        return result

    return for_each_map(rows, dense, values)


# Step 6: the prediction, averaged over the pixels of one feature map pixel.


def prediction(logits: Tensor, *, soft: bool) -> Tensor:
    """(B,K,H,W): class probabilities, or 1 for the likeliest class of each pixel; one class is a yes-no question."""
    result = []
    for image in numbers(logits):
        classes, height, width = len(image), len(image[0]), len(image[0][0])
        maps = [[[0.0] * width for _ in range(height)] for _ in range(classes)]
        for i in range(height):
            for j in range(width):
                scores = [image[k][i][j] for k in range(classes)]
                for k, share in enumerate(_soft_shares(scores) if soft else _hard_shares(scores)):
                    maps[k][i][j] = share
        result.append(maps)
    return tensor(result)


def _soft_shares(scores: Sequence[Any]) -> list[Any]:
    if len(scores) == 1:
        return [sigmoid(scores[0])]
    total = sum(exp(score) for score in scores)
    return [exp(score) / total for score in scores]


def _hard_shares(scores: Sequence[Any]) -> list[float]:
    if len(scores) == 1:
        return [1.0 if sigmoid(scores[0]) > 0.5 else 0.0]
    best = max(range(len(scores)), key=lambda k: scores[k])
    return [1.0 if k == best else 0.0 for k in range(len(scores))]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def pool(maps: Tensor, image_size: Size, stride: int) -> Tensor:
    """(B,K,H,W) -> (B,K,h,w): means over s × s pixels; pixels beyond the bottom and right are 0."""

    def average(x: Any) -> list[list[Any]]:
        pooled = []
        for top in range(0, image_size[0], stride):
            row = []
            for left in range(0, image_size[1], stride):
                total = 0.0
                for i in range(top, min(top + stride, len(x))):
                    for j in range(left, min(left + stride, len(x[0]))):
                        total = total + x[i][j]
                row.append(total / stride**2)
            pooled.append(row)
        return pooled

    return for_each_map(average, maps)


# Step 9: the corrected prediction.


def modulate(logits: Tensor, dense: Tensor, image_size: Size, stride: int, patch: Size, *, soft: bool) -> Tensor:
    """(B,K,H,W) -> (B,K,H,W): logits + logits * X, X the spread patches of the pooled prediction."""
    pooled = pool(prediction(logits, soft=soft), image_size, stride)
    joined = join_patches(spread(dense, split_patches(pooled, patch)), image_size, patch)

    def correct(z: Any, x: Any) -> list[list[Any]]:
        return [[z[i][j] + z[i][j] * x[i][j] for j in range(len(z[0]))] for i in range(len(z))]

    return for_each_map(correct, logits, joined)


# Step 10: the gold attention.


def gold_attention(one_hot: Tensor, image_size: Size, stride: int, patch: Size) -> Tensor:
    """(B,K,H,W) -> (B,K,N,M): patches of the label against patches of the pooled label."""

    def extend(x: Any) -> list[list[float]]:
        rows, columns = range(image_size[0]), range(image_size[1])
        return [[x[i][j] if i < len(x) and j < len(x[0]) else 0.0 for j in columns] for i in rows]

    return attention(
        split_patches(for_each_map(extend, one_hot), patch), split_patches(pool(one_hot, image_size, stride), patch)
    )


# Steps 1, 2 and the patch projection.


def block_attention(
    image: Tensor, feature: Tensor, parameters: Mapping[str, Tensor], patch: Size, *, paper: bool
) -> Tensor:
    """(B,C,H,W), (B,F,h,w) -> (B,K,N,M): the whole of the learnable part, with parameters by name."""
    stride = image.shape[2] // feature.shape[2]
    embedded = _convolve(image, parameters, "image_conv1", padding=3)
    embedded = _convolve(embedded, parameters, "image_conv2", padding=1)
    compressed = _convolve(feature, parameters, "feature_conv", padding=0) / stride**2
    query, key = split_patches(embedded, patch), split_patches(compressed, patch)
    if paper:
        classes = compressed.shape[1]
        return attention(torch.stack([query[:, 0] for _ in range(classes)], dim=1), key)
    return attention(project(query, parameters), project(key, parameters))


def _convolve(x: Tensor, parameters: Mapping[str, Tensor], name: str, *, padding: int) -> Tensor:
    return F.conv2d(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"], padding=padding)


def project(patches: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """(B,K,N,D) -> (B,K,N,D): each patch through two linear layers without bias, then ReLU."""
    first, second = (numbers(parameters[f"patch_linear{i}.weight"]) for i in (1, 2))

    def each(x: Any) -> list[list[Any]]:
        result = []
        for inside in x:
            hidden = [sum(weight * number for weight, number in zip(row, inside, strict=True)) for row in first]
            result.append([relu(sum(w * number for w, number in zip(row, hidden, strict=True))) for row in second])
        return result

    return for_each_map(each, patches)


# Several attentions of one image: parts are (A of some classes, indices of these classes, stride, patch).

Part = tuple[Tensor, Sequence[int], int, Size]


def modulate_by_several(logits: Tensor, parts: Sequence[Part], image_size: Size, *, soft: bool) -> Tensor:
    """(B,K,H,W) -> (B,K,H,W): logits + logits * X, X of a class the mean over the parts that hold the class."""
    shares = prediction(logits, soft=soft)
    corrected = []
    for k in range(logits.shape[1]):
        corrections = []
        for dense, classes, stride, patch in parts:
            for place, held in enumerate(classes):
                if held == k:
                    values = split_patches(pool(shares[:, k : k + 1], image_size, stride), patch)
                    spread_out = spread(dense[:, place : place + 1], values)
                    corrections.append(join_patches(spread_out, image_size, patch))
        own = logits[:, k : k + 1]
        corrected.append(_correct_by_mean(own, corrections) if corrections else own)
    return torch.cat(corrected, dim=1)


def _correct_by_mean(logits: Tensor, corrections: Sequence[Tensor]) -> Tensor:
    def correct(z: Any, *xs: Any) -> list[list[Any]]:
        rows, columns = range(len(z)), range(len(z[0]))
        return [[z[i][j] + z[i][j] * sum(x[i][j] for x in xs) / len(xs) for j in columns] for i in rows]

    return for_each_map(correct, logits, *corrections)


def attention_loss_of_several(parts: Sequence[Part], label: Tensor, image_size: Size) -> Tensor:
    """The mean over all classes of all parts of the mean of (A - A*)² of the class; label (B,K,H,W), one-hot."""
    terms = []
    for dense, classes, stride, patch in parts:
        gold = gold_attention(label, image_size, stride, patch)
        for place, k in enumerate(classes):
            terms.append(mean_squared_error(dense[:, place : place + 1], gold[:, k : k + 1]))
    return tensor(sum(terms) / len(terms))


# Losses.


def one_hot(index: Any, classes: int) -> Tensor:
    """(B,H,W) -> (B,K,H,W); an index that is no class is void, 0 for every class. One class: the index is yes or no."""
    wanted = [1] if classes == 1 else list(range(classes))
    return tensor([[[[float(i == k) for i in row] for row in image] for k in wanted] for image in numbers(index)])


def released_cross_entropy(logits: Tensor, index: Tensor, weights: Sequence[float], void: int | None = None) -> Tensor:
    """Sum of w_y · (-log softmax_y) over labelled pixels, divided by the sum of w_y."""
    total, norm = 0.0, 0.0
    for scores, y in _labelled_pixels(logits, index, void):
        if len(scores) == 1:
            share = sigmoid(scores[0]) if y == 1 else sigmoid(-scores[0])
            weight = weights[0]
        else:
            share = exp(scores[y]) / sum(exp(score) for score in scores)
            weight = weights[y]
        total = total - weight * log(share)
        norm = norm + weight
    return tensor(total / norm)


def text_cross_entropy(logits: Tensor, index: Tensor, weights: Sequence[float], void: int | None = None) -> Tensor:
    """Mean over labelled pixels and classes of w_k · (the cross-entropy of the yes-no question for class k)."""
    total, terms = 0.0, 0
    for scores, y in _labelled_pixels(logits, index, void):
        for k, score in enumerate(scores):
            yes = y == 1 if len(scores) == 1 else y == k
            total = total - weights[k] * log(sigmoid(score) if yes else sigmoid(-score))
            terms += 1
    return tensor(total / terms)


def _labelled_pixels(logits: Tensor, index: Tensor, void: int | None) -> list[tuple[list[Any], int]]:
    pixels = []
    for image, labels in zip(numbers(logits), numbers(index), strict=True):
        for i, row in enumerate(labels):
            for j, y in enumerate(row):
                if y != void:
                    pixels.append(([image[k][i][j] for k in range(len(image))], int(y)))
    return pixels


def mean_squared_error(dense: Tensor, other: Tensor) -> Tensor:
    """Mean over (B,K,N,M) of (A - A*)²."""
    total, terms = 0.0, 0
    for images in zip(numbers(dense), numbers(other), strict=True):
        for maps in zip(*images, strict=True):
            for rows in zip(*maps, strict=True):
                for a, b in zip(*rows, strict=True):
                    total = total + (a - b) * (a - b)
                    terms += 1
    return tensor(total / terms)


def median_frequency(counts: Sequence[Sequence[float]]) -> list[float]:
    """Pixels of k / pixels of the images that contain k; the median of those, divided by each; 0 for absent classes."""
    frequencies: list[float | None] = []
    for k in range(len(counts[0])):
        containing = [image for image in counts if image[k] > 0]
        own, all_pixels = sum(image[k] for image in containing), sum(sum(image) for image in containing)
        frequencies.append(own / all_pixels if containing else None)
    known = sorted(frequency for frequency in frequencies if frequency is not None)
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    return [0.0 if frequency is None else middle / frequency for frequency in frequencies]


# Comparison.


def gradients(output: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a fixed weighted sum of the output; zeros for an input that plays no part in it."""
    weights = torch.linspace(-1.0, 2.0, output.numel(), dtype=output.dtype).reshape(output.shape)
    found = torch.autograd.grad((output * weights).sum(), inputs, allow_unused=True)
    return [torch.zeros_like(x) if grad is None else grad for x, grad in zip(inputs, found, strict=True)]
