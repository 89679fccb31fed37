"""The paper's Table 5 (Sang et al., TPAMI 2023), and the reasons why our figures differ from it in five places."""

from __future__ import annotations

__all__ = ["COMPARED", "NOTES", "OPTIONS", "PAPER", "REASONS", "TABLE_5"]

# Parameters (M), with AFMA; FLOPs (G), with AFMA; increase of the FLOPs (%).
TABLE_5: dict[str, tuple[float, float, float, float, float]] = {
    "DeepLabV3": (58.62, 58.68, 566.43, 579.76, 2.35),
    "Unet": (51.51, 51.57, 146.59, 159.91, 2.23),
    "Unet++": (67.97, 68.03, 585.63, 598.01, 8.45),
    "MAnet": (166.43, 166.49, 221.06, 234.39, 8.33),
    "FPN": (45.10, 45.16, 118.99, 132.23, 2.26),
    "PAN": (43.25, 43.31, 127.28, 140.61, 2.23),
    "Linknet": (50.17, 50.23, 146.51, 159.83, 6.03),
    "PSPNet": (48.85, 48.91, 433.65, 450.75, 7.29),
}
PAPER: dict[str, int | str] = {"encoder": "resnet101", "classes": 12, "feature": 2, "patch_size": 10}
OPTIONS: dict[str, dict[str, int]] = {"PSPNet": {"encoder_depth": 5, "output_stride": 8}}
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
