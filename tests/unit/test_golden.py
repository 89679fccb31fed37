"""The released code's numbers: golden vectors, whose derivation is in golden/README.md."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from _helpers import reference
from _helpers.paths import GOLDEN_FOLDER, SHARED
from afma_med import AFMABlock, AFMALoss, PatchAttention, gold_attention, modulate_logits

# Further cases may lie in a folder beside the checkout; those that are also here run once.
BESIDE = SHARED / "golden"
CASES = {path.name: path for folder in (BESIDE, GOLDEN_FOLDER) for path in sorted(folder.glob("*.npz"))}


class Outcome(NamedTuple):
    """What the authors' layers gave, and what ours give on the same input."""

    name: str
    golden: dict[str, Tensor]
    attention: PatchAttention
    modulated: Tensor
    gold: PatchAttention
    terms: Any
    loss: Tensor
    gradients: dict[str, Tensor]


def load(name: str) -> dict[str, Tensor]:
    with np.load(CASES[name]) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def parameters_of(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """param_image_conv1_weight -> image_conv1.weight."""
    names = [key for key in golden if key.startswith("param_")]
    return {".".join(key.removeprefix("param_").rsplit("_", 1)): golden[key] for key in names}


@pytest.fixture(scope="module", params=sorted(CASES))
def outcome(request: pytest.FixtureRequest) -> Outcome:
    golden = load(request.param)
    classes = int(golden["meta_num_classes"])
    block = AFMABlock(golden["feature"].shape[1], classes, patch_size=int(golden["meta_patch_size"]))
    block.load_state_dict(parameters_of(golden), strict=True)
    inputs = {name: golden[name].clone().requires_grad_() for name in ("image", "feature", "logits")}
    attention = block(inputs["image"], inputs["feature"])
    modulated = modulate_logits(inputs["logits"], attention)
    one_hot = torch.nn.functional.one_hot(golden["label"].long(), classes).permute(0, 3, 1, 2)
    loss = AFMALoss(weight=golden["class_weight"])
    total = loss((modulated, attention), golden["label"][:, None])
    total.backward()
    leaves = inputs | {name.replace(".", "_"): parameter for name, parameter in block.named_parameters()}
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    gold = gold_attention(one_hot, attention.grid)
    return Outcome(request.param, golden, attention, modulated, gold, loss.latest_terms, total.detach(), gradients)


def assert_close(ours: Tensor, golden: Tensor, *, rtol: float) -> None:
    """Hold every entry to ``rtol``; entries near zero to a tenth of it in units of the largest entry."""
    assert golden.abs().max() > 0
    torch.testing.assert_close(ours.detach(), golden, rtol=rtol, atol=rtol / 10 * golden.abs().max().item())


def test_the_folder_holds_the_cases():
    assert len(list(GOLDEN_FOLDER.glob("*.npz"))) >= 5
    assert sum("sparse" in name for name in CASES) >= 2


def test_stride_is_read_from_the_shapes(outcome):
    assert outcome.attention.grid.stride == 2 ** int(outcome.golden["meta_depth"])


def test_attention(outcome):
    assert_close(outcome.attention.dense(), outcome.golden["attention"], rtol=1e-5)


def test_exact_zeros_of_the_attention_are_the_same(outcome):
    """The count of non-zeros divides each row, so one zero that is not one changes a whole row."""
    zeros = outcome.golden["attention"] == 0
    if "sparse" in outcome.name:
        assert zeros.float().mean() > 0.2
    assert torch.equal(outcome.attention.dense() == 0, zeros)


def test_modulated_logits(outcome):
    assert_close(outcome.modulated, outcome.golden["modulated_logits"], rtol=1e-5)


def test_gold_attention(outcome):
    assert_close(outcome.gold.dense(), outcome.golden["gold_attention"], rtol=1e-5)


def test_losses(outcome):
    for ours, name in (
        (outcome.terms.segmentation, "loss_segmentation_nll"),
        (outcome.terms.attention, "loss_afma_mse"),
        (outcome.loss, "loss_total"),
    ):
        torch.testing.assert_close(ours, outcome.golden[name].reshape(()), rtol=1e-5, atol=0)


def test_every_golden_gradient_by_name(outcome):
    golden = {key.removeprefix("grad_"): value for key, value in outcome.golden.items() if key.startswith("grad_")}
    assert golden.keys() == outcome.gradients.keys()
    for name, gradient in golden.items():
        ours = outcome.gradients[name]
        assert ours is not None, name
        assert (ours - gradient).abs().max() <= 1e-4 * gradient.abs().max(), name
        assert_close(ours, gradient, rtol=1e-4)


@pytest.mark.parametrize("name", ["depth1_p4_c3.npz", "depth3_p5_c4_sparse.npz"])
def test_the_naive_reference_gives_the_golden_numbers_too(name):
    """What the other tests compare with is itself held to the released code."""
    golden = {key: value.double() if value.is_floating_point() else value for key, value in load(name).items()}
    image, feature, logits, label = (golden[key] for key in ("image", "feature", "logits", "label"))
    patch, stride = (int(golden["meta_patch_size"]),) * 2, 2 ** int(golden["meta_depth"])
    size = tuple(image.shape[2:])
    dense = reference.block_attention(image, feature, parameters_of(golden), patch, paper=False)
    assert_close(dense, golden["attention"], rtol=1e-5)
    modulated = reference.modulate(logits, dense, size, stride, patch, soft=False)
    assert_close(modulated, golden["modulated_logits"], rtol=1e-5)
    one_hot = reference.one_hot(label, int(golden["meta_num_classes"]))
    gold = reference.gold_attention(one_hot, size, stride, patch)
    assert_close(gold, golden["gold_attention"], rtol=1e-5)
    nll = reference.released_cross_entropy(modulated, label, golden["class_weight"].tolist())
    assert_close(nll, golden["loss_segmentation_nll"].reshape(()), rtol=1e-5)
    assert_close(reference.mean_squared_error(dense, gold), golden["loss_afma_mse"].reshape(()), rtol=1e-5)
