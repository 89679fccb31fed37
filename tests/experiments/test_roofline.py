"""The roofline counts the work of each part as torch does, and its floors follow from the machine's rates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.lab.__main__ import main
from experiments.lab.benchmark_cases import BenchmarkOptions, Case
from experiments.lab.roofline import Part, Rates, Work, build_head, build_parts, measure_roofline

CASE = Case("alone", "resnet18", (160, 240), 2, 3)


@pytest.fixture(scope="module")
def parts() -> dict[str, Part]:
    case, options = CASE._replace(size=(320, 480), classes=12), BenchmarkOptions(batch=2)
    return {part.name: part for part in (*build_parts(case, options), build_head(case, options))}


@pytest.mark.parametrize("name", ["image embedding", "feature embedding", "projections", "hypercolumn head"])
def test_multiply_adds_are_those_that_torch_counts(parts: dict[str, Part], name: str) -> None:
    part = parts[name]
    with FlopCounterMode(display=False) as counter:
        outputs = part.run()
    forward = counter.get_total_flops() / 2
    # The kernels and matrices are composed first, which takes a few more.
    assert part.forward.macs <= forward <= 1.25 * part.forward.macs
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(outputs, part.inputs, [torch.ones_like(one) for one in outputs])
    assert part.backward is not None
    assert part.backward.macs <= counter.get_total_flops() / 2 <= 1.5 * part.backward.macs


def test_each_part_reads_its_inputs_and_writes_its_outputs(parts: dict[str, Part]) -> None:
    for name in ("image embedding", "feature embedding", "projections", "correction", "hypercolumn head"):
        outputs = parts[name].run()
        assert parts[name].forward.bytes > sum(4 * one.numel() for one in outputs)


def test_the_floor_is_the_larger_of_two_times() -> None:
    rates = Rates(float32=10.0, float64=5.0, copy=2.0)
    assert rates.floor(Work(100, 2)) == 10 and rates.floor(Work(10, 8)) == 4


def test_every_pass_is_measured() -> None:
    found = measure_roofline(CASE, BenchmarkOptions(repeats=2))
    assert set(found["rates"]) == {"float32", "float64", "copy"} and min(found["rates"].values()) > 0
    assert len(found["parts"]) == 14
    for row in found["parts"]:
        assert row["ms"] > 0 and row["floor_ms"] > 0
        assert row["ratio"] == pytest.approx(row["ms"] / row["floor_ms"])


def test_the_command_prints_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--roofline", "--quick", "--repeats", "2", "--threads", "1", "--output_dir", str(tmp_path)]
    assert main(["benchmark", *options]) == 0
    printed = capsys.readouterr().out
    assert "count of non-zeros" in printed and printed.endswith(f"The results are in {tmp_path / 'roofline.json'}\n")
    [case] = json.loads((tmp_path / "roofline.json").read_text(encoding="utf-8"))["cases"]
    assert case["case"] == "alone-resnet18-64x96-d2"
    assert main(["benchmark", *options, "--cases", "unet"]) == 2
    assert "--roofline needs cases of AFMA alone" in capsys.readouterr().err
