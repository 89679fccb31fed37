"""The README is true: its code runs, its table of steps names what implements them, its files exist."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from monai.bundle import run

from _helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])
STEPS = re.findall(r"^\| (\d+) \((Eq\. [\d-]+)\) \| .* \| `([\w.]+)` \|$", README, flags=re.MULTILINE)


def resolve(dotted: str) -> object:
    """Import the longest module prefix of a dotted name, then follow attributes."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return found
    raise AssertionError(dotted)


def test_table_has_the_ten_steps() -> None:
    assert [int(number) for number, _, _ in STEPS] == list(range(1, 11))


@pytest.mark.parametrize(("number", "equation", "name"), STEPS)
def test_step_is_implemented_where_the_table_says(number: str, equation: str, name: str) -> None:
    docstring = resolve(name).__doc__ or ""
    assert re.search(rf"[Ss]tep {number} \({re.escape(equation)}\)", docstring), f"{name} does not say step {number}"


@pytest.mark.parametrize("number", range(1, 11))
def test_every_step_has_one_home(number: int) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "afma_med").rglob("*.py")]
    tags = [tag for source in sources for tag in re.findall(rf"[Ss]tep {number} \(Eq", source)]
    assert len(tags) == 1


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # one of them writes a file
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 6
    namespace: dict[str, object] = {}
    for block in blocks:
        if "torch.onnx" in block and TORCH < (2, 9):
            continue  # its exporter fails on the bare network too
        exec(block, namespace)


def test_other_names_of_the_package_exist() -> None:
    for name in set(re.findall(r"`(afma_med\.[\w.]+)`", README)):
        resolve(name)


def test_files_named_exist() -> None:
    names = set(re.findall(r"(?:bundles|scripts|tests)/[\w./]+\w", README))
    missing = [name for name in names if not (ROOT / name).exists()]
    assert not missing


def test_table_of_ids_agrees_with_the_bundle() -> None:
    ids = json.loads((ROOT / "bundles" / "isic_afma.json").read_text(encoding="utf-8"))
    table = README[README.index("just works as `--name value`") :]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ", table, flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(named) > 15
    assert not [name for name in named if name not in ids]


def test_own_dataset_takes_less_than_forty_lines_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from afma_med.cli import main
    from afma_med.samples.single_objects import write_lesions

    section = README.split("## Your own dataset")[1].split("\n## ")[0]
    [reader] = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    [overlay] = re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL)
    assert len(reader.splitlines()) + len(overlay.splitlines()) < 40
    (tmp_path / "polyps.py").write_text(reader, encoding="utf-8")
    (tmp_path / "polyps.json").write_text(overlay, encoding="utf-8")
    lesions = write_lesions(tmp_path / "lesions", counts={"train": 8})
    for kind, source in (
        ("images", "ISIC2018_Task1-2_Training_Input"),
        ("masks", "ISIC2018_Task1_Training_GroundTruth"),
    ):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for path in (lesions / source).iterdir():
            path.rename(tmp_path / "data" / kind / path.name.replace("_segmentation", ""))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", "polyps:POLYPS", "data"]) == 0
    config = [str(ROOT / "bundles" / "isic_afma.json"), "polyps.json"]
    small = {"encoder": "resnet18", "crop_size": [64, 64], "batch_size": 2, "max_epochs": 1, "num_workers": 0}
    run(config_file=config, dataset_dir="data", **small)
    assert (tmp_path / "runs" / "polyps_afma" / "model.pt").is_file()
