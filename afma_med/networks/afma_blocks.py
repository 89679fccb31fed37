"""Several AFMABlocks in one: for several depths, and for groups of classes with their own depth and patch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from afma_med.checks import as_patch_size
from afma_med.functional import PatchAttention
from afma_med.grouped_attention import GroupedAttention
from afma_med.networks.afma_block import AFMABlock, read_stride
from afma_med.networks.feature_tap import check_feature

__all__ = [
    "AFMABlocks",
    "Branch",
    "Feature",
    "PatchSize",
    "ResizedImageBlock",
    "Source",
    "build_block",
    "check_choices",
    "list_branches",
    "list_depths",
    "spell_choice",
]

_Depths: TypeAlias = int | str | Sequence[int | str]
_Size: TypeAlias = int | tuple[int, int]
Feature: TypeAlias = _Depths | Mapping[str, _Depths]
PatchSize: TypeAlias = _Size | Mapping[str, _Size]
Source = Literal["feature", "image"]

#: Of classes that a mapping of patch sizes does not name.
DEFAULT_PATCH_SIZE = 10

_T = TypeVar("_T")


class Branch(NamedTuple):
    """Describe one of the attentions of a network: its feature map, its patch size and its classes."""

    feature: int | str
    patch_size: tuple[int, int]
    classes: tuple[int, ...]


class ResizedImageBlock(AFMABlock):
    """Compute the attention between an image and its own smaller copy, the paper's control (Sec. 5).

    The image, averaged over s × s pixels, takes the place of the feature map; the map gives the stride only. All steps
    are those of :class:`~afma_med.AFMABlock`, so the 1×1 convolution of the key has C channels instead of F.

    Args:
        feature_channels: of the map whose size the image is resized to; no layer depends on it.
        out_channels, **options: as for :class:`~afma_med.AFMABlock`.
    """

    def __init__(self, feature_channels: int, out_channels: int, *, in_channels: int = 3, **options: Any) -> None:
        super().__init__(in_channels, out_channels, in_channels=in_channels, **options)

    def forward(self, image: Tensor, feature: Tensor, query: Tensor | None = None) -> PatchAttention:
        return super().forward(image, F.avg_pool2d(image, read_stride(image, feature)), query)


class AFMABlocks(nn.Module):
    """Compute several attentions of one image, an :class:`~afma_med.AFMABlock` each.

    Blocks of the same classes and patch size share the layers of the image and the projection of the patches. Their
    query is computed once.

    Args:
        blocks: one for each part; ``out_channels`` is the number of its classes.
        classes: for each block, the indices of its classes.
        inputs: for each block, which of the feature maps it reads.
    """

    def __init__(self, blocks: Sequence[AFMABlock], classes: Sequence[tuple[int, ...]], inputs: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.classes, self.inputs = tuple(classes), tuple(inputs)
        self.in_channels = blocks[0].in_channels
        first: dict[Any, AFMABlock] = {}
        for key, block in zip(self._query_keys(), blocks, strict=True):
            for name, layer in first.setdefault(key, block).named_children():
                if name != "feature_conv":
                    setattr(block, name, layer)

    def forward(self, image: Tensor, *features: Tensor) -> GroupedAttention:
        """Compute the attentions of a batch of images.

        Args:
            image: (B,C,H,W), as the backbone saw it.
            *features: (B,F,h,w), the backbone's feature maps.

        Raises:
            TypeError, ValueError: as :meth:`AFMABlock.forward <afma_med.AFMABlock.forward>` does.
        """
        parts: list[PatchAttention] = []
        queries: dict[Any, Tensor] = {}
        for key, block, place in zip(self._query_keys(), self.blocks, self.inputs, strict=True):
            part = block(image, features[place], queries.get(key))
            queries[key] = part.query
            parts.append(part)
        return GroupedAttention(tuple(parts), self.classes)

    def extra_repr(self) -> str:
        return f"classes={self.classes}"

    def _query_keys(self) -> list[Any]:
        """What the query of each block depends on."""
        return [(block.patch_size, classes) for block, classes in zip(self.blocks, self.classes, strict=True)]


def list_depths(feature: Feature) -> list[int | str]:
    """List the distinct encoder depths and module names of a choice of feature maps.

    Raises:
        TypeError: if one is neither int nor str.
        ValueError: if there is none.

    Example:
        >>> list_depths(2), list_depths([2, 3]), list_depths({"small": 2, "large": [4, 2]})
        ([2], [2, 3], [2, 4])
    """
    choices = feature.values() if isinstance(feature, Mapping) else [feature]
    found: list[Any] = [one for choice in choices for one in _as_list(choice)]
    for one in found:
        check_feature(one)
    if not found:
        raise ValueError(f"`feature` must name at least one feature map; got {feature!r}. Use 2 for an SMP network.")
    return list(dict.fromkeys(found))


def list_branches(
    feature: Feature, patch_size: PatchSize, *, class_groups: Mapping[str, Sequence[int]], out_channels: int
) -> list[Branch]:
    """List the attentions of a network; classes of the same feature map and patch size are one.

    Args:
        feature: depth or name, several of them, or a mapping from names of groups to these.
        patch_size: p, (ph, pw), or a mapping from names of groups to these.
        class_groups: indices of the classes by the name of the group.
        out_channels: K.

    Raises:
        ValueError: if a group is unknown, empty or out of range, if two groups of a mapping share a class, or if a
            patch size is not positive.

    Example:
        >>> groups = {"car": [0], "pole": [2]}
        >>> list_branches({"car": 4, "pole": 2}, {"pole": (20, 5)}, class_groups=groups, out_channels=3)
        [Branch(feature=4, patch_size=(10, 10), classes=(0,)), Branch(feature=2, patch_size=(20, 5), classes=(2,))]
    """
    depths = _by_class("feature", feature, class_groups, out_channels)
    sizes: list[Any] = _by_class("patch_size", patch_size, class_groups, out_channels)
    branches: dict[tuple[int | str, tuple[int, int]], list[int]] = {}
    for k, (choice, size) in enumerate(zip(depths, sizes, strict=True)):
        own = as_patch_size(DEFAULT_PATCH_SIZE if size is None else size)
        for depth in dict.fromkeys([] if choice is None else _as_list(choice)):
            branches.setdefault((depth, own), []).append(k)
    return [Branch(*key, tuple(classes)) for key, classes in branches.items()]


def build_block(
    feature: Feature,
    patch_size: PatchSize,
    channels: Mapping[int | str, int],
    out_channels: int,
    *,
    class_groups: Mapping[str, Sequence[int]],
    source: Source,
    **options: Any,
) -> AFMABlock | AFMABlocks:
    """Build the block of one attention of all classes, or the blocks of several.

    Args:
        feature, patch_size, class_groups: as for :func:`list_branches`.
        channels: F by feature map, in the order in which the maps are given to the block.
        out_channels: K.
        source: ``"feature"``, or ``"image"`` for :class:`ResizedImageBlock`.
        **options: of :class:`~afma_med.AFMABlock`.

    Raises:
        ValueError: as :func:`list_branches` does.
    """
    branches = list_branches(feature, patch_size, class_groups=class_groups, out_channels=out_channels)
    kind = AFMABlock if source == "feature" else ResizedImageBlock
    blocks = [
        kind(channels[branch.feature], len(branch.classes), patch_size=branch.patch_size, **options)
        for branch in branches
    ]
    if len(branches) == 1 and len(branches[0].classes) == out_channels:
        return blocks[0]
    maps = list(channels)
    return AFMABlocks(
        blocks, [branch.classes for branch in branches], [maps.index(branch.feature) for branch in branches]
    )


def check_choices(feature: Feature, patch_size: PatchSize, source: str) -> None:
    """Refuse values that are wrong for every network and for all groups of classes.

    Raises:
        TypeError: if a feature map is neither int nor str.
        ValueError: if there is no feature map, if a patch size is not positive, or if the source is unknown.
    """
    list_depths(feature)
    sizes: list[Any] = [*patch_size.values()] if isinstance(patch_size, Mapping) else [patch_size]
    for size in sizes:
        as_patch_size(size)
    if source not in get_args(Source):
        raise ValueError(f"`source` must be one of {get_args(Source)}; got {source!r}. Choose one of them.")


def spell_choice(choice: object) -> str:
    """Write a depth or patch size, or several, or those of groups, as text.

    Example:
        >>> spell_choice(2), spell_choice([2, 3]), spell_choice({"small": 2, "large": [3, 4]})
        ('2', '2, 3', 'small 2, large 3, 4')
    """
    if isinstance(choice, Mapping):
        return ", ".join(f"{name} {spell_choice(one)}" for name, one in choice.items())
    return ", ".join(map(str, choice)) if isinstance(choice, list | tuple) else str(choice)


def _as_list(choice: Any) -> list[Any]:
    return list(choice) if isinstance(choice, Sequence) and not isinstance(choice, str) else [choice]


def _by_class(
    name: str, value: _T | Mapping[str, _T], groups: Mapping[str, Sequence[int]], out_channels: int
) -> list[_T | None]:
    """The value of each class; None for classes that a mapping does not name."""
    if not isinstance(value, Mapping):
        return [value] * out_channels
    chosen: dict[int, tuple[str, _T]] = {}
    for group, own in value.items():
        members = groups.get(group, ())
        if not members or not all(0 <= k < out_channels for k in members):
            known = ", ".join(map(str, groups)) or "none"
            raise ValueError(
                f"`{name}` must map names of groups that hold some of the {out_channels} classes; got {group!r} of "
                f"classes {list(members)}. The groups are: {known}. Name one of them, or add it to `class_groups`."
            )
        for k in members:
            if k in chosen:
                raise ValueError(
                    f"`{name}` must name each class once; got class {k} in {chosen[k][0]!r} and {group!r}. "
                    "Leave it out of one of them."
                )
            chosen[k] = (group, own)
    return [chosen[k][1] if k in chosen else None for k in range(out_channels)]
