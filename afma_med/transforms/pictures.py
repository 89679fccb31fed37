"""Load and save images of Pillow's formats, and their labels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, PILReader
from monai.transforms import LoadImage, LoadImaged, MapTransform, SaveImaged, Transform
from numpy.typing import NDArray
from PIL import Image

from afma_med._ops.labels import as_signed, check_classes
from afma_med.atomic_write import replacing
from afma_med.data.class_table import ClassInfo, class_colors, raw_ids
from afma_med.data.dataset_reader import Item
from afma_med.data.pictures import to_rgb

__all__ = ["ColorizeClasses", "ColorizeClassesd", "LoadLabeld", "LoadRGBImage", "LoadRGBImaged", "MapToRawIds"]
__all__ += ["MapToRawIdsd", "SavePNGd", "apply_to_keys"]

# Raw ids and pictures have 8 bits.
_HIGHEST = 255
_REMEDY = "Take the largest logit's index first (AsDiscreted), and resample labels by nearest neighbour."


class LoadRGBImage(LoadImage):
    """Load an image of any format that Pillow reads as RGB (3,H,W), 0 to 255, rows first and upright.

    Args:
        image_range: Value that becomes 255 in images of more than 8 bits a channel, such as 4095 for 12 bits; None
            for the largest value of the bits that the image uses.

    Raises:
        ValueError: With the file's name, if it cannot be read as an image.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/gray.png"
        >>> Image.new("L", (4, 2)).save(path)
        >>> LoadRGBImage()(path).shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, image_range: float | None = None) -> None:
        reader = PILReader(converter=partial(to_rgb, image_range=image_range), reverse_indexing=False)
        super().__init__(reader=reader, image_only=True, ensure_channel_first=True)

    def __call__(self, filename: Any, reader: Any = None) -> Any:
        try:
            loaded = super().__call__(filename, reader)
        except Exception as error:  # whatever Pillow or MONAI raise, the user needs the file's name
            raise ValueError(
                f"`{filename}` must be a picture that Pillow reads; got: {_last_line(error)}. "
                "Replace the file, or remove it together with its partner."
            ) from error
        # Pillow's reader gives width and height in whatever order the array has.
        image, meta = (loaded, loaded.meta) if isinstance(loaded, MetaTensor) else loaded
        meta["spatial_shape"] = np.asarray(image.shape[1:])
        return loaded


class LoadRGBImaged(LoadImaged):
    """Load the images of dictionaries: the twin of :class:`LoadRGBImage`.

    A subclass of :class:`monai.transforms.LoadImaged`, because MONAI Label and MONAI Deploy load images themselves and
    leave out transforms of that class.
    """

    def __init__(self, keys: KeysCollection, image_range: float | None = None) -> None:
        super().__init__(keys)
        self.load = LoadRGBImage(image_range)

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        return apply_to_keys(self, lambda path: self.load(path, reader), data)


