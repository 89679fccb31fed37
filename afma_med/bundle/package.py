"""Package a trained bundle as a directory of MONAI's model zoo: configurations, weights, documents."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.properties import InferProperties
from monai.utils.enums import BundlePropertyConfig

from afma_med.atomic_write import replacing, replacing_folder
from afma_med.bundle.card import PackageFacts, describe_package, write_readme
from afma_med.bundle.installed import bundles_folder
from afma_med.bundle.settings import read_settings
from afma_med.data import READERS
from afma_med.handlers.checkpoints import load_weights
from afma_med.handlers.run_files import BEST

__all__ = ["license_text", "package_bundle", "prune_config", "reachable_ids"]

_WEIGHTS = "$@paths#bundle_root + '/models/model.pt'"
# An application that loads the postprocessing must not wait for a sample: only the list of inputs draws it.
_DATASET_DIR = "$bundle_run.default_dataset_dir(@reader, @paths#bundle_root + '/data') if @paths#input is None else ''"
_INPUTS = (
    "$bundle_run.list_inputs(@reader, @paths#input, @paths#dataset_dir, @val_section, "
    "data_dir=@paths#bundle_root + '/data')"
)
_EVALUATE_COMMAND = (
    "$'python -m monai.bundle run --config_file \"[\\'configs/train.json\\',\\'configs/evaluate.json\\']\" "
    "--checkpoint %s/model.pt' % @paths#output_dir"
)
# Ids that `monai.bundle run` needs, and those that MONAI requires of a configuration for inference.
_INFERENCE_ROOTS = (
    *("imports", "initialize", "run", "finalize", "output_dir"),
    *(str(info[BundlePropertyConfig.ID]) for info in InferProperties.values()),
)


def package_bundle(
    name: str,
    checkpoint: str | os.PathLike[str],
    *,
    output_dir: str | os.PathLike[str] = "packages",
    bundles_dir: str | os.PathLike[str] | None = None,
    version: str = "0.1.0",
    overwrite: bool = False,
    archive: bool = False,
) -> Path:
    """Write trained weights and their bundle as a directory for MONAI's model zoo, MONAI Label and MONAI Deploy.

    The ``settings.json`` next to the weights becomes part of the configurations, which then only need the package
    afma_med. The directory appears when it is complete.

    Args:
        name: Dataset, such as ``"camvid"``.
        checkpoint: A run's ``model.pt``.
        output_dir: Folder for the directory ``NAME_afma``.
        bundles_dir: Folder of the bundles; default: the bundles of the package.
        version: Version of the packaged model, three numbers.
        overwrite: Replace an earlier package.
        archive: Also write ``NAME_afma_vVERSION.zip`` next to the directory, in the form of the model zoo's releases.

    Returns:
        The directory.

    Raises:
        ValueError: If the dataset is unknown, the version is malformed, or the weights do not fit their settings.
        FileNotFoundError: If the checkpoint or its settings do not exist.
        FileExistsError: If the directory exists and may not be replaced.

    Example:
        >>> package_bundle("camvid", "runs/none/model.pt")
        Traceback (most recent call last):
        FileNotFoundError: `checkpoint` must be a run's model.pt; there is no file `runs/none/model.pt`. ...
    """
    checkpoint, bundles = Path(checkpoint), Path(bundles_dir or bundles_folder())
    target = Path(output_dir, f"{name}_afma")
    _check_arguments(name, checkpoint, version)
    _check_target(target, overwrite=overwrite)
    bundle = ConfigParser.load_config_files([str(bundles / f"{name}_afma.json")])
    settings = _network_settings(bundle, checkpoint)
    facts = PackageFacts(
        reader=READERS[name],
        about=bundle["about"],
        settings=settings,
        checkpoint=checkpoint,
        version=version,
        in_channels=bundle["in_channels"],
        value_range=_value_range(bundle["load_transforms"], settings["normalization"]),
    )
    with replacing_folder(target) as built:
        _write_package(built, bundles, facts)
    if archive:
        with replacing(target.with_name(f"{target.name}_v{version}.zip")) as packed:
            shutil.make_archive(str(packed.with_suffix("")), "zip", root_dir=target.parent, base_dir=target.name)
    return target


def license_text() -> str:
    """Return the text of the licence, from the repository or from the installed package."""
    in_repository = bundles_folder().with_name("LICENSE")
    if in_repository.is_file():
        return in_repository.read_text(encoding="utf-8")
    files = importlib.metadata.files("afma_med") or []
    return next(file.read_text(encoding="utf-8") for file in files if file.name == "LICENSE")


def reachable_ids(config: Mapping[str, Any], roots: Iterable[str]) -> set[str]:
    """Return the top-level ids of a configuration that its roots need, including the roots.

    Args:
        config: Configuration.
        roots: Ids, nested ones as ``a#b`` or ``a::b``. Ids that the configuration does not have are ignored.

    Example:
        >>> config = {"run": ["$@net(@image)"], "net": {"_target_": "torch.nn.ReLU"}, "image": 1, "loss": "@net"}
        >>> sorted(reachable_ids(config, ["run"]))
        ['image', 'net', 'run']
    """
    found: set[str] = set()
    wanted = list(roots)
    while wanted:
        name = re.split("#|::", wanted.pop())[0]
        if name in config and name not in found:
            found.add(name)
            wanted += ReferenceResolver.find_refs_in_config(config[name], "")
    return found


def prune_config(config: Mapping[str, Any], roots: Iterable[str]) -> dict[str, Any]:
    """Return a configuration without the top-level ids that its roots do not need, in the same order.

    Example:
        >>> prune_config({"loss": 1, "run": "@net", "net": 2}, ["run"])
        {'run': '@net', 'net': 2}
    """
    needed = reachable_ids(config, roots)
    return {name: value for name, value in config.items() if name in needed}


def _check_arguments(name: str, checkpoint: Path, version: str) -> None:
    if name not in READERS:
        raise ValueError(f"`name` must be one of {', '.join(READERS)}; got {name!r}. Name the dataset of the training.")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ValueError(f"`version` must be three numbers; got {version!r}. Write it as 0.1.0.")
    if not checkpoint.is_file():
        raise FileNotFoundError(
            f"`checkpoint` must be a run's model.pt; there is no file `{checkpoint}`. Train first, or check the path."
        )


def _check_target(target: Path, *, overwrite: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not overwrite:
        raise FileExistsError(
            f"`output_dir` must not hold {target.name} yet; `{target}` exists. "
            "Choose another --output_dir, or replace the earlier package with --overwrite."
        )
    if target.is_symlink() or not (target / "configs" / "metadata.json").is_file():
        raise FileExistsError(
            f"`overwrite` must replace an earlier package; `{target}` is not a package. Choose another --output_dir."
        )
    foreign = sorted({path.name for path in target.iterdir()} - {"configs", "models", "docs", "LICENSE"})
    if foreign:
        raise FileExistsError(
            f"`overwrite` must not delete files that were added to a package; `{target}` holds {', '.join(foreign)}. "
            "Move that elsewhere first."
        )


def _network_settings(bundle: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Read the ids that the network is built from, without the path of the dataset."""
    settings = read_settings(checkpoint, name=bundle["name"])
    names = [name for name, value in bundle["settings"].items() if value == f"@{name}" and name != "dataset_dir"]
    missing = [name for name in names if name not in settings]
    if missing:
        raise ValueError(
            f"`checkpoint` must lie next to settings of this version; got settings.json without {', '.join(missing)}. "
            "Add the values of the training, or train again."
        )
    return {name: settings[name] for name in names}


