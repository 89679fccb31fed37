"""Several depths, groups of classes with their own depth and patch size, keys of the resized image."""

from __future__ import annotations

import concurrent.futures
import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _helpers import reference
from afma_med import AFMABlock, AFMALoss, AFMANet, GroupedAttention, PatchAttention, SliceWise
from afma_med.functional import PatchGrid, modulate_logits
from afma_med.grouped_attention import correct_logits, mean_distance
from afma_med.networks import AFMABlocks
from afma_med.networks.afma_blocks import ResizedImageBlock


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 5, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.first(x).relu()
        return [x, first, self.second(first)]


class Host(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Conv2d(5, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.encoder(x)
        return F.interpolate(self.head(maps[2]), size=x.shape[2:], mode="bilinear")


GROUPS = {"a": [2, 0], "b": [1], "all": [0, 1, 2]}
# Options, and the parts that they mean: depth, patch size, classes.
CASES = {
    "list": ({"feature": [2, 1]}, [(2, (2, 2), (0, 1, 2)), (1, (2, 2), (0, 1, 2))]),
    "groups": ({"feature": {"a": 1, "b": 2}}, [(1, (2, 2), (0, 2)), (2, (2, 2), (1,))]),
    "list of a group": ({"feature": {"a": [1, 2]}}, [(1, (2, 2), (0, 2)), (2, (2, 2), (0, 2))]),
    "patches": (
        {"feature": 1, "patch_size": {"a": (4, 1), "b": 2}},
        [(1, (4, 1), (0, 2)), (1, (2, 2), (1,))],
    ),
    "image": ({"feature": 2, "source": "image"}, [(2, (2, 2), (0, 1, 2))]),
    "images": ({"feature": {"a": 2, "b": 1}, "source": "image"}, [(2, (2, 2), (0, 2)), (1, (2, 2), (1,))]),
}


def make(feature: Any = 2, **options: Any) -> AFMANet:
    torch.manual_seed(0)
    own = {"patch_size": 2, "class_groups": GROUPS, "attention_supervision": True} | options
    return AFMANet(Host(), 3, feature=feature, **own)


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("case", CASES)
def test_network_and_loss_equal_the_reference(case: str, variant: Any) -> None:
    options, expected = CASES[case]
    paper = variant == "paper"
    net = make(variant=variant, **options).double()
    blocks = list(getattr(net.afma_block, "blocks", [net.afma_block]))
    with torch.no_grad():
        net.backbone.head.bias.zero_()
        for block in blocks:
            block.feature_conv.bias.fill_(2.0)
    image = torch.randn(1, 3, 6, 7, dtype=torch.float64)
    label = torch.randint(3, (1, 1, 6, 7))
    logits, attention = net(image)
    loss = AFMALoss(segmentation_weight=0.0)((logits, attention), label)

    padded = F.pad(image, (0, 1, 0, 2))
    maps = net.backbone.encoder(padded)
    parts = []
    for block, (depth, patch, classes) in zip(blocks, expected, strict=True):
        stride = 2**depth
        key = reference.pool(padded, (8, 8), stride) if options.get("source") else maps[depth]
        dense = reference.block_attention(padded, key, dict(block.named_parameters()), patch, paper=paper)
        parts.append((dense, classes, stride, patch))
    plain = net.backbone(padded)[:, :, :6, :7]
    naive = reference.modulate_by_several(plain, parts, (8, 8), soft=paper)
    assert (naive - plain).abs().max() > 1e-6
    torch.testing.assert_close(logits, naive, rtol=1e-10, atol=1e-10)
    naive_loss = reference.attention_loss_of_several(parts, reference.one_hot(label[:, 0], 3), (8, 8))
    torch.testing.assert_close(loss, naive_loss, rtol=1e-10, atol=1e-10)
    parameters = list(net.parameters())
    both = [torch.cat([100 * term[None], x.flatten()]) for x, term in ((logits, loss), (naive, naive_loss))]
    found = [reference.gradients(x, parameters) for x in both]
    for gradient, other in zip(*found, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-9, atol=1e-9)
    one_hot = F.one_hot(label[:, 0], 3).movedim(-1, 1)
    torch.testing.assert_close(AFMALoss(segmentation_weight=0.0)((logits, attention), one_hot), naive_loss)


def test_a_class_without_attention_keeps_its_logits() -> None:
    net = make({"b": 2}).eval()
    with torch.no_grad():  # class 1 is predicted, and attended to
        net.backbone.head.bias[1] = 5.0
        net.afma_block.blocks[0].feature_conv.bias.fill_(5.0)
    image = torch.rand(1, 3, 8, 8)
    before, attention = net.attend(image)
    after = net(image)
    assert attention.classes == ((1,),)
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    assert not torch.equal(after[:, 1], before[:, 1])


def test_a_partition_into_equal_groups_is_one_attention() -> None:
    """The correction and the loss of an attention do not change if its classes are split into groups."""
    grid = PatchGrid((8, 8), 2, (2, 2))
    whole, gold = (PatchAttention(torch.rand(2, 3, 16, 4), torch.rand(2, 3, 4, 4), grid) for _ in range(2))
    classes = ((0, 2), (1,))
    split, split_gold = (
        GroupedAttention(tuple(PatchAttention(x.query[:, k], x.key[:, k], grid) for k in map(list, classes)), classes)
        for x in (whole, gold)
    )
    logits = torch.randn(2, 3, 7, 8)
    torch.testing.assert_close(correct_logits(logits, split), modulate_logits(logits, whole))
    distance = mean_distance(split, split_gold, PatchAttention.squared_distance)
    torch.testing.assert_close(distance, whole.squared_distance(gold))


@pytest.mark.parametrize("feature", [[2], {"a": 2, "b": 2}, {"all": [2]}], ids=str)
def test_one_depth_of_all_classes_is_the_plain_block(feature: Any) -> None:
    net = make(feature)
    assert type(net.afma_block) is AFMABlock
    assert list(net.state_dict()) == list(make(2).state_dict())
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(net.eval()(image), make(2).eval()(image))


def test_several_depths_share_the_query_and_one_pass_through_the_host() -> None:
    net, runs = make([1, 2]), []
    net.backbone.register_forward_hook(lambda *_: runs.append("host"))
    first, second = net.afma_block.blocks
    for block in (first, second):
        embed = block.embed_image
        block.embed_image = lambda image, embed=embed: runs.append("embedding") or embed(image)
    _, attention = net(torch.rand(1, 3, 8, 8))
    assert runs == ["host", "embedding"]
    assert attention.parts[0].query.data_ptr() == attention.parts[1].query.data_ptr()
    assert first.image_conv1 is second.image_conv1
    assert first.patch_linear2 is second.patch_linear2
    assert first.feature_conv is not second.feature_conv
    apart = make({"a": 1, "b": 2}).afma_block.blocks
    assert apart[0].image_conv1 is not apart[1].image_conv1


def test_the_resized_image_needs_no_channels_of_the_map() -> None:
    block = make(source="image").afma_block
    assert type(block) is ResizedImageBlock
    assert block.feature_conv.in_channels == 3


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "state"])
def test_copies_give_the_same_and_share_as_the_original(way: str) -> None:
    net = make([1, 2]).eval()
    if way == "state":
        other = make([1, 2]).eval()
        for parameter in other.parameters():
            nn.init.zeros_(parameter)
        other.load_state_dict(net.state_dict())
    else:
        other = copy.deepcopy(net) if way == "deepcopy" else pickle.loads(pickle.dumps(net))
    image = torch.rand(1, 3, 9, 8)
    assert torch.equal(other(image), net(image))
    assert len(list(other.parameters())) == len(list(net.parameters()))


