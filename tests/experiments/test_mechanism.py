"""Interventions on the attention change predictions as worked out by hand; scores are those of the counted pixels."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from _helpers.commands import run_lab
from _helpers.synthetic_runs import random_rows
from _helpers.synthetic_runs import write_run as write_evaluated
from _helpers.synthetic_runs import write_untrained as write_run
from afma_med import AFMANet, GroupedAttention
from afma_med.data import CAMVID
from afma_med.data.objects.sizes import SizeGroups
from afma_med.functional import PatchAttention, PatchGrid, gold_attention, join_patches, modulate_logits
from afma_med.handlers.checkpoints import load_weights
from afma_med.metrics import ClassIoU
from afma_med.metrics.pixel_counts import OBJECTS
from afma_med.runs.result_file import write_result
from afma_med.runs.run import read_run
from afma_med.runs.trained_network import TrainedNetwork, load_network
from afma_med.samples import write_street_scenes
from afma_med.samples.ct_phantom import write_ct_phantom
from experiments.lab.controls import ContextNet
from experiments.lab.correction_forms import FORMS, correct_in_all_forms
from experiments.lab.figures import measure_result, report_mechanism, reports_as_json, reports_from_json
from experiments.lab.mechanism import FormScores, MechanismReport, measure_run
from experiments.lab.small_objects import SmallObjects, score_small_objects
from experiments.lab.studies import STUDIES, SupervisionOnly, build_studied_network


def host() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ConvTranspose2d(4, 2, 2, stride=2))


def network(study: str = "") -> AFMANet:
    torch.manual_seed(0)
    options = {"feature": "0", "patch_size": 2}
    return (build_studied_network(host(), 2, study=study, **options) if study else AFMANet(host(), 2, **options)).eval()


def attention_of(query: list[list[float]], key: list[list[float]], size: tuple[int, int]) -> PatchAttention:
    """Of two classes; each patch of 2×2 pixels has one number four times, so that a product of them is A itself."""
    factors = (torch.tensor(one)[None, :, :, None].repeat(1, 1, 1, 4) for one in (query, key))
    return PatchAttention(*factors, PatchGrid(size, 1, (2, 2)))


def halves(left: list[float], right: list[float]) -> Tensor:
    """Logits (1,2,2,4): those of two classes in the left patch, and in the right one."""
    return torch.tensor([left, right]).T[None, :, None, :].repeat_interleave(2, 3).expand(1, 2, 2, 4)


# Left, class 0 is predicted (2 against 1.5), right class 1 (2 against 3).
LOGITS = halves([2.0, 1.5], [2.0, 3.0])
# Both patches attend to the left one for class 0, to none for class 1, though its query is not zero.
ATTENTION = attention_of([[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]], (2, 4))
# Another image, of one patch, of which all is class 1; its key asks for both classes.
OTHER = torch.tensor([0.0, 1.0])[None, :, None, None].expand(1, 2, 2, 2), attention_of([[1.0]] * 2, [[1.0]] * 2, (2, 2))
ALL_ONE = torch.ones(1, 2, 4, dtype=torch.long)


def forms(net: AFMANet) -> dict[str, Tensor]:
    return correct_in_all_forms(net, LOGITS, ATTENTION, other=OTHER, index=ALL_ONE)


def test_forms_of_several_attentions_are_means() -> None:
    """Of twice the same attention they are those of one."""
    net, both = network(), ((0, 1), (0, 1))
    other = OTHER[0], GroupedAttention((OTHER[1], OTHER[1]), both)
    found = correct_in_all_forms(
        net, LOGITS, GroupedAttention((ATTENTION, ATTENTION), both), other=other, index=ALL_ONE
    )
    for name, expected in forms(net).items():
        torch.testing.assert_close(found[name], expected, msg=name)


def test_each_form_is_what_the_formula_gives_by_hand() -> None:
    found = forms(network())
    assert list(found) == list(FORMS)
    expected = {
        "before": LOGITS,
        "zero": LOGITS,
        # Class 0: each row of A is (1, 0), one of them not zero, and V is 1 in the left patch: X = 1, so 2 + 2 · 1.
        "after": halves([4.0, 1.5], [4.0, 3.0]),
        # A is 1 for the other's one patch, where V is 0 for class 0 and 1 for class 1: X = 1 for class 1 everywhere.
        "swap": halves([2.0, 3.0], [2.0, 6.0]),
        # All is labelled class 1: each row of A is (1, 1), two of them not zero. V is 1 for the right patch: X = 1/2.
        "gold": halves([2.0, 2.25], [2.0, 4.5]),
    }
    for form, logits in expected.items():
        torch.testing.assert_close(found[form], logits, rtol=1e-4, atol=0)
    predicted = {form: one.argmax(1)[0, 0, ::2].tolist() for form, one in found.items()}
    assert predicted == {"before": [0, 1], "zero": [0, 1], "after": [0, 0], "swap": [1, 1], "gold": [1, 1]}


def test_the_other_image_may_be_larger() -> None:
    found = correct_in_all_forms(network(), *OTHER, other=(LOGITS, ATTENTION), index=ALL_ONE[:, :, :2])
    # Class 0: A is (1, 0), V of the other is 1 left; the logit is 0. Class 1: the other's key is 0.
    torch.testing.assert_close(found["swap"], OTHER[0])
    seen = OTHER[0] + 1, OTHER[1]
    found = correct_in_all_forms(network(), *seen, other=(LOGITS, ATTENTION), index=ALL_ONE[:, :, :2])
    expected = torch.tensor([2.0, 2.0])[None, :, None, None].expand(1, 2, 2, 2)
    torch.testing.assert_close(found["swap"], expected, rtol=1e-4, atol=0)


def test_supervision_only_corrects_nothing_in_any_form() -> None:
    assert all(torch.equal(one, LOGITS) for one in forms(network("supervision_only")).values())


def test_probabilities_are_swapped_where_they_are_spread() -> None:
    x = OTHER[0].softmax(1)  # A is 1 for the other's one patch
    for net in (network("soft"), AFMANet(host(), 2, feature="0", patch_size=2, variant="paper").eval()):
        torch.testing.assert_close(forms(net)["swap"], LOGITS * (1 + x[:, :, :1, :1]), rtol=1e-4, atol=0)


def of_patches() -> list[str]:
    """Studies whose correction spreads values by an attention between patches."""
    others = (SupervisionOnly, ContextNet)
    return [name for name, one in STUDIES.items() if one.network is not AFMANet and not issubclass(one.network, others)]


@pytest.mark.parametrize("study", ["", *of_patches()])
@torch.no_grad()
def test_the_predictions_own_values_change_no_bit(study: str) -> None:
    net = network(study)
    if study == "gain":
        net.gain += 1
    logits, attention = net.attend(torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(1)))
    own = net.split_prediction(logits, attention)
    assert own.shape == attention.key.shape
    assert torch.equal(net.correct(logits, attention, own), net.correct(logits, attention))
    assert not torch.equal(net.correct(logits, attention, 1 + own), net.correct(logits, attention))


def test_values_that_are_none_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`values` must be"):
        modulate_logits(LOGITS, ATTENTION, values=[1.0])  # type: ignore[arg-type]


# --- another kind of attention


class Offset(NamedTuple):
    """What is added to the logits of class 1."""

    amount: float

    def zeroed(self) -> Offset:
        return Offset(0.0)

    def swapped(self, other: Offset) -> Offset:
        return Offset(10 * other.amount)


class OffsetNetwork(AFMANet):
    """Adds the image's mean."""

    def attend(self, image: Tensor) -> tuple[Tensor, Offset]:
        return super().attend(image)[0], Offset(float(image.mean()))

    def correct(self, logits: Tensor, attention: Offset, values: Tensor | None = None) -> Tensor:
        return logits + attention.amount * torch.arange(logits.shape[1])[:, None, None]

    def gold(self, logits: Tensor, attention: Offset, index: Tensor) -> Offset:
        return Offset(float((index >= 0).sum()))


