"""The embedded sample of LiTS: seeded phantoms of abdominal CT volumes with liver and tumours.

A phantom is drawn in patient coordinates and then stored in one of several orientations. As in LiTS, the affine alone
says where right and left are. Other organs have the grey values of liver and tumours; large and small tumours differ in
their size alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from afma_med.checks import check_int
from afma_med.samples.sample_folder import SampleFolder

__all__ = ["draw_ct_phantom", "write_ct_phantom"]

# Raise it with every change of the voxels: samples of another version are redrawn.
_VERSION = 2
_ORIENTATIONS = ("RAS", "LPS", "LAS")
_AIR, _FAT, _MUSCLE, _LIVER, _TUMOUR = -1000.0, -100.0, 55.0, 112.0, 60.0
# Value outside the circular field of view of some scanners.
_PADDING = -3024
# Organs: centre and half axes (right, anterior, superior) as shares of the body's half axes, and Hounsfield units (a
# random range). Later ones cover earlier ones.
_ORGANS = (
    ((0.0, 0.05, 0.0), (0.79, 0.73, 9.0), (-105, -95)),  # fat of the cavity
    ((0.0, -0.49, 0.0), (0.135, 0.17, 9.0), (380, 450)),  # spine
    ((0.0, -0.645, 0.0), (0.06, 0.06, 9.0), (20, 40)),  # its canal
    ((0.0, 0.1, 1.1), (0.6, 0.55, 0.5), (-870, -830)),  # lung
    ((-0.34, 0.30, 0.30), (0.30, 0.30, 0.60), (20, 60)),  # stomach
    ((-0.60, -0.22, 0.25), (0.19, 0.36, 0.50), (100, 130)),  # spleen
    ((-0.36, -0.42, -0.35), (0.15, 0.19, 0.60), (120, 170)),  # left kidney
    ((0.36, -0.44, -0.50), (0.15, 0.19, 0.60), (120, 170)),  # right kidney
    ((0.20, 0.42, -0.30), (0.09, 0.13, 0.30), (5, 40)),  # gall bladder
    ((-0.1, 0.3, -0.6), (0.35, 0.25, 0.25), (10, 90)),  # bowel
    ((0.12, -0.24, 0.00), (0.075, 0.075, 9.00), (100, 160)),  # inferior vena cava
    ((-0.09, -0.27, 0.00), (0.065, 0.085, 9.00), (140, 190)),  # aorta
)


def write_ct_phantom(root: str | os.PathLike[str], *, seed: int = 0, count: int = 16) -> Path:
    """Write the sample as ``volume-N.nii`` or ``.nii.gz`` with ``segmentation-N`` below ``root``, unless it is there.

    Errors are those of :func:`~afma_med.samples.write_street_scenes`. Volume N does not depend on ``count``.

    Args:
        root: folder of the sample; absent, empty, or written by this function.
        seed: which sample, ≥ 0.
        count: volumes, ≥ 0.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(path.name for path in write_ct_phantom(folder, count=1).iterdir())
        ['sample.json', 'segmentation-0.nii', 'volume-0.nii']
    """
    settings: dict[str, Any] = {"sample": "ct_phantom", "version": _VERSION}
    settings |= {"seed": check_int("seed", seed), "count": check_int("count", count)}
    names = [f"{number}{('.nii', '.nii.gz')[number % 2]}" for number in range(settings["count"])]
    files = [(number, (f"volume-{name}", f"segmentation-{name}")) for number, name in enumerate(names)]
    sample = SampleFolder(settings, files, own=("volume-*.nii*", "segmentation-*.nii*"))

    def draw(index: int, paths: Sequence[Path]) -> None:
        *arrays, affine = draw_ct_phantom(seed, index)
        for path, array in zip(paths, arrays, strict=True):
            image = nib.Nifti1Image(array, affine)
            image.set_sform(affine, code="scanner")
            image.set_qform(affine, code="scanner")
            image.header.set_xyzt_units("mm")
            nib.save(image, path)

    return sample.write(root, draw, title="CT phantoms")


def draw_ct_phantom(seed: int, index: int) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Draw one volume and its label; the same arguments give the same volume.

    Three in sixteen volumes hold no tumour, two are padded outside a circular field of view.

    Args:
        seed: which sample, ≥ 0.
        index: which volume of the sample, ≥ 0.

    Returns:
        Hounsfield units, 112 to 144 by 112 to 144 by 20 to 32 voxels as stored; the label of the same shape, 0
        background, 1 liver, 2 tumour; and the (4,4) affine from voxels to millimetres right, anterior, superior.

    Example:
        >>> volume, label, affine = draw_ct_phantom(0, 1)
        >>> volume.shape == label.shape, np.unique(label).tolist(), "".join(nib.aff2axcodes(affine))
        (True, [0, 1, 2], 'LPS')
    """
    phantom = _Phantom(np.random.default_rng([check_int("seed", seed), check_int("index", index)]))
    phantom.draw_organs()
    phantom.draw_liver()
    if index % 5 != 4:
        phantom.draw_tumours()
    hounsfield = phantom.scan()
    if index % 8 == 5:
        outside = phantom.right**2 + phantom.front**2 > 1.3
        hounsfield[np.broadcast_to(outside, hounsfield.shape)] = _PADDING
    return _store(hounsfield, phantom.label, phantom.affine, _ORIENTATIONS[index % len(_ORIENTATIONS)])


