"""The dense form and the package are the same function: values, loss and gradients by name, in float64."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from afma_med import AFMABlock, AFMALoss, gold_attention, modulate_logits
from experiments.lab import dense

PATCH = (3, 4)  # not square, and no divisor of the sides below, so that a swap or a lost border is seen
SIZE = (20, 28)


class Case(NamedTuple):
    """The same inputs and parameters through both forms; ``dense_`` is the dense form's."""

    stride: int
    label: Tensor
    weight: Tensor
    block: AFMABlock
    inputs: dict[str, Tensor]
    attention: Any
    modulated: Tensor
    dense_attention: list[Tensor]
    dense_modulated: Tensor


@pytest.fixture(params=[(1, 2), (1, 4), (3, 2), (3, 4)], ids=lambda param: "K{}-stride{}".format(*param))
def case(request: pytest.FixtureRequest) -> Case:
    classes, stride = request.param
    block = AFMABlock(5, classes, patch_size=PATCH, embed_channels=6).double()
    label = torch.randint(max(2, classes), (2, 1, *SIZE))
    shapes = {"image": (2, 3, *SIZE), "feature": (2, 5, SIZE[0] // stride, SIZE[1] // stride)}
    shapes["logits"] = (2, classes, *SIZE)
    inputs = {name: torch.randn(shape, dtype=torch.float64, requires_grad=True) for name, shape in shapes.items()}
    attention = block(inputs["image"], inputs["feature"])
    dense_attention = dense.attend(block, inputs["image"], inputs["feature"], PATCH)
    return Case(
        stride=stride,
        label=label,
        weight=torch.linspace(0.5, 2.0, classes, dtype=torch.float64),
        block=block,
        inputs=inputs,
        attention=attention,
        modulated=modulate_logits(inputs["logits"], attention),
        dense_attention=dense_attention,
        dense_modulated=dense.modulate(inputs["logits"], dense_attention, stride, PATCH),
    )


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12 * theirs.abs().max().item())


def dense_loss(case: Case) -> Tensor:
    output = case.dense_modulated, case.dense_attention
    return dense.loss(*output, case.label, case.stride, patch=PATCH, class_weight=case.weight)


def package_loss(case: Case) -> Tensor:
    return AFMALoss(weight=case.weight)((case.modulated, case.attention), case.label)


def gradients(case: Case, loss: Tensor) -> dict[str, Tensor]:
    leaves = case.inputs | dict(case.block.named_parameters())
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def test_attention(case: Case) -> None:
    matrices = torch.stack(case.dense_attention, dim=1)
    assert_close(case.attention.dense(), matrices)
    assert torch.equal(case.attention.dense() == 0, matrices == 0)


def test_modulated_logits(case: Case) -> None:
    assert_close(case.modulated, case.dense_modulated)


def test_gold_attention(case: Case) -> None:
    one_hot = dense.label_to_one_hot(case.label, case.modulated.shape[1], torch.float64)
    theirs = torch.stack(dense.gold_attention(one_hot, case.stride, PATCH), dim=1)
    assert_close(gold_attention(one_hot, case.attention.grid).dense(), theirs)


def test_loss(case: Case) -> None:
    assert_close(package_loss(case), dense_loss(case))


def test_gradients_by_name(case: Case) -> None:
    ours, theirs = gradients(case, package_loss(case)), gradients(case, dense_loss(case))
    assert len(ours) == 3 + 8
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max() <= 1e-10 * gradient.abs().max(), name
        assert_close(ours[name], gradient)


@pytest.mark.parametrize("size", [(7, 5), (6, 8), (1, 1)])
def test_join_is_the_inverse_of_split(size: tuple[int, int]) -> None:
    maps = torch.randn(2, *size)
    assert torch.equal(dense.join(dense.split(maps, PATCH), size, PATCH), maps)


@pytest.mark.parametrize(("training", "copies"), [(True, 3), (False, 1)])
def test_matrix_bytes_are_those_of_the_matrices(case: Case, training: bool, copies: int) -> None:
    built = sum(matrix.numel() * matrix.element_size() for matrix in case.dense_attention)
    maps = 2 * len(case.dense_attention)
    estimate = dense.matrix_bytes(SIZE, case.stride, patch=PATCH, maps=maps, item=8, training=training)
    assert estimate == copies * built
