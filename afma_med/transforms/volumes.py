"""Loading of CT slices and volumes, and saving of predicted labels on the grid of their volume."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImaged, MapTransform, SaveImaged
from monai.utils import SpaceKeys
from nibabel.orientations import apply_orientation
from numpy.typing import NDArray

from afma_med.atomic_write import replacing
from afma_med.data import LITS
from afma_med.data.class_table import ClassInfo, class_names
from afma_med.data.ct.dicom_series import read_series
from afma_med.data.ct.nifti_slices import NiftiSlices
from afma_med.data.ct.volume_checks import check_hounsfield
from afma_med.data.ct.volume_reader import map_raw_volume
from afma_med.data.ct.voxel_grid import Grid, orient_grid, require_same_grid, same_grid
from afma_med.transforms.pictures import MapToRawIds

__all__ = ["LoadCTSliced", "LoadCTVolumed", "SaveLabelVolumed"]

# Fields of a NIfTI header that say where the voxels lie.
_QFORM = ("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
_GEOMETRY = ("pixdim", "xyzt_units", *_QFORM, "sform_code", "srow_x", "srow_y", "srow_z")


class LoadCTSliced(MapTransform):
    """Load one axial slice of NIfTI volumes, upright, in any orientation that they are stored in.

    Items are those of :func:`afma_med.data.ct.volume_reader.inspect_volume`: paths under the keys, the number of the
    slice, from inferior, under ``"slice"`` and the geometry of files without one under ``"geometry"``.

    Args:
        keys: Items that hold paths; images become (1,H,W) float32 Hounsfield units.
        label_key: The key of LiTS' label, which becomes (1,H,W) uint8 train ids.
        allow_missing_keys: Pass items without one of the keys.

    Raises:
        ValueError: With the file's name, if it cannot be used, has other label values, or is not on its partner's grid.
        IndexError: If there is no such slice.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/volume-0.nii"
        >>> nib.save(nib.Nifti1Image(np.zeros((4, 3, 2), dtype=np.int16), np.eye(4)), path)
        >>> LoadCTSliced("image")({"image": path, "slice": 1})["image"].shape
        torch.Size([1, 3, 4])
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        *,
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        number, loaded = data["slice"], dict(data)
        volumes = {key: NiftiSlices(data[key], geometry=data.get("geometry", "")) for key in self.key_iterator(loaded)}
        for key, volume in volumes.items():
            first = next(iter(volumes.values()))
            require_same_grid(first.grid, volume.grid, paths=(first.path, volume.path))
            values = (
                map_raw_volume(volume[number], volume.path, LITS.classes) if key == self.label_key else volume[number]
            )
            meta = {"filename_or_obj": str(volume.path), "slice": int(number)}
            loaded[key] = MetaTensor(torch.from_numpy(values)[None], meta=meta)
        return loaded


