"""Cases of the benchmark and their options. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["GROWING", "BenchmarkOptions", "Case", "choose_cases", "list_cases", "list_gpu_steps"]

#: What grows in each group of AFMA alone at growing sizes.
GROWING = {"growth": "pixels", "classes": "classes", "batch": "images"}

# (height, width), depth, classes of a case.
_GEOMETRIES = (((480, 640), 2, 12), ((480, 640), 3, 12), ((640, 960), 1, 12), ((1024, 2048), 2, 20))
_SIZES = ((240, 320), (360, 480), (480, 640), (720, 960), (1024, 2048), (2048, 4096))
_CLASSES, _BATCHES = (1, 5, 20, 60, 150), (1, 2, 4, 8, 16)
# Tiny ones, for tests.
_QUICK_GEOMETRIES = (((64, 96), 2, 3),)
_QUICK_SIZES, _QUICK_CLASSES, _QUICK_BATCHES = ((160, 160), (240, 240), (320, 320)), (1, 3, 6), (1, 2, 3)


# (height, width), images in a batch of the paper's recipes.
_GPU_STEPS = (((480, 640), 16), ((640, 800), 8))


class BenchmarkOptions(NamedTuple):
    """Hold the options of all cases.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        repeats: number of timed rounds.
        batch: number of images in a step.
        amp: run under autocast, without gradient scaling.
        threads: threads of the CPU.
        tf32: let a GPU compute products in TF32.
        compiled: compile the networks, but not the loss.
        channels_last: lay images, maps and weights out as the bundles do.
    """

    device: str = "cpu"
    repeats: int = 10
    batch: int = 1
    amp: bool = False
    threads: int = 1
    tf32: bool = False
    compiled: bool = False
    channels_last: bool = False


class Case(NamedTuple):
    """Describe a case of the group ``"alone"``, ``"unet"``, or one in which something grows (:data:`GROWING`).

    The encoder decides the channels of the feature map of this depth; ``size`` is height and width of the image;
    ``batch`` the number of images, None for that of the options.
    """

    group: str
    encoder: str
    size: tuple[int, int]
    depth: int
    classes: int
    batch: int | None = None

    def __str__(self) -> str:
        """Return the name of the case."""
        grown = {"classes": f"-k{self.classes}", "batch": f"-b{self.batch}"}.get(self.group, "")
        return f"{self.group}-{self.encoder}-{self.size[0]}x{self.size[1]}-d{self.depth}{grown}"


def list_cases(quick: bool) -> list[Case]:
    """List all cases, or with ``quick`` those of tiny sizes."""
    encoders = ("resnet18",) if quick else ("resnet34", "resnet101")
    geometries = _QUICK_GEOMETRIES if quick else _GEOMETRIES
    sizes, counts, batches = (_QUICK_SIZES, _QUICK_CLASSES, _QUICK_BATCHES) if quick else (_SIZES, _CLASSES, _BATCHES)
    size, depth, classes = (sizes[0], 2, 3) if quick else ((480, 640), 2, 12)
    cases = [Case(group, encoder, *g) for group in ("alone", "unet") for encoder in encoders for g in geometries]
    cases += [Case("growth", encoders[-1], grown, depth, classes) for grown in sizes]
    cases += [Case("classes", encoders[-1], size, depth, count) for count in counts]
    return cases + [Case("batch", encoders[-1], size, depth, classes, batch) for batch in batches]


def choose_cases(names: Sequence[str] | None, *, quick: bool) -> list[Case]:
    """Choose cases by their names or groups; None chooses all.

    Raises:
        ValueError: if a name is unknown.
    """
    known = list_cases(quick)
    unknown = {*(names or [])} - {name for case in known for name in (str(case), case.group)}
    if unknown:
        names = ", ".join(dict.fromkeys([*(case.group for case in known), *map(str, known)]))
        raise ValueError(f"--cases must be of {names}; got {sorted(unknown)}. Name some of these.")
    return [case for case in known if not names or {str(case), case.group} & set(names)]


def list_gpu_steps(given: BenchmarkOptions, *, quick: bool) -> list[tuple[str, Case, BenchmarkOptions]]:
    """List whole training steps by name: each size of a batch in float32, TF32 and AMP, and AMP compiled."""
    steps = [(_QUICK_GEOMETRIES[0][0], 1)] if quick else _GPU_STEPS
    precisions: dict[str, dict[str, Any]] = {
        "float32": {},
        "TF32": {"tf32": True},
        "AMP": {"tf32": True, "amp": True},
        "AMP, compiled": {"tf32": True, "amp": True, "compiled": True},
    }
    encoder, classes = ("resnet18", 3) if quick else ("resnet101", 12)
    return [
        (
            f"{batch}×{size[0]}×{size[1]} {precision}",
            Case("unet", encoder, size, 2, classes),
            given._replace(batch=batch, **changes),
        )
        for precision, changes in precisions.items()
        for size, batch in steps
    ]
