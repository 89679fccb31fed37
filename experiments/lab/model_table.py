"""Parameters and multiply-adds of the paper's hosts, with and without AFMA, next to its Table 5."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from afma_med.functional import split_patches
from afma_med.networks import AFMANet
from experiments.lab.table5 import COMPARED, NOTES, OPTIONS, PAPER, REASONS, TABLE_5

__all__ = ["HostSettings", "count_calls", "format_model_table", "list_differences", "measure_hosts"]
__all__ += ["write_model_table"]

_PARTS = ("AFMANet", "AFMANet.backbone", "AFMANet.afma_block")


class HostSettings(NamedTuple):
    """Hold the settings of hosts, with those of the paper as defaults; ``size`` is height and width of the image."""

    encoder: str = "resnet101"
    classes: int = 12
    feature: int = 2
    patch_size: int = 10
    size: tuple[int, int] = (640, 960)


def measure_hosts(hosts: Sequence[str], settings: HostSettings) -> Iterator[dict[str, Any]]:
    """Build and run hosts of Table 5 with AFMA, on tensors without data, and yield a row of figures for each.

    Raises:
        ValueError: if the encoder is unknown, or a host cannot be built and run.
    """
    known = smp.encoders.get_encoder_names()
    if settings.encoder not in known and not settings.encoder.startswith("tu-"):
        raise ValueError(
            f"--encoder must be one of {', '.join(known)}, or tu-MODEL with a model of timm; "
            f"got {settings.encoder!r}. Choose one of them."
        )
    for host in hosts:
        try:
            yield _measure_host(host, settings)
        except (AssertionError, KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"{host} with {settings.encoder} cannot be built and run without data: {error}") from error


def count_calls(network: nn.Module) -> list[int]:
    """Return a list that grows with each later call of a layer, by its multiply-adds after Table 5's rules."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            counts.append(output.numel() * sum(p.numel() for p in module.parameters()) // module.out_channels)
        elif isinstance(module, nn.Linear):
            counts.append(output.numel() * module.in_features)
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            counts.append(output.numel() + inputs[0].numel())
        elif isinstance(module, nn.BatchNorm2d | nn.Upsample):
            counts.append(output.numel() * (2 if isinstance(module, nn.BatchNorm2d) else 11))

    for module in network.modules():
        module.register_forward_hook(count)
    return counts


def format_model_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format one or more rows of :func:`measure_hosts` as a table, with notes and the differences from Table 5."""
    notes = list_differences(rows) if rows[0]["table5_params"] else ["Table 5 has other networks than these."]
    lines = [f"{'parameters, M':>50}{'multiply-adds by torch, G':>30}{'by the rules of Table 5, G':>40}"]
    titles = ["host", "Table 5", "+AFMA", "Table 5"]
    lines.append("".join(f"{title:>10}" for title in ["", *titles, "host", "+layers", "+products", *titles]))
    for row in rows:
        # The figures, from the seventh column on; Table 5 does not have all of them.
        cells = ["-" if figure is None else f"{figure:.2f}" for figure in [*row.values()][6:17]]
        lines.append(f"{row['host']:<10}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join([*lines, NOTES.format(**rows[0]), *notes])


def write_model_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write one or more rows of :func:`measure_hosts` as a CSV file, and make its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(rows[0]), *(list(row.values()) for row in rows)])


def list_differences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Compare rows with the paper's settings with Table 5: a line for each agreement and each difference."""
    lines = ["Table 5's FLOPs are multiply-adds at 640×960, not its caption's 720×960: compared at that size only."]
    for ours, theirs, tolerance, title in COMPARED if rows[0]["size"] == "640x960" else COMPARED[:2]:
        far = {row["host"]: gap for row in rows if abs(gap := row[ours] - row[theirs]) > tolerance}
        lines.append(f"{len(rows) - len(far)} of {len(rows)} within {tolerance} of Table 5: {title}.")
        lines += [f"  {host} {gap:+.2f}: {REASONS.get((theirs, host), 'unexplained')}." for host, gap in far.items()]
    rises = {row["host"]: 100 * row["table5_macs_afma"] / row["table5_macs"] - row["table5_increase"] for row in rows}
    odd = [host for host, rise in rises.items() if abs(rise - 100) > 0.01]
    return [*lines, f"Table 5's increase of FLOPs (%) does not follow from its FLOPs: {', '.join(odd) or 'none'}."]


def _measure_host(host: str, settings: HostSettings) -> dict[str, Any]:
    make, seen = getattr(smp, host.replace("++", "PlusPlus")), []
    with torch.device("meta"), torch.no_grad():
        backbone = make(settings.encoder, encoder_weights=None, classes=settings.classes, **OPTIONS.get(host, {}))
        net = AFMANet(backbone, settings.classes, feature=settings.feature, patch_size=settings.patch_size).eval()
        rule = count_calls(net.backbone)
        net.afma_block.register_forward_hook(lambda _block, inputs, _attention: seen.extend(inputs))
        with FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 3, *settings.size))
        released = _count_as_released(net.afma_block, seen[0], seen[1])
    total, macs, layers = (sum(counter.get_flop_counts()[part].values()) / 2e9 for part in _PARTS)
    params, params_afma, own = (
        sum(p.numel() for p in part.parameters()) / 1e6 for part in (net.backbone, net, net.afma_block)
    )
    row = {"host": host, **settings._asdict(), "size": "{}x{}".format(*settings.size)}
    paper = TABLE_5[host] if row.items() >= PAPER.items() else [None] * 5
    return row | {
        "params": params,
        "table5_params": paper[0],
        "params_afma": params_afma,
        "table5_params_afma": paper[1],
        "macs": macs,
        "afma_layers": layers,
        "afma_products": total - macs - layers,
        "rule_macs": sum(rule) / 1e9,
        "table5_macs": paper[2],
        "rule_macs_afma": sum(rule + released) / 1e9,
        "table5_macs_afma": paper[3],
        "table5_increase": paper[4],
        "afma_params": own,
        "afma_released": sum(released) / 1e9,
    }


def _count_as_released(block: Any, image: Tensor, feature: Tensor) -> list[int]:
    """As released, the layers run one after the other; the package first multiplies the two linears' matrices."""
    counts = count_calls(block)
    for embedded in (block.image_conv2(block.image_conv1(image)), block.feature_conv(feature)):
        block.patch_linear2(block.patch_linear1(split_patches(embedded, block.patch_size)))
    return counts
