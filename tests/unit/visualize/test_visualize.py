"""Pictures have the documented parts and colours."""

from __future__ import annotations

import numpy as np
import pytest

from afma_med.data import CAMVID
from afma_med.data.class_table import VOID, class_colors
from afma_med.visualize import color_legend, colorize, compare_segmentations


@pytest.mark.parametrize("width", [120, 300, 2000])
def test_legend_holds_every_colour_at_any_width(width: int) -> None:
    legend = color_legend(CAMVID.classes, width=width)
    assert legend.shape[1] == width
    shown = {tuple(color) for color in legend.reshape(-1, 3).tolist()}
    assert {info.color for info in CAMVID.classes} <= shown


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_comparison_puts_image_and_segmentations_side_by_side(channels: int) -> None:
    image = np.linspace(-2, 2, channels * 40 * 60).reshape(channels, 40, 60)
    label, prediction = np.full((40, 60), 3, np.uint8), np.full((40, 60), 8, np.uint8)
    picture = compare_segmentations(image, label, prediction, class_table=CAMVID.classes)
    assert picture.shape[1] == 180
    assert picture.shape[0] > 40, "the legend is missing"
    assert picture[20, 90].tolist() == class_colors(CAMVID.classes)[3].tolist()
    assert picture[20, 150].tolist() == class_colors(CAMVID.classes)[8].tolist()
    assert picture[:40, :60].min() == 0 and picture[:40, :60].max() == 255
    assert compare_segmentations(0 * image, label, class_table=CAMVID.classes)[:40, :60].max() == 0, "a constant image"
    assert not colorize(np.array([[VOID]]), CAMVID.classes).any()
