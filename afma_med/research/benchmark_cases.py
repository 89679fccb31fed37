"""What the benchmark measures: cases by group, encoder, image size and depth, and the options of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["BenchmarkOptions", "Case", "choose_cases", "list_cases"]

# (height, width), depth, classes of a case; quick ones are for tests.
_Geometry = tuple[tuple[int, int], int, int]
_GEOMETRIES: tuple[_Geometry, ...] = (
    ((480, 640), 2, 12),
    ((480, 640), 3, 12),
    ((640, 960), 1, 12),
    ((1024, 2048), 2, 20),
)
_GROWTH_SIZES = ((240, 320), (360, 480), (480, 640), (720, 960), (1024, 2048))
_GROWTH: tuple[_Geometry, ...] = tuple((size, 2, 12) for size in _GROWTH_SIZES)
_QUICK_GEOMETRIES: tuple[_Geometry, ...] = (((64, 96), 2, 3),)
_QUICK_GROWTH: tuple[_Geometry, ...] = (((160, 160), 2, 3), ((320, 320), 2, 3))


class BenchmarkOptions(NamedTuple):
    """Hold what all cases are measured with.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        repeats: timed rounds, at least 2.
        batch: B.
        amp: run under autocast, without gradient scaling.
        threads: of the CPU.
    """

    device: str = "cpu"
    repeats: int = 10
    batch: int = 1
    amp: bool = False
    threads: int = 1


class Case(NamedTuple):
    """Name what is measured.

    Args:
        group: ``"alone"``, ``"unet"`` or ``"growth"``.
        encoder: sets the channels of the feature map.
        size: height and width of the image.
        depth: of the feature map.
        classes: K.
    """

    group: str
    encoder: str
    size: tuple[int, int]
    depth: int
    classes: int

    def __str__(self) -> str:
        """Return the name of the case."""
        return f"{self.group}-{self.encoder}-{self.size[0]}x{self.size[1]}-d{self.depth}"


def list_cases(quick: bool) -> list[Case]:
    """List all cases.

    Args:
        quick: those for tests, of tiny sizes.

    Example:
        >>> print(list_cases(quick=True)[0])
        alone-resnet18-64x96-d2
    """
    encoders, geometries = (("resnet18",), _QUICK_GEOMETRIES) if quick else (("resnet34", "resnet101"), _GEOMETRIES)
    cases = [Case(group, encoder, *g) for group in ("alone", "unet") for encoder in encoders for g in geometries]
    return cases + [Case("growth", encoders[-1], *g) for g in (_QUICK_GROWTH if quick else _GROWTH)]


def choose_cases(names: Sequence[str] | None, *, quick: bool) -> list[Case]:
    """Choose cases by their names or groups.

    Args:
        names: of cases or groups; None for all.
        quick: of the cases for tests.

    Raises:
        ValueError: if a name is unknown.

    Example:
        >>> [str(case) for case in choose_cases(["unet"], quick=True)]
        ['unet-resnet18-64x96-d2']
    """
    known = list_cases(quick)
    unknown = {*(names or [])} - {name for case in known for name in (str(case), case.group)}
    if unknown:
        raise ValueError(
            f"--cases must be alone, unet, growth or of {', '.join(map(str, known))}; got {sorted(unknown)}. "
            "Name some of these."
        )
    return [case for case in known if not names or {str(case), case.group} & set(names)]
