"""Forms that read several encoder maps, and their controls, against loops in plain Python."""

from __future__ import annotations

import copy
import functools

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from afma_med import AFMALoss, AFMANet
from afma_med.functional import gold_attention_from_index
from experiments.lab.controls import (
    AuxiliaryAFMALoss,
    ContextAttention,
    ContextNet,
    PlainHead,
    PresenceAFMALoss,
    Prototypes,
    PrototypesAndHead,
)
from experiments.lab.studies import build_studied_network, complete_arm

CLASSES = 3
FORMS = {"prototypes": Prototypes, "plain_head": PlainHead, "prototypes_and_head": PrototypesAndHead}


def network(study: str) -> ContextNet:
    """A network of its own, whose weights are drawn once."""
    return copy.deepcopy(_network(study))


@functools.cache
def _network(study: str) -> ContextNet:
    torch.manual_seed(0)
    host = smp.Unet("resnet18", encoder_weights=None, classes=CLASSES)
    net = build_studied_network(host, CLASSES, study=study, attention_supervision=True)
    assert isinstance(net, FORMS[study])
    return net.eval()


def image(seed: int = 1) -> Tensor:
    return torch.rand(2, 3, 48, 70, generator=torch.Generator().manual_seed(seed))


def attention(classes: int = CLASSES) -> ContextAttention:
    torch.manual_seed(3)
    shapes = ((2, 64, 4, 6), (2, 64, 2, 3), (2, classes, 2, 3), (2, classes, 4, 6))
    return ContextAttention(*(torch.rand(shape) for shape in shapes), size=(16, 24))


def test_prototypes_are_means_of_the_key_weighted_by_the_class() -> None:
    one = attention()
    for b in range(2):
        for k in range(CLASSES):
            places = [(y, x) for y in range(2) for x in range(3)]
            summed = sum(one.mass[b, k, y, x] * one.key[b, :, y, x] for y, x in places)
            expected = summed / (sum(one.mass[b, k, y, x] for y, x in places) + 1)
            torch.testing.assert_close(one.prototypes()[b, k], expected)


def test_a_prototype_adds_its_product_with_the_query() -> None:
    net, one = network("prototypes"), attention()
    torch.nn.init.normal_(net.gain)
    logits = torch.randn(2, CLASSES, 16, 24)
    small = torch.stack([(one.query * p[:, :, None, None]).sum(1) for p in one.prototypes().unbind(1)], dim=1)
    added = torch.nn.functional.interpolate(net.gain * small / 8, size=(16, 24), mode="bilinear")
    torch.testing.assert_close(net.correct(logits, one), logits + added)


def test_a_class_that_is_predicted_nowhere_is_left_as_it_is() -> None:
    net, one = network("prototypes"), attention()
    one.mass[:, 1] = 0
    logits = torch.randn(2, CLASSES, 16, 24)
    assert torch.equal(net.correct(logits, one)[:, 1], logits[:, 1])


def test_the_head_adds_its_own_scores_and_reads_no_other_image() -> None:
    net, one = network("plain_head"), attention()
    logits = torch.randn(2, CLASSES, 16, 24)
    added = torch.nn.functional.interpolate(net.head_gain * one.scores, size=(16, 24), mode="bilinear")
    torch.testing.assert_close(net.correct(logits, one), logits + added)
    other = attention()._replace(mass=torch.rand(2, CLASSES, 2, 3))
    assert torch.equal(net.correct(logits, one.swapped(other)), net.correct(logits, one))


def test_without_attention_only_the_head_is_left() -> None:
    net, one = network("prototypes_and_head"), attention()
    logits = torch.randn(2, CLASSES, 16, 24)
    with_head = logits + torch.nn.functional.interpolate(net.head_gain * one.scores, size=(16, 24), mode="bilinear")
    torch.testing.assert_close(net.correct(logits, one.zeroed()), with_head)
    assert not torch.allclose(net.correct(logits, one), with_head)
    assert torch.equal(network("prototypes").correct(logits, one.zeroed()), logits)