def test_another_attention_makes_its_own_forms() -> None:
    net = OffsetNetwork(host(), 2, feature="0", patch_size=2).eval()
    index = torch.tensor([[[0, 1, -1, -1]] * 2])
    found = correct_in_all_forms(net, LOGITS, Offset(1.0), other=(OTHER[0], Offset(2.0)), index=index)
    added = {form: float((one - LOGITS)[0, 1].mean()) for form, one in found.items()}
    assert added == {"before": 0, "zero": 0, "after": 1, "swap": 20, "gold": 4}
    with pytest.raises(TypeError, match="got tuple of AFMANet without zeroed, swapped, gold"):
        correct_in_all_forms(network(), LOGITS, (), other=OTHER, index=index)


# --- small objects


def test_small_objects_next_to_large_ones_are_scored_apart() -> None:
    # Three images, two classes, (all, small, large), (label, prediction, both, covered); "all" does not matter.
    pixels = np.zeros((3, 2, 3, 4), dtype=np.int64)
    pixels[0, 0, 1:] = (10, 8, 6, 7), (90, 90, 90, 90)
    pixels[1, 0, 1:] = (20, 10, 5, 10), (0, 70, 0, 0)  # predicted, but not labelled: no large object
    pixels[2, 0, 1] = 0, 5, 0, 0  # nothing but what is predicted by mistake
    pixels[0, 1, 1] = 40, 30, 20, 25
    pixels[1, 1, 1] = 10, 20, 5, 5
    pixels[2, 1, 1:] = (8, 8, 4, 4), (50, 50, 50, 50)
    found = score_small_objects(pixels, ("all", "small", "large"), ("car", "pole"))
    assert found.classes == 2
    # Class 0: image 0 against images 1 and 2; class 1: image 2 against images 0 and 1.
    assert found.iou_with == pytest.approx((6 / (10 + 8 - 6) + 4 / (8 + 8 - 4)) / 2)
    assert found.iou_without == pytest.approx((5 / (20 + 15 - 5) + 25 / (50 + 50 - 25)) / 2)
    assert found.recall_with == pytest.approx((7 / 10 + 4 / 8) / 2)
    assert found.recall_without == pytest.approx((10 / 20 + 30 / 50) / 2)
    # Class 1 has no small object next to a large one now: the means are over class 0.
    pixels[2, 1, 1] = 0, 8, 0, 0
    found = score_small_objects(pixels, ("all", "small", "large"), ("car", "pole"))
    assert found == pytest.approx((6 / 12, 5 / 30, 7 / 10, 10 / 20, 1))
    assert score_small_objects(pixels, ("all", "small", "large"), ("background", "pole")).classes == 0