@pytest.mark.parametrize("feature", [[1, 2], {"a": 1, "b": 2}], ids=str)
def test_script_and_threads_give_the_same(feature: Any) -> None:
    net = make(feature).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(net)
    assert not scripted.scripted.inlined_graph.findAllNodes("prim::SetAttr")
    images = [torch.rand(1, 3, 8 + i, 12) for i in range(6)]
    with torch.inference_mode():
        expected = [net(image) for image in images]

        def answer(served: nn.Module, image: Tensor) -> Tensor:
            with torch.inference_mode():
                return served(image)

        for served in (net, scripted):
            with concurrent.futures.ThreadPoolExecutor(3) as threads:
                answers = list(threads.map(lambda image, served=served: answer(served, image), images))
            for found, right in zip(answers, expected, strict=True):
                torch.testing.assert_close(found, right)


def test_maps_of_several_modules_run_and_are_refused_by_script() -> None:
    net = make(["encoder.first", "encoder.second"]).eval()
    assert torch.isfinite(net(torch.rand(1, 3, 8, 8))).all()
    with pytest.raises(TypeError, match=r"`feature` must name maps of one module .* got those of encoder\.first, enc"):
        torch.jit.script(net)


def test_torch_export_follows_several_depths() -> None:
    net = make({"a": [1, 2], "b": 1}).eval()
    exported = torch.export.export(net, (torch.rand(1, 3, 12, 16),), strict=False).module()
    image = torch.rand(1, 3, 12, 16)
    torch.testing.assert_close(exported(image), net(image))


