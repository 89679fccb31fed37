"""Reading of PNG and JPEG images and labels: what MONAI's loaders leave to the user."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, PILReader
from monai.transforms import LoadImage, MapTransform
from PIL import Image, ImageOps

from afma_med.data.class_table import ClassInfo, class_colors
from afma_med.data.label_pixels import map_raw_labels

__all__ = ["ColorizeClassesd", "LoadPictured", "MapRawLabelsd", "to_rgb"]


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a picture upright after its EXIF orientation and make it RGB, whatever it was.

    Example:
        >>> to_rgb(Image.new("L", (4, 2))).mode
        'RGB'
    """
    return ImageOps.exif_transpose(image).convert("RGB")


class LoadPictured(MapTransform):
    """Load PNG or JPEG files as (C,H,W), rows first, with an error that names the file.

    Dictionary transform around :class:`monai.transforms.LoadImage` with PILReader.

    Args:
        keys: items that hold paths.
        rgb: turn the picture upright and make it RGB, for images; False for labels, whose values must stay.

    Raises:
        ValueError: if a file cannot be read as a picture.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/gray.png"
        >>> Image.new("L", (4, 2)).save(path)
        >>> LoadPictured("image", rgb=True)({"image": path})["image"].shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, keys: KeysCollection, *, rgb: bool) -> None:
        super().__init__(keys)
        reader = PILReader(converter=to_rgb if rgb else None, reverse_indexing=False)
        self.loader = LoadImage(reader=reader, image_only=True, ensure_channel_first=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            try:
                loaded[key] = self.loader(loaded[key])
            except Exception as error:  # whatever Pillow or MONAI raise, the user needs the file's name
                raise ValueError(
                    f"`{loaded[key]}` must be a readable PNG or JPEG; got: {_last_line(error)}. "
                    "Replace the file, or remove it together with its partner."
                ) from error
        return loaded


class MapRawLabelsd(MapTransform):
    """Map loaded label files, raw ids (1,H,W) or colours (3,H,W), to train ids (1,H,W).

    Args:
        keys: items that hold labels.
        classes: table that gives the raw ids their train ids.
        color_classes: table that gives the colours theirs; default ``classes``.

    Raises:
        ValueError: naming file and values, if a label holds what the table does not list.

    Example:
        >>> from afma_med.data import camvid
        >>> MapRawLabelsd("label", camvid.CLASSES)({"label": torch.tensor([[[0, 11]]])})["label"]
        tensor([[[ 0, 11]]], dtype=torch.uint8)
    """

    def __init__(
        self,
        keys: KeysCollection,
        classes: Sequence[ClassInfo],
        *,
        color_classes: Sequence[ClassInfo] | None = None,
    ) -> None:
        super().__init__(keys)
        self.classes = classes
        self.color_classes = color_classes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        mapped = dict(data)
        for key in self.key_iterator(mapped):
            label = mapped[key]
            raw = np.asarray(label)
            raw = raw[0] if raw.shape[0] == 1 else np.moveaxis(raw, 0, -1)
            try:
                train_ids = torch.from_numpy(map_raw_labels(raw, self.classes, color_classes=self.color_classes))
            except ValueError as error:
                name = label.meta.get("filename_or_obj", key) if isinstance(label, MetaTensor) else key
                raise ValueError(f"Label `{name}` cannot be used: {error}") from error
            mapped[key] = _with_meta(train_ids[None], label)
        return mapped


class ColorizeClassesd(MapTransform):
    """Paint train ids (1,H,W) in the colours of their classes, (3,H,W) uint8, for pictures.

    Args:
        keys: items that hold train ids.
        classes: table of the classes.

    Example:
        >>> from afma_med.data import camvid
        >>> ColorizeClassesd("pred", camvid.CLASSES)({"pred": torch.tensor([[[1]]])})["pred"].flatten().tolist()
        [128, 0, 0]
    """

    def __init__(self, keys: KeysCollection, classes: Sequence[ClassInfo]) -> None:
        super().__init__(keys)
        self.colors = torch.from_numpy(class_colors(classes))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        painted = dict(data)
        for key in self.key_iterator(painted):
            ids = painted[key]
            colors = self.colors[torch.as_tensor(ids[0]).cpu().long().as_subclass(torch.Tensor)].permute(2, 0, 1)
            painted[key] = _with_meta(colors, ids)
        return painted


def _with_meta(x: torch.Tensor, source: Any) -> torch.Tensor:
    """Give a new tensor the metadata of the one it was made from: writers need the file name."""
    return MetaTensor(x, meta=source.meta) if isinstance(source, MetaTensor) else x


def _last_line(error: Exception) -> str:
    """The cause out of MONAI's report, which lists every reader's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
