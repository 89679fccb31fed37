"""Figures about the attention equal those of its matrix, built and counted."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate, one_hot

from _helpers.commands import run_lab
from _helpers.synthetic_runs import write_untrained as write_run
from afma_med import GroupedAttention, PatchAttention
from afma_med.data import CAMVID
from afma_med.functional import gold_attention, modulate_logits
from afma_med.metrics import ClassIoU
from afma_med.runs.trained_network import TrainedNetwork, load_network
from afma_med.samples import write_street_scenes
from experiments.lab.mechanism import AttentionReport, measure_run


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_street_scenes(tmp_path_factory.mktemp("data") / "scenes", counts={"val": 3, "test": 1}, size=(64, 96))


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedNetwork:
    """Untrained, with an attention large enough to change predictions, and images at half their size."""
    loaded = load_network(write_run(tmp_path_factory.mktemp("runs") / "afma", "camvid", scenes, longest_side=48))
    with torch.no_grad():
        loaded.network.afma_block.patch_linear1.weight *= 60
        loaded.network.afma_block.feature_conv.weight *= 60
    return loaded


def measure_attention(run: TrainedNetwork, **options: object) -> AttentionReport:
    attention, _ = measure_run(run, **options)
    assert attention is not None
    return attention


def test_groups_of_classes_have_the_figures_of_one_attention(
    run: TrainedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, attend = measure_run(run), run.network.attend
    classes = (tuple(range(0, 12, 2)), tuple(range(1, 12, 2)))

    def grouped(image: torch.Tensor) -> tuple[torch.Tensor, GroupedAttention]:
        logits, whole = attend(image)
        parts = (PatchAttention(whole.query[:, list(k)], whole.key[:, list(k)], whole.grid) for k in classes)
        return logits, GroupedAttention(tuple(parts), classes)

    monkeypatch.setattr(run.network, "attend", grouped)
    attention, mechanism = measure_run(run)
    assert attention is not None
    assert attention[:-2] == pytest.approx(expected[0][:-2])
    for one, other in zip(attention.classes, expected[0].classes, strict=True):
        assert one[1:] == pytest.approx(other[1:], nan_ok=True), one.name
    for form, other in zip(mechanism[1:], expected[1][1:], strict=True):
        assert form == pytest.approx(other, nan_ok=True)


def test_figures_of_a_class_are_means_over_its_depths(run: TrainedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an attention of zeros next to its own, and classes 2 to 11 without any."""
    (own, _), attend = measure_run(run), run.network.attend

    def grouped(image: torch.Tensor) -> tuple[torch.Tensor, GroupedAttention]:
        logits, whole = attend(image)
        some = PatchAttention(whole.query[:, :2], whole.key[:, :2], whole.grid)
        return logits, GroupedAttention((some, some._replace(query=0 * some.query)), ((0, 1), (0, 1)))

    monkeypatch.setattr(run.network, "attend", grouped)
    attention, _ = measure_run(run)
    for k in (0, 1):
        assert attention.classes[k].error == pytest.approx((own.classes[k].error + 1) / 2)
    for one in attention.classes[2:]:
        assert math.isnan(one.error) and math.isnan(one.auc) and one.share == 0