class _Phantom:
    """Hold the volume of one patient, axes right, anterior, superior, and the places of its voxels."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        shape = (4 * rng.integers(28, 37), 4 * rng.integers(28, 37), rng.integers(20, 33))
        self.pixel, self.thickness = rng.uniform(2.2, 2.9), rng.uniform(3, 5)
        self.spacing = np.array([self.pixel, self.pixel, self.thickness])
        half = np.array(shape) * self.spacing / 2
        self.affine = np.diag([*self.spacing, 1.0])
        self.affine[:3, 3] = rng.uniform(-60, 60, 3) - half
        # Open grids: they broadcast to the volume, without its size.
        self.millimetres = np.ix_(*(np.arange(side) * step for side, step in zip(shape, self.spacing, strict=True)))
        # The body fills the field of view, and is wider than deep.
        width = min(half[0] * rng.uniform(0.86, 0.95), half[1] * 1.25)
        half_axes = np.array([width, width * rng.uniform(0.66, 0.74), half[2]])
        places = zip(self.millimetres, half, half_axes, strict=True)
        self.right, self.front, self.up = ((mm - middle) / axis for mm, middle, axis in places)
        self.hounsfield = np.full(shape, _AIR, dtype=np.float32)
        self.label = np.zeros(shape, dtype=np.uint8)

    def waves(self, length: float) -> NDArray[np.floating[Any]]:
        """Add waves of about ``length`` millimetres in random directions: a smooth field of mean 0 and spread 1."""
        total: NDArray[np.floating[Any]] = np.zeros(self.hounsfield.shape, dtype=np.float32)
        for _ in range(5):
            direction = self.rng.normal(size=3)
            direction *= 2 * np.pi * self.rng.uniform(0.7, 1.4) / length / np.linalg.norm(direction)
            phase = sum(mm * step for mm, step in zip(self.millimetres, direction, strict=True))
            total += np.cos(phase + self.rng.uniform(0, 2 * np.pi)) * np.sqrt(2 / 5)
        return total

    def ellipsoid(self, center: ArrayLike, axes: ArrayLike) -> NDArray[np.floating[Any]]:
        """Square of the distance from the centre in half axes: below 1 inside."""
        places = zip((self.right, self.front, self.up), np.asarray(center), np.asarray(axes), strict=True)
        first, second, third = (((place - middle) / axis) ** 2 for place, middle, axis in places)
        squares: NDArray[np.floating[Any]] = first + second + third
        return squares

    def draw_organs(self) -> None:
        """Draw fat below the skin, the muscles of the wall, and the organs, bent a little."""
        for side, units in ((1.0, _FAT), (self.rng.uniform(0.84, 0.92), _MUSCLE)):
            self.hounsfield[self.ellipsoid((0, 0, 0), (side, side, 9)) < 1] = units
        bend = 0.12 * self.waves(120)
        for center, axes, (low, high) in _ORGANS:
            inside = self.ellipsoid(center + self.rng.uniform(-0.02, 0.02, 3), axes) + bend < 1
            self.hounsfield[inside] = self.rng.uniform(low, high)

    def draw_liver(self) -> None:
        """Draw a right and a left lobe around the organs that dent them, and brighter vessels within."""
        rise, width = self.rng.uniform(0.0, 0.2), self.rng.uniform(0.36, 0.5)
        right = self.ellipsoid((0.42, 0.02, rise), (0.44, 0.74, self.rng.uniform(0.65, 0.8)))
        left = self.ellipsoid((0.02, 0.42, rise + 0.2), (width, 0.26, 0.5))
        self.depth = np.minimum(right, left) + 0.16 * self.waves(95)
        fat = np.abs(self.hounsfield - _FAT) < 10
        liver = fat & (self.depth < 1) & (self.ellipsoid((0, 0.05, 0), (0.79, 0.73, 9)) < 1)
        units = _LIVER + self.rng.uniform(-8, 8)
        self.label[liver] = 1
        self.hounsfield[liver] = units
        vessels = liver & (np.abs(self.waves(80)) < 0.16) & (np.abs(self.waves(70)) < 0.2)
        self.hounsfield[vessels] = units + self.rng.uniform(15, 45)

    def draw_tumours(self) -> None:
        """Draw at times a tumour 20 to 30 pixels across, and several of 3 to 6, apart from each other in the liver."""
        radii = [self.rng.uniform(10, 13.5)] if self.rng.random() < 0.7 else []
        radii += self.rng.uniform(1.6, 3.0, int(self.rng.integers(3, 9))).tolist()
        bumps, units = 0.16 * self.waves(25), _TUMOUR + self.rng.uniform(-8, 8)
        liver, depth = np.argwhere(self.label == 1), self.depth[self.label == 1]
        free = depth < 0.8
        for radius in np.array(radii) * self.pixel:
            wanted = free & (depth < 0.35) if radius > 6 * self.pixel else free
            if not wanted.any():
                continue
            center = liver[wanted][self.rng.integers(wanted.sum())]
            # A slice's thickness at least, so that a small tumour does not vanish between two slices.
            axes = np.array([radius, radius, max(radius, 0.6 * self.thickness)]) * self.rng.uniform(0.85, 1.15, 3)
            places = zip(self.millimetres, center * self.spacing, axes, strict=True)
            first, second, third = (((mm - at) / axis) ** 2 for mm, at, axis in places)
            inside = (first + second + third + bumps < 1) & (self.label == 1)
            inside[tuple(center)] = True
            self.label[inside] = 2
            self.hounsfield[inside] = units + self.rng.uniform(-6, 6)
            # The largest small tumour, and a margin, away from this one.
            free &= np.linalg.norm((liver - center) * self.spacing, axis=1) > 1.3 * radius + 4 * self.pixel + 4

    def scan(self) -> NDArray[np.int16]:
        """Blur in the plane, add the texture of tissue and the noise of the scanner, which is grainy, not white."""
        image, grain = self.hounsfield, self.rng.standard_normal(self.hounsfield.shape, dtype=np.float32)
        for axis in (0, 1):
            image = 0.76 * image + 0.12 * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
            grain = 0.8 * grain + 0.6 * np.roll(grain, 1, axis)
        tissue = np.float32(5) * self.waves(14) * (image > -200)
        noisy = image + tissue + self.rng.uniform(15, 25) * grain
        units: NDArray[np.int16] = np.clip(noisy, -1024, 3071).round().astype(np.int16)
        return units


def _store(
    hounsfield: NDArray[np.int16], label: NDArray[np.uint8], affine: NDArray[np.float64], orientation: str
) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Reverse the axes of a volume for an orientation, and its affine with them."""
    affine = affine.copy()
    reverse = tuple(axis for axis, letter in enumerate(orientation) if letter in "LPI")
    for axis in reverse:
        affine[:3, 3] += affine[:3, axis] * (hounsfield.shape[axis] - 1)
        affine[:3, axis] *= -1
    return np.flip(hounsfield, reverse).copy(), np.flip(label, reverse).copy(), affine