def _value_range(
    transforms: Iterable[Mapping[str, Any]], normalization: Mapping[str, Sequence[float]]
) -> tuple[float, float]:
    """Compute the range of the intensities after a bundle's transforms."""
    low, high = 0.0, 1.0
    for transform in transforms:
        if transform["_target_"] == "ScaleIntensityRanged":
            low, high = transform["b_min"], transform["b_max"]
        if transform["_target_"] == "NormalizeIntensityd":
            channels = list(zip(normalization["mean"], normalization["std"], strict=True))
            low = min((low - mean) / deviation for mean, deviation in channels)
            high = max((high - mean) / deviation for mean, deviation in channels)
    return round(low, 3), round(high, 3)


def _write_package(folder: Path, bundles: Path, facts: PackageFacts) -> None:
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True)
    configs = _make_configs(bundles, facts)
    _check_weights(configs["inference"], facts.checkpoint)
    shutil.copyfile(facts.checkpoint, folder / "models" / BEST)
    base = _read_json(bundles / "metadata.json")
    configs["metadata"] = describe_package(base, facts)
    configs["onnx_export"] = _onnx_arguments(_read_json(bundles / "onnx_export.json"), facts)
    for name, config in configs.items():
        text = json.dumps(config, indent=4, ensure_ascii=False) + "\n"
        (folder / "configs" / f"{name}.json").write_text(text, encoding="utf-8")
    shutil.copyfile(bundles / "logging.conf", folder / "configs" / "logging.conf")
    (folder / "docs" / "README.md").write_text(write_readme(facts, configs["metadata"]), encoding="utf-8")
    (folder / "LICENSE").write_text(license_text(), encoding="utf-8")


