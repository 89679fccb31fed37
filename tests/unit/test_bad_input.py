"""Whatever is wrong with an argument of a public class or function is told by us, with the value and what to do."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

import afma_med
from afma_med import AFMABlock, AFMALoss, AFMANet, FeatureTap, SliceWise
from afma_med.functional import (
    PatchAttention,
    PatchGrid,
    compress_prediction,
    gold_attention,
    gold_attention_from_index,
    join_patches,
    modulate_logits,
    split_patches,
)
from afma_med.losses import SigmoidCrossEntropyLoss, SoftmaxCrossEntropyLoss, median_frequency_weights
from afma_med.networks import PaddedNetwork, list_features

NAN = float("nan")
GRID = PatchGrid((16, 16), 2, (4, 4))
ATTENTION = PatchAttention(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 4, 16), GRID)
IMAGE, LABEL = torch.rand(2, 3, 64, 64), torch.randint(3, (2, 1, 64, 64))
LOGITS = torch.rand(2, 3, 64, 64)
INDEX = torch.zeros(1, 16, 16, dtype=torch.long)


@cache
def host() -> nn.Module:
    return smp.Unet("resnet18", encoder_weights=None, classes=3)


@cache
def net() -> AFMANet:
    return AFMANet(host(), 3).eval()


@cache
def block() -> AFMABlock:
    return AFMABlock(4, 3, patch_size=4)


def feature(*shape: int, **options: Any) -> Tensor:
    return torch.rand(*(shape or (1, 4, 8, 8)), **options)


Case = tuple[Callable[[], object], type[Exception], str]
CASES: dict[str, Case] = {
    # images
    "image uint8": (lambda: net()(IMAGE.byte()), TypeError, "floating point numbers; got torch.uint8.*float()"),
    "image int64": (lambda: net()(IMAGE.long()), TypeError, "floating point numbers; got torch.int64"),
    "image float64": (lambda: net()(IMAGE.double()), TypeError, "dtype torch.float32; got torch.float64.*Convert"),
    "image float16": (lambda: net()(IMAGE.half()), TypeError, "dtype torch.float32; got torch.float16.*autocast"),
    "image complex": (lambda: net()(IMAGE.to(torch.complex64)), TypeError, "got torch.complex64"),
    "image without batch": (lambda: net()(IMAGE[0]), ValueError, r"4 axes \(B,C,H,W\); got shape \(3, 64, 64\)"),
    "image of five axes": (lambda: net()(IMAGE[..., None]), ValueError, "4 axes .* Add or fold axes"),
    "image without pixels": (lambda: net()(IMAGE[..., :0]), ValueError, "must have pixels; got shape"),
    "image of one channel": (lambda: net()(IMAGE[:, :1]), ValueError, "3 channels; got 1. Build backbone"),
    "image of numpy": (lambda: net()(IMAGE.numpy()), TypeError, "a torch tensor .* got ndarray. Convert"),
    "image list": (lambda: net()([IMAGE]), TypeError, "a torch tensor .* got list"),
    "image none": (lambda: net()(None), TypeError, "a torch tensor .* got NoneType"),
    "image elsewhere": (lambda: net()(IMAGE.to("meta")), ValueError, "device cpu; got meta. Move"),
    "image of padded network": (lambda: PaddedNetwork(host())(IMAGE[0]), ValueError, "4 axes"),
    "dtype of padded network": (lambda: PaddedNetwork(host())(IMAGE.double()), TypeError, "got torch.float64"),
    # networks
    "backbone none": (lambda: AFMANet(None, 3), TypeError, "`backbone` must be a torch.nn.Module; got NoneType"),
    "backbone class": (lambda: AFMANet(smp.Unet, 3), TypeError, "got the class Unet. Build the network"),
    "backbone of padded": (lambda: PaddedNetwork("Unet"), TypeError, "got str"),
    "network of slices": (lambda: SliceWise(3), TypeError, "`network2d` must be a torch.nn.Module; got int"),
    "network of list_features": (lambda: list_features(None), TypeError, "`backbone` must be"),
    "network of tap": (lambda: FeatureTap(None, 2), TypeError, "`backbone` must be"),
    "classes float": (lambda: AFMANet(host(), 3.0), ValueError, "positive int; got 3.0"),
    "classes of another network": (lambda: AFMANet(host(), 4), ValueError, r"shape \(B, 4, H, W\).* gave \(1, 3, "),
    "channels of another network": (lambda: AFMANet(host(), 3, in_channels=1), ValueError, "`in_channels`=1"),
    "feature 0": (lambda: AFMANet(host(), 3, feature=0), ValueError, "encoder depth from 1 to 5; got 0"),
    "feature 2.5": (lambda: AFMANet(host(), 3, feature=2.5), TypeError, "or a dotted module name .*; got 2.5"),
    "feature none": (lambda: AFMANet(host(), 3, feature=None), TypeError, "got None"),
    "feature unknown": (lambda: AFMANet(host(), 3, feature="nope"), ValueError, "got 'nope'. Choose one of"),
    "tap unknown": (lambda: FeatureTap(host(), "zz"), ValueError, "got 'zz'. Choose one of"),
    "patch text": (lambda: AFMANet(host(), 3, patch_size="10"), ValueError, "`patch_size` must be .*; got '10'"),
    "patch huge": (lambda: AFMANet(host(), 3, patch_size=1000), ValueError, "at most 16384 pixels"),
    "variant unknown": (lambda: AFMANet(host(), 3, variant="x"), ValueError, "got 'x'. Choose one of them"),
    "slices along channels": (lambda: SliceWise(net(), dim=1), ValueError, "`dim` must be a spatial axis"),
    "slices along nothing": (lambda: SliceWise(net(), dim=7), ValueError, "got 7"),
    "no slices": (lambda: SliceWise(net(), slices_per_batch=0), ValueError, "positive int or None; got 0"),
    "slices of an image": (lambda: SliceWise(net())(IMAGE), ValueError, "5 axes"),
    # block
    "feature of another stride": (lambda: block()(IMAGE[:1], feature(1, 4, 7, 8)), ValueError, "one whole stride"),
    "feature larger": (lambda: block()(IMAGE[:1], feature(1, 4, 128, 128)), ValueError, "got 128×128 for an image"),
    "feature of more images": (lambda: block()(IMAGE[:1], feature(2, 4, 8, 8)), ValueError, "batch size 1; got 2"),
    "feature elsewhere": (lambda: block()(IMAGE[:1], feature(device="meta")), ValueError, "got cpu and meta"),
    "feature no tensor": (lambda: block()(IMAGE[:1], None), TypeError, "`feature` must be a torch tensor"),
    "feature channels": (lambda: block()(IMAGE[:1], feature(1, 5, 8, 8)), ValueError, "4 channels; got 5"),
    "block image of integers": (lambda: block()(IMAGE[:1].long(), feature()), TypeError, "got torch.int64"),
    # losses
    "label between classes": (lambda: AFMALoss()(LOGITS, LABEL + 0.5), ValueError, "classes 0 to 2; got .*0.5"),
    "label nan": (lambda: AFMALoss()(LOGITS, LABEL * NAN), ValueError, "classes 0 to 2; got .*nan"),
    "label too large": (lambda: AFMALoss()(LOGITS, LABEL + 5), ValueError, "classes 0 to 2; got .*7.*Map the label"),
    "label negative": (lambda: AFMALoss()(LOGITS, LABEL - 5), ValueError, "classes 0 to 2; got .*-5"),
    "label smaller": (lambda: AFMALoss()(LOGITS, LABEL[..., :32]), ValueError, r"shape \(2, 1, 64, 64\)"),
    "label without channel": (lambda: AFMALoss()(LOGITS, LABEL[:, 0]), ValueError, r"label\[:, None\]"),
    "label of fewer images": (lambda: AFMALoss()(LOGITS, LABEL[:1]), ValueError, r"got \(1, 1, 64, 64\)"),
    "label none": (lambda: AFMALoss()(LOGITS, None), TypeError, "`label` must be a torch tensor .* got NoneType"),
    "label of numpy": (lambda: AFMALoss()(LOGITS, LABEL.numpy()), TypeError, "got ndarray"),
    "label elsewhere": (lambda: AFMALoss()(LOGITS, LABEL.to("meta")), ValueError, "device cpu; got meta"),
    "binary label of three": (lambda: AFMALoss()(LOGITS[:, :1], LABEL), ValueError, "0 and 1; got"),
    "output of three": (lambda: AFMALoss()((LOGITS, ATTENTION, 1), LABEL), TypeError, "logits or .logits, attention"),
    "output none": (lambda: AFMALoss()(None, LABEL), TypeError, "`logits` must be a torch tensor .* got NoneType"),
    "output of two logits": (lambda: AFMALoss()((LOGITS, LOGITS), LABEL), TypeError, "tuple of Tensor, Tensor"),
    "logits of integers": (lambda: AFMALoss()(LOGITS.long(), LABEL), TypeError, "floating point numbers"),
    "attention of another image": (lambda: AFMALoss()((LOGITS, ATTENTION), LABEL), ValueError, "must not be larger"),
    "weight negative": (lambda: AFMALoss(attention_weight=-1), ValueError, "`attention_weight` must be .*; got -1"),
    "weight nan": (lambda: AFMALoss(segmentation_weight=NAN), ValueError, "finite number ≥ 0; got nan"),
    "weight text": (lambda: AFMALoss(attention_weight="1"), ValueError, "got '1'"),
    "class weights of two": (lambda: AFMALoss(weight=[1, 2])(LOGITS, LABEL), ValueError, "K = 3 .*; got 2"),
    "class weight negative": (lambda: AFMALoss(weight=[1, -1]), ValueError, "K finite numbers ≥ 0"),
    "class weights text": (lambda: AFMALoss(weight="abc"), ValueError, "K finite numbers ≥ 0; got abc"),
    "class weights nan": (lambda: SigmoidCrossEntropyLoss([1, NAN]), ValueError, "K finite numbers ≥ 0"),
    "softmax without tensors": (lambda: SoftmaxCrossEntropyLoss()([1], LABEL), TypeError, "`logits` must be a torch"),
    "counts negative": (lambda: median_frequency_weights([1, -2]), ValueError, "pixel counts ≥ 0"),
    # functions
    "patch of 0": (lambda: split_patches(LOGITS, (0, 2)), ValueError, r"`patch_size` must be .*; got \(0, 2\)"),
    "patches of three axes": (lambda: split_patches(LOGITS[0], 2), ValueError, "4 axes"),
    "patches of another size": (lambda: join_patches(LOGITS, (4, 4), 2), ValueError, r"\(N, D\) = \(4, 4\)"),
    "prediction larger": (lambda: compress_prediction(LOGITS, GRID), ValueError, "must not be larger .* 16×16; got"),
    "prediction none": (lambda: compress_prediction(None, GRID), TypeError, "`logits` must be a torch tensor"),
    "grid of no stride": (
        lambda: compress_prediction(LOGITS[..., :16, :16], GRID._replace(stride=0)),
        ValueError,
        "`grid` must have a stride that divides",
    ),
    "grid of another stride": (
        lambda: gold_attention(LOGITS[..., :16, :16], GRID._replace(stride=3)),
        ValueError,
        "stride that divides its image size; got .*stride=3",
    ),
    "grid of no patch": (
        lambda: gold_attention(LOGITS[..., :16, :16], GRID._replace(patch_size=(0, 4))),
        ValueError,
        "`patch_size` must be",
    ),
    "correction of other classes": (lambda: modulate_logits(LOGITS[:1, :2], ATTENTION), ValueError, r"\(1, 2\)"),
    "correction of a larger image": (lambda: modulate_logits(LOGITS[:1], ATTENTION), ValueError, "16×16; got 64×64"),
    "correction by a tensor": (lambda: modulate_logits(LOGITS, LOGITS), TypeError, "a PatchAttention; got Tensor"),
    "gold of nothing": (lambda: gold_attention(None, GRID), TypeError, "`one_hot` must be a torch tensor"),
    "gold of a larger label": (lambda: gold_attention(LOGITS, GRID), ValueError, "must not be larger"),
    "index of floats": (lambda: gold_attention_from_index(INDEX.float(), GRID, 3), ValueError, "whole numbers"),
    "index of four axes": (lambda: gold_attention_from_index(INDEX[None], GRID, 3), ValueError, r"shape \(B,H,W\)"),
    "index of no classes": (lambda: gold_attention_from_index(INDEX, GRID, 0), ValueError, "`num_classes` must be"),
    "index too large": (
        lambda: gold_attention_from_index(INDEX + 7, GRID, 3),
        ValueError,
        "below `num_classes`=3; got 7",
    ),
    "values of other patches": (lambda: ATTENTION.apply(torch.rand(1, 3, 5, 16)), ValueError, r"\(1, 3, 4, 16\)"),
    "attention of other patches": (
        lambda: ATTENTION.squared_distance(ATTENTION._replace(query=torch.rand(1, 3, 15, 16))),
        ValueError,
        r"same \(B,K,N,M\) = \(1, 3, 16, 4\); got \(1, 3, 15, 4\)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_is_refused_by_us(name: str) -> None:
    call, kind, message = CASES[name]
    with pytest.raises(kind) as raised:
        call()
    text = str(raised.value)
    assert re.search(message, text), text
    assert re.match(r"`\w+`( and `\w+`)? must ", text), "which argument, and its rule"
    assert text.splitlines()[0].endswith((".", "]")), "and a sentence on what to do"
    last = traceback.extract_tb(raised.value.__traceback__)[-1].filename
    assert Path(last).is_relative_to(Path(afma_med.__file__).parent)


def test_what_is_unusual_but_fine_passes() -> None:
    assert net()(IMAGE[:0]).shape == (0, 3, 64, 64)
    assert net()(torch.rand(1, 3, 1, 1)).shape == (1, 3, 1, 1)
    assert AFMALoss(ignore_index=255)(LOGITS, torch.full_like(LABEL, 255)) == 0
    assert AFMALoss()(LOGITS, LABEL.double()) == AFMALoss()(LOGITS, LABEL)
