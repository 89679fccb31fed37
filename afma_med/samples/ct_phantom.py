"""The embedded sample of LiTS: seeded phantoms of abdominal CT volumes with liver and tumours.

A phantom is drawn in patient coordinates and then stored in one of several orientations. As in LiTS, the affine alone
says where right and left are. Spleen, kidneys, vessels, stomach, gall bladder and bowel have the grey values of liver
and tumours; large and small tumours differ in their size alone.
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
from afma_med.samples.sample_folder import SampleFolder, write_sample

__all__ = ["draw_ct_phantom", "write_ct_phantom"]

# Raise it with every change of the voxels: samples of another version are redrawn.
_VERSION = 1
_ORIENTATIONS = ("RAS", "LPS", "LAS")
_AIR, _FAT, _MUSCLE, _LIVER, _TUMOUR = -1000.0, -100.0, 55.0, 112.0, 60.0
# Value outside the circular field of view of some scanners.
_PADDING = -3024
# Organs next to the liver: centre and half axes (right, anterior, superior) as shares of the body's half axes, and
# Hounsfield units (a random range). Later ones cover earlier ones.
_ORGANS = (
    ((-0.34, 0.30, 0.30), (0.30, 0.30, 0.60), (20, 60)),  # stomach
    ((-0.60, -0.22, 0.25), (0.19, 0.36, 0.50), (100, 130)),  # spleen
    ((-0.36, -0.42, -0.35), (0.15, 0.19, 0.60), (120, 170)),  # left kidney
    ((0.36, -0.44, -0.50), (0.15, 0.19, 0.60), (120, 170)),  # right kidney
    ((-0.34, -0.42, -0.35), (0.06, 0.08, 0.40), (-40, 20)),  # left renal pelvis
    ((0.34, -0.44, -0.50), (0.06, 0.08, 0.40), (-40, 20)),  # right renal pelvis
    ((0.20, 0.42, -0.30), (0.09, 0.13, 0.30), (5, 40)),  # gall bladder
    ((0.12, -0.24, 0.00), (0.075, 0.075, 3.00), (100, 160)),  # inferior vena cava
    ((-0.09, -0.27, 0.00), (0.065, 0.085, 3.00), (140, 190)),  # aorta
)


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
    seed, index = check_int("seed", seed), check_int("index", index)
    phantom = _Phantom(np.random.default_rng([seed, index]))
    phantom.draw_body()
    phantom.draw_bones()
    phantom.draw_organs()
    phantom.draw_liver()
    if index % 5 != 4:
        phantom.draw_tumours()
    hounsfield = phantom.scan()
    if index % 8 == 5:
        x, y = (coordinates - coordinates.mean() for coordinates in phantom.millimetres[:2])
        outside = x * x + y * y > max(x.max(), y.max()) ** 2
        hounsfield[np.broadcast_to(outside, hounsfield.shape)] = _PADDING
    return _store(hounsfield, phantom.label, phantom.affine, _ORIENTATIONS[index % len(_ORIENTATIONS)])


def write_ct_phantom(root: str | os.PathLike[str], *, seed: int = 0, count: int = 16) -> Path:
    """Write the sample as ``volume-N.nii`` or ``.nii.gz`` with ``segmentation-N`` below ``root``, unless it is there.

    A marker file holds the settings. The sample is drawn next to ``root`` and moved there when complete. A sample with
    other settings, or with missing files, is drawn again. Volume N does not depend on ``count``.

    Args:
        root: folder of the sample; absent, empty, or written by this function.
        seed: which sample, ≥ 0.
        count: volumes, ≥ 0.

    Raises:
        FileExistsError: if ``root`` holds anything else, which is left alone.
        TypeError: if a number is not an integer.
        ValueError: if a number is negative.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(path.name for path in write_ct_phantom(folder, count=1).iterdir())
        ['sample.json', 'segmentation-0.nii', 'volume-0.nii']
    """
    settings: dict[str, Any] = {"sample": "ct_phantom", "version": _VERSION}
    settings |= {"seed": check_int("seed", seed), "count": check_int("count", count)}
    suffixes = (".nii", ".nii.gz")
    files = [
        (i, (f"volume-{i}{suffixes[i % 2]}", f"segmentation-{i}{suffixes[i % 2]}")) for i in range(settings["count"])
    ]
    sample = SampleFolder(settings, files, own=("volume-*.nii*", "segmentation-*.nii*"))

    def draw(index: int, paths: Sequence[Path]) -> None:
        *arrays, affine = draw_ct_phantom(seed, index)
        for path, array in zip(paths, arrays, strict=True):
            image = nib.Nifti1Image(array, affine)
            image.set_sform(affine, code="scanner")
            image.set_qform(affine, code="scanner")
            image.header.set_xyzt_units("mm")
            nib.save(image, path)

    return write_sample(root, sample, draw=draw, title="CT phantoms")


class _Phantom:
    """Hold the volume of one patient, axes right, anterior, superior, and the places of its voxels."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        columns, rows, slices = 4 * rng.integers(28, 37), 4 * rng.integers(28, 37), rng.integers(20, 33)
        self.pixel, self.thickness = rng.uniform(2.2, 2.9), rng.uniform(3, 5)
        shape, self.spacing = (columns, rows, slices), np.array([self.pixel, self.pixel, self.thickness])
        half = np.array(shape) * self.spacing / 2
        self.affine = np.diag([*self.spacing, 1.0])
        self.affine[:3, 3] = rng.uniform(-60, 60, 3) - half
        # Open grids: they broadcast to the volume, without its size.
        self.millimetres = np.ix_(*(np.arange(side) * step for side, step in zip(shape, self.spacing, strict=True)))
        # The body fills the field of view, and is wider than deep.
        width = min(half[0] * rng.uniform(0.86, 0.95), half[1] * 1.25)
        self.half_axes = np.array([width, width * rng.uniform(0.66, 0.74), half[2]])
        center = half + np.append(rng.uniform(-0.03, 0.03, 2), 0) * self.half_axes
        places = zip(self.millimetres, center, self.half_axes, strict=True)
        self.right, self.front, self.up = ((mm - middle) / axis for mm, middle, axis in places)
        self.hounsfield = np.full(shape, _AIR, dtype=np.float32)
        self.label = np.zeros(shape, dtype=np.uint8)
        self.liver_units, self.noise = _LIVER + rng.uniform(-8, 8), rng.uniform(15, 25)
        self.depth = np.zeros(shape)

    def waves(self, length: float, *, count: int = 5) -> NDArray[np.floating[Any]]:
        """Add waves of about ``length`` millimetres in random directions: a smooth field of mean 0 and spread 1."""
        total: NDArray[np.floating[Any]] = np.zeros(self.hounsfield.shape, dtype=np.float32)
        for _ in range(count):
            direction = self.rng.normal(size=3)
            direction *= 2 * np.pi * self.rng.uniform(0.7, 1.4) / length / np.linalg.norm(direction)
            phases = [k * mm for k, mm in zip(direction, self.millimetres, strict=True)]
            total += np.cos((phases[0] + phases[1] + self.rng.uniform(0, 2 * np.pi) + phases[2]).astype(np.float32))
        total *= np.sqrt(2 / count)
        return total

    def ellipsoid(self, center: ArrayLike, axes: ArrayLike) -> NDArray[np.floating[Any]]:
        """Square of the distance from the centre in half axes: below 1 inside."""
        places = zip((self.right, self.front, self.up), np.asarray(center), np.asarray(axes), strict=True)
        first, second, third = (((place - middle) / axis) ** 2 for place, middle, axis in places)
        squares: NDArray[np.floating[Any]] = first + second + third
        return squares

    def draw_body(self) -> None:
        """Draw skin fat, the muscles of the wall, the fat of the cavity with bowel below, and lung above."""
        flat = self.right**2 + np.abs(self.front) ** 2.3
        self.hounsfield[np.broadcast_to(flat < 1, self.hounsfield.shape)] = _FAT
        fat = self.rng.uniform(0.84, 0.92)
        self.hounsfield[np.broadcast_to(flat < fat**2, self.hounsfield.shape)] = _MUSCLE
        self.cavity = np.broadcast_to(
            (self.right / 0.79) ** 2 + ((self.front - 0.05) / 0.73) ** 2 < 1, self.hounsfield.shape
        )
        self.hounsfield[self.cavity] = _FAT
        loops, low = self.waves(42), self.up < 0.25 - 0.5 * self.front
        for level, units in ((0.1, 45.0), (1.3, self.rng.uniform(10, 90)), (1.9, -700.0)):
            self.hounsfield[self.cavity & low & (self.front > -0.3) & (loops > level)] = units
        lung = self.cavity & (self.up + 0.35 * (self.right**2 + self.front**2) > 0.78)
        self.hounsfield[lung] = -850.0
        heart = self.cavity & (self.ellipsoid((-0.12, 0.2, 1.0), (0.36, 0.38, 0.3)) < 1)
        self.hounsfield[heart] = self.rng.uniform(90, 150)

    def draw_bones(self) -> None:
        """Draw the ribs as they cross the slices aslant, and the spine with its canal and muscles."""
        ring = (self.right / 0.825) ** 2 + ((self.front - 0.03) / 0.775) ** 2
        turn = np.arctan2(self.front, np.abs(self.right))
        ribs = (np.cos(turn * 11 + self.up * self.half_axes[2] / 7) > 0.45) & (np.abs(ring - 1) < 0.075)
        ribs &= (np.abs(self.right) > 0.2) & (turn < 0.9)
        self.hounsfield[ribs] = self.rng.uniform(280, 420)
        for side in (-1, 1):
            self.hounsfield[self.ellipsoid((0.2 * side, -0.66, 0), (0.17, 0.2, 3)) < 1] = _MUSCLE
            self.hounsfield[self.ellipsoid((0.19 * side, -0.42, 0), (0.09, 0.14, 3)) < 1] = _MUSCLE
            self.hounsfield[self.ellipsoid((0.12 * side, -0.62, 0), (0.11, 0.05, 3)) < 1] = 260.0
        for center, axes, units in (
            ((0, -0.49, 0), (0.135, 0.17, 9), 420.0),
            ((0, -0.49, 0), (0.11, 0.14, 9), 210.0),
            ((0, -0.76, 0), (0.035, 0.14, 9), 350.0),
            ((0, -0.645, 0), (0.06, 0.06, 9), 30.0),
        ):
            self.hounsfield[self.ellipsoid(center, axes) < 1] = units

    def draw_organs(self) -> None:
        """Draw the organs next to the liver, bent a little, and the gas in the stomach."""
        bend = 0.12 * self.waves(120)
        for center, axes, (low, high) in _ORGANS:
            inside = self.ellipsoid(center + self.rng.uniform(-0.03, 0.03, 3), axes) + bend < 1
            self.hounsfield[inside & (self.hounsfield < 150)] = self.rng.uniform(low, high)
        stomach = self.ellipsoid(_ORGANS[0][0], _ORGANS[0][1]) < 0.8
        self.hounsfield[stomach & (self.front > self.rng.uniform(0.35, 0.5))] = -900.0

    def draw_liver(self) -> None:
        """Draw a right and a left lobe around the organs that dent them, and brighter vessels within."""
        rise, shift = self.rng.uniform(0.0, 0.2), self.rng.uniform(-0.04, 0.04, 2)
        right = self.ellipsoid((0.42 + shift[0], 0.02 + shift[1], rise), (0.44, 0.74, self.rng.uniform(0.65, 0.8)))
        left = self.ellipsoid((0.02 + shift[0], 0.42, rise + 0.2), (self.rng.uniform(0.36, 0.5), 0.26, 0.5))
        # Half axes scale like the root, so that its depth is comparable between the lobes.
        self.depth = np.minimum(right, left) + 0.16 * self.waves(95)
        free = self.cavity & (self.hounsfield < 90) & (self.ellipsoid((0, -0.5, 0), (0.25, 0.32, 9)) > 1)
        for center, axes, _ in _ORGANS[3:8]:
            free &= self.ellipsoid(center, np.array(axes) * 1.12) > 1
        liver = free & (self.depth < 1)
        self.label[liver] = 1
        self.hounsfield[liver] = self.liver_units
        vessels = liver & (np.abs(self.waves(80)) < 0.16) & (np.abs(self.waves(70)) < 0.2)
        self.hounsfield[vessels] = self.liver_units + self.rng.uniform(15, 45)

    def draw_tumours(self) -> None:
        """Draw at times a tumour 20 to 30 pixels across, and several of 3 to 6, apart from each other in the liver."""
        radii = [self.rng.uniform(10, 13.5)] if self.rng.random() < 0.7 else []
        radii += self.rng.uniform(1.6, 3.0, int(self.rng.integers(3, 9))).tolist()
        bumps, units = 0.16 * self.waves(25), _TUMOUR + self.rng.uniform(-8, 8)
        placed: list[tuple[NDArray[np.floating[Any]], float]] = []
        liver, depth = np.argwhere(self.label == 1), self.depth[self.label == 1]
        for radius in np.array(radii) * self.pixel:
            free = depth < (0.35 if radius > 6 * self.pixel else 0.8)
            for other, taken in placed:
                free &= np.linalg.norm((liver - other) * self.spacing, axis=1) > 1.3 * (radius + taken) + 4
            if not free.any():
                continue
            center = liver[free][self.rng.integers(free.sum())]
            # A slice's thickness at least, so that a small tumour does not vanish between two slices.
            axes = np.array([radius, radius, max(radius, 0.6 * self.thickness)]) * self.rng.uniform(0.85, 1.15, 3)
            middle = center * self.spacing
            places = zip(self.millimetres, middle, axes, strict=True)
            first, second, third = (((mm - at) / axis) ** 2 for mm, at, axis in places)
            inside = (first + second + third + bumps < 1) & (self.label == 1)
            inside[tuple(center)] = True
            self.label[inside] = 2
            self.hounsfield[inside] = units + self.rng.uniform(-6, 6)
            placed.append((center, float(radius)))

    def scan(self) -> NDArray[np.int16]:
        """Blur in the plane, add the texture of tissue and the noise of the scanner, which is grainy, not white."""
        image = self.hounsfield
        for axis in (0, 1):
            image = 0.76 * image + 0.12 * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
        grain = self.rng.standard_normal(image.shape, dtype=np.float32)
        for axis in (0, 1):
            grain = 0.8 * grain + 0.6 * np.roll(grain, 1, axis)
        tissue = np.float32(5) * self.waves(14) * (image > -200)
        units: NDArray[np.int16] = np.clip(image + tissue + self.noise * grain, -1024, 3071).round().astype(np.int16)
        return units


def _store(
    hounsfield: NDArray[np.int16], label: NDArray[np.uint8], affine: NDArray[np.float64], orientation: str
) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Reverse the axes of a volume for ``orientation``, and its affine with them."""
    affine = affine.copy()
    reverse = [axis for axis, letter in enumerate(orientation) if letter in "LPI"]
    for axis in reverse:
        affine[:3, 3] += affine[:3, axis] * (hounsfield.shape[axis] - 1)
        affine[:3, axis] *= -1
    return np.flip(hounsfield, tuple(reverse)).copy(), np.flip(label, tuple(reverse)).copy(), affine