def test_swapping_takes_prototypes_of_another_image_of_any_size() -> None:
    net = network("prototypes")
    (logits, own), (_, other) = net.attend(image()), net.attend(torch.rand(2, 3, 80, 64))
    swapped = own.swapped(other)
    assert torch.equal(swapped.prototypes(), other.prototypes())
    assert net.correct(logits, swapped).shape == logits.shape


def test_gold_prototypes_are_those_of_the_label_with_void_and_padding_in_no_class() -> None:
    net = network("prototypes")
    logits, own = net.attend(image())
    index = torch.full((2, 48, 70), -1)
    index[:, :16, :16] = 2
    mass = net.gold(logits, own, index).mass
    assert mass.shape == own.mass.shape and mass[:, :2].sum() == 0
    assert mass[:, 2, :2, :2].unique().tolist() == [1.0] and mass.sum() == 2 * 4


@pytest.mark.parametrize("study", FORMS)
def test_train_mode_gives_both_logits_and_eval_mode_the_corrected_ones(study: str) -> None:
    net = network(study)
    alone = net(image())
    logits, seen = net.attend(image())
    assert alone.shape == (2, CLASSES, 48, 70) and torch.equal(alone, net.correct(logits, seen))
    corrected, own = net.train()(image())
    assert corrected.shape == own.shape == alone.shape


@pytest.mark.parametrize("study", FORMS)
def test_every_parameter_learns_and_copies_stand_alone(study: str) -> None:
    net = network(study).train()
    label = torch.randint(CLASSES, (2, 1, 48, 70))
    AuxiliaryAFMALoss()(net(image()), label).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
    other = copy.deepcopy(net).eval()
    assert torch.equal(other(image()), net.eval()(image()))


def test_the_control_has_nearly_as_many_parameters() -> None:
    counts = {name: sum(p.numel() for p in network(name).parameters()) for name in FORMS}
    host = sum(p.numel() for p in smp.Unet("resnet18", encoder_weights=None, classes=CLASSES).parameters())
    extra = {name: count - host for name, count in counts.items()}
    assert 0.8 < extra["plain_head"] / extra["prototypes"] < 1.25


def test_the_auxiliary_loss_weights_the_hosts_own_logits() -> None:
    corrected, own = torch.randn(2, 2, CLASSES, 8, 8)
    label = torch.randint(CLASSES, (2, 1, 8, 8))
    plain = AFMALoss(segmentation_weight=1.0)
    expected = 5 * plain(corrected, label) + 2 * plain(own, label)
    torch.testing.assert_close(AuxiliaryAFMALoss(attention_weight=2.0)((corrected, own), label), expected)
    torch.testing.assert_close(AuxiliaryAFMALoss(attention_weight=2.0)(own, label), 5 * plain(own, label))
    assert complete_arm({"study": "plain_head"})["options"]["loss#attention_weight"] == 2.0


def test_presence_asks_for_the_share_of_each_class_in_each_patch() -> None:
    torch.manual_seed(0)
    host = smp.Unet("resnet18", encoder_weights=None, classes=CLASSES)
    net = AFMANet(host, CLASSES, patch_size=4, attention_supervision=True)
    _, predicted = net.train()(torch.rand(2, 3, 32, 32))
    index = torch.randint(CLASSES, (2, 32, 32))
    gold = gold_attention_from_index(index, predicted.grid, CLASSES)
    expected = 0.0
    for mine, theirs in ((predicted.query, gold.query), (predicted.key, gold.key)):
        shares = [
            (mine[b, k, n].mean() - theirs[b, k, n].float().mean()) ** 2
            for b in range(2)
            for k in range(CLASSES)
            for n in range(mine.shape[2])
        ]
        expected = expected + sum(shares) / len(shares)
    torch.testing.assert_close(PresenceAFMALoss().attention_distance(predicted, gold), expected)
