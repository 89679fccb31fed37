#!/usr/bin/env python
"""Print and write parameters and multiply-adds of the paper's hosts, with and without AFMA, beside its Table 5."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from afma_med import AFMANet
from afma_med.bundle.command_line import positive_int
from afma_med.functional import split_patches

# Table 5 of Sang et al. (TPAMI 2023): parameters (M), with AFMA; FLOPs (G), with AFMA; increase of the FLOPs (%).
TABLE_5 = {
    "DeepLabV3": (58.62, 58.68, 566.43, 579.76, 2.35),
    "Unet": (51.51, 51.57, 146.59, 159.91, 2.23),
    "Unet++": (67.97, 68.03, 585.63, 598.01, 8.45),
    "MAnet": (166.43, 166.49, 221.06, 234.39, 8.33),
    "FPN": (45.10, 45.16, 118.99, 132.23, 2.26),
    "PAN": (43.25, 43.31, 127.28, 140.61, 2.23),
    "Linknet": (50.17, 50.23, 146.51, 159.83, 6.03),
    "PSPNet": (48.85, 48.91, 433.65, 450.75, 7.29),
}
PAPER = {"encoder": "resnet101", "classes": 12, "feature": 2, "patch_size": 10}
OPTIONS = {"PSPNet": {"encoder_depth": 5, "output_stride": 8}}
NOTES = """AFMA on {host}: {afma_params:.5f} M parameters; {afma_released:.3f} G by Table 5's rules, layer by layer.
+layers: torch's count, the two linears composed. +products: those of the attention, which Table 5 leaves out.
PSPNet as released: its whole encoder, dilated to stride 8; the library's stops at depth 3 (43.34 M with ResNet-101)."""
# What is compared: our column and Table 5's, how closely (Table 5 cuts digits off), what it is.
COMPARED = (
    ("params", "table5_params", 0.02, "parameters"),
    ("params_afma", "table5_params_afma", 0.02, "parameters with AFMA"),
    ("macs", "table5_macs", 1.5, "multiply-adds by torch, which counts no batch norm, bias or upsampling"),
    ("rule_macs", "table5_macs", 0.01, "multiply-adds by Table 5's rules, which are those of the counter thop 0.0.31"),
    ("rule_macs_afma", "table5_macs_afma", 0.01, "the same with AFMA as released, less its attention's products"),
)
REASONS = {
    ("table5_macs", "Linknet"): "Table 5 counts transposed convolutions per output pixel, 4 times what stride 2 needs",
    ("table5_macs", "PSPNet"): "unexplained; its row with AFMA agrees, and less AFMA's 13.33 is 437.42, not 433.65",
    ("table5_macs_afma", "Unet++"): "unexplained; its rows in Table 5 differ by 12.38, but AFMA adds 13.33",
    ("table5_macs_afma", "FPN"): "Table 5's 132.23 looks like 132.32 with two digits swapped",
}


def count_calls(network: nn.Module) -> list[int]:
    """Make a network append to a list what each call of a layer counts by Table 5's rules."""
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

    network.apply(lambda module: module.register_forward_hook(count))
    return counts


def measure(host: str, given: argparse.Namespace) -> dict[str, Any]:
    """Build and run a host with AFMA on tensors without data."""
    make, seen = getattr(smp, host.replace("++", "PlusPlus")), []
    with torch.device("meta"), torch.no_grad():
        backbone = make(given.encoder, encoder_weights=None, classes=given.classes, **OPTIONS.get(host, {}))
        net = AFMANet(backbone, given.classes, feature=given.feature, patch_size=given.patch_size).eval()
        block, rule = net.afma_block, count_calls(net.backbone)
        block.register_forward_hook(lambda _block, inputs, _attention: seen.extend(inputs))
        with FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 3, *given.size))
        # As released, the layers run one after the other; the package first multiplies the two linears' matrices.
        released = count_calls(block)
        for embedded in (block.image_conv2(block.image_conv1(seen[0])), block.feature_conv(seen[1])):
            block.patch_linear2(block.patch_linear1(split_patches(embedded, block.patch_size)))
    parts = ("AFMANet", "AFMANet.backbone", "AFMANet.afma_block")
    total, macs, layers = (sum(counter.get_flop_counts()[part].values()) / 2e9 for part in parts)
    params, params_afma, own = (sum(p.numel() for p in part.parameters()) / 1e6 for part in (net.backbone, net, block))
    row = {"host": host, **{name: getattr(given, name) for name in PAPER}, "size": "{}x{}".format(*given.size)}
    paper = TABLE_5[host] if row.items() >= PAPER.items() else [None] * 5
    row |= {"params": params, "table5_params": paper[0], "params_afma": params_afma, "table5_params_afma": paper[1]}
    row |= {"macs": macs, "afma_layers": layers, "afma_products": total - macs - layers, "rule_macs": sum(rule) / 1e9}
    row |= {"table5_macs": paper[2], "rule_macs_afma": sum(rule + released) / 1e9, "table5_macs_afma": paper[3]}
    return row | {"table5_increase": paper[4], "afma_params": own, "afma_released": sum(released) / 1e9}