class LoadLabeld(MapTransform):
    """Load label files as train ids (1,H,W), uint8, by the dataset's own reader.

    Args:
        keys: Items that hold the paths of labels.
        read_label: item -> (H,W) train ids, as of a :class:`~afma_med.data.dataset_reader.DatasetReader`.
        allow_missing_keys: Leave items without a label as they are, for prediction.

    Raises:
        ValueError: With file and values, if a label cannot be read or holds values that are not in the class table.

    Example:
        >>> import tempfile
        >>> from afma_med.data import ISIC
        >>> path = tempfile.mkdtemp() + "/mask.png"
        >>> Image.new("L", (4, 2), 255).save(path)
        >>> LoadLabeld("label", ISIC.read_label)({"label": path})["label"].unique()
        metatensor([1], dtype=torch.uint8)
    """

    def __init__(
        self, keys: KeysCollection, read_label: Callable[[Item], NDArray[np.uint8]], *, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.read_label = read_label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        loaded: dict[Any, Any] = dict(data)
        for key in self.key_iterator(loaded):
            train_ids = torch.from_numpy(self.read_label({**loaded, "label": loaded[key]}))
            loaded[key] = MetaTensor(train_ids[None], meta={"filename_or_obj": str(loaded[key])})
        return loaded


class MapToRawIds(Transform):
    """Map train ids (1,H,W) to the raw ids of the dataset's label files, for writing predictions.

    Raises:
        ValueError: If a value is not a whole number from 0 to 255.

    Example:
        >>> from afma_med.data import ISIC
        >>> MapToRawIds(ISIC.classes)(torch.tensor([[[0, 1]]]))
        tensor([[[  0, 255]]], dtype=torch.uint8)
    """

    def __init__(self, class_table: Sequence[ClassInfo]) -> None:
        self.raw_ids = torch.from_numpy(raw_ids(class_table))

    def __call__(self, data: torch.Tensor) -> torch.Tensor:
        return _with_meta(self.raw_ids[_as_index(data)], data)


class MapToRawIdsd(MapTransform):
    """Map train ids of dictionaries to raw ids: the twin of :class:`MapToRawIds`."""

    def __init__(self, keys: KeysCollection, class_table: Sequence[ClassInfo]) -> None:
        super().__init__(keys)
        self.map_ids = MapToRawIds(class_table)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return apply_to_keys(self, self.map_ids, data)


class ColorizeClasses(Transform):
    """Paint train ids (1,H,W) in the colours of their classes, (3,H,W) uint8.

    Raises:
        ValueError: If a value is not a whole number from 0 to 255.

    Example:
        >>> from afma_med.data import CAMVID
        >>> ColorizeClasses(CAMVID.classes)(torch.tensor([[[1]]])).flatten().tolist()
        [128, 0, 0]
    """

    def __init__(self, class_table: Sequence[ClassInfo]) -> None:
        self.colors = torch.from_numpy(class_colors(class_table))

    def __call__(self, data: torch.Tensor) -> torch.Tensor:
        return _with_meta(self.colors[_as_index(data[0])].permute(2, 0, 1), data)


class ColorizeClassesd(MapTransform):
    """Paint train ids of dictionaries: the twin of :class:`ColorizeClasses`."""

    def __init__(self, keys: KeysCollection, class_table: Sequence[ClassInfo]) -> None:
        super().__init__(keys)
        self.paint = ColorizeClasses(class_table)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return apply_to_keys(self, self.paint, data)


class SavePNGd(SaveImaged):
    """Save labels or RGB images, rows first, as PNG files named after their images.

    A :class:`monai.transforms.SaveImaged` that does not swap rows and columns. A new file replaces an old one when it
    is complete.

    Args:
        keys: Items of shape (1,H,W) or (3,H,W), 0 to 255, with the image's path in their metadata; without one, the
            file gets a number.
        output_dir: Folder for the files.
        postfix: Text after the image's name and an underscore.
        input_dir: Folder of the images, whose subfolders are kept; default: all files go into one folder.

    Raises:
        ValueError: If a value is not a whole number from 0 to 255.
        WriteError: If the folder cannot be written to, or the disk is full.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> label = MetaTensor(torch.ones(1, 2, 3), meta={"filename_or_obj": "images/a.jpg"})
        >>> item = SavePNGd("pred", folder, postfix="mask")({"pred": label})
        >>> Image.open(folder + "/a_mask.png").size
        (3, 2)
    """

    def __init__(self, keys: KeysCollection, output_dir: str, *, postfix: str = "", input_dir: str = "") -> None:
        super().__init__(
            keys,
            output_dir=output_dir,
            output_postfix=postfix,
            output_ext=".png",
            output_dtype=np.uint8,
            data_root_dir=input_dir,
            separate_folder=False,
            print_log=False,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            meta = data[key].meta if isinstance(data[key], MetaTensor) else None
            channels = _as_index(data[key]).byte().numpy()
            target = self.saver.folder_layout.filename(**self.saver.fname_formatter(meta, self.saver))
            self.saver._data_index += 1  # SaveImage does so, too
            # SaveImage's own writer leaves incomplete files, and hides its errors.
            with replacing(Path(target)) as temporary:
                Image.fromarray(channels[0] if len(channels) == 1 else channels.transpose(1, 2, 0)).save(temporary)
        return dict(data)


def apply_to_keys(
    transform: MapTransform, function: Callable[[Any], Any], data: Mapping[Hashable, Any]
) -> dict[Hashable, Any]:
    """Apply a function to the items of a dictionary that a transform names."""
    return {**data, **{key: function(data[key]) for key in transform.key_iterator(dict(data))}}


def _as_index(ids: Any) -> torch.Tensor:
    index = torch.as_tensor(ids).cpu()
    check_classes("ids", index, _HIGHEST, remedy=_REMEDY)
    return as_signed(index).long()


def _with_meta(x: torch.Tensor, source: Any) -> torch.Tensor:
    """Copy the metadata of ``source``: writers need the file name."""
    return MetaTensor(x, meta=source.meta) if isinstance(source, MetaTensor) else x


def _last_line(error: Exception) -> str:
    """Return the cause from MONAI's message, which lists the traceback of every reader."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