def test_small_objects_are_nan_where_there_are_none() -> None:
    nothing = score_small_objects(np.ones((2, 1, 4, 4), dtype=np.int64), ("all", "small", "medium", "large"), ["car"])
    assert all(map(math.isnan, nothing[:4])), "all images have a large object"
    assert nothing.classes == 0
    assert score_small_objects(np.ones((2, 1, 1, 4), dtype=np.int64), ("all",), ["car"]).classes == 0
    with pytest.raises(
        ValueError, match=r"`pixels` must have the shape \(I,K,S,4\) with S = 1 `objects`; got \(1, 4\)"
    ):
        score_small_objects(np.ones((1, 4), dtype=np.int64), ("all",), ["car"])


# --- runs


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_street_scenes(tmp_path_factory.mktemp("data") / "scenes", counts={"val": 3, "test": 1}, size=(64, 96))


@pytest.fixture(scope="module")
def folder(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained; the moving average of the weights has an attention large enough to change predictions."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "afma", "camvid", scenes, longest_side=48)
    weights = torch.load(folder / "model.pt", weights_only=True)
    larger = ("afma_block.patch_linear1.weight", "afma_block.feature_conv.weight")
    average = {name: 60 * one if name in larger else one for name, one in weights.items()}
    torch.save({"model": weights, "ema": average, "trainer": {"iteration": 1}}, folder / "last.pt")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> TrainedNetwork:
    loaded = load_network(folder, weights="ema")
    return dataclasses.replace(loaded, reader=loaded.reader._replace(size_groups=SizeGroups((8, 20))))


def naive(logits: Tensor, query: Tensor, key: Tensor, values_of: Tensor, size: tuple[int, int]) -> Tensor:
    """Correct by whole matrices; values are those of the one-hot map that they are given as."""
    stride, side = 4, 10
    pooled = nn.functional.avg_pool2d(values_of, stride)
    rows, columns = (math.ceil(n / side) for n in pooled.shape[2:])
    pooled = nn.functional.pad(pooled, (0, columns * side - pooled.shape[3], 0, rows * side - pooled.shape[2]))
    patches = pooled.unfold(2, side, side).unfold(3, side, side).reshape(1, 12, rows * columns, -1)
    matrix = query.double() @ key.double().mT / query.shape[-1]
    x = matrix @ patches / ((matrix != 0).sum(-1, keepdim=True) + 1e-5)
    return logits * (1 + join_patches(x, size, side)[:, :, : logits.shape[2], : logits.shape[3]])


@torch.no_grad()
def test_scores_of_a_run_equal_those_of_the_matrices(run: TrainedNetwork, scenes: Path) -> None:
    items = run.reader.datalist(scenes, "val")
    images = [run.prepare(item["image"]) for item in items]
    seen = [run.network.attend(image[None]) for image in images]
    metrics = {
        form: ClassIoU(CAMVID.classes, unscored=("unlabelled",), size_groups=run.reader.size_groups) for form in FORMS
    }
    for i, item in enumerate(items):
        label = run.read_label(item, images[i].shape[1:])
        (logits, own), (other_logits, other) = seen[i], seen[(i + 1) % 3]
        size = own.grid.image_size
        padding = (0, size[1] - logits.shape[3], 0, size[0] - logits.shape[2])
        chosen, others = (
            nn.functional.pad(one_hot(x.argmax(1), 12).permute(0, 3, 1, 2).double(), padding)
            for x in (logits, other_logits)
        )
        gold = gold_attention(one_hot(label, 12).permute(2, 0, 1)[None].double(), own.grid)
        corrected = {
            "before": logits,
            "zero": logits,
            "after": naive(logits.double(), own.query, own.key, chosen, size),
            "swap": naive(logits.double(), own.query, other.key, others, size),
            "gold": naive(logits.double(), gold.query, gold.key, chosen, size),
        }
        for form, metric in metrics.items():
            metric.update((corrected[form], label[None, None]))
    _, found = measure_run(run)
    assert found.images == 3
    for form, metric in metrics.items():
        scores, one = metric.compute(), getattr(found, form)
        assert (one.miou, one.miou_small) == pytest.approx((scores["mIoU"], scores["mIoU_small"]), rel=2e-3)
        pixels = torch.stack(metric.images)[:, :11].numpy()
        expected = score_small_objects(pixels, OBJECTS, metric.class_names[:11])
        assert expected.classes > 0
        assert one.small_objects == pytest.approx(expected, rel=2e-2, abs=1e-3)
    assert len({found.before.miou, found.after.miou, found.swap.miou, found.gold.miou}) == 4
    assert found.zero == found.before
    assert found.before.small_objects.classes == 4


def test_one_image_has_none_to_swap_with(run: TrainedNetwork) -> None:
    _, found = measure_run(run, limit=1)
    assert math.isnan(found.swap.miou)
    assert not math.isnan(found.after.miou)


def test_attention_of_another_kind_has_no_figures_but_its_mechanism(run: TrainedNetwork) -> None:
    wide = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ConvTranspose2d(4, 12, 2, stride=2))
    other = dataclasses.replace(run, network=OffsetNetwork(wide, 12, feature="0", patch_size=2).eval())
    attention, mechanism = measure_run(other)
    assert attention is None
    assert mechanism is not None
    assert mechanism.zero == mechanism.before


