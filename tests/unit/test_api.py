"""The public interface as a user meets it: defaults, warnings, what the top level exports."""

import inspect
import warnings

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

import afma_med
from afma_med import AFMALoss, AFMANet, SoftmaxCrossEntropyLoss
from afma_med.handlers import SplitAFMAOutputHandler


class Tiny(nn.Module):
    """A host of three classes with one map to tap."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


class OfFeatures(nn.Module):
    """No segmentation network: what it returns is no map of logits."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(x).mean((2, 3))


LABEL = torch.zeros(2, 1, 16, 16)


def test_net_finds_the_number_of_classes() -> None:
    net = AFMANet(Tiny(), feature="down", patch_size=4)
    assert net.out_channels == 3
    assert net(torch.rand(2, 3, 16, 16)).shape == (2, 3, 16, 16)
    assert net.state_dict().keys() == AFMANet(Tiny(), 3, feature="down", patch_size=4).state_dict().keys()


def test_wrong_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"logits of shape \(B, 4, H, W\) for `out_channels`=4; .* gave \(1, 3, 128"):
        AFMANet(Tiny(), 4, feature="down")


def test_network_without_logits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"logits of shape \(B, K, H, W\); a 1×128×128 image gave \(1, 4\)"):
        AFMANet(OfFeatures(), feature="down")


def test_training_on_plain_logits_warns_once() -> None:
    loss, logits = AFMALoss(), torch.rand(2, 3, 16, 16, requires_grad=True)
    with pytest.warns(UserWarning, match="attention_supervision=True.*attention_weight=0"):
        loss(logits, LABEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(logits, LABEL)


def test_what_does_not_train_the_attention_does_not_warn() -> None:
    logits = torch.rand(2, 3, 16, 16, requires_grad=True)
    supervised = AFMANet(Tiny(), feature="down", patch_size=4, attention_supervision=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AFMALoss(attention_weight=0)(logits, LABEL)
        AFMALoss().eval()(logits, LABEL)
        AFMALoss()(supervised(torch.rand(2, 3, 16, 16)), LABEL)
        with torch.no_grad():
            AFMALoss()(logits, LABEL)


def test_loss_keywords_stand_in_the_order_of_the_docstring() -> None:
    names = list(inspect.signature(AFMALoss).parameters)
    assert names[:4] == ["segmentation", "segmentation_weight", "attention_weight", "weight"]
    arguments = inspect.getdoc(AFMALoss).partition("Args:")[2].partition("Attributes:")[0]
    assert sorted(names, key=lambda name: arguments.index(f"    {name}: ")) == names


def test_weight_is_what_torch_calls_it() -> None:
    logits, label = torch.rand(2, 3, 16, 16), torch.randint(3, (2, 1, 16, 16))
    weight = torch.tensor([1.0, 2.0, 3.0])
    expected = nn.CrossEntropyLoss(weight=weight)(logits, label[:, 0])
    torch.testing.assert_close(SoftmaxCrossEntropyLoss(weight=weight)(logits, label), expected)
    ours = AFMALoss(segmentation_weight=1.0, attention_weight=0, weight=weight)
    torch.testing.assert_close(ours(logits, label), expected)


@pytest.mark.parametrize("epochs", [1, 2])
def test_split_finds_the_terms_of_the_trainers_own_loss(epochs: int) -> None:
    net = AFMANet(Tiny(), feature="down", patch_size=4, attention_supervision=True)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=[{"image": torch.rand(2, 3, 16, 16), "label": LABEL} for _ in range(2)],
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        loss_function=AFMALoss(),
        train_handlers=[SplitAFMAOutputHandler()],
    )
    trainer.run()
    metrics = trainer.state.metrics
    total = 5 * metrics["train/segmentation_loss"] + metrics["train/attention_loss"]
    assert metrics["train/loss"] == pytest.approx(total, rel=1e-5)


def test_split_logs_another_loss_alone() -> None:
    net = Tiny()
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": torch.rand(2, 3, 16, 16), "label": torch.rand(2, 3, 16, 16)}],
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
        train_handlers=[SplitAFMAOutputHandler()],
    )
    trainer.run()
    assert set(trainer.state.metrics) == {"train/loss"}


def test_top_level_exports_what_a_user_needs() -> None:
    networks = {"AFMANet", "AFMABlock", "HypercolumnNet", "FeatureTap", "SliceWise", "list_features"}
    around = {
        "AFMALoss",
        "InstanceBalancedLoss",
        "MultiScaleInferer",
        "RandCropBySmallObjects",
        "ObjectDetectionMetric",
    }
    assert networks | around <= {*afma_med.__all__}
    assert all(hasattr(afma_med, name) for name in afma_med.__all__)


def test_handlers_are_called_handlers() -> None:
    classes = [value for value in vars(afma_med.handlers).values() if inspect.isclass(value)]
    assert classes and all(one.__name__.endswith("Handler") for one in classes)
