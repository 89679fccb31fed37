"""Find the tensors of an encoder among those of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Matched", "list_choices", "match_encoder", "match_tensors"]

_CLASSIFIERS = ("_fc.", "fc.", "classifier.", "head.", "last_linear.")
# What EfficientNets have before the classifier, and encoders that timm builds for their maps have not.
_HEADS = ("conv_head.", "bn2.", "_conv_head.", "_bn1.")
_SHOWN = 8


class Matched(NamedTuple):
    """Hold tensors by the encoder's names, how they were matched, and how many there were to choose from."""

    tensors: dict[str, Tensor]
    manner: str
    given: int


def match_encoder(own: Mapping[str, Tensor], groups: Mapping[str, Mapping[str, Tensor]], file: Path) -> Matched:
    """Find the encoder in a file.

    Raises:
        ValueError: if there is none, listing what does not match, or if there are several that differ.
    """
    choices = list_choices(own, groups)
    found = {name: match for name, given in choices.items() if (match := match_tensors(own, given))}
    if not found:
        nearest = max(choices.values(), key=lambda given: len(given.keys() & own.keys()))
        raise ValueError(
            f"`encoder_weights` must be weights of this encoder; of `{file}`, "
            f"{_differences(_countable(own), _countable(nearest, _left_out(own)))}. "
            "Choose the encoder that the weights belong to, or other weights."
        )
    first, *others = found.values()
    if not all(_are_equal(first.tensors, other.tensors) for other in others):
        names = ", ".join(repr(name) for name in found)
        raise ValueError(
            f"`encoder_weights` must hold one encoder; `{file}` holds {len(found)} that differ, whose names begin with "
            f"{names}. Save the tensors of one of them in a file of its own."
        )
    return first


def list_choices(
    own: Mapping[str, Tensor], groups: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Mapping[str, Tensor]]:
    """List what may be the encoder, without what stands before its names, by what stood there."""
    first = next(iter(own), "")
    choices: dict[str, Mapping[str, Tensor]] = {}
    for group, given in groups.items():
        prefixes = [name.removesuffix(first) for name in given if name == first or name.endswith(f".{first}")]
        for prefix in prefixes:
            inside = {name.removeprefix(prefix): x for name, x in given.items() if name.startswith(prefix)}
            choices[group + prefix] = inside
        if not prefixes:
            choices[group] = given
    return choices


def match_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Matched | None:
    """Match tensors with an encoder by name, else by order; None if they are not those of the encoder."""
    wanted, found = _countable(own), _countable(given, _left_out(own))
    if wanted.keys() == found.keys() and all(wanted[name].shape == found[name].shape for name in wanted):
        return Matched({name: x for name, x in given.items() if name in own}, "name", len(given))
    kinds = [(name.rpartition(".")[2], x.shape) for name, x in wanted.items()]
    # Where some names agree, order would only hide that others do not.
    strangers = not wanted.keys() & found.keys()
    if strangers and kinds == [(name.rpartition(".")[2], x.shape) for name, x in found.items()]:
        return Matched(dict(zip(wanted, found.values(), strict=True)), "order", len(given))
    return None


def _are_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Return whether all tensors that both have are the same."""
    shared = [(x, other[name]) for name, x in one.items() if name in other]
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in shared)


def _left_out(own: Mapping[str, Tensor]) -> Sequence[str]:
    return () if any(name.startswith(_HEADS) for name in own) else _HEADS


def _countable(tensors: Mapping[str, Tensor], left_out: Sequence[str] = ()) -> dict[str, Tensor]:
    """Without the classifier, and the number of batches, which older files lack."""
    kept = [name for name in tensors if not name.startswith((*_CLASSIFIERS, *left_out))]
    return {name: tensors[name] for name in kept if not name.endswith("num_batches_tracked")}


def _differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(x.shape)}"
        for name, x in wanted.items()
        if name in found and found[name].shape != x.shape
    ]
    missing, unknown = ([*one.keys() - other.keys()] for one, other in ((wanted, found), (found, wanted)))
    lists = {
        "are missing": sorted(missing, key=list(wanted).index),
        "are unknown to it": sorted(unknown, key=list(found).index),
        "have other shapes": shapes,
    }
    return "; ".join(
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for what, names in lists.items()
        if names
    )