def test_ema_is_loaded_and_measured(folder: Path, run: TrainedNetwork, tmp_path: Path) -> None:
    states = torch.load(folder / "last.pt", weights_only=True)
    for given, name in (({}, "model"), ({"weights": "ema"}, "ema"), ({"checkpoint": folder / "last.pt"}, "model")):
        loaded = load_network(folder, **given).network.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in states[name].items())
    plain = dataclasses.replace(run, reader=load_network(folder).reader)
    measured = {name: measure_result(folder, name) for name in ("best", "ema")}
    assert measured["ema"] == reports_as_json(*measure_run(plain))
    assert measured["best"]["attention"]["error"] < measured["ema"]["attention"]["error"]
    with pytest.raises(ValueError, match=r"the file has no weights named 'emma'\. Name a run's model\.pt or last\.pt"):
        load_network(folder, weights="emma")
    with pytest.raises(ValueError, match=r"the file has no weights named 'ema'"):
        load_network(folder, checkpoint=folder / "model.pt", weights="ema")
    with pytest.raises(FileNotFoundError, match=r"must be a run's last\.pt; there is no file"):
        load_network(tmp_path, weights="ema")
    with pytest.raises(ValueError, match=r"not its last\.pt"):
        load_weights(run.network, folder / "last.pt", weights=None)


