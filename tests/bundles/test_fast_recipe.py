"""A training by the fast recipe averages its weights, and validates and keeps the average."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from _helpers.paths import ROOT
from afma_med.runs.trained_network import load_network
from afma_med.samples import write_street_scenes


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    """A run of two epochs with an average of the weights, and the weights after each step."""
    folder = tmp_path_factory.mktemp("averaged")
    scenes = write_street_scenes(folder / "scenes", counts={"train": 4, "val": 2, "test": 1}, size=(64, 64))
    bundle = ConfigWorkflow(
        config_file=[str(ROOT / "bundles" / name) for name in ("camvid_afma.json", "fast_recipe.json")],
        workflow_type="train",
        meta_file=str(ROOT / "bundles" / "metadata.json"),
        logging_file=str(ROOT / "bundles" / "logging.conf"),
        bundle_root=str(ROOT),
        dataset_dir=str(scenes),
        output_dir=str(folder / "run"),
        encoder="resnet18",
        encoder_weights="$None",
        max_epochs=2,
        batch_size=2,
        crop_size=[64, 64],
        num_workers=0,
        ema_momentum=0.3,
    )
    bundle.initialize()
    network = bundle.parser.get_parsed_content("network")
    steps = [{name: p.detach().clone() for name, p in network.named_parameters()}]
    bundle.parser.get_parsed_content("train#trainer").add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: steps.append({name: p.detach().clone() for name, p in network.named_parameters()}),
    )
    bundle.run()
    bundle.finalize()
    return folder / "run", steps


def test_the_average_follows_the_weights_step_by_step(averaged: tuple[Path, list[dict[str, torch.Tensor]]]) -> None:
    folder, steps = averaged
    saved = torch.load(folder / "last.pt", weights_only=True)
    asked = steps[0]
    for step in steps[1:]:
        asked = {name: 0.7 * x + 0.3 * step[name] for name, x in asked.items()}
    assert len(steps) == 1 + 2 * 2
    for name, x in asked.items():
        torch.testing.assert_close(saved["ema"][name], x, msg=name)
        assert torch.equal(saved["model"][name], steps[-1][name])


def test_what_is_validated_and_kept_is_the_average(averaged: tuple[Path, list[dict[str, torch.Tensor]]]) -> None:
    folder, _ = averaged
    saved, best = (torch.load(folder / name, weights_only=True) for name in ("last.pt", "model.pt"))
    if saved["best"]["best_metric_epoch"] == 2:
        assert all(torch.equal(x, best[name]) for name, x in saved["ema"].items())
    assert any(not torch.equal(x, best[name]) for name, x in saved["model"].items())
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    assert settings["training"]["ema_momentum"] == 0.3 and settings["training"]["optimizer"] == "AdamW"
    loaded = load_network(folder, weights="ema").network.state_dict()
    assert all(torch.equal(x, loaded[name]) for name, x in saved["ema"].items())
