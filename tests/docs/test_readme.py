"""README and docs are true: their code runs; links, files and commands exist; tables agree with the code."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from monai.bundle import run

from _helpers.paths import ROOT
from afma_med.cli import main as afma
from experiments.lab.__main__ import main as laboratory

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

import bundle_ids  # noqa: E402

PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
WITH_COMMANDS = [*PAGES, *sorted((ROOT / "experiments").glob("*.md"))]
TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])
STEPS = re.findall(
    r"^\| (\d+) \((Eq\. [\d-]+)\) \| .* \| `([\w.]+)` \|$",
    (DOCS / "ten_steps.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)
#: Arguments of MONAI's commands that are not ids of a bundle.
MONAI_ARGUMENTS = {"config_file", "meta_file", "args_file", "ckpt_file", "filepath", "tracking"}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def python_blocks(page: Path, *, slow: bool) -> Iterator[str]:
    """The blocks of a page that a test runs; a comment above a block, or at the top of the page, takes it out."""
    text = page.read_text(encoding="utf-8")
    slow_page = text.startswith("<!-- slow: ")
    for mark, block in re.findall(r"(?:<!-- (not run|slow): [^\n]* -->\n)?```python\n(.*?)```", text, flags=re.DOTALL):
        if mark != "not run" and (slow or not (slow_page or mark == "slow")):
            yield block


def run_blocks(page: Path, blocks: list[str]) -> None:
    namespace: dict[str, object] = {"__name__": page.stem}
    for block in blocks:
        if "torch.onnx" in block and TORCH < (2, 9):
            continue  # its exporter fails on the bare network too
        exec(compile(block, str(page), "exec"), namespace)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


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


@pytest.mark.parametrize("page", [page for page in PAGES if list(python_blocks(page, slow=False))], ids=page_id)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(page, list(python_blocks(page, slow=False)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["export", "tutorial"])
def test_slow_python_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = DOCS / f"{name}.md"
    run_blocks(page, [block.replace("epochs=8", "epochs=1") for block in python_blocks(page, slow=True)])


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=page_id)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for name, _, heading in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))):
        if re.match(r"https?://", name):
            continue
        target = page.parent / name if name else page
        assert target.exists(), name
        assert not heading or heading in anchors(target), f"{name}#{heading}"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=page_id)
def test_files_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("docs/_build", "").replace("`docs/README.md`", "")
    names = set(re.findall(r"(?<![\w./~-])(?:bundles|scripts|tests|docs|afma_med)/[\w./*?]*[\w*]", text))
    missing = [name for name in names if not (list(ROOT.glob(name)) or (ROOT / name).exists())]
    assert not missing


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=page_id)
@pytest.mark.parametrize(
    ("named", "main"), [(r"(?:^|`|\$\()afma", afma), (r"python -m experiments\.lab", laboratory)], ids=["afma", "lab"]
)
def test_commands_exist(page: Path, named: str, main: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--help"])
    known = capsys.readouterr().out
    names = set(re.findall(rf"{named} ([a-z]\w*)", text, flags=re.MULTILINE))
    assert not [name for name in names if not re.search(rf"^ +{name}\b", known, flags=re.MULTILINE)]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=page_id)
def test_ids_in_commands_exist(page: Path) -> None:
    known = {name for group in bundle_ids.GROUPS.values() for name in group} | set(bundle_ids.PARTS) | MONAI_ARGUMENTS
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    used = {
        name
        for command in commands
        if re.search(r"monai\.bundle (run|\w+_export)|^\s*(for .* do )?run \"", command)
        for name in re.findall(r" --(\w+)", command.split("#")[0].split("monai.bundle")[-1])
    }
    assert not used - known


def test_every_id_of_the_bundles_is_described() -> None:
    bundle_ids.check_descriptions(bundle_ids.read_sources())


def test_a_missing_description_is_an_error() -> None:
    sources = {**bundle_ids.read_sources(), "more.json": {"new_id": 1}}
    with pytest.raises(bundle_ids.ExtensionError, match=r"without a description: \['new_id'\]"):
        bundle_ids.check_descriptions(sources)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_names_of_the_package_exist(page: Path) -> None:
    for name in set(re.findall(r"`(afma_med\.\w[\w.]*)`", page.read_text(encoding="utf-8"))):
        resolve(name)


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


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def test_own_dataset_takes_less_than_forty_lines_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from afma_med.samples.single_objects import write_lesions

    section = (DOCS / "datasets.md").read_text(encoding="utf-8").split("## Add your own dataset")[1]
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
    assert afma(["check", "polyps:POLYPS", "data"]) == 0
    config = [str(ROOT / "bundles" / "isic_afma.json"), "polyps.json"]
    small = {"encoder": "resnet18", "crop_size": [64, 64], "batch_size": 2, "max_epochs": 1, "num_workers": 0}
    run(config_file=config, dataset_dir="data", **small)
    assert (tmp_path / "runs" / "polyps_afma" / "model.pt").is_file()


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda path: path.name)
def test_names_that_shell_scripts_import_exist(script: Path) -> None:
    for statement in re.findall(r"from afma_med[\w.]* import [\w, ]+", script.read_text(encoding="utf-8")):
        exec(statement)
