"""Random crops around objects, so that small ones occur as often in a training as large ones."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, RandCropByLabelClasses, RandCropByLabelClassesd
from monai.transforms.croppad.array import BorderPad
from monai.utils import TraceKeys, convert_to_numpy, fall_back_tuple
from numpy.typing import NDArray

from afma_med._ops.components import ArrayCache
from afma_med.checks import is_positive_int
from afma_med.data.objects.table import ObjectTable, find_objects

__all__ = ["RandCropBySmallObjects", "RandCropBySmallObjectsd"]

# Size of the tables of objects that are kept.
_CACHE_BYTES = 2**26


class RandCropBySmallObjects(RandCropByLabelClasses, InvertibleTransform):
    """Crop regions around objects that are drawn at random, each object equally often by default.

    An object is a connected component of a class. A crop is drawn in two steps: an object, then one of its pixels as
    the centre. The crop is moved as far as needed to lie inside of the image. Labels without objects are cropped
    anywhere. Objects are found once for each label, by its content, and kept in memory, 64 MiB at most.

    Args:
        spatial_size: Size of the crops along each axis. Where it is not positive, the image is not cropped.
        num_samples: Number of crops.
        size_power: Objects are drawn with a probability in proportion to this power of their size: 0 draws each object
            equally, 1 by area or volume, -1 prefers small ones.
        free_share: Part of the crops that are drawn anywhere, 0 to 1.
        class_indices: Classes whose objects are drawn; default: all but 0, the background.
        ignore_index: Label value of void pixels, which belong to no object.
        allow_smaller: Keep axes whole that are smaller than the crop; otherwise such images raise an error.
        lazy: Execute lazily, as MONAI's crops do.

    Raises:
        ValueError: If an argument does not follow its rule.

    Example:
        >>> label = torch.zeros(1, 64, 64)
        >>> label[0, 10, 50] = 1
        >>> crop = RandCropBySmallObjects((8, 8), num_samples=2, free_share=0)
        >>> [int(part.sum()) for part in crop(label, label)]
        [1, 1]
    """

    def __init__(  # noqa: PLR0913 -- options of one transform
        self,
        spatial_size: Sequence[int] | int,
        num_samples: int = 1,
        *,
        size_power: float = 0.0,
        free_share: float = 0.5,
        class_indices: Collection[int] | None = None,
        ignore_index: int | None = None,
        allow_smaller: bool = False,
        lazy: bool = False,
    ) -> None:
        super().__init__(spatial_size, num_samples=num_samples, allow_smaller=allow_smaller, lazy=lazy)
        if not is_positive_int(num_samples):
            raise ValueError(f"`num_samples` must be a positive int; got {num_samples!r}. Pass the number of crops.")
        if not math.isfinite(size_power):
            raise ValueError(f"`size_power` must be a finite number; got {size_power!r}. 0 draws objects equally.")
        if not 0 <= free_share <= 1:
            raise ValueError(
                f"`free_share` must be from 0 to 1; got {free_share!r}. 0.5 draws every second crop freely."
            )
        self.size_power = size_power
        self.free_share = free_share
        self.class_indices = None if class_indices is None else frozenset(class_indices)
        self.ignore_index = ignore_index
        self._shape: tuple[int, ...] = ()
        self._tables = ArrayCache(_CACHE_BYTES)

    def randomize(self, label: torch.Tensor | NDArray[Any], **_: Any) -> None:  # type: ignore[override]
        """Draw the centres of the crops from a label (1,H,W) or (1,H,W,D) of class indices, or a one-hot one.

        Raises:
            ValueError: If the label has another number of axes or is smaller than the crop, or its values are not
                those that :func:`~afma_med.data.objects.table.find_objects` takes.
        """
        if isinstance(label, torch.Tensor) and label.dtype == torch.bfloat16:  # which NumPy does not have
            label = label.float()
        array = convert_to_numpy(label)
        if array.ndim not in (3, 4):
            raise ValueError(
                f"`label` must have the axes (C,H,W) or (C,H,W,D); got shape {tuple(array.shape)}. Add an axis of "
                "channels with EnsureChannelFirst."
            )
        self._shape = array.shape[1:]
        wanted = fall_back_tuple(self.spatial_size, default=self._shape)
        size = np.minimum(wanted, self._shape)
        if not self.allow_smaller and tuple(size) != tuple(wanted):
            raise ValueError(
                f"`spatial_size` must fit into the label of {self._shape}; got {tuple(wanted)}. Pad image and label "
                "with SpatialPadd first, or pass allow_smaller=True."
            )
        table = self._tables.get(array, self._find_objects)
        self.centers: Any = [self._draw(table, size) for _ in range(self.num_samples)]

    def _find_objects(self, label: NDArray[Any]) -> ObjectTable:
        return find_objects(label, class_indices=self.class_indices, ignore_index=self.ignore_index)

    def _draw(self, table: ObjectTable, size: NDArray[np.int64]) -> tuple[int, ...]:
        """Draw the centre of one crop of a size."""
        before, room = size // 2, np.subtract(self._shape, size)
        if not len(table.sizes) or self.R.rand() < self.free_share:
            return tuple(int(self.R.randint(steps + 1) + half) for steps, half in zip(room, before, strict=True))
        logarithms = self.size_power * np.log(table.sizes)
        chances = np.cumsum(np.exp(logarithms - logarithms.max()))
        drawn = np.searchsorted(chances[:-1], self.R.rand() * chances[-1], side="right")
        start = table.ends[drawn - 1] if drawn else 0
        pixel = table.pixels[self.R.randint(start, table.ends[drawn])]
        return tuple(int(one) for one in np.clip(pixel, before, before + room))

    def __call__(  # type: ignore[override]
        self,
        img: torch.Tensor,
        label: torch.Tensor | None = None,
        randomize: bool = True,
        lazy: bool | None = None,
    ) -> list[torch.Tensor]:
        """Crop an image (C,H,W) or (C,H,W,D) ``num_samples`` times.

        Args:
            img: The image.
            label: Label of the image, in which objects are found; not needed if ``randomize`` is False.
            randomize: Draw new centres; False uses those of the last call.
            lazy: Overrides ``lazy`` for this call.

        Raises:
            ValueError: If the label is missing or its size is not that of the image.
        """
        if randomize:
            if label is None:
                raise ValueError("`label` must be the label of the image; got None. Pass it, or randomize=False.")
            self.randomize(label)
        shape = tuple(img.peek_pending_shape() if isinstance(img, MetaTensor) else img.shape[1:])
        if shape != tuple(self._shape):
            raise ValueError(
                f"`img` must have the size of the label {tuple(self._shape)}; got {shape}. Resize both to one size."
            )
        return super().__call__(img, randomize=False, lazy=lazy)

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """Put a crop back to its place in an image of zeros."""
        cropped = self.pop_transform(data)[TraceKeys.EXTRA_INFO][TraceKeys.EXTRA_INFO]["cropped"]
        pad = BorderPad(cropped)
        with pad.trace_transform(False):
            padded: torch.Tensor = pad(data)
        return padded


class RandCropBySmallObjectsd(RandCropByLabelClassesd, InvertibleTransform):
    """Crop items of a dictionary alike: the twin of :class:`RandCropBySmallObjects`.

    It takes the place of MONAI's ``RandCropByPosNegLabeld``.

    Args:
        keys: Keys of the items that are cropped.
        label_key: Key of the label in which objects are found.
        spatial_size: Size of the crops along each axis.
        num_samples: Number of crops.
        allow_missing_keys: Skip keys that the dictionary does not have.
        lazy: Execute lazily, as MONAI's crops do.
        options: ``size_power``, ``free_share``, ``class_indices``, ``ignore_index`` and ``allow_smaller``.

    Example:
        >>> crop = RandCropBySmallObjectsd(["image", "label"], "label", (8, 8), num_samples=2, size_power=0)
        >>> parts = crop({"image": torch.rand(3, 32, 32), "label": torch.ones(1, 32, 32)})
        >>> len(parts), tuple(parts[0]["image"].shape)
        (2, (3, 8, 8))
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str,
        spatial_size: Sequence[int] | int,
        num_samples: int = 1,
        *,
        allow_missing_keys: bool = False,
        lazy: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(keys, label_key, spatial_size, allow_missing_keys=allow_missing_keys, lazy=lazy)
        self.cropper: RandCropBySmallObjects = RandCropBySmallObjects(spatial_size, num_samples, lazy=lazy, **options)

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> list[dict[Hashable, Any]]:
        """Return ``num_samples`` dictionaries with the crops and copies of all other items.

        Raises:
            KeyError: If the dictionary has no label.
            ValueError: If the items have different sizes, or are smaller than the crop.
        """
        if self.label_key not in data:
            raise KeyError(f"`label_key` must be a key of the data; got {self.label_key!r}. Found: {list(data)}.")
        return super().__call__(data, lazy)

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Put the crops of one dictionary back to their places in images of zeros."""
        return {**data, **{key: self.cropper.inverse(data[key]) for key in self.key_iterator(dict(data))}}
