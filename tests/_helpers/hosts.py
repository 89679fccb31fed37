"""The networks that AFMA is tested on, and the table of docs/hosts.md: one list for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import monai.networks.nets as monai_nets
import segmentation_models_pytorch as smp
from torch import Tensor, nn

CLASSES = 3
#: Export formats, in the table's order.
WAYS = ("script", "trace", "export", "ONNX")


class Host(NamedTuple):
    """A network of CLASSES classes on RGB images, and the features that it is tapped at in the tests.

    ``lacks`` are the export formats that fail for the bare network too, or fail for other image sizes.
    """

    name: str
    make: Callable[[], nn.Module]
    features: tuple[int | str, ...]
    note: str = ""
    lacks: tuple[str, ...] = ()
    fast: bool = False


class SegNet(nn.Module):
    """A short SegNet: each stage of the decoder puts its values where the encoder's pooling found the maxima."""

    def __init__(self, in_channels: int, classes: int, channels: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        before, after = (in_channels, *channels[:-1]), (channels[0], *channels[:-1])
        self.encoder = nn.ModuleList(self.stage(*pair) for pair in zip(before, channels, strict=True))
        self.decoder = nn.ModuleList(self.stage(b, a) for a, b in zip(after[::-1], channels[::-1], strict=True))
        self.head = nn.Conv2d(channels[0], classes, 1)

    @staticmethod
    def stage(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        x, sizes, places = image, [], []
        for stage in self.encoder:
            x = stage(x)
            sizes.append(x.shape[-2:])
            x, place = nn.functional.max_pool2d(x, 2, return_indices=True)
            places.append(place)
        for stage, size, place in zip(self.decoder, sizes[::-1], places[::-1], strict=True):
            x = stage(nn.functional.max_unpool2d(x, place, 2, output_size=size))
        return self.head(x)


def _smp(decoder: str, encoder: str = "resnet18", **options: object) -> Callable[[], nn.Module]:
    return lambda: smp.create_model(decoder, encoder, encoder_weights=None, classes=CLASSES, **options)


DEPTHS = (1, 2, 3, 4, 5)
ENCODERS = (
    "resnet34",
    "resnet101",
    "mobilenet_v2",
    "efficientnet-b0",
    "mit_b0",
    "tu-convnext_atto",
    "tu-resnet18",
)
# These encoders have no map of stride 2.
_FROM_DEPTH_2 = ("mit_b0", "tu-convnext_atto")
_PAIRS = "in train mode, batches of 2 or more"
_VIT = "tu-vit_tiny_patch16_224.augreg_in21k"

HOSTS = (
    Host("smp.Unet", _smp("unet"), DEPTHS, fast=True),
    Host("smp.UnetPlusPlus", _smp("unetplusplus"), DEPTHS, lacks=("script",)),
    Host("smp.MAnet", _smp("manet"), DEPTHS),
    Host("smp.Linknet", _smp("linknet"), DEPTHS),
    Host("smp.FPN", _smp("fpn"), DEPTHS),
    Host("smp.PAN", _smp("pan"), DEPTHS, f"images are padded to at least 128×128; {_PAIRS}"),
    Host("smp.PSPNet", _smp("pspnet"), (1, 2, 3), _PAIRS, lacks=("ONNX",)),
    Host("smp.PSPNet, full depth", _smp("pspnet", encoder_depth=5, output_stride=8), DEPTHS, _PAIRS, lacks=("ONNX",)),
    Host("smp.DeepLabV3", _smp("deeplabv3"), DEPTHS, f"dilated: stride 8 from depth 3 on; {_PAIRS}"),
    Host("smp.DeepLabV3Plus", _smp("deeplabv3plus"), DEPTHS, f"dilated: stride 16 from depth 4 on; {_PAIRS}"),
    Host("smp.UPerNet", _smp("upernet"), DEPTHS, _PAIRS, lacks=("ONNX",)),
    Host("smp.Segformer", _smp("segformer"), DEPTHS),
    Host(
        "smp.DPT, vit_tiny",
        _smp("dpt", _VIT, dynamic_img_size=True),
        (1, 2, 3, 4, "decoder"),
        "built with `dynamic_img_size=True`; every depth has stride 16",
        lacks=("script",),
    ),
    Host(
        "smp.DPT, vit_tiny, fixed size",
        _smp("dpt", _VIT),
        (2,),
        "images of up to 224×224, padded to that size",
        lacks=("script",),
    ),
    *(
        Host(f"smp.Unet, {encoder}", _smp("unet", encoder), DEPTHS[1:] if encoder in _FROM_DEPTH_2 else DEPTHS)
        for encoder in ENCODERS
    ),
    *(
        Host(
            f"smp.Unet, encoder_depth {depth}",
            _smp("unet", encoder_depth=depth, decoder_channels=(64, 32, 16, 16)[:depth]),
            DEPTHS[:depth],
        )
        for depth in (3, 4)
    ),
    Host(
        "monai UNet",
        lambda: monai_nets.UNet(2, 3, CLASSES, (8, 16, 32), (2, 2)),
        ("model.0", "model.1.submodule.0"),
        fast=True,
    ),
    Host(
        "monai BasicUNet",
        lambda: monai_nets.BasicUNet(2, 3, CLASSES, (8, 8, 16, 16, 32, 8)),
        ("down_1", "down_2"),
        "pads odd maps itself; other exports need sides that are multiples of 16",
        lacks=("trace", "export", "ONNX"),
    ),
    Host("monai FlexibleUNet", lambda: monai_nets.FlexibleUNet(3, CLASSES, "efficientnet-b0", spatial_dims=2), DEPTHS),
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
    Host(
        "monai SwinUNETR",
        lambda: monai_nets.SwinUNETR(3, CLASSES, feature_size=12, spatial_dims=2),
        ("swinViT.patch_embed", "encoder2", "encoder3"),
        lacks=WAYS,
    ),
    Host(
        "monai UNETR",
        lambda: monai_nets.UNETR(
            3, CLASSES, img_size=160, feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4, spatial_dims=2
        ),
        ("encoder2", "encoder3"),
        "images of up to its `img_size`, padded to that size",
    ),
    Host("SegNet of this page", lambda: SegNet(3, CLASSES), ("encoder.1", "encoder.2"), lacks=("script", "trace")),
)


def table() -> str:
    """The table of docs/hosts.md, in Markdown."""
    rows = [
        f"| {host.name} | {', '.join(f'`{feature}`' for feature in host.features)} | {host.note or 'works'} "
        f"| {', '.join(way for way in WAYS if way not in host.lacks) or 'none'} |"
        for host in HOSTS
    ]
    return "\n".join(["| network | tested `feature` | status | exports to |", "|---|---|---|---|", *rows])