@pytest.mark.parametrize("slices_per_batch", [None, 2])
def test_the_loss_on_a_volume_is_the_loss_on_its_slices(slices_per_batch: int | None) -> None:
    net = make({"a": [1, 2], "b": 1})
    volume, label = torch.rand(2, 3, 8, 8, 3), torch.randint(3, (2, 1, 8, 8, 3))
    loss = AFMALoss()
    on_volume = loss(SliceWise(net, slices_per_batch=slices_per_batch)(volume), label)
    slices, labels = (x.movedim(-1, 1).flatten(0, 1) for x in (volume, label))
    torch.testing.assert_close(on_volume, loss(net(slices), labels))


def test_a_step_trains_every_parameter() -> None:
    net = make({"a": [1, 2], "b": 1}, patch_size={"a": 3})
    AFMALoss()(net(torch.rand(2, 3, 16, 16)), torch.randint(3, (2, 1, 16, 16))).backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]


def test_blocks_say_their_classes() -> None:
    assert "classes=((0, 2), (1,))" in repr(make({"a": 1, "b": 2}).afma_block)
    assert isinstance(make({"a": 1, "b": 2}).afma_block, AFMABlocks)


def test_an_attention_that_is_taken_for_a_tensor_says_what_to_do() -> None:
    _, attention = make([1, 2])(torch.rand(1, 3, 8, 8))
    with pytest.raises(AttributeError, match=r"a GroupedAttention has no `shape`.*call \.eval\(\)"):
        _ = attention.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature": {"c": 2}}, r"`feature` must map names of groups .* got 'c' of classes \[\].*: a, b, all"),
        ({"feature": {"a": 2, "all": 1}}, r"`feature` must name each class once; got class 0 in 'a' and 'all'"),
        ({"patch_size": {"d": 2}}, r"`patch_size` must map names of groups .* got 'd'"),
        ({"patch_size": {"a": 0}}, r"`patch_size` must be a positive int"),
        ({"feature": {"a": 1}, "class_groups": {"a": [3]}}, r"some of the 3 classes; got 'a' of classes \[3\]"),
        ({"feature": []}, r"`feature` must name at least one feature map; got \[\]"),
        ({"feature": [1, 9]}, r"`feature` must be an encoder depth from 1 to 2; got 9"),
        ({"feature": [1, "no"]}, r"`feature` must name a module of the backbone; got 'no'"),
        ({"source": "label"}, r"`source` must be one of \('feature', 'image'\); got 'label'"),
    ],
)
def test_wrong_choices_are_refused_and_leave_no_hooks(options: dict[str, Any], message: str) -> None:
    host = Host()
    with pytest.raises(ValueError, match=message):
        AFMANet(host, 3, **{"feature": 2, "patch_size": 2, "class_groups": GROUPS} | options)
    assert not any(module._forward_hooks for module in host.modules())
