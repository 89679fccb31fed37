"""The networks that AFMA is tested on, and the README's table of them: one list for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import monai.networks.nets as monai_nets
import segmentation_models_pytorch as smp
from torch import nn

CLASSES = 3


class Host(NamedTuple):
    """A network of CLASSES classes on RGB images, with a few of the features that it can be tapped at."""

    name: str
    make: Callable[[], nn.Module]
    features: tuple[int | str, ...]
    note: str = ""
    fast: bool = False


def _smp(decoder: str, encoder: str = "resnet18", **options: object) -> Callable[[], nn.Module]:
    return lambda: smp.create_model(decoder, encoder, encoder_weights=None, classes=CLASSES, **options)


ENCODERS = ("resnet34", "mobilenet_v2", "efficientnet-b0", "mit_b0", "tu-convnext_atto", "tu-resnet18")
# These encoders have no map of stride 2.
_FROM_DEPTH_2 = ("mit_b0", "tu-convnext_atto")

HOSTS = (
    Host("smp.Unet", _smp("unet"), (1, 2, 3, 4, 5), fast=True),
    Host("smp.UnetPlusPlus", _smp("unetplusplus"), (1, 2, 3)),
    Host("smp.MAnet", _smp("manet"), (1, 2, 3)),
    Host("smp.Linknet", _smp("linknet"), (1, 2, 3)),
    Host("smp.FPN", _smp("fpn"), (1, 2, 3), fast=True),
    Host(
        "smp.PAN", _smp("pan"), (1, 2, 3), "images are padded to at least 128×128; in train mode, batches of 2 or more"
    ),
    Host("smp.PSPNet", _smp("pspnet"), (1, 2, 3), "in train mode, batches of 2 or more"),
    Host(
        "smp.DeepLabV3",
        _smp("deeplabv3"),
        (1, 2, 3, 4, 5),
        "dilated: stride 8 from depth 3 on; batches of 2 or more",
        True,
    ),
    Host("smp.DeepLabV3Plus", _smp("deeplabv3plus"), (1, 2, 3), "in train mode, batches of 2 or more"),
    Host("smp.UPerNet", _smp("upernet"), (2, 3), "in train mode, batches of 2 or more"),
    Host("smp.Segformer", _smp("segformer"), (1, 2, 3)),
    *(
        Host(f"smp.Unet, {encoder}", _smp("unet", encoder), (2, 3) if encoder in _FROM_DEPTH_2 else (1, 2, 3))
        for encoder in ENCODERS
    ),
    Host(
        "monai UNet",
        lambda: monai_nets.UNet(2, 3, CLASSES, (8, 16, 32), (2, 2)),
        ("model.0", "model.1.submodule.0"),
        fast=True,
    ),
    Host("monai BasicUNet", lambda: monai_nets.BasicUNet(2, 3, CLASSES, (8, 8, 16, 16, 32, 8)), ("down_1", "down_2")),
    Host(
        "monai FlexibleUNet", lambda: monai_nets.FlexibleUNet(3, CLASSES, "efficientnet-b0", spatial_dims=2), (1, 2, 3)
    ),
    Host(
        "monai AttentionUnet",
        lambda: monai_nets.AttentionUnet(2, 3, CLASSES, (8, 16, 32), (2, 2)),
        ("model.1.submodule.0",),
    ),
    Host("monai SegResNet", lambda: monai_nets.SegResNet(2, 8, 3, CLASSES), ("down_layers.1", "down_layers.2")),
    Host(
        "monai DynUNet",
        lambda: monai_nets.DynUNet(2, 3, CLASSES, (3, 3, 3), (1, 2, 2), (2, 2), filters=(8, 16, 32)),
        ("downsamples.0",),
    ),
)


def table() -> str:
    """The README's table, in Markdown."""
    rows = [
        f"| {host.name} | {', '.join(f'`{feature}`' for feature in host.features)} | {host.note or 'works'} |"
        for host in HOSTS
    ]
    return "\n".join(["| network | tested `feature` | status |", "|---|---|---|", *rows])