def test_figures_equal_those_of_the_matrix(run: TrainedNetwork, scenes: Path) -> None:
    found = measure_attention(run)
    squares, golds, products, owns, peaks = 0.0, 0.0, 0.0, 0.0, []
    total = changed = labelled = mended = harmed = 0
    metrics = [ClassIoU(CAMVID.classes, unscored=("unlabelled",)) for _ in range(3)]
    for item in CAMVID.datalist(scenes, "val"):
        image = run.prepare(item["image"])[None]
        size = tuple(image.shape[2:])
        assert size == (32, 48)
        label = interpolate(torch.from_numpy(CAMVID.read_label(item)).float()[None, None], size=size)[0, 0].long()
        with torch.no_grad():
            logits, attention = run.network.attend(image)
            after = run.network(image).argmax(1)[0]
        before = logits.argmax(1)[0]
        a = attention.dense().double()
        g = gold_attention(one_hot(label, 12).permute(2, 0, 1)[None].double(), attention.grid).dense()
        squares += float(((a - g) ** 2).sum())
        golds += float((g**2).sum())
        owns += float((a**2).sum())
        products += float((a * g).sum())
        peaks.append(float(a.max()))
        by_gold = modulate_logits(logits, gold_attention(one_hot(label, 12).permute(2, 0, 1)[None], attention.grid))
        for metric, scores in zip(metrics, (logits, run.network(image), by_gold), strict=True):
            metric.update((scores, label[None, None]))
        other = before != after
        total += other.numel()
        changed += int(other.sum())
        labelled += int((other & (label < 255)).sum())
        mended += int((other & (after == label)).sum())
        harmed += int((other & (before == label)).sum())
    assert changed > 0
    assert found.images == 3
    assert found.error == pytest.approx(squares / golds, rel=1e-4)
    assert found.cosine == pytest.approx(products / math.sqrt(owns * golds), rel=1e-3)
    assert found.peak == pytest.approx(float(np.median(peaks)), rel=1e-4)
    assert found.miou == pytest.approx([metric.compute()["mIoU"] for metric in metrics], rel=1e-4)
    assert found.miou[2] > found.miou[0], "whoever knows the gold attention knows the label"
    assert (found.changed, found.mended, found.harmed) == pytest.approx(
        (changed / total, mended / labelled, harmed / labelled)
    )


@torch.no_grad()
def test_classes_equal_those_of_the_matrix(run: TrainedNetwork, scenes: Path) -> None:
    squares, strongest, filled = torch.zeros(3, 12, dtype=torch.float64), [], []
    for item in CAMVID.datalist(scenes, "val"):
        image = run.prepare(item["image"])[None]
        label = interpolate(torch.from_numpy(CAMVID.read_label(item)).float()[None, None], size=tuple(image.shape[2:]))
        _, attention = run.network.attend(image)
        gold = gold_attention(one_hot(label[:, 0].long(), 12).permute(0, 3, 1, 2), attention.grid)
        a, g = attention.dense().double(), gold.dense().double()
        squares += torch.stack([((a - g) ** 2).sum((0, 2, 3)), (a**2).sum((0, 2, 3)), (g**2).sum((0, 2, 3))])
        strongest.append(a[0].amax(2))
        filled.append(gold.query[0].amax(2) > 0)
    found = measure_attention(run).classes
    assert [one.name for one in found] == [one.name for one in CAMVID.classes]
    assert sum(one.share for one in found) == pytest.approx(1)
    assert sum(0 < one.auc < 1 for one in found) > 3
    for one, (distance, own, gold_size), values, has in zip(
        found, squares.T.tolist(), torch.cat(strongest, 1), torch.cat(filled, 1), strict=True
    ):
        assert one.share == pytest.approx(gold_size / float(squares[2].sum()), rel=1e-4)
        expected = distance / gold_size if gold_size else math.nan
        assert one.error == pytest.approx(expected, rel=1e-3, nan_ok=True)
        expected = (own + gold_size - distance) / 2 / math.sqrt(own * gold_size) if gold_size else math.nan
        assert one.cosine == pytest.approx(expected, rel=1e-2, nan_ok=True)
        wins = values[has][:, None] - values[~has]
        expected = float(((wins > 0).double() + (wins == 0).double() / 2).mean()) if wins.numel() else math.nan
        assert one.auc == pytest.approx(expected, abs=1e-3, nan_ok=True)


def test_limit_and_section(run: TrainedNetwork) -> None:
    assert measure_attention(run, limit=2).images == 2
    assert measure_attention(run, section="test").images == 1


def test_sections_without_labels_are_refused(run: TrainedNetwork) -> None:
    unlabelled = run.reader._replace(datalist=lambda root, section: [{"image": "a.png"}])
    with pytest.raises(ValueError, match=r"`section` must have labels; got 'val' without any"):
        measure_run(dataclasses.replace(run, reader=unlabelled))


def test_command_prints_a_line_for_each_run(run: TrainedNetwork, tmp_path: Path) -> None:
    done = run_lab("measure", run.folder, "--limit", 1, "--by_class")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("afma ")
    assert [line.split()[0] for line in done.stdout.split("AUC\n")[1].splitlines()[:2]] == ["sky", "building"]
    done = run_lab("measure", tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: `output_dir` must hold trained weights")
