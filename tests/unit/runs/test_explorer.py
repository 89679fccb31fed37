"""The attention explorer of runs: its files, its slices, and what a browser shows."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from _helpers.browser import NAMES, Page, find_browser, open_browser
from _helpers.commands import run_afma
from _helpers.explorer_page import read_arrays, read_description
from _helpers.synthetic_runs import write_untrained
from afma_med.data import CAMVID, class_names
from afma_med.functional import gold_attention
from afma_med.networks import AFMABlock
from afma_med.runs.attention import show_attention
from afma_med.runs.explorer import explore_attention
from afma_med.runs.trained_network import TrainedNetwork, load_network
from afma_med.samples import write_street_scenes
from afma_med.samples.ct_phantom import write_ct_phantom
from afma_med.visualize import AttendedImage, attend_image, attend_point

needs_browser = pytest.mark.skipif(
    find_browser() is None, reason=f"the explorer is tried in a browser, and none of {', '.join(NAMES)} is installed"
)


@functools.cache
def loaded(folder: Path) -> TrainedNetwork:
    """A run whose attention is large enough to change predictions."""
    run = load_network(folder)
    blocks = [x for x in run.network.afma_block.modules() if isinstance(x, AFMABlock)]
    with torch.no_grad():
        for weight in {layer.weight for x in blocks for layer in (x.patch_linear1, x.feature_conv)}:
            weight *= 60
    return run


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    return write_street_scenes(root, counts={"train": 1, "val": 1, "test": 1}, size=(120, 190))


@pytest.fixture(scope="module")
def camvid(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedNetwork:
    return loaded(write_untrained(tmp_path_factory.mktemp("runs") / "camvid", "camvid", scenes))


@pytest.fixture(scope="module", params=["depths", "groups"])
def several(request: pytest.FixtureRequest, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedNetwork:
    """A run with several attentions: of two depths, or of groups of classes whose patches differ in size."""
    groups = {"feature": {"small": 2, "large": 3}, "patch_size": {"small": [12, 6]}}
    options = {"depths": {"feature": [2, 3]}, "groups": groups}[request.param]
    return loaded(write_untrained(tmp_path_factory.mktemp("runs") / request.param, "camvid", scenes, **options))


@pytest.fixture(scope="module")
def lits(tmp_path_factory: pytest.TempPathFactory) -> TrainedNetwork:
    root = tmp_path_factory.mktemp("data") / "phantoms"
    write_ct_phantom(root, count=3)
    return loaded(write_untrained(tmp_path_factory.mktemp("runs") / "lits", "lits", root))


# --- files


@pytest.mark.skipif(sys.platform == "darwin", reason="file names of macOS are UTF-8")
def test_names_that_are_not_utf_8(camvid: TrainedNetwork, scenes: Path, tmp_path: Path) -> None:
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    image.write_bytes(Path(CAMVID.datalist(scenes, "test")[0]["image"]).read_bytes())
    for file in (tmp_path / "a.html", tmp_path / os.fsdecode(b"\xe9.html")):
        explore_attention(camvid, file, image, where=(30, 40))
        assert "<title>caf\\xe9 — " in file.read_text(encoding="utf-8")
    for suffix in (".png", ".svg"):
        (written,) = show_attention([camvid], image, where=(30, 40), output_dir=tmp_path / "out", suffix=suffix)
        assert os.fsencode(written.name) == b"caf\xe9_row30_column40" + suffix.encode()
        assert written.stat().st_size > 1000
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "afma_med", "show", str(camvid.folder), "--image", os.fsencode(image)]
    command += ["--point", "30,40", "--output_dir", str(tmp_path / "printed")]
    shown = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert shown.returncode == 0, shown.stderr.decode()
    assert b"caf\\udce9_row30_column40.png" in shown.stdout


def test_page_holds_prediction_and_label_of_the_image(camvid: TrainedNetwork, scenes: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.html"
    assert explore_attention(camvid, file, where=(30, 40)) == []
    page = file.read_text(encoding="utf-8")
    [item] = CAMVID.datalist(scenes, "test")
    arrays, seen = read_arrays(page), attend_image(camvid.network, camvid.prepare(item["image"]))
    np.testing.assert_array_equal(arrays["after"].reshape(120, 190), seen.after)
    np.testing.assert_array_equal(arrays["label"].reshape(120, 190), CAMVID.read_label(item))
    assert read_description(page)["point"] == [30, 40]
    # Any section's label, but none for an image from elsewhere.
    explore_attention(camvid, file, CAMVID.datalist(scenes, "train")[0]["image"])
    assert "label" in read_arrays(file.read_text(encoding="utf-8"))
    Image.fromarray(np.zeros((64, 96, 3), dtype=np.uint8)).save(tmp_path / "b.png")
    explore_attention(camvid, file, tmp_path / "b.png")
    assert "label" not in read_arrays(file.read_text(encoding="utf-8"))


def test_page_starts_at_an_object(camvid: TrainedNetwork, tmp_path: Path) -> None:
    seen = attend_image(camvid.network, camvid.prepare(camvid.find_image()))
    k = int(np.bincount(seen.after.ravel()).argmax())
    explore_attention(camvid, tmp_path / "a.html", where=class_names(CAMVID.classes)[k])
    row, column = read_description((tmp_path / "a.html").read_text(encoding="utf-8"))["point"]
    assert seen.after[row, column] == k


@pytest.fixture
def few_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afma_med.runs.explorer._SLICES", 4)


def test_page_of_a_volume_holds_slices_with_their_labels(
    lits: TrainedNetwork, few_slices: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = lits.find_image(), tmp_path / "a.htm"
    depth = lits.prepare(path).shape[-1]
    numbers = explore_attention(lits, file, slice_number=3)
    assert 3 in numbers
    assert len(numbers) == 4
    assert max(np.diff(numbers)) < depth / 2
    described = read_description(file.read_text(encoding="utf-8"))
    assert described["depth"] == depth
    assert numbers[described["first"]] == 3
    [item] = [x for x in lits.reader.datalist(lits.settings["dataset_dir"], "test") if x["image"] == path]
    label = lits.reader.read_label({**item, "slice": numbers[-1]})
    found = read_arrays(file.read_text(encoding="utf-8"), len(numbers) - 1)["label"]
    np.testing.assert_array_equal(found, label.ravel())
    # Without a number, the slices with predicted foreground; the page starts at the one with most.
    prediction = np.zeros((8, 8, depth), dtype=np.uint8)
    prediction[0, 0, 5:8], prediction[:2, :, 6] = 1, 2
    monkeypatch.setattr("afma_med.runs.explorer.predict_slices", lambda network, volume: prediction)
    assert explore_attention(lits, file) == [5, 6, 7]
    assert read_description(file.read_text(encoding="utf-8"))["first"] == 1


def test_wrong_files_slices_and_points_are_refused(
    camvid: TrainedNetwork, lits: TrainedNetwork, tmp_path: Path
) -> None:
    file = tmp_path / "a.html"
    with pytest.raises(ValueError, match=r"`file` must end in .html; got `a.png`"):
        explore_attention(camvid, "a.png")
    with pytest.raises(ValueError, match=r"`image` must be a volume for slices"):
        explore_attention(camvid, file, slice_number=1)
    with pytest.raises(ValueError, match=r"`number` must be a slice of the volume"):
        explore_attention(lits, file, slice_number=999)
    with pytest.raises(ValueError, match=r"`point` must lie in the image"):
        explore_attention(camvid, file, where=(500, 0))
    with pytest.raises(ValueError, match=r"`runs` must have been trained with AFMA"):
        explore_attention(dataclasses.replace(camvid, settings={**camvid.settings, "afma": False}), file)
    assert not file.exists()


def test_command_says_where_the_page_is(
    camvid: TrainedNetwork, lits: TrainedNetwork, few_slices: None, tmp_path: Path
) -> None:
    file = tmp_path / "a.html"
    done = run_afma("show", camvid.folder, "--explore", file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"The page is {file} ({file.stat().st_size / 1e6:.1f} MB); open it in a browser.\n"
    assert not (camvid.folder / "attention").exists()
    done = run_afma("show", lits.folder, "--explore", file, "--slice", 2)
    assert " It holds the slices 2, " in done.stdout
    for options in ([lits.folder], ["--montage"]):
        done = run_afma("show", lits.folder, *options, "--explore", file)
        assert done.returncode == 2
        assert "`--explore` must go with one run and without --montage" in done.stderr


# --- in a browser


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Page]:
    with open_browser(tmp_path) as page:
        yield page


def place_of(page: Page, point: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    """Where a pixel of the image is in the window."""
    left, top, width, height = page.evaluate(
        "(r => [r.left, r.top, r.width, r.height])(document.getElementById('main').getBoundingClientRect())"
    )
    return left + (point[1] + 0.5) / size[1] * width, top + (point[0] + 0.5) / size[0] * height


def wait_for(page: Page, patch: tuple[int, int], *, index: int = 0) -> None:
    page.wait_until(f"document.body && document.body.dataset.patch === '{index},{patch[0]},{patch[1]}'")


def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = page.evaluate(f"[...document.querySelectorAll({selector!r})].map(x => x.textContent)")
    return found


def check_numbers(page: Page, seen: AttendedImage, point: tuple[int, int], *, k: int | None = None) -> None:
    """Compare all numbers that the page shows with those of attend_point."""
    expected = attend_point(seen, point, class_index=k)
    held = list(seen.class_indices)
    peaks, sums = (texts(page, f"#classes tbody td:nth-last-child({column})") for column in (3, 2))
    for k in set(range(len(peaks))) - set(held):
        assert peaks[k].startswith(("in attention ", "not corrected"))
        assert not expected.maps[k].any()
    peaks, sums = ([float(numbers[k]) for k in held] for numbers in (peaks, sums))
    assert peaks == pytest.approx(expected.maps.max(axis=(1, 2))[held].tolist(), rel=1e-2)
    corrections = expected.corrections[held]
    assert sums == pytest.approx(corrections.tolist(), rel=1e-2, abs=1e-2 * float(corrections.max()))
    lines = texts(page, "#regions li span:nth-child(2)"), texts(page, "#regions li span:last-child")
    assert len(lines[0]) == len(expected.regions) > 0
    for vote, attention, region in zip(*lines, expected.regions, strict=True):
        assert float(vote) == pytest.approx(region.contribution, rel=1e-2)
        assert float(attention.removeprefix("attention ")) == pytest.approx(region.attention, rel=1e-2)
    names = class_names(CAMVID.classes)
    readout = texts(page, "#readout div")
    assert names[seen.before[point]] in readout[1]
    assert names[seen.after[point]] in readout[1]


@needs_browser
def test_hovering_shows_the_numbers_of_attend_point(camvid: TrainedNetwork, browser: Page, tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    explore_attention(camvid, file, where=(30, 40))
    seen = attend_image(camvid.network, camvid.prepare(camvid.find_image()))
    browser.open(file)
    wait_for(browser, (3, 4))
    check_numbers(browser, seen, (30, 40))
    for point in ((5, 5), (64, 101), (117, 188)):
        browser.mouse("mouseMoved", *place_of(browser, point, (120, 190)))
        wait_for(browser, (point[0] // 10, point[1] // 10))
        check_numbers(browser, seen, point)
    # A click holds the patch.
    browser.mouse("mousePressed", *place_of(browser, (64, 101), (120, 190)))
    browser.mouse("mouseReleased", *place_of(browser, (64, 101), (120, 190)))
    browser.mouse("mouseMoved", *place_of(browser, (5, 5), (120, 190)))
    wait_for(browser, (6, 10))
    assert browser.evaluate("document.getElementById('held').textContent") == "Patch held: click to release"
    assert browser.complaints == []


@needs_browser
def test_menu_shows_the_numbers_of_each_attention(several: TrainedNetwork, browser: Page, tmp_path: Path) -> None:
    explore_attention(several, tmp_path / "a.html", where=(30, 40))
    seen = attend_image(several.network, several.prepare(several.find_image()))
    browser.open(tmp_path / "a.html")
    for index, part in enumerate(seen.parts):
        if index:
            browser.press("+", "+")
        browser.wait_until(f"document.body && document.body.dataset.part === '{index}'")
        [shown] = texts(browser, "#part option:checked")
        height, width = part.attention.grid.patch_size
        assert shown.startswith(f"{index + 1}: depth {part.feature}, patches of {height}×{width} pixels, ")
        assert shown.endswith("all classes") == (len(part.class_indices) == 12)
        # The class that the attention holds with most votes; the predicted one may be in another.
        k = max(part.class_indices, key=lambda k: float(part.values[k].sum()))
        browser.press("123456789abc"[k], "123456789abc"[k])
        for point in ((5, 5), (64, 101), (117, 188)):
            browser.mouse("mouseMoved", *place_of(browser, point, (120, 190)))
            wait_for(browser, (point[0] // height, point[1] // width))
            check_numbers(browser, seen.for_part(index), point, k=k)
    assert browser.complaints == []


@needs_browser
def test_menu_is_used_by_keys_and_touch(several: TrainedNetwork, browser: Page, tmp_path: Path) -> None:
    explore_attention(several, tmp_path / "a.html", where=(30, 40))
    browser.open(tmp_path / "a.html", width=390, height=800, touch=True)
    browser.wait_until("document.body && document.body.dataset.part === '0'")
    left, top = browser.evaluate(
        "(r => [r.left + 9, r.top + 9])(document.getElementById('part').getBoundingClientRect())"
    )
    browser.touch("touchStart", (left, top))
    browser.touch("touchEnd")
    browser.wait_until("document.activeElement.id === 'part'")
    browser.evaluate("document.activeElement.blur()")
    browser.evaluate("document.getElementById('part').focus()")
    browser.press("ArrowDown")
    browser.wait_until("document.body.dataset.part === '1'")
    # The class that is left out says where it is.
    held = attend_image(several.network, several.prepare(several.find_image())).parts[1].class_indices
    missing = [k for k in range(11) if k not in held]
    browser.evaluate("document.activeElement.blur()")
    for k in missing[:1]:
        browser.press("123456789abc"[k], "123456789abc"[k])
        name = class_names(CAMVID.classes)[k]
        browser.wait_until(f"document.getElementById('chosen').textContent === '{name}: in attention 1'")
        assert texts(browser, "#regions") == ["This attention does not hold the class."]
        assert texts(browser, "#layer_name") == [f"Attention to {name}: in attention 1"]
    browser.press("-", "-")
    browser.wait_until("document.body.dataset.part === '0'")
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
    assert browser.complaints == []


@needs_browser
def test_page_computes_the_gold_attention(camvid: TrainedNetwork, scenes: Path, browser: Page, tmp_path: Path) -> None:
    [item] = CAMVID.datalist(scenes, "test")
    label = torch.from_numpy(CAMVID.read_label(item)).long()
    row, column = (label < 11).nonzero()[-1].tolist()
    k = int(label[row, column])
    explore_attention(camvid, tmp_path / "a.html", where=(row, column))
    seen = attend_image(camvid.network, camvid.prepare(item["image"]))
    grid = seen.attention.grid
    one_hot = torch.nn.functional.one_hot(label.clamp_max(12), 13).movedim(-1, 0)[None, :12].float()
    patch = attend_point(seen, (row, column)).patch
    peak = gold_attention(one_hot, grid).dense()[0, k, patch].max().item()
    browser.open(tmp_path / "a.html")
    wait_for(browser, (row // 10, column // 10))
    browser.press("123456789abc"[k], "123456789abc"[k])
    browser.press(" ", " ")
    browser.press(" ", " ")
    browser.wait_until("document.getElementById('layer_name').textContent.startsWith('Gold')")
    assert browser.evaluate("document.getElementById('parts').hidden"), "one attention needs no menu"
    name = class_names(CAMVID.classes)[k]
    assert texts(browser, "#layer_name") == [f"Gold attention to {name}"]
    assert float(texts(browser, "#high")[0]) == pytest.approx(peak, rel=1e-2)
    assert peak > 0
    assert browser.complaints == []


@needs_browser
def test_keys_and_touches_move_the_patch(camvid: TrainedNetwork, browser: Page, tmp_path: Path) -> None:
    explore_attention(camvid, tmp_path / "a.html", where=(30, 40))
    browser.open(tmp_path / "a.html", width=390, height=800, touch=True)
    wait_for(browser, (3, 4))
    for key, patch in (("ArrowRight", (3, 5)), ("ArrowDown", (4, 5)), ("ArrowLeft", (4, 4)), ("ArrowUp", (3, 4))):
        browser.press(key)
        wait_for(browser, patch)
    browser.touch("touchStart", place_of(browser, (55, 55), (120, 190)))
    wait_for(browser, (5, 5))
    browser.touch("touchMove", place_of(browser, (75, 125), (120, 190)))
    wait_for(browser, (7, 12))
    browser.touch("touchEnd")
    browser.press("4", "4")
    browser.wait_until("document.querySelector('tr.chosen').dataset.name === 'road'")
    browser.press("Escape")
    browser.wait_until("document.getElementById('follow').checked")
    browser.evaluate("document.querySelector('#classes button').focus()")
    browser.press("Tab")
    browser.wait_until("document.querySelector('tr.chosen').dataset.name === 'building'")
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
    assert browser.complaints == []


@needs_browser
def test_slider_changes_the_slice(lits: TrainedNetwork, few_slices: None, browser: Page, tmp_path: Path) -> None:
    numbers = explore_attention(lits, tmp_path / "a.html", where=(60, 60), slice_number=3)
    first = numbers.index(3)
    volume = lits.prepare(lits.find_image())
    browser.open(tmp_path / "a.html")
    wait_for(browser, (6, 6), index=first)
    browser.press("PageUp")
    wait_for(browser, (6, 6), index=first + 1)
    assert texts(browser, "#slice_number") == [str(numbers[first + 1])]
    expected = attend_point(attend_image(lits.network, volume[..., numbers[first + 1]]), (60, 60))
    peaks = [float(x) for x in texts(browser, "#classes tbody td:nth-last-child(3)")]
    assert peaks == pytest.approx(expected.maps.max(axis=(1, 2)).tolist(), rel=1e-2)
    browser.evaluate("(s => { s.value = 0; s.dispatchEvent(new Event('input')); })(document.getElementById('slice'))")
    wait_for(browser, (6, 6), index=0)
    assert "slices" in texts(browser, "#title")[0]
    assert browser.complaints == []


@needs_browser
def test_slider_keeps_the_attention(lits: TrainedNetwork, few_slices: None, browser: Page, tmp_path: Path) -> None:
    folder = write_untrained(tmp_path / "two", "lits", Path(lits.settings["dataset_dir"]), feature=[2, 3])
    run = loaded(folder)
    numbers = explore_attention(run, tmp_path / "a.html", where=(60, 60), slice_number=3)
    browser.open(tmp_path / "a.html")
    wait_for(browser, (6, 6), index=numbers.index(3))
    browser.press("+", "+")
    browser.wait_until("document.body.dataset.part === '1'")
    browser.evaluate("(s => { s.value = 0; s.dispatchEvent(new Event('input')); })(document.getElementById('slice'))")
    wait_for(browser, (6, 6), index=0)
    assert texts(browser, "#part option:checked")[0].startswith("2: depth 3, ")
    seen = attend_image(run.network, run.prepare(run.find_image())[..., numbers[0]]).for_part(1)
    peaks = [float(x) for x in texts(browser, "#classes tbody td:nth-last-child(3)")]
    assert peaks == pytest.approx(attend_point(seen, (60, 60)).maps.max(axis=(1, 2)).tolist(), rel=1e-2)
    assert browser.complaints == []
