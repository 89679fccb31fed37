"""The learnable parts of AFMA: embeddings of image and feature map, and the patch projection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from afma_med._ops.tensors import autocast_off, is_captured, without_metadata
from afma_med.checks import as_patch_size, check_channels, check_four_axes, check_image
from afma_med.functional import PatchAttention, PatchGrid, split_patches
from afma_med.networks.embedding import (
    convolve_twice,
    input_dtype,
    is_plain_conv,
    is_plain_linear,
    is_unhooked,
    project_patches,
)

__all__ = ["AFMABlock", "Variant", "check_variant", "read_stride"]

# Pixels of a patch whose projection, 4 · D² weights, still fits into memory: 128×128, 4 GiB.
_LARGEST_DEPTH = 2**14

# Numbers of the embedded image that a strip of it holds: 20 MiB of float32 on a CPU, 256 MiB on other devices.
_CPU_STRIP, _DEVICE_STRIP = 5 * 2**20, 2**26
# Images of fewer strips take less memory whole.
_LEAST_STRIPS = 4
# Rows above and below a pixel that the two convolutions of the image see.
_REACH = 4

Variant = Literal["released", "paper"]


class AFMABlock(nn.Module):
    """Compute the attention between an image's patches and a feature map's patches, one map per class.

    Two variants: ``"released"``, the authors' code (K image filters, a patch projection shared by image and feature
    patches, ReLU), and ``"paper"``, the text (one image filter, no projection). Both divide the embedded feature map
    by s², of which the text says nothing.

    Submodules ``image_conv1, image_conv2, feature_conv, patch_linear1, patch_linear2`` (the linears in the released
    variant only) hold the parameters in the shapes of the released code.

    Two convolutions with nothing between are computed as one, and so are two linears. This holds while the layers are
    plain ``nn.Conv2d`` and ``nn.Linear``: layers that are pruned, quantized, parametrized, hooked or replaced, as by
    LoRA, are called instead.

    Memory: with the correction of the logits and the loss, a training step holds at its peak less than (5 + 7 / s²)
    times what the float32 logits (B,K,H,W) take, K being 4 at least, plus 16 MiB on a CPU, more than without AFMA. In
    inference :class:`~afma_med.AFMANet` corrects large images in strips: less than (1 + 4 / s²) times, K being 8 at
    least, plus 128 MiB on a CPU.

    Args:
        feature_channels: F, channels of the feature map.
        out_channels: K, number of classes; 1 is binary.
        in_channels: C, channels of the image.
        patch_size: p, or (ph, pw), in pixels of image and feature map.
        embed_channels: filters of the first image convolution.
        variant: ``"released"`` or ``"paper"``.

    Raises:
        ValueError: if a number is not positive, a patch too large to be projected, or the variant unknown.

    Example:
        >>> block = AFMABlock(feature_channels=64, out_channels=12)
        >>> attention = block(torch.rand(1, 3, 80, 120), torch.rand(1, 64, 20, 30))
        >>> attention.query.shape, attention.key.shape, attention.grid.stride
        (torch.Size([1, 12, 96, 100]), torch.Size([1, 12, 6, 100]), 4)

    Reference:
        Sang, Zhou, Islam, Xing: Small-Object Sensitive Segmentation Using Across Feature Map Attention, TPAMI 2023.
    """

    def __init__(
        self,
        feature_channels: int,
        out_channels: int,
        *,
        in_channels: int = 3,
        patch_size: int | tuple[int, int] = 10,
        embed_channels: int = 64,
        variant: Variant = "released",
    ) -> None:
        super().__init__()
        self.patch_size = as_patch_size(patch_size)
        check_variant(variant)
        check_channels(
            feature_channels=feature_channels,
            out_channels=out_channels,
            in_channels=in_channels,
            embed_channels=embed_channels,
        )
        self.variant = variant
        self.in_channels, self.feature_channels, self.out_channels = in_channels, feature_channels, out_channels
        image_filters = out_channels if variant == "released" else 1
        self.image_conv1 = nn.Conv2d(in_channels, embed_channels, kernel_size=7, padding=3)
        self.image_conv2 = nn.Conv2d(embed_channels, image_filters, kernel_size=3, padding=1)
        self.feature_conv = nn.Conv2d(feature_channels, out_channels, kernel_size=1)
        if variant == "released":
            depth = self.patch_size[0] * self.patch_size[1]
            if depth > _LARGEST_DEPTH:
                raise ValueError(
                    f"`patch_size` must have at most {_LARGEST_DEPTH} pixels, for their projection has 4 · D² "
                    f"weights; got {self.patch_size}, D = {depth}. The paper uses 10."
                )
            self.patch_linear1 = nn.Linear(depth, 2 * depth, bias=False)
            self.patch_linear2 = nn.Linear(2 * depth, depth, bias=False)

    def forward(self, image: Tensor, feature: Tensor, query: Tensor | None = None) -> PatchAttention:
        """Compute the attention of a batch of images.

        Args:
            image: (B,C,H,W), as the backbone saw it.
            feature: (B,F,h,w), the backbone's feature map; s = H / h = W / w is read from the shapes.
            query: (B,K,N,D), of a block that shares the layers of the image; by default it is computed.

        Returns:
            The attention, in float32 also under autocast.

        Raises:
            TypeError: if one is not a tensor, or ``image`` not of floating point numbers.
            ValueError: if shapes, channels, batch or devices disagree, or no whole stride fits both axes.
        """
        self._check_channels(image, feature)
        image, feature = without_metadata(image), without_metadata(feature)
        grid = self.find_grid(image, feature)
        with autocast_off(image):
            query = self._project(self.embed_image(image)) if query is None else query
            key = self._project(self.embed_feature(feature, grid.stride))
        return PatchAttention(query.expand(-1, self.out_channels, -1, -1), key, grid)

    def find_grid(self, image: Tensor, feature: Tensor) -> PatchGrid:
        """Tell where the patches of an image (B,C,H,W) and of its feature map (B,F,h,w) lie.

        Raises:
            ValueError: if no whole stride fits both axes.
        """
        return PatchGrid((image.shape[2], image.shape[3]), read_stride(image, feature), self.patch_size)

    def needs_strips(self, image: Tensor) -> bool:
        """Tell whether the embedded image (B,K,H,W) is large, and may be made strip by strip: by plain convolutions."""
        is_plain = is_plain_conv(self.image_conv1, 7) and is_plain_conv(self.image_conv2, 3) and is_unhooked(self)
        is_large = self.out_channels * image[:, 0].numel() > _LEAST_STRIPS * _strip_size(image)
        return is_large and is_plain and not is_captured()

    def in_strips(self, image: Tensor, feature: Tensor) -> Iterator[tuple[slice, PatchAttention]]:
        """Compute the attention strip by strip, each of a few rows of patches.

        Args:
            image, feature: as for :meth:`forward`.

        Yields:
            Rows of the image, and their attention: its grid is the strip's, its key that of the whole feature map.

        Raises:
            TypeError, ValueError: as :meth:`forward` does.
        """
        self._check_channels(image, feature)
        image, feature = without_metadata(image), without_metadata(feature)
        grid, patch_rows, height = self.find_grid(image, feature), self.patch_size[0], image.shape[2]
        numbers = self.out_channels * image[:, 0, 0].numel() * patch_rows
        step = patch_rows * max(1, _strip_size(image) // numbers)
        with autocast_off(image):
            key = self._project(self.embed_feature(feature, grid.stride))
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            above = min(start, _REACH)
            with autocast_off(image):
                maps = self.embed_image(image[:, :, start - above : rows.stop + _REACH])
                query = self._project(maps[:, :, above : above + rows.stop - start].contiguous())
            strip = grid._replace(image_size=(rows.stop - start, image.shape[3]))
            yield rows, PatchAttention(query.expand(-1, self.out_channels, -1, -1), key, strip)

    def embed_image(self, image: Tensor) -> Tensor:
        """Embed the image: a 7×7 and a 3×3 convolution with nothing between.

        Step 1 (Eq. 1). (B,C,H,W) -> (B,K,H,W), or (B,1,H,W) in the paper variant.
        """
        image = image.to(input_dtype(self.image_conv1))
        if is_plain_conv(self.image_conv1, 7) and is_plain_conv(self.image_conv2, 3):
            return convolve_twice(image, self.image_conv1, self.image_conv2)
        embedded: Tensor = self.image_conv2(self.image_conv1(image))
        return embedded

    def embed_feature(self, feature: Tensor, stride: int) -> Tensor:
        """Turn the feature map into one map per class: a 1×1 convolution, divided by s².

        Step 2 (Eq. 2). (B,F,h,w) -> (B,K,h,w).
        """
        feature = feature.to(input_dtype(self.feature_conv))
        if not is_plain_conv(self.feature_conv, 1):
            called: Tensor = self.feature_conv(feature)
            return called / stride**2
        weight, bias = self.feature_conv.weight, self.feature_conv.bias
        # As a product of matrices, which takes the feature map as it lies in memory; of batches, or it would be copied.
        matrices = weight[:, :, 0, 0].expand(feature.shape[0], -1, -1)
        embedded = torch.bmm(matrices, feature.flatten(2)) + bias[:, None]  # type: ignore[index]
        return embedded.view(*embedded.shape[:2], *feature.shape[2:]) / stride**2

    def extra_repr(self) -> str:
        return f"patch_size={self.patch_size}, variant={self.variant!r}"

    def _project(self, maps: Tensor) -> Tensor:
        """Split into patches and project them; the two bias-free linears with nothing between are one D×D matrix."""
        if self.variant == "paper":
            return split_patches(maps, self.patch_size)
        first, second = self.patch_linear1, self.patch_linear2
        if is_plain_linear(first) and is_plain_linear(second):
            return project_patches(maps, second.weight @ first.weight, self.patch_size)
        projected: Tensor = second(first(split_patches(maps, self.patch_size).to(input_dtype(first)))).relu()
        return projected

    def _check_channels(self, image: Tensor, feature: Tensor) -> None:
        check_image(image)
        check_four_axes("feature", feature, "(B,F,h,w)")
        for name, x, argument in (("image", image, "in_channels"), ("feature", feature, "feature_channels")):
            if x.shape[1] != getattr(self, argument):
                raise ValueError(
                    f"`{name}` must have {getattr(self, argument)} channels; got {x.shape[1]}. "
                    f"Build AFMABlock with {argument}={x.shape[1]}, or change the input."
                )
        device = next(self.parameters(), image).device
        if not image.device == feature.device == device:
            raise ValueError(
                f"`image` and `feature` must be on the block's device {device}; got "
                f"{image.device} and {feature.device}. Move them with .to(device)."
            )
        if image.shape[0] != feature.shape[0]:
            raise ValueError(
                f"`feature` must have the image's batch size {image.shape[0]}; got {feature.shape[0]}. "
                "Take the feature map of the same forward pass."
            )


def _strip_size(like: Tensor) -> int:
    return _CPU_STRIP if like.device.type == "cpu" else _DEVICE_STRIP


def check_variant(variant: str) -> None:
    """Refuse an unknown variant of the method.

    Raises:
        ValueError: listing the variants.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"`variant` must be one of {get_args(Variant)}; got {variant!r}. Choose one of them.")


def read_stride(image: Tensor, feature: Tensor) -> int:
    """Read s from an image and its feature map.

    Raises:
        ValueError: if no whole stride fits both axes.
    """
    height, width = feature.shape[2:]
    stride = int(image.shape[2] // max(1, height))  # a constant of the network also where the sizes are traced
    if stride < 1 or (height * stride, width * stride) != tuple(image.shape[2:]):
        raise ValueError(
            f"`feature` must be smaller than the image by one whole stride on both axes; got {height}×{width} for an "
            f"image of {image.shape[2]}×{image.shape[3]}. Pad the image (AFMANet does) or take another feature map."
        )
    return stride