class LoadCTVolumed(LoadImaged):
    """Load whole volumes, NIfTI files or folders of one DICOM series, in their own orientation.

    Metadata are those that MONAI's Orientationd, Spacingd and Invertd work with.

    Args:
        keys: Items that hold paths; images become (1,H,W,D) float32 Hounsfield units along the file's own axes. The
            item ``"geometry"``, if there is one, is that of files without.
        image_key: The image that the label belongs to.
        label_key: The key of LiTS' label; it is turned to the image's axes, if the image is loaded too, and becomes
            (1,H,W,D) uint8 train ids.
        allow_missing_keys: Pass items without one of the keys.

    Raises:
        ValueError: With the name of file or folder, if it cannot be used, holds several series, has values that cannot
            be Hounsfield units, has other label values, or is not on its partner's grid.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/volume-0.nii"
        >>> nib.save(nib.Nifti1Image(np.zeros((4, 3, 2), dtype=np.int16), np.eye(4)), path)
        >>> LoadCTVolumed("image")({"image": path})["image"].shape
        torch.Size([1, 4, 3, 2])
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        *,
        image_key: str = "image",
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys=allow_missing_keys)
        self.image_key = image_key
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        loaded = dict(data)
        geometry = data.get("geometry", "")
        volumes = {key: _read_volume(data[key], geometry) for key in self.key_iterator(loaded)}
        for key, (volume, grid) in volumes.items():
            if key != self.label_key:
                check_hounsfield(float(volume.min()), float(volume.max()), data[key])
                loaded[key] = _with_geometry(volume, grid, path=data[key])
                continue
            label = map_raw_volume(volume, data[key], LITS.classes)
            if self.image_key in volumes:
                paths = (data[self.image_key], data[key])
                label, grid = _turn_label(label, grid, image=volumes[self.image_key][1], paths=paths)
            loaded[key] = _with_geometry(label, grid, path=data[key])
        return loaded


class SaveLabelVolumed(SaveImaged):
    """Save predicted volumes as NIfTI labels with exactly the geometry of the volumes they were predicted from.

    ``volume-3.nii`` gives ``segmentation-3.nii.gz``; other names, and those of DICOM folders, give
    ``<name>_segmentation.nii.gz``. A new file replaces an old one when it is complete.

    Args:
        keys: Items with train ids, (1,H,W,D) or (H,W,D), as tensors with the metadata that :class:`LoadCTVolumed`
            gave the image and on its grid, where Invertd brings them.
        output_dir: Folder for the files; not that of the volumes, whose labels have the same names.
        class_table: Table that gives the train ids their raw ids.
        input_dir: Folder of the volumes, whose subfolders are kept; default: all files go into one folder.
        allow_missing_keys: Pass items without one of the keys.

    Raises:
        TypeError: If a prediction has no metadata.
        ValueError: If its shape or affine is not the volume's, a value is not a train id, or the folder is that of the
            volumes.

    Example:
        >>> import tempfile
        >>> from afma_med.data import LITS
        >>> folder = tempfile.mkdtemp()
        >>> nib.save(nib.Nifti1Image(np.zeros((4, 3, 2), dtype=np.int16), np.eye(4)), folder + "/volume-0.nii")
        >>> image = LoadCTVolumed("image")({"image": folder + "/volume-0.nii"})["image"]
        >>> item = SaveLabelVolumed("pred", folder + "/predicted", class_table=LITS.classes)({"pred": image})
        >>> [path.name for path in Path(folder, "predicted").iterdir()]
        ['segmentation-0.nii.gz']
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str],
        *,
        class_table: Sequence[ClassInfo],
        input_dir: str | os.PathLike[str] = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, output_dir=Path(output_dir), allow_missing_keys=allow_missing_keys)
        self.output_dir = Path(output_dir)
        self.input_dir = input_dir
        self.map_ids, self.num_classes = MapToRawIds(class_table), len(class_names(class_table))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            prediction = data[key]
            if not isinstance(prediction, MetaTensor) or "filename_or_obj" not in prediction.meta:
                raise TypeError(
                    f"`{key}` must be a MetaTensor that names its volume; got {type(prediction).__name__}. "
                    "Load the volume with LoadCTVolumed and keep its metadata."
                )
            source = Path(prediction.meta["filename_or_obj"])
            values = prediction.numpy(force=True)
            values = values[0] if values.ndim == 4 and len(values) == 1 else values
            _require_same_grid(values.shape, prediction, source)
            image = _empty_like_series(prediction.meta) if source.is_dir() else _empty_like_nifti(source)
            raw = self._to_raw_ids(values, source).reshape(image.shape)
            with replacing(self._target(source)) as temporary:
                nib.save(type(image)(raw, image.affine, image.header), temporary)
        return dict(data)

    def _to_raw_ids(self, train_ids: NDArray[Any], source: Path) -> NDArray[np.uint8]:
        strange = ~np.isin(train_ids, range(self.num_classes))
        if strange.any():
            raise ValueError(
                f"The prediction for `{source}` must hold the train ids {list(range(self.num_classes))} only; got "
                f"{np.unique(train_ids[strange])[:8].tolist()}. Take the largest logit's index first (AsDiscreted)."
            )
        return np.asarray(self.map_ids(torch.from_numpy(train_ids)))

    def _target(self, source: Path) -> Path:
        source = Path(os.path.abspath(source))
        within = os.path.relpath(source.parent, self.input_dir) if self.input_dir else ""
        # The input may be the folder of a DICOM series itself.
        within = "" if within.startswith("..") else within
        folder = self.output_dir / within
        if folder.resolve() == source.parent.resolve():
            raise ValueError(
                f"`output_dir` must be another folder than that of the volumes, whose labels have the same names; got "
                f"{self.output_dir}. Choose another."
            )
        name = source.name if source.is_dir() else source.name[: source.name.lower().index(".nii")]
        named = re.sub(r"^(test-)?volume-", r"\1segmentation-", name)
        named = named if named != name else f"{name}_segmentation"
        return folder / f"{named}.nii.gz"


