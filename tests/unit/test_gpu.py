"""What runs on a CUDA device gives what it gives on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from afma_med.losses import AFMALoss, InstanceBalancedLoss
from afma_med.metrics import ComponentDiceMetric, ComponentPanopticQualityMetric, ObjectDetectionMetric
from afma_med.networks import AFMANet, SliceWise

pytestmark = pytest.mark.gpu

NETWORKS: dict[str, dict[str, Any]] = {
    "released": {"feature": 2},
    "paper": {"feature": 2, "variant": "paper"},
    "several depths": {"feature": [2, 3]},
    "depths and patch sizes by class": {
        "class_groups": {"small": [0], "large": [1, 2]},
        "feature": {"small": 2, "large": 3},
        "patch_size": {"small": 5, "large": 10},
    },
    "image as source": {"feature": 3, "source": "image"},
}


@pytest.fixture(autouse=True)
def _full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 rounds to ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def train_a_step(network: nn.Module, loss: nn.Module, image: Tensor, label: Tensor, device: str) -> dict[str, Tensor]:
    """The loss and the gradients of a step."""
    network, loss = network.to(device), loss.to(device)
    network.zero_grad()
    value = loss(network(image.to(device)), label.to(device))
    value.backward()
    gradients = {name: one.grad.cpu().clone() for name, one in network.named_parameters() if one.grad is not None}
    return {"loss": value.detach().cpu(), **gradients}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_has_the_loss_and_the_gradients_of_the_cpu(name: str) -> None:
    host = smp.Unet("resnet18", encoder_weights=None, classes=3)
    network = AFMANet(host, 3, attention_supervision=True, **NETWORKS[name]).double()
    image, label = torch.randn(2, 3, 70, 96, dtype=torch.float64), torch.randint(3, (2, 1, 70, 96))
    loss = AFMALoss(InstanceBalancedLoss(DiceCELoss(to_onehot_y=True, softmax=True)))
    on_cpu, on_gpu = (train_a_step(network, loss, image, label, device) for device in ("cpu", "cuda"))
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-6, atol=1e-9)


def test_autocast_trains_on_finite_values() -> None:
    network = AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=3), 3, attention_supervision=True).cuda()
    image, label = torch.randn(2, 3, 70, 96, device="cuda"), torch.randint(3, (2, 1, 70, 96), device="cuda")
    with torch.autocast("cuda"):
        value = AFMALoss()(network(image), label)
    value.backward()
    assert value.dtype == torch.float32
    assert all(bool(one.grad.isfinite().all()) for one in network.parameters() if one.grad is not None)


def test_volumes() -> None:
    network = SliceWise(
        AFMANet(smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=2), 2, in_channels=1)
    ).eval()
    volume = torch.randn(1, 1, 64, 64, 3)
    with torch.no_grad():
        on_cpu, on_gpu = network(volume), network.cuda()(volume.cuda())
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("metric", [ObjectDetectionMetric, ComponentDiceMetric, ComponentPanopticQualityMetric])
def test_scores(metric: Callable[..., Any]) -> None:
    label = torch.randint(3, (2, 1, 40, 40))
    prediction = torch.where(torch.rand(label.shape) < 0.1, 0, label)
    found = []
    for device in ("cpu", "cuda"):
        one = metric(num_classes=3)
        one(prediction.to(device), label.to(device))
        found.append(torch.as_tensor(one.aggregate()).cpu())
    torch.testing.assert_close(found[1], found[0], equal_nan=True)