def test_runs_without_attention_or_of_volumes_have_no_figures(scenes: Path, tmp_path: Path) -> None:
    baseline = load_network(write_run(tmp_path / "baseline", "camvid", scenes, afma=False))
    volumes = load_network(write_run(tmp_path / "lits", "lits", write_ct_phantom(tmp_path / "phantoms", count=3)))
    for one in (baseline, volumes):
        assert measure_run(one) == (None, None)
        assert measure_result(one.folder, "best") == {"attention": None, "mechanism": None}


# --- reports and the command


def report() -> MechanismReport:
    small = [SmallObjects(0.1 + i / 100, 0.2, 0.3, 0.4, 5) for i in range(5)]
    return MechanismReport(9, *(FormScores(0.5, math.nan, *one) for one in small))


def test_report_survives_json() -> None:
    content = json.loads(json.dumps(reports_as_json(None, report()), allow_nan=False))
    nothing, again = reports_from_json(content)
    assert nothing is None
    assert again.images == 9
    assert [one.small_objects for one in again[1:]] == [one.small_objects for one in report()[1:]]
    assert all(math.isnan(one.miou_small) for one in again[1:])
    del content["mechanism"]["zero"]
    for zero in ({}, {"zero": {"miou": 1}}, {"zero": 3}):
        with pytest.raises(ValueError, match=r"`content` must hold reports about .*; got: "):
            reports_from_json({"mechanism": {**content["mechanism"], **zero}})
    for broken in ({"mechanism": []}, {"attention": []}, {"attention": {"classes": [], "miou": [1]}}):
        with pytest.raises(ValueError, match=r"`content` must hold reports about .*; got: "):
            reports_from_json(broken)


def test_table_has_a_line_for_each_form() -> None:
    title, _, *lines = report_mechanism("a", report()).splitlines()
    assert title == "a (9 images, small objects of 5 classes)"
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows] == list(FORMS)
    assert rows[3] == ["swap", "0.5000", "-", "0.1300", "0.2000", "0.3000", "0.4000"]


def measure(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_lab("measure", *arguments)


def test_command_prints_what_there_is_and_says_what_is_not(tmp_path: Path) -> None:
    """Baseline and old results have counts alone; a network with another attention has its mechanism too."""
    given = {"baseline": (False, {}), "old": (True, {}), "control": (True, reports_as_json(None, report()))}
    paths = []
    for name, (afma, details) in given.items():
        folder = write_evaluated(tmp_path / "runs" / name, random_rows(0, quality=0.5), settings={"afma": afma})
        paths.append(tmp_path / f"{name}.json")
        write_result(paths[-1], read_run(folder), details={"attention": None, **details})
    done = measure(*paths)
    assert done.returncode == 0, done.stderr
    place, text = tmp_path.name, done.stdout
    assert text.startswith(f"{place}/control (9 images, small objects of 5 classes)\n")
    rows = [line for line in text.splitlines() if line.startswith(f"{place}/") and len(line.split()) == 6]
    assert [row.split()[0] for row in rows] == [f"{place}/{name}" for name in given]
    together = " ".join(text.split())
    assert (
        f"No figures of the attention and the mechanism, since they were trained without AFMA: {place}/baseline."
        in together
    )
    assert f"older than these figures (name the run's folder to measure them): {place}/old." in together
    assert (
        f"No figures of the attention, since their attention is not one between patches: {place}/control." in together
    )
    done = measure(paths[0], "--limit", 1)
    assert done.returncode == 2
    assert "has figures of all validation images only" in done.stderr


def test_command_measures_the_named_weights(folder: Path) -> None:
    done = measure(folder, "--weights", "ema", "--limit", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("afma ")
    lines = done.stdout.split("afma (2 images, small objects of 0 classes)\n")[1].splitlines()
    assert [line.split()[0] for line in lines[1:6]] == list(FORMS)
    assert lines[2].split()[1] != lines[3].split()[1] or lines[3].split()[1] != lines[5].split()[1]
    assert "No figures of small objects, since they are not evaluated yet: afma." in done.stdout


def test_command_needs_the_evaluation_of_a_baseline(scenes: Path, tmp_path: Path) -> None:
    done = measure(write_run(tmp_path / "baseline", "camvid", scenes, afma=False))
    assert done.returncode == 2
    assert "must hold an evaluated run" in done.stderr
