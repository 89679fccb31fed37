"""The model table: its figures are the paper's Table 5, or their difference is named; bad options are refused."""

from __future__ import annotations

import contextlib
import csv
import io

import pytest
import torch
from torch import nn

from experiments.lab import model_table
from experiments.lab.__main__ import main


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, str]], str]:
    """The rows of the CSV and what is printed, of one run with the defaults."""
    path = tmp_path_factory.mktemp("table") / "new folder" / "table.csv"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["table5", "--csv", str(path)]) == 0
    assert printed.getvalue().splitlines()[-1] == f"The table is in {path}"
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), printed.getvalue()


def exit_code(arguments: list[str]) -> object:
    """That of the command, whether argparse ends it or it returns."""
    try:
        return main(arguments)
    except SystemExit as stop:
        return stop.code


def differing(rows: list[dict[str, str]], ours: str, theirs: str, tolerance: float) -> set[str]:
    return {row["host"] for row in rows if abs(float(row[ours]) - float(row[theirs])) > tolerance}


@pytest.mark.slow
def test_csv_has_a_row_of_every_host_with_the_settings(table) -> None:
    rows, _ = table
    assert [row["host"] for row in rows] == list(model_table.TABLE_5)
    settings = [(row["encoder"], row["classes"], row["feature"], row["patch_size"], row["size"]) for row in rows]
    assert set(settings) == {("resnet101", "12", "2", "10", "640x960")}


@pytest.mark.slow
def test_parameters_are_the_papers(table) -> None:
    rows, _ = table
    assert not differing(rows, "params", "table5_params", 0.02)
    assert not differing(rows, "params_afma", "table5_params_afma", 0.02)


@pytest.mark.slow
def test_afma_has_the_released_parameters_and_multiply_adds(table) -> None:
    for row in table[0]:
        assert round(1e6 * float(row["afma_params"])) == 59480
        assert float(row["params_afma"]) - float(row["params"]) == pytest.approx(0.05948, abs=1e-9)
        assert float(row["afma_released"]) == pytest.approx(13.326, abs=0.01)


@pytest.mark.slow
def test_multiply_adds_are_the_papers_but_for_the_named_rows(table) -> None:
    rows, _ = table
    assert differing(rows, "macs", "table5_macs", 1.5) == {"Linknet", "PSPNet"}
    assert differing(rows, "rule_macs", "table5_macs", 0.01) == {"PSPNet"}
    assert differing(rows, "rule_macs_afma", "table5_macs_afma", 0.01) == {"Unet++", "FPN"}


@pytest.mark.slow
def test_count_of_the_attention_is_that_of_its_two_products(table) -> None:
    classes, image_patches, feature_patches, depth = 12, 64 * 96, 16 * 24, 100
    products = (feature_patches + image_patches) * depth**2  # non-zeros are counted without products
    linears = depth * 2 * depth * depth + (feature_patches + image_patches) * classes * depth**2
    first, second = 3 * 7 * 7 * 64, 64 * 3 * 3 * classes
    composed = 640 * 960 * 3 * 9 * 9 * classes + 3 * 9 * 9 * second
    border = 2 * (640 + 962) * first + 2 * (640 + 960) * second / 3
    convolutions = composed + border + 160 * 240 * 256 * classes
    for row in table[0]:
        assert float(row["afma_products"]) == pytest.approx(classes * products / 1e9)
        # The product of the two linears' matrices is formed for the image and for the feature map.
        assert float(row["afma_layers"]) == pytest.approx(
            (convolutions + linears + 2 * depth**2 * depth) / 1e9, rel=1e-3
        )


@pytest.mark.slow
def test_print_names_every_difference_within_120_columns(table) -> None:
    _, printed = table
    lines = printed.splitlines()
    assert max(map(len, lines[:-1])) <= 120
    for start in ("  Linknet -32.68: ", "  PSPNet +2.49: ", "  PSPNet +3.78: ", "  Unet++ +0.95: ", "  FPN +0.09: "):
        assert sum(line.startswith(start) for line in lines) == 1
    assert any(
        "increase" in line and line.endswith("Unet, Unet++, MAnet, FPN, PAN, Linknet, PSPNet.") for line in lines
    )


def test_other_networks_are_not_compared(tmp_path, capsys) -> None:
    path = tmp_path / "table.csv"
    main(["table5", "--encoder", "resnet18", "--hosts", "Unet", "--size", "50", "70", "--csv", str(path)])
    assert "Table 5 has other networks" in capsys.readouterr().out
    row = next(csv.DictReader(path.open(encoding="utf-8")))
    assert row["table5_params"] == ""
    assert row["size"] == "50x70"
    assert float(row["rule_macs_afma"]) == pytest.approx(float(row["rule_macs"]) + float(row["afma_released"]))


@pytest.mark.slow
def test_other_sizes_are_compared_by_parameters_only(table) -> None:
    rows = [
        {name: float(text) if name.startswith(("params", "table5")) else text for name, text in row.items()}
        for row in table[0]
    ]
    lines = model_table.list_differences([{**row, "size": "720x960"} for row in rows])
    assert "compared at that size only" in lines[0]
    assert [line for line in lines if "within" in line] == [
        "8 of 8 within 0.02 of Table 5: parameters.",
        "8 of 8 within 0.02 of Table 5: parameters with AFMA.",
    ]


def test_rules_of_table_5_on_layers_counted_by_hand() -> None:
    layers = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 2, 4, stride=2, padding=1, bias=False),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 5),
    )
    counts = model_table.count_calls(layers)
    layers(torch.zeros(1, 4, 8, 8))
    assert counts == [384 * (2 * 9 + 1), 384 * 2, 512 * 6 * 16, 2048 * 11, 2048 + 2, 5 * 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hosts", "Foo"], "invalid choice: 'Foo' (choose from"),
        (["--encoder", "resnet1001"], "--encoder must be one of resnet18, resnet34"),
        (["--encoder", "tu-nothing", "--hosts", "Unet"], "Unet with tu-nothing cannot be built"),
        (["--size", "0", "960"], "--size: must be a whole number above 0"),
        (["--patch_size", "-1"], "must be a whole number above 0"),
        (["--classes", "twelve"], "must be a whole number above 0; got 'twelve'"),
        (["--encoder", "resnet18", "--hosts", "Unet", "--feature", "9"], "from 1 to 5; got 9"),
        (["--encoder", "resnet18", "--hosts", "Unet", "--csv", "."], "--csv must be a file that can be written"),
    ],
)
def test_bad_options_are_refused(options: list[str], message: str, capsys, tmp_path) -> None:
    csv_option = [] if "--csv" in options else ["--csv", str(tmp_path / "table.csv")]
    assert exit_code(["table5", *options, *csv_option]) == 2
    assert message in capsys.readouterr().err
