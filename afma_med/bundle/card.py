"""The documents of a packaged bundle: ``metadata.json`` for programs and ``README.md`` for people."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from afma_med.bundle.settings import read_settings
from afma_med.data import DatasetReader, class_names
from afma_med.handlers.run_files import EVALUATION, SCORES
from afma_med.networks.afma_blocks import spell_choice
from afma_med.networks.hypercolumn_net import has_attention
from afma_med.samples import SAMPLES, is_sample
from afma_med.version import __version__
from afma_med.visualize.text_table import format_table

__all__ = ["PackageFacts", "describe_package", "read_scores", "trained_on_sample", "write_readme"]

_PAPER = (
    "Sang, S., Zhou, Y., Islam, M. T., Xing, L.: Small-Object Sensitive Segmentation Using Across Feature Map "
    "Attention. IEEE Transactions on Pattern Analysis and Machine Intelligence 45(5), 2023. "
    "https://doi.org/10.1109/TPAMI.2022.3211171"
)
_VERSIONS = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}
_INTENDED_USE = (
    "Research. Do not use it for diagnosis or any other decision about people; it is not evaluated for that."
)


class PackageFacts(NamedTuple):
    """Facts about a model to package.

    Args:
        reader: Reader of its dataset.
        about: The id ``about`` of the dataset's bundle.
        settings: Ids of the bundle that the network is built from, such as ``encoder``.
        checkpoint: File of the weights, in the folder of the run.
        version: Version of the model.
        in_channels: Channels of the network's input.
        value_range: (lowest, highest) value of the network's input.
    """

    reader: DatasetReader
    about: Mapping[str, Any]
    settings: Mapping[str, Any]
    checkpoint: Path
    version: str
    in_channels: int
    value_range: tuple[float, float]

    @property
    def network(self) -> str:
        """Name of the network in a sentence."""
        maps, correction = spell_choice(self.settings["feature"]), "without AFMA"
        if self.settings["afma"]:
            attentive = has_attention(self.settings)
            correction = f"with AFMA at feature {maps}" if attentive else f"with a hypercolumn head on features {maps}"
        return f"{self.settings['network_name']} with encoder {self.settings['encoder']}, {correction}"

    @property
    def correction(self) -> str:
        """What corrects the network, in a title."""
        if not self.settings["afma"]:
            return "baseline without AFMA"
        return "AFMA" if has_attention(self.settings) else "hypercolumn head"

    @property
    def unit(self) -> str:
        """``"volume"`` or ``"image"``, for use in a sentence."""
        return "volume" if self.about["data_type"] == "nifti" else "image"


def describe_package(base: Mapping[str, Any], facts: PackageFacts) -> dict[str, Any]:
    """Return the content of a package's ``metadata.json``.

    Args:
        base: Metadata that all bundles share.
        facts: Facts about the model.
    """
    versions = {key: _installed(package) for key, package in _VERSIONS.items()}
    required = {package: _installed(package) for package in base["required_packages_version"]}
    scores = read_scores(facts.checkpoint)
    data = "the embedded synthetic sample" if trained_on_sample(facts) else facts.reader.title
    own = {
        "version": facts.version,
        "changelog": {facts.version: f"weights of a training with afma_med {__version__}"},
        **versions,
        "required_packages_version": {"afma_med": __version__, **required},
        "supported_apps": {},
        "name": f"{facts.about['title']}, {facts.correction}",
        "task": facts.about["task"],
        "description": f"{facts.network}, trained on {data}.",
        "intended_use": _INTENDED_USE,
        "data_source": facts.about["data_source"],
        "data_type": facts.about["data_type"],
        "references": [_PAPER],
        "eval_metrics": {} if scores is None else {k: v for k, v in _main_scores(scores).items() if v is not None},
        "network_data_format": _data_format(facts),
    }
    return {**base, **own}


def trained_on_sample(facts: PackageFacts) -> bool:
    """Return whether the model was trained on the embedded sample; its weights are useless for other images."""
    dataset_dir = read_settings(facts.checkpoint).get("dataset_dir") or ""
    sample = SAMPLES.get(facts.reader.name)
    return is_sample(dataset_dir) or (sample is not None and Path(dataset_dir).name == sample.folder)


def read_scores(checkpoint: Path) -> dict[str, Any] | None:
    """Return the scores of a checkpoint that lie next to it; None if it was not evaluated."""
    path = checkpoint.with_name(EVALUATION) / SCORES
    if not path.is_file():
        return None
    scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return scores if Path(scores.get("checkpoint", "")).name == checkpoint.name else None


def write_readme(facts: PackageFacts, metadata: Mapping[str, Any]) -> str:
    """Return the text of a package's ``docs/README.md``.

    Args:
        facts: Facts about the model.
        metadata: Content of its ``metadata.json``.
    """
    layout = facts.reader.layout
    return _README.format(
        title=metadata["name"],
        task=metadata["task"],
        description=metadata["description"],
        afma=_ABOUT_AFMA if has_attention(facts.settings) else "",
        warning=_SAMPLE_WARNING if trained_on_sample(facts) else "",
        afma_med=f"afma_med {__version__}",
        settings="\n".join(f"- `{name}`: {json.dumps(value)}" for name, value in facts.settings.items()),
        classes=_class_table(facts.reader),
        dataset=facts.reader.title,
        source=metadata["data_source"],
        layout=layout,
        sample=", or draws a small synthetic sample if that does not exist" if facts.reader.name in SAMPLES else "",
        scores=_score_table(read_scores(facts.checkpoint), unit=facts.unit),
        name=facts.reader.name,
        package=f"{facts.reader.name}_afma",
        unit=facts.unit,
        use=_INTENDED_USE,
        paper=_PAPER,
    )


def _data_format(facts: PackageFacts) -> dict[str, Any]:
    # AFMANet pads images to a size that its backbone takes. A bare backbone may need multiples of 32.
    shape = ["*", "*"] if facts.settings["afma"] else ["32*n", "32*p"]
    shared = {"type": "image", "spatial_shape": shape, "dtype": "float32", "is_patch_data": False}
    names = class_names(facts.reader.classes)
    image = {
        **{key: facts.about[key] for key in ("format", "modality", "channel_def")},
        "value_range": list(facts.value_range),
        "num_channels": facts.in_channels,
    }
    pred = {
        "format": "labels",
        "modality": "n/a",
        "value_range": [],
        "channel_def": {str(index): name for index, name in enumerate(names)},
        "num_channels": len(names),
    }
    return {"inputs": {"image": {**shared, **image}}, "outputs": {"pred": {**shared, **pred}}}


def _installed(package: str) -> str:
    return importlib.metadata.version(package).partition("+")[0]


def _class_table(reader: DatasetReader) -> str:
    raw = {info.train_id: info.raw_id for info in reversed(reader.classes)}
    rows = [(str(i), name, str(raw[i])) for i, name in enumerate(class_names(reader.classes))]
    return format_table(("channel", "class", "value in label files"), rows, left=range(3), style="github")


def _main_scores(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the scores without those of single classes by object size."""
    return {name: value for name, value in report["scores"].items() if "_objects/" not in name}