def _make_configs(bundles: Path, facts: PackageFacts) -> dict[str, dict[str, Any]]:
    source = bundles / f"{facts.reader.name}_afma.json"
    baked: dict[str, Any] = {"image_range": None, "mask_values": "auto", **facts.settings}
    bundle = ConfigParser.load_config_files([str(source)])
    # The weights of the package replace the encoder's initial weights; a training may name such weights again.
    train = {**bundle, **baked, "encoder_weights": None}
    del train["about"]
    # MONAI also initializes a bundle to load its network, and then no file may be read or written.
    train["run"] = [*train.pop("initialize"), *train["run"]]
    train["train"]["progress_log"]["evaluate_command"] = _EVALUATE_COMMAND
    overlaid = ConfigParser.load_config_files([str(source), str(bundles / "inference.json")])
    inference = {**overlaid, **baked, "checkpoint": _WEIGHTS, "dataset_dir": _DATASET_DIR}
    inference["dataset"] = {**inference["dataset"], "data": _INPUTS}
    evaluate = _read_json(bundles / "evaluate.json")
    # The configuration for training already has the ids that evaluate.json restores from a run's settings.
    restored = [
        name for name, value in evaluate.items() if "settings" in ReferenceResolver.find_refs_in_config(value, "")
    ]
    for name in {"settings", *restored, *baked}:
        evaluate.pop(name, None)
    several = _read_json(bundles / "multi_gpu.json")
    return {
        "train": train,
        "inference": prune_config(inference, _INFERENCE_ROOTS),
        "evaluate": {**evaluate, "checkpoint": _WEIGHTS},
        "multi_gpu_train": several,
        "multi_gpu_evaluate": {name: value for name, value in several.items() if not name.startswith("train#")},
    }


def _check_weights(inference: dict[str, Any], checkpoint: Path) -> None:
    parser = ConfigParser(config=json.loads(json.dumps(inference)))
    load_weights(parser.get_parsed_content("network_def"), checkpoint, weights=None)


def _onnx_arguments(base: dict[str, Any], facts: PackageFacts) -> dict[str, Any]:
    batch, _, *size = base["input_shape"]
    # A network without AFMA only takes multiples of its stride.
    shape = size if facts.settings["afma"] else [(side + 31) // 32 * 32 for side in size]
    files = {"config_file": "configs/inference.json", "meta_file": "configs/metadata.json"}
    files |= {"ckpt_file": "models/model.pt", "filepath": "models/model.onnx"}
    return {**base, **files, "input_shape": [batch, facts.in_channels, *shape]}


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
