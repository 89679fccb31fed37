"""The forms that an ablation compares do what they are called after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from afma_med import AFMALoss, AFMANet
from afma_med._ops.patches import split_patches
from afma_med.functional import PatchAttention, compress_prediction, gold_attention_from_index, join_patches
from afma_med.trial.trainings import list_trainings
from experiments.lab.controls import ContextNet
from experiments.lab.studies import (
    STUDIES,
    FeatureQueryBlock,
    NonlinearBlock,
    RelativeAFMALoss,
    build_studied_network,
    complete_arm,
)

CLASSES = 3
# The others need a host with an encoder of several depths: test_controls.py.
OF_PATCHES = [name for name, study in STUDIES.items() if not issubclass(study.network, ContextNet)]


class Tiny(nn.Module):
    """Stride 2 down, then up again."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, CLASSES, 2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.up(self.down(image).relu())


def network(study: str) -> AFMANet:
    torch.manual_seed(0)
    options = {"afma": True, "feature": "down", "patch_size": 4, "attention_supervision": True}
    return build_studied_network(Tiny(), CLASSES, study=study, **options).eval()


@pytest.mark.parametrize(
    "options",
    [{"feature": ["down", "up"]}, {"feature": {"a": 2}}, {"patch_size": {"a": 4}}, {"source": "image"}],
    ids=str,
)
def test_a_study_has_one_depth_and_patch_size(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`.*must be"):
        build_studied_network(Tiny(), CLASSES, study="soft", **{"feature": "down"} | options)


def image() -> Tensor:
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def label() -> Tensor:
    return torch.randint(CLASSES, (2, 1, 16, 24), generator=torch.Generator().manual_seed(2))


def naive_correction(logits: Tensor, attention: PatchAttention, *, row_sum: bool) -> Tensor:
    """X from the whole matrix of the attention."""
    values = split_patches(compress_prediction(logits, attention.grid), attention.grid.patch_size)
    matrix = attention.dense()
    total = matrix.sum(-1, keepdim=True) + 1e-3 if row_sum else (matrix != 0).sum(-1, keepdim=True) + 1e-5
    return join_patches(matrix / total @ values, attention.grid.image_size, attention.grid.patch_size)


@pytest.mark.parametrize("study", OF_PATCHES)
def test_each_study_trains_all_its_parameters(study: str) -> None:
    net = network(study).train()
    loss = STUDIES[study].loss or AFMALoss
    loss(attention_weight=1.0)(net(MetaTensor(image())), MetaTensor(label())).backward()
    idle = [name for name, one in net.named_parameters() if one.grad is None or not one.grad.any()]
    assert idle == []
    assert net.eval()(image()).shape == (2, CLASSES, 16, 24)


@pytest.mark.parametrize("study", OF_PATCHES)
def test_each_study_differs_from_the_released_form(study: str) -> None:
    plain = AFMANet(Tiny(), CLASSES, feature="down", patch_size=4)
    net = network(study)
    changed = [
        type(net).correct is not AFMANet.correct,
        type(net.afma_block) is not type(plain.afma_block),
        STUDIES[study].loss is not None,
    ]
    assert any(changed)


@torch.no_grad()
def test_corrections_follow_their_formulas() -> None:
    for study in ("supervision_only", "gain"):
        net = network(study)
        assert torch.equal(net(image()), net.attend(image())[0]), "nothing is corrected, or nothing yet"
    for study, row_sum in (("added", False), ("row_sum", True)):
        net = network(study)
        logits, attention = net.attend(image())
        x = naive_correction(logits, attention, row_sum=row_sum)
        assert x.abs().max() > 0
        expected = logits + (x if study == "added" else logits * x)
        torch.testing.assert_close(net(image()), expected)
    net = network("gain")
    logits, attention = net.attend(image())
    net.gain.data += torch.tensor([1.0, 0.0, -2.0])[:, None, None]
    x = naive_correction(logits, attention, row_sum=False)
    torch.testing.assert_close(net(image()), logits + net.gain * logits * x)


def test_row_sum_does_not_depend_on_the_scale_of_the_attention() -> None:
    net = network("row_sum")
    logits, attention = net.attend(image())
    large = [net.correct(logits, attention._replace(query=attention.query * scale)) for scale in (1e6, 1e9)]
    torch.testing.assert_close(*large, rtol=1e-4, atol=1e-5)


def test_relative_distance_is_one_for_zeros_whatever_the_class() -> None:
    _, attention = network("relative").attend(image())
    index = label()[:, 0]
    index[:, :2] = -1
    gold = gold_attention_from_index(index, attention.grid, CLASSES)
    nothing = attention._replace(query=torch.zeros_like(attention.query))
    loss = RelativeAFMALoss()
    assert loss.attention_distance(nothing, gold).item() == pytest.approx(1)
    equal = gold._replace(query=gold.query.float())
    assert loss.attention_distance(equal, gold).item() == pytest.approx(0)
    # One class is wrong by its whole size; another one, with many more pixels, is right.
    half = equal._replace(query=equal.query.clone())
    half.query[:, 0] = 0
    assert loss.attention_distance(half, gold).item() == pytest.approx(1 / CLASSES)
    index[index == 1] = 2
    without = gold_attention_from_index(index, attention.grid, CLASSES)
    assert loss.attention_distance(nothing, without).item() == pytest.approx(1), "absent classes do not count"


def test_blocks_see_what_they_are_called_after() -> None:
    feature = torch.rand(1, 4, 8, 12)
    torch.manual_seed(0)
    block = FeatureQueryBlock(4, CLASSES, patch_size=4).eval()
    both = [block(image()[:1], one * feature).query for one in (1, 2)]
    assert not torch.allclose(*both), "the query depends on the feature map"
    linear = NonlinearBlock(4, CLASSES, patch_size=4).eval()
    at = [linear.embed_image(factor * image()) for factor in (0.0, 1.0, 2.0)]
    assert not torch.allclose(at[2] - at[1], at[1] - at[0], atol=1e-4)


def test_unknown_study_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`study` must be one of supervision_only, .*; got 'softt'"):
        complete_arm({"study": "softt"})


def test_list_names_a_study_once_for_training_and_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    arms = {"sum": {"study": "row_sum"}, "relative": {"study": "relative"}}
    path.write_text(json.dumps({"bundle": "camvid_afma", "arms": arms}), encoding="utf-8")
    row_sum, relative = list_trainings(path, complete=complete_arm)
    built = {
        "network_def#_target_": "experiments.lab.studies.build_studied_network",
        "network_def#study": "row_sum",
    }
    settings = {"settings#study": "row_sum"}
    assert row_sum.options == {**built, **settings, "seed": 0}
    assert row_sum.evaluate == built
    assert relative.options["loss#_target_"] == "experiments.lab.studies.RelativeAFMALoss"
    assert relative.evaluate == {}
