"""The directive ``bundle-ids``: a table of the bundles' ids, with defaults read from the bundles' sources.

Every id must have a description here, and every description an id: otherwise the build fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"

#: Group -> id -> description. "default | text" states the default in words; otherwise it is read from the source.
GROUPS: Mapping[str, Mapping[str, str]] = {
    "files": {
        "dataset_dir": "`data/NAME`, else the sample | Folder of the dataset.",
        "output_dir": "`runs/NAME_afma` | Folder of the run: checkpoints, TensorBoard log, settings. An earlier run in "
        "it is moved aside, not overwritten.",
        "bundle_root": "Folder in which `data` and `runs` lie.",
        "resume": "`True` continues the run in `output_dir`; a path continues from that `last.pt`.",
        "input": "none | For `inference.json`: an image, a volume, or a folder to predict. Without it, "
        "`val_section` is predicted.",
        "prediction_dir": "`predictions` or `evaluation` in the run | Folder for predictions and scores.",
        "image_range": "by the bits in use | Value that becomes full brightness in pictures of more than 8 bits, such "
        "as 4095. A run's settings keep it for prediction.",
        "missing_spacing": "the header's | For `lits`: millimetres between voxels along the axes of the file, for "
        'volumes without geometry, such as `"[0.7,0.7,2.5]"`.',
        "missing_orientation": "the header's | The same for their orientation, such as `LPS`.",
        "mask_values": "For datasets of masks: `instances` takes any value above 0 for an object, `votes` what is "
        "above half of white; `auto` tells by the values of each mask. A run's settings keep it.",
        "fold": "0 | The fold of `lesion_slices` that is the test section, 0 to 4.",
    },
    "network": {
        "network_name": "Name of the network in segmentation_models_pytorch.",
        "encoder": "Name of its encoder.",
        "encoder_weights": "none; for the sample, the installed package | A name of segmentation_models_pytorch, a "
        "file, or `package:NAME`. See [pretrained encoders](#pretrained-encoders).",
        "initial_weights": "Folder of a finished run, or a checkpoint in it, whose weights the training starts with. "
        "The run has the same network, with or without AFMA.",
        "afma": "Whether AFMA wraps the network. `False` trains the baseline.",
        "feature": "2; 3 for `isic` and `cub`; 2, 3, 4 for `hypercolumn` | Encoder depth, or module name, of the "
        "feature map that AFMA uses. "
        'A list uses several, `{"small": 2, "large": 4}` gives groups or names of classes their own; other classes are '
        "not corrected.",
        "patch_size": "Side of the patches in pixels, or height and width. "
        '`{"pole": [20, 5]}` gives groups or names of classes their own; other classes have 10.',
        "source": "`feature`, or `image` for the resized image in place of the feature map, the paper's control.",
        "variant": "`released` is the method of the authors' code, `paper` that of the paper's text; `hypercolumn` "
        "adds a head without attention.",
        "in_channels": "3; 1 for `lits` | Channels of the image.",
        "num_classes": "the dataset's | Number of classes. It must agree with the dataset.",
        "normalization": "that of the weights | Mean and standard deviation that normalize the images.",
    },
    "recipe": {
        "max_epochs": "Number of epochs.",
        "batch_size": "Images in a batch.",
        "crop_size": "Height and width of the random crops, in pixels.",
        "zoom_range": "Range of the random zoom before the crop.",
        "longest_side": "none; 256 for `isic`, its sample 128 | Longest side to which images are resized first.",
        "small_object_sampling": "Whether every second crop is centred on an object that is drawn at random, each "
        "object equally often. See [small objects](small_objects.md).",
        "optimizer_name": "`SGD` or `AdamW`.",
        "learning_rate": "Learning rate.",
        "encoder_factor": "The encoder's learning rate is this factor times `learning_rate`.",
        "schedule": "`steps` divides the learning rate by 10 at each milestone. `one_cycle` raises it, then lowers it "
        "along a cosine.",
        "milestones": "Epochs at which `steps` divides the learning rate.",
        "ema_momentum": "Weight of the new values in each step of the exponential moving average (EMA) of the weights, "
        "such as 0.005. None turns the average off.",
        "class_weight_power": "Exponent of the class weights: 1 as published, 0.5 their square root, 0 equal weights.",
        "train_unscored": 'Whether classes without scores, such as CamVid\'s "unlabelled", are trained.',
        "sample_weights": "none; balanced slices for `lits` | Weights with which training items are drawn.",
        "seed": "Seed of first weights, order, crops and flips.",
        "nonfinite_loss": "What happens when the loss is NaN or infinite: `stop` names the files of the batch, `skip` "
        "skips the step.",
    },
    "validation": {
        "val_interval": "Epochs between two validations.",
        "train_section": "Section that is trained on.",
        "val_section": "`val`; `test` in `evaluate.json` and `inference.json` | Section that is validated, evaluated "
        "or predicted.",
        "detail_interval": "a twentieth of the epochs | Epochs between two scores by object size and two pictures of "
        "attention.",
        "pictures": "Validation images that TensorBoard shows.",
        "size_groups": "below 32² and above 96² pixels; the dataset's in `evaluate.json` | Bounds between small, "
        "medium and large objects.",
        "inference_scales": "For `evaluate.json` and `inference.json`: sizes at which images are predicted, as "
        'factors. The probabilities are averaged. `"[1,2]"` sees small objects enlarged too, in five times the time.',
        "inference_flip": "For the same: whether the mirrored images are predicted too.",
        "class_offsets": "For the same: numbers that are added to the logits of classes, by the names of classes or "
        "groups. `\"{'nucleus': 0.5}\"` lowers the threshold of a class.",
        "count_unscored_pixels": "Whether predictions on pixels of unscored classes count as false positives, as in "
        "the authors' code.",
        "weights": "For `evaluate.json`: which weights of the checkpoint are scored.",
    },
    "machine": {
        "device": "the first GPU, else the CPU | Device to run on.",
        "amp": "on a GPU | Whether training and inference use automatic mixed precision.",
        "bfloat16": "`False`; for the sample, where the CPU computes in it | Whether the network trains in bfloat16. "
        "Validation stays in float32.",
        "num_workers": "up to 4 | Processes that load images.",
        "process_timeout_minutes": "Minutes that the processes of a distributed run wait for a process that hangs.",
    },
}

#: The parts that use the ids above. An overlay can replace each one, or a field of it (`loss#attention_weight`).
PARTS: Mapping[str, str] = {
    "name": "Name of the bundle and of its run's folder.",
    "reader": "The `DatasetReader` of the dataset.",
    "about": "Description of the dataset for a package's metadata.",
    "imports": "Modules that expressions use.",
    "recipes": "The recipes for the real dataset (`paper`) and for the embedded sample (`sample`).",
    "recipe": "The recipe in use: the sample's if the dataset is the sample.",
    "paths": "The ids that are paths, as they were typed. Expressions refer to these: `@paths#output_dir`.",
    "is_sample": "Whether the dataset is the embedded sample.",
    "classes": "The reader's table of classes.",
    "unscored": "Names of the classes without scores.",
    "rank": "Number of this process in a distributed run.",
    "processes": "Number of processes of a distributed run.",
    "distributed": "Function that starts the processes; `multi_gpu.json` sets it.",
    "survey": "Result of that check: files and pixel counts.",
    "checkpoint": "The checkpoint that is loaded.",
    "settings": "Content of `settings.json`.",
    "written_settings": "The same with `image_range`, which needs the survey.",
    "summary_writer": "TensorBoard's writer.",
    "backbone": "The network of segmentation_models_pytorch.",
    "network_def": "The network, wrapped by AFMA or by padding alone.",
    "network": "The same with the weights of `initial_weights`, if there are any, on its device.",
    "class_weight": "Weights of the classes in the loss.",
    "loss": "`AFMALoss`.",
    "optimizer": "The optimizer.",
    "lr_scheduler": "The schedule of the learning rate.",
    "load_transforms": "Transforms that load and normalize.",
    "resize_transforms": "Transforms that resize to `longest_side`.",
    "train": "Training: transforms, dataset, loader, moving average (`ema`), handlers, trainer.",
    "validate": "Validation: network, metric (`class_iou`), transforms, dataset, loader, handlers, evaluator.",
    "validate_raw": "Validation of the weights without averaging.",
    "section_dir": "Folder that the paths of predictions are relative to, for a section.",
    "input_dir": "The same, for an input.",
    "full_image": "Prediction of full images or volumes: how to load, predict, turn into classes and save them.",
    "pred_to_classes": "Last transform of `inference.json`: the class of each pixel.",
    "weights_loader": "Handler that loads the weights of a run.",
    "preprocessing": "Transforms before prediction.",
    "inferer": "How prediction runs the network.",
    "postprocessing": "Transforms after prediction.",
    "dataset": "What is predicted.",
    "dataloader": "Loader of what is predicted.",
    "handlers": "Handlers of the prediction.",
    "evaluator": "MONAI's evaluator that predicts.",
    "checked_ids": "Ids whose values are checked before anything is written.",
    "initialize": "What runs first.",
    "run": "What runs.",
    "finalize": "What runs last.",
}


def read_sources() -> dict[str, dict[str, Any]]:
    """Return the sources of the bundles and their overlays by file name."""
    files = [*(BUNDLES / "src").glob("*.json"), *(BUNDLES / f"{name}.json" for name in ("evaluate", "inference"))]
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(files)}


def check_descriptions(sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise an error that names ids without a description, and descriptions without an id."""
    ids = {re.split("[#]", key.lstrip("+"))[0] for source in sources.values() for key in source}
    described = {name for group in GROUPS.values() for name in group} | set(PARTS)
    if ids != described:
        raise ExtensionError(
            f"docs/_ext/bundle_ids.py must describe the ids of the bundles; without a description: "
            f"{sorted(ids - described)}; without an id: {sorted(described - ids)}. Add or remove the descriptions."
        )


