"""Whether a trained network's attention is learnt, and whether its correction helps, over the images of a section."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor
from tqdm import tqdm

from afma_med.data.class_table import class_names
from afma_med.functional import PatchAttention, gold_attention_from_index
from afma_med.metrics.class_iou import unscored_indices
from afma_med.metrics.pixel_counts import count_pixels, object_counts
from afma_med.metrics.pixel_scores import scores_from_pixels
from afma_med.networks import AFMANet
from afma_med.networks.probing import probing
from afma_med.research.attended_images import Attended, attend, check_measurable, labelled_items
from afma_med.runs.finished_run import FinishedRun
from afma_med.visualize.attention import decide
from afma_med.visualize.text_table import format_table

__all__ = [
    "AttentionReport",
    "AttentionTally",
    "ClassAttention",
    "attention_as_json",
    "attention_from_json",
    "measure_attention",
    "report_attention",
    "report_classes",
]


class ClassAttention(NamedTuple):
    """Hold what :func:`measure_attention` finds about one class.

    Args:
        name: of the class.
        share: of the squared size of the gold attention, and so of the loss of an attention of zeros.
        error, cosine: as those of the whole.
        auc: probability that an image patch with pixels of the class has a larger strongest attention than one without:
            0.5 if the attention knows nothing of where the class is; NaN if all patches have it, or none.
    """

    name: str
    share: float
    error: float
    cosine: float
    auc: float


class AttentionReport(NamedTuple):
    """Hold what :func:`measure_attention` finds, over all pixels and patches of a section.

    Args:
        images: how many were looked at.
        error: squared distance to the gold attention, over the squared size of the gold attention: 0 where they are
            equal, 1 for an attention of zeros, more for one that is worse than none.
        cosine: of the angle between attention and gold attention, as vectors: 1 for the same up to a factor.
        peak: median over images of the largest entry of the attention; that of the gold one is near 1.
        changed: part of the pixels whose class the correction changes.
        mended: of the changed pixels that have a label, the part that is right after and was wrong before.
        harmed: the part that is wrong after and was right before.
        miou: mean IoU of the scored classes before the correction, after it, and after one by the gold attention, which
            is what the correction could give if the attention were learnt perfectly.
        classes: the same class by class.
    """

    images: int
    error: float
    cosine: float
    peak: float
    changed: float
    mended: float
    harmed: float
    miou: tuple[float, float, float]
    classes: tuple[ClassAttention, ...] = ()


def measure_attention(run: FinishedRun, *, section: str = "val", limit: int | None = None) -> AttentionReport:
    """Measure a run's attention on a section of its dataset.

    Args:
        run: trained with AFMA, of images.
        section: with labels.
        limit: look at so many images only, the first ones.

    Raises:
        ValueError: if the run has no attention, its dataset is one of volumes, or the section has no labels.
    """
    afma, items = check_measurable(run), labelled_items(run, section, limit)
    tally = AttentionTally(run, afma)
    for item in tqdm(items, desc=run.title, unit="image", disable=None):
        tally.add(attend(run, afma, item))
    return tally.report()


class AttentionTally:
    """Measure attention image by image.

    Args:
        run: of the network.
        afma: whose attention is between patches.
    """

    def __init__(self, run: FinishedRun, afma: AFMANet) -> None:
        self.run, self.afma = run, afma
        self._found: list[tuple[Tensor, tuple[Tensor, Tensor], list[float], Tensor]] = []

    def add(self, image: Attended) -> None:
        """Measure an image."""
        self._found.append(_measure(self.run, self.afma, image))

    def report(self) -> AttentionReport:
        """Return what was found in all images so far."""
        squares, rows, pixels, confusions = zip(*self._found, strict=True)
        by_class = torch.stack(squares).sum(dim=0)
        error, cosine = _error_and_cosine(*by_class.sum(dim=1).tolist())
        strongest, filled = (torch.cat(each, dim=1) for each in zip(*rows, strict=True))
        total, changed, labelled, mended, harmed = torch.tensor(pixels).double().sum(dim=0)
        return AttentionReport(
            images=len(self._found),
            error=error,
            cosine=cosine,
            peak=torch.stack([row.max() for row, _ in rows]).median().item(),
            changed=(changed / total).item(),
            mended=(mended / labelled).item(),
            harmed=(harmed / labelled).item(),
            miou=_mean_iou(self.run, sum(confusions[1:], start=confusions[0])),
            classes=_by_class(class_names(self.run.reader.classes), by_class, strongest, filled),
        )


def attention_as_json(report: AttentionReport) -> dict[str, Any]:
    """Return a report as a dictionary that JSON can hold: None for NaN.

    Example:
        >>> report = AttentionReport(9, 0.5, math.nan, 0.9, 0.01, 0.6, 0.3, (0.5, 0.52, 0.6))
        >>> attention_as_json(report)["cosine"] is None
        True
        >>> attention_from_json(attention_as_json(report)).miou
        (0.5, 0.52, 0.6)
    """
    found = report._asdict() | {"classes": [_without_nan(one._asdict()) for one in report.classes]}
    return _without_nan(found)


def attention_from_json(content: Mapping[str, Any]) -> AttentionReport:
    """Return the report that :func:`attention_as_json` was given.

    Raises:
        ValueError: if the content is not of that form.
    """
    try:
        classes = tuple(ClassAttention(**_with_nan(one)) for one in content["classes"])
        return AttentionReport(**_with_nan({**content, "miou": tuple(content["miou"]), "classes": classes}))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"`content` must be a report about attention; got: {type(error).__name__}: {error}. Measure the run again."
        ) from error


def report_attention(reports: Sequence[tuple[str, AttentionReport]]) -> str:
    """Write reports of several runs as a table for people.

    Example:
        >>> report = AttentionReport(9, 0.5, 0.8, 0.9, 0.01, 0.6, 0.3, (0.5, 0.52, 0.6))
        >>> same = report._replace(changed=0, mended=math.nan, harmed=math.nan)
        >>> print(report_attention([("a", report), ("b", same)]))
        run      error    cosine      peak    changed    mended    harmed    mIoU before    after    by gold    images
        a        0.500     0.800  0.900000     1.000%     60.0%     30.0%         0.5000   0.5200     0.6000         9
        b        0.500     0.800  0.900000     0.000%         -         -         0.5000   0.5200     0.6000         9
    """
    head = (
        "run",
        "error",
        "cosine",
        "peak",
        "changed",
        "mended",
        "harmed",
        "mIoU before",
        "after",
        "by gold",
        "images",
    )
    rows = []
    for name, one in reports:
        # Where no pixel changed, there is nothing to have a share of.
        mended, harmed = ("-" if math.isnan(share) else f"{share:.1%}" for share in (one.mended, one.harmed))
        size = (f"{one.error:.3f}", f"{one.cosine:.3f}", f"{one.peak:.6f}")
        scores = [f"{miou:.4f}" for miou in one.miou]
        rows.append((name, *size, f"{one.changed:.3%}", mended, harmed, *scores, str(one.images)))
    return format_table(head, rows)


def report_classes(report: AttentionReport) -> str:
    """Write a report class by class as a table for people.

    Example:
        >>> one = ClassAttention("car", 0.02, 1.0, 0.0512, 0.61)
        >>> print(report_classes(AttentionReport(9, 0.5, 0.8, 0.9, 0.01, 0.6, 0.3, (0.5, 0.52, 0.6), (one,))))
        class      share of gold    error    cosine    AUC
        car                2.00%    1.000     0.051   0.61
    """
    rows = [
        (one.name, f"{one.share:.2%}", f"{one.error:.3f}", f"{one.cosine:.3f}", f"{one.auc:.2f}")
        for one in report.classes
    ]
    return format_table(("class", "share of gold", "error", "cosine", "AUC"), rows)


def _measure(
    run: FinishedRun, afma: AFMANet, image: Attended
) -> tuple[Tensor, tuple[Tensor, Tensor], list[float], Tensor]:
    """What one image adds to the report.

    (3,K) squared distance, squares of attention and gold; (K,N) strongest attention of each patch, and whether it has
    the class; pixels, changed, those with labels, mended, harmed; (3,3K,3K) pixels by class of label and prediction,
    before the correction, after it, after one by the gold.
    """
    names, label = class_names(run.reader.classes), image.label[0].cpu()
    with probing(afma):
        gold = gold_attention_from_index(image.label, image.attention.grid, len(names))
        corrected = [afma.correct(image.logits, one) for one in (image.attention, _as_floats(gold))]
    predictions = [torch.from_numpy(decide(one)[0]) for one in (image.logits, *corrected)]
    unscored = unscored_indices(names, run.reader.unscored)
    scored = torch.where(torch.isin(label, torch.tensor(unscored)), -1, label)
    confusions = torch.stack([count_pixels(prediction, scored, len(names)) for prediction in predictions])
    rows = _strongest(image.attention), gold.query[0].any(dim=2).cpu()
    return _squares(image.attention, gold), rows, _pixels(*predictions[:2], label=label), confusions


def _squares(attention: PatchAttention, gold: PatchAttention) -> Tensor:
    """Class by class: distance, attention, gold attention, as means over patches."""
    zero = attention._replace(query=torch.zeros_like(attention.query))
    pairs = (attention, gold), (attention, zero), (gold, zero)
    found = [
        [a._replace(query=a.query[:, k, None], key=a.key[:, k, None]) for a in pair]
        for pair in pairs
        for k in range(attention.key.shape[1])
    ]
    return torch.tensor([one.squared_distance(other).item() for one, other in found]).double().view(len(pairs), -1)


def _strongest(attention: PatchAttention) -> Tensor:
    """The largest entry of each row, (K,N)."""
    each = [(q @ k.mT).amax(dim=1) for q, k in zip(attention.query[0], attention.key[0], strict=True)]
    return torch.stack(each).cpu() / attention.query.shape[-1]


def _error_and_cosine(distance: float, own: float, gold: float) -> tuple[float, float]:
    size = math.sqrt(own * gold)
    return distance / gold if gold else math.nan, (own + gold - distance) / (2 * size) if size else math.nan


def _by_class(names: Sequence[str], squares: Tensor, strongest: Tensor, filled: Tensor) -> tuple[ClassAttention, ...]:
    shares = (squares[2] / squares[2].sum()).tolist()
    figures = [_error_and_cosine(*each.tolist()) for each in squares.unbind(dim=1)]
    found = []
    for name, share, (error, cosine), values, has in zip(names, shares, figures, strongest, filled, strict=True):
        pair = values[has].numpy(), values[~has].numpy()
        count = pair[0].size * pair[1].size
        auc = float(mannwhitneyu(*pair).statistic) / count if count else math.nan
        found.append(ClassAttention(name, share, error, cosine, auc))
    return tuple(found)


def _pixels(before: Tensor, after: Tensor, *, label: Tensor) -> list[float]:
    changed = before != after
    masks = changed & (label >= 0), changed & (after == label), changed & (before == label)
    return [float(changed.numel()), *(float(mask.sum()) for mask in (changed, *masks))]


def _without_nan(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(one, float) and math.isnan(one) else one for name, one in content.items()}


def _with_nan(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if one is None else one for name, one in content.items()}


def _as_floats(attention: PatchAttention) -> PatchAttention:
    """The gold attention's query is of truth values, which the correction cannot multiply."""
    return attention._replace(query=attention.query.to(attention.key.dtype))


def _mean_iou(run: FinishedRun, confusions: Tensor) -> tuple[float, float, float]:
    names = class_names(run.reader.classes)
    scored = [k for k, name in enumerate(names) if name not in run.reader.unscored]
    counts = [object_counts(confusion)[scored, :1].numpy() for confusion in confusions]
    before, after, gold = (scores_from_pixels(one, [names[k] for k in scored], ("all",))["mIoU"] for one in counts)
    return float(before), float(after), float(gold)