def _score_table(scores: Mapping[str, Any] | None, *, unit: str) -> str:
    if scores is None:
        return "These weights have not been evaluated; the command for it is below."
    figures = {name: "not present" if value is None else f"{value:.4f}" for name, value in _main_scores(scores).items()}
    count = f"{scores['images']} {unit}{'' if scores['images'] == 1 else 's'}"
    head = f"Scores on the section `{scores['section']}`, {count}"
    sample = " of the embedded synthetic sample" if is_sample(scores.get("dataset", "")) else ""
    return f"{head}{sample}:\n\n{format_table(('score', 'value'), [*figures.items()], style='github')}"


_ABOUT_AFMA = """
AFMA (Across Feature Map Attention) relates patches of the image to patches of one of the encoder's feature maps. It
learns this relation from the labels during training and uses it to correct the network's prediction, most of all on
small objects.
"""

_SAMPLE_WARNING = """
**These weights come from the embedded synthetic sample, which exists to try the software. They only segment pictures
of that sample.**
"""

_README = """\
# {title}

{task}. {description}
{warning}{afma}
Built from:

{settings}

## Classes

{classes}

## Data

{dataset}: {source}. `dataset_dir` holds

```
{layout}
```

Without `--dataset_dir` the bundle uses `data/{name}` in this directory{sample}.

## Performance

{scores}

## Use

Needs the Python package {afma_med}. In this directory:

```bash
# Predict one {unit} or a folder of them; results go to runs/{package}/predictions.
python -m monai.bundle run --config_file configs/inference.json --input FILE_OR_FOLDER

# Evaluate these weights, or others with --checkpoint FILE.
python -m monai.bundle run --config_file "['configs/train.json','configs/evaluate.json']" --dataset_dir FOLDER

# Train from the start; the result is runs/{package}/model.pt.
python -m monai.bundle run --config_file configs/train.json --dataset_dir FOLDER

# Train and evaluate in several processes, one for each GPU.
torchrun --standalone --nproc_per_node=2 -m monai.bundle run \\
    --config_file "['configs/train.json','configs/multi_gpu_train.json']" \\
    --dataset_dir FOLDER
torchrun --standalone --nproc_per_node=2 -m monai.bundle run \\
    --config_file "['configs/train.json','configs/evaluate.json','configs/multi_gpu_evaluate.json']" \\
    --dataset_dir FOLDER

# Export: models/model.ts, which holds configs/metadata.json and configs/inference.json, and models/model.onnx.
python -m monai.bundle ckpt_export --config_file configs/inference.json
python -m monai.bundle onnx_export --args_file configs/onnx_export.json
```

From another directory, give absolute paths and pass this directory as `--bundle_root`. In Python, with PACKAGES as the
parent of this directory:

```python
network = monai.bundle.load("{package}", bundle_dir="PACKAGES", workflow_type="inference").eval()
```

## Limitations

{use}

## Licence

Software, configurations and weights: see `LICENSE` (Apache 2.0). The dataset has its own terms. Make sure that your
use of data and weights complies with them.

## Citation

{paper}
"""