def rows(group: str, sources: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a group's rows in Markdown."""
    if group == "parts":
        yield from ("| id | part |", "|---|---|")
        for name, text in PARTS.items():
            yield f"| `{name}` | {text} |"
        return
    yield from ("| id | default | meaning |", "|---|---|---|")
    for name, text in GROUPS[group].items():
        default, _, meaning = text.rpartition(" | ")
        yield f"| `{name}` | {default or read_default(name, sources)} | {meaning} |"


def read_default(name: str, sources: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the default of an id in Markdown; of a recipe's id, for the paper's recipe and for the sample."""
    base = sources["base.json"]
    value = next(source[name] for source in (base, *sources.values()) if name in source)
    found = re.fullmatch(r"\$@recipe\['(\w+)'\]", value) if isinstance(value, str) else None
    if not found:
        return _literal(value)
    values = {
        kind: {
            _literal({**shared, **source["recipes"][kind]}.get(found[1]))
            for source in sources.values()
            if source is not base and source.get("recipes", {}).get(kind)
        }
        for kind, shared in base["recipes"].items()
    }
    paper, sample = (of_kind.pop() if len(of_kind) == 1 else "the recipe's" for of_kind in values.values())
    return paper if paper == sample else f"{paper}; sample: {sample}"


def _literal(value: Any) -> str:
    if value is None:
        return "none"
    return f"`{value}`"


class BundleIds(SphinxDirective):
    """Insert the table of one group of ids."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Build the table."""
        sources = read_sources()
        check_descriptions(sources)
        for path in sorted(BUNDLES.glob("**/*.json")):
            self.env.note_dependency(str(path))
        container = nodes.container()
        self.state.nested_parse(StringList(list(rows(self.arguments[0], sources))), self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("bundle-ids", BundleIds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