def format_table(rows: list[dict[str, Any]]) -> str:
    """Align the figures, from the seventh column on; a dash stands for what Table 5 does not have."""
    lines = [f"{'parameters, M':>50}{'multiply-adds by torch, G':>30}{'by the rules of Table 5, G':>40}"]
    titles = ["host", "Table 5", "+AFMA", "Table 5"]
    lines.append("".join(f"{title:>10}" for title in ["", *titles, "host", "+layers", "+products", *titles]))
    for row in rows:
        cells = ["-" if figure is None else f"{figure:.2f}" for figure in [*row.values()][6:17]]
        lines.append(f"{row['host']:<10}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def list_differences(rows: list[dict[str, Any]]) -> list[str]:
    """Say what agrees with Table 5, what does not, and why."""
    lines = ["Table 5's FLOPs are multiply-adds at 640×960, not its caption's 720×960: compared at that size only."]
    for ours, theirs, tolerance, title in COMPARED if rows[0]["size"] == "640x960" else COMPARED[:2]:
        far = {row["host"]: gap for row in rows if abs(gap := row[ours] - row[theirs]) > tolerance}
        lines.append(f"{len(rows) - len(far)} of {len(rows)} within {tolerance} of Table 5: {title}.")
        lines += [f"  {host} {gap:+.2f}: {REASONS.get((theirs, host), 'unexplained')}." for host, gap in far.items()]
    rises = {row["host"]: 100 * row["table5_macs_afma"] / row["table5_macs"] - row["table5_increase"] for row in rows}
    odd = [host for host, rise in rises.items() if abs(rise - 100) > 0.01]
    return [*lines, f"Table 5's increase of FLOPs (%) does not follow from its FLOPs: {', '.join(odd) or 'none'}."]


def main(arguments: list[str] | None = None) -> None:
    """Print the table and what differs, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in PAPER.items():
        kind = positive_int if isinstance(default, int) else str
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"default {default}, the paper's")
    parser.add_argument(
        "--size", type=positive_int, nargs=2, default=[640, 960], metavar=("H", "W"), help="default 640 960"
    )
    parser.add_argument("--hosts", nargs="+", default=[*TABLE_5], choices=TABLE_5, metavar="HOST", help="%(choices)s")
    parser.add_argument("--csv", type=Path, default=Path("runs/model_table.csv"), help="default %(default)s")
    given = parser.parse_args(arguments)
    if given.encoder not in (known := smp.encoders.get_encoder_names()) and not given.encoder.startswith("tu-"):
        parser.error(f"--encoder must be one of {', '.join(known)}, or tu-<model of timm>; got {given.encoder!r}")
    rows = []
    try:
        for host in given.hosts:
            rows.append(measure(host, given))
        given.csv.parent.mkdir(parents=True, exist_ok=True)
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([rows[0], *(row.values() for row in rows)])
    except OSError as error:
        parser.error(f"--csv must be a file that can be written; {error}")
    except (AssertionError, KeyError, RuntimeError, ValueError) as error:
        parser.exit(1, f"error: {host} with {given.encoder} cannot be built and run without data: {error}\n")
    notes = list_differences(rows) if rows[0]["table5_params"] else ["Table 5 has other networks than these."]
    print(format_table(rows), NOTES.format(**rows[0]), *notes, f"The table is in {given.csv}", sep="\n")


if __name__ == "__main__":
    main()