def _read_volume(path: str | os.PathLike[str], geometry: str) -> tuple[NDArray[np.float32], Grid]:
    if Path(path).is_dir():
        return read_series(path)
    slices = NiftiSlices(path, geometry=geometry)
    return slices.load(), slices.stored


def _turn_label(
    label: NDArray[np.uint8], grid: Grid, *, image: Grid, paths: Sequence[str | os.PathLike[str]]
) -> tuple[NDArray[np.uint8], Grid]:
    """Turn a label to its image's axes; raise an error if it does not lie on the image."""
    transform, turned = orient_grid(grid, "".join(nib.aff2axcodes(image.affine)))
    require_same_grid(image, turned, paths=paths)
    # Rounding aside, the affines are the same; the image's keeps both exactly together through the transforms.
    return np.array(apply_orientation(label, transform), dtype=np.uint8), image


def _with_geometry(values: NDArray[Any], grid: Grid, *, path: str | os.PathLike[str]) -> MetaTensor:
    affine = torch.from_numpy(grid.affine.copy())
    meta = {
        "filename_or_obj": str(path),
        "original_affine": affine.clone(),
        "spatial_shape": np.array(grid.shape),
        "space": SpaceKeys.RAS,
    }
    return MetaTensor(torch.from_numpy(values)[None], affine=affine, meta=meta)


def _empty_like_nifti(source: Path) -> Any:
    """Return an image without voxels that has the geometry of a file, bit by bit, and nothing else from its header."""
    reference: Any = nib.load(source)
    header = type(reference.header)()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(reference.shape)
    for field in _GEOMETRY:
        header[field] = reference.header[field]
    return type(reference)(np.broadcast_to(np.uint8(0), reference.shape), reference.affine, header)


def _empty_like_series(meta: Mapping[Hashable, Any]) -> Any:
    """Return an image without voxels on the grid of a DICOM series as it was read."""
    affine = np.asarray(meta["original_affine"], dtype=np.float64)
    shape = tuple(int(side) for side in meta["spatial_shape"])
    image = nib.Nifti1Image(np.broadcast_to(np.uint8(0), shape), affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    return image


def _require_same_grid(shape: tuple[int, ...], prediction: MetaTensor, source: Path) -> None:
    """Raise an error if a prediction does not lie on the grid of its volume as it was loaded."""
    sides = tuple(int(side) for side in prediction.meta["spatial_shape"])
    expected = Grid((sides[0], sides[1], sides[2]), np.asarray(prediction.meta["original_affine"], dtype=np.float64))
    affine = prediction.affine.numpy(force=True)
    if tuple(shape) != expected.shape or not same_grid(expected, Grid(expected.shape, affine)):
        raise ValueError(
            f"The prediction for `{source}` must lie on the volume's own grid, {expected}; got shape {tuple(shape)}, "
            f"affine {np.round(affine[:3], 3).tolist()}. Undo the preprocessing with Invertd first."
        )
