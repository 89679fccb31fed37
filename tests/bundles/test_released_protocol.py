"""The released protocol scores the centre of each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from _helpers.paths import ROOT
from _helpers.synthetic_runs import write_untrained
from afma_med.data import CAMVID
from afma_med.runs.run import read_run
from afma_med.runs.trained_network import load_network
from afma_med.samples import write_street_scenes


@torch.no_grad()
def test_released_protocol_sees_and_scores_the_centre_alone(tmp_path: Path) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"test": 1}, size=(360, 480))
    folder = write_untrained(tmp_path / "run", "camvid", scenes)
    files = ("camvid_afma.json", "evaluate.json", "../experiments/lists/camvid_released_protocol.json")
    evaluation = ConfigWorkflow(
        config_file=[str(ROOT / "bundles" / file) for file in files],
        workflow_type="train",
        meta_file=str(ROOT / "bundles" / "metadata.json"),
        logging_file=str(ROOT / "bundles" / "logging.conf"),
        output_dir=str(folder),
        num_workers=0,
    )
    evaluation.initialize()
    evaluation.run()
    centre = slice(20, 340)  # eight ninths of the height, as 640 of 720
    run = load_network(folder)
    image = run.prepare(run.find_image())
    network_sees = image[None, :, centre]
    predicted = torch.as_tensor(np.array(Image.open(next((folder / "evaluation" / "labels").rglob("*.png")))))
    assert torch.equal(predicted[centre].long(), run.network(network_sees).argmax(dim=1)[0])
    label = torch.from_numpy(CAMVID.read_label(CAMVID.datalist(scenes, "test")[0]))[centre]
    counts = read_run(folder).counts.pixels[0, :, 0, 0]
    assert counts.tolist() == [int((label == k).sum()) for k in range(11)]
